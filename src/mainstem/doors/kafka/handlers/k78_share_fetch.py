"""78 ShareFetch.

Versions: 1-2.
Behaviour: acquires records for a member of a share group (KIP-932): whole batches as they are on disk, with
the ranges of offsets that the member acquired and how often each was delivered. What is delivered again comes
before what is new. Waits until `min_bytes` are available or `max_wait` is over. The request also
acknowledges: all batches of a partition count, or none, and the reply comes when that is durable. A share
session begins with epoch 0 and ends with -1, or with its connection; then what its member has is released.
The loss of the right to read the group or a topic ends the wait. A reply has at most 4 MB, less while many
clients read their replies slowly.
Notes: v2 adds the record-limit mode (KIP-1206), which acquires no more than `max_records`, and renewing locks
(KIP-1222). Without the mode the last batch is acquired whole. `batch_size` cuts ranges at batches.
A record that has failed half as often as it may is delivered with few others, and alone the last time.
Left out: membership is not checked, as in Kafka; current_leader and node_endpoints, because there is only one
node.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from uuid import UUID

from mainstem.access_contract import Operation
from mainstem.coordinator.errors import InvalidRequest, UnknownTopicId
from mainstem.doors.kafka.errors import code_of, is_refusal
from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.doors.kafka.rights import RightDenied, of_group
from mainstem.doors.kafka.share_replies import ShareFetched, share_fetch_reply
from mainstem.doors.kafka.share_requests import (
    READ_TOPIC,
    Acknowledgements,
    lock_ms_of,
    member_of,
    sessions_of,
)
from mainstem.doors.kafka.share_sessions import (
    FINAL_EPOCH,
    NEW_SESSION,
    ShareSession,
    ShareSessionLimitReached,
    ShareSessions,
)
from mainstem.kafka_protocol.message import Buffer, Message
from mainstem.promise import Promise, gather
from mainstem.share_contract import BatchDelivery, BatchPull, PartitionKey, RangeAnswer

REPLY_BYTES = 4 << 20
SLOW_REPLIES_BYTES = 64 << 20
"""As for Fetch."""
READ_GROUP = of_group(Operation.READ)
RECORD_LIMIT = 1
"""The acquire mode that acquires no more records than `max_records`."""


class _ShareFetch:
    """One request, from its acknowledgements to the reply."""

    def __init__(
        self, context: HandlerContext, request: Request, sessions: ShareSessions, group: str, member: str
    ) -> None:
        self._context = context
        self._request = request
        self._sessions = sessions
        self._group = group
        self._member = member
        self._ended: ShareSession | None = None

    def start(self) -> HandlerResult:
        """The promise of the reply. Errors of the session."""
        body = self._request.body
        named = [
            (topic.topic_id, partition.partition_index)
            for topic in body.topics
            for partition in topic.partitions
        ]
        has_answers = any(part.acknowledgement_batches for topic in body.topics for part in topic.partitions)
        renews = self._request.version >= 2 and body.is_renew_ack
        if renews:
            self._check_renewal()
        partitions = self._partitions(named, has_answers)
        answered: Promise[dict[PartitionKey, BaseException | None]] = Promise.resolved({})
        if has_answers:
            answered = self._answer(renews)
        pulled: Promise[list[BatchDelivery]] = Promise.resolved([])
        if partitions and not renews and body.max_records > 0 and body.max_bytes > 0:
            pulled = self._pull(partitions)
        both: list[Promise[object]] = [answered.map(_as_object), pulled.map(_as_object)]
        return gather(both).map(lambda _: self._reply(answered.result(), pulled.result()))

    def _check_renewal(self) -> None:
        body = self._request.body
        limits = ("max_bytes", "min_bytes", "max_records", "max_wait")
        if wrong := [name for name in limits if getattr(body, name)]:
            raise InvalidRequest(f"{', '.join(wrong)} must be 0 in a request that renews locks")

    def _partitions(self, named: list[PartitionKey], has_answers: bool) -> list[PartitionKey]:
        """What the session fetches with this request."""
        body, sessions = self._request.body, self._sessions
        epoch = body.share_session_epoch
        if epoch == NEW_SESSION:
            if has_answers:
                raise InvalidRequest("the first request of a share session acknowledges nothing")
            on_close = self._request.connection.on_close
            return sessions.begin(self._group, self._member, named, on_close).in_turn()
        session = sessions.get(self._group, self._member, epoch)
        if epoch == FINAL_EPOCH:
            self._ended = session
            return []
        session.partitions.update(dict.fromkeys(named))
        for topic in body.forgotten_topics_data:
            for index in topic.partitions:
                session.partitions.pop((topic.topic_id, index), None)
        session.advance()
        return session.in_turn()

    def _answer(self, renews: bool) -> Promise[dict[PartitionKey, BaseException | None]]:
        acknowledged = Acknowledgements(self._context, self._request, renews)
        answered = self._sessions.queues.answer_ranges(self._group, self._member, acknowledged.answers)
        return answered.map(
            lambda errors: acknowledged.errors | {key: errors.get(key) for key in acknowledged.answers}
        )

    def _refusal(self, topic_id: UUID) -> Exception | None:
        """Why nothing is fetched from a topic; None: it is."""
        topic = self._context.topics.by_id(topic_id)
        if topic is None:
            return UnknownTopicId("there is no topic with this id")
        is_allowed = self._context.allows_reading(self._request, READ_TOPIC, topic.name)
        return None if is_allowed else RightDenied(READ_TOPIC)

    def _pull(self, partitions: list[PartitionKey]) -> Promise[list[BatchDelivery]]:
        context, body = self._context, self._request.body
        refusals = {topic_id: self._refusal(topic_id) for topic_id, _ in partitions}
        allowed = [key for key in partitions if refusals[key[0]] is None]
        refused = [
            BatchDelivery(key, [], [], refusals[key[0]]) for key in partitions if refusals[key[0]] is not None
        ]
        if not allowed:
            return Promise.resolved(refused)
        pull = BatchPull(
            group=self._group,
            consumer=self._member,
            partitions=allowed,
            max_events=body.max_records,
            max_bytes=min(
                body.max_bytes,
                context.settings.fetch_max_bytes,
                REPLY_BYTES,
                SLOW_REPLIES_BYTES // (context.slow_clients + 1),
            ),
            min_bytes=body.min_bytes,
            wait_ms=0 if refused else body.max_wait,
            exact=self._request.version >= 2 and body.share_acquire_mode == RECORD_LIMIT,
            batch_size=max(1, body.batch_size),
        )
        version = context.access.authorizer.version
        pulled, cancel = self._sessions.queues.pull_batches(pull)
        if not pulled.done:
            self._end_early(pulled, cancel, {topic_id for topic_id, _ in allowed})

        def on_pulled(deliveries: list[BatchDelivery]) -> list[BatchDelivery]:
            if context.access.authorizer.version != version or context.access.masks.has_rules:
                deliveries = self._without_lost(deliveries, allowed)
            return deliveries + refused

        return pulled.map(on_pulled)

    def _end_early(
        self, pulled: Promise[list[BatchDelivery]], cancel: Callable[[], None], topic_ids: set[UUID]
    ) -> None:
        """End the wait when the connection is lost, or the right to read the group or one of the topics."""
        changes = self._context.access_changes

        def on_access_changed() -> int:
            if self._has_lost_group() or any(
                isinstance(self._refusal(topic_id), RightDenied) for topic_id in topic_ids
            ):
                cancel()
            return 1 + len(topic_ids)

        def forget(_: Promise[list[BatchDelivery]]) -> None:
            forget_connection()
            changes.unwatch(on_access_changed)

        forget_connection = self._request.connection.on_close(cancel)
        changes.watch(on_access_changed)
        pulled.then(forget)

    def _has_lost_group(self) -> bool:
        return not self._context.allows(self._request, READ_GROUP, self._group)

    def _without_lost(
        self, deliveries: list[BatchDelivery], pulled: list[PartitionKey]
    ) -> list[BatchDelivery]:
        """What was pulled, without the topics that the client may no longer read, whose partitions have the
        error instead. What was acquired of them is given back. RightDenied: it may not read the group."""
        has_lost_group = self._has_lost_group()
        refusals = {topic_id: self._refusal(topic_id) for topic_id, _ in pulled}
        lost = {key for key in pulled if has_lost_group or isinstance(refusals[key[0]], RightDenied)}
        given_back = {
            delivery.partition: [RangeAnswer(run.first, run.last + 1, "release") for run in delivery.acquired]
            for delivery in deliveries
            if delivery.partition in lost
        }
        if given_back:
            self._sessions.queues.answer_ranges(self._group, self._member, given_back)
        if has_lost_group:
            raise RightDenied(READ_GROUP)
        rest = [delivery for delivery in deliveries if delivery.partition not in lost]
        return rest + [BatchDelivery(key, [], [], refusals[key[0]]) for key in pulled if key in lost]

    def _reply(
        self, answered: Mapping[PartitionKey, BaseException | None], pulled: list[BatchDelivery]
    ) -> list[Buffer]:
        if self._ended is not None:
            self._sessions.end(self._ended)
        topics: dict[UUID, dict[int, ShareFetched]] = {}
        for delivery in pulled:
            topic_id, index = delivery.partition
            code, text = self._error(delivery.error)
            topics.setdefault(topic_id, {})[index] = ShareFetched(
                index, code, text, pieces=delivery.pieces, acquired=delivery.acquired
            )
        for (topic_id, index), error in answered.items():
            partitions = topics.setdefault(topic_id, {})
            code, text = self._error(error)
            fetched = partitions.get(index, ShareFetched(index))
            partitions[index] = fetched._replace(acknowledge_error=code, acknowledge_message=text)
        lock_ms = lock_ms_of(self._context, self._group)
        return share_fetch_reply(lock_ms, {topic: list(parts.values()) for topic, parts in topics.items()})

    def _error(self, error: BaseException | None) -> tuple[int, str | None]:
        if error is None:
            return 0, None
        if not is_refusal(error):
            self._context.fault("ShareFetch of a partition", error)
            return int(code_of(error)), None
        return int(code_of(error)), str(error)


def _as_object(value: object) -> object:
    return value


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    sessions = sessions_of(context)
    group, member = member_of(request.body)
    try:
        return _ShareFetch(context, request, sessions, group, member).start()
    except ShareSessionLimitReached as error:
        refusal = error
    # As Kafka: the client asks again at once, and is made to wait.
    refused: Promise[Message] = Promise()
    context.clock.call_later(max(0, request.body.max_wait) / 1000, lambda: refused.fail(refusal))
    return refused


HANDLER = Handler(key=78, versions=(1, 2), handle=handle, rights=(READ_GROUP, READ_TOPIC))
