"""The cluster: its brokers, and what this server serves."""

from __future__ import annotations

from starlette.responses import Response

from mainstem.doors.http.endpoint import Call, Endpoint, json_response
from mainstem.doors.http.rights import LOGIN
from mainstem.http_api.cluster import BrokerJson, ClusterJson, DoorJson


async def show_cluster(call: Call) -> Response:
    """Show the cluster: its brokers, and the version and the doors of this server."""
    info = await call.engine.cluster()
    context = call.context
    return json_response(
        ClusterJson(
            id=info.id,
            controller=info.controller,
            brokers=[BrokerJson(broker.id, broker.host, broker.port) for broker in info.brokers],
            kafka_address=context.kafka_address,
            version=context.version,
            read_only=context.read_only,
            embedded=context.disk_usage is not None,
            client_quotas=context.quotas.is_offered,
            api_tokens=context.api_tokens is not None,
            doors=[
                DoorJson(
                    name=status.name,
                    title=status.title,
                    addresses=status.address_texts,
                    off_reason=status.off_reason,
                    flag=status.flag,
                )
                for status in context.door_statuses()
            ],
        )
    )


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/api/v1/cluster",
        handle=show_cluster,
        rights=LOGIN,
        tag="cluster",
        reply=ClusterJson,
    ),
)
