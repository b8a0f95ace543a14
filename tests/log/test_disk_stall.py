"""The stall monitor logs a stall after five seconds, at each doubling, and at its end."""

from __future__ import annotations

import logging

import pytest

from mainstem.log.disk.disk_stall import PENDING_BYTES_MAX, StallMonitor
from tests.support.clock import SimClock
from tests.support.fake_disk import FakeDisk


def test_a_stall_is_logged_at_each_doubling_and_its_end_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    clock = SimClock()
    disk = FakeDisk(clock)
    monitor = StallMonitor(disk, clock, lambda: 0)
    monitor.start()
    for second in range(45):
        disk.stalled_s = float(second)
        clock.advance(1)
        assert (monitor.problem is not None) == (second >= 5)
    disk.stalled_s = 0.0
    clock.advance(3)
    assert monitor.problem is None
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [
        "the disk has not responded for 5 s",
        "the disk has not responded for 10 s",
        "the disk has not responded for 20 s",
        "the disk has not responded for 40 s",
        "the disk responds again, after at least 40 s",
    ]
    monitor.stop()
    disk.stalled_s = 100.0
    clock.advance(10)
    assert monitor.problem is None


def test_events_are_rejected_when_too_many_bytes_wait() -> None:
    pending = [0]
    monitor = StallMonitor(FakeDisk(), SimClock(), lambda: pending[0])
    assert monitor.rejection_reason is None
    pending[0] = PENDING_BYTES_MAX
    assert monitor.rejection_reason == "256 MB wait for the disk"
