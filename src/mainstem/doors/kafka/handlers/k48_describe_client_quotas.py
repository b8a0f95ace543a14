"""48 DescribeClientQuotas.

Versions: 0-1.
Behaviour: there is none. A filter that Kafka refuses is refused with the same code.
Notes: v1 is flexible.
Left out: quotas, which do not exist yet.
"""

from __future__ import annotations

from collections.abc import Sequence

from mainstem.doors.kafka.errors import ErrorCode
from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.kafka_protocol.message import Message

USER, CLIENT_ID, IP = "user", "client-id", "ip"
EXACT, DEFAULT, SPECIFIED = 0, 1, 2
"""How a filter matches the name of an entity."""


def _refusal(components: Sequence[Message]) -> tuple[ErrorCode, str] | None:
    """The code and text for a filter that Kafka refuses (ClientQuotasImage.describe); None for a good one."""
    seen: set[str] = set()
    for component in components:
        kind, match_type = component.entity_type, component.match_type
        if not kind:
            return ErrorCode.INVALID_REQUEST, "Invalid empty entity type."
        if kind in seen:
            return ErrorCode.INVALID_REQUEST, f"Entity type {kind} appears more than once."
        if kind not in (USER, CLIENT_ID, IP):
            return ErrorCode.UNSUPPORTED_VERSION, f"Unsupported entity type {kind[:100]}"
        if match_type not in (EXACT, DEFAULT, SPECIFIED):
            return ErrorCode.INVALID_REQUEST, f"Unknown match type {match_type}"
        if (match_type == EXACT) != (component.match is not None):
            text = "A match by name (0) needs a name, and no other match has it."
            return ErrorCode.INVALID_REQUEST, text
        seen.add(kind)
    if IP in seen and len(seen) > 1:
        return ErrorCode.INVALID_REQUEST, "A filter by ip cannot be combined with user or client-id."
    return None


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    refusal = _refusal(request.body.components)
    if refusal is not None:
        return Message(error_code=refusal[0], error_message=refusal[1], entries=None)
    return Message(error_message=None, entries=[])


HANDLER = Handler(key=48, versions=(0, 1), handle=handle)
