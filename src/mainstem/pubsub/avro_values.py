"""Compares values with an Avro schema: in Avro's binary encoding, and in its JSON encoding (Avro 1.12).

Owns: what is a value of a type in each encoding. In JSON a field with a default may be missing, and what the
schema has not is passed. Refuses: to make objects of values, and to spend more on a value than in
proportion to its bytes, whatever it says of itself.
"""

from __future__ import annotations

import msgspec

from mainstem.pubsub.avro_schema import (
    AvroArray,
    AvroEnum,
    AvroFixed,
    AvroMap,
    AvroPrimitive,
    AvroRecord,
    AvroType,
    AvroUnion,
    branch_name,
)

DEPTH_MAX = 100
"""Maximum nesting of a value."""
EMPTY_VALUES_MAX = 10_000
"""Most values of no bytes, such as null, in a message, beside one for each byte."""

_FIXED_BYTES = {"null": 0, "boolean": 1, "float": 4, "double": 8}
_BITS = {"int": 32, "long": 64}
_NOT_FINITE = ("NaN", "Infinity", "-Infinity")


class ValueInvalid(ValueError):
    """The error for data that is no value of the schema. The message says what is wrong, for people."""


def check_avro_binary(type_: AvroType, data: bytes) -> None:
    """Check that bytes are one value of the type in the binary encoding, and nothing more. ValueInvalid."""
    reader = _BinaryReader(data)
    reader.value(type_, 0)
    if reader.position != len(data):
        raise ValueInvalid(f"{len(data) - reader.position} bytes follow the value")


def check_avro_json(type_: AvroType, data: bytes) -> None:
    """Check that bytes are one value of the type in the JSON encoding. ValueInvalid."""
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise ValueInvalid(f"no JSON: {error}") from None
    _check_json(type_, value, "the value", 0)


class _BinaryReader:
    """Passes over values."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.position = 0
        self._room = len(data) + EMPTY_VALUES_MAX

    def value(self, type_: AvroType, depth: int) -> None:
        """Pass a value of this type."""
        if depth > DEPTH_MAX:
            raise ValueInvalid(f"values nest at most {DEPTH_MAX} deep")
        self._room -= 1
        if self._room < 0:
            raise ValueInvalid("too many values that have no bytes")
        match type_:
            case AvroPrimitive(kind):
                self._primitive(kind)
            case AvroRecord():
                for field in type_.fields:
                    self.value(field.type, depth + 1)
            case AvroEnum(name, symbols):
                if not 0 <= (index := self._number("int")) < len(symbols):
                    raise ValueInvalid(f"{name} has no symbol {index}")
            case AvroFixed(_, size):
                self._skip(size)
            case AvroUnion(branches):
                if not 0 <= (index := self._number("long")) < len(branches):
                    raise ValueInvalid(f"a union of {len(branches)} types has no type {index}")
                self.value(branches[index], depth + 1)
            case AvroArray(items):
                self._blocks(items, depth, has_names=False)
            case AvroMap(values):
                self._blocks(values, depth, has_names=True)

    def _primitive(self, kind: str) -> None:
        if kind in _BITS:
            self._number(kind)
        elif kind in _FIXED_BYTES:
            begin = self.position
            self._skip(_FIXED_BYTES[kind])
            if kind == "boolean" and self._data[begin] > 1:
                raise ValueInvalid(f"{self._data[begin]} is no boolean")
        else:
            self._text(is_text=kind == "string")

    def _text(self, *, is_text: bool) -> None:
        length = self._number("long")
        if length < 0:
            raise ValueInvalid(f"a length of {length}")
        begin = self.position
        self._skip(length)
        if is_text:
            try:
                str(self._data[begin : self.position], "utf-8")
            except UnicodeDecodeError:
                raise ValueInvalid("a string is no UTF-8") from None

    def _blocks(self, items: AvroType, depth: int, *, has_names: bool) -> None:
        while count := self._number("long"):
            if count < 0:
                self._number("long")  # the bytes of the block, for who passes it
                count = -count
            if count > self._room:
                raise ValueInvalid(f"a block of {count} values is longer than the message")
            for _ in range(count):
                if has_names:
                    self._text(is_text=True)
                self.value(items, depth + 1)

    def _skip(self, count: int) -> None:
        if count > len(self._data) - self.position:
            raise ValueInvalid("the message ends within a value")
        self.position += count

    def _number(self, kind: str) -> int:
        """An integer: zigzag, seven bits a byte, the lowest first."""
        bits = _BITS[kind]
        coded = shift = 0
        while True:
            if self.position >= len(self._data):
                raise ValueInvalid("the message ends within a value")
            byte = self._data[self.position]
            self.position += 1
            coded |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
            if shift >= bits + 6:
                raise ValueInvalid(f"a number has more than {bits} bits")
        if coded >> bits:
            raise ValueInvalid(f"a number has more than {bits} bits")
        return (coded >> 1) ^ -(coded & 1)


def _check_json(type_: AvroType, value: object, place: str, depth: int) -> None:
    if depth > DEPTH_MAX:
        raise ValueInvalid(f"values nest at most {DEPTH_MAX} deep")
    match type_:
        case AvroPrimitive(kind):
            if not _is_primitive(kind, value):
                raise ValueInvalid(f"{place} is no {kind}")
        case AvroEnum(name, symbols):
            if value not in symbols:
                raise ValueInvalid(f"{place} is no symbol of {name}")
        case AvroFixed(name, size):
            if not _is_primitive("bytes", value) or len(str(value)) != size:
                raise ValueInvalid(f"{place} is no {name} of {size} bytes")
        case AvroUnion(branches):
            _check_json_union(branches, value, place, depth)
        case _:
            _check_json_parts(type_, value, place, depth)


def _check_json_parts(type_: AvroArray | AvroMap | AvroRecord, value: object, place: str, depth: int) -> None:
    match type_:
        case AvroArray(items):
            if not isinstance(value, list):
                raise ValueInvalid(f"{place} is no array")
            for index, item in enumerate(value):
                _check_json(items, item, f"{place}[{index}]", depth + 1)
        case AvroMap(values):
            for name, item in _object(value, place).items():
                _check_json(values, item, f"{place}.{name[:40]}", depth + 1)
        case AvroRecord():
            content = _object(value, place)
            for field in type_.fields:
                if field.name in content:
                    _check_json(field.type, content[field.name], f"{place}.{field.name}", depth + 1)
                elif not field.has_default:
                    raise ValueInvalid(f"{place} has no field {field.name}")


def _check_json_union(branches: tuple[AvroType, ...], value: object, place: str, depth: int) -> None:
    """A value of a union is null, or an object with the name of the type and the value."""
    by_name = {branch_name(branch): branch for branch in branches}
    if value is None and "null" in by_name:
        return
    if not isinstance(value, dict) or len(value) != 1:
        raise ValueInvalid(f"{place} is of a union: null, or an object whose name is the type's")
    ((name, inner),) = value.items()
    if name not in by_name or name == "null":
        raise ValueInvalid(f"{place} is of a union without a type {name[:40]}")
    _check_json(by_name[name], inner, f"{place}.{name}", depth + 1)


def _object(value: object, place: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise ValueInvalid(f"{place} is no object")
    return value


def _is_primitive(kind: str, value: object) -> bool:
    match kind:
        case "null":
            return value is None
        case "boolean":
            return isinstance(value, bool)
        case "int" | "long":
            bound = 1 << (_BITS[kind] - 1)
            return type(value) is int and -bound <= value < bound
        case "float" | "double":
            return type(value) in (int, float) or value in _NOT_FINITE
        case "string":
            return isinstance(value, str)
        case _:  # bytes are a text whose characters are the bytes
            return isinstance(value, str) and all(character <= "\xff" for character in value)
