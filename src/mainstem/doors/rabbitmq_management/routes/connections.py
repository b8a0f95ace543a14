"""Connections, channels and consumers: list them, and close a connection.

Owns: `/api/connections`, `/api/channels`, `/api/consumers`. Refuses: those of other users to who may not
monitor the server.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mainstem.amqp.connections import ChannelInfo, ConnectionInfo, ListedConnection
from mainstem.doors.rabbitmq_management.listing import plain_list
from mainstem.doors.rabbitmq_management.properties_json import json_value
from mainstem.doors.rabbitmq_management.queue_json import NODE, channel_name, consumer_json, details
from mainstem.doors.rabbitmq_management.refusals import access_refused, not_in_api
from mainstem.doors.rabbitmq_management.request import (
    NO_CONTENT,
    ApiAnswer,
    ManagementRequest,
    ManagementRoute,
    Tag,
)

CONNECTION_PATH = "/connections/{connection}"
CLOSED_REASON = "Closed via management plugin"
REASON_HEADER = "x-reason"


def connection_json(info: ConnectionInfo) -> dict[str, Any]:
    """A connection."""
    properties = json_value(info.client_properties)
    return {
        "auth_mechanism": info.auth_mechanism,
        "channel_max": info.channel_max,
        "channels": info.channels,
        "client_properties": properties,
        "connected_at": info.connected_at_ms,
        "frame_max": info.frame_max,
        "host": info.host,
        "name": info.name,
        "node": NODE,
        "peer_host": info.peer_host,
        "peer_port": info.peer_port,
        "port": info.port,
        "protocol": info.protocol,
        "recv_oct": info.received_bytes,
        "recv_oct_details": details(),
        "send_oct": info.sent_bytes,
        "send_oct_details": details(),
        "send_pend": 0,
        "ssl": info.ssl,
        "state": info.state,
        "timeout": info.heartbeat_s,
        "type": "network",
        "user": info.user,
        "user_provided_name": properties.get("connection_name"),
        "user_who_performed_action": info.user,
        "vhost": info.vhost,
    }


def channel_json(connection: ConnectionInfo, channel: ChannelInfo) -> dict[str, Any]:
    """A channel."""
    return {
        "acks_uncommitted": channel.uncommitted_acks,
        "confirm": channel.confirms,
        "connection_details": {
            "name": connection.name,
            "peer_host": connection.peer_host,
            "peer_port": connection.peer_port,
        },
        "consumer_count": channel.consumers,
        "global_prefetch_count": channel.global_prefetch_count,
        "messages_unacknowledged": channel.unacked,
        "messages_uncommitted": channel.uncommitted,
        "messages_unconfirmed": channel.unconfirmed,
        "name": channel_name(connection, channel.number),
        "node": NODE,
        "number": channel.number,
        "prefetch_count": channel.prefetch_count,
        "state": "running",
        "transactional": channel.is_transactional,
        "user": connection.user,
        "user_who_performed_action": connection.user,
        "vhost": connection.vhost,
    }


def visible_connections(
    request: ManagementRequest, vhost: str | None = None
) -> Iterator[tuple[ListedConnection, ConnectionInfo]]:
    """The connections that the requester may see, of a virtual host or of all."""
    sees_all = request.has(Tag.MONITORING)
    for connection in request.broker.connections:
        info = connection.info()
        if vhost in (None, info.vhost) and (sees_all or request.is_user(info.user)):
            yield connection, info


def _connection(request: ManagementRequest) -> tuple[ListedConnection, ConnectionInfo]:
    connection = request.broker.connections.find(request.parameters["connection"])
    info = None if connection is None else connection.info()
    if connection is None or info is None:
        raise not_in_api()
    if not request.is_user(info.user) and not request.has(Tag.MONITORING):
        raise access_refused()
    return connection, info


async def _plain(request: ManagementRequest, items: list[dict[str, Any]], name: str = "name") -> ApiAnswer:
    return await plain_list(request.query, request.context.door.clock, items, name)


async def list_connections(request: ManagementRequest) -> ApiAnswer:
    """All connections."""
    return await _plain(request, [connection_json(info) for _, info in visible_connections(request)])


async def list_connections_of_vhost(request: ManagementRequest) -> ApiAnswer:
    """The connections to a virtual host."""
    shown = visible_connections(request, request.vhost.name)
    return await _plain(request, [connection_json(info) for _, info in shown])


async def list_connections_of_user(request: ManagementRequest) -> ApiAnswer:
    """The connections of a user."""
    user = request.parameters["user"]
    shown = [connection_json(info) for _, info in visible_connections(request) if info.user == user]
    return await _plain(request, shown)


async def get_connection(request: ManagementRequest) -> ApiAnswer:
    """A connection."""
    return ApiAnswer(200, connection_json(_connection(request)[1]))


async def close_connection(request: ManagementRequest) -> ApiAnswer:
    """Close a connection. Its client learns the reason of the header X-Reason."""
    connection, info = _connection(request)
    if not request.is_user(info.user) and not request.has(Tag.ADMINISTRATOR):
        raise access_refused()
    connection.close(request.reason or CLOSED_REASON)
    return NO_CONTENT


async def close_connections_of_user(request: ManagementRequest) -> ApiAnswer:
    """Close all connections of a user."""
    user = request.parameters["user"]
    if not request.is_user(user) and not request.has(Tag.ADMINISTRATOR):
        raise access_refused()
    for connection, info in list(visible_connections(request)):
        if info.user == user:
            connection.close(request.reason or CLOSED_REASON)
    return NO_CONTENT


async def list_channels_of_connection(request: ManagementRequest) -> ApiAnswer:
    """The channels of a connection."""
    connection, info = _connection(request)
    return await _plain(request, [channel_json(info, channel) for channel in connection.channels()])


def _channels(request: ManagementRequest, vhost: str | None = None) -> list[dict[str, Any]]:
    return [
        channel_json(info, channel)
        for connection, info in visible_connections(request, vhost)
        for channel in connection.channels()
    ]


async def list_channels(request: ManagementRequest) -> ApiAnswer:
    """All channels."""
    return await _plain(request, _channels(request))


async def list_channels_of_vhost(request: ManagementRequest) -> ApiAnswer:
    """The channels of a virtual host's connections."""
    return await _plain(request, _channels(request, request.vhost.name))


async def get_channel(request: ManagementRequest) -> ApiAnswer:
    """A channel with its consumers."""
    name = request.parameters["channel"]
    for connection, info in visible_connections(request):
        if not name.startswith(info.name):
            continue
        for channel in connection.channels():
            if channel_name(info, channel.number) == name:
                consumers = [
                    consumer_json(info, consumer)
                    for consumer in connection.consumers()
                    if consumer.channel == channel.number
                ]
                return ApiAnswer(200, channel_json(info, channel) | {"consumer_details": consumers})
    raise not_in_api()


def _consumers(request: ManagementRequest, vhost: str | None = None) -> list[dict[str, Any]]:
    return [
        consumer_json(info, consumer)
        for connection, info in visible_connections(request, vhost)
        for consumer in connection.consumers()
    ]


async def list_consumers(request: ManagementRequest) -> ApiAnswer:
    """All consumers."""
    return await _plain(request, _consumers(request), "consumer_tag")


async def list_consumers_of_vhost(request: ManagementRequest) -> ApiAnswer:
    """The consumers of a virtual host's queues."""
    return await _plain(request, _consumers(request, request.vhost.name), "consumer_tag")


_LISTS = {
    "/connections": list_connections,
    "/vhosts/{vhost}/connections": list_connections_of_vhost,
    "/connections/username/{user}": list_connections_of_user,
    CONNECTION_PATH: get_connection,
    CONNECTION_PATH + "/channels": list_channels_of_connection,
    "/channels": list_channels,
    "/vhosts/{vhost}/channels": list_channels_of_vhost,
    "/channels/{channel}": get_channel,
    "/consumers": list_consumers,
    "/consumers/{vhost}": list_consumers_of_vhost,
}
ROUTES = (
    *(
        ManagementRoute(method="GET", path=path, handle=handle, rights=Tag.MANAGEMENT)
        for path, handle in _LISTS.items()
    ),
    ManagementRoute(
        method="DELETE",
        path=CONNECTION_PATH,
        handle=close_connection,
        rights=Tag.MANAGEMENT,
        changes=True,
    ),
    ManagementRoute(
        method="DELETE",
        path="/connections/username/{user}",
        handle=close_connections_of_user,
        rights=Tag.MANAGEMENT,
        changes=True,
    ),
)
