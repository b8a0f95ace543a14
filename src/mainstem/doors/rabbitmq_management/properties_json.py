"""Message properties and tables as JSON, as RabbitMQ writes and reads them.

Owns: that mapping. Refuses: values that JSON has no form for: octets become text, and a date its seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec

from mainstem.amqp.properties import Properties
from mainstem.doors.rabbitmq_management.refusals import bad_request

WHOLE_NUMBERS = {"delivery_mode": 255, "priority": 255, "timestamp": (1 << 64) - 1}
"""The properties that are no text -> their largest value."""


def json_value(value: Any) -> Any:
    """A value of a table."""
    if isinstance(value, Mapping):
        return {str(name): json_value(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_value(item) for item in value]
    if isinstance(value, bytes | bytearray):
        return bytes(value).decode(errors="replace")
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if value == value and abs(value) != float("inf") else str(value)
    return str(value).encode(errors="surrogateescape").decode(errors="replace")


def properties_json(properties: Properties) -> Any:
    """The properties that are there. Erlang writes none of them as an empty array."""
    present = {
        name: json_value(value)
        for name, value in msgspec.structs.asdict(properties).items()
        if value is not None
    }
    return present or []


def properties_of(value: Mapping[str, Any]) -> Properties:
    """The properties of a JSON object. ApiRefusal: one of them has another type."""
    known: dict[str, Any] = {}
    for name in Properties.__struct_fields__:
        item = value.get(name)
        if item is None:
            continue
        if name == "headers":
            known[name] = _headers(item)
        elif name in WHOLE_NUMBERS:
            if isinstance(item, bool) or not isinstance(item, int) or not 0 <= item <= WHOLE_NUMBERS[name]:
                raise bad_request(["not_int", name])
            known[name] = item
        elif isinstance(item, str) and len(item.encode(errors="replace")) <= 255:
            known[name] = item
        else:
            raise bad_request(["not_string", name])
    return Properties(**known)


def _headers(item: Any) -> dict[str, Any]:
    if not isinstance(item, dict):
        raise bad_request(["not_object", "headers"])
    return item
