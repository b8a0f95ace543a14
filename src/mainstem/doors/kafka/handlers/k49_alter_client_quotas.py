"""49 AlterClientQuotas.

Versions: 0-1.
Behaviour: sets and removes quotas of users, client ids, both and addresses (KIP-546, 612); each entity is
changed whole or not at all, and has its own result. Entities and values that Kafka refuses are refused with
INVALID_REQUEST and its words. To remove what is not there is no error; of a type that is named twice, the
last name counts.
Notes: v1 is flexible.
Left out: `controller_mutation_rate` (KIP-599), which is refused: nothing here enforces it, and a quota that
is not enforced must not look as if it were. Names of hosts: an entity of type ip is an address.
"""

from __future__ import annotations

from mainstem.access_contract import Operation
from mainstem.coordinator.errors import InvalidRequest
from mainstem.doors.kafka.errors import code_of
from mainstem.doors.kafka.handler import Handler, HandlerContext, HandlerResult, Request
from mainstem.doors.kafka.rights import of_cluster
from mainstem.kafka_protocol.message import Message
from mainstem.quota_contract import DEFAULT, QuotaAlteration, QuotaEntity, QuotaKey

FIELDS = {"user": "user", "client-id": "client_id", "ip": "ip"}
"""Kafka's type of an entity -> field of `QuotaEntity`."""
KEYS = {str(key): key for key in QuotaKey}


def _entity(entry: Message) -> QuotaEntity:
    names: dict[str, str] = {}
    for part in entry.entity:
        field = FIELDS.get(part.entity_type)
        if field is None:
            raise InvalidRequest(f"Unhandled client quota entity type: {part.entity_type[:100]}")
        if part.entity_name == "":
            raise InvalidRequest(f"Empty {part.entity_type} not supported")
        names[field] = DEFAULT if part.entity_name is None else part.entity_name
    return QuotaEntity(**names)


def _changes(entry: Message) -> dict[QuotaKey, float | None]:
    changes: dict[QuotaKey, float | None] = {}
    for change in entry.ops:
        key = KEYS.get(change.key)
        if key is None and change.remove:
            continue
        if key is None:
            raise InvalidRequest(f"Invalid configuration key {change.key[:100]}")
        if key in changes:
            raise InvalidRequest(f"{key} is changed twice")
        changes[key] = None if change.remove else change.value
    return changes


def _alteration(entry: Message) -> QuotaAlteration | InvalidRequest:
    try:
        return _entity(entry), _changes(entry)
    except InvalidRequest as refusal:
        return refusal


def _result(entry: Message, refusal: Exception | None) -> Message:
    if refusal is None:
        return Message(error_message=None, entity=entry.entity)
    return Message(error_code=code_of(refusal), error_message=str(refusal), entity=entry.entity)


def handle(context: HandlerContext, request: Request) -> HandlerResult:
    entries = request.body.entries
    parsed = [_alteration(entry) for entry in entries]
    valid = [alteration for alteration in parsed if not isinstance(alteration, InvalidRequest)]

    def reply(refusals: list[Exception | None]) -> Message:
        """The reply; what could not be read was not passed on."""
        left = iter(refusals)
        results = [item if isinstance(item, InvalidRequest) else next(left) for item in parsed]
        return Message(entries=list(map(_result, entries, results)))

    validate_only = request.body.validate_only
    return context.access.quotas.alter_each(valid, validate_only=validate_only).map(reply)


def on_error(request: Request, code: int) -> Message:
    """The reply with the error `code` for every entity."""
    return Message(entries=[Message(error_code=code, entity=entry.entity) for entry in request.body.entries])


HANDLER = Handler(
    key=49, versions=(0, 1), handle=handle, rights=(of_cluster(Operation.ALTER_CONFIGS),), on_error=on_error
)
