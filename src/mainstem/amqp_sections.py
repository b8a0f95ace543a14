"""Reads the sections in front of the payload of an AMQP 1.0 message (AMQP 1.0, parts 1.6 and 3.2).

Clients of RabbitMQ's stream protocol send such messages, and the log keeps these sections as they came.
Owns: their decoding, for those who want to see what is in them. Refuses: bodies, writing, and values that are
nested deeper than DEPTH_MAX. No count in the data is trusted.
"""

from __future__ import annotations

import binascii
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

DEPTH_MAX = 16
EMPTY_ITEMS_MAX = 1_000
"""Most items of an array whose items have no bytes."""
Reader = Callable[[bytes], Any]


class SectionError(ValueError):
    """The bytes are no sections."""


def _number(layout: str) -> Reader:
    unpack = struct.Struct(">" + layout).unpack
    return lambda data: unpack(data)[0]


def _decimal(data: bytes) -> str:
    return "0x" + binascii.hexlify(data).decode()  # decimals of IEEE 754, which clients do not write


_FIXED: Mapping[int, tuple[int, Reader]] = {
    0x40: (0, lambda _: None),
    0x41: (0, lambda _: True),
    0x42: (0, lambda _: False),
    0x43: (0, lambda _: 0),
    0x44: (0, lambda _: 0),
    0x50: (1, _number("B")),
    0x51: (1, _number("b")),
    0x52: (1, _number("B")),
    0x53: (1, _number("B")),
    0x54: (1, _number("b")),
    0x55: (1, _number("b")),
    0x56: (1, lambda data: data != b"\x00"),
    0x60: (2, _number("H")),
    0x61: (2, _number("h")),
    0x70: (4, _number("I")),
    0x71: (4, _number("i")),
    0x72: (4, _number("f")),
    0x73: (4, lambda data: data.decode("utf-32-be", "replace")),
    0x74: (4, _decimal),
    0x80: (8, _number("Q")),
    0x81: (8, _number("q")),
    0x82: (8, _number("d")),
    0x83: (8, lambda data: int.from_bytes(data, "big", signed=True)),
    0x84: (8, _decimal),
    0x94: (16, _decimal),
    0x98: (16, lambda data: str(UUID(bytes=data))),
}
"""Type's code -> its width, and its value."""
_VARIABLE: Mapping[int, Reader] = {
    0xA0: bytes,
    0xA1: lambda data: data.decode(errors="replace"),
    0xA3: lambda data: data.decode(errors="replace"),
}
"""Code of the type with a length of one byte -> its value; that with four has 0x10 more."""
_LIST, _LIST_SMALL, _LIST_LARGE, _MAP_SMALL, _MAP_LARGE = 0x45, 0xC0, 0xD0, 0xC1, 0xD1
_ARRAY_SMALL, _ARRAY_LARGE = 0xE0, 0xF0

HEADER, DELIVERY_ANNOTATIONS, MESSAGE_ANNOTATIONS, PROPERTIES, APPLICATION_PROPERTIES = range(0x70, 0x75)
HEADER_FIELDS = ("durable", "priority", "ttl", "first-acquirer", "delivery-count")
PROPERTY_FIELDS = (
    "message-id",
    "user-id",
    "to",
    "subject",
    "reply-to",
    "correlation-id",
    "content-type",
    "content-encoding",
    "absolute-expiry-time",
    "creation-time",
    "group-id",
    "group-sequence",
    "reply-to-group-id",
)
MAPS = {
    DELIVERY_ANNOTATIONS: "delivery-annotations",
    MESSAGE_ANNOTATIONS: "message-annotations",
    APPLICATION_PROPERTIES: "application-properties",
}


class _ValueReader:
    """A place in the data."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.position = 0

    @property
    def is_at_end(self) -> bool:
        return self.position == len(self._data)

    def take(self, count: int) -> bytes:
        start, self.position = self.position, self.position + count
        if self.position > len(self._data):
            raise SectionError("the data is cut")
        return self._data[start : self.position]

    def number(self, width: int) -> int:
        return int.from_bytes(self.take(width), "big")

    def value(self, depth: int = 0) -> Any:
        """The next value."""
        code = self.number(1)
        if code == 0:
            self.value(depth + 1)  # what type it is, beside its form
            return self.value(depth + 1)
        return self.value_of(code, depth)

    def value_of(self, code: int, depth: int) -> Any:
        """The value of a type."""
        if depth > DEPTH_MAX:
            raise SectionError(f"values are nested deeper than {DEPTH_MAX}")
        if (fixed := _FIXED.get(code)) is not None:
            width, read = fixed
            return read(self.take(width))
        if (variable := _VARIABLE.get(code & 0xEF)) is not None and code & 0xF0 in (0xA0, 0xB0):
            return variable(self.take(self.number(4 if code & 0x10 else 1)))
        if code == _LIST:
            return []
        if code in (_LIST_SMALL, _LIST_LARGE, _MAP_SMALL, _MAP_LARGE, _ARRAY_SMALL, _ARRAY_LARGE):
            return self._compound(code, depth + 1)
        raise SectionError(f"there is no type {code:#x}")

    def _compound(self, code: int, depth: int) -> Any:
        width = 4 if code & 0x10 else 1
        size = self.number(width)
        inner = _ValueReader(self.take(size))
        count = inner.number(width)
        if code in (_ARRAY_SMALL, _ARRAY_LARGE):
            return inner.items_of_type(count, depth)
        if count > size:
            raise SectionError("more items than bytes")
        items = [inner.value(depth) for _ in range(count)]
        if code in (_LIST_SMALL, _LIST_LARGE):
            return items
        if count % 2:
            raise SectionError("a map with a key and no value")
        return {_name(key): value for key, value in zip(items[::2], items[1::2], strict=True)}

    def items_of_type(self, count: int, depth: int) -> list[Any]:
        """The items of an array."""
        code = self.number(1)
        if code == 0:
            self.value(depth)
            code = self.number(1)
        if count > max(len(self._data), EMPTY_ITEMS_MAX):
            raise SectionError("more items than bytes")
        return [self.value_of(code, depth) for _ in range(count)]


def _name(key: Any) -> str:
    return key if isinstance(key, str) else str(jsonable(key))


def read_sections(data: bytes) -> dict[str, Any]:
    """What sections say: header and properties by their fields' names (AMQP 1.0, 3.2.1 and 3.2.4), without
    those that are null, and each of the maps under its name (MAPS). Times are ms since 1970.
    SectionError: they are none."""
    reader, fields = _ValueReader(data), dict[str, Any]()
    while not reader.is_at_end:
        if reader.number(1) != 0:
            raise SectionError("a section is a described value")
        code, value = reader.value(), reader.value()
        if not isinstance(code, int):
            raise SectionError("the descriptor of a section is a number")
        if code in (HEADER, PROPERTIES) and isinstance(value, list):
            names: Sequence[str] = HEADER_FIELDS if code == HEADER else PROPERTY_FIELDS
            fields |= {name: item for name, item in zip(names, value, strict=False) if item is not None}
        elif code in MAPS and isinstance(value, dict):
            fields[MAPS[code]] = value
        else:
            raise SectionError(f"{code!r} is no section in front of a body")
    return fields


def jsonable(value: Any) -> Any:
    """A value as JSON has it: binary data as text, with escapes for what is no UTF-8."""
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    if isinstance(value, dict):
        return {name: jsonable(item) for name, item in value.items()}
    if isinstance(value, list):
        return [jsonable(item) for item in value]
    if isinstance(value, float) and not abs(value) < float("inf"):
        return str(value)
    return value
