"""The contract of routed queues: queues that get their events from routes, for doors with exchanges.

A routed queue is a subscription (`mainstem.queue_contract`) of a namespace, created here: everything else
about it is in that contract, under the name that `subscription_of` returns. Who publishes an event says which
queues get it, for only a door knows what its exchanges and bindings mean; the engine keeps the bindings for
it.

Rights, where access is controlled: a queue is the subscription of its name, a namespace the subscription
`NAMESPACE/`. To list needs DESCRIBE, to create CREATE, to delete DELETE, to bind and to unbind ALTER of the
queue, to keep a note ALTER of the namespace, to publish WRITE of the topic and of each queue. What exchanges
allow is the matter of their door.

Owns: the types and the protocol. Refuses: what `queue_contract.py` refuses. Any call may raise StreamError.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import msgspec

from mainstem.contract import Headers, NewEvent, Position, StreamError
from mainstem.queues.event_headers import NOT_BEFORE_HEADER
from mainstem.queues.settings import SubscriptionSettings

AMQP091_HEADER = "mainstem-amqp091"
"""Header with the properties of an AMQP 0-9-1 message as its publisher has sent them: flags and values."""
EXCHANGE_HEADER = "mainstem-exchange"
"""Header with the exchange to which a message was published, in a topic that several have."""
MOVED_FROM_HEADER = "mainstem-moved-from"
"""Header with the place of an event of which this one is a copy: a queue gave that one up."""
DOOR_HEADERS = frozenset({AMQP091_HEADER, EXCHANGE_HEADER, MOVED_FROM_HEADER, NOT_BEFORE_HEADER})
"""The doors' headers that are delivered with an event."""


class NoSuchNamespace(StreamError):
    """The error if the namespace does not exist."""


class NamespaceNameTaken(StreamError):
    """The error for creating a namespace whose name another one has."""


@dataclass(frozen=True, slots=True)
class QueueBinding:
    """What a door keeps with a queue. It goes with the queue."""

    id: int
    """No other binding ever has it."""
    queue: str
    data: bytes
    """The door's, at most 64 KB."""


class RoutedEvent(msgspec.Struct, frozen=True, gc=False):
    """An event for some queues."""

    event: NewEvent
    """A header of it that begins with `mainstem-` is stored with the prefix `user.`, and delivered without
    (those in DOOR_HEADERS with it): it is its publisher's."""
    topic: str
    """Where it is stored, once, whatever the number of queues. It must exist."""
    queues: Sequence[str] = ()
    """The queues of the namespace that get it; none: it is stored, and no queue gets it. Queues that do not
    exist, or are of other namespaces, get nothing."""
    door_headers: Headers = ()
    """Headers of the door: they are stored as they are, before those of the event. Delivered are those that
    do not begin with `mainstem-`, or are in DOOR_HEADERS."""


class RoutedQueues(Protocol):
    """Namespaces and their queues. All calls about a namespace raise NoSuchNamespace if it does not exist.
    What a call has answered is durable."""

    async def namespaces(self) -> list[str]:
        """The names of all namespaces, sorted."""

    async def create_namespace(self, name: str) -> None:
        """Create a namespace. Its name is any text of 1 to 255 bytes of UTF-8 without control characters, as
        those of queues are. NamespaceNameTaken, InvalidArgument."""

    async def delete_namespace(self, name: str) -> None:
        """Delete a namespace with its queues. No event is deleted."""

    async def queues_of(self, namespace: str) -> list[str]:
        """The queues of a namespace, sorted."""

    def subscription_of(self, namespace: str, queue: str) -> str:
        """The name of the subscription that a queue of a namespace is, whether they exist or not: the
        namespace percent-encoded, a slash, the queue."""

    async def create_queue(self, namespace: str, name: str, settings: SubscriptionSettings) -> None:
        """Create a queue, which is a subscription without topics. It gets what is published to it from now
        on. With topics, it is a subscription of these under the name of a queue: it gets their events and no
        others, has no limits, and is not of the namespace (`queues_of`, `delete_namespace`); only its dead
        letters may go to the sink. SubscriptionNameTaken; InvalidArgument: the name, or a setting: a routed
        queue has no from_latest; UnknownTopic: no such topic."""

    async def bind_queue(self, namespace: str, queue: str, data: bytes) -> int:
        """Keep something with a queue. Returns the id of the binding. NoSuchSubscription: there is no such
        routed queue; InvalidArgument: it is too large."""

    async def unbind_queue(self, namespace: str, binding: int) -> bool:
        """Remove a binding. Whether there was one."""

    async def bindings(self, namespace: str) -> list[QueueBinding]:
        """All bindings of a namespace, in the order of their ids."""

    async def set_note(self, namespace: str, name: str, data: bytes | None) -> None:
        """Keep something of at most 64 KB with a namespace under a name of up to 1,024 bytes, in place of
        what was there; None: keep nothing. InvalidArgument: it is too large, or there are 100,000 already."""

    async def notes(self, namespace: str) -> dict[str, bytes]:
        """What `set_note` keeps with a namespace, by name."""

    async def publish(self, namespace: str, events: Sequence[RoutedEvent]) -> list[Position | StreamError]:
        """Publish events, in this order for each queue that gets several of a partition, and after those of
        earlier calls. Returns the result of each, when all are durable or have failed: UnknownTopic,
        EventTooLarge, NotReachable. An event is published or not, for all of its queues."""


@runtime_checkable
class OffersRoutedQueues(Protocol):
    """An engine that has routed queues."""

    @property
    def routed_queues(self) -> RoutedQueues:
        """They."""
