"""12 Heartbeat.

Versions: 0-4.
Behaviour: the member's session begins anew. REBALANCE_IN_PROGRESS tells it to join again; while the
assignment is being made a heartbeat is fine.
Notes: v3 has static members: FENCED_INSTANCE_ID when another took over the instance id.
Left out: nothing.
"""

from __future__ import annotations

from mainstem.coordinator.groups.types import Heartbeat
from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.kafka_protocol.message import Message


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    """A member lives."""
    body = request.body
    beat = Heartbeat(
        group_id=body.group_id,
        member_id=body.member_id,
        generation=body.generation_id,
        instance_id=body.group_instance_id,
    )
    return context.groups.heartbeat(beat).map(lambda _: Message())


HANDLER = Handler(key=12, versions=(0, 4), handle=handle)
