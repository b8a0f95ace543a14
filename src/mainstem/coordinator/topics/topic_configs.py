"""The table of all topic settings.

Validation, DescribeConfigs, the log's settings and the docs are derived from it.

Owns: names, types, defaults, checks and texts; Kafka's where Kafka has them (`TopicConfig` and `LogConfig` in
Kafka's sources). Refuses: names that are not in the table, and values that need a feature that this server
does not have. A setting that is harmless when it is ignored is accepted and shown, and its text says that it
has no effect.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mainstem.coordinator.errors import InvalidConfig, OnlyExchange
from mainstem.coordinator.topics.config_types import (
    LONG_MAX,
    ConfigDefinition,
    ConfigSource,
    ConfigValue,
    TopicConfig,
    TopicDefaults,
    any_value,
    at_least,
    one_of,
)
from mainstem.coordinator.topics.ignored_configs import IGNORED_CONFIGS
from mainstem.coordinator.topics.types import TopicMetadata
from mainstem.log.config import PartitionConfig

BROKER_NAMES_WITHOUT_DEFAULT = frozenset(
    {"log.flush.interval.ms", "log.retention.ms", "log.roll.jitter.ms", "log.roll.ms"}
)
"""Settings of the broker that have no default in Kafka, because one in another unit counts while they are not
set (log.retention.hours ...). DescribeConfigs shows null for them."""


@dataclass(frozen=True, slots=True)
class ConfigEntry:
    """A setting of a topic or a group with its value, as DescribeConfigs shows it."""

    config: ConfigDefinition
    value: str
    source: ConfigSource
    synonyms: tuple[tuple[str, str, ConfigSource], ...]
    """(name, value, source) of the settings that give the value and of those behind them, by precedence.
    As in Kafka, without a default that the broker's setting does not have."""


def _cleanup_policy(value: ConfigValue) -> str | None:
    assert isinstance(value, list)
    if any(item not in ("delete", "compact") for item in value):
        return "String must be one of: compact, delete"
    return "compaction is not yet supported: only delete is" if "compact" in value else None


def _compression_type(value: ConfigValue) -> str | None:
    if value not in ("uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"):
        return "String must be one of: uncompressed, zstd, lz4, snappy, gzip, producer"
    if value != "producer":
        return "only producer is supported: batches are kept as the producer compressed them"
    return None


def _min_insync(value: ConfigValue) -> str | None:
    assert isinstance(value, int)
    if value < 1:
        return "Value must be at least 1"
    return None if value == 1 else "only 1 is supported: there is one replica, on one machine"


_LONG = str(LONG_MAX)

PUBLISHERS = "mainstem.publishers"

_TABLE = (
    TopicConfig(
        "cleanup.policy",
        "list",
        "delete",
        _cleanup_policy,
        "What happens to old events: delete (by retention.ms and retention.bytes); empty: they are kept."
        " compact is not yet supported.",
        "log.cleanup.policy",
    ),
    TopicConfig(
        "compression.type",
        "string",
        "producer",
        _compression_type,
        "producer: batches are kept as the producer compressed them. Nothing else is supported.",
        "compression.type",
    ),
    TopicConfig(
        "max.message.bytes",
        "int",
        "1048588",
        at_least(0),
        "Largest batch of records that is accepted, bytes, as it is sent (compressed).",
        "message.max.bytes",
        "message_max_bytes",
    ),
    TopicConfig(
        "message.timestamp.type",
        "string",
        "CreateTime",
        one_of("CreateTime", "LogAppendTime"),
        "CreateTime: records keep the producer's time. LogAppendTime: the time of arrival replaces it.",
        "log.message.timestamp.type",
    ),
    TopicConfig(
        "message.timestamp.before.max.ms",
        "long",
        _LONG,
        at_least(0),
        "How much a record's time may be before its arrival, ms; else it is refused. CreateTime only.",
        "log.message.timestamp.before.max.ms",
    ),
    TopicConfig(
        "message.timestamp.after.max.ms",
        "long",
        "3600000",
        at_least(0),
        "How much a record's time may be after its arrival, ms; else it is refused. CreateTime only.",
        "log.message.timestamp.after.max.ms",
    ),
    TopicConfig(
        "min.insync.replicas",
        "int",
        "1",
        _min_insync,
        "Number of replicas that acks=all waits for. There is one replica.",
        "min.insync.replicas",
    ),
    TopicConfig(
        "retention.ms",
        "long",
        "604800000",
        at_least(-1),
        "How long events are kept after their arrival (see mainstem.retention.time), ms; -1: for ever.",
        "log.retention.ms",
        "log_retention_ms",
    ),
    TopicConfig(
        "retention.bytes",
        "long",
        "-1",
        any_value,
        "Size of a partition above which its oldest segments are deleted, bytes; -1: no limit.",
        "log.retention.bytes",
        "log_retention_bytes",
    ),
    TopicConfig(
        "segment.bytes",
        "int",
        "1073741824",
        at_least(1 << 20),
        "Largest segment file, bytes. A batch that does not fit starts the next one.",
        "log.segment.bytes",
        "log_segment_bytes",
    ),
    TopicConfig(
        "segment.ms",
        "long",
        "604800000",
        at_least(1),
        "Age of a segment file at which the next one is started, ms.",
        "log.roll.ms",
        "log_roll_ms",
    ),
    TopicConfig(
        "segment.index.bytes",
        "int",
        "10485760",
        at_least(4),
        "Largest index file of a segment, bytes.",
        "log.index.size.max.bytes",
    ),
    TopicConfig(
        "index.interval.bytes",
        "int",
        "4096",
        at_least(0),
        "Bytes of a segment between two entries of its index.",
        "log.index.interval.bytes",
    ),
    TopicConfig(
        "mainstem.retention.time",
        "string",
        "arrival",
        one_of("arrival", "record"),
        "What retention.ms counts from. arrival: the time at which the event arrived. record: the record's"
        " own time, as in Kafka; then old events that are imported today may be deleted today.",
    ),
    TopicConfig(
        "mainstem.retention.early",
        "boolean",
        "false",
        any_value,
        "true: when the disk or the data limit is nearly reached, the oldest segments of this topic that no"
        " subscription needs are deleted, although its retention does not ask for that.",
    ),
    TopicConfig(
        "mainstem.queue.overflow",
        "string",
        "reject",
        one_of("reject", "drop"),
        "When the disk or the data limit is nearly reached and subscriptions pin events that retention would"
        " delete. reject: publishers to this topic are refused. drop: these events are deleted.",
    ),
    TopicConfig(
        PUBLISHERS,
        "string",
        "all",
        one_of("all", "exchange"),
        "Who may publish to this topic. exchange: only clients of the exchange whose messages it has; what"
        " others publish, which no queue would get, is refused.",
    ),
    TopicConfig(
        "mainstem.search",
        "string",
        "scan",
        one_of("scan", "indexed"),
        "indexed: the topic has a full-text index, so that rare words are found at once whatever its size"
        " (docs/SEARCH.md; needs the extra mainstem[index] and 2 to 20 % of the topic's size)."
        " scan: token filters only, about 1 %.",
    ),
    TopicConfig(
        "mainstem.pubsub",
        "string",
        "",
        any_value,
        "What clients of Pub/Sub have set: JSON of google.pubsub.v1.Topic, with the name that they use."
        " Empty: they see a topic of the default project, if Pub/Sub allows its name.",
    ),
    *IGNORED_CONFIGS,
)

TOPIC_CONFIGS: Mapping[str, TopicConfig] = {config.name: config for config in _TABLE}


def check_publishers(topic: TopicMetadata) -> None:
    """Check that others than an exchange may publish to a topic. OnlyExchange: no client tries that again."""
    if topic.config.get(PUBLISHERS) == "exchange":
        raise OnlyExchange(
            "the topic has the messages of an exchange, and only clients of that publish to it"
            f" (topic setting {PUBLISHERS})"
        )


def validate_configs(config: Mapping[str, str | None]) -> dict[str, str]:
    """Validate the settings of a topic and return them as they are stored. InvalidConfig names the first one
    that is not valid."""
    missing = sorted(name for name, value in config.items() if value is None)
    if missing:
        raise InvalidConfig(f"Null value not supported for topic configs: {', '.join(missing)}")
    stored: dict[str, str] = {}
    for name, value in sorted(config.items()):
        assert value is not None
        find_config(name).parse(value)
        stored[name] = value.strip()
    _validate_lags(stored)
    return stored


def find_config(name: str) -> TopicConfig:
    """The topic setting of that name. InvalidConfig if there is none."""
    config = TOPIC_CONFIGS.get(name)
    if config is None:
        raise InvalidConfig(f"Unknown topic config name: {name[:249]}")
    return config


def _validate_lags(config: Mapping[str, str]) -> None:
    lags = [
        int(config.get(name, TOPIC_CONFIGS[name].default))
        for name in ("min.compaction.lag.ms", "max.compaction.lag.ms")
    ]
    if lags[0] > lags[1]:
        raise InvalidConfig(
            f"conflict topic config setting min.compaction.lag.ms ({lags[0]}) > max.compaction.lag.ms"
            f" ({lags[1]})"
        )


def describe_configs(
    config: Mapping[str, str], defaults: TopicDefaults, names: Iterable[str] | None = None
) -> list[ConfigEntry]:
    """The settings of a topic that sets `config`, in the order of the table. With `names`, only those of
    these names."""
    selected = None if names is None else set(names)
    return [
        _entry(setting, config.get(setting.name), defaults)
        for setting in _TABLE
        if selected is None or setting.name in selected
    ]


def _entry(config: TopicConfig, value: str | None, defaults: TopicDefaults) -> ConfigEntry:
    synonyms: list[tuple[str, str, ConfigSource]] = []
    if value is not None:
        synonyms.append((config.name, value, "topic"))
    source = config.default_source(defaults)
    default = config.default_in(defaults)
    if source == "static":
        synonyms.append((config.broker_name or config.name, default, source))
    if config.broker_name is not None and config.broker_name not in BROKER_NAMES_WITHOUT_DEFAULT:
        synonyms.append((config.broker_name, config.default, "default"))
    if value is not None:
        return ConfigEntry(config, value, "topic", tuple(synonyms))
    return ConfigEntry(config, default, source, tuple(synonyms))


def effective_value(config: Mapping[str, str], name: str, defaults: TopicDefaults) -> ConfigValue:
    """The value in effect in a topic that sets `config`."""
    setting = TOPIC_CONFIGS[name]
    return setting.parse(config.get(name, setting.default_in(defaults)))


def partition_config(config: Mapping[str, str], defaults: TopicDefaults) -> PartitionConfig:
    """The log's settings for the partitions of a topic that sets `config`."""

    def number(name: str) -> int:
        value = effective_value(config, name, defaults)
        assert isinstance(value, int)
        return value

    deletes = bool(effective_value(config, "cleanup.policy", defaults))
    return PartitionConfig(
        segment_bytes=number("segment.bytes"),
        segment_ms=number("segment.ms"),
        segment_index_bytes=number("segment.index.bytes"),
        index_interval_bytes=number("index.interval.bytes"),
        retention_ms=number("retention.ms") if deletes else -1,
        retention_bytes=number("retention.bytes") if deletes else -1,
        retention_by_record_time=effective_value(config, "mainstem.retention.time", defaults) == "record",
        max_message_bytes=number("max.message.bytes"),
        log_append_time=effective_value(config, "message.timestamp.type", defaults) == "LogAppendTime",
        timestamp_before_max_ms=number("message.timestamp.before.max.ms"),
        timestamp_after_max_ms=number("message.timestamp.after.max.ms"),
    )
