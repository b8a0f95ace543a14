"""48 DescribeClientQuotas.

Versions: 0-1.
Behaviour: the quotas of the entities that the filter matches, as Kafka finds them: an entity has every type
of the filter, with that name where the match is exact; strict: it has no other type. A filter that Kafka
refuses is refused with the same code.
Notes: v1 is flexible.
Left out: nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mainstem.access_contract import Operation
from mainstem.doors.kafka.errors import ErrorCode
from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.doors.kafka.rights import of_cluster
from mainstem.kafka_protocol.message import Message
from mainstem.quota_contract import DEFAULT, QuotaEntity

USER, CLIENT_ID, IP = "user", "client-id", "ip"
TYPES = (USER, CLIENT_ID, IP)
"""The types of entities, in the order of the fields of `QuotaEntity`."""
EXACT, DEFAULT_NAME, SPECIFIED = 0, 1, 2
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
        if kind not in TYPES:
            return ErrorCode.UNSUPPORTED_VERSION, f"Unsupported entity type {kind[:100]}"
        if match_type not in (EXACT, DEFAULT_NAME, SPECIFIED):
            return ErrorCode.INVALID_REQUEST, f"Unknown match type {match_type}"
        if (match_type == EXACT) != (component.match is not None):
            text = "A match by name (0) needs a name, and no other match has it."
            return ErrorCode.INVALID_REQUEST, text
        seen.add(kind)
    if IP in seen and len(seen) > 1:
        return ErrorCode.INVALID_REQUEST, "A filter by ip cannot be combined with user or client-id."
    return None


def _matches(entity: QuotaEntity, components: Sequence[Message], strict: bool) -> bool:
    names = dict(_names(entity))
    if strict and len(names) != len(components):
        return False
    for component in components:
        name = names.get(component.entity_type)
        if name is None:
            return False
        if component.match_type == EXACT and (name == DEFAULT or name != component.match):
            return False
        if component.match_type == DEFAULT_NAME and name != DEFAULT:
            return False
    return True


def _names(entity: QuotaEntity) -> Iterator[tuple[str, str]]:
    """(type, name) of those that the entity has."""
    return ((kind, name) for kind, name in zip(TYPES, entity, strict=True) if name is not None)


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    components, strict = request.body.components, request.body.strict
    refusal = _refusal(components)
    if refusal is not None:
        return Message(error_code=refusal[0], error_message=refusal[1], entries=None)
    entries = [
        Message(
            entity=[Message(entity_type=kind, entity_name=name or None) for kind, name in _names(entity)],
            values=[Message(key=str(key), value=value) for key, value in values.items()],
        )
        for entity, values in context.access.quotas.quotas().items()
        if _matches(entity, components, strict)
    ]
    return context.node.runtime.read(Message(error_message=None, entries=entries))


HANDLER = Handler(key=48, versions=(0, 1), handle=handle, rights=(of_cluster(Operation.DESCRIBE_CONFIGS),))
