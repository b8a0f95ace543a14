"""Example messages, made from the schema alone. They are always the same, so that golden vectors need not
store their values."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any
from uuid import UUID

from mainstem.kafka_protocol.message import Message
from mainstem.kafka_protocol.schema import NO_UUID, Field

KINDS = ("full", "empty")


def example(
    fields: tuple[Field, ...], version: int, kind: str, count: Iterator[int] | None = None
) -> Message:
    """A message with all fields of a version. `kind`: with "full", every field has its own value; with
    "empty", each is null where that is allowed, else empty or zero."""
    count = count or itertools.count(1)
    return Message(
        **{field.name: _value(field, version, kind, count) for field in fields if field.in_version(version)}
    )


def _value(field: Field, version: int, kind: str, count: Iterator[int]) -> Any:
    full = kind == "full"
    if not full and field.is_nullable(version) and field.type != "datetime_i64":
        return None
    if field.array:
        length = 0 if not full else 1 if field.type == "struct" else 2
        return [_element(field, version, kind, count) for _ in range(length)]
    return _element(field, version, kind, count)


def _element(field: Field, version: int, kind: str, count: Iterator[int]) -> Any:
    full = kind == "full"
    if field.type == "struct":
        return example(field.fields, version, kind, count)
    if field.type == "string":
        return f"{field.name[:6]}é{next(count)}" if full else ""
    if field.type in ("bytes", "records"):
        return b"\0\xff%d" % next(count) if full else b""
    if field.type == "uuid":
        return UUID(int=(next(count) << 64) + 7) if full else NO_UUID
    if field.type == "bool":
        return full
    if field.type == "float64":
        return next(count) / 2 if full else 0.0
    if field.type == "error_code":
        return next(count) % 100 if full else 0
    if field.type == "datetime_i64":
        return next(count) * 1000 if full else -1
    return next(count) if full else 0
