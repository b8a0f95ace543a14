"""76 ShareGroupHeartbeat.

Versions: 1.
Behaviour: lets a member join a share group (epoch 0), which its first member creates, show that it is alive,
subscribe to other topics, and leave (epoch -1). The reply has the member's epoch, and its partitions where
the member may not know them. FENCED_MEMBER_EPOCH, UNKNOWN_MEMBER_ID and GROUP_ID_NOT_FOUND make a member
join again.
Notes: v0 was an early-access version, which Kafka has removed.
Left out: nothing.
"""

from __future__ import annotations

from mainstem.access_contract import Operation, ResourceType
from mainstem.coordinator.groups.share_types import ShareHeartbeat, ShareHeartbeatReply
from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.doors.kafka.per_item import reply_for
from mainstem.doors.kafka.rights import of_each, of_group
from mainstem.kafka_protocol.message import Message

DESCRIBE = of_each(Operation.DESCRIBE, ResourceType.TOPIC, when="that the member subscribes to")


def _assignment(reply: ShareHeartbeatReply) -> Message | None:
    if reply.assignment is None:
        return None
    return Message(
        topic_partitions=[
            Message(topic_id=topic_id, partitions=partitions)
            for topic_id, partitions in reply.assignment.items()
        ]
    )


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    body = request.body

    def on_refusal(code: int, text: str) -> Message:
        return Message(error_code=code, error_message=text, member_id=None, assignment=None)

    if not all(context.allows(request, DESCRIBE, name) for name in body.subscribed_topic_names or ()):
        return on_refusal(DESCRIBE.code, DESCRIBE.text)
    heartbeat = ShareHeartbeat(
        group_id=body.group_id,
        member_id=body.member_id,
        member_epoch=body.member_epoch,
        rack_id=body.rack_id,
        client_id=request.client_id or "",
        client_host="/" + request.peer.rpartition(":")[0],
        topics=None if body.subscribed_topic_names is None else tuple(body.subscribed_topic_names),
    )

    def on_success(reply: ShareHeartbeatReply) -> Message:
        return Message(
            error_message=None,
            member_id=reply.member_id,
            member_epoch=reply.member_epoch,
            heartbeat_interval=reply.heartbeat_interval_ms,
            assignment=_assignment(reply),
        )

    return reply_for(context.node.share_groups.heartbeat(heartbeat), on_success, on_refusal)


HANDLER = Handler(key=76, versions=(1, 1), handle=handle, rights=(of_group(Operation.READ), DESCRIBE))
