"""The registry of connected clients."""

from __future__ import annotations

from collections.abc import Sequence

from mainstem.amqp.connections import (
    ChannelConsumer,
    ChannelInfo,
    ConnectionInfo,
    ConnectionRegistry,
    ListedConnection,
)


class OrdersClient:
    """A connection that only has a name."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.reasons: list[str] = []

    def info(self) -> ConnectionInfo:
        return ConnectionInfo(
            name=f"127.0.0.1:{self._port} -> 127.0.0.1:5672",
            peer_host="127.0.0.1",
            peer_port=self._port,
            host="127.0.0.1",
            port=5672,
            user="guest",
            vhost="/",
            protocol="AMQP 0-9-1",
            auth_mechanism="PLAIN",
            connected_at_ms=0,
        )

    def channels(self) -> Sequence[ChannelInfo]:
        return []

    def consumers(self) -> Sequence[ChannelConsumer]:
        return []

    def close(self, reason: str) -> None:
        self.reasons.append(reason)


def test_a_connection_is_listed_until_it_ends() -> None:
    registry = ConnectionRegistry()
    first, second = OrdersClient(40_001), OrdersClient(40_002)
    for client in (first, second):
        registry.add(client)
    assert list(registry) == [first, second]
    assert registry.find("127.0.0.1:40002 -> 127.0.0.1:5672") is second
    registry.remove(first)
    registry.remove(first)
    assert (list(registry), len(registry)) == ([second], 1)
    assert (registry.opened_total, registry.closed_total) == (2, 1)
    assert registry.find("127.0.0.1:40001 -> 127.0.0.1:5672") is None


def test_a_late_end_does_not_remove_who_has_the_address_now() -> None:
    registry = ConnectionRegistry()
    before: ListedConnection = OrdersClient(40_001)
    registry.add(before)
    registry.remove(before)
    now = OrdersClient(40_001)
    registry.add(now)
    registry.remove(before)
    assert list(registry) == [now]
