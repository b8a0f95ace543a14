"""31 DeleteAcls.

Versions: 1-3.
Behaviour: SECURITY_DISABLED for every filter, as from a Kafka broker without an authorizer.
Notes: v2 is flexible; v3 knows user resources.
Left out: access rules, which do not exist yet.
"""

from __future__ import annotations

from mainstem.doors.kafka.errors import ErrorCode
from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.kafka_protocol.message import Message


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    return Message(
        filter_results=[
            Message(
                error_code=ErrorCode.SECURITY_DISABLED,
                error_message="This server has no access rules yet: there is none to delete.",
                matching_acls=[],
            )
            for _ in request.body.filters
        ]
    )


HANDLER = Handler(key=31, versions=(1, 3), handle=handle)
