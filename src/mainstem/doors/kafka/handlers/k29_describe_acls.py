"""29 DescribeAcls.

Versions: 1-3.
Behaviour: SECURITY_DISABLED, as from a Kafka broker without an authorizer.
Notes: v2 is flexible; v3 knows user resources.
Left out: access rules, which do not exist yet.
"""

from __future__ import annotations

from mainstem.doors.kafka.errors import ErrorCode
from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.kafka_protocol.message import Message


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    return Message(
        error_code=ErrorCode.SECURITY_DISABLED,
        error_message="This server has no access rules yet: everybody who can connect may do everything.",
    )


HANDLER = Handler(key=29, versions=(1, 3), handle=handle)
