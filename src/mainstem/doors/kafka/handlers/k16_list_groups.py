"""16 ListGroups.

Versions: 0-5.
Behaviour: lists all groups by name, also those that have only committed offsets.
Notes: v4 filters by state and returns each group's state; v5 does the same for the type, which is always
`classic`.
Left out: groups of the consumer, share and streams protocols: there are none.
"""

from __future__ import annotations

from mainstem.coordinator.groups.types import GroupListing
from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.kafka_protocol.message import Message


def _reply(listings: list[GroupListing]) -> Message:
    return Message(
        groups=[
            Message(
                group_id=listing.group_id,
                protocol_type=listing.protocol_type,
                group_state=listing.state.value,
                group_type=listing.type,
            )
            for listing in listings
        ]
    )


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    return context.groups.list(request.body.states_filter, request.body.types_filter).map(_reply)


HANDLER = Handler(key=16, versions=(0, 5), handle=handle)
