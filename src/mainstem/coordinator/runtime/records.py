"""The records of the state log: how each is written, and what is refused when it is read.

Owns: `StateRecord`, the base of every machine's records, and `RecordCodec`. One record is one version byte
and the msgpack of a tagged struct, an array that starts with the tag: `["topic-created", …]`. Rules for
those who change one: a new field goes to the end and has a default; a field is never removed or given
another meaning, a new tag is made instead. Refuses: a version or a tag that it does not know, because a
newer mainstem wrote it and skipping it would lose what it says. Called by the runtime and the snapshot
only.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import or_
from typing import Any

import msgspec

from mainstem.log.errors import LogFolderError

RECORD_VERSION = 1


class StateRecord(msgspec.Struct, frozen=True, array_like=True):
    """One fact that a machine remembers. Subclasses are frozen and array-like too, and give their own
    `tag`."""


class StateDamaged(LogFolderError):
    """What the coordinator remembers cannot be read. The message says where and what to do."""


class StateTooNew(LogFolderError):
    """A newer mainstem wrote this folder."""


class RecordCodec:
    """Encodes and decodes the records of all machines."""

    def __init__(self, types: Sequence[type[msgspec.Struct]]) -> None:
        tags: dict[object, type[msgspec.Struct]] = {}
        for kind in types:
            config = kind.__struct_config__
            assert config.tag is not None, f"{kind.__name__} has no tag"
            assert config.array_like, f"{kind.__name__} is not array_like"
            assert config.tag not in tags, f"{kind.__name__} and {tags[config.tag].__name__} share a tag"
            tags[config.tag] = kind
        self._tags = tags
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(reduce(or_, types))

    def encode(self, record: msgspec.Struct) -> bytes:
        """The bytes of one record."""
        return bytes((RECORD_VERSION,)) + self._encoder.encode(record)

    def decode(self, data: bytes | memoryview, where: str) -> Any:
        """The record. StateTooNew: unknown version or tag; StateDamaged: not a record. `where` is for the
        message."""
        if not len(data):
            raise StateDamaged(f"an empty state record {where}")
        if data[0] != RECORD_VERSION:
            raise StateTooNew(
                f"a state record of version {data[0]} {where}: this mainstem knows version {RECORD_VERSION};"
                " start the newer mainstem that wrote this folder"
            )
        body = memoryview(data)[1:]
        try:
            return self._decoder.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:  # msgspec lets the second one through
            raise self._explain(body, where, error) from error

    def _explain(self, body: memoryview, where: str, error: Exception) -> LogFolderError:
        try:
            loose = msgspec.msgpack.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            loose = None
        tag = loose[0] if isinstance(loose, list) and loose else None
        if isinstance(tag, str) and tag not in self._tags:
            return StateTooNew(
                f"a state record of the unknown kind {tag!r} {where}: start the newer mainstem that wrote"
                " this folder"
            )
        return StateDamaged(f"a state record that cannot be read {where}: {error}")
