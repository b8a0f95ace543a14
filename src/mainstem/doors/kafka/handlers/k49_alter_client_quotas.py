"""49 AlterClientQuotas.

Versions: 0-1.
Behaviour: INVALID_REQUEST for every entity, with a text that names the reason. Nothing is stored: a quota
that is not enforced must not look as if it were.
Notes: v1 is flexible.
Left out: quotas, which do not exist yet.
"""

from __future__ import annotations

from mainstem.doors.kafka.errors import ErrorCode
from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.kafka_protocol.message import Message


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    return Message(
        entries=[
            Message(
                error_code=ErrorCode.INVALID_REQUEST,
                error_message="This server has no client quotas yet: nothing was changed.",
                entity=entry.entity,
            )
            for entry in request.body.entries
        ]
    )


HANDLER = Handler(key=49, versions=(0, 1), handle=handle)
