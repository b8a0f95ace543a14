"""The Pub/Sub door: the protocol of Google Cloud Pub/Sub, gRPC over HTTP/2, for its clients.

Owns: HTTP/2 and gRPC; `calls.py` is what its services see of them. Refuses: topics and subscriptions as
Pub/Sub sees them, which are in `mainstem.pubsub`.

The bytes are made and read by hand, without a socket: `http2.py` is a connection, `exchange.py` a call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mainstem.doors.contract import Door, MetricDefinition

if TYPE_CHECKING:
    from mainstem.doors.contract import Opener

GREETING = b"PRI * HTTP/2.0\r\n"


def sniff(first_bytes: bytes) -> bool | None:
    """Whether the bytes can begin a connection of HTTP/2."""
    if first_bytes.startswith(GREETING):
        return True
    return None if GREETING.startswith(first_bytes) else False


def _load() -> Opener:
    from mainstem.doors.pubsub.server import open_door

    return open_door


DOOR = Door(
    name="pubsub",
    title="Pub/Sub",
    port=8085,
    sniff=sniff,
    load=_load,
    alpn=("h2",),
    mechanisms=("PLAIN", "OAUTHBEARER"),
    metrics={
        "mainstem_pubsub_connections": MetricDefinition("gauge", (), "Open connections of the Pub/Sub door."),
        "mainstem_pubsub_calls_running": MetricDefinition(
            "gauge", (), "Calls of the Pub/Sub door that have not ended."
        ),
        "mainstem_pubsub_calls_total": MetricDefinition(
            "counter", ("method", "code"), "Calls of the Pub/Sub door that have ended, by status."
        ),
        "mainstem_pubsub_refusals_total": MetricDefinition(
            "counter",
            ("kind",),
            "Clients of the Pub/Sub door that were refused or disconnected, by kind of warning.",
        ),
    },
)
