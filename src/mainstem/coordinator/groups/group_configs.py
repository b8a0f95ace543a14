"""The settings of groups: the table of Kafka's resource type GROUP, and what they mean for a share group.

A share group is a subscription, so a setting that the subscription has, too, has its value there: lock,
failures, events in flight, where it begins, dead letters.

Owns: names, types, defaults, ranges and texts; Kafka's where Kafka has them (`GroupConfig`), with the ranges
of this server. Refuses: settings of consumer and streams groups, which do not exist yet, and storing them
(`group_settings.py`). Times are milliseconds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from mainstem.coordinator.errors import InvalidConfig, InvalidRequest
from mainstem.coordinator.topics.config_types import (
    ConfigDefinition,
    ConfigSource,
    ConfigValue,
    any_value,
    apply_change,
    between,
    one_of,
)
from mainstem.coordinator.topics.topic_configs import ConfigEntry
from mainstem.coordinator.topics.types import ConfigChange, name_problem
from mainstem.queues.settings import SHARE_GROUP_RANGES, SubscriptionSettings

SESSION_TIMEOUT = "share.session.timeout.ms"
HEARTBEAT_INTERVAL = "share.heartbeat.interval.ms"
ASSIGNMENT_INTERVAL = "share.assignment.interval.ms"
LOCK_DURATION = "share.record.lock.duration.ms"
DELIVERY_COUNT_LIMIT = "share.delivery.count.limit"
RECORD_LOCKS_MAX = "share.partition.max.record.locks"
OFFSET_RESET = "share.auto.offset.reset"
ISOLATION_LEVEL = "share.isolation.level"
RENEW_ENABLED = "share.renew.acknowledge.enable"
DEAD_LETTER_TOPIC = "errors.deadletterqueue.topic.name"
DEAD_LETTER_COPIES = "errors.deadletterqueue.copy.record.enable"

_DURATION = re.compile(
    r"P(?:(\d{1,9})D)?(?:T(?=\d)(?:(\d{1,9})H)?(?:(\d{1,9})M)?(?:(\d{1,9})(?:\.(\d{0,9}))?S)?)?",
    re.ASCII | re.IGNORECASE,
)
_BY_DURATION = "by_duration:"


def duration_ms(text: str) -> int | None:
    """The milliseconds of a duration as Java writes it, PnDTnHnMn.nS, without negative parts. None: it is not
    such a duration."""
    match = _DURATION.fullmatch(text)
    if match is None or len(text) < 3:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups()[:4])
    fraction = int((match[5] or "").ljust(9, "0")[:3])
    return (((days * 24 + hours) * 60 + minutes) * 60 + seconds) * 1000 + fraction


def _offset_reset(value: ConfigValue) -> str | None:
    text = str(value)
    is_duration = text.startswith(_BY_DURATION) and duration_ms(text.removeprefix(_BY_DURATION)) is not None
    if text in ("earliest", "latest") or is_duration:
        return None
    return "The value must be either 'earliest', 'latest' or of the format 'by_duration:<PnDTnHnMn.nS>'."


def _dead_letter_topic(value: ConfigValue) -> str | None:
    text = str(value)
    if text.startswith("__"):
        return "DLQ topic name must not start with '__'"
    return name_problem(text) if text else None


@dataclass(frozen=True, slots=True)
class GroupConfig(ConfigDefinition):
    """The declaration of a setting of groups: a row of the table."""

    field: str | None = None
    """The field of SubscriptionSettings that has the value."""
    to_field: Callable[[ConfigValue], Any] = lambda value: value
    from_field: Callable[[Any], str] = str


_TABLE = (
    GroupConfig(
        SESSION_TIMEOUT,
        "int",
        "45000",
        between(1_000, 1_800_000),
        "A member that gives no sign of life within this time leaves the group, ms.",
        "group.share.session.timeout.ms",
    ),
    GroupConfig(
        HEARTBEAT_INTERVAL,
        "int",
        "5000",
        between(100, 60_000),
        "How often members are to give a sign of life, ms.",
        "group.share.heartbeat.interval.ms",
    ),
    GroupConfig(
        ASSIGNMENT_INTERVAL,
        "int",
        "0",
        between(0, 15_000),
        "Least time between two assignments of partitions to the members, ms. 0: with each change of the"
        " members.",
        "group.share.assignment.interval.ms",
    ),
    GroupConfig(
        LOCK_DURATION,
        "int",
        "30000",
        between(*SHARE_GROUP_RANGES["lock_ms"]),
        "How long a delivered record belongs to its consumer, ms.",
        "group.share.record.lock.duration.ms",
        "lock_ms",
    ),
    GroupConfig(
        DELIVERY_COUNT_LIMIT,
        "int",
        "5",
        between(*SHARE_GROUP_RANGES["failures_max"]),
        "Deliveries after which a record is given up.",
        "group.share.delivery.count.limit",
        "failures_max",
    ),
    GroupConfig(
        RECORD_LOCKS_MAX,
        "int",
        "2000",
        between(*SHARE_GROUP_RANGES["in_flight_max"]),
        "Records of a partition that all consumers together may have without having acknowledged them."
        " In Kafka, the span from the first to the last of them.",
        "group.share.partition.max.record.locks",
        "in_flight_max",
    ),
    GroupConfig(
        OFFSET_RESET,
        "string",
        "latest",
        _offset_reset,
        "Where the group begins in a partition: earliest, latest, or by_duration:PnDTnHnMn.nS, that long"
        " before its first member subscribes to the topic.",
        None,
        "from_latest",
        lambda value: value == "latest",
        lambda value: "latest" if value else "earliest",
    ),
    GroupConfig(
        ISOLATION_LEVEL,
        "string",
        "read_uncommitted",
        one_of("read_committed", "read_uncommitted"),
        "read_committed: records of aborted transactions are not delivered. There are no transactions yet, so"
        " that both mean all records.",
    ),
    GroupConfig(
        RENEW_ENABLED,
        "boolean",
        "true",
        any_value,
        "Whether consumers may extend the lock of a record that they have (KIP-1222).",
    ),
    GroupConfig(
        DEAD_LETTER_TOPIC,
        "string",
        "",
        _dead_letter_topic,
        "Topic to which records go that were given up (KIP-1191). Empty: they are dropped.",
        None,
        "dead_letter_topic",
        lambda value: value or None,
        lambda value: value or "",
    ),
    GroupConfig(
        DEAD_LETTER_COPIES,
        "boolean",
        "false",
        any_value,
        "Whether a dead letter has key, value and headers of the record, or only says where it is and why it"
        " was given up.",
    ),
)
GROUP_CONFIGS: Mapping[str, GroupConfig] = {config.name: config for config in _TABLE}
"""All settings of groups, by name."""

SHARE_GROUP_DEFAULTS = SubscriptionSettings(
    lock_ms=30_000, failures_max=5, in_flight_max=2_000, from_latest=True, accepts_late_acks=False
)
"""The settings of a share group for which nothing is set: Kafka's defaults."""


def find_group_config(name: str) -> GroupConfig:
    """The setting of that name. InvalidConfig."""
    config = GROUP_CONFIGS.get(name)
    if config is None:
        raise InvalidConfig(f"Unknown group config name: {name[:200]}")
    return config


def check_group_configs(configs: Mapping[str, str]) -> None:
    """Check what is set for a group. InvalidConfig."""
    for name, text in configs.items():
        find_group_config(name).parse(text)
    values = _values(configs)
    if values[SESSION_TIMEOUT] <= values[HEARTBEAT_INTERVAL]:
        raise InvalidConfig(f"{SESSION_TIMEOUT} must be greater than {HEARTBEAT_INTERVAL}")


def changed_configs(configs: Mapping[str, str], changes: Sequence[ConfigChange]) -> dict[str, str]:
    """What is set for a group after some changes, unchecked. InvalidRequest, InvalidConfig."""
    if len({change.name for change in changes}) != len(changes):
        raise InvalidRequest("Error due to duplicate config keys")
    changed = dict(configs)
    for change in changes:
        setting = find_group_config(change.name)
        apply_change(changed, change, setting, setting.default)
    return {name: text.strip() for name, text in changed.items()}


def _values(configs: Mapping[str, str]) -> dict[str, Any]:
    """The values of all settings, unchecked: other ways than Kafka's have other ranges."""
    return {name: config.typed(configs.get(name, config.default)) for name, config in GROUP_CONFIGS.items()}


def with_configs(settings: SubscriptionSettings, configs: Mapping[str, str | None]) -> SubscriptionSettings:
    """The settings of a subscription, changed as these settings of its group say; None: to the default."""
    changes = {}
    for name, text in configs.items():
        config = GROUP_CONFIGS[name]
        if config.field is not None:
            changes[config.field] = config.to_field(config.parse(config.default if text is None else text))
    return replace(settings, **changes)


def shown_configs(configs: Mapping[str, str], settings: SubscriptionSettings) -> dict[str, str]:
    """What is set for a share group with these settings, which may have been changed by other ways than
    Kafka's. `configs`: what was set by Kafka's."""
    shown = dict(configs)
    for config in _TABLE:
        if config.field is not None:
            value = getattr(settings, config.field)
            if config.to_field(config.typed(configs.get(config.name, config.default))) != value:
                shown[config.name] = config.from_field(value)
    return shown


def describe_group_configs(shown: Mapping[str, str], names: Iterable[str] | None = None) -> list[ConfigEntry]:
    """The settings of a group, as `shown_configs` has them. With `names`, only those of these names."""
    selected = None if names is None else set(names)
    return [
        _entry(config, shown.get(config.name))
        for config in _TABLE
        if selected is None or config.name in selected
    ]


def _entry(config: GroupConfig, value: str | None) -> ConfigEntry:
    synonyms: list[tuple[str, str, ConfigSource]] = []
    if value is not None:
        synonyms.append((config.name, value, "group"))
    synonyms.append((config.broker_name or config.name, config.default, "default"))
    return ConfigEntry(config, synonyms[0][1], synonyms[0][2], tuple(synonyms))


@dataclass(frozen=True, slots=True)
class ShareGroupSettings:
    """The settings of a share group, as its members and its partitions follow them."""

    session_timeout_ms: int
    heartbeat_interval_ms: int
    assignment_interval_ms: int
    lock_ms: int
    failures_max: int
    record_locks_max: int
    offset_reset: Literal["earliest", "latest", "by_duration"]
    reset_duration_ms: int
    """Of `by_duration`: how long before now the group begins; else 0."""
    isolation_level: Literal["read_committed", "read_uncommitted"]
    renew_enabled: bool
    dead_letter_topic: str | None
    dead_letter_copies: bool


def share_group_settings(shown: Mapping[str, str]) -> ShareGroupSettings:
    """The settings of a group, as `shown_configs` has them."""
    values = _values(shown)
    reset = values[OFFSET_RESET]
    duration = duration_ms(reset.removeprefix(_BY_DURATION)) if reset.startswith(_BY_DURATION) else None
    return ShareGroupSettings(
        session_timeout_ms=values[SESSION_TIMEOUT],
        heartbeat_interval_ms=values[HEARTBEAT_INTERVAL],
        assignment_interval_ms=values[ASSIGNMENT_INTERVAL],
        lock_ms=values[LOCK_DURATION],
        failures_max=values[DELIVERY_COUNT_LIMIT],
        record_locks_max=values[RECORD_LOCKS_MAX],
        offset_reset="by_duration" if duration is not None else reset,
        reset_duration_ms=duration or 0,
        isolation_level=values[ISOLATION_LEVEL],
        renew_enabled=values[RENEW_ENABLED],
        dead_letter_topic=values[DEAD_LETTER_TOPIC] or None,
        dead_letter_copies=values[DEAD_LETTER_COPIES],
    )
