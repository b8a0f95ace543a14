"""The settings of a subscription: what it reads, and how its events are delivered.

Owns: their names, meanings, defaults and ranges, for everyone from the state log to the doors. Refuses:
checks and errors, which the coordinator has. Times are milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from mainstem.queues.event_headers import LEVEL_MAX
from mainstem.queues.push_settings import PushSettings
from mainstem.queues.rules import DeliveryRules

DOOR_SETTINGS_CHARACTERS_MAX = 65_536
DAY_MS = 24 * 3600 * 1000
TOPICS_MAX = 1_000
FILTER_CHARACTERS_MAX = 10_000
LOCK_MS_MAX = DAY_MS // 2
"""The longest lock of a delivery."""
DELAY_MS_MAX = 7 * DAY_MS
"""The longest wait before an event is delivered again."""
PIN_MS_MAX = 366 * DAY_MS
"""The longest time for which events are pinned that are not pinned for ever, and the longest time to live."""

NUMBER_RANGES: Mapping[str, tuple[int, int]] = {
    "lock_ms": (0, LOCK_MS_MAX),
    "failures_max": (0, 65_535),
    "backoff_min_ms": (0, DELAY_MS_MAX),
    "backoff_max_ms": (0, DELAY_MS_MAX),
    "backoff_factor": (1, 100),
    "in_flight_max": (1, 1_000_000),
    "parked_max": (1, 1_000_000),
    "pin_ms": (-1, PIN_MS_MAX),
    "ttl_ms": (0, PIN_MS_MAX),
    "active_timeout_ms": (1, LOCK_MS_MAX),
    "priority_max": (0, LEVEL_MAX),
    "length_max": (-1, 1 << 40),
    "length_bytes_max": (-1, 1 << 50),
}
"""The least and the greatest value of each setting that is a number."""

OVERFLOWS = ("drop-head", "reject-publish", "reject-publish-dlx")
"""What a full routed queue does, in RabbitMQ's words: give up its earliest events; refuse what is published;
refuse it, and let it be a dead letter."""

DELIVERY_COUNT_MAX = (1 << 15) - 1
"""ShareFetch shows the number of deliveries in 16 bits."""
SHARE_GROUP_RANGES: Mapping[str, tuple[int, int]] = {
    "lock_ms": (1_000, LOCK_MS_MAX),
    "failures_max": (2, DELIVERY_COUNT_MAX),
    "in_flight_max": (100, NUMBER_RANGES["in_flight_max"][1]),
}
"""Those of the settings of a share group, by whatever way they are changed. Kafka's, but for the lock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionSettings:
    """The settings of a subscription."""

    topics: tuple[str, ...] = ()
    """The topics whose events it delivers, by name: also those that are created later."""
    filter: str = ""
    """A query in the language of the search: only events that match it are delivered. Empty: all."""
    from_latest: bool = False
    """Where it begins in partitions that exist when it is made: at their end, or at the beginning."""
    lock_ms: int = 30_000
    """How long a delivered event belongs to its consumer, if the consumer does not ask for another time; 0:
    until the consumer is gone."""
    failures_max: int = 0
    """Failed deliveries after which an event is given up; 0: it is tried for ever."""
    backoff_min_ms: int = 0
    """Wait before an event is offered again after its first failure."""
    backoff_max_ms: int = 600_000
    """Longest wait before an event is offered again."""
    backoff_factor: float = 2.0
    """By what the wait grows with each failure."""
    in_flight_max: int = 100_000
    """Events of a partition that all consumers together may have without having acknowledged them."""
    parked_max: int = 100_000
    """Events that may wait behind an earlier one of their key while later keys are delivered."""
    in_key_order: bool = False
    """Whether events with the same key are delivered in their order, to one consumer at a time."""
    accepts_late_acks: bool = True
    """Whether an acknowledgement counts that arrives after its lock has expired, if no other consumer has
    received the event meanwhile."""
    durable_leases: bool = False
    """Whether consumers keep their events over a restart of the server, until the lock expires, and may
    answer with the tokens that they have."""
    pin_ms: int = 0
    """For how long, from its arrival, an event that is not done is kept although the retention of its topic
    would delete it; -1: for ever; 0: retention deletes it as if there were no subscription."""
    by_priority: bool = False
    """Whether those of the next events come first that have the highest priority in their headers."""
    priority_max: int = 0
    """Of a routed queue: its highest level of priority, by the headers of events. The highest of what is
    ready is always delivered first. 0: it has no levels."""
    ttl_ms: int = 0
    """How long after its arrival an event is given up as expired, if no consumer has it then; 0: never."""
    single_active: bool = False
    """Whether a single consumer at a time receives events; another one does when it is gone."""
    active_timeout_ms: int = 10_000
    """With `single_active`: how long a consumer without an event and without a pull stays the active one."""
    dead_letter_topic: str | None = None
    """Topic to which events go that were given up. None: they are dropped, and counted."""
    dead_letters_to_sink: bool = False
    """Of a routed queue: whether events that are given up are handed to its door, which publishes copies as
    its rules say, in place of going to a topic."""
    length_max: int = -1
    """Of a routed queue: how many of its events may be ready; -1: any number."""
    length_bytes_max: int = -1
    """Of a routed queue: bytes of the values of its ready events together; -1: any number."""
    overflow: str = OVERFLOWS[0]
    """Of a routed queue: what happens when it is full, one of OVERFLOWS."""
    door_settings: str = ""
    """What a door keeps with the subscription, in a form of its own: the engine does not read it. A
    subscription that has some may have no topics."""
    push: PushSettings | None = None
    """Where its events are sent by HTTP. None: consumers pull them."""

    def by_name(self) -> dict[str, Any]:
        """All settings, by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def has_dead_letters(self) -> bool:
        """Whether what is given up is not just dropped."""
        return self.dead_letters_to_sink or self.dead_letter_topic is not None

    @property
    def is_limited(self) -> bool:
        """Whether the number or the size of its ready events is limited."""
        return self.length_max >= 0 or self.length_bytes_max >= 0

    @property
    def rules(self) -> DeliveryRules:
        """The settings that the views of the subscription follow."""
        return DeliveryRules(
            lock_ms=self.lock_ms,
            failures_max=self.failures_max,
            backoff_min_ms=self.backoff_min_ms,
            backoff_max_ms=self.backoff_max_ms,
            backoff_factor=self.backoff_factor,
            ttl_ms=self.ttl_ms,
            in_flight_max=self.in_flight_max,
            parked_max=self.parked_max,
            in_key_order=self.in_key_order,
            priority_max=self.priority_max,
            accepts_late_acks=self.accepts_late_acks,
        )
