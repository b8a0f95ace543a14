"""The Pub/Sub door: the protocol of Google Cloud Pub/Sub, gRPC and REST on one port, for its clients.

Owns: HTTP/2 and gRPC; `calls.py` is what its services see of them. Refuses: topics and subscriptions as
Pub/Sub sees them, which are in `mainstem.pubsub`.

The bytes of HTTP/2 are made and read by hand, without a socket: `http2.py` is a connection, `exchange.py` a
call. HTTP/1.1 is uvicorn's: `http1.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mainstem.doors.contract import Door, MetricDefinition
from mainstem.doors.pubsub.first_bytes import sniff
from mainstem.setting_definition import SettingDefinition

if TYPE_CHECKING:
    from mainstem.doors.contract import Opener


def _load() -> Opener:
    from mainstem.doors.pubsub.server import open_door

    return open_door


DOOR = Door(
    name="pubsub",
    title="Pub/Sub",
    port=8085,
    sniff=sniff,
    load=_load,
    alpn=("h2", "http/1.1"),
    mechanisms=("PLAIN", "OAUTHBEARER"),
    started_text="Server started, listening on {port}",
    settings=(
        SettingDefinition(
            name="pubsub_project",
            type=str,
            default="mainstem",
            doc="Project of Pub/Sub whose topics and subscriptions have their ids as names in the log;"
            " those of others have PROJECT.ID.",
            metavar="PROJECT",
        ),
    ),
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
