"""14 SyncGroup.

Versions: 0-5.
Behaviour: returns a member's assignment; the reply waits until the leader has sent all assignments and they
are durable. A member that the leader left out gets an empty assignment that a consumer can decode.
Notes: v3 has static members; v5 requires the protocol's type and name and checks them (KIP-559).
Left out: nothing.
"""

from __future__ import annotations

from mainstem.access_contract import Operation
from mainstem.coordinator.errors import InconsistentProtocol
from mainstem.coordinator.groups.types import SyncReply, SyncRequest
from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.doors.kafka.rights import of_group
from mainstem.kafka_protocol.message import Message

PROTOCOL_SINCE = 5


def _reply(synced: SyncReply) -> Message:
    return Message(
        protocol_type=synced.protocol_type, protocol_name=synced.protocol, assignment=synced.assignment
    )


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    body = request.body
    if request.version >= PROTOCOL_SINCE and (body.protocol_type is None or body.protocol_name is None):
        raise InconsistentProtocol("SyncGroup requires the protocol's type and name from version 5 on")
    sync = SyncRequest(
        group_id=body.group_id,
        member_id=body.member_id,
        generation=body.generation_id,
        instance_id=body.group_instance_id,
        protocol_type=body.protocol_type,
        protocol=body.protocol_name,
        assignments=tuple((member.member_id, bytes(member.assignment)) for member in body.assignments),
    )
    return context.groups.sync(sync).map(_reply)


HANDLER = Handler(key=14, versions=(0, 5), handle=handle, rights=(of_group(Operation.READ),))
