"""51 AlterUserScramCredentials.

Versions: 0.
Behaviour: SECURITY_DISABLED for every user, with a text that names the reason. Nothing is stored: a password
that is never asked for must not look as if it protected anything.
Notes: the only version is flexible.
Left out: users, which do not exist yet.
"""

from __future__ import annotations

from mainstem.doors.kafka.errors import ErrorCode
from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.kafka_protocol.message import Message


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    body = request.body
    return Message(
        results=[
            Message(
                user=name,
                error_code=ErrorCode.SECURITY_DISABLED,
                error_message="This server has no authentication yet: nothing was stored or deleted.",
            )
            for name in dict.fromkeys(change.name for change in (*body.deletions, *body.upsertions))
        ]
    )


HANDLER = Handler(key=51, versions=(0, 0), handle=handle)
