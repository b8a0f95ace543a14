"""16 ListGroups.

Versions: 0-5.
Behaviour: all groups by name, those that only committed offsets too.
Notes: v4 may ask for some states and tells each group's, v5 does so for types: all are `classic`.
Left out: groups of the consumer, share and streams protocols; there are none.
"""

from __future__ import annotations

from mainstem.coordinator.groups.types import GroupListing
from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.kafka_protocol.message import Message


def _reply(listings: list[GroupListing]) -> Message:
    return Message(
        groups=[
            Message(
                group_id=one.group_id,
                protocol_type=one.protocol_type,
                group_state=one.state.value,
                group_type=one.type,
            )
            for one in listings
        ]
    )


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    """List groups."""
    return context.groups.list(request.body.states_filter, request.body.types_filter).map(_reply)


HANDLER = Handler(key=16, versions=(0, 5), handle=handle)
