"""0 Produce.

Versions: 3-13, advertised from 0: librdkafka before 2.11.1 sends its batches uncompressed if version 0 is not
advertised (librdkafka#4956). Versions 0-2 carry record formats older than Kafka 0.11; a request in one of
them closes the connection, as in Apache Kafka 4.
Behaviour: appends one v2 batch to each partition, without re-encoding it. acks=-1 is answered after the
commit, acks=1 after the write, acks=0 not at all; as in Kafka, an error with acks=0 closes the connection.
Each partition has its own error code. If the commit takes longer than the request's timeout, the answer is
REQUEST_TIMED_OUT, and the batch may still become durable. A batch with the producer id of the server's own
batches is refused with INVALID_RECORD, Kafka's answer to batches that only the server may write.
Notes: v5 adds the log start offset, v8 the error message; v9 is flexible; v13 names topics by id (KIP-516).
Left out: topic creation (Metadata does it); transactions: a transactional id is refused with
TRANSACTIONAL_ID_AUTHORIZATION_FAILED, which no client retries; record_errors, which is always empty, because
records are never opened here; current_leader, because there is only one node.
"""

from __future__ import annotations

from mainstem.access_contract import Operation, ResourceType
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
from mainstem.doors.kafka.rights import of_each
from mainstem.kafka_protocol.message import Message
from mainstem.promise import Promise

BACKLOG_BYTES = 64 << 20
"""If more bytes than this wait for the disk, requests with acks=0 and acks=1 wait for their commit, too."""
WRITE = of_each(Operation.WRITE, ResourceType.TOPIC)

Results = list[tuple[TopicKey, list[ProduceResult]]]


class _PendingProduce:
    """A request with acks=-1, until its batches are committed."""

    __slots__ = ("_pending_commits", "_request", "_results", "_timer", "reply")

    def __init__(self, request: Request, results: Results) -> None:
        self.reply: Promise[Reply] = Promise()
        self._request = request
        self._results = results
        self._pending_commits = 0
        self._timer: Timer | None = None

    def wait(
        self,
        context: HandlerContext,
        timeout_ms: int,
        waits: list[tuple[list[ProduceResult], int, Promise[None]]],
    ) -> None:
        """Reply when all commits are done. `waits`: (results of a topic, position of the batch's result
        among them, its commit)."""
        self._pending_commits = len(waits)
        self._timer = context.clock.call_later(max(timeout_ms, 0) / 1000, self._timed_out)
        for partitions, position, committed in waits:
            self._wait_for(partitions, position, committed)

    def _wait_for(self, partitions: list[ProduceResult], position: int, committed: Promise[None]) -> None:
        def on_committed(committed: Promise[None]) -> None:
            if committed.error is not None:
                partitions[position] = _failed(partitions[position].partition, committed.error)
            self._pending_commits -= 1
            if not self._pending_commits:
                self._finish()

        committed.then(on_committed)

    def _timed_out(self) -> None:
        for _, partitions in self._results:
            for position, produced in enumerate(partitions):
                if not produced.error:
                    partitions[position] = ProduceResult(
                        produced.partition,
                        ErrorCode.REQUEST_TIMED_OUT,
                        message="the commit took longer than the request's timeout",
                    )
        self._finish()

    def _finish(self) -> None:
        assert self._pending_commits >= 0, "each commit is counted once"
        if self._timer is not None:
            self._timer.cancel()
        if self.reply.done:
            return
        try:
            self.reply.resolve(_reply(self._request, self._results))
        except CloseConnection as error:
            self.reply.fail(error)


def _failed(index: int, error: BaseException) -> ProduceResult:
    return ProduceResult(index, code_of(error), message=str(error) if is_refusal(error) else None)


def _key(request: Request, topic_data: Message) -> TopicKey:
    key: TopicKey = topic_data.topic_id if request.version >= PRODUCE_TOPIC_IDS else topic_data.name
    return key


def _refusal(request: Request) -> tuple[ErrorCode, str] | None:
    """The error code and text if the whole request is refused; None if it is not."""
    if request.body.acks not in (-1, 0, 1):
        return ErrorCode.INVALID_REQUIRED_ACKS, "acks must be -1, 0 or 1"
    if request.body.transactional_id is not None:
        return (
            ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
            "this server has no transactions yet: use an idempotent producer without a transactional.id",
        )
    return None


def _topic(
    context: HandlerContext, request: Request, topic_data: Message
) -> TopicMetadata | tuple[ErrorCode, str]:
    """The topic that the batches are for, or the error code and text if it does not accept them, or not from
    this client. Of a name that the client has no right to, the answer does not depend on whether it
    exists."""
    if request.version >= PRODUCE_TOPIC_IDS:
        topic = context.topics.by_id(topic_data.topic_id)
        if topic is None:
            return ErrorCode.UNKNOWN_TOPIC_ID, "no topic has this id"
        if not context.allows_often(request, WRITE, topic.name):
            return WRITE.code, WRITE.text
    else:
        if not context.allows_often(request, WRITE, topic_data.name):
            return WRITE.code, WRITE.text
        topic = context.topics.get(topic_data.name)
        if topic is None:
            return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "this topic does not exist"
    if topic.internal:
        return (
            ErrorCode.INVALID_TOPIC_EXCEPTION,
            f"topic {topic.name} is internal: only the server writes to it",
        )
    return topic


def _append(
    context: HandlerContext, topic: TopicMetadata, partition_data: Message, wait: bool
) -> tuple[ProduceResult, Promise[None] | None]:
    """Append one batch. Returns its result, which is valid once the commit beside it, if any, is done."""
    index = partition_data.index
    if partition_data.records is None:
        return ProduceResult(index, ErrorCode.INVALID_RECORD, message="the partition has no batch"), None
    try:
        partition, appended = context.node.append_from_client(topic, index, partition_data.records)
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
    refusal = _refusal(request)
    results: Results = []
    waits: list[tuple[list[ProduceResult], int, Promise[None]]] = []
    for topic_data in body.topic_data:
        topic = refusal or _topic(context, request, topic_data)
        partitions: list[ProduceResult] = []
        results.append((_key(request, topic_data), partitions))
        for partition_data in topic_data.partition_data:
            if isinstance(topic, tuple):
                partitions.append(ProduceResult(partition_data.index, topic[0], message=topic[1]))
                continue
            produced, committed = _append(context, topic, partition_data, wait)
            if committed is not None:
                waits.append((partitions, len(partitions), committed))
            partitions.append(produced)
    if waits:
        context.log.commit_now_if_idle()
        pending = _PendingProduce(request, results)
        pending.wait(context, body.timeout, waits)
        return pending.reply
    return _reply(request, results)


def _reply(request: Request, results: Results) -> Reply:
    """The reply with all results; None with acks=0. CloseConnection if a batch failed with acks=0, which has
    no other way to report it."""
    if request.body.acks != 0:
        return produce_reply(request.version, results)
    for _, partitions in results:
        for produced in partitions:
            if produced.error:
                raise CloseConnection(f"Produce with acks=0: {ErrorCode(produced.error).name}")
    return None


def on_error(request: Request, code: int) -> Message:
    """The reply with the error `code` for every partition of the request."""
    return Message(
        responses=[
            Message(
                name=topic.name,
                topic_id=topic.topic_id,
                partition_responses=[
                    Message(index=partition.index, error_code=code, base_offset=-1)
                    for partition in topic.partition_data
                ],
            )
            for topic in request.body.topic_data
        ]
    )


HANDLER = Handler(
    key=0,
    versions=(3, 13),
    handle=handle,
    rights=(WRITE,),
    advertised_from=0,
    pipelined=True,
    on_error=on_error,
)
