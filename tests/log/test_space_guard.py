"""The space guard: when topics accept no more events, and when they do again."""

from __future__ import annotations

import logging

import pytest

from mainstem.log import paths
from mainstem.log.disk.space_guard import SpaceGuard
from tests.support.clock import SimClock
from tests.support.fake_disk import FakeDisk

GIB = 1 << 30


class SpaceGuardRig:
    """A disk of 100 GiB with a space guard."""

    def __init__(self, *, reserve_bytes: int = -1, max_bytes: int = 0) -> None:
        self.clock = SimClock()
        self.disk = FakeDisk(self.clock)
        self.disk.capacity, self.disk.free = 100 * GIB, 50 * GIB
        self.data_bytes = 0
        self.guard = SpaceGuard(self.disk, self.clock, reserve_bytes, max_bytes, lambda: self.data_bytes)
        self.times_full = 0
        self.guard.on_full.append(self._count)
        self.guard.start()

    def _count(self) -> None:
        self.times_full += 1

    def free(self, count: int) -> str | None:
        """Why events are rejected when `count` bytes are free, after the next check."""
        self.disk.free = count
        self.clock.advance(1.1)
        return self.guard.rejection_reason


def test_events_are_rejected_below_the_reserve_and_accepted_again_above_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    rig = SpaceGuardRig()
    assert rig.free(GIB) is None
    assert "the disk is full" in (rig.free(GIB - 1) or "")
    assert rig.free(GIB + 1) is not None, "not as soon as one byte is free"
    assert rig.free(2 * GIB) is None
    assert rig.times_full == 1
    lines = [record.getMessage() for record in caplog.records if record.name.endswith("space_guard")]
    assert len([line for line in lines if line.startswith("topics accept no events")]) == 1
    assert len([line for line in lines if line.startswith("topics accept events again")]) == 1


def test_the_ballast_is_made_while_there_is_room_for_it() -> None:
    rig = SpaceGuardRig()
    rig.clock.advance(1)
    assert rig.disk.exists(paths.BALLAST)
    rig.disk.unlink(paths.BALLAST)
    again = SpaceGuard(rig.disk, rig.clock, 1000, 0, lambda: 0)
    rig.disk.free = 2 * paths.BALLAST_BYTES
    again.start()
    rig.clock.advance(2.1)
    assert not rig.disk.exists(paths.BALLAST)
    rig.free(GIB)
    rig.clock.advance(1)
    assert rig.disk.exists(paths.BALLAST)
    again.stop()


def test_the_default_reserve_is_a_share_of_a_small_disk() -> None:
    rig = SpaceGuardRig()
    assert rig.guard.reserve_bytes == GIB
    rig.disk.capacity = 10 * GIB
    rig.free(9 * GIB)
    assert rig.guard.reserve_bytes == 10 * GIB // 20


def test_without_a_reserve_events_are_never_rejected() -> None:
    rig = SpaceGuardRig(reserve_bytes=0)
    assert rig.free(0) is None


def test_it_warns_once_at_80_and_once_at_90_percent(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    rig = SpaceGuardRig()
    for free in (21, 20, 20, 19, 11, 10, 9, 12, 8):
        rig.free(free * GIB)
    assert [record.getMessage()[:42] for record in caplog.records] == [
        "the disk of the data folder is 80 % full: ",
        "the disk of the data folder is 90 % full: ",
    ]
    rig.free(50 * GIB)
    rig.free(15 * GIB)
    assert "85 % full" in caplog.records[-1].getMessage()


def test_it_checks_once_a_second_and_more_often_when_little_is_left() -> None:
    rig = SpaceGuardRig()
    before = rig.disk.calls["free_bytes"]
    rig.clock.advance(10)
    assert rig.disk.calls["free_bytes"] - before == 10
    rig.free(3 * GIB)
    before = rig.disk.calls["free_bytes"]
    rig.clock.advance(10)
    assert 95 <= rig.disk.calls["free_bytes"] - before <= 105
    rig.guard.stop()
    before = rig.disk.calls["free_bytes"]
    rig.clock.advance(10)
    assert rig.disk.calls["free_bytes"] == before


def test_a_failed_check_rejects_nothing_and_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    rig = SpaceGuardRig()
    rig.disk.fail = lambda call, path: call == "free_bytes"
    assert rig.free(0) is None
    rig.free(0)
    assert len(caplog.records) == 1
    rig.disk.fail = lambda call, path: False
    assert rig.free(0) is not None


def test_the_data_can_have_a_limit_of_its_own() -> None:
    rig = SpaceGuardRig(max_bytes=10 * GIB)
    rig.data_bytes = 10 * GIB
    assert rig.free(50 * GIB) is None
    rig.data_bytes += 1
    assert "data_max_bytes" in (rig.free(50 * GIB) or "")
    rig.data_bytes = 9 * GIB
    assert rig.free(50 * GIB) is None


def test_it_also_warns_before_the_data_limit(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    rig = SpaceGuardRig(max_bytes=100 * GIB)
    for percent in (50, 79, 80, 85, 79, 90, 95, 100, 101, 95, 90):
        rig.data_bytes = percent * GIB
        assert (rig.free(50 * GIB) is not None) == (percent in (101, 95) and rig.times_full == 1)
    lines = [record.getMessage() for record in caplog.records]
    assert [line[:25] for line in lines] == [
        "the data is at 80 % of it",
        "the data is at 90 % of it",
        "topics accept no events: ",
        "topics accept events agai",
    ]
