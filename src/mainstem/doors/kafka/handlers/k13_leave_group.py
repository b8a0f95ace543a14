"""13 LeaveGroup.

Versions: 0-5.
Behaviour: removes members at once; the others rebalance. Administrators remove a static member by its
instance id alone.
Notes: v3 takes several members, each with its own error code (KIP-345); before, the one member's code is the
reply's. v5 has a reason, which is logged (KIP-800).
Left out: nothing.
"""

from __future__ import annotations

from mainstem.access_contract import Operation
from mainstem.coordinator.errors import CoordinatorError
from mainstem.coordinator.groups.types import LeaveRequest
from mainstem.doors.kafka.errors import code_of
from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.doors.kafka.rights import of_group
from mainstem.kafka_protocol.message import Message

MEMBERS_SINCE = 3


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    body = request.body
    has_members = request.version >= MEMBERS_SINCE
    leaving = (
        [
            LeaveRequest(member.member_id, member.group_instance_id, member.reason or "")
            for member in body.members
        ]
        if has_members
        else [LeaveRequest(body.member_id)]
    )

    def on_success(errors: list[CoordinatorError | None]) -> Message:
        codes = [0 if error is None else int(code_of(error)) for error in errors]
        return Message(
            error_code=0 if has_members else codes[0],
            members=[
                Message(member_id=member.member_id, group_instance_id=member.instance_id, error_code=code)
                for member, code in zip(leaving, codes, strict=True)
            ],
        )

    return context.groups.leave(body.group_id, leaving).map(on_success)


HANDLER = Handler(key=13, versions=(0, 5), handle=handle, rights=(of_group(Operation.READ),))
