"""The topic settings of Kafka that are harmless at any valid value and have no effect here.

Owns: their names, types, defaults, checks and texts, which are Kafka's. Refuses: values that Kafka refuses.
"""

from __future__ import annotations

import re

from mainstem.coordinator.topics.config_types import (
    LONG_MAX,
    ConfigValue,
    TopicConfig,
    any_value,
    at_least,
    between,
)

_THROTTLED = re.compile(r"\*|[0-9]+:[0-9]+", re.ASCII)
_LONG = str(LONG_MAX)


def _not_remote(value: ConfigValue) -> str | None:
    return "tiered storage is not supported" if value else None


def _throttled(value: ConfigValue) -> str | None:
    assert isinstance(value, list)
    if all(_THROTTLED.fullmatch(item) for item in value):
        return None
    return "Must be the literal '*' or a list of replicas in the form [partitionId]:[brokerId],..."


IGNORED_CONFIGS = (
    TopicConfig(
        "compression.gzip.level",
        "int",
        "-1",
        any_value,
        "Compression level for compression.type=gzip.",
        "compression.gzip.level",
        has_effect=False,
    ),
    TopicConfig(
        "compression.lz4.level",
        "int",
        "9",
        between(1, 17),
        "Compression level for compression.type=lz4.",
        "compression.lz4.level",
        has_effect=False,
    ),
    TopicConfig(
        "compression.zstd.level",
        "int",
        "3",
        between(-131072, 22),
        "Compression level for compression.type=zstd.",
        "compression.zstd.level",
        has_effect=False,
    ),
    TopicConfig(
        "delete.retention.ms",
        "long",
        "86400000",
        at_least(0),
        "How long compaction keeps tombstones, ms.",
        "log.cleaner.delete.retention.ms",
        has_effect=False,
    ),
    TopicConfig(
        "errors.deadletterqueue.group.enable",
        "boolean",
        "false",
        any_value,
        "Whether share groups may write dead letters to the topic (KIP-1191); here they may write to any.",
        has_effect=False,
    ),
    TopicConfig(
        "file.delete.delay.ms",
        "long",
        "60000",
        at_least(0),
        "Time between the deletion of a segment and that of its files, ms.",
        "log.segment.delete.delay.ms",
        has_effect=False,
    ),
    TopicConfig(
        "flush.messages",
        "long",
        _LONG,
        at_least(1),
        "Number of records after which Kafka calls fsync. See the server's --durability.",
        "log.flush.interval.messages",
        has_effect=False,
    ),
    TopicConfig(
        "flush.ms",
        "long",
        _LONG,
        at_least(0),
        "Time after which Kafka calls fsync, ms. See the server's --durability.",
        "log.flush.interval.ms",
        has_effect=False,
    ),
    TopicConfig(
        "follower.replication.throttled.replicas",
        "list",
        "",
        _throttled,
        "Throttled followers.",
        has_effect=False,
    ),
    TopicConfig(
        "leader.replication.throttled.replicas",
        "list",
        "",
        _throttled,
        "Throttled leaders.",
        has_effect=False,
    ),
    TopicConfig(
        "local.retention.bytes",
        "long",
        "-2",
        at_least(-2),
        "Tiered storage: bytes of a partition that are kept locally.",
        "log.local.retention.bytes",
        has_effect=False,
    ),
    TopicConfig(
        "local.retention.ms",
        "long",
        "-2",
        at_least(-2),
        "Tiered storage: how long events are kept locally, ms.",
        "log.local.retention.ms",
        has_effect=False,
    ),
    TopicConfig(
        "max.compaction.lag.ms",
        "long",
        _LONG,
        at_least(1),
        "Longest time that a record stays uncompacted, ms.",
        "log.cleaner.max.compaction.lag.ms",
        has_effect=False,
    ),
    TopicConfig(
        "min.cleanable.dirty.ratio",
        "double",
        "0.5",
        between(0, 1),
        "Share of uncompacted bytes in a log at which compaction starts.",
        "log.cleaner.min.cleanable.ratio",
        has_effect=False,
    ),
    TopicConfig(
        "min.compaction.lag.ms",
        "long",
        "0",
        at_least(0),
        "Shortest time that a record stays uncompacted, ms.",
        "log.cleaner.min.compaction.lag.ms",
        has_effect=False,
    ),
    TopicConfig(
        "preallocate",
        "boolean",
        "false",
        any_value,
        "Allocate the whole size of a segment file when it is created.",
        "log.preallocate",
        has_effect=False,
    ),
    TopicConfig(
        "remote.log.copy.disable",
        "boolean",
        "false",
        any_value,
        "Tiered storage: stop copying.",
        has_effect=False,
    ),
    TopicConfig(
        "remote.log.delete.on.disable",
        "boolean",
        "false",
        any_value,
        "Tiered storage: delete when disabled.",
        has_effect=False,
    ),
    TopicConfig(
        "remote.storage.enable", "boolean", "false", _not_remote, "Tiered storage: not supported, only false."
    ),
    TopicConfig(
        "segment.jitter.ms",
        "long",
        "0",
        at_least(0),
        "Largest random time by which segment.ms is shortened, ms.",
        "log.roll.jitter.ms",
        has_effect=False,
    ),
    TopicConfig(
        "unclean.leader.election.enable",
        "boolean",
        "false",
        any_value,
        "Permit the election of a replica that lacks events as leader.",
        "unclean.leader.election.enable",
        has_effect=False,
    ),
)
"""By name."""
