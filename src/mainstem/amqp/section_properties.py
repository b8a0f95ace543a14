"""The sections of an AMQP 1.0 message as AMQP 0-9-1 properties: what stream clients send, for queue clients.

Owns: which field becomes which property, as RabbitMQ converts messages. What has no property of its own is a
header under its own name. Refuses: to read sections (`mainstem.amqp_sections`).
"""

from __future__ import annotations

import json
from typing import Any

from mainstem.amqp.field_values import FieldTable, Int64, LongBytes
from mainstem.amqp_sections import MAPS, SectionError, jsonable, read_sections

TEXTS = {
    "message-id": "message_id",
    "user-id": "user_id",
    "reply-to": "reply_to",
    "correlation-id": "correlation_id",
    "content-type": "content_type",
    "content-encoding": "content_encoding",
}
"""Field of the properties -> the property that it is."""
BASIC_TYPE = "x-basic-type"
"""The message annotation that RabbitMQ makes of the property `type`."""
ANNOTATION_PREFIX = "x-"
"""Of the annotations that are headers in AMQP 0-9-1."""
NAME_BYTES_MAX = 255
UINT64 = 1 << 64
INT64 = 1 << 63


def section_properties(data: bytes) -> tuple[dict[str, Any], FieldTable]:
    """(properties by their names in `Properties`, headers) of sections; none if they are damaged."""
    try:
        sections = read_sections(data)
    except SectionError:
        return {}, {}
    maps = {kind: sections.pop(kind, {}) for kind in MAPS.values()}
    fields: dict[str, Any] = {}
    table: FieldTable = {}
    for name, value in sections.items():
        if (known := _property(name, value)) is not None:
            fields |= known
        elif name not in ("first-acquirer", "delivery-count"):
            table[name] = _table_value(value)
    for name, value in maps["message-annotations"].items():
        if name == BASIC_TYPE and _is_short(value):
            fields["type"] = value
        elif name.startswith(ANNOTATION_PREFIX):
            table[_short_name(name)] = _table_value(value)
    for name, value in maps["application-properties"].items():
        table[_short_name(name)] = _table_value(value)
    return fields, table


def _property(name: str, value: Any) -> dict[str, Any] | None:
    """The property that a field is; None: there is none for it, or it does not fit."""
    if name in TEXTS:
        text = jsonable(value) if isinstance(value, bytes | str) else str(value)
        return {TEXTS[name]: text} if _is_short(text) else None
    if name == "durable":
        return {"delivery_mode": 2 if value is True else 1}
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < UINT64:
        return None
    if name == "priority" and value <= 255:
        return {"priority": value}
    if name == "ttl":
        return {"expiration": str(value)}
    return {"timestamp": value // 1000} if name == "creation-time" else None


def _is_short(value: Any) -> bool:
    return isinstance(value, str) and len(value.encode("utf-8", "replace")) <= NAME_BYTES_MAX


def _short_name(name: str) -> str:
    return name.encode("utf-8", "replace")[:NAME_BYTES_MAX].decode("utf-8", "ignore")


def _table_value(value: Any) -> Any:
    """A value of a table: numbers that fit as such, binary data as it is, lists and maps as JSON."""
    if isinstance(value, bytes):
        return LongBytes(value)
    if isinstance(value, list | dict):
        return json.dumps(jsonable(value), separators=(",", ":"))
    if isinstance(value, int) and not isinstance(value, bool):
        return Int64(value) if -INT64 <= value < INT64 else str(value)
    return value
