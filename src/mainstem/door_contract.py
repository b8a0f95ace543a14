"""The contract of what some doors need beside that of events: publishing once, news, keys of tokens.

An engine that offers a part implements its protocol; a user checks for it with isinstance. Owns: the types
and the protocols. Refuses: imports of an engine, the log or a wire protocol.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias, runtime_checkable

from mainstem.contract import NewEvent, Position, StreamError

__all__ = [
    "AMQP_SECTIONS_HEADER",
    "PRODUCER_CHARS_MAX",
    "PUBLISH_ID_MAX",
    "OnceResult",
    "PublishesOnce",
    "PublishesTokenKeys",
    "TopicChange",
    "WatchesTopics",
]

AMQP_SECTIONS_HEADER = "mainstem-amqp"
"""The sections in front of the payload of an AMQP 1.0 message, as its publisher sent them. The server does
not rely on it: any publisher may send it."""
PRODUCER_CHARS_MAX = 255
PUBLISH_ID_MAX = (1 << 64) - 1


OnceResult: TypeAlias = Position | StreamError | None
"""Of an event: where it is, or why it is not stored; None: it was stored before."""


@runtime_checkable
class PublishesOnce(Protocol):
    """An engine that recognizes an event that it has stored before, by the name of its producer and a number
    that rises (docs/DURABILITY.md, part Publishing once)."""

    async def publish_once(
        self,
        topic: str,
        producer: str,
        events: Sequence[tuple[int, NewEvent]],
        *,
        ids_may_repeat: bool = False,
    ) -> list[OnceResult]:
        """As `EventLog.publish`, but for events that were stored before, and that errors of single events are
        in the result. Each event has an id, from 0 to 2^64 - 1; they rise in the call and from call to call,
        and gaps are allowed. An event whose id is not above the last one of its producer in its
        partition was stored before. An event without a key and a partition is in the partition of the
        producer's name.

        An event that failed may be sent again under its id. One that was acknowledged is never stored twice,
        if it goes to the same partition: a topic that gets more partitions moves keys. InvalidArgument also
        for a name of no or more than 255 characters, and ids that do not rise.

        With `ids_may_repeat`, events that follow each other in the call may have the same id: they are stored
        or known together, except that more than fit into a batch of the log may be stored partly when the
        server dies, and are then stored again as a whole."""

    async def last_published(self, topic: str, producer: str) -> int | None:
        """The highest id of a producer that is stored in a topic, over all partitions; None: none is known.
        UnknownTopic."""


class PublishesTokenKeys(Protocol):
    """Has the keys by which receivers of pushed events verify the tokens of this server."""

    @property
    def issuer(self) -> str | None:
        """The issuer of the tokens, a URL at which the keys are published; None: the server gives none."""

    async def public_keys(self) -> Sequence[Mapping[str, str]]:
        """The keys that are published, as members of a JWKS (RFC 7517); none: no token was made yet, or the
        keys cannot be read."""


@dataclass(frozen=True, slots=True)
class TopicChange:
    """Something happened to a topic, and is durable."""

    kind: Literal["created", "deleted", "changed"]
    """Changed: it has further partitions, or other settings."""
    topic: str
    id: str
    """As `TopicInfo.id`: a topic that is created again under its old name has another."""


@runtime_checkable
class WatchesTopics(Protocol):
    """An engine that reports the changes of topics."""

    def watch_topics(self, callback: Callable[[TopicChange], None]) -> Callable[[], None]:
        """Call `callback` for each change from now on, in the order in which they become durable, in the turn
        of the event loop in which they do. The function that is returned stops that; it may be called in the
        callback, and again."""
