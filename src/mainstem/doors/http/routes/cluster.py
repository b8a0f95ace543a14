"""The cluster: who serves, and what this door may do."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta
from starlette.responses import Response

from mainstem.doors.http.endpoint import Call, Endpoint, json_response


class BrokerJson(msgspec.Struct):
    """One server."""

    id: int
    host: str
    port: int


class ClusterJson(msgspec.Struct):
    """The cluster, of one server for mainstem."""

    id: str
    controller: int
    brokers: list[BrokerJson]
    at: Annotated[str, Meta(description="HOST:PORT for Kafka clients.")]
    version: Annotated[str, Meta(description="Of mainstem.")]
    read_only: Annotated[bool, Meta(description="Whether this door refuses every change.")]
    embedded: Annotated[
        bool, Meta(description="Whether the log is in this server; else it is asked over the network.")
    ]


async def show_cluster(call: Call) -> Response:
    """Show the cluster."""
    info = await call.engine.cluster()
    context = call.context
    brokers = [BrokerJson(each.id, each.host, each.port) for each in info.brokers]
    embedded = context.disk_usage is not None
    return json_response(
        ClusterJson(
            info.id,
            info.controller,
            brokers,
            context.kafka_address,
            context.version,
            context.read_only,
            embedded,
        )
    )


ENDPOINTS = (
    Endpoint(method="GET", path="/api/v1/cluster", handle=show_cluster, tag="cluster", reply=ClusterJson),
)
