"""A producer with acks=0 or acks=1 knows of its events before their commit: requests that follow count them,
and no reader gets them before the commit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

import pytest

from mainstem.contract import Bounds, TopicInfo
from mainstem.doors.kafka.errors import ErrorCode
from mainstem.engines.embedded.engine import EmbeddedEngine
from mainstem.kafka_protocol.message import Message
from mainstem.log.partition.commit_wait import COMMIT_WAIT_S
from mainstem.log.partition.partition import Partition
from tests.doors.kafka.kit import DoorClient, batch, fetch_request
from tests.test_node import NodeRig

NOW_MS = 1_356_998_400_000


class Behind:
    """A topic `t` with two events, the second of which is appended and not committed: its sync takes as long
    as the test wants."""

    def __init__(self) -> None:
        self.rig = NodeRig()
        topic = self.rig.create("t")
        self.partition: Partition = self.rig.node.partition(topic, 0)
        self.partition.append(memoryview(batch(b"a", timestamp_ms=NOW_MS)))
        self.rig.settle()
        self.client = self.connect()
        self.rig.disk.slow_syncs = []
        self.partition.append(memoryview(batch(b"b", timestamp_ms=NOW_MS + 500)))
        self.rig.clock.run()
        assert (self.partition.high_watermark, self.partition.log_end_offset) == (1, 2)

    def connect(self) -> DoorClient:
        return DoorClient(self.rig.node)  # type: ignore[arg-type]

    def ask(self, key: int, version: int, request: Message) -> Message | None:
        """The reply, if there is one already."""
        self.client.send(key, version, request)
        return self.reply()

    def reply(self) -> Message | None:
        return next(iter(self.client.replies()), None)

    def commit(self) -> Message:
        """Let the sync end. The reply that waited for it."""
        self.rig.disk.end_syncs()
        self.rig.settle()
        reply = self.reply()
        assert reply is not None
        return reply


def list_offsets(timestamp: int) -> Message:
    partition = Message(partition_index=0, timestamp=timestamp, current_leader_epoch=-1)
    return Message(replica_id=-1, timeout=0, topics=[Message(name="t", partitions=[partition])])


def delete_records(offset: int, timeout: int = 30_000) -> Message:
    partition = Message(partition_index=0, offset=offset)
    return Message(timeout=timeout, topics=[Message(name="t", partitions=[partition])])


def end_of_epoch(epoch: int) -> Message:
    partition = Message(partition=0, current_leader_epoch=-1, leader_epoch=epoch)
    return Message(replica_id=-1, topics=[Message(topic="t", partitions=[partition])])


def offset_of(reply: Message | None) -> tuple[int, int]:
    """(error code, offset) of a reply with one partition."""
    assert reply is not None
    partition = reply.topics[0].partitions[0]
    for name in ("offset", "low_watermark", "end_offset"):
        if hasattr(partition, name):
            return partition.error_code, getattr(partition, name)
    raise AssertionError(partition)


@pytest.mark.parametrize(
    ("key", "version", "request_body", "offset"),
    [
        (2, 1, list_offsets(-1), 2),
        (2, 11, list_offsets(-1), 2),
        (2, 11, list_offsets(-3), 1),
        (2, 11, list_offsets(NOW_MS + 200), 1),
        (21, 2, delete_records(-1), 2),
        (21, 2, delete_records(2), 2),
        (23, 4, end_of_epoch(0), 2),
    ],
)
def test_a_request_after_acks_1_is_answered_with_the_commit(
    key: int, version: int, request_body: Message, offset: int
) -> None:
    behind = Behind()
    assert behind.ask(key, version, request_body) is None
    assert offset_of(behind.commit()) == (0, offset)


@pytest.mark.parametrize(
    ("key", "version", "request_body", "answer"),
    [
        (2, 11, list_offsets(-2), (0, 0)),
        (2, 11, list_offsets(-4), (0, 0)),
        (2, 11, list_offsets(-5), (0, -1)),
        (21, 2, delete_records(1), (0, 1)),
        (21, 2, delete_records(3), (ErrorCode.OFFSET_OUT_OF_RANGE, -1)),
    ],
)
def test_a_request_that_needs_no_uncommitted_event_does_not_wait_for_one(
    key: int, version: int, request_body: Message, answer: tuple[int, int]
) -> None:
    behind = Behind()
    reply = behind.ask(key, version, request_body)
    if reply is None and key == 21:
        reply = behind.commit()  # the new log start is durable with the next commit; it needs no event of it
    assert offset_of(reply) == answer


@pytest.mark.parametrize(
    ("key", "version", "request_body", "code", "seconds"),
    [
        (2, 4, list_offsets(-1), ErrorCode.LEADER_NOT_AVAILABLE, COMMIT_WAIT_S),
        (2, 5, list_offsets(-1), ErrorCode.OFFSET_NOT_AVAILABLE, COMMIT_WAIT_S),
        (21, 2, delete_records(-1, timeout=200), ErrorCode.OFFSET_NOT_AVAILABLE, 0.2),
        (23, 4, end_of_epoch(0), ErrorCode.OFFSET_NOT_AVAILABLE, COMMIT_WAIT_S),
    ],
)
def test_the_wait_for_a_commit_ends_with_an_error_that_clients_try_again(
    key: int, version: int, request_body: Message, code: int, seconds: float
) -> None:
    behind = Behind()
    assert behind.ask(key, version, request_body) is None
    behind.rig.clock.advance(seconds - 0.1)
    assert behind.reply() is None
    behind.rig.clock.advance(0.2)
    assert offset_of(behind.reply()) == (code, -1)


def test_a_disk_that_fails_ends_the_wait_with_a_storage_error() -> None:
    behind = Behind()
    assert behind.ask(2, 11, list_offsets(-1)) is None
    behind.rig.disk.end_syncs(OSError(5, "Input/output error"))
    behind.rig.settle()
    assert offset_of(behind.reply()) == (ErrorCode.KAFKA_STORAGE_ERROR, -1)
    assert offset_of(behind.ask(2, 11, list_offsets(-1))) == (0, 1), "the event was removed"


def test_no_reader_gets_an_event_before_its_commit() -> None:
    behind = Behind()
    assert behind.ask(2, 11, list_offsets(-1)) is None
    reader = behind.connect()
    for offset in (1, 2):
        request = fetch_request(("t", 0, offset))
        vars(request.topics[0].partitions[0])["last_fetched_epoch"] = 0
        (answer,) = reader.call(1, 12, request).responses
        (fetched,) = answer.partitions
        assert (fetched.error_code, bytes(fetched.records), fetched.high_watermark) == (0, b"", 1)
        assert fetched.diverging_epoch == Message(epoch=-1, end_offset=-1)


@pytest.mark.parametrize(
    ("call", "answer"),
    [
        (lambda engine: engine.bounds("t", 0), Bounds(0, 2)),
        (lambda engine: engine.offset_for_time("t", 0, NOW_MS + 200), 1),
        (lambda engine: engine.topic("t"), None),
        (lambda engine: engine.delete_records("t", 0, -1), 2),
    ],
    ids=["bounds", "offset_for_time", "topic", "delete_records"],
)
def test_the_other_doors_wait_too(
    call: Callable[[EmbeddedEngine], Coroutine[None, None, object]], answer: object
) -> None:
    behind = Behind()
    engine = EmbeddedEngine(behind.rig.node)

    async def work() -> object:
        waiting = asyncio.ensure_future(call(engine))
        for _ in range(5):
            await asyncio.sleep(0)
            behind.rig.clock.run()
        assert not waiting.done()
        behind.rig.disk.end_syncs()
        while not waiting.done():
            behind.rig.settle()
            await asyncio.sleep(0)
        return waiting.result()

    result = asyncio.run(work())
    if isinstance(result, TopicInfo):
        assert result.partitions[0].end == 2
    else:
        assert result == answer


def test_while_the_disk_does_not_answer_readers_of_the_other_doors_get_what_is_committed() -> None:
    behind = Behind()
    engine = EmbeddedEngine(behind.rig.node)

    async def work() -> int:
        waiting = asyncio.ensure_future(engine.bounds("t", 0))
        while not waiting.done():
            behind.rig.clock.advance(1)
            await asyncio.sleep(0)
        return waiting.result().end

    assert asyncio.run(work()) == 1


def test_a_member_of_many_partitions_waits_for_their_commits_together() -> None:
    rig = NodeRig()
    topic = rig.create("t", 8)
    rig.disk.slow_syncs = []
    for index in range(8):
        rig.node.partition(topic, index).append(memoryview(batch(b"a", timestamp_ms=NOW_MS)))
    rig.clock.run()
    engine = EmbeddedEngine(rig.node)

    async def work() -> float:
        member = await engine.join("g", ["t"], start="latest")
        begun_s = rig.clock.monotonic()
        waiting = asyncio.ensure_future(member._start_positions([("t", index) for index in range(8)]))
        while not waiting.done():
            rig.clock.advance(0.5)
            await asyncio.sleep(0)
        assert [position.offset for position in waiting.result()[1]] == [0] * 8
        return rig.clock.monotonic() - begun_s

    assert asyncio.run(work()) < 2 * COMMIT_WAIT_S
