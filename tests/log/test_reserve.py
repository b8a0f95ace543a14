"""The reserve of the disk: when topics take no more events, and when they do again."""

from __future__ import annotations

import logging

import pytest

from mainstem.log.disk.space_guard import SpaceGuard
from tests.support.clock import SimClock
from tests.support.memdisk import MemoryDisk

GIB = 1 << 30


class SpaceGuardRig:
    """A disk of 100 GiB and a reserve on it."""

    def __init__(self, *, reserve_bytes: int = -1, max_bytes: int = 0) -> None:
        self.clock = SimClock()
        self.disk = MemoryDisk(self.clock)
        self.disk.capacity, self.disk.free = 100 * GIB, 50 * GIB
        self.data_bytes = 0
        self.reserve = SpaceGuard(self.disk, self.clock, reserve_bytes, max_bytes, lambda: self.data_bytes)
        self.times_full = 0
        self.reserve.on_full.append(self._count)
        self.reserve.start()

    def _count(self) -> None:
        self.times_full += 1

    def free(self, count: int) -> str | None:
        """So much is free; after the next look."""
        self.disk.free = count
        self.clock.advance(1.1)
        return self.reserve.rejection_reason


def test_below_the_reserve_it_is_full_and_above_it_goes_on_by_itself(
    caplog: pytest.LogCaptureFixture,
) -> None:
    room = SpaceGuardRig()
    assert room.free(GIB) is None
    assert "the disk is full" in (room.free(GIB - 1) or "")
    assert room.free(GIB + 1) is not None, "not with each byte that comes free"
    assert room.free(2 * GIB) is None
    assert room.times_full == 1
    lines = [record.getMessage() for record in caplog.records if record.name.endswith("space_guard")]
    assert len([line for line in lines if line.startswith("topics take no events")]) == 1
    assert len([line for line in lines if line.startswith("topics take events again")]) == 1


def test_the_reserve_by_itself_is_a_share_of_a_small_disk() -> None:
    room = SpaceGuardRig()
    assert room.reserve.reserve_bytes == GIB
    room.disk.capacity = 10 * GIB
    room.free(9 * GIB)
    assert room.reserve.reserve_bytes == 10 * GIB // 20


def test_without_a_reserve_it_is_never_full() -> None:
    room = SpaceGuardRig(reserve_bytes=0)
    assert room.free(0) is None


def test_it_warns_once_at_80_and_once_at_90_percent(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    room = SpaceGuardRig()
    for free in (21, 20, 20, 19, 11, 10, 9, 12, 8):
        room.free(free * GIB)
    assert [record.getMessage()[:42] for record in caplog.records] == [
        "the disk of the data folder is 80 % full: ",
        "the disk of the data folder is 90 % full: ",
    ]
    room.free(50 * GIB)
    room.free(15 * GIB)
    assert "85 % full" in caplog.records[-1].getMessage()


def test_it_looks_once_a_second_and_oftener_when_little_is_left() -> None:
    room = SpaceGuardRig()
    before = room.disk.calls["free_bytes"]
    room.clock.advance(10)
    assert room.disk.calls["free_bytes"] - before == 10
    room.free(3 * GIB)
    before = room.disk.calls["free_bytes"]
    room.clock.advance(10)
    assert 95 <= room.disk.calls["free_bytes"] - before <= 105
    room.reserve.stop()
    before = room.disk.calls["free_bytes"]
    room.clock.advance(10)
    assert room.disk.calls["free_bytes"] == before


def test_what_cannot_be_looked_at_is_not_full_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    room = SpaceGuardRig()
    room.disk.fail = lambda call, path: call == "free_bytes"
    assert room.free(0) is None
    room.free(0)
    assert len(caplog.records) == 1
    room.disk.fail = lambda call, path: False
    assert room.free(0) is not None


def test_the_data_may_have_a_limit_of_its_own() -> None:
    room = SpaceGuardRig(max_bytes=10 * GIB)
    room.data_bytes = 10 * GIB
    assert room.free(50 * GIB) is None
    room.data_bytes += 1
    assert "data_max_bytes" in (room.free(50 * GIB) or "")
    room.data_bytes = 9 * GIB
    assert room.free(50 * GIB) is None


def test_it_warns_before_the_limit_of_all_data_too(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    room = SpaceGuardRig(max_bytes=100 * GIB)
    for percent in (50, 79, 80, 85, 79, 90, 95, 100, 101, 95, 90):
        room.data_bytes = percent * GIB
        assert (room.free(50 * GIB) is not None) == (percent in (101, 95) and room.times_full == 1)
    lines = [record.getMessage() for record in caplog.records]
    assert [line[:24] for line in lines] == [
        "the data has 80 % of its",
        "the data has 90 % of its",
        "topics take no events: t",
        "topics take events again",
    ]
