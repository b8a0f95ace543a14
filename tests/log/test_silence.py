"""A disk that does not answer: said after five seconds, again when it has doubled, and when it answers."""

from __future__ import annotations

import logging

import pytest

from mainstem.log.disk.disk_stall import PENDING_BYTES_MAX, StallMonitor
from tests.support.clock import SimClock
from tests.support.memdisk import MemoryDisk


def test_silence_is_told_now_and_then_and_its_end_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    clock = SimClock()
    disk = MemoryDisk(clock)
    silence = StallMonitor(disk, clock, lambda: 0)
    silence.start()
    for second in range(45):
        disk.stalled_s = float(second)
        clock.advance(1)
        assert (silence.problem is not None) == (second >= 5)
    disk.stalled_s = 0.0
    clock.advance(3)
    assert silence.problem is None
    assert [record.getMessage()[:39] for record in caplog.records] == [
        "the disk has not answered for 5 s: even",
        "the disk has not answered for 10 s: eve",
        "the disk has not answered for 20 s: eve",
        "the disk has not answered for 40 s: eve",
        "the disk answers again, after 40 s at l",
    ]
    silence.stop()
    disk.stalled_s = 100.0
    clock.advance(10)
    assert silence.problem is None


def test_events_are_refused_when_too_many_bytes_wait() -> None:
    pending = [0]
    silence = StallMonitor(MemoryDisk(), SimClock(), lambda: pending[0])
    assert silence.rejection_reason is None
    pending[0] = PENDING_BYTES_MAX
    assert silence.rejection_reason == "256 MB wait for the disk"
