"""10 FindCoordinator.

Versions: 0-6.
Behaviour: returns the address that the client's listener advertises: this server coordinates every group.
Notes: v1 adds the type of the key; v4 takes several keys (KIP-699); v6 may ask for share groups (KIP-932).
Left out: coordinators of transactions and of share groups, which do not exist yet. They are refused with a
text and an error code that no client retries: TRANSACTIONAL_ID_AUTHORIZATION_FAILED and INVALID_REQUEST.
"""

from __future__ import annotations

from mainstem.doors.kafka.errors import ErrorCode
from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.kafka_protocol.message import Message

KEYS_SINCE = 4
GROUP, TRANSACTION, SHARE = 0, 1, 2
REFUSALS = {
    TRANSACTION: (
        ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        "this server has no transactions yet: use an idempotent producer without a transactional.id",
    ),
    SHARE: (ErrorCode.INVALID_REQUEST, "this server has no share groups yet: use a consumer group"),
}
"""The error code and text for each type of coordinator that this server does not have. No client retries
these codes: librdkafka retries every other refusal of a transaction's coordinator."""


def _coordinator(context: HandlerContext, request: Request, **key: str) -> Message:
    key_type = request.body.key_type
    if key_type != GROUP:
        code, text = REFUSALS.get(
            key_type, (ErrorCode.INVALID_REQUEST, f"unknown coordinator type {key_type}")
        )
        return Message(
            **key,
            node_id=-1,
            host="",
            port=-1,
            error_code=code,
            error_message=text,
        )
    address = request.connection.advertised
    return Message(**key, node_id=context.node_id, host=address.host, port=address.port, error_message=None)


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    if request.version < KEYS_SINCE:
        return _coordinator(context, request)
    return Message(
        coordinators=[_coordinator(context, request, key=key) for key in request.body.coordinator_keys]
    )


HANDLER = Handler(key=10, versions=(0, 6), handle=handle)
