"""79 ShareAcknowledge.

Versions: 1-2.
Behaviour: acknowledges records that a member of a share group acquired (KIP-932): accepts, releases, rejects,
or names gaps. All batches of a partition count, or none; the reply comes when that is durable. Offsets before
the first one that is not done are ignored; any other that the member does not have is INVALID_RECORD_STATE,
also when its lock has expired. Offsets that were never acquired are INVALID_REQUEST. The final epoch, -1,
ends the share session.
Notes: v2 adds renewing locks (KIP-1222).
Left out: current_leader and node_endpoints, because there is only one node.
"""

from __future__ import annotations

from uuid import UUID

from mainstem.access_contract import Operation
from mainstem.doors.kafka.errors import code_of, is_refusal
from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.doors.kafka.rights import of_group
from mainstem.doors.kafka.share_requests import (
    READ_TOPIC,
    Acknowledgements,
    lock_ms_of,
    member_of,
    sessions_of,
)
from mainstem.doors.kafka.share_sessions import FINAL_EPOCH, NEW_SESSION, InvalidShareSessionEpoch
from mainstem.kafka_protocol.message import Message
from mainstem.share_contract import PartitionKey

NO_LEADER = Message(leader_id=-1, leader_epoch=-1)


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    body = request.body
    sessions = sessions_of(context)
    group, member = member_of(body)
    if body.share_session_epoch == NEW_SESSION:
        raise InvalidShareSessionEpoch("a share session begins with ShareFetch")
    session = sessions.get(group, member, body.share_session_epoch)
    is_last = body.share_session_epoch == FINAL_EPOCH
    if not is_last:
        session.advance()
    acknowledged = Acknowledgements(context, request, request.version >= 2 and body.is_renew_ack)

    def reply(refused: dict[PartitionKey, BaseException]) -> Message:
        if is_last:
            sessions.end(session)
        errors = acknowledged.errors | {key: refused.get(key) for key in acknowledged.answers}
        topics: dict[UUID, list[Message]] = {}
        for (topic_id, index), error in errors.items():
            topics.setdefault(topic_id, []).append(_partition(context, index, error))
        return Message(
            acquisition_lock_timeout=lock_ms_of(context, group),
            responses=[
                Message(topic_id=topic_id, partitions=partitions) for topic_id, partitions in topics.items()
            ],
            node_endpoints=[],
        )

    return sessions.queues.answer_ranges(group, member, acknowledged.answers).map(reply)


def _partition(context: HandlerContext, index: int, error: BaseException | None) -> Message:
    if error is not None and not is_refusal(error):
        context.fault(f"ShareAcknowledge of partition {index}", error)
    return Message(
        partition_index=index,
        error_code=0 if error is None else int(code_of(error)),
        error_message=None if error is None or not is_refusal(error) else str(error),
        current_leader=NO_LEADER,
    )


HANDLER = Handler(key=79, versions=(1, 2), handle=handle, rights=(of_group(Operation.READ), READ_TOPIC))
