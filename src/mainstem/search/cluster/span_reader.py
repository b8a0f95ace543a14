"""Reads a span of offsets of one partition from its leader. Blocking: for search workers.

Owns: which batches are visible: neither transaction markers nor batches of aborted transactions (Kafka's
rules for `read_committed`), nor the empty batches that compaction leaves; and retrying while the leader moves
or is away. Refuses: to decode records, and to treat a missing reply as the end of the data: a span ends at
its last offset, at the last stable offset, or where the broker has no further batch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple
from uuid import UUID

from mainstem.kafka_protocol.message import ProtocolError
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
from mainstem.search.cluster.broker_client import (
    INCONSISTENT_ID,
    OUT_OF_RANGE,
    PAUSE_S,
    RETRIABLE,
    UNKNOWN_TOPIC,
    UNKNOWN_TOPIC_ID,
    BrokerClient,
    BrokerConnection,
    ClusterError,
    SentRequest,
    reason_of,
    refusal,
)
from mainstem.search.cluster.client_protocol import BrokerRequest, FetchReply, TopicPartition

FETCH_BYTES = 4 << 20
FETCH_BYTES_MIN = 64 << 10
FETCH_MARGIN = 1.1
"""Factor by which a request is larger than the expected size of the rest of a span: usually one is then
enough."""
FETCH_WAIT_MS = 500
THROTTLE_PAUSE_MAX_S = 1.0
EMPTY_REPLIES_MAX = 3
"""After this many replies without a batch below the last stable offset, the rest of the span is empty:
compaction removed it. Brokers that fetch old segments from remote storage answer once or twice like this."""
RETAINED_BYTES = 32 << 20
"""Bytes of a span to keep in memory while it is searched backwards. A larger span is read twice."""

_ABORT_MARKER = b"\0\0"


class TopicIdPartition(NamedTuple):
    """A partition. `topic_id`: None if the cluster has no topic ids."""

    topic: str
    topic_id: UUID | None
    partition: int


@dataclass(slots=True)
class FetchedChunk:
    """Consecutive whole batches of a span."""

    low: int
    high: int
    """The chunk has every visible batch with offsets from `low` to before `high`."""
    size: int
    """Bytes that were read for the chunk, with invisible batches."""
    data: memoryview
    """The visible batches, one after the other."""
    unreadable: list[tuple[int, str]] = field(default_factory=list)
    """(first offset, reason) of each range of the chunk that cannot be read."""


def visible_batches(
    records: memoryview, aborted: Sequence[tuple[int, int]], low: int, high: int
) -> FetchedChunk:
    """The visible batches of a Fetch reply with offsets from `low` to before `high`. `records` may end inside
    a batch, which is left out."""
    assert low <= high, "a span does not end before it begins"
    chunk = FetchedChunk(low, low, 0, memoryview(b""))
    transactions = _AbortedTransactions(aborted)
    visible: list[tuple[int, int]] = []
    position = 0
    while position + HEADER_BYTES <= len(records) and chunk.high < high:
        header = read_header(records, position)
        end = position + header.total_bytes
        if header.base_offset >= high:
            chunk.high = high
            break
        if header.magic == MAGIC and not _is_plausible(header):
            break
        if end > len(records) or header.length <= 0:
            break
        if header.magic != MAGIC:
            chunk.unreadable.append(
                (header.base_offset, f"it has record format {header.magic}, of Kafka 0.10 and earlier")
            )
            chunk.high = header.base_offset + 1
        else:
            is_visible = header.count > 0 and not transactions.hides(header, records[position:end])
            if is_visible and visible and visible[-1][1] == position:
                visible[-1] = visible[-1][0], end
            elif is_visible:
                visible.append((position, end))
            chunk.high = header.next_offset
        position = end
    chunk.size = position
    ranges = [records[start:end] for start, end in visible]
    chunk.data = ranges[0] if len(ranges) == 1 else memoryview(b"".join(ranges))
    return chunk


def _is_plausible(header: BatchHeader) -> bool:
    """Whether the header can be that of a batch of any Kafka broker. Unlike `BatchHeader.is_plausible`, it
    accepts a batch without records that is longer than its header. The caller has checked `magic`."""
    return (
        header.length >= HEADER_BYTES - LENGTH_OVERHEAD
        and header.base_offset >= 0
        and 0 <= header.count <= header.last_offset_delta + 1
    )


class _AbortedTransactions:
    """Decides which batches belong to aborted transactions, as Kafka's consumer does. Batches must be passed
    in the order of their offsets."""

    def __init__(self, aborted: Sequence[tuple[int, int]]) -> None:
        self._upcoming = deque(sorted(aborted, key=lambda transaction: transaction[1]))
        self._producers: set[int] = set()

    def hides(self, header: BatchHeader, batch: memoryview) -> bool:
        """Whether a reader of committed events does not see this batch."""
        while self._upcoming and self._upcoming[0][1] <= header.last_offset:
            self._producers.add(self._upcoming.popleft()[0])
        if header.is_control:
            if header.producer_id in self._producers and _is_abort_marker(batch):
                self._producers.discard(header.producer_id)
            return True
        return header.is_transactional and header.producer_id in self._producers


def _is_abort_marker(batch: memoryview) -> bool:
    """Whether this control batch aborts a transaction. Its key is two bytes of version and two of type."""
    try:
        key = decode(batch)[0].key or b""
    except (CorruptBatch, IndexError):
        return False
    return key[2:4] == _ABORT_MARKER


class SpanReader:
    """Reads the offsets from `low` to before `high` of a partition in chunks. `expected_bytes`: about how
    many bytes they have."""

    def __init__(
        self,
        cluster: BrokerClient,
        partition: TopicIdPartition,
        low: int,
        high: int,
        expected_bytes: int,
        cancelled: Callable[[], bool],
    ) -> None:
        self._cluster, self._partition, self._cancelled = cluster, partition, cancelled
        self._low, self._high = low, high
        self._mean_bytes = max(1.0, expected_bytes / max(1, high - low))
        self._prefetched: tuple[BrokerConnection, SentRequest, int] | None = None

    @property
    def _topic_partition(self) -> TopicPartition:
        return self._partition.topic, self._partition.partition

    def forwards(self) -> Iterator[FetchedChunk]:
        """The chunks of the span, oldest first. They end early when the request is cancelled. Raises
        DataDeleted, ClusterError."""
        return self._chunks(self._low, self._high)

    def backwards(self) -> Iterator[FetchedChunk]:
        """The chunks of the span, newest first. Raises DataDeleted, ClusterError."""
        chunks: list[tuple[int, int, FetchedChunk | None]] = []
        retained_bytes, oldest_retained = 0, 0
        for chunk in self.forwards():
            chunks.append((chunk.low, chunk.high, chunk))
            retained_bytes += chunk.size
            while retained_bytes > RETAINED_BYTES and oldest_retained < len(chunks) - 1:
                low, high, dropped = chunks[oldest_retained]
                retained_bytes -= dropped.size if dropped is not None else 0
                chunks[oldest_retained] = low, high, None
                oldest_retained += 1
        while chunks:
            low, high, retained = chunks.pop()
            if retained is not None:
                yield retained
            else:
                yield from reversed(list(self._chunks(low, high)))

    def _chunks(self, low: int, high: int) -> Iterator[FetchedChunk]:
        offset, empty_replies = low, 0
        while offset < high and not self._cancelled():
            try:
                reply = self._fetch_with_retries(offset, high)
            except _FetchOutOfRange:
                offset = self._log_start_after(offset, high)
                continue
            chunk = visible_batches(reply.records, reply.aborted, offset, high)
            if chunk.high > offset:
                empty_replies = 0
                offset = chunk.high
                self._prefetch(offset, high)
                yield chunk
            elif len(reply.records):
                chunk.high, chunk.size = high, len(reply.records)
                chunk.unreadable.append((offset, f"{len(reply.records):,} bytes are not a batch"))
                yield chunk
                return
            elif reply.throttled_ms:
                self._cluster.clock.sleep(min(THROTTLE_PAUSE_MAX_S, reply.throttled_ms / 1000))
            else:
                empty_replies += 1
                if 0 <= reply.last_stable_offset <= offset or empty_replies >= EMPTY_REPLIES_MAX:
                    return

    def _prefetch(self, offset: int, high: int) -> None:
        """Send the request for the next chunk now: the broker works on it while the caller searches the last
        one."""
        if offset < high:
            try:
                connection = self._cluster.leader(self._topic_partition)
                self._prefetched = (
                    connection,
                    connection.send(self._request(connection, offset, high)),
                    offset,
                )
            except (OSError, ClusterError):
                self._prefetched = None  # the error is reported when this offset is fetched

    def _request(self, connection: BrokerConnection, offset: int, high: int) -> BrokerRequest:
        topic, topic_id, partition = self._partition
        expected_bytes = int((high - offset) * self._mean_bytes * FETCH_MARGIN)
        return wire.fetch_request(
            topic,
            topic_id if wire.has_topic_ids(connection.versions) else None,
            partition,
            offset,
            wait_ms=FETCH_WAIT_MS,
            max_bytes=max(FETCH_BYTES_MIN, min(FETCH_BYTES, expected_bytes)),
        )

    def _fetch_with_retries(self, offset: int, high: int) -> FetchReply:
        """The reply to a Fetch from `offset`, without an error. Raises _FetchOutOfRange, DataDeleted, and
        ClusterError: at once if retries cannot help, else when the time for retries is over."""
        clock = self._cluster.clock
        started = clock.monotonic()
        while True:
            try:
                reply = self._fetch(offset, high)
            except (OSError, ProtocolError) as error:
                problem = ClusterError(reason_of(error))
            except ClusterError as error:
                problem = error
            else:
                if not reply.error:
                    return reply
                if reply.error == OUT_OF_RANGE:
                    raise _FetchOutOfRange
                problem = refusal(reply.error)
                if reply.error not in RETRIABLE | {UNKNOWN_TOPIC, UNKNOWN_TOPIC_ID, INCONSISTENT_ID}:
                    raise problem
            self._cluster.forget_leader(self._topic_partition)
            if self._is_topic_deleted():
                raise DataDeleted(f"{self._partition.topic} {self._partition.partition}")
            retried_s = clock.monotonic() - started
            if retried_s >= self._cluster.retry_time_left_s(self._topic_partition) or self._cancelled():
                raise ClusterError(f"{problem}; retried for {retried_s:.0f} s")
            clock.sleep(PAUSE_S)

    def _fetch(self, offset: int, high: int) -> FetchReply:
        prefetched, self._prefetched = self._prefetched, None
        connection = self._cluster.leader(self._topic_partition)
        try:
            if prefetched is not None and prefetched[0] is connection and prefetched[2] == offset:
                sent = prefetched[1]
            else:
                sent = connection.send(self._request(connection, offset, high))
            return wire.fetch_reply(connection.receive(sent))
        except (OSError, ProtocolError):
            self._cluster.discard(connection)
            raise

    def _is_topic_deleted(self) -> bool:
        """Whether the topic was deleted, or another topic has its name now."""
        name, topic_id, _ = self._partition
        try:
            topics = self._cluster.fetch_metadata([name]).topics
        except ClusterError:
            return False
        topic = next((topic for topic in topics if topic.name == name), None)
        if topic is None or topic.error == UNKNOWN_TOPIC:
            return True
        return topic.error == 0 and topic_id is not None and topic.id != topic_id

    def _log_start_after(self, offset: int, high: int) -> int:
        """The first offset that the partition has now, if it is between `offset` and `high`. Raises
        DataDeleted if it is not, because the rest of the span was deleted, and ClusterError."""
        partition = self._topic_partition
        try:
            reply = self._cluster.leader(partition).call(
                wire.list_offsets_request({partition: wire.EARLIEST})
            )
            log_start = wire.list_offsets_reply(reply)[partition].offset
        except (OSError, ProtocolError) as error:
            raise ClusterError(reason_of(error)) from None
        except KeyError:
            raise ClusterError("the broker's reply lacks the partition") from None
        if not offset < log_start < high:
            raise DataDeleted(f"{self._partition.topic} {self._partition.partition}")
        return log_start


class _FetchOutOfRange(Exception):
    """Raised if the leader does not have the fetched offset, because older events were deleted."""
