"""The value types of subscriptions: their settings, and the records of their state machine.

Owns: the shape of these types, which settings there are, and what values each accepts; all types are
immutable. Refuses: state and rules, which are in `subscriptions.py`. Times are milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from mainstem.coordinator.errors import InvalidSubscriptionName, InvalidSubscriptionSetting
from mainstem.coordinator.runtime.records import StateRecord
from mainstem.coordinator.topics.types import name_problem
from mainstem.queues.settings import SubscriptionSettings

DAY_MS = 24 * 3600 * 1000


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
            return f"a query of {self.maximum:,} characters at most"
        if self.type is type(None):
            return "the name of a topic, or null"
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
        types = (int, float) if self.type is float else (int,)
        if not isinstance(value, types) or isinstance(value, bool):
            return False
        return self.minimum <= value <= self.maximum


def _is_topic(value: object) -> bool:
    return isinstance(value, str) and name_problem(value) is None


RANGES: Mapping[str, SettingRange] = {
    "topics": SettingRange(tuple, 0, 1_000),
    "filter": SettingRange(str, 0, 10_000),
    "lock_ms": SettingRange(int, 1_000, DAY_MS // 2),
    "failures_max": SettingRange(int, 0, 65_535),
    "backoff_min_ms": SettingRange(int, 0, 7 * DAY_MS),
    "backoff_max_ms": SettingRange(int, 0, 7 * DAY_MS),
    "backoff_factor": SettingRange(float, 1, 100),
    "in_flight_max": SettingRange(int, 1, 1_000_000),
    "parked_max": SettingRange(int, 1, 1_000_000),
    "in_key_order": SettingRange(bool),
    "accepts_late_acks": SettingRange(bool),
    "from_latest": SettingRange(bool),
    "dead_letter_topic": SettingRange(type(None)),
}
"""The settings of a subscription, by name."""


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
                f"invalid value {value!r:.100} for the setting {name}: {allowed.text}"
            )
    changed = replace(settings, **changes)
    if changed.backoff_min_ms > changed.backoff_max_ms:
        raise InvalidSubscriptionSetting(
            f"backoff_min_ms is {changed.backoff_min_ms}, more than backoff_max_ms, {changed.backoff_max_ms}"
        )
    return changed


def check_subscription_name(name: str) -> None:
    """Check the rules for names, which are those of topics. InvalidSubscriptionName."""
    problem = name_problem(name)
    if problem is not None:
        raise InvalidSubscriptionName(f"the name of the subscription is invalid: {problem}")


@dataclass(frozen=True, slots=True)
class SubscriptionMetadata:
    """A subscription: its id, which no other subscription ever has, its name and its settings."""

    id: int
    name: str
    settings: SubscriptionSettings
    created_ms: int
    """When it was created, wall-clock time since 1970."""


class QueueIds(StateRecord, frozen=True, array_like=True, tag="queue-ids"):
    """State record, only in snapshots: the ids below `next_id` were given to subscriptions."""

    next_id: int


class SubscriptionCreated(StateRecord, frozen=True, array_like=True, tag="subscription-created"):
    """State record: a subscription was created."""

    id: int
    name: str
    settings: SubscriptionSettings
    created_ms: int


class SubscriptionConfigured(StateRecord, frozen=True, array_like=True, tag="subscription-configured"):
    """State record: all settings of a subscription were replaced."""

    id: int
    settings: SubscriptionSettings


class SubscriptionDeleted(StateRecord, frozen=True, array_like=True, tag="subscription-deleted"):
    """State record: a subscription was deleted, with everything that it knew."""

    id: int
