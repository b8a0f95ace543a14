"""10 FindCoordinator.

Versions: 0-6.
Behaviour: returns the address that the client's listener advertises: this server coordinates every group, of
whatever kind.
Notes: v1 adds the type of the key; v4 takes several keys (KIP-699); v6 may ask for the keeper of the state
of a share group in a partition (KIP-932), by a key `group:topic id:partition`.
Left out: coordinators of transactions, which do not exist yet. They are refused with a text and an error
code that no client retries, TRANSACTIONAL_ID_AUTHORIZATION_FAILED.
"""

from __future__ import annotations

import re

from mainstem.access_contract import CLUSTER_NAME, Operation, ResourceType
from mainstem.doors.kafka.errors import ErrorCode
from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.doors.kafka.rights import of_each
from mainstem.kafka_protocol.message import Message

KEYS_SINCE = 4
SHARE_SINCE = 6
GROUP, TRANSACTION, SHARE = 0, 1, 2
NO_TRANSACTIONS = (
    ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    "this server has no transactions yet: use an idempotent producer without a transactional.id",
)
"""librdkafka retries every other refusal of a transaction's coordinator."""
DESCRIBE = of_each(Operation.DESCRIBE, ResourceType.GROUP)
KEEP_SHARE_STATE = of_each(
    Operation.CLUSTER_ACTION, ResourceType.CLUSTER, when="for the keeper of share state"
)
_SHARE_KEY = re.compile(r".+:[A-Za-z0-9_-]{22}:[0-9]{1,9}", re.DOTALL)


def _refusal(context: HandlerContext, request: Request, key: str) -> tuple[ErrorCode, str] | None:
    """Why this server does not coordinate what is asked for; None: it does."""
    key_type = request.body.key_type
    if key_type == TRANSACTION:
        return NO_TRANSACTIONS
    if key_type == GROUP and not context.allows(request, DESCRIBE, key):
        return DESCRIBE.code, DESCRIBE.text
    if key_type == SHARE and request.version >= SHARE_SINCE:
        if not context.allows(request, KEEP_SHARE_STATE, CLUSTER_NAME):
            return KEEP_SHARE_STATE.code, KEEP_SHARE_STATE.text
        if _SHARE_KEY.fullmatch(key):
            return None
        return ErrorCode.INVALID_REQUEST, "the key is not of the form group:topic id:partition"
    return None if key_type == GROUP else (ErrorCode.INVALID_REQUEST, f"unknown coordinator type {key_type}")


def _coordinator(context: HandlerContext, request: Request, key: str) -> Message:
    named = {"key": key} if request.version >= KEYS_SINCE else {}
    refusal = _refusal(context, request, key)
    if refusal is not None:
        code, text = refusal
        return Message(**named, node_id=-1, host="", port=-1, error_code=code, error_message=text)
    address = request.connection.advertised
    return Message(**named, node_id=context.node_id, host=address.host, port=address.port, error_message=None)


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    if request.version < KEYS_SINCE:
        return _coordinator(context, request, request.body.key)
    return Message(
        coordinators=[_coordinator(context, request, key) for key in request.body.coordinator_keys]
    )


HANDLER = Handler(key=10, versions=(0, 6), handle=handle, rights=(DESCRIBE, KEEP_SHARE_STATE))
