"""Avro schemas: parses their JSON and resolves the names in them (Avro 1.12, part Schema Declaration).

Owns: the types that a schema declares, names with their namespaces, what makes a schema invalid. Refuses:
values (`avro_values.py`); defaults are not compared with the types of their fields, and logical types, docs,
aliases and other attributes mean nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, cast

import msgspec

PrimitiveKind: TypeAlias = Literal["null", "boolean", "int", "long", "float", "double", "bytes", "string"]
PRIMITIVES = frozenset({"null", "boolean", "int", "long", "float", "double", "bytes", "string"})
DEPTH_MAX = 64
"""Maximum nesting of declarations."""
FIXED_BYTES_MAX = 16 << 20

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


class SchemaInvalid(ValueError):
    """The error for a schema that cannot be used. The message is for people."""


@dataclass(frozen=True, slots=True)
class AvroPrimitive:
    """A type without parts."""

    kind: PrimitiveKind


@dataclass(frozen=True, slots=True)
class AvroField:
    """A field of a record."""

    name: str
    type: AvroType
    has_default: bool


@dataclass(slots=True, eq=False)
class AvroRecord:
    """Named fields in an order. `fields` is filled after the record is known by its name, for it may contain
    itself."""

    name: str
    fields: list[AvroField] = field(default_factory=list, repr=False)


@dataclass(frozen=True, slots=True)
class AvroEnum:
    """One of some symbols."""

    name: str
    symbols: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AvroFixed:
    """A number of bytes."""

    name: str
    size: int


@dataclass(frozen=True, slots=True)
class AvroArray:
    """Any number of values of a type."""

    items: AvroType


@dataclass(frozen=True, slots=True)
class AvroMap:
    """Values of a type by texts."""

    values: AvroType


@dataclass(frozen=True, slots=True)
class AvroUnion:
    """A value of one of some types."""

    branches: tuple[AvroType, ...]


AvroType: TypeAlias = (
    AvroPrimitive | AvroRecord | AvroEnum | AvroFixed | AvroArray | AvroMap | AvroUnion
)  # fmt: skip


def parse_avro(definition: str) -> AvroType:
    """The type that a schema declares. SchemaInvalid."""
    try:
        declared = msgspec.json.decode(definition)
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError) as error:
        raise SchemaInvalid(f"an Avro schema is JSON: {error}") from None
    return _Declarations().type_of(declared, "", 0)


def branch_name(branch: AvroType) -> str:
    """By what a branch of a union is named in JSON."""
    match branch:
        case AvroPrimitive(kind):
            return kind
        case AvroRecord(name) | AvroEnum(name) | AvroFixed(name):
            return name
        case AvroArray():
            return "array"
        case AvroMap():
            return "map"
        case AvroUnion():
            raise AssertionError("a union has no union as a branch")


class _Declarations:
    """The named types so far."""

    def __init__(self) -> None:
        self._named: dict[str, AvroType] = {}

    def type_of(self, declared: object, namespace: str, depth: int) -> AvroType:
        """The type of a declaration in a namespace."""
        if depth > DEPTH_MAX:
            raise SchemaInvalid(f"declarations of an Avro schema nest at most {DEPTH_MAX} deep")
        if isinstance(declared, str):
            return self._reference(declared, namespace)
        if isinstance(declared, list):
            return self._union(declared, namespace, depth)
        if not isinstance(declared, dict) or "type" not in declared:
            raise SchemaInvalid(f"{_shown(declared)} is no Avro type")
        kind = declared["type"]
        match kind:
            case "record" | "error":
                return self._record(declared, namespace, depth)
            case "enum":
                return self._enum(declared, namespace)
            case "fixed":
                return self._fixed(declared, namespace)
            case "array":
                return AvroArray(self.type_of(_part(declared, "items"), namespace, depth + 1))
            case "map":
                return AvroMap(self.type_of(_part(declared, "values"), namespace, depth + 1))
            case _:
                return self.type_of(kind, namespace, depth + 1)

    def _reference(self, name: str, namespace: str) -> AvroType:
        if name in PRIMITIVES:
            return AvroPrimitive(cast(PrimitiveKind, name))
        full_name = f"{namespace}.{name}" if namespace and "." not in name else name
        known = self._named.get(full_name) or self._named.get(name)
        if known is None:
            raise SchemaInvalid(f"the Avro schema has no type {_shown(name)}")
        return known

    def _union(self, declared: list[Any], namespace: str, depth: int) -> AvroType:
        branches = tuple(self.type_of(branch, namespace, depth + 1) for branch in declared)
        if any(isinstance(branch, AvroUnion) for branch in branches):
            raise SchemaInvalid("a union contains no union")
        names = [branch_name(branch) for branch in branches]
        if len(set(names)) < len(names):
            raise SchemaInvalid("a union has each type once, but for types with different names")
        return AvroUnion(branches)

    def _record(self, declared: dict[str, Any], namespace: str, depth: int) -> AvroType:
        name, inner = _full_name(declared, namespace)
        record = AvroRecord(name)
        self._add(name, record)
        fields = _part(declared, "fields")
        if not isinstance(fields, list):
            raise SchemaInvalid(f"the fields of {name} are a list")
        names: set[str] = set()
        for part in fields:
            if not isinstance(part, dict):
                raise SchemaInvalid(f"{_shown(part)} is no field")
            field_name = _part(part, "name")
            if not isinstance(field_name, str) or not _NAME.fullmatch(field_name):
                raise SchemaInvalid(f"{_shown(field_name)} is no name of a field")
            if field_name in names:
                raise SchemaInvalid(f"{name} has two fields {field_name}")
            names.add(field_name)
            type_ = self.type_of(_part(part, "type"), inner, depth + 1)
            record.fields.append(AvroField(field_name, type_, "default" in part))
        return record

    def _enum(self, declared: dict[str, Any], namespace: str) -> AvroType:
        name, _ = _full_name(declared, namespace)
        symbols = _part(declared, "symbols")
        if not isinstance(symbols, list) or not symbols:
            raise SchemaInvalid(f"the symbols of {name} are a list")
        for symbol in symbols:
            if not isinstance(symbol, str) or not _NAME.fullmatch(symbol):
                raise SchemaInvalid(f"{_shown(symbol)} is no symbol")
        if len(set(symbols)) < len(symbols):
            raise SchemaInvalid(f"{name} has a symbol twice")
        if "default" in declared and declared["default"] not in symbols:
            raise SchemaInvalid(f"the default of {name} is none of its symbols")
        enum = AvroEnum(name, tuple(symbols))
        self._add(name, enum)
        return enum

    def _fixed(self, declared: dict[str, Any], namespace: str) -> AvroType:
        name, _ = _full_name(declared, namespace)
        size = _part(declared, "size")
        if type(size) is not int or not 0 <= size <= FIXED_BYTES_MAX:
            raise SchemaInvalid(f"the size of {name} is from 0 to {FIXED_BYTES_MAX:,}")
        fixed = AvroFixed(name, size)
        self._add(name, fixed)
        return fixed

    def _add(self, name: str, type_: AvroType) -> None:
        if name in self._named or name in PRIMITIVES:
            raise SchemaInvalid(f"the Avro schema declares {name} twice")
        self._named[name] = type_


def _full_name(declared: dict[str, Any], namespace: str) -> tuple[str, str]:
    """The full name of a declaration, and the namespace of what is in it."""
    name = _part(declared, "name")
    own = declared.get("namespace", namespace)
    if not isinstance(name, str) or not isinstance(own, str):
        raise SchemaInvalid(f"{_shown(name)} is no name of a type")
    full_name = name if "." in name or not own else f"{own}.{name}"
    if not all(_NAME.fullmatch(part) for part in full_name.split(".")):
        raise SchemaInvalid(f"{_shown(full_name)} is no name of a type")
    return full_name, full_name.rpartition(".")[0]


def _part(declared: dict[str, Any], name: str) -> object:
    if name not in declared:
        raise SchemaInvalid(f"{name} is missing in {_shown(declared)}")
    return declared[name]


def _shown(declared: object) -> str:
    text = msgspec.json.encode(declared).decode()
    return text if len(text) <= 80 else text[:80] + "…"
