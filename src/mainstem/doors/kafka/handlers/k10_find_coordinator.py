"""10 FindCoordinator.

Versions: 0-6.
Behaviour: this server coordinates every group: the answer is the address that the client's listener
advertises.
Notes: v1 adds the type of the key, v4 asks for many keys at once (KIP-699), v6 may ask for share groups
(KIP-932).
Left out: coordinators of transactions and of share groups: there are none yet; INVALID_REQUEST with a text,
which no client retries.
"""

from __future__ import annotations

from mainstem.doors.kafka.errors import ErrorCode
from mainstem.doors.kafka.handler import Answer, Context, Handler, Request
from mainstem.doors.kafka.message import Message

KEYS_SINCE = 4
GROUP, TRANSACTION, SHARE = 0, 1, 2
REFUSALS = {
    TRANSACTION: "this server has no transactions yet: use an idempotent producer without a transactional.id",
    SHARE: "this server has no share groups yet: use a consumer group",
}


def _coordinator(context: Context, request: Request, key: str) -> Message:
    kind = request.body.key_type
    if kind != GROUP:
        return Message(
            key=key,
            node_id=-1,
            host="",
            port=-1,
            error_code=ErrorCode.INVALID_REQUEST,
            error_message=REFUSALS.get(kind, f"there is no coordinator type {kind}"),
        )
    listener = request.connection.listener
    return Message(
        key=key, node_id=context.node_id, host=listener.host, port=listener.port, error_message=None
    )


def handle(context: Context, request: Request) -> Answer:
    """Tell who coordinates."""
    if request.version < KEYS_SINCE:
        return _coordinator(context, request, request.body.key)
    return Message(
        coordinators=[_coordinator(context, request, key) for key in request.body.coordinator_keys]
    )


HANDLER = Handler(key=10, versions=(0, 6), handle=handle)
