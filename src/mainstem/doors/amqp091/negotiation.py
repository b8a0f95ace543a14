"""The limits of a connection, and what client and server agree on (AMQP 0-9-1, 1.4.2.5 and 1.4.2.6).

Owns: what the server offers in connection.start and connection.tune, and which answers it accepts, as
RabbitMQ does. Refuses: limits above the server's, and "no limit" where the server has one.
"""

from __future__ import annotations

from dataclasses import dataclass

from mainstem.amqp.errors import AmqpError
from mainstem.amqp.field_values import FieldTable
from mainstem.doors.amqp091.control_methods import ConnectionStart, ConnectionTuneOk
from mainstem.doors.amqp091.frames import FRAME_MIN_BYTES

PRODUCT = "mainstem"
RABBITMQ_VERSION = "4.3.0"
"""The version of RabbitMQ whose behaviour clients may expect: some read it to choose what they use."""
CAPABILITIES = (
    "publisher_confirms",
    "exchange_exchange_bindings",
    "basic.nack",
    "consumer_cancel_notify",
    "connection.blocked",
    "consumer_priorities",
    "authentication_failure_close",
    "per_consumer_qos",
    "direct_reply_to",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits of a connection."""

    channel_max: int = 2_047
    """Most channels that are open together."""
    frame_max: int = 131_072
    """The largest frame in bytes."""
    heartbeat_s: int = 60
    """The interval that the server proposes; 0: no heartbeats."""
    message_max_bytes: int = 16 << 20
    """The largest body of a message."""
    consumer_timeout_ms: int = 0
    """How long a delivery may be unanswered where its queue does not say; 0: for ever."""


def start(mechanisms: str, version: str, cluster_name: str) -> ConnectionStart:
    """The server's greeting. `version`: that of mainstem."""
    capabilities: FieldTable = dict.fromkeys(CAPABILITIES, True)
    return ConnectionStart(
        version_minor=9,
        server_properties={
            "capabilities": capabilities,
            "cluster_name": cluster_name,
            "product": PRODUCT,
            "version": RABBITMQ_VERSION,
            "mainstem_version": version,
            "platform": "Python",
            "information": "mainstem: an event stream with the doors of other brokers",
        },
        mechanisms=mechanisms,
        locales="en_US",
    )


def check_tune(answer: ConnectionTuneOk, limits: Limits) -> None:
    """AmqpError 530: the client does not accept the limits."""
    _check("frame_max", answer.frame_max, FRAME_MIN_BYTES, limits.frame_max)
    _check("channel_max", answer.channel_max, 1, limits.channel_max)


def _check(name: str, value: int, least: int, most: int) -> None:
    if value != 0 and value < least:
        problem = f"lower than the minimum allowed value ({least})"
    elif most != 0 and (value == 0 or value > most):
        problem = f"higher than the maximum allowed value ({most})"
    else:
        return
    raise AmqpError(530, False, f"NOT_ALLOWED - negotiated {name} = {value} is {problem}")


def capabilities_of(properties: FieldTable) -> frozenset[str]:
    """The capabilities that a client says it has."""
    table = properties.get("capabilities")
    if not isinstance(table, dict):
        return frozenset()
    return frozenset(name for name, value in table.items() if value is True)
