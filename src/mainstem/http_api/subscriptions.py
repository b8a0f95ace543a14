"""The JSON of subscriptions: their settings, how much is outstanding, and the requests that manage them.

Owns: the fields of these requests and replies, with their limits and descriptions. Refuses: deliveries and
their acknowledgements, which are in `deliveries`; and the conversion of events, which the HTTP door does.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from mainstem.http_api.events import EventJson
from mainstem.http_api.field_types import Milliseconds, Offset, Operations, PartitionNumber, TopicName
from mainstem.http_api.push import PushReportJson, PushSettingsJson
from mainstem.queues.settings import FILTER_CHARACTERS_MAX, LOCK_MS_MAX, NUMBER_RANGES, TOPICS_MAX

LOCK_MS_MIN = 1_000
"""A consumer by HTTP has no connection that could end, so that each of its locks expires."""
REDRIVEN_POSITIONS_MAX = 10_000
SubscriptionName = Annotated[str, Meta(min_length=1, max_length=249, pattern=r"^[a-zA-Z0-9._-]+$")]
ConsumerName = Annotated[str, Meta(min_length=1, max_length=255)]
SNAPSHOT_PATTERN = r"[a-zA-Z0-9._-]{1,249}"
"""Of the name of a snapshot."""
SnapshotText = Annotated[str, Meta(min_length=1, max_length=249, pattern=r"^[a-zA-Z0-9._-]+$")]
LockTime = Annotated[int, Meta(ge=LOCK_MS_MIN, le=LOCK_MS_MAX)]
POSITION_PATTERN = r"[a-zA-Z0-9._-]{1,249}/[0-9]{1,10}/[0-9]{1,19}"
"""Of topic/partition/offset."""
SEEK_PATTERN = rf"earliest|latest|-([0-9]+(ms|s|m|h|d|w))+|[0-9]{{4}}-[0-9]{{2}}.*|{POSITION_PATTERN}"
"""Of a place to seek, before its time is read."""
PositionText = Annotated[str, Meta(pattern=f"^{POSITION_PATTERN}$", description="topic/partition/offset")]
Outstanding = Literal["ready", "leased", "waiting", "parked", "dying"]


def _range_of(setting: str) -> Meta:
    """The limits of a setting that is a number."""
    least, greatest = NUMBER_RANGES[setting]
    return Meta(ge=least, le=greatest)


class SubscriptionsQuery(msgspec.Struct):
    """Which subscriptions to list."""

    q: Annotated[str, Meta(description="Only names that contain this text, in any case.")] = ""
    topic: Annotated[TopicName | None, Meta(description="Only subscriptions of this topic.")] = None
    limit: Annotated[int, Meta(ge=1, le=500, description="Maximum number of subscriptions.")] = 100
    after: Annotated[str, Meta(description="Only names after this one: `next` of the previous page.")] = ""


class SubscriptionSettingsJson(msgspec.Struct, forbid_unknown_fields=True):
    """Settings of a subscription. In a request, those that are omitted have their defaults, or keep their
    values; in a reply there are all of them."""

    filter: Annotated[
        Annotated[str, Meta(max_length=FILTER_CHARACTERS_MAX)] | UnsetType,
        Meta(
            description="Deliver only events that match this query, see docs/SEARCH.md; empty: every event."
            " It cannot be changed later."
        ),
    ] = UNSET
    from_latest: Annotated[
        bool | UnsetType,
        Meta(description="Begin with the events published from now on; else with the oldest ones."),
    ] = UNSET
    lock_ms: Annotated[
        LockTime | UnsetType,
        Meta(description="How long a delivered event belongs to its consumer, ms; 30,000 by default."),
    ] = UNSET
    failures_max: Annotated[
        Annotated[int, _range_of("failures_max")] | UnsetType,
        Meta(description="After this many failures the event is a dead letter; 0: it is tried for ever."),
    ] = UNSET
    backoff_min_ms: Annotated[
        Annotated[int, _range_of("backoff_min_ms")] | UnsetType,
        Meta(description="Wait after the first failure, ms; 0 by default."),
    ] = UNSET
    backoff_max_ms: Annotated[
        Annotated[int, _range_of("backoff_max_ms")] | UnsetType,
        Meta(description="Longest wait after a failure, ms; 600,000 by default."),
    ] = UNSET
    backoff_factor: Annotated[
        Annotated[float, _range_of("backoff_factor")] | UnsetType,
        Meta(description="The wait grows by this factor with each failure; 2 by default."),
    ] = UNSET
    in_key_order: Annotated[
        bool | UnsetType,
        Meta(
            description="Deliver events of the same key in their order, to one consumer at a time. It cannot"
            " be changed."
        ),
    ] = UNSET
    dead_letter_topic: Annotated[
        TopicName | UnsetType | None,
        Meta(description="Topic for events that are given up; null: they are dropped, and counted."),
    ] = UNSET
    in_flight_max: Annotated[
        Annotated[int, _range_of("in_flight_max")] | UnsetType,
        Meta(description="Events of a partition that all consumers together may have; 100,000 by default."),
    ] = UNSET
    parked_max: Annotated[
        Annotated[int, _range_of("parked_max")] | UnsetType,
        Meta(description="Events that may wait behind an earlier one of their key; 100,000 by default."),
    ] = UNSET
    push: Annotated[
        PushSettingsJson | UnsetType | None,
        Meta(description="Where to send the events by HTTP; null: consumers pull them."),
    ] = UNSET
    accepts_late_acks: Annotated[
        bool | UnsetType,
        Meta(
            description="Whether an acknowledgement counts after its lock has expired, if the event has no"
            " other consumer; true by default."
        ),
    ] = UNSET
    durable_leases: Annotated[
        bool | UnsetType,
        Meta(
            description="Whether consumers keep their events over a restart of the server, until their locks"
            " expire; false by default."
        ),
    ] = UNSET
    pin_ms: Annotated[
        Annotated[int, _range_of("pin_ms")] | UnsetType,
        Meta(
            description="For how long from its arrival an outstanding event is kept although the retention"
            " of its topic would delete it, ms; -1: until it is done; 0, the default: retention deletes it."
        ),
    ] = UNSET
    by_priority: Annotated[
        bool | UnsetType,
        Meta(
            description="Deliver those of the next 1,000 events first whose header `priority` (0 to 9;"
            " without it 4) is the highest. Not together with in_key_order."
        ),
    ] = UNSET
    ttl_ms: Annotated[
        Annotated[int, _range_of("ttl_ms")] | UnsetType,
        Meta(
            description="How long after its arrival an event is given up as expired, if no consumer has it"
            " then, ms; 0, the default: never."
        ),
    ] = UNSET
    single_active: Annotated[
        bool | UnsetType,
        Meta(description="Deliver to a single consumer at a time; to another one when it is gone."),
    ] = UNSET
    active_timeout_ms: Annotated[
        Annotated[int, _range_of("active_timeout_ms")] | UnsetType,
        Meta(
            description="With single_active: how long a consumer without an event and without a pull stays"
            " the active one, ms; 10,000 by default."
        ),
    ] = UNSET


class NewSubscriptionJson(msgspec.Struct, forbid_unknown_fields=True):
    """The request to create a subscription."""

    JSON_SCHEMA: ClassVar = {
        "examples": [{"subscription": "billing", "topics": ["orders"], "settings": {"failures_max": 5}}]
    }

    subscription: SubscriptionName
    topics: Annotated[
        list[TopicName], Meta(min_length=1, max_length=TOPICS_MAX, description="They must exist.")
    ]
    settings: SubscriptionSettingsJson = msgspec.field(default_factory=SubscriptionSettingsJson)


class ChangedSubscriptionJson(msgspec.Struct, forbid_unknown_fields=True):
    """The request to change a subscription. What is omitted stays."""

    topics: Annotated[list[TopicName], Meta(min_length=1, max_length=TOPICS_MAX)] | UnsetType = UNSET
    settings: SubscriptionSettingsJson = msgspec.field(default_factory=SubscriptionSettingsJson)
    dry_run: Annotated[
        bool, Meta(description="Only check the change, and show the subscription as it would be.")
    ] = False


class DepthJson(msgspec.Struct):
    """How many events of a subscription are in each state."""

    ready: Annotated[int, Meta(description="A consumer can have them now.")]
    leased: Annotated[int, Meta(description="They were delivered, and are not settled yet.")]
    waiting: Annotated[int, Meta(description="They failed, and wait until they are due again.")]
    parked: Annotated[int, Meta(description="They wait for an earlier event of their key.")]
    dying: Annotated[int, Meta(description="They are given up, and not in the dead-letter topic yet.")]
    ahead: Annotated[int, Meta(description="The filter has not been applied to them yet.")]


class QueueConsumerJson(msgspec.Struct):
    """A consumer that has events of a subscription."""

    consumer: str
    leased: Annotated[int, Meta(description="Events that it has.")]
    leases: Annotated[int, Meta(description="Parts of pulls that it has not answered completely.")]
    deadline: Annotated[str | None, Meta(description="When its first lease expires, ISO 8601.")]


class SubscriptionJson(msgspec.Struct):
    """A subscription in the list of subscriptions."""

    subscription: str
    topics: list[str]
    depth: DepthJson
    oldest_age_ms: Annotated[
        int | None, Meta(description="How long ago the oldest outstanding event arrived, ms; null: none.")
    ]
    consumers: Annotated[int, Meta(description="Consumers that have events of it.")]
    dead_lettered: Annotated[int, Meta(description="Dead letters since the start of the server.")]
    delivered_per_s: Annotated[
        float, Meta(description="Deliveries per second, averaged over ten seconds or more.")
    ]
    acked_per_s: float
    problems: Annotated[list[str], Meta(description="What keeps events from being delivered.")]


class SubscriptionsJson(msgspec.Struct):
    """A page of subscriptions, sorted by name."""

    subscriptions: list[SubscriptionJson]
    total: int
    next: str | None


class SubscriptionDetailJson(msgspec.Struct):
    """A subscription with its settings, counters and consumers. The counters begin at `since`."""

    subscription: str
    created: Annotated[str, Meta(description="When it was created, ISO 8601.")]
    topics: list[str]
    settings: SubscriptionSettingsJson
    depth: DepthJson
    oldest: Annotated[
        str | None, Meta(description="topic/partition/offset of the oldest outstanding event; null: none.")
    ]
    oldest_age_ms: int | None
    since: Annotated[str, Meta(description="When the counters began, ISO 8601.")]
    delivered: int
    redelivered: Annotated[int, Meta(description="Deliveries of events that had been delivered before.")]
    acked: int
    nacked: Annotated[int, Meta(description="Deliveries that consumers gave back.")]
    rejected: Annotated[int, Meta(description="Deliveries that consumers rejected.")]
    expired: Annotated[int, Meta(description="Deliveries whose lock expired.")]
    failed: Annotated[int, Meta(description="Deliveries that ended without an acknowledgement.")]
    dead_lettered: Annotated[int, Meta(description="Events that are in the dead-letter topic.")]
    dropped: Annotated[int, Meta(description="Events that were given up without a dead-letter topic.")]
    trimmed: Annotated[int, Meta(description="Events that retention deleted before they were done.")]
    expiring: Annotated[
        int,
        Meta(
            description="Outstanding events that retention deletes soon: it would now if it kept a fifth"
            " less."
        ),
    ]
    unreadable: Annotated[int, Meta(description="Events that damage has made unreadable.")]
    consumers: list[QueueConsumerJson]
    active_consumer: Annotated[
        str | None,
        Meta(description="With single_active: who receives events; null: the next one that pulls."),
    ]
    problems: Annotated[list[str], Meta(description="What keeps events from being delivered.")]
    push: Annotated[PushReportJson | None, Meta(description="null: its events are not pushed.")] = None
    operations: Operations = UNSET


class DeletedSubscriptionJson(msgspec.Struct):
    """The reply to the deletion of a subscription: what it removed, or in a dry run would remove."""

    subscription: str
    dry_run: bool
    events: Annotated[int, Meta(description="Events that were still outstanding.")]


class BrowseQuery(msgspec.Struct):
    """Which outstanding events to show."""

    state: Annotated[Outstanding | None, Meta(description="Only events in this state.")] = None
    consumer: Annotated[ConsumerName | None, Meta(description="Only events that this consumer has.")] = None
    after: Annotated[
        PositionText | None, Meta(description="Only events after this position: `next` of the previous page.")
    ] = None
    limit: Annotated[int, Meta(ge=1, le=1_000, description="Maximum number of events.")] = 100
    encoding: Annotated[
        Literal["base64"] | UnsetType,
        Meta(description="base64: key and value byte for byte, always as base64."),
    ] = UNSET


class BrowsedEventJson(msgspec.Struct):
    """An outstanding event, and why it is not delivered now."""

    event: EventJson
    state: Outstanding
    attempts: Annotated[int, Meta(description="How often it was delivered.")]
    failures: Annotated[int, Meta(description="How often that failed.")]
    why: Annotated[str, Meta(description="Why it is not delivered now; empty: it is ready.")]
    reason: Annotated[
        str, Meta(description="What a consumer said last when it gave the event back, or rejected it.")
    ]
    consumer: Annotated[str | None, Meta(description="Who has it, if it is leased.")]
    until: Annotated[
        str | None,
        Meta(description="When its lease expires, or when it is due if it waits, ISO 8601."),
    ]


class BrowsedPageJson(msgspec.Struct):
    """A page of outstanding events, sorted by topic, partition and offset."""

    events: list[BrowsedEventJson]
    next: Annotated[str | None, Meta(description="The `after` of the next page; null: this is the last one.")]


class SeekJson(msgspec.Struct, forbid_unknown_fields=True):
    """The request to let a subscription continue at another place. Everything from there on is outstanding,
    and everything before it is done."""

    JSON_SCHEMA: ClassVar = {"examples": [{"to": "earliest", "dry_run": True}, {"to": "orders/0/17"}]}

    to: Annotated[
        Annotated[str, Meta(pattern=f"^({SEEK_PATTERN})$", max_length=300)] | None,
        Meta(
            description="earliest, latest, a time (ISO 8601; UTC by default), an age (-10m), or for a single"
            " partition topic/partition/offset. Give this or `snapshot`."
        ),
    ] = None
    snapshot: Annotated[
        SnapshotText | None,
        Meta(
            description="A snapshot of the subscription: what was done then is done, and all else is"
            " outstanding, also what was published since."
        ),
    ] = None
    dry_run: Annotated[bool, Meta(description="Only report what would be done.")] = False


class NewSnapshotJson(msgspec.Struct, forbid_unknown_fields=True):
    """The request to take a snapshot of a subscription: of which events are done now."""

    JSON_SCHEMA: ClassVar = {"examples": [{"snapshot": "before-release-7"}]}

    snapshot: SnapshotText


class SnapshotJson(msgspec.Struct):
    """A snapshot of a subscription."""

    snapshot: str
    created: Annotated[str, Meta(description="When it was taken, ISO 8601.")]
    events: Annotated[
        int,
        Meta(
            description="Events that would follow a seek to it now, whether the filter delivers them or not."
        ),
    ]


class SnapshotsJson(msgspec.Struct):
    """The snapshots of a subscription, sorted by name."""

    snapshots: list[SnapshotJson]


class DeletedSnapshotJson(msgspec.Struct):
    """The reply to the deletion of a snapshot."""

    subscription: str
    snapshot: str
    dry_run: bool


class SoughtJson(msgspec.Struct):
    """The reply to a seek."""

    subscription: str
    dry_run: bool
    before: Annotated[
        int,
        Meta(description="Outstanding events of the subscription, in all its partitions, before the seek."),
    ]
    events: Annotated[
        int,
        Meta(
            description="Events from there on, whether the filter delivers them or not; where a single"
            " partition is sought, those of that partition."
        ),
    ]


class PurgeJson(msgspec.Struct, forbid_unknown_fields=True):
    """The request to purge a subscription: all that is outstanding is done. No event is deleted."""

    dry_run: Annotated[bool, Meta(description="Only report what would be done.")] = False


class PositionJson(msgspec.Struct, forbid_unknown_fields=True):
    """An offset in a partition of a topic."""

    topic: TopicName
    partition: PartitionNumber
    offset: Offset


class RedriveJson(msgspec.Struct, forbid_unknown_fields=True):
    """The request to deliver dead letters of a subscription again, to it alone. No event is copied."""

    positions: Annotated[
        Annotated[list[PositionJson], Meta(min_length=1, max_length=REDRIVEN_POSITIONS_MAX)] | None,
        Meta(
            description="Where the events are in the topics of the subscription; null: those of all dead"
            " letters that the server has written for it in its dead-letter topic."
        ),
    ] = None
    since_ms: Annotated[
        Milliseconds | None,
        Meta(description="Without `positions`: only dead letters of this time or later, ms since 1970."),
    ] = None
    reason: Annotated[
        str, Meta(max_length=100, description="Without `positions`: only dead letters with this reason.")
    ] = ""
    q: Annotated[
        str,
        Meta(
            max_length=10_000,
            description="Without `positions`: only dead letters that match this query, see docs/SEARCH.md.",
        ),
    ] = ""
    again: Annotated[
        bool,
        Meta(
            description="Without `positions`: also dead letters whose events were redriven before, and not"
            " given up since."
        ),
    ] = False
    per_s: Annotated[
        Annotated[float, Meta(ge=0.01, le=100_000)] | None,
        Meta(description="Events a second: the later ones wait in the subscription; null: all at once."),
    ] = None
    dry_run: Annotated[bool, Meta(description="Only report what would be done.")] = False


class WakeJson(msgspec.Struct, forbid_unknown_fields=True):
    """The request to deliver events now that wait for a time. This is no failure."""

    positions: Annotated[
        Annotated[list[PositionJson], Meta(min_length=1, max_length=REDRIVEN_POSITIONS_MAX)] | None,
        Meta(description="Where the events are in the topics of the subscription; null: all that wait."),
    ] = None
    dry_run: Annotated[bool, Meta(description="Only report what would be done.")] = False


class CancelJson(msgspec.Struct, forbid_unknown_fields=True):
    """The request to let events be done that no consumer has, without delivering them. No event is
    deleted."""

    positions: Annotated[
        Annotated[list[PositionJson], Meta(min_length=1, max_length=REDRIVEN_POSITIONS_MAX)] | None,
        Meta(description="Where the events are in the topics of the subscription; null: all that wait."),
    ] = None
    dry_run: Annotated[bool, Meta(description="Only report what would be done.")] = False


class EventInSubscriptionJson(msgspec.Struct):
    """What a subscription knows of an event."""

    subscription: str
    state: Annotated[
        Literal["ready", "leased", "waiting", "parked", "dying", "ahead", "done"],
        Meta(
            description="ahead: its filter was not applied to the event yet; done: acknowledged, given up,"
            " excluded by the filter, purged, or before the place where the subscription began."
        ),
    ]
    attempts: Annotated[int, Meta(description="How often it was delivered.")]
    failures: int
    why: Annotated[str, Meta(description="Why it is not delivered now.")]
    reason: Annotated[str, Meta(description="What a consumer said last when it gave the event back.")]
    consumer: str | None
    until: Annotated[str | None, Meta(description="See `:browse`.")]


class EventStatesJson(msgspec.Struct):
    """The state of an event in the subscriptions of its topic, by name, at most 1,000 of them."""

    subscriptions: list[EventInSubscriptionJson]
    total: int


class SettledEventsJson(msgspec.Struct):
    """The reply to a purge, redrive, wake or cancel: how many events it concerned, or would in a dry run."""

    subscription: str
    dry_run: bool
    events: int
