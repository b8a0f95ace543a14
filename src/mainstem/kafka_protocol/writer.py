"""Encodes Kafka's replies and requests.

Owns: encoding a body from a Message, by the plan compiled for its key and version; fields that the version
lacks are left out, and fields that the message does not set get the schema's default. Refuses a field that no
version has with AssertionError: it is a typing mistake of the caller. The Kafka door encodes its Produce and
Fetch replies faster, in doors/kafka/fast_replies.py.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, TypeAlias

from mainstem.kafka_protocol.reader import Message
from mainstem.kafka_protocol.schema import FIXED, NO_UUID, Field, api, default_of

FieldEncoder: TypeAlias = Callable[[bytearray, Any], None]


class EncodedArray(bytes):
    """An array of a reply that is already encoded in the reply's version, with its length."""


def uvarint(value: int) -> bytes:
    """Encode an unsigned varint. `value`: at least 0."""
    if value < 0x80:
        return value.to_bytes(1, "big")
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _length_writer(flexible: bool, letter: str) -> Callable[[int], bytes]:
    """The encoder of a length, -1 for null. `letter`: its format character of `struct` in inflexible
    versions."""
    if flexible:
        return lambda length: uvarint(length + 1)
    return struct.Struct(">" + letter).pack


def _string_writer(flexible: bool, nullable: bool) -> FieldEncoder:
    length_of = _length_writer(flexible, "h")

    def write(out: bytearray, value: str | None) -> None:
        if value is None:
            out += length_of(-1 if nullable else 0)
            return
        data = value.encode()
        out += length_of(len(data))
        out += data

    return write


def _bytes_writer(flexible: bool, nullable: bool) -> FieldEncoder:
    length_of = _length_writer(flexible, "i")

    def write(out: bytearray, value: bytes | memoryview | None) -> None:
        if value is None:
            out += length_of(-1 if nullable else 0)
            return
        out += length_of(len(value))
        out += value

    return write


def _write_uuid(out: bytearray, value: Any) -> None:
    out += (value or NO_UUID).bytes


def _array_writer(element: FieldEncoder, flexible: bool, nullable: bool) -> FieldEncoder:
    length_of = _length_writer(flexible, "i")

    def write(out: bytearray, value: Sequence[Any] | None) -> None:
        if value is None:
            out += length_of(-1 if nullable else 0)
            return
        if isinstance(value, EncodedArray):
            out += value
            return
        out += length_of(len(value))
        for item in value:
            element(out, item)

    return write


def _fixed_writer(letter: str) -> FieldEncoder:
    pack = struct.Struct(">" + letter).pack

    def write(out: bytearray, value: Any) -> None:
        out += pack(value)

    return write


def _nullable_struct_writer(inner: FieldEncoder) -> FieldEncoder:
    def write(out: bytearray, value: Message | None) -> None:
        if value is None:
            out += b"\xff"
        else:
            out += b"\x01"
            inner(out, value)

    return write


def _writer_of(field: Field, version: int, flexible: bool) -> FieldEncoder:
    nullable = field.is_nullable(version) or (field.tag is not None and field.default is None)
    element: FieldEncoder
    if field.type == "struct":
        element = _struct_writer(field.fields, version, flexible)
        if nullable and not field.array:
            return _nullable_struct_writer(element)
    elif field.type in FIXED:
        element = _fixed_writer(FIXED[field.type])
    elif field.type == "uuid":
        element = _write_uuid
    elif field.type == "string":
        element = _string_writer(flexible, nullable and not field.array)
    else:
        element = _bytes_writer(flexible, nullable and not field.array)
    if field.array:
        return _array_writer(element, flexible, nullable)
    return element


def _default(field: Field) -> Any:
    if field.type == "struct" and not field.array and field.default is not None:
        return Message()
    return default_of(field)


def _is_default(field: Field, value: Any) -> bool:
    """Whether a tagged field may be left out: it has its default; a struct if all its fields have theirs."""
    if field.type == "struct" and not field.array and value is not None:
        values = vars(value)
        return all(_is_default(inner, values.get(inner.name, _default(inner))) for inner in field.fields)
    if field.array and value is not None:
        return len(value) == 0 and default_of(field) is not None
    return bool(value == default_of(field))


def _struct_writer(fields: tuple[Field, ...], version: int, flexible: bool) -> FieldEncoder:
    known = frozenset(field.name for field in fields)
    present = [field for field in fields if field.in_version(version)]
    tagged = sorted((f for f in present if f.tag is not None), key=lambda f: f.tag or 0)
    tag_writers = [(f, uvarint(f.tag or 0), _writer_of(f, version, flexible)) for f in tagged]
    steps: list[tuple[struct.Struct | None, tuple[tuple[str, Any], ...], FieldEncoder | None]] = []
    adjacent: list[Field] = []

    def end_adjacent() -> None:
        if adjacent:
            numbers = struct.Struct(">" + "".join(FIXED[f.type] for f in adjacent))
            steps.append((numbers, tuple((f.name, _default(f)) for f in adjacent), None))
            adjacent.clear()

    for field in present:
        if field.tag is not None:
            continue
        if field.type in FIXED and not field.array:
            adjacent.append(field)
            continue
        end_adjacent()
        steps.append((None, ((field.name, _default(field)),), _writer_of(field, version, flexible)))
    end_adjacent()
    plan = tuple(steps)

    def write(out: bytearray, message: Message) -> None:
        values = vars(message)
        if not values.keys() <= known:
            raise AssertionError(
                f"no version has {sorted(values.keys() - known)}; its fields: {sorted(known)}"
            )
        for numbers, names, write_field in plan:
            if numbers is not None:
                out += numbers.pack(*[values.get(name, default) for name, default in names])
            else:
                assert write_field is not None
                name, default = names[0]
                write_field(out, values.get(name, default))
        if flexible:
            _write_tags(out, values, tag_writers)

    return write


def _write_tags(
    out: bytearray, values: dict[str, Any], writers: list[tuple[Field, bytes, FieldEncoder]]
) -> None:
    count, tags = 0, bytearray()
    for field, tag, write_field in writers:
        if field.name not in values or _is_default(field, values[field.name]):
            continue
        value = bytearray()
        write_field(value, values[field.name])
        tags += tag + uvarint(len(value)) + value
        count += 1
    out += uvarint(count) + tags


@cache
def _reply_writer(key: int, version: int) -> FieldEncoder:
    shape = api(key).response
    return _struct_writer(shape.fields, version, version >= shape.flexible)


def write_reply(key: int, version: int, message: Message) -> bytearray:
    """The body of a reply, without length and header."""
    out = bytearray()
    _reply_writer(key, version)(out, message)
    return out


@cache
def _request_writer(key: int, version: int) -> FieldEncoder:
    shape = api(key).request
    return _struct_writer(shape.fields, version, version >= shape.flexible)


def write_request(key: int, version: int, message: Message) -> bytearray:
    """The body of a request, without length and header."""
    out = bytearray()
    _request_writer(key, version)(out, message)
    return out


@cache
def _element_writer(key: int, version: int, *names: str) -> FieldEncoder:
    shape = api(key).response
    fields = shape.fields
    for name in names:
        (field,) = [field for field in fields if field.name == name]
        fields = field.fields
    return _struct_writer(fields, version, version >= shape.flexible)


class ArrayWriter:
    """Encodes an array of structs of a reply, a few elements at a time, where the whole would take too long
    for one turn of the event loop. `names`: the fields that lead to it, such as "topics", "configs"."""

    def __init__(self, key: int, version: int, *names: str) -> None:
        self._write = _element_writer(key, version, *names)
        self._length_of = _length_writer(version >= api(key).response.flexible, "i")
        self._body = bytearray()
        self._count = 0

    def add(self, element: Message) -> None:
        """Encode one more element."""
        self._write(self._body, element)
        self._count += 1

    def encoded(self) -> EncodedArray:
        """The array, in place of its elements in a message."""
        return EncodedArray(self._length_of(self._count) + self._body)
