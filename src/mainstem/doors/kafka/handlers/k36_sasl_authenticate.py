"""36 SaslAuthenticate.

Versions: 0-2.
Behaviour: carries one token of the mechanism that SaslHandshake chose. Whatever is wrong,
SASL_AUTHENTICATION_FAILED with one text, after `connection.failed.authentication.delay.ms` (KIP-306), then
the end of the connection. At the wrong place ILLEGAL_SASL_STATE.
Notes: v1 adds how long the session lasts (KIP-368); v2 is flexible.
Left out: nothing.
"""

from __future__ import annotations

from mainstem.doors.kafka.errors import ErrorCode
from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.doors.kafka.rights import NoRights
from mainstem.kafka_protocol.message import Message


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    session = request.connection.sasl
    if session is None:
        return Message(
            error_code=ErrorCode.ILLEGAL_SASL_STATE,
            error_message="SaslAuthenticate request received on a listener without authentication",
            auth_bytes=b"",
        )
    return session.authenticate(request)


HANDLER = Handler(key=36, versions=(0, 2), handle=handle, rights=NoRights("it proves who the client is"))
