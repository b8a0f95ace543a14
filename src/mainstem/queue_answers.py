"""What consumers of a subscription receive, and what they answer: a part of the contract of queues.

They are Structs, because these are made several times as fast as dataclasses, see `mainstem.contract.Event`.

Owns: deliveries, outcomes and verdicts. Refuses: the rest of `mainstem.queue_contract`, from where
these are imported. Times are milliseconds, and those of a clock are since 1970, UTC.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from mainstem.contract import Event


class Delivery(msgspec.Struct, frozen=True, gc=False):
    """An event that a consumer received. It has to answer before the deadline."""

    event: Event
    token: str
    """Names this delivery in the answer. Opaque: 27 characters that need no quoting in a URL."""
    attempt: int
    """Counts the deliveries of this event, from 1. After a kill of the server it may be lower, but is
    not 1 for an event that was delivered."""
    deadline_ms: int
    """The event is delivered again if it is not answered by then; 0: it has no deadline."""
    failures: int = 0
    """How many of the deliveries before have failed. Not known to a remote client."""


class Ack(msgspec.Struct, frozen=True, gc=False):
    """The event was processed: it is done."""

    token: str


class Nack(msgspec.Struct, frozen=True, gc=False):
    """The event was not processed: it is delivered again."""

    token: str
    delay_ms: int | None = None
    """Not before this time has passed; None: the backoff of the subscription. 0 to 7 days."""
    counts: bool = True
    """Whether it is a failure. False: the consumer did not try, and without a delay there is none."""
    reason: str = ""
    """Why, for people, of 1,000 characters at most. Shown with the event until it is done, and in its dead
    letter; that of the latest answer counts."""
    delivered: bool = True
    """False: the event never reached its consumer, so this was no delivery. The other fields do not count
    then."""


class Reject(msgspec.Struct, frozen=True, gc=False):
    """The event cannot be processed, ever: it goes to the dead letters."""

    token: str
    reason: str = ""
    """For people; becomes a header of the dead letter, of 1,000 characters at most."""


class Extend(msgspec.Struct, frozen=True, gc=False):
    """The consumer needs more time: the locks of all events that it received with the same pull, and has not
    answered, expire `lock_ms` from now."""

    token: str
    lock_ms: int
    """1 to 12 hours."""
    alone: bool = False
    """Whether only the lock of this event is changed. Not offered by a remote engine."""


Outcome: TypeAlias = Ack | Nack | Reject | Extend

Verdict: TypeAlias = Literal["done", "late", "stale", "invalid"]
"""What became of an outcome. Done: taken. Late: an acknowledgement that was taken although its lock had
expired, because no other consumer had received the event. Stale: changed nothing, for the event is done
already, or the lock is over. Invalid: changed nothing, for the token is not of this subscription, or is of a
topic that it does not have any more."""
