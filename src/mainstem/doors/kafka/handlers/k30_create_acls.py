"""30 CreateAcls.

Versions: 1-3.
Behaviour: SECURITY_DISABLED for every rule, as from a Kafka broker without an authorizer. Nothing is stored:
a rule that is not enforced must not look as if it were.
Notes: v2 is flexible; v3 knows user resources.
Left out: access rules, which do not exist yet.
"""

from __future__ import annotations

from mainstem.doors.kafka.errors import ErrorCode
from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.kafka_protocol.message import Message


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    return Message(
        results=[
            Message(
                error_code=ErrorCode.SECURITY_DISABLED,
                error_message="This server has no access rules yet: the rule was not stored.",
            )
            for _ in request.body.creations
        ]
    )


HANDLER = Handler(key=30, versions=(1, 3), handle=handle)
