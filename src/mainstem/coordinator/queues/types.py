"""The value types of subscriptions: their settings, and what consumers answer.

Owns: the shape of these types, and whether a setting accepts a value; all types are immutable. Refuses: state
and rules, which are in `subscriptions.py`. Times are milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any, Literal, NamedTuple
from uuid import UUID

from mainstem.coordinator.errors import (
    InvalidSubscriptionName,
    InvalidSubscriptionSetting,
    SubscriptionChanged,
)
from mainstem.coordinator.queues.records import ShareGroupCreated, SubscriptionCreated
from mainstem.coordinator.topics.types import name_problem
from mainstem.queues.push_settings import PushSettings, push_problem
from mainstem.queues.runs import Run
from mainstem.queues.settings import (
    DOOR_SETTINGS_CHARACTERS_MAX,
    FILTER_CHARACTERS_MAX,
    NUMBER_RANGES,
    OVERFLOWS,
    SHARE_GROUP_RANGES,
    TOPICS_MAX,
    SubscriptionSettings,
)


@dataclass(frozen=True, slots=True)
class SettingRange:
    """The values that a setting accepts."""

    type: type
    minimum: float = 0
    maximum: float = 1

    @property
    def text(self) -> str:
        """The valid values, for people."""
        if self.type is bool:
            return "true or false"
        if self.type is tuple:
            return f"names of topics, {self.maximum:,} at most"
        if self.type is str:
            return f"a text of {self.maximum:,} characters at most"
        if self.type is type(None):
            return "the name of a topic, or null"
        if self.type is PushSettings:
            return "an endpoint with what belongs to it, or null"
        kind = "a whole number" if self.type is int else "a number"
        return f"{kind} from {self.minimum:,} to {self.maximum:,}"

    def accepts(self, value: object) -> bool:
        """Whether the setting accepts `value`."""
        if self.type is bool:
            return isinstance(value, bool)
        if self.type is tuple:
            return isinstance(value, tuple) and len(value) <= self.maximum and all(map(_is_topic, value))
        if self.type is str:
            return isinstance(value, str) and len(value) <= self.maximum
        if self.type is type(None):
            return value is None or _is_topic(value)
        if self.type is PushSettings:
            return value is None or (isinstance(value, PushSettings) and push_problem(value) is None)
        types = (int, float) if self.type is float else (int,)
        if not isinstance(value, types) or isinstance(value, bool):
            return False
        return self.minimum <= value <= self.maximum


def _is_topic(value: object) -> bool:
    return isinstance(value, str) and name_problem(value) is None


def _shown(value: object) -> str:
    """A value as people write it."""
    if isinstance(value, tuple):
        return ", ".join(map(_shown, value)) or "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    return "null" if value is None else repr(value)


def _reason(value: object, allowed: SettingRange) -> str:
    """Why a value is not accepted, or what is."""
    problem = push_problem(value) if isinstance(value, PushSettings) else None
    return problem or allowed.text


_DEFAULTS = SubscriptionSettings()
RANGES: Mapping[str, SettingRange] = {
    "topics": SettingRange(tuple, 0, TOPICS_MAX),
    "filter": SettingRange(str, 0, FILTER_CHARACTERS_MAX),
    **{name: SettingRange(type(getattr(_DEFAULTS, name)), *limits) for name, limits in NUMBER_RANGES.items()},
    "in_key_order": SettingRange(bool),
    "accepts_late_acks": SettingRange(bool),
    "durable_leases": SettingRange(bool),
    "single_active": SettingRange(bool),
    "by_priority": SettingRange(bool),
    "from_latest": SettingRange(bool),
    "dead_letter_topic": SettingRange(type(None)),
    "dead_letters_to_sink": SettingRange(bool),
    "overflow": SettingRange(str, 0, 100),
    "door_settings": SettingRange(str, 0, DOOR_SETTINGS_CHARACTERS_MAX),
    "push": SettingRange(PushSettings),
}
"""The settings of a subscription, by name."""
FIXED = ("filter", "in_key_order", "priority_max")
"""Those that are as they were when the subscription was created."""


def changed_settings(settings: SubscriptionSettings, changes: Mapping[str, Any]) -> SubscriptionSettings:
    """`settings` with other values for some of them. InvalidSubscriptionSetting: there is no such setting, or
    it does not accept the value, or the values contradict each other."""
    for name, value in changes.items():
        allowed = RANGES.get(name)
        if allowed is None:
            raise InvalidSubscriptionSetting(
                f"a subscription has no setting '{name}'; there are {', '.join(RANGES)}"
            )
        if not allowed.accepts(value):
            raise InvalidSubscriptionSetting(
                f"invalid value {_shown(value):.100} for the setting {name}: {_reason(value, allowed)}"
            )
    changed = replace(settings, **changes)
    if changed.overflow not in OVERFLOWS:
        raise InvalidSubscriptionSetting(f"overflow is one of {', '.join(OVERFLOWS)}")
    if changed.backoff_min_ms > changed.backoff_max_ms:
        raise InvalidSubscriptionSetting(
            f"backoff_min_ms is {changed.backoff_min_ms}, more than backoff_max_ms, {changed.backoff_max_ms}"
        )
    return changed


def check_change(
    old: SubscriptionMetadata, new: SubscriptionSettings, expected: SubscriptionSettings | None
) -> None:
    """Check a change of the settings of a subscription, which was made for the `expected` ones, or for any.
    SubscriptionChanged, InvalidSubscriptionSetting."""
    if expected is not None:
        _check_unchanged(old.settings, expected)
    _check_fixed_settings(old.settings, new)
    if old.kind == "share group":
        _check_share_group_settings(old.settings, new)


def _check_fixed_settings(old: SubscriptionSettings, new: SubscriptionSettings) -> None:
    """Check that none of the settings has changed by which views are made. InvalidSubscriptionSetting."""
    for name in FIXED:
        if getattr(old, name) != getattr(new, name):
            raise InvalidSubscriptionSetting(
                f"the setting {name} of a subscription cannot be changed: make another one"
            )


def _check_unchanged(present: SubscriptionSettings, expected: SubscriptionSettings) -> None:
    """Check that the settings are those that a change was made for. SubscriptionChanged."""
    if present != expected:
        raise SubscriptionChanged("its settings have been changed meanwhile")


SHARE_GROUP_FIXED = ("topics", "single_active", "by_priority", "durable_leases")
"""What cannot be changed of a share group beside those: its members say which topics it reads, and ShareFetch
delivers whole batches to whichever member asks."""


def _check_share_group_settings(old: SubscriptionSettings, new: SubscriptionSettings) -> None:
    """Check that nothing has changed that a share group decides itself. InvalidSubscriptionSetting."""
    for name in SHARE_GROUP_FIXED:
        if getattr(old, name) != getattr(new, name):
            why = "its members subscribe to topics" if name == "topics" else "its members share its records"
            raise InvalidSubscriptionSetting(f"{name} of a share group cannot be changed: {why}")
    for name, (least, most) in SHARE_GROUP_RANGES.items():
        value = getattr(new, name)
        if value != getattr(old, name) and not least <= value <= most:
            raise InvalidSubscriptionSetting(
                f"{name} of a share group is from {least:,} to {most:,}, as by Kafka's tools"
            )
    topic = new.dead_letter_topic
    if topic != old.dead_letter_topic and topic is not None and topic.startswith("__"):
        raise InvalidSubscriptionSetting("the dead-letter topic of a share group does not begin with __")


def check_subscription_name(name: str, kind: str = "subscription") -> None:
    """Check the rules for names, which are those of topics. `kind`: of what, for people.
    InvalidSubscriptionName."""
    problem = name_problem(name)
    if problem is not None:
        raise InvalidSubscriptionName(f"the name of the {kind} is invalid: {problem}")


SubscriptionKind = Literal["subscription", "share group"]
"""What a subscription is: one that was created, or a share group, which its members create by joining it."""


@dataclass(frozen=True, slots=True)
class SubscriptionMetadata:
    """A subscription: its id, which no other subscription ever has, its name and its settings."""

    id: int
    name: str
    settings: SubscriptionSettings
    created_ms: int
    """When it was created, wall-clock time since 1970."""
    last_dead_letter_topic: str | None = None
    """The dead-letter topic that it has, or had last: events go there that were given up while it had
    one."""
    kind: SubscriptionKind = "subscription"


CARRIED_TOPIC = "__mainstem_held"
"""The topic of copies of pinned events, which outlive their segments."""


class GiveUpReason(IntEnum):
    """Why an event was given up: the `reason` of records and settlements. Doors may use others, from 256
    on."""

    REJECTED = 1
    """The consumer said that it will never be able to process it."""
    FAILED = 2
    """It failed as often as `failures_max` allows."""
    EXPIRED = 3
    """Its time was over before it was processed."""
    MAXLEN = 4
    """Its queue had as many events as its limits allow."""


class LeasedEvent(NamedTuple):
    """An event that a consumer received."""

    view: int
    position: int
    lease: int
    epoch: int
    """`Subscriptions.epoch` when the lease was made: the leases of an earlier one are over."""


@dataclass(frozen=True, slots=True)
class Settlement:
    """What a consumer answers about events that it received with one lease."""

    view: int
    lease: int
    epoch: int
    """`Subscriptions.epoch` when the lease was made: the leases of an earlier one are over."""
    runs: tuple[Run, ...]
    """Positions, in any order."""
    verb: Literal["ack", "nack", "reject"] = "ack"
    """Ack: processed. Nack: to be delivered again. Reject: to be given up."""
    counts: bool = True
    """Of a nack: whether it is a failure."""
    delay_ms: int | None = None
    """Of a nack: after which time it may be delivered again; None: as the settings of the subscription
    say."""
    reason: int = GiveUpReason.REJECTED
    """Of a reject: from 0 below 2^32."""
    text: str = ""
    """Of a nack or reject: why, in the consumer's words."""


@dataclass(frozen=True, slots=True)
class WrittenDeadLetter:
    """Where the copy of an event is that was given up."""

    position: int
    """The event, in its view."""
    topic_id: UUID
    partition: int
    offset: int


def metadata_of(created: SubscriptionCreated | ShareGroupCreated) -> SubscriptionMetadata:
    """The subscription that a record has created."""
    return SubscriptionMetadata(
        created.id,
        created.name,
        created.settings,
        created.created_ms,
        created.settings.dead_letter_topic,
        "share group" if isinstance(created, ShareGroupCreated) else "subscription",
    )


def altered(old: SubscriptionMetadata, settings: SubscriptionSettings) -> SubscriptionMetadata:
    """The subscription with other settings."""
    last = settings.dead_letter_topic or old.last_dead_letter_topic
    return replace(old, settings=settings, last_dead_letter_topic=last)
