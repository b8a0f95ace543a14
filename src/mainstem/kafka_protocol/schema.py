"""The schemas of Kafka's messages: their fields, and the versions that have each field.

Owns: `schema.json`, one entry for each API key. `python -m tests.doors.kafka.make_schema` writes it from the
dataclasses of kio, another implementation, which are generated from Apache Kafka's schema files. Refuses: to
be edited by hand. The server never imports kio itself: that would take 60 MB and a second, and kio's native
reader aborts the process on a hostile count.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any
from uuid import UUID

import msgspec

API_VERSIONS = 18
NO_UUID = UUID(int=0)
"""Kafka's null for a uuid."""


class Field(msgspec.Struct, frozen=True, gc=False):
    """One field of a message or of a struct in it. Version ranges are inclusive."""

    name: str
    type: str
    """A key of `FIXED`, or "string", "bytes", "records", "uuid", "struct"; of the elements if it is an
    array."""
    versions: tuple[int, int]
    array: bool = False
    tag: int | None = None
    """Number of a tagged field (KIP-482); None for a field with a fixed place."""
    nullable: tuple[int, int] | None = None
    """The versions in which the field may be null; None: in no version."""
    default: Any = msgspec.UNSET
    fields: tuple[Field, ...] = ()

    def in_version(self, version: int) -> bool:
        return self.versions[0] <= version <= self.versions[1]

    def is_nullable(self, version: int) -> bool:
        return self.nullable is not None and self.nullable[0] <= version <= self.nullable[1]


class MessageSchema(msgspec.Struct, frozen=True):
    """A request or a reply: the union of the fields of all its versions, in wire order."""

    versions: tuple[int, int]
    flexible: int
    """The first version with compact lengths and tagged fields (KIP-482)."""
    fields: tuple[Field, ...]


class Api(msgspec.Struct, frozen=True):
    """The schemas of an API key: its request and its reply."""

    name: str
    request: MessageSchema
    response: MessageSchema


@cache
def _table() -> dict[int, msgspec.Raw]:
    text = files(__package__).joinpath("schema.json").read_bytes()
    return msgspec.json.decode(text, type=dict[int, msgspec.Raw])


@cache
def api(key: int) -> Api:
    """The schema of an API key. KeyError if Kafka has no such key."""
    return msgspec.json.decode(_table()[key], type=Api)


def has_flexible_reply_header(key: int, version: int) -> bool:
    """Whether the header of a reply ends with tagged fields. Never for ApiVersions: a client that asks for
    the versions does not know yet which ones the server speaks (KIP-511)."""
    return key != API_VERSIONS and version >= api(key).response.flexible


def keys() -> list[int]:
    """All API keys of the table."""
    return sorted(_table())


_TYPE_DEFAULTS: dict[str, Any] = {
    "string": "",
    "bytes": b"",
    "records": None,
    "uuid": NO_UUID,
    "bool": False,
    "float64": 0.0,
}


def default_of(field: Field) -> Any:
    """The value of a field that a message leaves out: the default of its schema, or Kafka's default for its
    type. Not for structs."""
    if field.default is not msgspec.UNSET and not (field.type == "uuid" and field.default is None):
        if field.type == "datetime_i64" and field.default is None:
            return -1
        return field.default
    if field.array:
        return ()
    return _TYPE_DEFAULTS.get(field.type, 0)


FIXED = {
    "bool": "?", "int8": "b", "int16": "h", "int32": "i", "int64": "q", "uint16": "H", "uint32": "I",
    "float64": "d", "error_code": "h", "timedelta_i32": "i", "timedelta_i64": "q", "datetime_i64": "q",
}  # fmt: skip
"""The format character of `struct` for each type of fixed size. Times are ms on the wire and in messages."""
