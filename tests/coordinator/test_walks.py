"""Work over all groups is divided among turns of the loop, and shows one moment while the groups change."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from mainstem.coordinator.groups.types import CommittedOffset, OffsetsCommitted, OffsetsDeleted
from mainstem.coordinator.runtime import snapshot
from mainstem.coordinator.runtime.records import RecordCodec
from mainstem.coordinator.runtime.snapshots import Snapshots
from mainstem.coordinator.runtime.state_log import STATE_LOG
from mainstem.coordinator.runtime.walked_map import WalkedMap
from mainstem.log.disk.memory_disk import MemoryDisk
from mainstem.promise import Promise
from tests.coordinator.group_rig import FLIGHTS, WEATHER, GroupRig, group_rig
from tests.support.clock import SimClock
from tests.support.fake_state import FakeStateLog

DAY_MS = 86_400_000


@pytest.fixture(autouse=True)
def _small_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mainstem.coordinator.groups.groups.GROUPS_PER_TURN", 10)
    monkeypatch.setattr("mainstem.coordinator.groups.topic_deletion.GROUPS_PER_TURN", 10)
    monkeypatch.setattr("mainstem.coordinator.groups.topic_deletion.RECORDS_PER_WRITE", 3)
    monkeypatch.setattr("mainstem.coordinator.runtime.snapshots.SLICE_BYTES", 500)


def with_groups(count: int) -> GroupRig:
    """A rig with `count` groups, each with offsets of two topics."""
    kit = group_rig()
    for number in range(count):
        for topic in ("flights", "weather"):
            assert kit.commit_code(offset=number, topic=topic, group_id=f"g{number:03}") is None
    return kit


def offsets_in(kit: GroupRig, offset: int) -> dict[tuple[str, UUID, int], int]:
    """The committed offsets in a snapshot file."""
    codec = RecordCodec(kit.groups.RECORDS)
    disk: Any = kit.disk
    records = [codec.decode(data, "") for data in snapshot.read(disk, snapshot.path_of(offset), offset)]
    return {
        (record.group_id, topic_id, partition): committed.offset
        for record in records
        for topic_id, partition, committed in record.offsets
    }


def test_a_snapshot_shows_one_moment_whatever_is_committed_while_it_is_written() -> None:
    kit = with_groups(60)
    moment = kit.state.log_end_offset
    expected = {
        (f"g{number:03}", topic.id, 0): number for number in range(60) for topic in (FLIGHTS, WEATHER)
    }
    kit.runtime.take_snapshot()
    number = 0
    while kit.clock.ready:
        kit.clock.turn()
        number += 1
        kit.commit(offset=1_000, group_id=f"g{number * 7 % 60:03}")
        kit.commit(offset=1_000, group_id=f"new{number}")
        kit.groups.delete(f"g{59 - number % 60:03}")
    assert number > 10
    assert offsets_in(kit, moment) == expected
    before = {group_id: kit.offsets(group_id) for group_id in kit.groups._ids()}
    again = kit.restart()
    assert {group_id: again.offsets(group_id) for group_id in again.groups._ids()} == before


def test_each_snapshot_that_is_given_up_leaves_no_file_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    syncs: list[Promise[None]] = []

    def sync(*_: object, **__: object) -> Promise[None]:
        syncs.append(Promise())
        return syncs[-1]

    disk, clock = MemoryDisk(), SimClock()
    disk.make_folder(snapshot.FOLDER)
    monkeypatch.setattr(disk, "sync", sync)
    snapshots = Snapshots(disk, FakeStateLog(), clock, (), RecordCodec([OffsetsDeleted]), STATE_LOG)
    snapshots.take(0)
    clock.run()
    assert len(syncs) == 1
    snapshots.abandon()
    snapshots.take(1)
    snapshots.abandon()
    assert disk.exists(snapshot.path_of(0) + ".tmp"), "it is being synced"
    assert not disk.exists(snapshot.path_of(1) + ".tmp")
    syncs[0].resolve(None)
    clock.run()
    assert not disk.list(snapshot.FOLDER)


def test_a_list_of_groups_is_made_in_many_turns_and_is_sorted_and_whole() -> None:
    kit = with_groups(100)
    listed = kit.groups.list()
    assert not listed.done
    kit.commit(group_id="late")
    kit.groups.delete("g050")
    assert kit.clock.run() >= 19, "each group is collected and listed, ten in a turn"
    names = [listing.group_id for listing in listed.result()]
    assert names == sorted(names)
    assert set(names) - {"late", "g050"} == {f"g{number:03}" for number in range(100) if number != 50}
    assert kit.groups._live == {}, "a group that is listed takes no memory"


def test_offsets_expire_in_many_turns() -> None:
    kit = with_groups(100)
    kit.clock.advance(8 * DAY_MS / 1000 - 1)
    assert kit.groups.list().done, "nothing is left"
    kit = with_groups(100)
    kit.clock.wall += 8 * DAY_MS
    kit.groups._expire()
    assert kit.clock.run() >= 19
    assert list(kit.groups._ids()) == []


def test_offsets_of_deleted_topics_are_deleted_in_many_turns_by_one_walk() -> None:
    kit = with_groups(100)
    batches = len(kit.state.batches)
    first, second, third = (
        kit.groups.delete_topic_offsets(topic_id) for topic_id in (FLIGHTS.id, WEATHER.id, UUID(int=9))
    )
    assert not first.done
    assert second is third, "the next walk serves both"
    assert len(kit.state.batches) - batches <= 3, "what ten groups have"
    assert kit.clock.run() >= 18
    assert [promise.error for promise in (first, second, third)] == [None] * 3
    assert list(kit.groups._ids()) == []


def test_a_reload_after_a_failed_commit_is_divided_among_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mainstem.coordinator.runtime.runtime.READ_BYTES", 500)
    kit = with_groups(50)
    before = {group_id: kit.offsets(group_id) for group_id in kit.groups._ids()}
    kit.state.auto_commit = False
    lost = kit.commit(offset=77, group_id="g001")
    kit.state.fail()
    assert kit.clock.run() >= 30
    assert lost.error is not None
    assert kit.runtime.fenced is None
    assert {group_id: kit.offsets(group_id) for group_id in kit.groups._ids()} == before


def test_a_walk_reads_the_map_of_its_beginning() -> None:
    names = [f"n{number}" for number in range(3_000)]
    counts: WalkedMap[Any] = WalkedMap()
    for name in names:
        counts.change(name)["count"] = 1
    first = counts.walk()
    for name in names[::2]:
        counts.change(name)["count"] = 2
    counts.change("other")["count"] = 5
    second = counts.walk()
    for name in names:
        counts.remove(name)
    assert {name: value["count"] for name, value in first} == dict.fromkeys(names, 1)
    expected = {name: 2 if number % 2 == 0 else 1 for number, name in enumerate(names)}
    assert {name: value["count"] for name, value in second} == {**expected, "other": 5}
    assert [name for name, _ in counts.walk()] == ["other"]


def test_a_change_copies_a_small_part_of_many_offsets() -> None:
    kit = group_rig()
    offsets = kit.groups._offsets
    for number in range(5_000):
        committed = CommittedOffset(number, -1, "", 5)
        offsets.apply_commit(OffsetsCommitted(f"g{number}", ((FLIGHTS.id, 0, committed),)))
    before = {name: id(topics) for name, topics in offsets.all_groups()}
    offsets.apply_deletion(OffsetsDeleted("g7", ((FLIGHTS.id, 0),)))
    offsets.apply_commit(OffsetsCommitted("g8", ((FLIGHTS.id, 0, CommittedOffset(1, -1, "", 5)),)))
    after = {name: id(topics) for name, topics in offsets.all_groups()}
    assert {name for name in before if after.get(name) != before[name]} == {"g7", "g8"}
