"""Connections to the brokers of a cluster, and spans of a partition read through them. Blocking: for workers.

Owns: which broker leads what, asking again when that moves or a broker is away, and which of the batches that
come are visible: neither markers of transactions nor what belongs to one that was given up (Kafka's rules for
`read_committed`), nor the empty batches that compaction leaves. Refuses: decoding, and to take silence for an
end: a span ends at its last offset, at the last stable one, or where the broker has no batch any more.
"""

from __future__ import annotations

import socket
import struct
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple
from uuid import UUID

from mainstem.clock import BlockingClock
from mainstem.log.errors import CorruptBatch
from mainstem.log.storage.record_batch import (
    HEADER_BYTES,
    LENGTH_OVERHEAD,
    MAGIC,
    BatchHeader,
    decode,
    read_header,
)
from mainstem.search.blocks.batches import DataDeleted
from mainstem.search.cluster import client_protocol as wire
from mainstem.search.cluster.client_protocol import (
    BrokerAddress,
    ClusterMetadata,
    FetchReply,
    MalformedReply,
    TopicPartition,
)

CONNECT_TIMEOUT_S = 5.0
REPLY_TIMEOUT_S = 15.0
RETRY_S = 10.0
"""So long a partition without a leader, or a broker that does not answer, is asked again."""
PAUSE_S = 0.2
REPLY_BYTES_MAX = 256 << 20
FETCH_BYTES = 4 << 20
FETCH_BYTES_MIN = 64 << 10
FETCH_WAIT_MS = 500
EMPTY_REPLIES_MAX = 3
"""After so many answers without a batch, before the last stable offset, there is none: compaction has removed
what was there. Brokers that fetch old segments from elsewhere answer so once or twice."""
RETAINED_BYTES = 32 << 20
"""Of a span that is searched backwards. One that is larger is read twice."""

OUT_OF_RANGE, UNKNOWN_TOPIC, UNKNOWN_TOPIC_ID, INCONSISTENT_ID = 1, 3, 100, 103
RETRIABLE = frozenset({5, 6, 7, 8, 9, 13, 56, 74, 75, 78})
"""Errors that pass: no leader at the moment, another one, a broker that starts."""
ERROR_TEXTS = {
    -1: "the broker failed to read it",
    2: "the broker found it damaged",
    UNKNOWN_TOPIC: "there is no such topic or partition",
    29: "reading this topic is not allowed",
    76: "the broker does not support its codec",
}


class ClusterError(Exception):
    """What a broker refuses, or that it does not answer; for people."""


class TopicIdPartition(NamedTuple):
    """A partition. `topic_id`: None where the cluster has no ids."""

    topic: str
    topic_id: UUID | None
    partition: int


class BrokerConnection:
    """One connection. What nobody waits for any more is passed over when it comes."""

    def __init__(self, host: str, port: int) -> None:
        self._socket = socket.create_connection((host, port), CONNECT_TIMEOUT_S)
        self._socket.settimeout(REPLY_TIMEOUT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._next = 0
        self.versions = wire.api_versions(self.call(wire.API_VERSIONS, 0, b""))

    def send(self, api: int, version: int, body: bytes, *, flexible: bool = False) -> int:
        """Ask; the number of the answer."""
        self._next += 1
        self._socket.sendall(wire.request(api, version, self._next, body, flexible=flexible))
        return self._next

    def receive(self, number: int) -> memoryview:
        """The answer with this number, without its number."""
        while True:
            size, got = struct.unpack(">ii", self._exactly(8))
            if not 4 <= size <= REPLY_BYTES_MAX:
                raise MalformedReply(f"an answer of {size} bytes")
            body = self._exactly(size - 4)
            if got == number:
                return body

    def call(self, api: int, version: int, body: bytes, *, flexible: bool = False) -> memoryview:
        """Both."""
        return self.receive(self.send(api, version, body, flexible=flexible))

    def _exactly(self, size: int) -> memoryview:
        into = memoryview(bytearray(size))
        at = 0
        while at < size:
            got = self._socket.recv_into(into[at:])
            if not got:
                raise ConnectionError("it closed the connection")
            at += got
        return into

    def close(self) -> None:
        """Idempotent."""
        self._socket.close()


class BrokerClient:
    """The brokers. `addresses`: where to begin."""

    def __init__(self, addresses: Sequence[tuple[str, int]], clock: BlockingClock) -> None:
        self.clock = clock
        self._addresses = list(addresses)
        self._brokers: dict[int, BrokerAddress] = {}
        self._connections: dict[tuple[str, int], BrokerConnection] = {}
        self._leaders: dict[TopicPartition, int] = {}
        self._down_since: dict[tuple[str, int], float] = {}
        self._silent_since: float | None = None

    def connection(self, host: str, port: int) -> BrokerConnection:
        """A connection to this broker. ClusterError."""
        where = host, port
        if where not in self._connections:
            try:
                self._connections[where] = BrokerConnection(host, port)
            except (OSError, MalformedReply) as error:
                self._down_since.setdefault(where, self.clock.monotonic())
                raise ClusterError(f"broker {host}:{port} does not answer ({_reason(error)})") from None
            self._down_since.pop(where, None)
        return self._connections[where]

    def discard(self, link: BrokerConnection) -> None:
        """It failed."""
        link.close()
        self._connections = {where: each for where, each in self._connections.items() if each is not link}

    def fetch_metadata(self, topics: Sequence[str] | None) -> ClusterMetadata:
        """Brokers and topics (None: all), asked of any broker. ClusterError: none answers."""
        known = [(each.host, each.port) for each in self._brokers.values()]
        problem = ClusterError("no broker is known")
        for where in dict.fromkeys([*self._connections, *known, *self._addresses]):
            try:
                link = self.connection(*where)
                ids = wire.has_ids(link.versions)
                body = wire.metadata_request(topics, ids=ids)
                data = link.call(wire.METADATA, 12 if ids else 4, body, flexible=ids)
                found = wire.metadata_reply(data, ids=ids)
            except ClusterError as error:
                problem = error
            except (OSError, MalformedReply) as error:
                problem = ClusterError(f"broker {where[0]}:{where[1]}: {_reason(error)}")
                self.discard(link)
            else:
                self._brokers = {each.id: each for each in found.brokers}
                for topic in found.topics:
                    for each in topic.partitions:
                        self._leaders[topic.name, each.partition] = each.leader
                self._silent_since = None
                return found
        self._silent_since = self._silent_since or self.clock.monotonic()
        raise problem

    def leader(self, where: TopicPartition) -> BrokerConnection:
        """A connection to the partition's leader, as it was when last asked. ClusterError."""
        if where not in self._leaders:
            self.fetch_metadata([where[0]])
        broker = self._brokers.get(self._leaders.get(where, -1))
        if broker is None:
            raise ClusterError("it has no leader")
        return self.connection(broker.host, broker.port)

    def forget_leader(self, where: TopicPartition) -> None:
        """Its leader may be another one."""
        self._leaders.pop(where, None)

    def retry_time_left_s(self, where: TopicPartition) -> float:
        """How long it is worth to ask again: not for each partition of brokers that are away."""
        broker = self._brokers.get(self._leaders.get(where, -1))
        down = None if broker is None else self._down_since.get((broker.host, broker.port))
        since = [each for each in (down, self._silent_since) if each is not None]
        return RETRY_S - (self.clock.monotonic() - min(since)) if since else RETRY_S

    def close(self) -> None:
        """All connections."""
        for link in self._connections.values():
            link.close()
        self._connections.clear()


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    return str(error.strerror or error) if isinstance(error, OSError) else f"no Kafka: {error}"


# ----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class FetchedChunk:
    """Some whole batches of a span."""

    low: int
    high: int
    """It holds all that is visible of these offsets."""
    size: int
    """Bytes that were read for it."""
    data: memoryview
    """The visible batches, one after the other."""
    unreadable: list[tuple[int, str]] = field(default_factory=list)
    """Where something lies that cannot be read, and why."""


def visible_batches(
    records: memoryview, aborted: Sequence[tuple[int, int]], low: int, high: int
) -> FetchedChunk:
    """The batches of an answer with offsets from `low` to before `high`. The last one may be cut off."""
    chunk = FetchedChunk(low, low, 0, memoryview(b""))
    hidden = _AbortedTransactions(aborted)
    kept: list[tuple[int, int]] = []
    at = 0
    while at + HEADER_BYTES <= len(records) and chunk.high < high:
        header = read_header(records, at)
        end = at + header.total_bytes
        if header.base_offset >= high:
            chunk.high = high
            break
        if header.magic == MAGIC and not _sound(header):
            break
        if end > len(records) or header.length <= 0:
            break
        if header.magic != MAGIC:
            chunk.unreadable.append(
                (header.base_offset, f"it has the record format {header.magic}, of Kafka 0.10")
            )
            chunk.high = header.base_offset + 1
        else:
            shown = header.count > 0 and not hidden.hides(header, records[at:end])
            if shown and kept and kept[-1][1] == at:
                kept[-1] = kept[-1][0], end
            elif shown:
                kept.append((at, end))
            chunk.high = header.next_offset
        at = end
    chunk.size = at
    pieces = [records[start:end] for start, end in kept]
    chunk.data = pieces[0] if len(pieces) == 1 else memoryview(b"".join(pieces))
    return chunk


def _sound(header: BatchHeader) -> bool:
    """As `plausible`; but a batch that compaction has emptied keeps its header."""
    return (
        header.length >= HEADER_BYTES - LENGTH_OVERHEAD
        and header.base_offset >= 0
        and 0 <= header.count <= header.last_offset_delta + 1
    )


class _AbortedTransactions:
    """Which batches belong to transactions that were given up, as they come: as Kafka's consumer does it."""

    def __init__(self, aborted: Sequence[tuple[int, int]]) -> None:
        self._waiting = deque(sorted(aborted, key=lambda each: each[1]))
        self._producers: set[int] = set()

    def hides(self, header: BatchHeader, batch: memoryview) -> bool:
        while self._waiting and self._waiting[0][1] <= header.last_offset:
            self._producers.add(self._waiting.popleft()[0])
        if header.is_control:
            if header.producer_id in self._producers and _ends_aborted(batch):
                self._producers.discard(header.producer_id)
            return True
        return header.is_transactional and header.producer_id in self._producers


def _ends_aborted(batch: memoryview) -> bool:
    """This marker gives a transaction up: its key is version and kind, 0: aborted."""
    try:
        key = decode(batch)[0].key or b""
    except (CorruptBatch, IndexError):
        return False
    return key[2:4] == b"\0\0"


# ----------------------------------------------------------------------------------------------------------


class SpanReader:
    """Offsets of a partition, read in chunks. `about_bytes`: how much that may be."""

    def __init__(
        self,
        cluster: BrokerClient,
        place: TopicIdPartition,
        low: int,
        high: int,
        about_bytes: int,
        cancelled: Callable[[], bool],
    ) -> None:
        self._cluster, self._place, self._cancelled = cluster, place, cancelled
        self._low, self._high = low, high
        self._mean_bytes = max(1.0, about_bytes / max(1, high - low))
        self._ahead: tuple[BrokerConnection, int, int] | None = None

    def forwards(self) -> Iterator[FetchedChunk]:
        """All of it, oldest first. DataDeleted: it was deleted. ClusterError. Ends early when cancelled."""
        return self._chunks(self._low, self._high)

    def backwards(self) -> Iterator[FetchedChunk]:
        """All of it, newest first. Errors as above."""
        chunks: list[tuple[int, int, FetchedChunk | None]] = []
        held_bytes, oldest_held = 0, 0
        for chunk in self.forwards():
            chunks.append((chunk.low, chunk.high, chunk))
            held_bytes += chunk.size
            while held_bytes > RETAINED_BYTES and oldest_held < len(chunks) - 1:
                low, high, held = chunks[oldest_held]
                held_bytes -= held.size if held is not None else 0
                chunks[oldest_held] = low, high, None
                oldest_held += 1
        while chunks:
            low, high, held = chunks.pop()
            if held is not None:
                yield held
            else:
                yield from reversed(list(self._chunks(low, high)))

    def _chunks(self, low: int, high: int) -> Iterator[FetchedChunk]:
        offset, empty = low, 0
        while offset < high and not self._cancelled():
            try:
                found = self._fetched(offset, high)
            except _FetchOutOfRange:
                offset = self._begin(offset, high)
                continue
            chunk = visible_batches(found.records, found.aborted, offset, high)
            if chunk.high > offset:
                empty = 0
                offset = chunk.high
                self._ask_ahead(offset, high)
                yield chunk
            elif len(found.records):
                chunk.high, chunk.size = high, len(found.records)
                chunk.unreadable.append((offset, f"{len(found.records):,} bytes are no batch"))
                yield chunk
                return
            elif found.throttled_ms:
                self._cluster.clock.sleep(min(1.0, found.throttled_ms / 1000))
            elif 0 <= found.stable_end <= offset or (empty := empty + 1) >= EMPTY_REPLIES_MAX:
                return

    def _max_bytes(self, offset: int, high: int) -> int:
        """Little more than is wanted."""
        wanted = int((high - offset) * self._mean_bytes * 1.1)
        return max(FETCH_BYTES_MIN, min(FETCH_BYTES, wanted))

    def _ask_ahead(self, offset: int, high: int) -> None:
        """Let the broker work while we do."""
        if offset < high:
            try:
                link = self._cluster.leader((self._place.topic, self._place.partition))
                self._ahead = link, self._send(link, offset, high), offset
            except (OSError, ClusterError):
                self._ahead = None  # it will be told when it is asked for

    def _send(self, link: BrokerConnection, offset: int, high: int) -> int:
        place = self._place
        topic_id = place.topic_id if wire.has_ids(link.versions) else None
        body = wire.fetch_request(
            place.topic,
            topic_id,
            place.partition,
            offset,
            wait_ms=FETCH_WAIT_MS,
            max_bytes=self._max_bytes(offset, high),
        )
        return link.send(wire.FETCH, 4 if topic_id is None else 13, body, flexible=topic_id is not None)

    def _fetched(self, offset: int, high: int) -> FetchReply:
        """An answer without error. Asks again while that may help."""
        where = self._place.topic, self._place.partition
        clock = self._cluster.clock
        started = clock.monotonic()
        while True:
            found = None
            try:
                found = self._ask(offset, high)
                if not found.error:
                    return found
                problem = ClusterError(
                    ERROR_TEXTS.get(found.error, f"the broker refuses with error {found.error}")
                )
                if found.error == OUT_OF_RANGE:
                    raise _FetchOutOfRange
                if found.error not in RETRIABLE | {UNKNOWN_TOPIC, UNKNOWN_TOPIC_ID, INCONSISTENT_ID}:
                    raise problem
            except (OSError, MalformedReply) as error:
                problem = ClusterError(_reason(error))
            except ClusterError as error:
                if found is not None:
                    raise
                problem = error
            self._cluster.forget_leader(where)
            if self._is_gone():
                raise DataDeleted(f"{where[0]} {where[1]}")
            waited_s = clock.monotonic() - started
            if waited_s >= self._cluster.retry_time_left_s(where) or self._cancelled():
                raise ClusterError(f"{problem}; asked for {waited_s:.0f} s")
            clock.sleep(PAUSE_S)

    def _ask(self, offset: int, high: int) -> FetchReply:
        ahead, self._ahead = self._ahead, None
        link = self._cluster.leader((self._place.topic, self._place.partition))
        try:
            if ahead is not None and ahead[0] is link and ahead[2] == offset:
                number = ahead[1]
            else:
                number = self._send(link, offset, high)
            ids = self._place.topic_id is not None and wire.has_ids(link.versions)
            return wire.fetch_reply(link.receive(number), ids=ids)
        except (OSError, MalformedReply):
            self._cluster.discard(link)
            raise

    def _is_gone(self) -> bool:
        """The topic was deleted, or another one has its name now."""
        try:
            topics = self._cluster.fetch_metadata([self._place.topic]).topics
        except ClusterError:
            return False
        found = next((each for each in topics if each.name == self._place.topic), None)
        if found is None or found.error == UNKNOWN_TOPIC:
            return True
        return found.error == 0 and self._place.topic_id is not None and found.id != self._place.topic_id

    def _begin(self, offset: int, high: int) -> int:
        """Where the partition begins now, which is after `offset`. DataDeleted: behind the span."""
        where = self._place.topic, self._place.partition
        try:
            body = wire.list_offsets_request({where: wire.EARLIEST})
            data = self._cluster.leader(where).call(wire.LIST_OFFSETS, 2, body)
            begin = wire.list_offsets_reply(data)[where].offset
        except (OSError, MalformedReply, KeyError) as error:
            raise ClusterError(_reason(error) if not isinstance(error, KeyError) else "no answer") from None
        if not offset < begin < high:
            raise DataDeleted(f"{where[0]} {where[1]}")
        return begin


class _FetchOutOfRange(Exception):
    """The offset is not there."""
