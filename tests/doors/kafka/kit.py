"""A Kafka door without disk and sockets: topics and partitions are in memory, and the transport records what
is sent."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from mainstem.coordinator.errors import InvalidTopicName, UnknownTopicOrPartition
from mainstem.coordinator.topics.topics import TopicMetadata, check_name
from mainstem.doors.contract import Access
from mainstem.doors.kafka.connection import KafkaConnection
from mainstem.doors.kafka.dispatch import Dispatcher
from mainstem.doors.kafka.frame import BufferPool, FrameReader
from mainstem.doors.kafka.handler import Handler, HandlerContext
from mainstem.doors.kafka.handlers import discover
from mainstem.doors.net.address import HostPort
from mainstem.doors.net.limits import MemoryBudget
from mainstem.kafka_protocol.message import Buffer, Message
from mainstem.kafka_protocol.reader import _struct_reader
from mainstem.kafka_protocol.schema import api
from mainstem.kafka_protocol.writer import write_request
from mainstem.log.errors import OffsetOutOfRange, StorageError
from mainstem.log.storage import record_batch as batches
from mainstem.promise import Promise
from mainstem.settings import Settings
from tests.doors.kafka.access_kit import memory_access
from tests.support.clock import SimClock


@dataclass
class MemoryAppended:
    base_offset: int
    next_offset: int
    log_append_ms: int = -1
    duplicate: bool = False


@dataclass
class MemorySlice:
    data: bytes
    next_offset: int


@dataclass
class MemoryTimedOffset:
    offset: int
    timestamp_ms: int
    leader_epoch: int


class MemoryPartition:
    """The part of a partition that the handlers use. `auto`: each append is committed at once. `cold`: reads
    wait until the test calls what is in `reads`."""

    def __init__(self) -> None:
        self.batches: list[tuple[int, int, bytes]] = []
        self.epoch = 0
        self.log_start_offset = self.high_watermark = self.log_end_offset = 0
        self.auto = True
        self.cold = False
        self.refuse: Exception | None = None
        self.deleted = False
        self.fence_reason: str | None = None
        self.reads: list[Callable[[], None]] = []
        self.watchers: list[Callable[[Any], None]] = []
        self.waiters: list[tuple[int, Promise[None]]] = []

    def epoch_at_start(self) -> int:
        return self.epoch

    def append(self, batch: memoryview) -> MemoryAppended:
        if self.refuse is not None:
            raise self.refuse
        header = batches.validate(batch)
        base = self.log_end_offset
        batches.assign_offsets(batch, base, self.epoch, None)
        self.log_end_offset = base + header.last_offset_delta + 1
        self.batches.append((base, self.log_end_offset, bytes(batch)))
        if self.auto:
            self.commit()
        return MemoryAppended(base, self.log_end_offset)

    def commit(self) -> None:
        self.high_watermark = self.log_end_offset
        waiters, self.waiters = self.waiters, []
        for _, committed in waiters:
            committed.resolve(None)
        for call in list(self.watchers):
            call(self)

    def fail(self) -> None:
        waiters, self.waiters = self.waiters, []
        for _, committed in waiters:
            committed.fail(StorageError("the commit failed"))

    def when_committed(self, next_offset: int) -> Promise[None]:
        if self.high_watermark >= next_offset:
            return Promise.resolved(None)
        committed: Promise[None] = Promise()
        self.waiters.append((next_offset, committed))
        return committed

    def read(self, offset: int, max_bytes: int) -> MemorySlice | Promise[MemorySlice]:
        if not self.log_start_offset <= offset <= self.high_watermark:
            raise OffsetOutOfRange(str(offset))
        out, next_offset = b"", offset
        for _, end, data in self.batches:
            if offset < end <= self.high_watermark and (not out or len(out) + len(data) <= max_bytes):
                out, next_offset = out + data, end
        result = MemorySlice(out, next_offset)
        if not self.cold:
            return result
        read: Promise[MemorySlice] = Promise()
        self.reads.append(lambda: read.resolve(result))
        return read

    def available_bytes(self, offset: int) -> int:
        return sum(len(data) for _, end, data in self.batches if offset < end <= self.high_watermark)

    def watch(self, callback: Callable[[Any], None]) -> None:
        self.watchers.append(callback)

    def unwatch(self, callback: Callable[[Any], None]) -> None:
        self.watchers.remove(callback)

    def epoch_end(self, epoch: int) -> tuple[int, int]:
        return (self.epoch, self.log_end_offset) if epoch >= self.epoch else (-1, -1)

    def offset_for_time(self, timestamp_ms: int) -> Promise[MemoryTimedOffset | None]:
        for _, _, data in self.batches:
            for record in batches.decode(data):
                if record.timestamp_ms >= timestamp_ms:
                    return Promise.resolved(MemoryTimedOffset(record.offset, record.timestamp_ms, self.epoch))
        return Promise.resolved(None)

    def offset_of_max_timestamp(self) -> Promise[MemoryTimedOffset | None]:
        records = [record for _, _, data in self.batches for record in batches.decode(data)]
        best = max(records, key=lambda record: record.timestamp_ms, default=None)
        return Promise.resolved(
            None if best is None else MemoryTimedOffset(best.offset, best.timestamp_ms, self.epoch)
        )

    def size_bytes(self) -> int:
        return sum(len(data) for _, _, data in self.batches)

    def producers(self) -> list[Any]:
        return []


class MemoryTopics:
    def __init__(self) -> None:
        self.by_name: dict[str, TopicMetadata] = {}

    def get(self, name: str) -> TopicMetadata | None:
        return self.by_name.get(name)

    def by_id(self, topic_id: UUID) -> TopicMetadata | None:
        return next((topic for topic in self.by_name.values() if topic.id == topic_id), None)

    def all(self) -> list[TopicMetadata]:
        return [self.by_name[name] for name in sorted(self.by_name)]


class MemoryRuntime:
    def read(self, reply: Any) -> Promise[Any]:
        return Promise.resolved(reply)


@dataclass
class MemoryLog:
    cluster_id: str = "mainstem-test-cluster1"
    pending_bytes: int = 0
    prompted_commits: int = 0

    def commit_now_if_idle(self) -> None:
        self.prompted_commits += 1


@dataclass
class MemoryNode:
    settings: Settings = field(default_factory=Settings)
    clock: Any = field(default_factory=SimClock)
    topics: MemoryTopics = field(default_factory=MemoryTopics)
    runtime: MemoryRuntime = field(default_factory=MemoryRuntime)
    log: MemoryLog = field(default_factory=MemoryLog)
    queue_runtime: MemoryRuntime = field(default_factory=MemoryRuntime)
    groups: Any = None
    share_groups: MemoryShareGroups = field(default_factory=lambda: MemoryShareGroups())
    parts: dict[tuple[UUID, int], MemoryPartition] = field(default_factory=dict)

    def create(self, name: str, partitions: int = 1, internal: bool = False) -> TopicMetadata:
        topic = TopicMetadata(name, UUID(int=100 + len(self.topics.by_name)), partitions, {}, internal)
        self.topics.by_name[name] = topic
        return topic

    def partition(self, topic: TopicMetadata, index: int) -> MemoryPartition:
        if not 0 <= index < topic.partitions:
            raise UnknownTopicOrPartition(f"no partition {index}")
        return self.parts.setdefault((topic.id, index), MemoryPartition())

    def append_from_client(
        self, topic: TopicMetadata, index: int, batch: memoryview
    ) -> tuple[MemoryPartition, MemoryAppended]:
        partition = self.partition(topic, index)
        return partition, partition.append(batch)

    def auto_create(self, name: str) -> Promise[TopicMetadata]:
        try:
            check_name(name)
        except InvalidTopicName as error:
            return Promise.failed(error)
        return Promise.resolved(self.create(name))


class MemoryShareGroups:
    """There are no share groups."""

    def find(self, group_id: str) -> None:
        return None

    def list(self, states: Sequence[str], types: Sequence[str]) -> Promise[Any]:
        return Promise.resolved([])


class RecordingWaiter:
    """A waiter that counts how often it was woken because there may be capacity."""

    def __init__(self) -> None:
        self.woken = 0

    def on_capacity(self) -> None:
        self.woken += 1


def frame_reader(
    request_max_bytes: int,
    pool: BufferPool | None = None,
    budget: MemoryBudget | None = None,
    owner: RecordingWaiter | None = None,
) -> FrameReader:
    """A frame reader; without `budget` it may use 1 GB."""
    return FrameReader(
        pool or BufferPool(),
        request_max_bytes,
        budget or MemoryBudget(SimClock(), 1 << 30),
        owner or RecordingWaiter(),
    )


def read_frames(frames: FrameReader, data: bytes, step: int = 1 << 30) -> list[bytes]:
    """All frames of `data`, given in pieces of at most `step` bytes."""
    out = []
    rest = memoryview(data)
    while rest:
        space = frames.receive_buffer()
        count = min(len(space), len(rest), step)
        space[:count] = rest[:count]
        space.release()
        rest = rest[count:]
        frames.advance(count)
        while (frame := frames.next()) is not None:
            out.append(bytes(frame))
        assert not frames.has_frame
        assert frames.prepare_receive()
    return out


class FakeTransport:
    """Records what a connection sends, and whether it is paused or closed."""

    def __init__(self) -> None:
        self.sent = bytearray()
        self.paused = False
        self.closed = False

    def write(self, pieces: list[Buffer]) -> None:
        assert not self.closed, "written after the close"
        for piece in pieces:
            self.sent += piece

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    def close(self) -> None:
        self.closed = True


ADVERTISED = HostPort("example.test", 1234)


class DoorClient:
    """One connection to a door in memory. `handlers` replaces the real handlers; `dispatcher` is that of a
    door that has other connections. Without `access` everything is allowed."""

    def __init__(
        self,
        node: MemoryNode | None = None,
        handlers: dict[int, Handler] | None = None,
        dispatcher: Dispatcher | None = None,
        access: Access | None = None,
    ) -> None:
        self.node = node or MemoryNode()
        self.clock: SimClock = self.node.clock
        context: Any = HandlerContext(node=self.node, access=access or memory_access())  # type: ignore[arg-type]
        self.dispatcher = dispatcher or Dispatcher(context, handlers or discover())
        self.transport = FakeTransport()
        self.connection = KafkaConnection(self.dispatcher, self.transport, ADVERTISED, "198.51.100.1:5")
        self._correlation = 0
        self._read = 0
        self._expected: list[tuple[int, int]] = []

    def another(self) -> DoorClient:
        """Another connection to the same door."""
        return DoorClient(self.node, dispatcher=self.dispatcher)

    def feed(self, data: bytes, run: bool = True) -> None:
        """Pass on bytes as a socket would: in pieces that fit, while reading is not paused. BlockingIOError
        if bytes are left when it stays paused."""
        while data and not self.transport.closed:
            space = self.connection.receive_buffer()
            count = min(len(space), len(data))
            space[:count] = data[:count]
            space.release()
            data = data[count:]
            self.connection.received(count)
            if run or (data and self.transport.paused):
                self.clock.run()
            if self.transport.paused and data and not self.transport.closed:
                raise BlockingIOError(len(data))

    def send(self, key: int, version: int, message: Message, *, client_id: str | None = "test") -> None:
        """Send a request."""
        self.feed(self.frame(key, version, message, client_id=client_id))

    def frame(self, key: int, version: int, message: Message, *, client_id: str | None = "test") -> bytes:
        """The bytes of a request; `replies` expects its reply."""
        self._correlation += 1
        self._expected.append((key, version))
        return request_frame(key, version, self._correlation, message, client_id=client_id)

    def replies(self) -> list[Message]:
        """The decoded replies since the last call. AssertionError if their order or lengths are wrong."""
        out = []
        sent = memoryview(bytes(self.transport.sent))
        while self._read + 4 <= len(sent):
            size = int.from_bytes(sent[self._read : self._read + 4], "big")
            body = sent[self._read + 4 : self._read + 4 + size]
            self._read += 4 + size
            key, version = self._expected.pop(0)
            expected = self._correlation - len(self._expected)
            assert int.from_bytes(body[:4], "big") == expected
            out.append(decode_reply(key, version, body))
        return out

    def call(self, key: int, version: int, message: Message) -> Message:
        """Send a request and return its reply, which has to be ready at once."""
        self.send(key, version, message)
        (answer,) = self.replies()
        return answer


def request_frame(
    key: int, version: int, correlation_id: int, message: Message, *, client_id: str | None = "test"
) -> bytes:
    head = key.to_bytes(2, "big") + version.to_bytes(2, "big") + correlation_id.to_bytes(4, "big")
    name = b"\xff\xff"
    if client_id is not None:
        name = len(client_id.encode()).to_bytes(2, "big") + client_id.encode()
    tags = b"\0" if version >= api(key).request.flexible else b""
    body = head + name + tags + bytes(write_request(key, version, message))
    return len(body).to_bytes(4, "big") + body


def receive_exactly(sock: socket.socket, count: int) -> bytes:
    """Read `count` bytes; ConnectionError if the server closes the connection."""
    data = b""
    while len(data) < count:
        more = sock.recv(count - len(data))
        if not more:
            raise ConnectionError("the server closed the connection")
        data += more
    return data


def receive_reply(sock: socket.socket, key: int, version: int) -> Message:
    """Read a reply to such a request."""
    size = int.from_bytes(receive_exactly(sock, 4), "big")
    return decode_reply(key, version, memoryview(receive_exactly(sock, size)))


def decode_reply(key: int, version: int, frame: memoryview) -> Message:
    """Decode the frame of a reply, without its length. AssertionError if bytes are left."""
    shape = api(key).response
    flexible = version >= shape.flexible
    position = 5 if flexible and key != 18 else 4
    message, end = _struct_reader(shape.fields, version, flexible)[0](frame, position)
    assert end == len(frame)
    assert isinstance(message, Message)
    return message


def batch(*values: bytes, timestamp_ms: int = 1_000, **options: Any) -> bytearray:
    """A batch of records without keys."""
    return batches.build([(None, value, (), timestamp_ms + n) for n, value in enumerate(values)], **options)


def init_producer_id(producer_id: int = -1, epoch: int = -1) -> Message:
    """InitProducerId of an idempotent producer; with its id and epoch, for the next epoch."""
    return Message(
        transactional_id=None, transaction_timeout=1000, producer_id=producer_id, producer_epoch=epoch
    )


def produce_request(
    topic: str | UUID,
    records: bytes | bytearray | None,
    *,
    index: int = 0,
    acks: int = -1,
    timeout: int = 1000,
    **more: Any,
) -> Message:
    name = {"topic_id": topic} if isinstance(topic, UUID) else {"name": topic}
    partition = Message(index=index, records=records)
    return Message(
        acks=acks, timeout=timeout, topic_data=[Message(**name, partition_data=[partition])], **more
    )


def fetch_request(*positions: tuple[str | UUID, int, int], max_wait: int = 0, **more: Any) -> Message:
    """A Fetch request for (topic, partition, offset) ..."""
    topics = []
    for topic, index, offset in positions:
        name = {"topic_id": topic} if isinstance(topic, UUID) else {"topic": topic}
        partition = Message(partition=index, fetch_offset=offset, partition_max_bytes=1 << 20)
        topics.append(Message(**name, partitions=[partition]))
    more.setdefault("min_bytes", 1)
    return Message(max_wait=max_wait, topics=topics, **more)
