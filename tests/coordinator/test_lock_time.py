"""What is shown of a lock's deadline: one time in all replies, until the wall clock is set."""

from __future__ import annotations

import random

from mainstem.coordinator.queues.lock_time import LockTime
from tests.support.clock import SimClock

LOCK_MS = 30_000


class TwoPhases(SimClock):
    """Its clocks do not begin their milliseconds at the same moment."""

    phase_s = 0.0

    def wall_ms(self) -> int:
        return self.wall + int((self.now + self.phase_s) * 1000)


def test_a_deadline_is_shown_as_one_time_until_the_clock_is_set_and_never_late() -> None:
    chance = random.Random(1)
    for _ in range(50):
        clock = TwoPhases()
        clock.phase_s = chance.random() / 1000
        clock.now = chance.random()
        locks = LockTime(clock)
        deadline_ms = locks.now_ms() + LOCK_MS
        for step_ms in (0, 3_600_000, -50, -7_200_000):
            clock.wall += step_ms
            shown = set()
            for _ in range(50):
                left_ms = deadline_ms - locks.now_ms()
                assert 0 <= clock.wall_ms() + left_ms - locks.shown_ms(deadline_ms) <= 2
                shown.add(locks.shown_ms(deadline_ms))
                clock.now += chance.random() / 100
            assert len(shown) == 1
