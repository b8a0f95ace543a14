"""The contract of queues: subscriptions, whose events are acknowledged one by one.

An engine that has queues implements `Queues` beside the contract of `mainstem.contract`; a user checks for it
with isinstance. docs/QUEUES.md says what is promised.

Owns: the types, the errors and the protocol. Refuses: imports of an engine, the log or a wire protocol. Times
are milliseconds, and those of a clock are since 1970, UTC. Any call may raise StreamError, whose message is
for people.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias, runtime_checkable

from mainstem.contract import Event, Position, StreamError, UnknownTopic
from mainstem.queue_answers import Ack, Delivery, Extend, Nack, Outcome, Reject, Verdict
from mainstem.queues.settings import SubscriptionSettings

__all__ = [
    "Ack",
    "BrowsedEvent",
    "ConsumerInfo",
    "DeadLetterInfo",
    "Delivery",
    "EventInSubscription",
    "EventState",
    "Extend",
    "Nack",
    "NoSuchSnapshot",
    "NoSuchSubscription",
    "Outcome",
    "PushReport",
    "Pusher",
    "PushesEvents",
    "QueueDepth",
    "Queues",
    "Reject",
    "SettingsHaveChanged",
    "SnapshotInfo",
    "SnapshotName",
    "SnapshotNameTaken",
    "SubscriptionInfo",
    "SubscriptionNameTaken",
    "SubscriptionSettings",
    "SubscriptionTotals",
    "Verdict",
    "no_such_place",
]  # fmt: skip

PULL_BYTES_MAX = 4 << 20
"""Bytes of keys, values and headers after which a pull returns, if its caller names no other number."""

DEAD_LETTER_SUBSCRIPTION_HEADER = "mainstem-dead-letter-subscription"
"""Header of a dead letter with the name of the subscription that has given the event up."""
DEAD_LETTER_FROM_HEADER = "mainstem-dead-letter-from"
"""Header of a dead letter that says where the event is: `topic/partition/offset`."""
DEAD_LETTER_REASON_HEADER = "mainstem-dead-letter-reason"
DEAD_LETTER_DETAIL_HEADER = "mainstem-dead-letter-detail"
DEAD_LETTER_ATTEMPTS_HEADER = "mainstem-dead-letter-attempts"
DEAD_LETTER_TOPIC_ID_HEADER = "mainstem-dead-letter-topic-id"
DEAD_LETTER_EVENT_TIME_HEADER = "mainstem-dead-letter-event-time"
DEAD_LETTER_TIME_HEADER = "mainstem-dead-letter-time"

DEAD_LETTER_REASONS = ("rejected", "failed", "expired", "maxlen")
"""Why an event is given up: its consumer rejected it, it failed as often as `failures_max` allows, its time
was over, its queue had more events than its limits allow."""

EventState: TypeAlias = Literal["ready", "leased", "waiting", "parked", "dying"]
"""Of an event that is not done. Ready: deliverable now. Leased: a consumer has it. Waiting: for the time from
which it is deliverable. Parked: for an earlier event of its key. Dying: until its dead letter is durable."""


class NoSuchSubscription(StreamError):
    """The error if the subscription does not exist."""


class SubscriptionNameTaken(StreamError):
    """The error for creating a subscription whose name another one has."""


class SettingsHaveChanged(StreamError):
    """The error for a change of settings that was made for others than there are now. Read them again, and
    repeat the change."""


class NoSuchSnapshot(StreamError):
    """The error if the subscription has no snapshot of that name."""


class SnapshotNameTaken(StreamError):
    """The error for taking a snapshot under a name that another one of the subscription has."""


def no_such_place(place: Position) -> UnknownTopic:
    """The error for a place in a topic, or a partition, that a subscription does not read."""
    return UnknownTopic(f"the subscription has no partition {place.partition} of a topic {place.topic}")


# ----------------------------------------------------------------------------------------------------------
# what a subscription says of itself


@dataclass(frozen=True, slots=True)
class QueueDepth:
    """How many events of a subscription are in each state. Events that are done are not counted."""

    ready: int
    leased: int
    waiting: int
    parked: int
    dying: int
    ahead: int
    """Not looked at yet, so a filter may still exclude some of them."""

    @property
    def outstanding(self) -> int:
        """All of them."""
        return self.ready + self.leased + self.waiting + self.parked + self.dying + self.ahead


@dataclass(frozen=True, slots=True)
class ConsumerInfo:
    """A consumer that has events of a subscription."""

    name: str
    leased: int
    """Events that it has."""
    deadline_ms: int | None
    """When the first of its locks expires; None: no lock of it does."""
    leases: int = 0
    """Parts of pulls that it has not answered completely."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PushReport:
    """How pushing the events of a subscription goes, since the start of the server or since it is pushed."""

    in_flight: int
    """Requests that wait for their answer."""
    window: int
    """Requests that may be under way: more after successes, fewer after failures."""
    delivered: int
    """Requests that were answered with success."""
    failed: int
    delivered_per_s: float
    """Over the last minute, as the next one."""
    failed_per_s: float
    latency_ms: float | None
    """Of answers; the latest ones weigh more. None: there was none."""
    last_error: str | None
    """Of the latest request that failed, for people."""
    last_error_ms: int | None
    paused_until_ms: int | None
    """Nothing is sent before this time, for requests failed; None: there is no pause."""
    pull_failures: int = 0
    """How often events could not be pulled. It is tried again, later each time."""
    pull_error: str | None = None
    """Why they cannot be pulled at the moment, for people; None: they can."""


@dataclass(frozen=True, slots=True)
class SubscriptionInfo:
    """A subscription: its settings, and what it has to deliver."""

    name: str
    settings: SubscriptionSettings
    created_ms: int
    depth: QueueDepth
    oldest: Position | None
    """The oldest event that is not done, over all partitions; None: there is none."""
    oldest_ms: int | None
    """When that event arrived."""
    consumers: tuple[ConsumerInfo, ...]
    """By name."""
    since_ms: int
    """Since when the following are counted: the start of the server, or a reload of its state."""
    delivered: int
    redelivered: int
    """Of the delivered events, those that had been delivered before."""
    acked: int
    failed: int
    """Deliveries that ended without an acknowledgement: given back as failures, rejected, or expired."""
    dead_lettered: int
    """Events whose dead letter is durable."""
    dropped: int
    """Events that were given up without a dead-letter topic."""
    trimmed: int
    """Events that retention deleted before they were done."""
    expiring: int
    """Events that are not done and that retention deletes soon: it would now if it kept a fifth less, of the
    time and of the size."""
    unreadable: int
    """Events that damage of the log has made unreadable: they are done, and never delivered."""
    nacked: int = 0
    """Deliveries that consumers gave back, as failures or not."""
    rejected: int = 0
    """Deliveries that consumers rejected."""
    expired: int = 0
    """Deliveries whose lock expired."""
    active_consumer: str | None = None
    """With `single_active`: who receives events; None: the next one that pulls."""
    problems: tuple[str, ...] = ()
    """What keeps events from being delivered, or will, one line each: a dead-letter topic that refuses, an
    endpoint that fails, damage, retention."""
    push: PushReport | None = None
    """None: its events are not pushed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionTotals:
    """The figures of a subscription that are read without looking at its partitions anew: for statistics. The
    counters begin with the start of the server, and are explained at `SubscriptionInfo`."""

    name: str
    topics: tuple[str, ...]
    depth: QueueDepth
    """Ahead are only those that a filter, or key order, has to look at first."""
    oldest_ms: int | None
    """When the oldest event that is not done arrived; None: there is none."""
    consumers: int
    """Consumers that have events."""
    delivered: int = 0
    redelivered: int = 0
    acked: int = 0
    nacked: int = 0
    rejected: int = 0
    expired: int = 0
    dead_lettered: Mapping[str, int] = field(default_factory=dict)
    """By reason, see DEAD_LETTER_REASONS."""
    dropped: Mapping[str, int] = field(default_factory=dict)
    """By reason."""
    trimmed: int = 0
    unreadable: int = 0
    wakes: int = 0
    """How often events that waited became deliverable, one or several at a time."""
    late_ms: int = 0
    """Of each wake, how late it was for the event that was due first; all of them added up."""
    expiring: int = 0
    """Events that are not done and that retention deletes soon, as of its last run."""
    push_delivered: int = 0
    """Requests to its endpoint that were answered with success."""
    push_failed: int = 0
    push_pull_failures: int = 0
    """See `PushReport.pull_failures`."""
    push_in_flight: int = 0
    """Requests to its endpoint that wait for their answer."""
    push_paused: int = 0
    """1: nothing is sent to its endpoint, for requests failed; 0 otherwise."""
    problems: tuple[str, ...] = ()


# ----------------------------------------------------------------------------------------------------------
# events of a subscription


@dataclass(frozen=True, slots=True)
class BrowsedEvent:
    """An event that is not done, and why it is not."""

    event: Event
    state: EventState
    attempts: int
    """Deliveries so far."""
    failures: int
    why: str
    """Why it is not delivered now, for people; empty if it is ready."""
    reason: str = ""
    """What a consumer said last when it gave the event back, or rejected it."""
    consumer: str | None = None
    """Who has it, if it is leased."""
    until_ms: int | None = None
    """When its lock expires, if it is leased, or when it is due, if it waits."""


@dataclass(frozen=True, slots=True)
class EventInSubscription:
    """What a subscription knows of an event."""

    subscription: str
    state: EventState | Literal["ahead", "done"]
    """Ahead: a filter, or key order, has not looked at it yet. Done: acknowledged, given up, excluded by the
    filter, purged, or before the place where the subscription began."""
    attempts: int = 0
    """See `BrowsedEvent`, as for the following."""
    failures: int = 0
    why: str = ""
    reason: str = ""
    consumer: str | None = None
    until_ms: int | None = None


@dataclass(frozen=True, slots=True)
class DeadLetterInfo:
    """A dead letter, as the server wrote it."""

    letter: Event
    """In the dead-letter topic."""
    origin: Position
    """The event of which it is a copy."""
    topic_id: str
    """The id of that event's topic, as `TopicInfo.id`: another one may have its name now."""
    reason: str
    """rejected, failed or expired."""
    detail: str
    """What a consumer said last; may be empty."""
    attempts: int
    """Deliveries of the event."""
    time_ms: int
    """When the letter was written."""
    is_redriven: bool = False
    """Whether the event was redriven, and has not been given up since: the letter is of the past. Not known
    of redrives before a seek."""


@dataclass(frozen=True, slots=True)
class SnapshotInfo:
    """A named snapshot of a subscription."""

    name: str
    created_ms: int
    events: int
    """Events that a seek to it would let follow now, before a filter."""


@dataclass(frozen=True, slots=True)
class SnapshotName:
    """A named snapshot, as a place to seek."""

    name: str


# ----------------------------------------------------------------------------------------------------------
# the protocol


@runtime_checkable
class Queues(Protocol):
    """An engine that has subscriptions.

    Names of subscriptions follow the rules of topics. All calls about a subscription raise
    NoSuchSubscription if it does not exist. What a call has answered is durable.
    """

    async def subscriptions(self) -> list[str]:
        """The names of all subscriptions, sorted."""

    async def subscription(self, name: str) -> SubscriptionInfo:
        """A subscription with its settings and its depth."""

    async def subscription_settings(self, name: str) -> SubscriptionSettings:
        """The settings of a subscription, without looking at its events."""

    async def subscription_totals(self, names: Sequence[str] | None = None) -> list[SubscriptionTotals]:
        """The figures of all subscriptions, or of those of these names that exist, by name. It takes several
        turns of the event loop, so they are not all of the same moment. It changes nothing: what retention
        deletes is counted as trimmed by the next call about the subscription."""

    async def create_subscription(self, name: str, settings: SubscriptionSettings) -> None:
        """Create a subscription. SubscriptionNameTaken; InvalidArgument: the name, a setting or the filter;
        UnknownTopic: one of the topics, or the dead-letter topic, does not exist."""

    async def alter_subscription(
        self,
        name: str,
        settings: SubscriptionSettings,
        *,
        expected: SubscriptionSettings | None = None,
        dry_run: bool = False,
    ) -> None:
        """Replace all settings, or only check whether that is possible (`dry_run`); with `expected`, only if
        they are these now (SettingsHaveChanged), so that who changes some of them takes back none of somebody
        else. Events that are delivered keep their deadlines. What the subscription knows of topics that it
        has no more is forgotten. Without a dead-letter topic, events that were given up before still go to
        the last one. InvalidArgument: also for another filter, and for the removal of a topic with events
        that are dying; UnknownTopic: a topic that the subscription did not have before does not exist."""

    async def delete_subscription(self, name: str) -> None:
        """Delete a subscription, with what it knows. No event is deleted."""

    async def pull(
        self,
        name: str,
        consumer: str,
        *,
        max_events: int = 100,
        wait_ms: int = 0,
        max_bytes: int = PULL_BYTES_MAX,
        lock_ms: int | None = None,
    ) -> list[Delivery]:
        """Receive the next events, at most `max_events` (1 to 10,000) with about `max_bytes` of keys, values
        and headers, but at least one if there is any. Where sizes differ, there may be more bytes: a batch of
        a producer, or 128 KB. Waits up to `wait_ms` for the first one; empty if none is
        deliverable. `consumer`: a name of up to 255 characters, which may be any. `lock_ms`: in place of the
        subscription's.

        A call that is cancelled leaves nothing leased. InvalidArgument."""

    async def settle(self, name: str, outcomes: Sequence[Outcome]) -> list[Verdict]:
        """Answer for events. Returns the verdict on each outcome, in order, when all of them are durable.
        Several outcomes with one token: the first one counts. InvalidArgument: a delay or lock out of
        range."""

    async def browse(
        self,
        name: str,
        state: EventState | None = None,
        *,
        after: Position | None = None,
        max_events: int = 100,
        consumer: str | None = None,
    ) -> list[BrowsedEvent]:
        """The events in a state, or in any, that come after a position, in the order of topic, partition and
        offset, at most `max_events` (1 to 1,000). Changes nothing. Events that a filter has not looked at yet
        are not shown. `consumer`: only those that it has."""

    async def event_states(self, position: Position) -> list[EventInSubscription]:
        """What each subscription knows of an event, by name. Changes nothing. UnknownTopic,
        PositionOutOfRange."""

    async def wake(self, name: str, positions: Sequence[Position] | None, *, dry_run: bool = False) -> int:
        """Let events be deliverable now that wait for a time; None: all of them. This is no delivery and no
        failure. Returns how many there are, or would be in a dry run. Positions that do not wait are left
        out."""

    async def cancel(self, name: str, positions: Sequence[Position] | None, *, dry_run: bool = False) -> int:
        """Let events be done that no consumer has, without delivering them; None: all that wait for a time.
        Events that are dying have no dead letter then. No event is deleted; redriving brings them back.
        Returns how many there are, or would be in a dry run."""

    async def snapshots(self, name: str) -> list[SnapshotInfo]:
        """The named snapshots of a subscription, by name."""

    async def take_snapshot(self, name: str, snapshot: str) -> SnapshotInfo:
        """Keep under a name which events are done now. SnapshotNameTaken; InvalidArgument: the name, or there
        are 100 already."""

    async def delete_snapshot(self, name: str, snapshot: str) -> None:
        """Delete a named snapshot. NoSuchSnapshot."""

    async def seek(self, name: str, to: Literal["earliest", "latest"] | int | Position | SnapshotName) -> int:
        """Begin anew: earlier events are done, later ones are delivered as if they never were, and those that
        consumers have are theirs no more. An integer is a time: the first event with that timestamp or a
        later one. A position is in one of the partitions, and moves that one only. With a named snapshot,
        what was done then is done, and all else is delivered as if it never was, also what was published
        since. Returns how many events follow, before a filter. PositionOutOfRange, UnknownTopic,
        NoSuchSnapshot."""

    async def purge(self, name: str) -> int:
        """All events up to now are done, also those that consumers have. Returns how many were
        outstanding."""

    async def dead_letters(
        self, name: str, *, since_ms: int = 0, after: Position | None = None, max_events: int = 100
    ) -> list[DeadLetterInfo]:
        """The dead letters of a subscription in its dead-letter topic, or the one that it had last, that come
        after a position of that topic and have this timestamp or a later one, at most `max_events` (1 to
        1,000), by partition and offset. What others have published there is left out, whatever its headers
        say. Fewer than `max_events`: there are no further ones. InvalidArgument: it never had such a topic;
        UnknownTopic: the topic does not exist."""

    async def redrive(
        self,
        name: str,
        positions: Sequence[Position],
        *,
        dry_run: bool = False,
        per_s: float | None = None,
    ) -> int:
        """Deliver events again that are done, such as those of dead letters, as if they never were. Other
        subscriptions see nothing of it. Returns how many there are, or would be in a dry run. Positions that
        are not done, deleted, before the last seek, or excluded by the filter, are left out. `per_s`: at this
        rate, 0.01 to 100,000; the later ones wait. InvalidArgument: also if it takes over seven days."""


class Pusher(Protocol):
    """What sends the events of subscriptions to HTTP endpoints."""

    def subscription_changed(self, name: str, settings: SubscriptionSettings | None) -> None:
        """The events of a subscription are to be pushed, as these settings say; None: not any more. Returns
        at once."""

    def report(self, name: str) -> PushReport | None:
        """How pushing a subscription goes; None: it is not pushed."""


@runtime_checkable
class PushesEvents(Protocol):
    """An engine whose subscriptions can be pushed."""

    def attach_pusher(self, pusher: Pusher) -> None:
        """Let `pusher` know of all subscriptions that are to be pushed, now and whenever one changes, and
        show its reports. There is a single one."""
