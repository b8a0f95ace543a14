"""Compares the codecs with kio, another implementation.

Owns: random messages of every schema, and their conversion to and from kio's dataclasses.
"""

from __future__ import annotations

import dataclasses
import datetime
import io
import random
from typing import Any
from uuid import UUID

from kio.index import load_request_schema, load_response_schema
from kio.schema.errors import ErrorCode
from kio.serial import entity_reader, entity_writer
from kio.serial._introspect import classify_field
from kio.static.primitive import i32Timedelta, i64Timedelta

from mainstem.kafka_protocol.message import NO_UUID, Message
from mainstem.kafka_protocol.schema import Field, MessageSchema, api, default_of

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
BITS = {"int8": 7, "int16": 15, "int32": 31, "int64": 63, "timedelta_i32": 31}


def shape_of(key: int, direction: str) -> MessageSchema:
    return api(key).request if direction == "request" else api(key).response


def entity_of(key: int, version: int, direction: str) -> Any:
    load = load_request_schema if direction == "request" else load_response_schema
    return load(key, version)


def scalar(field: Field, rng: random.Random) -> Any:
    """A random value of a field's type; edge cases are likely."""
    kind = field.type
    if kind == "string":
        return "".join(rng.choices("abcé…\0😀", k=rng.choice((0, 1, 3, 20, 200))))
    if kind in ("bytes", "records"):
        return rng.randbytes(rng.choice((0, 1, 16, 127, 128, 5000)))
    if kind == "uuid":
        return rng.choice((NO_UUID, UUID(int=rng.getrandbits(128))))
    if kind == "bool":
        return rng.random() < 0.5
    if kind == "float64":
        return rng.choice((0.0, -1.5, 1e300))
    if kind == "error_code":
        return rng.randrange(-1, 130)
    if kind.startswith("uint"):
        return rng.choice((0, 1, (1 << int(kind[4:])) - 1))
    if kind == "timedelta_i64":
        return rng.choice((0, -1, 1, 1 << 40))
    if kind == "datetime_i64":
        return rng.choice((-1 if field.nullable else 0, 0, 1_356_998_400_123 // 1000 * 1000))
    bits = BITS[kind]
    return rng.choice((0, -1, 1, (1 << bits) - 1, -(1 << bits), rng.getrandbits(bits)))


def value(field: Field, version: int, rng: random.Random, depth: int) -> Any:
    nullable = field.is_nullable(version)
    # kio writes no null for a tagged field: it leaves the field out.
    if nullable and field.type != "datetime_i64" and rng.random() < 0.3:
        return None

    def element() -> Any:
        if field.type == "struct":
            return build(field.fields, version, rng, depth + 1)
        return scalar(field, rng)

    if field.array:
        return [element() for _ in range(rng.choice((0, 1, 2, 3) if depth < 3 else (0, 1)))]
    return element()


def build(fields: tuple[Field, ...], version: int, rng: random.Random, depth: int = 0) -> Message:
    """A random message with all fields of a version."""
    out = {}
    for field in fields:
        if field.in_version(version):
            if field.tag is not None and field.type != "struct" and rng.random() < 0.4:
                out[field.name] = default_of(field)
            else:
                out[field.name] = value(field, version, rng, depth)
    return Message(**out)


def to_kio(entity: type, message: Message) -> Any:
    """The message as kio's dataclass."""
    out = {}
    for field in dataclasses.fields(entity):
        value = getattr(message, field.name)
        kind = classify_field(field)
        if kind.is_array:
            out[field.name] = (
                None if value is None else tuple(_to_kio_value(field, kind.type_, item) for item in value)
            )
        else:
            out[field.name] = _to_kio_value(field, kind.type_, value)
    return entity(**out)


def _to_kio_value(field: Any, kind: type, value: Any) -> Any:
    if value is None:
        return None
    if dataclasses.is_dataclass(kind):
        return to_kio(kind, value)
    match field.metadata["kafka_type"]:
        case "timedelta_i32":
            return i32Timedelta.parse(datetime.timedelta(milliseconds=value))
        case "timedelta_i64":
            return i64Timedelta.parse(datetime.timedelta(milliseconds=value))
        case "datetime_i64":
            return None if value == -1 else EPOCH + datetime.timedelta(milliseconds=value)
        case "error_code":
            return ErrorCode(value)
        case "uuid":
            return None if value == NO_UUID else value
    return value


def from_kio(entity: Any) -> Message:
    """kio's dataclass as a message."""
    return Message(
        **{field.name: _plain(getattr(entity, field.name)) for field in dataclasses.fields(entity)}
    )


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return from_kio(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, datetime.timedelta):
        return round(value.total_seconds() * 1000)
    if isinstance(value, datetime.datetime):
        return round(value.timestamp() * 1000)
    return value


def kio_bytes(key: int, version: int, direction: str, message: Message) -> bytes:
    entity = entity_of(key, version, direction)
    out = io.BytesIO()
    entity_writer(entity)(out, to_kio(entity, message))
    return out.getvalue()


def kio_read(key: int, version: int, direction: str, data: bytes) -> Message:
    read, end = entity_reader(entity_of(key, version, direction))(data, 0)
    assert end == len(data)
    return from_kio(read)


def same(field: Field, ours: Any, theirs: Any, version: int) -> bool:
    """Whether both decoded the same value of a field. kio has a null where `ours` has the zero uuid or the
    time -1."""
    if theirs is None and field.type == "uuid":
        return bool(ours == NO_UUID)
    if theirs is None and field.type == "datetime_i64":
        return bool(ours == -1)
    if ours is None or theirs is None:
        return ours is theirs
    if field.array:
        inner = Field(name=field.name, type=field.type, versions=field.versions, fields=field.fields)
        return len(ours) == len(theirs) and all(
            same(inner, a, b, version) for a, b in zip(ours, theirs, strict=True)
        )
    if field.type == "struct":
        return same_message(field.fields, ours, theirs, version)
    return bool(ours == theirs)


def same_message(fields: tuple[Field, ...], ours: Message, theirs: Message, version: int) -> bool:
    return all(
        same(field, getattr(ours, field.name), getattr(theirs, field.name), version)
        for field in fields
        if field.in_version(version)
    )
