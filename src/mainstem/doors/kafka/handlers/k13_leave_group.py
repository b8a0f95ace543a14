"""13 LeaveGroup.

Versions: 0-5.
Behaviour: members leave at once, and the others rebalance. A member that is named by its instance id alone is
removed by an administrator.
Notes: v3 takes many members, each with its own code (KIP-345); before, the one member's code is the reply's.
v5 has a reason (KIP-800, logged).
Left out: nothing.
"""

from __future__ import annotations

from mainstem.coordinator.errors import CoordinatorError
from mainstem.coordinator.groups.types import LeaveRequest
from mainstem.doors.kafka.errors import code_of
from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.kafka_protocol.message import Message

MEMBERS_SINCE = 3


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    """Leave a group."""
    body = request.body
    many = request.version >= MEMBERS_SINCE
    leaving = (
        [LeaveRequest(one.member_id, one.group_instance_id, one.reason or "") for one in body.members]
        if many
        else [LeaveRequest(body.member_id)]
    )

    def done(verdicts: list[CoordinatorError | None]) -> Message:
        codes = [0 if error is None else int(code_of(error)) for error in verdicts]
        return Message(
            error_code=0 if many else codes[0],
            members=[
                Message(member_id=one.member_id, group_instance_id=one.instance_id, error_code=code)
                for one, code in zip(leaving, codes, strict=True)
            ],
        )

    return context.groups.leave(body.group_id, leaving).map(done)


HANDLER = Handler(key=13, versions=(0, 5), handle=handle)
