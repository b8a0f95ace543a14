"""The door of RabbitMQ's stream protocol: a stream is a partition of a topic, a super stream is a topic.

It needs nothing but the engine's contract. What is published here is read by every other door, and the other
way round.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mainstem.doors.contract import Door, MetricDefinition

if TYPE_CHECKING:
    from mainstem.doors.contract import Opener

FIRST_COMMAND = bytes.fromhex("0011 0001")
"""The key and the version of PeerProperties, behind the frame's length."""


def sniff(first_bytes: bytes) -> bool | None:
    """Whether the bytes can begin a connection: its first command is PeerProperties."""
    part = first_bytes[4:8]
    if not FIRST_COMMAND.startswith(part) or first_bytes[0]:
        return False
    return True if len(part) == 4 else None


def _load() -> Opener:
    from mainstem.doors.rabbitmq_stream.server import open_door

    return open_door


DOOR = Door(
    name="rabbitmq_stream",
    title="RabbitMQ stream",
    port=5552,
    sniff=sniff,
    load=_load,
    metrics={
        "mainstem_rabbitmq_stream_connections": MetricDefinition(
            "gauge", (), "Open connections of the RabbitMQ stream door."
        ),
        "mainstem_rabbitmq_stream_publishers": MetricDefinition(
            "gauge", (), "Publishers that clients of the RabbitMQ stream door have declared."
        ),
        "mainstem_rabbitmq_stream_consumers": MetricDefinition(
            "gauge", (), "Subscriptions of clients of the RabbitMQ stream door."
        ),
        "mainstem_rabbitmq_stream_published_total": MetricDefinition(
            "counter", (), "Messages that clients of the RabbitMQ stream door have published."
        ),
        "mainstem_rabbitmq_stream_delivered_total": MetricDefinition(
            "counter", (), "Messages that were sent to clients of the RabbitMQ stream door."
        ),
        "mainstem_rabbitmq_stream_refusals_total": MetricDefinition(
            "counter",
            ("kind",),
            "Clients of the RabbitMQ stream door that were refused or disconnected, by kind of warning.",
        ),
    },
    mechanisms=("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"),
    needs_advertised_address=True,
)
