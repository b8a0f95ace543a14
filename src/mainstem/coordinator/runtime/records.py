"""The records of the state log and their encoding.

Owns: `StateRecord`, the base of the records of all state machines, and `RecordCodec`. A record is one version
byte and the msgpack of a tagged struct: an array that begins with the tag, `["topic-created", …]`. A change
of a record type adds a field at the end, with a default. A field is never removed and never changes its
meaning; a new tag is made instead. Refuses: an unknown version or tag. A newer mainstem wrote it, and to skip
it would lose its content.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import or_
from typing import Any, ClassVar

import msgspec

from mainstem.log.errors import LogFolderError

RECORD_VERSION = 1


class StateRecord(msgspec.Struct, frozen=True, array_like=True):
    """Base of the records of the state log. A record is one fact that a state machine remembers. Every
    subclass is frozen and array-like too, and has a `tag`."""

    COST_BYTES: ClassVar[int] = 0
    """How many bytes of other records take about as long to make and encode, for a snapshot that must not
    stop the event loop; 0: as many as it has."""


class StateDamaged(LogFolderError):
    """The error for a state log or a snapshot that cannot be read. The message says where, and what to do."""


class StateTooNew(LogFolderError):
    """The error for a state log or a snapshot that a newer mainstem wrote, so that this one cannot read
    it."""


class RecordCodec:
    """Encodes and decodes the records of all state machines."""

    def __init__(self, types: Sequence[type[msgspec.Struct]]) -> None:
        tags: dict[object, type[msgspec.Struct]] = {}
        for record_type in types:
            config = record_type.__struct_config__
            assert config.tag is not None, f"{record_type.__name__} has no tag"
            assert config.array_like, f"{record_type.__name__} is not array_like"
            assert config.tag not in tags, (
                f"{record_type.__name__} and {tags[config.tag].__name__} share a tag"
            )
            tags[config.tag] = record_type
        self._tags = tags
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(reduce(or_, types))

    def encode(self, record: msgspec.Struct) -> bytes:
        """The bytes of one record."""
        return bytes((RECORD_VERSION,)) + self._encoder.encode(record)

    def decode(self, data: bytes | memoryview, location: str) -> Any:
        """Decode one record. `location` is for the message of StateTooNew (unknown version or tag) and of
        StateDamaged (not a record)."""
        if not len(data):
            raise StateDamaged(f"an empty state record {location}")
        if data[0] != RECORD_VERSION:
            raise StateTooNew(
                f"a state record of version {data[0]} {location}: this mainstem knows version"
                f" {RECORD_VERSION}; start the newer mainstem that wrote this folder"
            )
        body = memoryview(data)[1:]
        try:
            return self._decoder.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:  # msgspec does not convert the second
            raise self._explain(body, location, error) from error

    def _explain(self, body: memoryview, location: str, error: Exception) -> LogFolderError:
        try:
            untyped = msgspec.msgpack.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            untyped = None
        tag = untyped[0] if isinstance(untyped, list) and untyped else None
        if isinstance(tag, str) and tag not in self._tags:
            return StateTooNew(
                f"a state record of the unknown kind {tag!r} {location}: start the newer mainstem that wrote"
                " this folder"
            )
        return StateDamaged(f"a state record that cannot be read {location}: {error}")
