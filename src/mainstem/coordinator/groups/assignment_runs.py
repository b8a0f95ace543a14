"""Makes the assignments of groups whose server assigns partitions, a part in each turn of the event loop.

While one is being made, the members of a group have the one before; who asks when there is none yet waits for
it. An assignment is made again after ASSIGNMENT_PART times the CPU time that it took, and not before the
interval of the group is over. What changes in a group meanwhile counts for the next one.

Owns: when an assignment is made. Refuses: which it is (`simple_assignor.py`), and what members know of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from mainstem.clock import Clock
from mainstem.coordinator.groups.epoch_group import EpochGroup, SizeOf
from mainstem.promise import Promise
from mainstem.turns import run_in_turns

ASSIGNMENT_PART = 20
"""An assignment is made again after this many times the CPU time that it took, so that it never takes more
than 5 % of the server's."""
ASSIGNED_OF_TURN = 1_000
"""Partitions and members that are looked at in a turn of the event loop: some milliseconds."""


class AssignmentRuns:
    """The assignments that are being made."""

    def __init__(self, clock: Clock, size_of: SizeOf, on_assigned: Callable[[EpochGroup], None]) -> None:
        """`on_assigned`: called for a group when it has another assignment."""
        self._clock = clock
        self._size_of = size_of
        self._on_assigned = on_assigned
        self._running: dict[EpochGroup, Promise[None]] = {}

    def assign(self, group: EpochGroup, interval_ms: int) -> Promise[None]:
        """Make the assignment of a group that has changed, if it may be made now. Done when the group has
        one, which may be that of before: at once, if the group is small."""
        now_s = self._clock.monotonic()
        is_due = group.assignment_epoch < group.epoch and now_s >= group.next_assignment_s
        running = self._running.get(group)
        if running is None and is_due:
            running = self._start(group, interval_ms)
        return Promise.resolved(None) if running is None or group.assignment_epoch else running

    def _start(self, group: EpochGroup, interval_ms: int) -> Promise[None]:
        took_s = 0.0

        def steps() -> Iterator[int]:
            nonlocal took_s
            assigning = group.assign(self._size_of)
            while True:
                began_s = self._clock.cpu()
                cost = next(assigning, None)
                took_s += self._clock.cpu() - began_s
                if cost is None:
                    return
                yield cost

        def on_done(done: Promise[None]) -> None:
            self._running.pop(group, None)
            wait_s = max(interval_ms / 1000, took_s * ASSIGNMENT_PART)
            group.next_assignment_s = self._clock.monotonic() + wait_s
            if done.error is None:
                self._on_assigned(group)

        running = run_in_turns(self._clock, steps(), ASSIGNED_OF_TURN)
        if not running.done:
            self._running[group] = running
        running.then(on_done)
        return running
