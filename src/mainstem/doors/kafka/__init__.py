"""The Kafka door: Apache Kafka's protocol, directly on the log and the coordinator, because the log keeps
Kafka's batches as they arrive.

Each API key has one file in `handlers/`, which is named by the key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mainstem.doors.contract import Door, MetricDefinition

if TYPE_CHECKING:
    from mainstem.doors.contract import Opener


def sniff(first_bytes: bytes) -> bool | None:
    """Whether the bytes can begin a Kafka request: it begins with its length, less than 2 GiB, and no text
    protocol begins with a byte below 0x20."""
    return first_bytes[0] < 0x20


def _load() -> Opener:
    from mainstem.doors.kafka.handlers import discover
    from mainstem.doors.kafka.server import open_door

    discover()  # imports the handlers
    return open_door


DOOR = Door(
    name="kafka",
    title="Kafka",
    port=9092,
    sniff=sniff,
    load=_load,
    kafka_listener_setting="listeners",
    metrics={
        "kafka_server_socket_server_metrics_connection_count": MetricDefinition(
            "gauge", (), "Open connections of the Kafka door."
        ),
        "mainstem_kafka_refusals_total": MetricDefinition(
            "counter",
            ("kind",),
            "Kafka clients that were refused, delayed or disconnected, by kind of warning.",
        ),
    },
    mechanisms=("SCRAM-SHA-256", "SCRAM-SHA-512", "PLAIN", "OAUTHBEARER"),
    needs_advertised_address=True,
    needs_node=True,
    on_by_default=True,
    preload=True,
)
