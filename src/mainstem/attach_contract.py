"""The contract of attached consumers: events of a subscription are handed to them as they become ready.

It is beside `mainstem.queue_contract`, for doors whose protocols push: a consumer says how many events it can
have at once, and gets them by a callback; its answers are not waited for. What a subscription promises holds
here as there, and consumers that pull may be beside those that are attached.

The events of an attached consumer have no deadline. They are its own until they are answered, or until it is
detached with `requeue`; after a restart of the server they are ready again, and their attempt is above 1. An
event that is given back is delivered again in its old place.

Owns: the types, the windows and the protocol. Refuses: what `queue_contract.py` refuses. Any call may raise
StreamError. Times are milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias, runtime_checkable

from mainstem.contract import Event, StreamError
from mainstem.queue_answers import Delivery, Outcome

UNANSWERED_MAX = 65_535
"""Events that an attached consumer has at most, whatever its windows say."""


class ConsumerClash(StreamError):
    """The error for attaching a consumer while another one has the subscription for itself, or for attaching
    one that wants it for itself while there are others; or while there is one of its name."""


class QueueIsFull(StreamError):
    """The result of an event that a queue did not take, because it has as many as its limits allow. Other
    queues of its route have it."""


class DeliveryWindow:
    """How many events that are not answered a consumer may have, or several consumers that share it. The door
    frees what was answered; that lets more be delivered."""

    __slots__ = ("_limit", "_waiting", "taken")

    def __init__(self, limit: int = 0) -> None:
        self._limit = limit
        self.taken = 0
        """Events that were delivered, and not freed since."""
        self._waiting: dict[Callable[[], None], None] = {}

    @property
    def limit(self) -> int:
        """How many there may be; 0: any number."""
        return self._limit

    @property
    def room(self) -> int:
        """How many more there may be: UNANSWERED_MAX at most."""
        most = self._limit or UNANSWERED_MAX
        return max(0, min(most, UNANSWERED_MAX) - self.taken)

    def take(self, count: int) -> None:
        """Events are delivered. The engine calls this, for at most `room`."""
        self.taken += count

    def free(self, count: int) -> None:
        """Events were answered. AssertionError: more than there are."""
        assert count <= self.taken, "what is freed was taken before"
        self.taken -= count
        self._wake()

    def set_limit(self, limit: int) -> None:
        """Change the limit. What is above the new one stays where it is."""
        self._limit = limit
        self._wake()

    def wait(self, callback: Callable[[], None]) -> None:
        """Call this once, when there may be room."""
        self._waiting[callback] = None

    def _wake(self) -> None:
        if self._waiting and self.room:
            waiting, self._waiting = self._waiting, {}
            for callback in waiting:
                callback()


@dataclass(frozen=True, slots=True)
class AttachRequest:
    """A consumer that wants events."""

    subscription: str
    consumer: str
    """A name of up to 255 characters, which no other attached consumer of the subscription has."""
    windows: tuple[DeliveryWindow, ...] = field(default_factory=lambda: (DeliveryWindow(),))
    """An event is delivered only if each of them has room, and takes one of each."""
    priority: int = 0
    """A consumer gets events only while none with a higher priority has room for them. Those with the same
    priority get them in turn."""
    exclusive: bool = False
    """Whether no other consumer may be attached."""
    auto_ack: bool = False
    """Whether an event is done as soon as it is delivered. It takes no room of a window then."""


class AttachedConsumer(Protocol):
    """A consumer that is attached."""

    @property
    def unanswered(self) -> int:
        """Events that it has and that are not answered."""

    @property
    def is_active(self) -> bool:
        """Whether it gets events: False for those that wait while a single active one does."""

    def pause(self) -> None:
        """Deliver nothing more until `resume`, but for what is under way."""

    def resume(self) -> None:
        """Go on delivering. Idempotent, as `pause` is."""

    def detach(self, *, requeue: bool) -> None:
        """Deliver nothing more, from this call on. `requeue`: give back what it has and has not answered, as
        failures if the settings count them (`Nack`); otherwise that may still be answered, and is given back
        by `Nack`. Idempotent; `ended` is not called."""


class QueueCounts(Protocol):
    """How many events a subscription has, in the present turn of the event loop."""

    @property
    def ready(self) -> int:
        """Deliverable now, including those that wait for a scan to reach them."""

    @property
    def unanswered(self) -> int:
        """With consumers, attached ones or others."""

    @property
    def consumers(self) -> int:
        """Attached ones."""


DeliveryState: TypeAlias = Literal["leased", "done", "done_earlier", "over"]
"""What became of a delivery. Leased: its consumer still has the event. Done: the event is done, by whichever
answer. Done earlier: so, and the delivery is of an earlier run of the server, so who remembers the answers of
this run does not know whether it was the one. Over: the lock has expired, it was given back, or the token is
unknown; the event is not done."""

OnDeliveries: TypeAlias = Callable[[list[Delivery]], None]
OnEnded: TypeAlias = Callable[[StreamError | None], None]


class AttachedConsumers(Protocol):
    """What consumers that are attached need of an engine, beside `Queues`."""

    async def attach(self, request: AttachRequest, deliver: OnDeliveries, ended: OnEnded) -> AttachedConsumer:
        """Hand events of a subscription to a consumer as they become ready. `deliver` is called in the event
        loop, synchronously, with at least one delivery, in the order of the subscription, and not before this
        has returned and the loop has had a turn. It must not raise. `ended` is called once, when the
        subscription was deleted (NoSuchSubscription), the requester may not receive from it any more
        (NotAuthorized), or the engine is closed (None): nothing is delivered from then on.

        NoSuchSubscription, ConsumerClash, InvalidArgument."""

    def settle_soon(self, subscription: str, outcomes: Sequence[Outcome]) -> None:
        """As `Queues.settle`, without waiting: the answers of a turn of the loop are recorded together, and
        are durable within some milliseconds. What is answered already, and tokens that are unknown, change
        nothing; so does a call about a subscription that does not exist."""

    async def settle(self, subscription: str, outcomes: Sequence[Outcome]) -> None:
        """As `settle_soon`, but they are recorded at once, and durable when this returns. StreamError: they
        could not be recorded, and what they are about is delivered again."""

    async def take(self, subscription: str, consumer: str, *, auto_ack: bool = False) -> Delivery | None:
        """The next event, as if attached for a single one; None: none is ready. NoSuchSubscription."""

    def queue_counts(self, subscription: str) -> QueueCounts:
        """The present figures. Exact for what was committed; an estimate where a part of a routed queue's
        index is not in memory. NoSuchSubscription."""

    def delivery_states(self, subscription: str, tokens: Sequence[str]) -> list[DeliveryState]:
        """What became of deliveries, pulled ones too, as far as it is known in the present turn of the event
        loop. NoSuchSubscription."""

    async def purge_ready(self, subscription: str) -> int:
        """Let all events be done that no consumer has and that do not wait for a time. Returns how many were
        ready. NoSuchSubscription."""


@runtime_checkable
class AttachesConsumers(Protocol):
    """An engine to whose subscriptions consumers can be attached."""

    @property
    def attached(self) -> AttachedConsumers:
        """They."""


DeadLetterReason: TypeAlias = Literal["rejected", "failed", "expired", "maxlen"]
"""Why an event was given up. Failed: as often as `failures_max` allows. Maxlen: its queue has as many as its
limits allow."""


@dataclass(frozen=True, slots=True)
class DeadEvent:
    """An event that a queue has given up."""

    event: Event
    reason: DeadLetterReason
    attempts: int
    """Deliveries."""
    origin: str
    """Names this event in this queue, for good: what is moved again after a crash has the same."""


class DeadLetterSink(Protocol):
    """Takes what queues with the setting `dead_letters_to_sink` have given up: a door with exchanges."""

    async def move(self, subscription: str, events: Sequence[DeadEvent]) -> list[StreamError | None]:
        """Publish copies of events as the door's rules say. Returns a result for each, when all are durable.
        None: its copy is, or the rules drop it; the event is done. An error: it is tried again later, and the
        event stays where it is meanwhile. It comes again, too, if what it is could not be recorded."""

    def recorded(self, subscription: str, *, is_all: bool) -> None:
        """It is durable that what `move` has returned None for is done. `is_all`: the subscription has
        nothing that it has given up and that is not done."""


@runtime_checkable
class OffersDeadLetterSink(Protocol):
    """An engine whose routed queues hand over what they give up."""

    def attach_dead_letter_sink(self, sink: DeadLetterSink) -> None:
        """Hand over to this sink what is given up, and what was before. There is a single one."""
