"""The server's settings: names, defaults, units.

Owns: every setting of `mainstem serve`, each declared once, with Kafka's name where Kafka has one. The configuration
file, the environment (`MAINSTEM_*`), the command line, DescribeConfigs and docs/SETTINGS.md are derived from it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal


def setting(default: Any, kafka: str | None, doc: str) -> Any:
    """A field of Settings: its default, Kafka's name for it, and one line of meaning with the unit."""
    return field(default=default, metadata={"kafka": kafka, "doc": doc})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What `mainstem serve` was told. Immutable while it runs."""

    data: str = setting("mainstem-data", "log.dirs", "Folder of the log; made if missing.")
    kafka: str = setting("127.0.0.1:9092", "listeners", "HOST:PORT of the Kafka door; port 0 picks a free one.")
    advertise: str | None = setting(None, "advertised.listeners", "HOST:PORT that clients are told to connect to.")
    durability: Literal["disk", "os"] = setting("disk", None, "disk: acks=all waits for the disk; os: for the page cache.")
    allow_anonymous: bool = setting(False, None, "Permit an address other than loopback without authentication.")
    log_level: Literal["debug", "info", "warning", "error"] = setting("info", None, "Least severe line to log.")
    log_json: bool = setting(False, None, "Log as JSON lines.")

    num_partitions: int = setting(1, "num.partitions", "Partitions of a topic that is created without a number.")
    auto_create_topics: bool = setting(True, "auto.create.topics.enable", "Create a topic when it is first asked for.")
    message_max_bytes: int = setting(1_048_588, "message.max.bytes", "Default of max.message.bytes, bytes.")
    log_segment_bytes: int = setting(1 << 30, "log.segment.bytes", "Default of segment.bytes, bytes.")
    log_roll_ms: int = setting(604_800_000, "log.roll.ms", "Default of segment.ms, ms.")
    log_retention_ms: int = setting(604_800_000, "log.retention.ms", "Default of retention.ms, ms; -1: for ever.")
    log_retention_bytes: int = setting(-1, "log.retention.bytes", "Default of retention.bytes, bytes; -1: no limit.")
    log_retention_check_interval_ms: int = setting(300_000, "log.retention.check.interval.ms", "How often retention looks, ms.")

    group_initial_rebalance_delay_ms: int = setting(0, "group.initial.rebalance.delay.ms", "Wait for more members of a new group, ms.")
    group_min_session_timeout_ms: int = setting(6_000, "group.min.session.timeout.ms", "Least session.timeout.ms allowed, ms.")
    group_max_session_timeout_ms: int = setting(1_800_000, "group.max.session.timeout.ms", "Greatest session.timeout.ms allowed, ms.")
    group_max_size: int = setting(2_147_483_647, "group.max.size", "Members of a group at most.")
    offsets_retention_minutes: int = setting(10_080, "offsets.retention.minutes", "Committed offsets of a group without members are kept so long, minutes.")
    offset_metadata_max_bytes: int = setting(4_096, "offset.metadata.max.bytes", "Metadata of a committed offset at most, bytes.")
    producer_id_expiration_ms: int = setting(86_400_000, "producer.id.expiration.ms", "An idle producer's sequence is remembered so long, ms.")

    connections_max_idle_ms: int = setting(600_000, "connections.max.idle.ms", "Close a connection that is silent so long, ms.")
    max_connections: int = setting(10_000, "max.connections", "Connections at most.")
    socket_request_max_bytes: int = setting(104_857_600, "socket.request.max.bytes", "A Produce request at most, bytes; others: 1 MiB.")
    fetch_max_bytes: int = setting(57_671_680, "fetch.max.bytes", "A Fetch reply at most, bytes.")
