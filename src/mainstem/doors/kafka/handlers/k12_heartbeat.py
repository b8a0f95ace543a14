"""12 Heartbeat.

Versions: 0-4.
Behaviour: restarts the member's session timeout. REBALANCE_IN_PROGRESS makes the member join again; while the
leader computes the assignment, a heartbeat succeeds.
Notes: v3 has static members: FENCED_INSTANCE_ID if another member has taken over the instance id.
Left out: nothing.
"""

from __future__ import annotations

from mainstem.access_contract import Operation
from mainstem.coordinator.groups.types import Heartbeat
from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.doors.kafka.rights import of_group
from mainstem.kafka_protocol.message import Message


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    body = request.body
    heartbeat = Heartbeat(
        group_id=body.group_id,
        member_id=body.member_id,
        generation=body.generation_id,
        instance_id=body.group_instance_id,
    )
    return context.groups.heartbeat(heartbeat).map(lambda _: Message())


HANDLER = Handler(key=12, versions=(0, 4), handle=handle, rights=(of_group(Operation.READ),))
