"""The door itself: HTTP on the connections of its own address, and the application for the HTTP door.

Owns: start and stop. Refuses: what `doors/net/http_connection.py` refuses.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from mainstem.doors.net.http_connection import (
    BoundedHttpConnection,
    HttpRefusal,
    RefusalKind,
    UnreadResponses,
)
from mainstem.doors.net.http_guard import HttpGuard
from mainstem.doors.net.http_server import UvicornServer, uvicorn_config
from mainstem.doors.rabbitmq_management.app import PEER_KEY, ManagementApp
from mainstem.doors.rabbitmq_management.rates import RateSampler
from mainstem.doors.rabbitmq_management.request import ManagementContext

if TYPE_CHECKING:
    from mainstem.access_contract import Principal
    from mainstem.clock import Clock
    from mainstem.doors.contract import DoorContext, HttpApp, Listener, MetricSample
    from mainstem.doors.net.accepted import AcceptedConnection

STATUS_OF_KIND: dict[RefusalKind, int] = {
    "crowded": 503,
    "slow-request": 408,
    "head-too-large": 431,
    "bad-request": 400,
}


@dataclass(slots=True, kw_only=True)
class ManagementPeer:
    """The client of a connection."""

    host: str
    listener: Listener
    principal: Principal
    """Who it is without a login."""


class ManagementConnection(BoundedHttpConnection):
    """One client's connection."""

    def __init__(
        self,
        clock: Clock,
        unread: UnreadResponses,
        accepted: AcceptedConnection,
        listener: Listener,
        **protocol_arguments: Any,
    ) -> None:
        self.peer = ManagementPeer(host=accepted.host, listener=listener, principal=accepted.principal)
        super().__init__(clock, unread, accepted, app_state={PEER_KEY: self.peer}, **protocol_arguments)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Called by asyncio when a client has connected."""
        self.peer.principal = self._accepted.principal
        super().connection_made(transport)

    def refusal(self, kind: RefusalKind, detail: str) -> HttpRefusal:
        """RabbitMQ's JSON of an error."""
        body = msgspec.json.encode({"error": kind.replace("-", "_"), "reason": detail})
        return HttpRefusal(STATUS_OF_KIND[kind], {"content-type": "application/json"}, body)


class ManagementDoor:
    """Implements `mainstem.doors.contract.OpenDoor`."""

    def __init__(self, app: ManagementApp, clock: Clock, unread: UnreadResponses) -> None:
        self._app = app
        self._clock = clock
        self._unread = unread
        self._config = uvicorn_config(app)
        self._server = UvicornServer(self._config)
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to serve. Afterwards `accept` may be called."""
        self._serving = await self._server.start("rabbitmq management")

    @property
    def connections(self) -> int:
        return len(self._server.server_state.connections)

    def accept(self, connection: AcceptedConnection, listener: Listener) -> None:
        protocol = ManagementConnection(
            self._clock,
            self._unread,
            connection,
            listener,
            config=self._config,
            server_state=self._server.server_state,
        )
        connection.attach(asyncio.get_running_loop(), protocol)

    @property
    def http_app(self) -> HttpApp:
        return self._app

    def problems(self) -> Sequence[str]:
        return ()

    def metric_samples(self) -> Iterable[MetricSample]:
        return ()

    async def drain(self) -> None:
        self._server.stop.set()
        if self._serving is not None:
            await self._serving
            self._serving = None

    async def close(self) -> None:
        await self.drain()


async def open_door(context: DoorContext) -> ManagementDoor:
    """Create and start the door. The server calls this through `Door.load`."""
    assert context.broker is not None, "the server has virtual hosts"
    addresses = [listener.address for listener in context.listeners]
    names = [address.host for address in addresses]
    names += context.settings.door_values["http_hosts"].replace(",", " ").split()
    guard = HttpGuard(names, any_address=not all(address.is_loopback for address in addresses))
    shared = ManagementContext(door=context, broker=await context.broker(), rates=RateSampler(context.clock))
    door = ManagementDoor(ManagementApp(shared, guard), context.clock, UnreadResponses(context.warnings))
    await door.start()
    return door
