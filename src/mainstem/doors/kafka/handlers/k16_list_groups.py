"""16 ListGroups.

Versions: 0-5.
Behaviour: lists all groups by name, also those that have only committed offsets, and share groups. Groups of
one kind come after those of another. A group that the client has no right to describe is left out.
Notes: v4 filters by state and returns each group's state; v5 does the same for the type, `classic` or
`share`.
Left out: groups of the consumer and streams protocols: there are none.
"""

from __future__ import annotations

from collections.abc import Iterator

from mainstem.access_contract import Operation, ResourceType
from mainstem.coordinator.groups.types import GroupListing
from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.doors.kafka.rights import of_each
from mainstem.kafka_protocol.message import Message
from mainstem.kafka_protocol.writer import ArrayWriter
from mainstem.promise import Promise
from mainstem.turns import run_in_turns

GROUPS_PER_TURN = 500
DESCRIBE = of_each(Operation.DESCRIBE, ResourceType.GROUP, or_cluster=Operation.DESCRIBE)


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    groups = ArrayWriter(16, request.version, "groups")

    def encode(listings: list[GroupListing]) -> Iterator[int]:
        for listing in listings:
            yield 1
            if not context.allows(request, DESCRIBE, listing.group_id, is_filter=True):
                continue
            groups.add(
                Message(
                    group_id=listing.group_id,
                    protocol_type=listing.protocol_type,
                    group_state=listing.state.value,
                    group_type=listing.type,
                )
            )

    states, types = request.body.states_filter, request.body.types_filter

    def add(listings: list[GroupListing]) -> Promise[None]:
        return run_in_turns(context.clock, encode(listings), GROUPS_PER_TURN)

    return (
        context.groups.list(states, types)
        .chain(add)
        .chain(lambda _: context.node.share_groups.list(states, types))
        .chain(add)
        .map(lambda _: Message(groups=groups.encoded()))
    )


HANDLER = Handler(key=16, versions=(0, 5), handle=handle, rights=(DESCRIBE,))
