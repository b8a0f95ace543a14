"""Finds the HTTP door of the server whose Kafka door is at an address.

Owns: whether there is such a door, and whether it can be used. Refuses: a door that belongs to another
cluster than the server at that address.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mainstem.client_security import PLAINTEXT, ClientSecurity
from mainstem.contract import StreamError
from mainstem.engines.remote.http_client import SECURE, HttpDoorClient
from mainstem.http_api.cluster import ClusterJson

if TYPE_CHECKING:
    from mainstem.engines.kafka.server_info import ServerInfo


async def find_door(
    address: str, server: ServerInfo, security: ClientSecurity = PLAINTEXT
) -> tuple[str | None, str]:
    """HOST:PORT of the cluster's HTTP door, with https:// in front if it has TLS; or None, and the reason why
    there is none that can be used."""
    if server.http_listener is None:
        return None, f"{address} is not a mainstem server, or asking for its HTTP door is not permitted"
    if not server.http_listener:
        return None, f"the server at {address} serves no HTTP"
    door = _door_of(server.http_listener, address, has_tls=security.has_tls)
    try:
        id_at_door = await cluster_id(HttpDoorClient(door, security))
    except StreamError as error:
        return None, f"the server's HTTP door is not reachable from here: {error}"
    if id_at_door != server.cluster_id:
        return None, f"the server's HTTP door is not reachable from here: {door} is another server's"
    return door, ""


async def cluster_id(door: HttpDoorClient) -> str:
    """The cluster id of the server that has the door. Raises NotReachable, NotAllowed."""
    return (await door.request_json("GET", "/api/v1/cluster", None, ClusterJson)).id


def _door_of(listeners: str, address: str, *, has_tls: bool) -> str:
    """The listener of the HTTP door to use: the first that has TLS, or has none, as the client itself."""
    named = [listener.rpartition("://")[::2] for listener in listeners.split(",")]
    protocol, listener = next((pair for pair in named if pair[0].endswith("SSL") == has_tls), named[0])
    host, _, port = listener.rpartition(":")
    if host in ("0.0.0.0", "[::]", ""):  # it listens on all addresses, so also on the one of the Kafka door
        host = address.split(",")[0].rpartition(":")[0]
    return f"{SECURE if protocol.endswith('SSL') else ''}{host}:{port}"
