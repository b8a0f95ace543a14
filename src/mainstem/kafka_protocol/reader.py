"""Decodes Kafka's requests and replies from untrusted bytes.

Owns: decoding a body, field by field, from the plan compiled for its key and version. Refuses everything that
does not fit: a count larger than the bytes left could hold, a string past the end, a null where none is
allowed; and requests with more elements than the caller allows, because an element of two bytes becomes an
object of hundreds. There is one error, ProtocolError; nothing is allocated before its size was checked
against the bytes that are there (RequestTooLarge, a kind of it, for too many elements).

Unknown tagged fields are skipped (KIP-482). `records` are memoryviews into the frame, everything else is
copied.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import cache, partial
from typing import Any, TypeAlias
from uuid import UUID

from mainstem.kafka_protocol.schema import (
    FIXED,
    NO_UUID,
    Field,
    api,
    default_of,
    has_flexible_reply_header,
)

FieldDecoder: TypeAlias = Callable[[memoryview, int], tuple[Any, int]]

MAX_STRING_BYTES = 0x7FFF
"""A longer string is refused, as in Kafka, also where its length is a varint."""
CORRELATION_ID_BYTES = 4
MAX_TAGS = 1024
"""Most tagged fields of one struct that are accepted. The schemas know four at most."""


class ProtocolError(Exception):
    """The error for bytes that the protocol does not allow. The connection to the peer has to be closed."""


class RequestTooLarge(ProtocolError):
    """The error for a request above a limit of the receiver. The bytes may be as the protocol has them."""


class Message:
    """A request, a reply, or a struct in one. Its fields are attributes, named as in schema.json."""

    def __init__(self, **fields: Any) -> None:
        self.__dict__ = fields

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"this message has no field {name!r}, only {sorted(self.__dict__)}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Message) and self.__dict__ == other.__dict__

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Message({', '.join(f'{name}={value!r}' for name, value in self.__dict__.items())})"


def read_uvarint(buffer: memoryview, position: int) -> tuple[int, int]:
    """An unsigned varint, and the position after it. IndexError past the end of the buffer, ProtocolError for
    more than 32 bits."""
    byte = buffer[position]
    if byte < 0x80:
        return byte, position + 1
    value, shift = byte & 0x7F, 7
    while True:
        position += 1
        byte = buffer[position]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
        if shift > 28:
            raise ProtocolError("a varint of more than 5 bytes")
    if value > 0xFFFFFFFF:
        raise ProtocolError("a varint of more than 32 bits")
    return value, position + 1


def read_tags(
    buffer: memoryview, position: int, known: dict[int, tuple[str, FieldDecoder]], into: dict[str, Any]
) -> int:
    """Decode the tagged fields that end a struct into `into`, and skip the unknown ones. Returns the position
    after them."""
    count, position = read_uvarint(buffer, position)
    if count > MAX_TAGS or count * 2 > len(buffer) - position:
        raise ProtocolError(f"{count} tagged fields, more than the frame or the limit of {MAX_TAGS} allows")
    for _ in range(count):
        tag, position = read_uvarint(buffer, position)
        size, position = read_uvarint(buffer, position)
        end = position + size
        if end > len(buffer):
            raise ProtocolError("a tagged field ends past the end of the frame")
        field = known.get(tag)
        if field is not None:
            into[field[0]], position = field[1](buffer, position)
            if position != end:
                raise ProtocolError(f"tagged field {tag} does not end where its size says")
        position = end
    return position


def _length_reader(prefix: str) -> FieldDecoder:
    """The decoder of a length, -1 for null. `prefix`: a format character of `struct`, or "compact"."""
    if prefix == "compact":

        def read_compact(buffer: memoryview, position: int) -> tuple[int, int]:
            byte = buffer[position]
            if byte < 0x80:
                return byte - 1, position + 1
            value, position = read_uvarint(buffer, position)
            return value - 1, position

        return read_compact
    number = struct.Struct(">" + prefix)
    size, unpack = number.size, number.unpack_from

    def read(buffer: memoryview, position: int) -> tuple[int, int]:
        value: int = unpack(buffer, position)[0]
        if value < -1:
            raise ProtocolError(f"a length of {value}, below -1")
        return value, position + size

    return read


def _string_reader(flexible: bool, nullable: bool, name: str) -> FieldDecoder:
    length_of = _length_reader("compact" if flexible else "h")

    def read(buffer: memoryview, position: int) -> tuple[str | None, int]:
        length, position = length_of(buffer, position)
        end = position + length
        if length < 0:
            if nullable:
                return None, position
            raise ProtocolError(f"{name} is null, which this version does not allow")
        if length > MAX_STRING_BYTES or end > len(buffer):
            raise ProtocolError(f"{name} has a length of {length} bytes, too long for a string or the frame")
        # As Kafka decodes strings: what is not UTF-8 becomes a replacement character.
        return str(buffer[position:end], "utf-8", "replace"), end

    return read


def _bytes_reader(flexible: bool, nullable: bool, name: str, copy: bool) -> FieldDecoder:
    length_of = _length_reader("compact" if flexible else "i")

    def read(buffer: memoryview, position: int) -> tuple[bytes | memoryview | None, int]:
        length, position = length_of(buffer, position)
        end = position + length
        if length < 0:
            if nullable:
                return None, position
            raise ProtocolError(f"{name} is null, which this version does not allow")
        if end > len(buffer):
            raise ProtocolError(f"{name} has a length of {length} bytes, too long for the frame")
        return (bytes(buffer[position:end]) if copy else buffer[position:end]), end

    return read


def _read_uuid(buffer: memoryview, position: int) -> tuple[UUID, int]:
    end = position + 16
    raw = bytes(buffer[position:end])
    if len(raw) != 16:
        raise ProtocolError("a uuid ends past the end of the frame")
    return (UUID(bytes=raw) if any(raw) else NO_UUID), end


def _fixed_reader(letter: str) -> FieldDecoder:
    number = struct.Struct(">" + letter)
    size, unpack = number.size, number.unpack_from

    def read(buffer: memoryview, position: int) -> tuple[Any, int]:
        return unpack(buffer, position)[0], position + size

    return read


class _ElementCounter:
    """Counts the elements of all arrays of a request, one request at a time."""

    __slots__ = ("max_elements", "remaining")

    def __init__(self) -> None:
        self.remaining = self.max_elements = 0

    def start(self, max_elements: int) -> None:
        """Begin to count a new request, which may have at most `max_elements`."""
        self.remaining = self.max_elements = max_elements

    def spend(self, count: int) -> None:
        """Count an array of `count` elements. ProtocolError if the request has too many now."""
        self.remaining -= count
        if self.remaining < 0:
            raise RequestTooLarge(f"more than {self.max_elements} elements (request_max_elements)")


_ELEMENT_COUNTER = _ElementCounter()


def _counted(length_of: FieldDecoder) -> FieldDecoder:
    """The decoder of an array's length that also counts the elements against the limit of the request."""

    def read(buffer: memoryview, position: int) -> tuple[int, int]:
        count, position = length_of(buffer, position)
        if count > 0:
            _ELEMENT_COUNTER.spend(count)
        return count, position

    return read


def _array_reader(
    element: FieldDecoder, min_size: int, flexible: bool, nullable: bool, name: str, metered: bool
) -> FieldDecoder:
    length_of = _length_reader("compact" if flexible else "i")
    if metered:
        length_of = _counted(length_of)

    def read(buffer: memoryview, position: int) -> tuple[list[Any] | None, int]:
        count, position = length_of(buffer, position)
        if count < 0:
            if nullable:
                return None, position
            raise ProtocolError(f"{name} is null, which this version does not allow")
        if count * min_size > len(buffer) - position:
            raise ProtocolError(f"{name} has a count of {count} elements, more than the frame can hold")
        out = []
        for _ in range(count):
            value, position = element(buffer, position)
            out.append(value)
        return out, position

    return read


def _number_array_reader(
    letter: str, flexible: bool, nullable: bool, name: str, metered: bool
) -> FieldDecoder:
    length_of = _length_reader("compact" if flexible else "i")
    if metered:
        length_of = _counted(length_of)
    size = struct.calcsize(">" + letter)

    def read(buffer: memoryview, position: int) -> tuple[list[Any] | None, int]:
        count, position = length_of(buffer, position)
        if count < 0:
            if nullable:
                return None, position
            raise ProtocolError(f"{name} is null, which this version does not allow")
        if count * size > len(buffer) - position:
            raise ProtocolError(f"{name} has a count of {count} elements, more than the frame can hold")
        return list(struct.unpack_from(f">{count}{letter}", buffer, position)), position + count * size

    return read


def _nullable_struct_reader(inner: FieldDecoder) -> FieldDecoder:
    """The decoder of a nullable struct: one byte before it is negative for null (KIP-893)."""

    def read(buffer: memoryview, position: int) -> tuple[Message | None, int]:
        if buffer[position] >= 0x80:
            return None, position + 1
        value: tuple[Message, int] = inner(buffer, position + 1)
        return value

    return read


def _reader_of(field: Field, version: int, flexible: bool, metered: bool) -> tuple[FieldDecoder, int]:
    """The decoder of a field, and the field's minimum size in bytes."""
    nullable = field.is_nullable(version) or (field.tag is not None and field.default is None)
    element: FieldDecoder
    if field.type == "struct":
        element, min_size = _struct_reader(field.fields, version, flexible, metered)
        if nullable and not field.array:
            return _nullable_struct_reader(element), 1
    elif field.type in FIXED:
        element, min_size = _fixed_reader(FIXED[field.type]), struct.calcsize(">" + FIXED[field.type])
        if field.array:
            numbers = _number_array_reader(FIXED[field.type], flexible, nullable, field.name, metered)
            return numbers, 1 if flexible else 4
    elif field.type == "uuid":
        element, min_size = _read_uuid, 16
    elif field.type == "string":
        element = _string_reader(flexible, nullable and not field.array, field.name)
        min_size = 1 if flexible else 2
    else:
        element = _bytes_reader(flexible, nullable and not field.array, field.name, field.type == "bytes")
        min_size = 1 if flexible else 4
    if field.array:
        elements = _array_reader(element, min_size, flexible, nullable, field.name, metered)
        return elements, 1 if flexible else 4
    return element, min_size


def default_message(fields: tuple[Field, ...]) -> Message:
    """A Message for a struct whose fields all have their defaults."""
    return Message(**{field.name: _default(field) for field in fields})


def _default(field: Field) -> Any:
    if field.type == "struct" and not field.array and field.default is not None:
        return default_message(field.fields)
    return default_of(field)


def _struct_reader(
    fields: tuple[Field, ...], version: int, flexible: bool, metered: bool = False
) -> tuple[FieldDecoder, int]:
    """The decoder of a struct, and its minimum size in bytes. Adjacent fields of fixed size are decoded in
    one call."""
    plan: list[tuple[str, FieldDecoder | None, struct.Struct | None, tuple[str, ...]]] = []
    defaults = {f.name: _default(f) for f in fields if f.tag is not None or not f.in_version(version)}
    tags: dict[int, tuple[str, FieldDecoder]] = {}
    min_size = 1 if flexible else 0
    adjacent: list[Field] = []

    def end_adjacent() -> None:
        if len(adjacent) == 1:
            plan.append((adjacent[0].name, _fixed_reader(FIXED[adjacent[0].type]), None, ()))
        elif adjacent:
            numbers = struct.Struct(">" + "".join(FIXED[f.type] for f in adjacent))
            plan.append(("", None, numbers, tuple(f.name for f in adjacent)))
        adjacent.clear()

    for field in fields:
        if not field.in_version(version):
            continue
        if field.tag is not None:
            tags[field.tag] = (field.name, _reader_of(field, version, flexible, metered)[0])
            continue
        if field.type in FIXED and not field.array:
            adjacent.append(field)
            min_size += struct.calcsize(">" + FIXED[field.type])
            continue
        end_adjacent()
        read_field, size = _reader_of(field, version, flexible, metered)
        min_size += size
        plan.append((field.name, read_field, None, ()))
    end_adjacent()
    steps = tuple(plan)

    def read(buffer: memoryview, position: int) -> tuple[Message, int]:
        out = defaults.copy()
        for name, read_field, numbers, names in steps:
            if read_field is not None:
                out[name], position = read_field(buffer, position)
            else:
                assert numbers is not None
                out.update(zip(names, numbers.unpack_from(buffer, position)))  # noqa: B905 - equal lengths, hot path
                position += numbers.size
        if flexible:
            if buffer[position]:
                position = read_tags(buffer, position, tags, out)
            else:
                position += 1
        message = Message()
        message.__dict__ = out  # not Message(**out): it would copy
        return message, position

    return read, max(min_size, 1)


@cache
def _request_reader(key: int, version: int, metered: bool) -> FieldDecoder:
    shape = api(key).request
    return _struct_reader(shape.fields, version, version >= shape.flexible, metered)[0]


def read_request(
    key: int, version: int, body: memoryview, position: int = 0, *, max_elements: int = 1 << 31
) -> Message:
    """The request that begins at `position`. ProtocolError if the bytes do not fit, or if all arrays together
    have more than `max_elements`. KeyError for an unknown key: the caller has checked that it is offered.
    Bytes after the request are ignored, as in Kafka: librdkafka's Metadata request for all topics has three
    too many."""
    # Each element has at least one byte: a request of fewer bytes need not be counted, and most are short.
    metered = len(body) - position > max_elements
    if metered:
        _ELEMENT_COUNTER.start(max_elements)
    return _read_message(_request_reader(key, version, metered), body, position)


@cache
def _reply_reader(key: int, version: int) -> FieldDecoder:
    shape = api(key).response
    return _struct_reader(shape.fields, version, version >= shape.flexible)[0]


def read_reply(key: int, version: int, frame: memoryview) -> Message:
    """The reply in a frame without its length: after the correlation id and, in flexible versions, the tagged
    fields of the header. ProtocolError if it does not fit; KeyError for an unknown key. Bytes after the
    reply are ignored."""
    return _read_message(partial(_read_after_header, key, version), frame, CORRELATION_ID_BYTES)


def _read_after_header(key: int, version: int, frame: memoryview, position: int) -> tuple[Message, int]:
    if has_flexible_reply_header(key, version):
        position = read_tags(frame, position, {}, {})
    reply: tuple[Message, int] = _reply_reader(key, version)(frame, position)
    return reply


def _read_message(read: FieldDecoder, data: memoryview, position: int) -> Message:
    """What `read` decodes from `data[position:]`. ProtocolError if the bytes do not fit."""
    try:
        message, end = read(data, position)
    except (IndexError, struct.error):
        raise ProtocolError("the frame ends inside a field") from None
    assert end <= len(data), "a message ends inside its frame"
    assert isinstance(message, Message)
    return message
