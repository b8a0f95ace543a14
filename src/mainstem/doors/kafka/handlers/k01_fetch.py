"""1 Fetch.

Versions: 4-18. Behaviour: whole batches as they are on disk, never past the watermark. Waits until
`min_bytes` are there or `max_wait` is over; an error of one partition ends the wait. The partitions are
read from a place that moves with each request, so that a small `max_bytes` serves all in turn; the first
one that has a batch gives it whatever its size. A reply has 4 MB at most, less when many clients are slow
to take theirs. A partition whose bytes must come from the disk is left out of a reply that has enough
without it; they are in memory by the next one. Notes: v5 adds the log start offset, v7 sessions (KIP-227),
v9 the leader epoch (KIP-320), v11 the rack, v12 is flexible and tells where the logs part, v13 names topics
by id (KIP-516). Left out: fetch sessions, answered with session id 0, which turns them off; followers;
preferred_read_replica is -1; aborted transactions are an empty list for read_committed, because there are
no transactions yet, and the last stable offset is the high watermark; current_leader and node_endpoints, as
there is only one node.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from mainstem.clock import Timer
from mainstem.coordinator.errors import UnknownTopicOrPartition
from mainstem.doors.kafka.errors import ErrorCode, code_of, is_refusal
from mainstem.doors.kafka.fast_replies import FETCH_TOPIC_IDS, FetchResult, TopicKey, fetch_reply
from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.doors.kafka.lookup import epoch_error
from mainstem.kafka_protocol.message import Buffer, Message
from mainstem.promise import Promise

if TYPE_CHECKING:
    from mainstem.log.partition.partition import BatchSlice, Partition

REPLY_BYTES = 4 << 20
"""Read in one go on the event loop: about 1.5 ms, which is what another client may have to wait."""
SLOW_REPLIES_BYTES = 64 << 20
"""Of all replies that wait for slow clients, about."""
READ_COMMITTED = 1


class _PartitionFetch:
    """One partition of a request."""

    __slots__ = ("diverging", "error", "index", "max_bytes", "offset", "partition", "records")

    def __init__(self, index: int, offset: int, max_bytes: int) -> None:
        self.index = index
        self.offset = offset
        self.max_bytes = max_bytes
        self.partition: Partition | None = None
        self.error = 0
        self.records: Buffer = b""
        self.diverging: tuple[int, int] | None = None

    def available(self) -> int:
        """Bytes that a read would give now, about; never 0 when there are some."""
        partition = self.partition
        if partition is None or self.error or self.offset >= partition.high_watermark:
            return 0
        return max(1, min(self.max_bytes, partition.available_bytes(self.offset)))

    def fetched(self, read_committed: bool) -> FetchResult:
        """What the reply says of it."""
        partition = self.partition
        if partition is None or self.error:
            return FetchResult(self.index, self.error, aborted=True)
        return FetchResult(
            self.index,
            0,
            partition.high_watermark,
            partition.high_watermark,
            partition.log_start_offset,
            self.records,
            read_committed,
            self.diverging,
        )


class _PendingFetch:
    """One request, from the wait for events to the reply."""

    __slots__ = (
        "_cancel_on_close",
        "_checking",
        "_context",
        "_left_bytes",
        "_order",
        "_read_bytes",
        "_request",
        "_timer",
        "_topics",
        "later",
    )

    def __init__(self, context: HandlerContext, request: Request) -> None:
        body = request.body
        self._context = context
        self._request = request
        self._topics: list[tuple[TopicKey, list[_PartitionFetch]]] = []
        self._order: list[_PartitionFetch] = []
        self._left_bytes = min(
            body.max_bytes,
            context.settings.fetch_max_bytes,
            REPLY_BYTES,
            SLOW_REPLIES_BYTES // (context.slow_clients + 1),
        )
        self._read_bytes = 0
        self._timer: Timer | None = None
        self._cancel_on_close: Callable[[], None] | None = None
        self._checking = False
        self.later: Promise[list[Buffer]] | None = None
        for asked in body.topics:
            self._topics.append(self._resolve(asked))
        if len(self._order) > 1:
            first = (request.correlation_id * 2654435761 >> 8) % len(self._order)
            self._order = self._order[first:] + self._order[:first]

    @property
    def _missing(self) -> int:
        by_id = self._request.version >= FETCH_TOPIC_IDS
        return ErrorCode.UNKNOWN_TOPIC_ID if by_id else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION

    def _resolve(self, asked: Message) -> tuple[TopicKey, list[_PartitionFetch]]:
        """Find a topic's partitions and check what is asked of them."""
        key: TopicKey
        if self._request.version >= FETCH_TOPIC_IDS:
            key = asked.topic_id
            topic = self._context.topics.by_id(asked.topic_id)
        else:
            key = asked.topic
            topic = self._context.topics.get(asked.topic)
        found = []
        for part in asked.partitions:
            one = _PartitionFetch(part.partition, part.fetch_offset, part.partition_max_bytes)
            found.append(one)
            if topic is None:
                one.error = self._missing
                continue
            try:
                one.partition = self._context.node.partition(topic, one.index)
            except UnknownTopicOrPartition:
                one.error = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
                continue
            self._check(one, one.partition, part)
        self._order += found
        return key, found

    def _check(self, one: _PartitionFetch, partition: Partition, part: Message) -> None:
        one.error = epoch_error(partition, part.current_leader_epoch)
        if one.error:
            return
        if part.last_fetched_epoch >= 0:
            epoch, end = partition.epoch_end(part.last_fetched_epoch)
            if epoch < 0:
                one.error = ErrorCode.OFFSET_OUT_OF_RANGE
            elif epoch < part.last_fetched_epoch or end < one.offset:
                one.diverging = (epoch, end)
        elif not partition.log_start_offset <= one.offset <= partition.log_end_offset:
            one.error = ErrorCode.OFFSET_OUT_OF_RANGE

    def start(self) -> HandlerResult:
        """Reply now, or wait."""
        body = self._request.body
        if body.max_wait <= 0 or self._enough():
            return self._read(iter(self._order))
        self.later = Promise()
        for partition in self._partitions():
            partition.watch(self._on_watermark_moved)
        self._timer = self._context.clock.call_later(body.max_wait / 1000, self._finish)
        self._cancel_on_close = self._request.connection.on_close(self._stop_waiting)
        return self.later

    def _partitions(self) -> set[Partition]:
        return {one.partition for one in self._order if one.partition is not None}

    def _enough(self) -> bool:
        least: int = self._request.body.min_bytes
        available = 0
        for one in self._order:
            if one.error or one.diverging is not None:
                return True
            available += one.available()
            if available >= least:
                return True
        return available >= least

    def _on_watermark_moved(self, partition: Partition) -> None:
        """A watermark moved. Look at all of them in the next turn: one commit moves many."""
        if not self._checking:
            self._checking = True
            self._context.clock.call_soon(self._check_waiting)

    def _check_waiting(self) -> None:
        self._checking = False
        if self._cancel_on_close is None:
            return
        for one in self._order:
            partition = one.partition
            if partition is None or one.error:
                continue
            if partition.deleted:
                one.error = self._missing
            elif one.offset < partition.log_start_offset:
                one.error = ErrorCode.OFFSET_OUT_OF_RANGE
        if self._enough():
            self._finish()

    def _finish(self) -> None:
        """Waited enough, or for long enough."""
        if self._cancel_on_close is None:
            return
        self._cancel_on_close()
        self._stop_waiting()
        assert self.later is not None
        answer = self._read(iter(self._order))
        if isinstance(answer, list):
            self.later.resolve(answer)

    def _stop_waiting(self) -> None:
        self._cancel_on_close = None
        if self._timer is not None:
            self._timer.cancel()
        for partition in self._partitions():
            partition.unwatch(self._on_watermark_moved)

    def _read(self, rest: Iterator[_PartitionFetch]) -> list[Buffer] | Promise[list[Buffer]]:
        """Read one partition after the other, as far as the page cache reaches and the reply may grow."""
        for one in rest:
            partition = one.partition
            if partition is None or one.error or one.diverging is not None or self._left_bytes <= 0:
                continue
            if one.offset >= partition.high_watermark:
                continue
            try:
                read = partition.read(one.offset, min(one.max_bytes, self._left_bytes))
            except Exception as error:
                self._failed(one, error)
                continue
            if not isinstance(read, Promise):
                self._accept(one, read)
            elif read.done:
                self._on_read(one, read)
            elif self._read_bytes < max(self._request.body.min_bytes, 1):
                return self._wait_for(one, read, rest)
        return self._reply()

    def _wait_for(
        self, one: _PartitionFetch, read: Promise[BatchSlice], rest: Iterator[_PartitionFetch]
    ) -> Promise[list[Buffer]]:
        """Go on when the disk has answered."""
        later = self.later = self.later or Promise()

        def done(read: Promise[BatchSlice]) -> None:
            self._on_read(one, read)
            answer = self._read(rest)
            if isinstance(answer, list):
                later.resolve(answer)

        read.then(done)
        return later

    def _on_read(self, one: _PartitionFetch, read: Promise[BatchSlice]) -> None:
        if read.error is None:
            self._accept(one, read.result())
        else:
            self._failed(one, read.error)

    def _accept(self, one: _PartitionFetch, read: BatchSlice) -> None:
        """Put what was read into the reply. A batch that does not fit, unless it is the first, ends the
        reply: to read on would be to read every partition for nothing."""
        size = len(read.data)
        if size > self._left_bytes and self._read_bytes:
            self._left_bytes = 0
            return
        one.records = read.data
        self._read_bytes += size
        self._left_bytes -= size

    def _failed(self, one: _PartitionFetch, error: BaseException) -> None:
        one.error = code_of(error)
        if not is_refusal(error):
            self._context.fault(f"Fetch of partition {one.index}", error)

    def _reply(self) -> list[Buffer]:
        read_committed = self._request.body.isolation_level == READ_COMMITTED
        return fetch_reply(
            self._request.version,
            [(key, [one.fetched(read_committed) for one in found]) for key, found in self._topics],
        )


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    body = request.body
    if body.session_id or body.session_epoch > 0:
        return Message(error_code=ErrorCode.FETCH_SESSION_ID_NOT_FOUND)
    return _PendingFetch(context, request).start()


def on_error(request: Request, code: int) -> Message:
    """The same error for every partition."""
    return Message(
        responses=[
            Message(
                topic=topic.topic,
                topic_id=topic.topic_id,
                partitions=[
                    Message(
                        partition_index=part.partition,
                        error_code=code,
                        high_watermark=-1,
                        aborted_transactions=[],
                        records=b"",
                    )
                    for part in topic.partitions
                ],
            )
            for topic in request.body.topics
        ]
    )


HANDLER = Handler(key=1, versions=(4, 18), handle=handle, on_error=on_error)
