"""Converts librdkafka's descriptions of partitions and settings to types of the contract."""

from __future__ import annotations

from typing import Any

from confluent_kafka.admin import ConfigEntry, ConfigSource

from mainstem.contract import Bounds, PartitionInfo, Setting


def partition_info(description: Any, bounds: Bounds) -> PartitionInfo:
    """The contract's PartitionInfo for librdkafka's TopicPartitionInfo, which has no type stub."""
    return PartitionInfo(
        description.id,
        bounds.begin,
        bounds.end,
        description.leader.id if description.leader is not None else -1,
        tuple(node.id for node in description.replicas),
        tuple(node.id for node in description.isr),
    )


def topic_id_of(description: Any) -> str:
    """The id in librdkafka's TopicDescription, as Kafka and its other clients print it: librdkafka prints
    base64, they print base64url. Empty: the cluster has no topic ids."""
    return str(description.topic_id or "").replace("+", "-").replace("/", "_")


def topic_setting(entry: ConfigEntry) -> Setting:
    """The contract's Setting for librdkafka's configuration entry of a topic."""
    is_default = entry.source != ConfigSource.DYNAMIC_TOPIC_CONFIG.value
    return Setting(entry.name, entry.value, is_default, bool(entry.is_read_only))
