"""The node: log and coordinator together, on a disk in memory."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from crc32c import crc32c

import mainstem.doors
from mainstem.coordinator.errors import CoordinatorError
from mainstem.coordinator.producer_ids import (
    BLOCK_IDS,
    LOST_IDS_MAX,
    START_LIMIT,
    START_MIN,
    START_STEP,
)
from mainstem.coordinator.runtime import snapshot
from mainstem.coordinator.topics.topics import TopicMetadata
from mainstem.log.errors import DiskFull, InvalidBatch, PartitionDeleted, StorageError
from mainstem.log.storage import record_batch as batches
from mainstem.node import RETRY_S, Node
from mainstem.promise import Promise
from mainstem.settings import Settings
from tests.support.clock import SimClock
from tests.support.fake_disk import FakeDisk

DAY_MS = 24 * 3600 * 1000


class NodeRig:
    """One machine: its disk stays while nodes are started and stopped on it."""

    def __init__(self, **settings: Any) -> None:
        self.clock = SimClock()
        self.disk = FakeDisk(self.clock)
        self.settings = settings
        self.starts = 0
        self.node = self.start()

    def start(self, **settings: Any) -> Node:
        """Start a node. The one before is dead: its timers are lost with its clock."""
        self.starts += 1
        self.settings.update(settings)
        self.clock = self.disk.clock = SimClock(self.clock.wall_ms())
        opened = Node.open(Settings(**self.settings), self.disk, self.clock, random.Random(self.starts))
        self.node = opened.result()
        return self.node

    def restart(self, **settings: Any) -> Node:
        """Stop cleanly, start again."""
        closed = self.node.close()
        self.settle()
        assert closed.done
        return self.start(**settings)

    def settle(self, seconds: float = 0.1) -> None:
        self.clock.advance(seconds)

    def done(self, promise: Promise[Any]) -> Any:
        self.settle()
        assert promise.done, "not done"
        return promise.result()

    def create(self, name: str, partitions: int = 1, **config: str) -> TopicMetadata:
        named = {key.replace("_", "."): value for key, value in config.items()}
        topic = self.done(self.node.topics.create(name, partitions, named))
        assert isinstance(topic, TopicMetadata)
        return topic

    def append(self, topic: TopicMetadata, value: bytes = b"x", index: int = 0) -> int:
        """The offset of a new durable event."""
        partition = self.node.partition(topic, index)
        data = batches.build([(None, value, (), self.clock.wall_ms())])
        appended = partition.append(memoryview(data))
        self.done(partition.when_committed(appended.next_offset))
        return appended.base_offset

    def names(self) -> list[str]:
        return [topic.name for topic in self.node.topics.all()]

    def folders(self, topic: TopicMetadata) -> list[str]:
        return [path for path in self.disk.files if topic.id.hex in path]


def refusal(promise: Promise[Any]) -> str:
    assert isinstance(promise.error, CoordinatorError), promise.error
    return promise.error.code


@pytest.fixture(params=["disk", pytest.param("os", marks=pytest.mark.slow)])
def machine(request: pytest.FixtureRequest) -> NodeRig:
    return NodeRig(durability=request.param)


def test_topics_and_events_survive_a_restart(machine: NodeRig) -> None:
    topic = machine.create("flights", 2, retention_ms="5000000")
    assert [machine.append(topic) for _ in range(3)] == [0, 1, 2]
    node = machine.restart()
    assert list(node.topics.all()) == [topic]
    assert node.partition(topic, 0).high_watermark == 3
    assert node.partition(topic, 0).config.retention_ms == 5_000_000
    assert machine.append(topic) == 3


def test_topics_survive_kill_9(machine: NodeRig) -> None:
    topic = machine.create("flights")
    machine.append(topic)
    node = machine.start()
    assert list(node.topics.all()) == [topic]
    assert node.partition(topic, 0).high_watermark == 1


def test_partitions_that_do_not_exist_are_refused(machine: NodeRig) -> None:
    topic = machine.create("a", 2)
    for index in (-1, 2):
        with pytest.raises(CoordinatorError, match=f"does not host partition {index}"):
            machine.node.partition(topic, index)
    assert machine.node.partition(topic, 1) is machine.node.partition(topic, 1)
    machine.done(machine.node.topics.add_partitions("a", 3))
    assert machine.node.partition(topic, 2).index == 2


def test_a_partition_accepts_no_events_before_its_creation_is_durable() -> None:
    machine = NodeRig()
    node = machine.node
    created = node.topics.create("a", 1)
    topic = node.topics.get("a")
    assert topic is not None
    with pytest.raises(CoordinatorError, match="not durable yet"):
        node.partition_to_append(topic, 0)
    machine.done(created)
    assert node.partition_to_append(topic, 0) is node.partition(topic, 0)
    first, second = node.topics.add_partitions("a", 2), node.topics.add_partitions("a", 3)
    grown = node.topics.get("a")
    assert grown is not None
    for index in (1, 2):
        with pytest.raises(CoordinatorError, match="not durable yet"):
            node.partition_to_append(grown, index)
    assert node.partition_to_append(grown, 0).index == 0
    machine.done(first)
    machine.done(second)
    assert [node.partition_to_append(grown, index).index for index in range(3)] == [0, 1, 2]
    with pytest.raises(CoordinatorError):
        node.partition_to_append(grown, 3)


def test_a_topic_is_created_automatically(machine: NodeRig) -> None:
    first, second = machine.node.auto_create("a"), machine.node.auto_create("a")
    assert machine.done(first) == machine.done(second)
    assert machine.names() == ["a"]
    assert refusal(machine.node.auto_create("a b")) == "INVALID_TOPIC_EXCEPTION"
    assert refusal(machine.node.auto_create("__consumer_offsets")) == "INVALID_TOPIC_EXCEPTION"


def test_automatic_creation_of_topics_can_be_switched_off() -> None:
    machine = NodeRig(auto_create_topics=False)
    assert refusal(machine.node.auto_create("a")) == "UNKNOWN_TOPIC_OR_PARTITION"
    topic = machine.create("a")
    assert machine.done(machine.node.auto_create("a")) == topic


def test_a_deleted_topic_is_removed_from_the_disk_and_its_readers_are_notified(machine: NodeRig) -> None:
    other, topic = machine.create("kept"), machine.create("a", 2)
    for index in range(2):
        machine.append(topic, index=index)
    machine.append(other)
    partition = machine.node.partition(topic, 0)
    deletions: list[bool] = []
    partition.watch(lambda changed: deletions.append(changed.deleted))
    machine.done(machine.node.topics.delete("a"))
    machine.settle(100)
    assert deletions == [True]
    assert machine.folders(topic) == []
    assert machine.node.topics.tombstones() == []
    with pytest.raises(CoordinatorError):
        machine.node.partition(topic, 0)
    with pytest.raises(PartitionDeleted):
        partition.append(memoryview(batches.build([(None, b"x", (), 0)])))
    again = machine.create("a")
    assert again.id != topic.id
    assert machine.append(again) == 0
    node = machine.restart()
    assert machine.names() == ["a", "kept"]
    assert node.partition(again, 0).high_watermark == 1
    assert node.partition(other, 0).high_watermark == 1


def test_a_deletion_that_kill_9_interrupts_is_finished_by_the_next_start(
    machine: NodeRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = machine.create("a")
    machine.append(topic)
    monkeypatch.setattr(machine.node.log, "delete_topic", lambda topic_id: Promise())
    machine.done(machine.node.topics.delete("a"))
    assert machine.folders(topic), "the tombstone is durable, the files are still there"
    machine.start()
    machine.settle(100)
    assert machine.folders(topic) == []
    assert machine.names() == []
    assert machine.node.topics.tombstones() == []
    assert machine.node.topics.status(topic.id) == "unknown"


def test_a_deletion_that_the_disk_refuses_is_retried(
    machine: NodeRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = machine.create("a")
    machine.append(topic)
    remove, refusals = machine.node.log.delete_topic, iter([True])

    def refuse_once(topic_id: UUID) -> Promise[None]:
        return Promise.failed(OSError("busy")) if next(refusals, False) else remove(topic_id)

    monkeypatch.setattr(machine.node.log, "delete_topic", refuse_once)
    machine.done(machine.node.topics.delete("a"))
    assert machine.folders(topic)
    machine.settle(200)
    assert machine.folders(topic) == []
    assert machine.node.topics.tombstones() == []


def test_settings_reach_the_partitions(machine: NodeRig) -> None:
    topic = machine.create("a")
    machine.append(topic)
    partition = machine.node.partition(topic, 0)
    machine.done(machine.node.topics.set_config("a", {"max.message.bytes": "100"}))
    assert partition.config.max_message_bytes == 100
    machine.done(machine.node.topics.set_config("a", {}))
    assert partition.config.max_message_bytes == 1_048_588


def test_the_servers_defaults_apply_to_partitions_that_were_never_used(machine: NodeRig) -> None:
    topic = machine.create("a")
    machine.append(topic)
    node = machine.restart(log_retention_ms=DAY_MS)
    (partition,) = [partition for partition in node.log.partitions() if partition.topic_id == topic.id]
    assert partition.config.retention_ms == DAY_MS


def test_retention_runs_by_its_timer_and_spares_the_state_log(machine: NodeRig) -> None:
    topic = machine.create("old", retention_ms=str(DAY_MS), segment_ms="1000")
    other = machine.create("kept")
    for written_topic in (topic, other):
        machine.append(written_topic)
    machine.settle(2 * DAY_MS / 1000 + 700)
    assert machine.append(topic) == 1
    machine.settle(700)
    assert machine.node.partition(topic, 0).log_start_offset == 1
    assert machine.node.partition(other, 0).log_start_offset == 0
    assert machine.node.log.state.log_start_offset == 0
    machine.restart()
    assert machine.names() == ["kept", "old"]


def test_retention_of_many_partitions_runs_in_slices(
    machine: NodeRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mainstem.coordinator.queues.retention_runs.PARTITIONS_PER_TURN", 2)
    topic = machine.create("a", 5, retention_bytes="0", segment_ms="1")
    for index in range(5):
        machine.append(topic, index=index)
    machine.settle(5)
    assert machine.done(machine.node.enforce_retention()) > 0
    assert [machine.node.partition(topic, index).log_start_offset for index in range(5)] == [1] * 5


def test_the_offsets_of_a_topic_are_deleted_with_it(machine: NodeRig) -> None:
    from mainstem.coordinator.groups.types import CommitRequest, NewOffset, TopicRef

    machine.create("a")
    commit = CommitRequest(group_id="g", topics=((TopicRef("a"), (NewOffset(0, 5),)),))
    machine.done(machine.node.groups.commit(commit))
    machine.done(machine.node.topics.delete("a"))
    machine.settle(100)
    machine.create("a")
    assert machine.done(machine.node.groups.fetch_offsets("g", None)) == []


def test_offsets_after_the_end_are_set_back_when_events_may_be_lost() -> None:
    """A group that stood at 5 when a power cut took 3 and 4 must not miss the next 3 and 4."""
    machine = NodeRig(durability="os")
    from mainstem.coordinator.groups.types import CommitRequest, NewOffset, TopicRef

    def committed() -> int:
        fetched = machine.done(machine.node.groups.fetch_offsets("board", None))
        offset = fetched[0].partitions[0].offset
        assert offset is not None
        return int(offset.offset)

    topic = machine.create("flights")
    for _ in range(3):
        machine.append(topic)
    commit = CommitRequest(group_id="board", topics=((TopicRef("flights"), (NewOffset(0, 5),)),))
    machine.done(machine.node.groups.commit(commit))
    machine.restart()
    assert committed() == 5
    machine.start()
    machine.settle()
    assert committed() == 3
    machine.start()
    assert committed() == 3


def test_snapshots_shorten_the_state_log_and_a_start_reads_them(machine: NodeRig) -> None:
    for n in range(3):
        machine.create(f"t{n}")
        machine.node.runtime.take_snapshot()
        machine.settle()
    machine.create("last")
    offsets = snapshot.offsets(machine.disk)
    assert len(offsets) == 2
    assert machine.node.log.state.log_start_offset == offsets[1] > 0
    machine.start()
    assert machine.names() == ["last", "t0", "t1", "t2"]
    machine.restart()
    assert machine.names() == ["last", "t0", "t1", "t2"]
    assert machine.node.log.state.log_start_offset == offsets[1]


def test_a_failed_commit_is_an_error_and_undoes_its_records() -> None:
    machine = NodeRig()
    other = machine.create("kept")
    failures = iter([True])
    machine.disk.fail = lambda call, path: call == "sync" and next(failures, False)
    lost = machine.node.topics.create("lost")
    machine.settle(5)
    assert isinstance(lost.error, StorageError)
    assert machine.names() == ["kept"]
    assert machine.node.runtime.fenced is None
    again = machine.create("lost")
    assert machine.append(again) == 0
    machine.start()
    assert machine.names() == ["kept", "lost"]
    assert machine.node.topics.get("kept") == other


def test_close_sends_parked_replies_and_refuses_later_requests() -> None:
    machine = NodeRig()
    parked = machine.node.topics.create("a")
    closed = machine.node.close()
    assert isinstance(machine.node.topics.create("b").error, StorageError)
    machine.settle()
    assert closed.done
    assert parked.result().name == "a"
    assert machine.node.close() is closed
    machine.start()
    assert machine.names() == ["a"]


def test_no_producer_id_is_allocated_again_after_any_kind_of_stop(machine: NodeRig) -> None:
    allocated: list[int] = []
    for n in range(4):
        allocated += [machine.done(machine.node.producer_ids.allocate())[0] for _ in range(3)]
        (machine.restart if n % 2 else machine.start)()
    assert len(set(allocated)) == len(allocated)


def test_the_first_start_records_the_servers_own_producer_id_and_every_later_start_has_it(
    machine: NodeRig,
) -> None:
    machine.settle()
    server_id = machine.node.producer_ids.server_id
    assert server_id is not None
    assert server_id % START_STEP == 0
    assert START_MIN <= server_id < START_LIMIT
    assert machine.node.log.state.high_watermark == 1, "it is durable before anything else happens"
    for again in (machine.start, machine.restart, machine.start):
        assert again().producer_ids.server_id == server_id
        machine.node.runtime.take_snapshot()
        machine.settle()
    skipped = 2 if machine.settings["durability"] == "os" else 0
    assert machine.node.log.state.log_end_offset == 1 + skipped, "it is recorded once"
    allocated = machine.done(machine.node.producer_ids.allocate())
    assert allocated == (server_id + 1 + skipped * LOST_IDS_MAX, 0)


def test_ids_whose_record_a_power_cut_may_have_taken_are_not_allocated_again() -> None:
    machine = NodeRig(durability="os")
    first, _ = machine.done(machine.node.producer_ids.allocate())
    machine.restart()
    assert machine.done(machine.node.producer_ids.allocate())[0] == first + BLOCK_IDS, "a clean stop"
    machine.start()
    assert machine.done(machine.node.producer_ids.allocate())[0] == first + 2 * BLOCK_IDS + LOST_IDS_MAX


def test_a_server_id_whose_commit_fails_is_drawn_again_later() -> None:
    machine = NodeRig()
    drawn = machine.node.producer_ids.server_id
    failures = iter([True])
    machine.disk.fail = lambda call, path: call == "sync" and next(failures, False)
    machine.settle(5)
    assert machine.node.producer_ids.server_id is None
    machine.settle(RETRY_S)
    server_id = machine.node.producer_ids.server_id
    assert server_id is not None
    assert server_id != drawn
    assert machine.start().producer_ids.server_id == server_id


def test_a_client_may_not_use_the_servers_own_producer_id(machine: NodeRig) -> None:
    topic = machine.create("orders")
    server_id = machine.node.producer_ids.server_id
    assert server_id is not None

    def from_client(producer_id: int, sequence: int) -> int:
        data = batches.build([(None, b"x", (), 0)])
        struct.pack_into(">qhi", data, 43, producer_id, 0 if producer_id >= 0 else -1, sequence)
        struct.pack_into(">I", data, 17, crc32c(data[21:]))
        partition, appended = machine.node.append_from_client(topic, 0, memoryview(data))
        assert partition is machine.node.partition(topic, 0)
        machine.done(partition.when_committed(appended.next_offset))
        return appended.base_offset

    starts: list[Callable[[], object]] = [machine.settle, machine.start, machine.restart]
    for number, start in enumerate(starts):
        start()
        end = machine.node.partition(topic, 0).log_end_offset
        with pytest.raises(InvalidBatch, match=f"{server_id} is the server's own"):
            from_client(server_id, 0)
        assert machine.node.partition(topic, 0).log_end_offset == end
        assert from_client(server_id - 1, number) == end
        assert from_client(server_id + 1, number) == end + 1
        assert from_client(-1, -1) == end + 2
    with pytest.raises(InvalidBatch):
        machine.node.append_from_client(topic, 0, memoryview(b"short"))
    with pytest.raises(CoordinatorError):
        machine.node.append_from_client(topic, 1, memoryview(b""))


def test_doors_append_what_clients_built_by_the_method_that_guards_the_servers_id() -> None:
    doors = Path(mainstem.doors.__file__).parent
    assert [path for path in doors.rglob("*.py") if "partition_to_append" in path.read_text()] == []


def test_no_topic_ever_has_the_id_of_the_state_log(machine: NodeRig) -> None:
    assert machine.node.log.state.topic_id == UUID(int=1)
    assert machine.node.topics.by_id(UUID(int=1)) is None


def test_on_a_full_disk_topics_reject_events_and_everything_else_works(machine: NodeRig) -> None:
    topic, other = machine.create("orders"), machine.create("old")
    machine.append(topic, b"before")
    machine.disk.free = 0
    machine.settle(1.1)
    with pytest.raises(DiskFull):
        machine.node.partition_to_append(topic, 0)
    assert machine.node.partition(topic, 0).read_blocking(0, 1000).next_offset == 1
    assert machine.create("new").name == "new"
    machine.done(machine.node.topics.delete(other.name))
    assert other.name not in machine.names()
    machine.disk.free = machine.disk.capacity
    machine.settle(1.1)
    assert machine.node.partition_to_append(topic, 0) is machine.node.partition(topic, 0)


def test_a_full_disk_triggers_retention_at_once(machine: NodeRig) -> None:
    topic = machine.create("orders", retention_ms="1000", segment_bytes="1048576", segment_ms="1000")
    for _ in range(3):
        machine.append(topic, bytes(400_000))
        machine.settle(2)
    assert machine.node.partition(topic, 0).log_start_offset == 0
    machine.disk.free = 0
    machine.settle(2)
    assert machine.node.partition(topic, 0).log_start_offset > 0
