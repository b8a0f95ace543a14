"""The snapshot of a partition with many producers is written in many turns of the loop, as of one moment."""

from __future__ import annotations

from typing import Any

import pytest

from mainstem.log.partition import snapshot_file
from mainstem.log.storage import producer_snapshot
from mainstem.log.storage import record_batch as batches
from tests.test_node import NodeRig

COUNT = 300
DAY_S = 24 * 3600


@pytest.fixture(autouse=True)
def _small_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot_file, "PRODUCERS_PER_TURN", 20)
    monkeypatch.setattr(snapshot_file, "PIECE_PRODUCERS", 5)


class ProducersRig(NodeRig):
    """A node with one partition, to which many producers wrote."""

    def __init__(self) -> None:
        super().__init__()
        self.create("t")
        for producer_id in range(COUNT):
            self.write(producer_id, 0)
        self.settle()

    @property
    def partition(self) -> Any:
        topic = self.node.topics.get("t")
        assert topic is not None
        return self.node.partition(topic, 0)

    @property
    def path(self) -> str:
        return f"{self.partition.segments.folder}/{producer_snapshot.NAME}"

    def write(self, producer_id: int, sequence: int) -> int:
        """Write one event as a producer. Returns its offset."""
        batch = batches.build(
            [(None, b"x", (), self.clock.wall_ms())],
            producer_id=producer_id,
            producer_epoch=0,
            base_sequence=sequence,
        )
        return int(self.partition.append(memoryview(batch)).base_offset)

    def saved(self) -> producer_snapshot.ProducerSnapshot:
        snapshot = producer_snapshot.decode(self.disk.read_all(self.path))
        assert snapshot is not None
        return snapshot


def test_a_turn_writes_a_bounded_number_of_producers_and_shows_one_moment() -> None:
    rig = ProducersRig()
    end = rig.partition.high_watermark
    rig.partition.save_side_files()
    assert not rig.disk.exists(rig.path), "it has its name when it is whole"
    turns = 0
    while rig.clock.ready and turns < 200 and not rig.disk.exists(rig.path):
        rig.write(turns, 1)
        rig.write(COUNT + turns, 0)
        rig.partition.save_side_files()
        rig.clock.turn()
        turns += 1
    assert turns >= 2 * COUNT // 20 - 1, "twenty are looked through, and twenty are written, in a turn"
    saved = rig.saved()
    assert saved.offset == end
    assert {id_: len(window.batches) for id_, window in saved.windows.items()} == dict.fromkeys(
        range(COUNT), 1
    )
    rig.settle(1)
    assert not rig.disk.exists(rig.path + ".tmp")


def test_duplicates_are_recognized_after_a_restart_from_such_a_snapshot() -> None:
    rig = ProducersRig()
    rig.partition.save_side_files()
    rig.settle()
    assert len(rig.saved().windows) == COUNT
    rig.write(7, 1)
    rig.restart()
    assert rig.write(7, 1) == COUNT
    assert [rig.write(producer_id, 0) for producer_id in range(5)] == [0, 1, 2, 3, 4]


def test_a_stop_meanwhile_writes_the_newest_state() -> None:
    rig = ProducersRig()
    rig.partition.save_side_files()
    rig.clock.turn()
    rig.write(3, 1)
    rig.restart()
    saved = rig.saved()
    assert saved.offset == COUNT + 1
    assert len(saved.windows[3].batches) == 2
    assert rig.write(3, 1) == COUNT


def test_a_stop_while_expired_producers_are_removed_writes_the_newest_state() -> None:
    rig = ProducersRig()
    rig.settle(2 * DAY_S)
    rig.write(COUNT, 0)
    rig.settle()
    rig.partition.save_side_files()
    rig.write(COUNT, 1)
    while rig.partition.high_watermark < COUNT + 2:
        rig.clock.turn()
    rig.partition.close()
    rig.clock.run()
    assert rig.saved().offset == COUNT + 2


def test_expired_producers_are_removed_and_one_that_writes_meanwhile_is_not() -> None:
    rig = ProducersRig()
    rig.settle(2 * DAY_S)
    rig.write(COUNT, 0)
    rig.settle()
    windows = rig.partition.derived.windows
    rig.partition.save_side_files()
    rig.write(250, 0)
    rig.settle()
    assert list(rig.saved().windows) == [COUNT]
    assert len(windows) == 2
    assert {state.producer_id for state in windows.states(rig.clock.wall_ms())} == {250, COUNT}


def test_a_partition_that_is_deleted_meanwhile_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    rig = ProducersRig()
    rig.partition.save_side_files()
    rig.done(rig.node.topics.delete("t"))
    rig.settle(5)
    assert "not saved" not in caplog.text
    assert rig.node.topics.tombstones() == []
