"""The Echo door's code, which is imported at its first connection."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from tests.doors.echo import BREAK

if TYPE_CHECKING:
    from mainstem.doors.contract import DoorContext, HttpApp, Listener, MetricSample
    from mainstem.doors.net.accepted import AcceptedConnection


class EchoConnection(asyncio.Protocol):
    """Sends back what it receives."""

    def __init__(self, door: EchoDoor, accepted: AcceptedConnection) -> None:
        self._door = door
        self._accepted = accepted
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        assert self.transport is not None
        self._door.bytes_sent += len(data)
        self._door.is_broken |= data.startswith(BREAK)
        self.transport.write(self._door.prefix + data)

    def connection_lost(self, error: Exception | None) -> None:
        self._door.open_connections.discard(self)
        self._accepted.closed()


class EchoDoor:
    """Implements `mainstem.doors.contract.OpenDoor`."""

    def __init__(self, prefix: bytes) -> None:
        self.prefix = prefix
        self.bytes_sent = 0
        self.is_broken = False
        self.open_connections: set[EchoConnection] = set()

    @property
    def connections(self) -> int:
        return len(self.open_connections)

    def accept(self, connection: AcceptedConnection, listener: Listener) -> None:
        protocol = EchoConnection(self, connection)
        self.open_connections.add(protocol)
        connection.attach(asyncio.get_running_loop(), protocol)

    @property
    def http_app(self) -> HttpApp:
        return self._reply

    async def _reply(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": self.prefix + scope["path"].encode()})

    def problems(self) -> Sequence[str]:
        return ["a client broke it"] if self.is_broken else []

    def metric_samples(self) -> Iterator[MetricSample]:
        yield "mainstem_echo_bytes_total", (), self.bytes_sent

    async def drain(self) -> None:
        pass

    async def close(self) -> None:
        for connection in list(self.open_connections):
            if connection.transport is not None:
                connection.transport.abort()


async def open_door(context: DoorContext) -> EchoDoor:
    return EchoDoor(context.settings.door_values["echo_prefix"].encode())
