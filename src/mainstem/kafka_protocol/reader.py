"""Decodes requests and replies from bytes that nobody vouches for.

Owns: decoding a body, field by field, from the plan compiled for its key and version. Refuses everything that
does not fit: a count larger than the bytes left could hold, a string past the end, a null where none is
allowed; and requests with more elements than the caller allows, because an element of two bytes becomes an
object of hundreds. There is one error, ProtocolError; nothing is allocated before its size was checked
against the bytes that are there.

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
"""As Kafka: a longer string is refused, also where its length is a varint."""
CORRELATION_ID_BYTES = 4
MAX_TAGS = 1024
"""Tagged fields of one struct. The schemas know four at most."""


class ProtocolError(Exception):
    """The peer sent what the protocol does not allow. The connection cannot go on."""


class Message:
    """A request, a reply, or a struct in one: its fields as attributes, under kio's names."""

    def __init__(self, **fields: Any) -> None:
        self.__dict__ = fields

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"this message has no field {name!r}, only {sorted(self.__dict__)}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Message) and self.__dict__ == other.__dict__

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Message({', '.join(f'{name}={value!r}' for name, value in self.__dict__.items())})"


def read_uvarint(buffer: memoryview, at: int) -> tuple[int, int]:
    """An unsigned varint of at most 32 bits. IndexError past the end, ProtocolError if it is longer."""
    byte = buffer[at]
    if byte < 0x80:
        return byte, at + 1
    value, shift = byte & 0x7F, 7
    while True:
        at += 1
        byte = buffer[at]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
        if shift > 28:
            raise ProtocolError("a varint of more than 5 bytes")
    if value > 0xFFFFFFFF:
        raise ProtocolError("a varint of more than 32 bits")
    return value, at + 1


def read_tags(
    buffer: memoryview, at: int, known: dict[int, tuple[str, FieldDecoder]], into: dict[str, Any]
) -> int:
    """The tagged fields that end a struct; the unknown ones are skipped. The position after them."""
    count, at = read_uvarint(buffer, at)
    if count > MAX_TAGS or count * 2 > len(buffer) - at:
        raise ProtocolError(f"{count} tagged fields")
    for _ in range(count):
        tag, at = read_uvarint(buffer, at)
        size, at = read_uvarint(buffer, at)
        end = at + size
        if end > len(buffer):
            raise ProtocolError("a tagged field past the end of the frame")
        field = known.get(tag)
        if field is not None:
            into[field[0]], at = field[1](buffer, at)
            if at != end:
                raise ProtocolError(f"tagged field {tag} does not end where its size says")
        at = end
    return at


def _length_reader(prefix: str) -> FieldDecoder:
    """Reads a length, -1 for null: `prefix` is struct's letter, or "compact"."""
    if prefix == "compact":

        def read_compact(buffer: memoryview, at: int) -> tuple[int, int]:
            byte = buffer[at]
            if byte < 0x80:
                return byte - 1, at + 1
            value, at = read_uvarint(buffer, at)
            return value - 1, at

        return read_compact
    number = struct.Struct(">" + prefix)
    size, unpack = number.size, number.unpack_from

    def read(buffer: memoryview, at: int) -> tuple[int, int]:
        value: int = unpack(buffer, at)[0]
        if value < -1:
            raise ProtocolError(f"a length of {value}")
        return value, at + size

    return read


def _string_reader(flexible: bool, nullable: bool, name: str) -> FieldDecoder:
    length_of = _length_reader("compact" if flexible else "h")

    def read(buffer: memoryview, at: int) -> tuple[str | None, int]:
        length, at = length_of(buffer, at)
        end = at + length
        if length < 0:
            if nullable:
                return None, at
            raise ProtocolError(f"{name} is null")
        if length > MAX_STRING_BYTES or end > len(buffer):
            raise ProtocolError(f"{name} has {length} bytes")
        return str(buffer[at:end], "utf-8"), end

    return read


def _bytes_reader(flexible: bool, nullable: bool, name: str, copy: bool) -> FieldDecoder:
    length_of = _length_reader("compact" if flexible else "i")

    def read(buffer: memoryview, at: int) -> tuple[bytes | memoryview | None, int]:
        length, at = length_of(buffer, at)
        end = at + length
        if length < 0:
            if nullable:
                return None, at
            raise ProtocolError(f"{name} is null")
        if end > len(buffer):
            raise ProtocolError(f"{name} has {length} bytes")
        return (bytes(buffer[at:end]) if copy else buffer[at:end]), end

    return read


def _read_uuid(buffer: memoryview, at: int) -> tuple[UUID, int]:
    end = at + 16
    raw = bytes(buffer[at:end])
    if len(raw) != 16:
        raise ProtocolError("a uuid past the end of the frame")
    return (UUID(bytes=raw) if any(raw) else NO_UUID), end


def _fixed_reader(letter: str) -> FieldDecoder:
    number = struct.Struct(">" + letter)
    size, unpack = number.size, number.unpack_from

    def read(buffer: memoryview, at: int) -> tuple[Any, int]:
        return unpack(buffer, at)[0], at + size

    return read


class _ElementCounter:
    """Counts the elements of one request at a time."""

    __slots__ = ("left", "most")

    def __init__(self) -> None:
        self.left = self.most = 0

    def start(self, most: int) -> None:
        """A new request, of at most so many."""
        self.left = self.most = most

    def spend(self, count: int) -> None:
        """So many more. ProtocolError: too many."""
        self.left -= count
        if self.left < 0:
            raise ProtocolError(f"more than {self.most} elements (request_max_elements)")


_ELEMENT_COUNTER = _ElementCounter()


def _counted(length_of: FieldDecoder) -> FieldDecoder:
    """Reads the length of an array and counts its elements."""

    def read(buffer: memoryview, at: int) -> tuple[int, int]:
        count, at = length_of(buffer, at)
        if count > 0:
            _ELEMENT_COUNTER.spend(count)
        return count, at

    return read


def _array_reader(
    element: FieldDecoder, smallest: int, flexible: bool, nullable: bool, name: str, metered: bool
) -> FieldDecoder:
    length_of = _length_reader("compact" if flexible else "i")
    if metered:
        length_of = _counted(length_of)

    def read(buffer: memoryview, at: int) -> tuple[list[Any] | None, int]:
        count, at = length_of(buffer, at)
        if count < 0:
            if nullable:
                return None, at
            raise ProtocolError(f"{name} is null")
        if count * smallest > len(buffer) - at:
            raise ProtocolError(f"{name} has {count} elements")
        out = []
        for _ in range(count):
            value, at = element(buffer, at)
            out.append(value)
        return out, at

    return read


def _number_array_reader(
    letter: str, flexible: bool, nullable: bool, name: str, metered: bool
) -> FieldDecoder:
    length_of = _length_reader("compact" if flexible else "i")
    if metered:
        length_of = _counted(length_of)
    size = struct.calcsize(">" + letter)

    def read(buffer: memoryview, at: int) -> tuple[list[Any] | None, int]:
        count, at = length_of(buffer, at)
        if count < 0:
            if nullable:
                return None, at
            raise ProtocolError(f"{name} is null")
        if count * size > len(buffer) - at:
            raise ProtocolError(f"{name} has {count} elements")
        return list(struct.unpack_from(f">{count}{letter}", buffer, at)), at + count * size

    return read


def _nullable_struct_reader(inner: FieldDecoder) -> FieldDecoder:
    """KIP-893: one byte before it, negative for null."""

    def read(buffer: memoryview, at: int) -> tuple[Message | None, int]:
        if buffer[at] >= 0x80:
            return None, at + 1
        value: tuple[Message, int] = inner(buffer, at + 1)
        return value

    return read


def _reader_of(field: Field, version: int, flexible: bool, metered: bool) -> tuple[FieldDecoder, int]:
    """How to read a field, and its smallest size in bytes."""
    nullable = field.is_nullable(version) or (field.tag is not None and field.default is None)
    element: FieldDecoder
    if field.type == "struct":
        element, smallest = _struct_reader(field.fields, version, flexible, metered)
        if nullable and not field.array:
            return _nullable_struct_reader(element), 1
    elif field.type in FIXED:
        element, smallest = _fixed_reader(FIXED[field.type]), struct.calcsize(">" + FIXED[field.type])
        if field.array:
            numbers = _number_array_reader(FIXED[field.type], flexible, nullable, field.name, metered)
            return numbers, 1 if flexible else 4
    elif field.type == "uuid":
        element, smallest = _read_uuid, 16
    elif field.type == "string":
        element = _string_reader(flexible, nullable and not field.array, field.name)
        smallest = 1 if flexible else 2
    else:
        element = _bytes_reader(flexible, nullable and not field.array, field.name, field.type == "bytes")
        smallest = 1 if flexible else 4
    if field.array:
        elements = _array_reader(element, smallest, flexible, nullable, field.name, metered)
        return elements, 1 if flexible else 4
    return element, smallest


def default_message(fields: tuple[Field, ...]) -> Message:
    """A struct whose fields all have their defaults."""
    return Message(**{field.name: _default(field) for field in fields})


def _default(field: Field) -> Any:
    if field.type == "struct" and not field.array and field.default is not None:
        return default_message(field.fields)
    return default_of(field)


def _struct_reader(
    fields: tuple[Field, ...], version: int, flexible: bool, metered: bool = False
) -> tuple[FieldDecoder, int]:
    """The reader of a struct, and its smallest size. Neighbours of fixed size are read with one call."""
    plan: list[tuple[str, FieldDecoder | None, struct.Struct | None, tuple[str, ...]]] = []
    defaults = {f.name: _default(f) for f in fields if f.tag is not None or not f.in_version(version)}
    tags: dict[int, tuple[str, FieldDecoder]] = {}
    smallest = 1 if flexible else 0
    run: list[Field] = []

    def end_run() -> None:
        if len(run) == 1:
            plan.append((run[0].name, _fixed_reader(FIXED[run[0].type]), None, ()))
        elif run:
            numbers = struct.Struct(">" + "".join(FIXED[f.type] for f in run))
            plan.append(("", None, numbers, tuple(f.name for f in run)))
        run.clear()

    for field in fields:
        if not field.in_version(version):
            continue
        if field.tag is not None:
            tags[field.tag] = (field.name, _reader_of(field, version, flexible, metered)[0])
            continue
        if field.type in FIXED and not field.array:
            run.append(field)
            smallest += struct.calcsize(">" + FIXED[field.type])
            continue
        end_run()
        read_one, size = _reader_of(field, version, flexible, metered)
        smallest += size
        plan.append((field.name, read_one, None, ()))
    end_run()
    steps = tuple(plan)

    def read(buffer: memoryview, at: int) -> tuple[Message, int]:
        out = defaults.copy()
        for name, read_one, numbers, names in steps:
            if read_one is not None:
                out[name], at = read_one(buffer, at)
            else:
                assert numbers is not None
                out.update(zip(names, numbers.unpack_from(buffer, at)))  # noqa: B905 - as many, and hot
                at += numbers.size
        if flexible:
            if buffer[at]:
                at = read_tags(buffer, at, tags, out)
            else:
                at += 1
        message = Message()
        message.__dict__ = out  # not Message(**out): it would copy
        return message, at

    return read, max(smallest, 1)


@cache
def _request_reader(key: int, version: int, metered: bool) -> FieldDecoder:
    shape = api(key).request
    return _struct_reader(shape.fields, version, version >= shape.flexible, metered)[0]


def read_request(
    key: int, version: int, body: memoryview, at: int = 0, *, max_elements: int = 1 << 31
) -> Message:
    """The request that `body[at:]` begins with. ProtocolError if it does not, or if all its arrays together
    have more than `max_elements`. KeyError for an unknown key: the caller has looked at the versions that it
    offers. What is left after it is ignored, as Kafka does: librdkafka's Metadata request for all topics has
    three bytes too many."""
    # Each element has at least a byte of its own: a short request need not be counted, and most are short.
    metered = len(body) - at > max_elements
    if metered:
        _ELEMENT_COUNTER.start(max_elements)
    return _read_message(_request_reader(key, version, metered), body, at)


@cache
def _reply_reader(key: int, version: int) -> FieldDecoder:
    shape = api(key).response
    return _struct_reader(shape.fields, version, version >= shape.flexible)[0]


def read_reply(key: int, version: int, frame: memoryview) -> Message:
    """The reply in a frame without its length: after the correlation id and, in flexible versions, the tagged
    fields of the header. ProtocolError if it does not fit; KeyError for an unknown key. Bytes after the
    reply are ignored."""
    return _read_message(partial(_read_after_header, key, version), frame, CORRELATION_ID_BYTES)


def _read_after_header(key: int, version: int, frame: memoryview, at: int) -> tuple[Message, int]:
    if has_flexible_reply_header(key, version):
        at = read_tags(frame, at, {}, {})
    reply: tuple[Message, int] = _reply_reader(key, version)(frame, at)
    return reply


def _read_message(read: FieldDecoder, data: memoryview, at: int) -> Message:
    """What `read` decodes from `data[at:]`. ProtocolError if the bytes do not fit."""
    try:
        message, _ = read(data, at)
    except (IndexError, struct.error):
        raise ProtocolError("the frame ends inside a field") from None
    except UnicodeDecodeError:
        raise ProtocolError("a string is not UTF-8") from None
    assert isinstance(message, Message)
    return message
