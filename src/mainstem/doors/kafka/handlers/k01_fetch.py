"""1 Fetch.

Versions: 4-18.
Behaviour: returns whole batches as they are on disk, never past the high watermark. Waits until `min_bytes`
are available or `max_wait` is over; an error of one partition ends the wait, as does the loss of the right to
read one. Each request starts with another partition, so that a small `max_bytes` serves all in turn; the
first partition that has a batch returns it whatever its size. A reply has at most 4 MB, less while many
clients read their replies slowly. A partition whose bytes must be read from the disk is left out of a reply
that has enough without it; they are in memory by the next request.
Notes: v5 adds the log start offset, v7 sessions (KIP-227), v9 the leader epoch (KIP-320), v11 the rack; v12
is flexible and reports where the client's log diverges; v13 names topics by id (KIP-516).
Left out: fetch sessions: the session id is always 0, which turns them off, and a request that continues one
(an epoch other than 0 and -1) is refused with FETCH_SESSION_ID_NOT_FOUND; followers; preferred_read_replica,
which is always -1; aborted transactions: for read_committed their list is empty and the last stable offset is
the high watermark, because there are no transactions yet; current_leader and node_endpoints, because there is
only one node.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from mainstem.access_contract import Operation, ResourceType
from mainstem.clock import Timer
from mainstem.coordinator.errors import UnknownTopicOrPartition
from mainstem.doors.kafka.errors import ErrorCode, code_of, is_refusal, leader_epoch_error
from mainstem.doors.kafka.fast_replies import FETCH_TOPIC_IDS, FetchResult, TopicKey, fetch_reply
from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.doors.kafka.rights import of_each
from mainstem.kafka_protocol.message import Buffer, Message
from mainstem.promise import Promise

if TYPE_CHECKING:
    from mainstem.log.partition.partition import BatchSlice, Partition

REPLY_BYTES = 4 << 20
"""Most bytes of a reply. They are read in one piece on the event loop, for about 1.5 ms, in which no other
client is served."""
SLOW_REPLIES_BYTES = 64 << 20
"""Most bytes, approximately, of all replies that slow clients have not read yet."""
READ_COMMITTED = 1
FULL_FETCH_NEW_SESSION = 0
FULL_FETCH_WITHOUT_SESSION = -1
"""The session epochs of a request that names all its partitions, whatever its session id: it ends the session
of that id, if there is one (Kafka: FetchMetadata.isFull)."""
READ = of_each(Operation.READ, ResourceType.TOPIC)
HASH_MULTIPLIER = 2654435761
"""Knuth's multiplicative hash: successive correlation ids begin with partitions far apart."""


class _PartitionFetch:
    """One partition of a request, and what was read from it."""

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
        """Approximately how many bytes a read would return now; never 0 if there are some."""
        partition = self.partition
        if partition is None or self.error or self.offset >= partition.high_watermark:
            return 0
        return max(1, min(self.max_bytes, partition.available_bytes(self.offset)))

    def result(self, read_committed: bool) -> FetchResult:
        """The partition's part of the reply."""
        partition = self.partition
        if partition is None or self.error:
            return FetchResult(self.index, self.error, has_aborted_list=True)
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
    """One Fetch request, from the wait for events to the reply."""

    __slots__ = (
        "_access_version",
        "_cancel_on_close",
        "_checking",
        "_context",
        "_names",
        "_order",
        "_read_bytes",
        "_remaining_bytes",
        "_request",
        "_timer",
        "_topics",
        "reply",
    )

    def __init__(self, context: HandlerContext, request: Request) -> None:
        body = request.body
        self._context = context
        self._request = request
        self._topics: list[tuple[TopicKey, list[_PartitionFetch]]] = []
        self._names: list[str | None] = []
        """Of the topics; None: there is none."""
        self._access_version = context.access.authorizer.version
        self._order: list[_PartitionFetch] = []
        self._remaining_bytes = min(
            body.max_bytes,
            context.settings.fetch_max_bytes,
            REPLY_BYTES,
            SLOW_REPLIES_BYTES // (context.slow_clients + 1),
        )
        self._read_bytes = 0
        self._timer: Timer | None = None
        self._cancel_on_close: Callable[[], None] | None = None
        self._checking = False
        self.reply: Promise[list[Buffer]] | None = None
        for topic_request in body.topics:
            self._topics.append(self._resolve(topic_request))
        if len(self._order) > 1:
            first = (request.correlation_id * HASH_MULTIPLIER >> 8) % len(self._order)
            self._order = self._order[first:] + self._order[:first]

    @property
    def _unknown_topic(self) -> int:
        by_id = self._request.version >= FETCH_TOPIC_IDS
        return ErrorCode.UNKNOWN_TOPIC_ID if by_id else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION

    def _resolve(self, topic_request: Message) -> tuple[TopicKey, list[_PartitionFetch]]:
        """Find a topic's partitions and check what the request wants of them. Of a name that the client has
        no right to, the answer does not depend on whether it exists."""
        key: TopicKey
        name: str | None
        if self._request.version >= FETCH_TOPIC_IDS:
            key = topic_request.topic_id
            topic = self._context.topics.by_id(topic_request.topic_id)
            name = None if topic is None else topic.name
        else:
            key = name = topic_request.topic
            topic = self._context.topics.get(topic_request.topic)
        self._names.append(name)
        unavailable: int = self._unknown_topic
        if name is not None and not self._context.allows_reading(self._request, READ, name):
            topic, unavailable = None, READ.code
        fetches = []
        for partition_request in topic_request.partitions:
            fetch = _PartitionFetch(
                partition_request.partition,
                partition_request.fetch_offset,
                partition_request.partition_max_bytes,
            )
            fetches.append(fetch)
            if topic is None:
                fetch.error = unavailable
                continue
            try:
                fetch.partition = self._context.node.partition(topic, fetch.index)
            except UnknownTopicOrPartition:
                fetch.error = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
                continue
            self._check(fetch, fetch.partition, partition_request)
        self._order += fetches
        return key, fetches

    def _check(self, fetch: _PartitionFetch, partition: Partition, partition_request: Message) -> None:
        """Set the error of a request that the partition cannot serve, or where the client's log diverges."""
        fetch.error = leader_epoch_error(partition_request.current_leader_epoch, partition.epoch)
        if fetch.error:
            return
        if partition_request.last_fetched_epoch >= 0:
            epoch, end = partition.epoch_end(partition_request.last_fetched_epoch)
            if epoch == partition.epoch:
                end = partition.log_end_offset  # the client may know of events that are not committed yet
            if epoch < 0:
                fetch.error = ErrorCode.OFFSET_OUT_OF_RANGE
            elif epoch < partition_request.last_fetched_epoch or end < fetch.offset:
                fetch.diverging = (epoch, end)
        elif not partition.log_start_offset <= fetch.offset <= partition.log_end_offset:
            fetch.error = ErrorCode.OFFSET_OUT_OF_RANGE

    def start(self) -> HandlerResult:
        """The reply, or a promise of it if the request has to wait."""
        body = self._request.body
        if body.max_wait <= 0 or self._has_enough():
            return self._read(iter(self._order))
        self.reply = Promise()
        for partition in self._partitions():
            partition.watch(self._on_watermark_moved)
        self._context.access_changes.watch(self._on_access_changed)
        self._timer = self._context.clock.call_later(body.max_wait / 1000, self._finish)
        self._cancel_on_close = self._request.connection.on_close(self._stop_waiting)
        return self.reply

    def _partitions(self) -> set[Partition]:
        return {fetch.partition for fetch in self._order if fetch.partition is not None}

    def _has_enough(self) -> bool:
        """Whether the reply need not wait: `min_bytes` are available, or a partition has an error."""
        min_bytes: int = self._request.body.min_bytes
        available = 0
        for fetch in self._order:
            if fetch.error or fetch.diverging is not None:
                return True
            available += fetch.available()
            if available >= min_bytes:
                return True
        return available >= min_bytes

    def _on_watermark_moved(self, partition: Partition) -> None:
        """Check all partitions in the next turn of the loop, because one commit moves many watermarks."""
        if not self._checking:
            self._checking = True
            self._context.clock.call_soon(self._check_waiting)

    def _check_waiting(self) -> None:
        """End the wait if enough can be read, or if a partition was deleted or truncated by retention."""
        self._checking = False
        if self._cancel_on_close is None:
            return
        for fetch in self._order:
            partition = fetch.partition
            if partition is None or fetch.error:
                continue
            if partition.deleted:
                fetch.error = self._unknown_topic
            elif fetch.offset < partition.log_start_offset:
                fetch.error = ErrorCode.OFFSET_OUT_OF_RANGE
        if self._has_enough():
            self._finish()

    def _on_access_changed(self) -> int:
        """End the wait if the client may no longer read a topic. See `OnAccessChange`."""
        if self._has_lost_rights():
            self._finish()
        return len(self._topics)

    def _has_lost_rights(self) -> bool:
        """Whether rights have changed and the client may no longer read a topic, whose partitions then have
        the error."""
        access = self._context.access
        version = access.authorizer.version
        if version == self._access_version and not access.masks.has_rules:
            return False
        self._access_version = version
        lost = False
        for name, (_, fetches) in zip(self._names, self._topics, strict=True):
            if name is not None and not self._context.allows_reading(self._request, READ, name):
                lost = True
                for fetch in fetches:
                    fetch.error = READ.code
        return lost

    def _finish(self) -> None:
        """End the wait, if it has not ended yet, and read."""
        if self._cancel_on_close is None:
            return
        self._has_lost_rights()
        self._cancel_on_close()
        self._stop_waiting()
        assert self.reply is not None
        result = self._read(iter(self._order))
        if isinstance(result, list):
            self.reply.resolve(result)

    def _stop_waiting(self) -> None:
        """Release what the wait holds. Also called when the connection is lost."""
        self._cancel_on_close = None
        self._context.access_changes.unwatch(self._on_access_changed)
        if self._timer is not None:
            self._timer.cancel()
        for partition in self._partitions():
            partition.unwatch(self._on_watermark_moved)

    def _read(self, remaining: Iterator[_PartitionFetch]) -> list[Buffer] | Promise[list[Buffer]]:
        """Read the partitions in turn while the reply may grow. A partition whose bytes are not in the page
        cache is read from the disk only if the reply would otherwise have less than `min_bytes`."""
        for fetch in remaining:
            partition = fetch.partition
            if partition is None or fetch.error or fetch.diverging is not None or self._remaining_bytes <= 0:
                continue
            if fetch.offset >= partition.high_watermark:
                continue
            try:
                read = partition.read(fetch.offset, min(fetch.max_bytes, self._remaining_bytes))
            except Exception as error:
                self._failed(fetch, error)
                continue
            if not isinstance(read, Promise):
                self._accept(fetch, read)
            elif read.done:
                self._on_read(fetch, read)
            elif self._read_bytes < max(self._request.body.min_bytes, 1):
                return self._wait_for(fetch, read, remaining)
        return self._reply()

    def _wait_for(
        self, fetch: _PartitionFetch, read: Promise[BatchSlice], remaining: Iterator[_PartitionFetch]
    ) -> Promise[list[Buffer]]:
        """Read the other partitions when the disk has returned the bytes of this one."""
        reply = self.reply = self.reply or Promise()

        def on_read(read: Promise[BatchSlice]) -> None:
            self._on_read(fetch, read)
            result = self._read(remaining)
            if isinstance(result, list):
                reply.resolve(result)

        read.then(on_read)
        return reply

    def _on_read(self, fetch: _PartitionFetch, read: Promise[BatchSlice]) -> None:
        if read.error is None:
            self._accept(fetch, read.result())
        else:
            self._failed(fetch, read.error)

    def _accept(self, fetch: _PartitionFetch, read: BatchSlice) -> None:
        """Add what was read to the reply. A batch that does not fit ends the reply, unless it is the first:
        reading the other partitions would be in vain."""
        size = len(read.data)
        if size > self._remaining_bytes and self._read_bytes:
            self._remaining_bytes = 0
            return
        fetch.records = read.data
        self._read_bytes += size
        self._remaining_bytes -= size

    def _failed(self, fetch: _PartitionFetch, error: BaseException) -> None:
        fetch.error = code_of(error)
        if not is_refusal(error):
            self._context.fault(f"Fetch of partition {fetch.index}", error)

    def _reply(self) -> list[Buffer]:
        read_committed = self._request.body.isolation_level == READ_COMMITTED
        return fetch_reply(
            self._request.version,
            [(key, [fetch.result(read_committed) for fetch in fetches]) for key, fetches in self._topics],
        )


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    body = request.body
    if body.session_epoch not in (FULL_FETCH_NEW_SESSION, FULL_FETCH_WITHOUT_SESSION):
        return Message(error_code=ErrorCode.FETCH_SESSION_ID_NOT_FOUND)
    return _PendingFetch(context, request).start()


def on_error(request: Request, code: int) -> Message:
    """The reply with the error `code` for every partition of the request."""
    return Message(
        responses=[
            Message(
                topic=topic.topic,
                topic_id=topic.topic_id,
                partitions=[
                    Message(
                        partition_index=partition_request.partition,
                        error_code=code,
                        high_watermark=-1,
                        aborted_transactions=[],
                        records=b"",
                    )
                    for partition_request in topic.partitions
                ],
            )
            for topic in request.body.topics
        ]
    )


HANDLER = Handler(key=1, versions=(4, 18), handle=handle, rights=(READ,), on_error=on_error)
