"""The event as a program sees it: the contract's event, with its value decoded.

Owns: its names and their types. Refuses: work for names that are not asked for; they are derived when read.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Generic, TypeVar

from mainstem import contract
from mainstem.api.codec import Codec
from mainstem.api.errors import Undecodable
from mainstem.timespec import EPOCH

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

ID_HEADERS = ("message-id", "ce_id", "mainstem-outbox", "mainstem-dead-letter-from")
"""Headers that name an event, the first that there is counts: of the program itself, of CloudEvents, of the
event that a dead letter is a copy of, of the row that an outbox published."""


class Event(Generic[T_co]):
    """An event that was read: `value`, of its topic's model; `attempt`, which delivery of it this is; `raw`,
    with its bytes; and the following."""

    __slots__ = ("attempt", "raw", "value")

    def __init__(self, raw: contract.Event, value: T_co, attempt: int = 1) -> None:
        self.raw = raw
        """The event with its bytes, and with all of its headers in order."""
        self.value: T_co = value
        self.attempt = attempt
        """Which delivery of the event to its subscriber this is, from 1. A read counts as 1."""

    @property
    def topic(self) -> str:
        """Name of the topic."""
        return self.raw.topic

    @property
    def partition(self) -> int:
        """Number of the partition."""
        return self.raw.partition

    @property
    def offset(self) -> int:
        """Offset in the partition."""
        return self.raw.offset

    @property
    def key(self) -> str | None:
        """The key as text. Bytes that are no UTF-8 become surrogates, as `os.fsdecode` does it."""
        key = self.raw.key
        return None if key is None else key.decode(errors="surrogateescape")

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers as text, the last one of each name; bytes as `key` has them, a null as empty text."""
        return {
            name: "" if value is None else value.decode(errors="surrogateescape")
            for name, value in self.raw.headers
        }

    @property
    def time(self) -> datetime:
        """The event's time, UTC. 1970-01-01 for an event without one, and the last moment of the calendar for
        a time after it; `raw.timestamp_ms` has both exactly."""
        try:
            return EPOCH + timedelta(milliseconds=max(0, self.raw.timestamp_ms))
        except OverflowError:
            return datetime.max.replace(tzinfo=UTC)

    @property
    def id(self) -> str:
        """What the event is recognised by if it is delivered again, also as a copy: the first of the headers
        message-id, ce_id, mainstem-dead-letter-from and mainstem-outbox, else topic/partition/offset."""
        raw = self.raw
        if raw.headers:
            headers = dict(raw.headers)
            for name in ID_HEADERS:
                if text := headers.get(name):
                    return text.decode(errors="surrogateescape")
        return f"{raw.topic}/{raw.partition}/{raw.offset}"

    def __repr__(self) -> str:
        return f"<event {self.topic}/{self.partition}/{self.offset} key={self.key!r} {self.value!r}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Event) and self.raw == other.raw and self.attempt == other.attempt

    def __hash__(self) -> int:
        return hash((self.raw.topic, self.raw.partition, self.raw.offset, self.attempt))


def decode_event(raw: contract.Event, codec: Codec[T], attempt: int = 1) -> Event[T]:
    """The event with its value. Undecodable: the message begins with the event's place."""
    try:
        return Event(raw, codec.decode(raw.value), attempt)
    except Undecodable as error:
        raise Undecodable(f"{raw.topic}/{raw.partition}/{raw.offset}: {error}") from None
