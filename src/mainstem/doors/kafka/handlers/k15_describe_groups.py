"""15 DescribeGroups.

Versions: 0-6.
Behaviour: describes a group's state and members; the members' metadata only while the group is stable. A
group that does not exist is described as Dead. One that is named more than once is described once. Many
groups are described in several turns of the event loop.
Notes: v3 may request the authorized operations; v4 shows instance ids; from v6 on a group that does not
exist has the error GROUP_ID_NOT_FOUND as well (KIP-1043).
Left out: nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mainstem.access_contract import Operation, Resource, ResourceType
from mainstem.coordinator.groups.types import GroupView
from mainstem.doors.kafka.authorized_operations import NOT_REQUESTED, authorized_operations
from mainstem.doors.kafka.errors import ErrorCode
from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.doors.kafka.per_item import reply_for
from mainstem.doors.kafka.rights import of_each
from mainstem.kafka_protocol.message import Message
from mainstem.kafka_protocol.writer import ArrayWriter
from mainstem.turns import run_in_turns

MEMBERS_PER_TURN = 500
"""Groups and members that are encoded in one turn of the event loop."""

NOT_FOUND_SINCE = 6
DESCRIBE = of_each(Operation.DESCRIBE, ResourceType.GROUP)


def _described(view: GroupView, operations: int) -> Message:
    return Message(
        group_id=view.group_id,
        group_state=view.state.value,
        protocol_type=view.protocol_type,
        protocol_data=view.protocol,
        members=[
            Message(
                member_id=member.member_id,
                group_instance_id=member.instance_id,
                client_id=member.client_id,
                client_host=member.client_host,
                member_metadata=member.metadata,
                member_assignment=member.assignment,
            )
            for member in view.members
        ],
        authorized_operations=operations,
    )


def _missing(context: HandlerContext, group_id: str, version: int, operations: int) -> Message:
    is_share = context.node.share_groups.find(group_id) is not None
    has_error = version >= NOT_FOUND_SINCE
    return Message(
        error_code=ErrorCode.GROUP_ID_NOT_FOUND if has_error else 0,
        error_message=f"Group {group_id} {'is not a classic group' if is_share else 'not found'}."
        if has_error
        else None,
        group_id=group_id,
        group_state="Dead",
        authorized_operations=NOT_REQUESTED if has_error else operations,
    )


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    may_see = {name: context.allows(request, DESCRIBE, name) for name in request.body.groups}
    group_ids: Sequence[str] = [name for name, is_allowed in may_see.items() if is_allowed]
    refused = [
        Message(group_id=name, error_code=DESCRIBE.code)
        for name, is_allowed in may_see.items()
        if not is_allowed
    ]
    groups = ArrayWriter(15, request.version, "groups")

    def operations(group_id: str) -> int:
        if not request.body.include_authorized_operations:
            return NOT_REQUESTED
        return authorized_operations(context, request, Resource(ResourceType.GROUP, group_id))

    def encode(views: list[GroupView | None]) -> Iterator[int]:
        for message in refused:
            groups.add(message)
            yield 1
        for group_id, view in zip(group_ids, views, strict=True):
            if view is None:
                groups.add(_missing(context, group_id, request.version, operations(group_id)))
            else:
                groups.add(_described(view, operations(group_id)))
            yield 1 + (0 if view is None else len(view.members))

    def on_success(_: None) -> Message:
        return Message(groups=groups.encoded())

    def on_refusal(code: int, text: str) -> Message:
        failed = [Message(group_id=group_id, error_code=code, error_message=text) for group_id in group_ids]
        return Message(groups=refused + failed)

    described = context.groups.describe(group_ids)
    encoded = described.chain(lambda views: run_in_turns(context.clock, encode(views), MEMBERS_PER_TURN))
    return reply_for(encoded, on_success, on_refusal)


HANDLER = Handler(key=15, versions=(0, 6), handle=handle, rights=(DESCRIBE,))
