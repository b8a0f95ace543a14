"""The AMQP 0-9-1 door: RabbitMQ's protocol, on virtual hosts, exchanges and queues over the log.

The bytes are made and read by hand; `connection.py` is the protocol of a connection without a socket, what
channels do is in one file each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mainstem.doors.contract import Door, MetricDefinition
from mainstem.setting_definition import SettingDefinition

if TYPE_CHECKING:
    from mainstem.doors.contract import Opener

GREETING = b"AMQP"


def sniff(first_bytes: bytes) -> bool | None:
    """Whether the bytes can begin a connection: with the name of the protocol."""
    if first_bytes.startswith(GREETING):
        return True
    return None if GREETING.startswith(first_bytes) else False


def _load() -> Opener:
    from mainstem.doors.amqp091.server import open_door

    return open_door


DOOR = Door(
    name="amqp091",
    title="AMQP 0-9-1",
    port=5672,
    sniff=sniff,
    load=_load,
    settings=(
        SettingDefinition(
            name="amqp091_heartbeat_s",
            type=int,
            default=60,
            doc="Interval of heartbeats that the AMQP 0-9-1 door proposes, in seconds; 0: none.",
            minimum=0,
        ),
        SettingDefinition(
            name="amqp091_channel_max",
            type=int,
            default=2_047,
            doc="Most channels that a connection of the AMQP 0-9-1 door may have open.",
            minimum=1,
        ),
        SettingDefinition(
            name="amqp091_frame_max_bytes",
            type=int,
            default=131_072,
            doc="The largest frame of the AMQP 0-9-1 door, in bytes.",
            minimum=4_096,
        ),
        SettingDefinition(
            name="amqp091_message_max_bytes",
            type=int,
            default=16 << 20,
            doc="The largest body of a message that the AMQP 0-9-1 door accepts, in bytes.",
            minimum=1,
        ),
        SettingDefinition(
            name="amqp091_consumer_timeout_ms",
            type=int,
            default=0,
            doc="How long a client of the AMQP 0-9-1 door may leave a delivery unacknowledged until its"
            " channel is closed, in ms, unless the queue says otherwise; 0: for ever.",
            minimum=0,
        ),
    ),
    metrics={
        "mainstem_amqp091_connections": MetricDefinition(
            "gauge", (), "Open connections of the AMQP 0-9-1 door."
        ),
        "mainstem_amqp091_refusals_total": MetricDefinition(
            "counter",
            ("kind",),
            "Clients of the AMQP 0-9-1 door that were refused or disconnected, by kind of warning.",
        ),
    },
    mechanisms=("PLAIN",),
)
