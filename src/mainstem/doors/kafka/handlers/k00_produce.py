"""0 Produce.

Versions: 3-13, advertised from 0: librdkafka before 2.11.1 sends uncompressed otherwise (librdkafka#4956).
0-2 carry record formats from before Kafka 0.11 and are refused: the connection closes, as with Apache Kafka
4. Behaviour: one v2 batch for each partition, appended as it came. acks=-1 is answered after the commit,
acks=1 after the write, acks=0 not at all, and then an error closes the connection, as Kafka does. Errors
are told for each partition. If the commit takes longer than the request's timeout: REQUEST_TIMED_OUT,
though the batch may still be kept. Notes: v5 adds the log start offset, v8 the error message, v9 is
flexible, v13 names topics by id (KIP-516). Left out: creating topics (Metadata does); transactions: a
transactional id is refused as not authorized, which no client retries; record_errors are always empty,
because records are never opened here; current_leader, as there is only one.
"""

from __future__ import annotations

from mainstem.clock import Timer
from mainstem.coordinator.topics.topics import TopicMetadata
from mainstem.doors.kafka.errors import ErrorCode, code_of, is_refusal
from mainstem.doors.kafka.fast_replies import PRODUCE_TOPIC_IDS, ProduceResult, TopicKey, produce_reply
from mainstem.doors.kafka.handler import (
    CloseConnection,
    Handler,
    HandlerContext,
    HandlerResult,
    Reply,
    Request,
)
from mainstem.kafka_protocol.message import Message
from mainstem.promise import Promise

BACKLOG_BYTES = 64 << 20
"""With more than this on its way to the disk, every acks waits."""

Results = list[tuple[TopicKey, list[ProduceResult]]]


class _PendingProduce:
    """A request with acks=-1, until its batches are committed."""

    __slots__ = ("_left", "_request", "_results", "_timer", "later")

    def __init__(self, request: Request, results: Results) -> None:
        self.later: Promise[Reply] = Promise()
        self._request = request
        self._results = results
        self._left = 0
        self._timer: Timer | None = None

    def wait(
        self,
        context: HandlerContext,
        timeout_ms: int,
        waits: list[tuple[list[ProduceResult], int, Promise[None]]],
    ) -> None:
        """Answer when all of `waits` are done: (results of a topic, position of the batch's, its commit)."""
        self._left = len(waits)
        self._timer = context.clock.call_later(max(timeout_ms, 0) / 1000, self._timed_out)
        for partitions, position, committed in waits:
            self._wait_for(partitions, position, committed)

    def _wait_for(self, partitions: list[ProduceResult], position: int, committed: Promise[None]) -> None:
        def done(committed: Promise[None]) -> None:
            if committed.error is not None:
                partitions[position] = _failed(partitions[position].partition, committed.error)
            self._left -= 1
            if not self._left:
                self._finish()

        committed.then(done)

    def _timed_out(self) -> None:
        for _, partitions in self._results:
            for position, produced in enumerate(partitions):
                if not produced.error:
                    partitions[position] = ProduceResult(
                        produced.partition, ErrorCode.REQUEST_TIMED_OUT, message="the commit took too long"
                    )
        self._finish()

    def _finish(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self.later.done:
            return
        try:
            self.later.resolve(_reply(self._request, self._results))
        except CloseConnection as error:
            self.later.fail(error)


def _failed(index: int, error: BaseException) -> ProduceResult:
    return ProduceResult(index, code_of(error), message=str(error) if is_refusal(error) else None)


def _key(request: Request, asked: Message) -> TopicKey:
    key: TopicKey = asked.topic_id if request.version >= PRODUCE_TOPIC_IDS else asked.name
    return key


def _refused(request: Request) -> tuple[ErrorCode, str] | None:
    """Why the whole request is refused."""
    if request.body.acks not in (-1, 0, 1):
        return ErrorCode.INVALID_REQUIRED_ACKS, "acks must be -1, 0 or 1"
    if request.body.transactional_id is not None:
        return ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, "there are no transactions yet"
    return None


def _topic(
    context: HandlerContext, request: Request, asked: Message
) -> TopicMetadata | tuple[ErrorCode, str]:
    """The topic of a part of the request, or why it takes no batches."""
    if request.version >= PRODUCE_TOPIC_IDS:
        topic = context.topics.by_id(asked.topic_id)
        if topic is None:
            return ErrorCode.UNKNOWN_TOPIC_ID, "no topic has this id"
    else:
        topic = context.topics.get(asked.name)
        if topic is None:
            return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "there is no such topic"
    if topic.internal:
        return ErrorCode.INVALID_TOPIC_EXCEPTION, f"{topic.name} is internal: the server alone writes to it"
    return topic


def _append(
    context: HandlerContext, topic: TopicMetadata, asked: Message, wait: bool
) -> tuple[ProduceResult, Promise[None] | None]:
    """Append one batch: what to reply once the returned commit, if any, is done."""
    index = asked.index
    if asked.records is None:
        return ProduceResult(index, ErrorCode.INVALID_RECORD, message="there is no batch"), None
    try:
        partition = context.node.partition_to_append(topic, index)
        appended = partition.append(asked.records)
        committed = partition.when_committed(appended.next_offset) if wait else None
    except Exception as error:
        if not is_refusal(error):
            context.fault(f"Produce to {topic.name}-{index}", error)
        return _failed(index, error), None
    produced = ProduceResult(
        index, 0, appended.base_offset, appended.log_append_ms, partition.log_start_offset
    )
    if committed is None or not committed.done:
        return produced, committed
    return (produced if committed.error is None else _failed(index, committed.error)), None


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    body = request.body
    wait = body.acks == -1 or context.log.pending_bytes > BACKLOG_BYTES
    refused = _refused(request)
    results: Results = []
    waits: list[tuple[list[ProduceResult], int, Promise[None]]] = []
    for asked in body.topic_data:
        topic = refused or _topic(context, request, asked)
        partitions: list[ProduceResult] = []
        results.append((_key(request, asked), partitions))
        for part in asked.partition_data:
            if isinstance(topic, tuple):
                partitions.append(ProduceResult(part.index, topic[0], message=topic[1]))
                continue
            produced, committed = _append(context, topic, part, wait)
            if committed is not None:
                waits.append((partitions, len(partitions), committed))
            partitions.append(produced)
    if waits:
        context.log.commit_now_if_idle()
        waiter = _PendingProduce(request, results)
        waiter.wait(context, body.timeout, waits)
        return waiter.later
    return _reply(request, results)


def _reply(request: Request, results: Results) -> Reply:
    """The reply to what became of the batches. CloseConnection: with acks=0 there is no other way to tell."""
    if request.body.acks != 0:
        return produce_reply(request.version, results)
    for _, partitions in results:
        for produced in partitions:
            if produced.error:
                raise CloseConnection(f"Produce with acks=0: {ErrorCode(produced.error).name}")
    return None


def on_error(request: Request, code: int) -> Message:
    """The same error for every partition."""
    return Message(
        responses=[
            Message(
                name=topic.name,
                topic_id=topic.topic_id,
                partition_responses=[
                    Message(index=part.index, error_code=code, base_offset=-1)
                    for part in topic.partition_data
                ],
            )
            for topic in request.body.topic_data
        ]
    )


HANDLER = Handler(
    key=0, versions=(3, 13), handle=handle, advertised_from=0, pipelined=True, on_error=on_error
)
