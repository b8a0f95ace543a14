"""17 SaslHandshake.

Versions: 0-1.
Behaviour: chooses the mechanism of the authentication that follows. The reply lists the mechanisms of the
listener. UNSUPPORTED_SASL_MECHANISM, then the end of the connection, if the mechanism is none of them. On a
listener without authentication, and on an authenticated connection whose session does not expire,
ILLEGAL_SASL_STATE; where it expires, the request begins a renewal (KIP-368).
Notes: after v0 the client sends its tokens as frames without a header (before KIP-152); after v1 in
SaslAuthenticate.
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
        return Message(error_code=ErrorCode.ILLEGAL_SASL_STATE, mechanisms=[])
    return session.handshake(request)


HANDLER = Handler(
    key=17, versions=(0, 1), handle=handle, rights=NoRights("it comes before the client is anybody")
)
