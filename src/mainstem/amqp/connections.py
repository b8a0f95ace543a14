"""The clients of RabbitMQ's protocols that are connected: what the management API lists and closes.

Owns: the registry of connections, and the shapes of what a door says of its own. Refuses: to know a socket or
a wire; a door adds a connection when its client has logged in, and removes it at its end.

The words are those of RabbitMQ's management API (`/api/connections`, `/api/channels`, `/api/consumers`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import msgspec


class ConnectionInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a connection."""

    name: str
    """`127.0.0.1:40112 -> 127.0.0.1:5672`: the client's address, then ours."""
    peer_host: str
    peer_port: int
    host: str
    port: int
    user: str
    vhost: str
    protocol: str
    """`AMQP 0-9-1`, or `stream`."""
    auth_mechanism: str
    connected_at_ms: int
    """Wall ms."""
    ssl: bool = False
    channels: int = 0
    channel_max: int = 0
    frame_max: int = 0
    """Bytes."""
    heartbeat_s: int = 0
    client_properties: Mapping[str, Any] = {}
    state: str = "running"
    """running, blocked, or closing."""
    received_bytes: int = 0
    sent_bytes: int = 0


class ChannelInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a channel of a connection."""

    number: int
    consumers: int = 0
    unacked: int = 0
    unconfirmed: int = 0
    uncommitted: int = 0
    """Messages published in a transaction that is not committed."""
    uncommitted_acks: int = 0
    prefetch_count: int = 0
    """Of consumers that come; 0: no limit."""
    global_prefetch_count: int = 0
    """Of all consumers of the channel together; 0: no limit."""
    confirms: bool = False
    is_transactional: bool = False


class ChannelConsumer(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a consumer of a channel."""

    channel: int
    """The number of its channel."""
    queue: str
    tag: str
    prefetch_count: int = 0
    ack_required: bool = True
    exclusive: bool = False
    is_active: bool = True
    """False: another consumer of the queue is its single active one."""
    arguments: Mapping[str, Any] = {}


class ListedConnection(Protocol):
    """A connection, as its door shows it."""

    def info(self) -> ConnectionInfo:
        """How it is now. The name never changes."""

    def channels(self) -> Sequence[ChannelInfo]:
        """Its open channels."""

    def consumers(self) -> Sequence[ChannelConsumer]:
        """The consumers of its channels."""

    def close(self, reason: str) -> None:
        """Close it as an administrator asks: the client learns the reason. Returns at once."""


class ConnectionRegistry:
    """The connections of a server, in the order in which they came."""

    def __init__(self) -> None:
        self._connections: dict[str, ListedConnection] = {}
        self.opened_total = 0
        self.closed_total = 0

    def add(self, connection: ListedConnection) -> None:
        """A client has logged in. Its address is its name, which no other open connection has."""
        self._connections[connection.info().name] = connection
        self.opened_total += 1

    def remove(self, connection: ListedConnection) -> None:
        """The connection has ended. Nothing happens if it was not added."""
        name = connection.info().name
        if self._connections.get(name) is connection:
            del self._connections[name]
            self.closed_total += 1

    def find(self, name: str) -> ListedConnection | None:
        """The connection of this name; None: there is none."""
        return self._connections.get(name)

    def __iter__(self) -> Iterator[ListedConnection]:
        """Those that are open at this moment; the caller may close some meanwhile."""
        return iter(list(self._connections.values()))

    def __len__(self) -> int:
        return len(self._connections)
