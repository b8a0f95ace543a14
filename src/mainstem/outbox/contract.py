"""The contract between the relay and the table that it empties.

Owns: the types of rows and marks, and the protocol of a store. Refuses: SQL, and the log.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from mainstem.contract import Position

SOURCE_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
"""Names of sources: 1 to 100 letters, digits, dots, dashes and underscores."""


NAME_CHARS_MAX = 249
"""The longest name of a topic, and of a group in an inbox."""
REFUSED_CHARS_MAX = 500
"""Of the reason for which a row is refused, the characters that its column has."""
BATCH_BYTES = 8 << 20
"""Rows of this size in all are a batch."""


class HasId(Protocol):
    """An event, as subscribers get it."""

    @property
    def id(self) -> str: ...


class OutboxRow(NamedTuple):
    """A committed row of the table: an event that is to be published."""

    id: int
    topic: str
    key: bytes | None
    value: bytes | None
    headers: bytes | None
    """As `row_format.pack_headers` has them; None: no headers."""
    time_ms: int
    """When the event was added, milliseconds since 1970: the time of the published event."""


@dataclass(slots=True)
class TopicMark:
    """How far a topic is known to hold no event of this outbox whose row is still in the table."""

    topic: str
    topic_id: str
    """As `contract.TopicInfo.id`; empty: not known."""
    offsets: list[int] = field(default_factory=list)
    """By partition: events of rows that are still in the table have this offset or a later one. A partition
    that is not listed begins at 0."""
    is_open: bool = False
    """Whether events of rows that are still in the table may be in the topic at all."""

    def move(self, published: Iterable[Position]) -> None:
        """Move behind these positions of the topic."""
        for position in published:
            missing = position.partition + 1 - len(self.offsets)
            self.offsets.extend([0] * missing)
            self.offsets[position.partition] = max(self.offsets[position.partition], position.offset + 1)


class OutboxStore(Protocol):
    """The table of an outbox and the marks beside it, on a connection that one relay has for itself.

    Any call may raise RelayLost: the connection is gone, and with it the lock. The relay then calls `end`,
    and begins again.
    """

    async def begin(self) -> bool:
        """Connect, and take the lock that one relay at a time has. False: another one has it."""

    async def marks(self) -> list[TopicMark]:
        """The marks as they were written last."""

    async def pending_topics(self) -> list[str]:
        """The topics of all rows that are not refused."""

    async def pending(self, limit: int, *, without: Collection[str] = ()) -> list[OutboxRow]:
        """The first rows by id that are not refused, at most `limit`, none of these topics. Rows of
        BATCH_BYTES in all end the list earlier."""

    async def finish(
        self, done: Collection[int], refused: Mapping[int, str], marks: Sequence[TopicMark]
    ) -> int:
        """In one transaction: delete the rows with these ids, note why others are refused, write marks.
        Returns how many rows were deleted."""

    async def end(self) -> None:
        """Release the lock and the connection. Idempotent, never raises RelayLost."""
