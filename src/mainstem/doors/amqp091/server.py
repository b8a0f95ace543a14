"""Serves the sockets of the AMQP 0-9-1 door.

Owns: one object for each socket, the tasks of its connection, the clock of heartbeats, draining at the end.
Refuses: clients that do not open their connection in time, that are silent beyond their heartbeat, or that
together leave too much unread. Everything about the protocol is in connection.py, which knows no socket.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from mainstem.doors.amqp091.connection import Amqp091Connection
from mainstem.doors.amqp091.connection_context import AmqpPeers, ConnectionContext
from mainstem.doors.amqp091.login import LoginCheck
from mainstem.doors.amqp091.negotiation import Limits
from mainstem.doors.amqp091.session import VhostSessions
from mainstem.doors.net.client_socket import ClientSocket
from mainstem.doors.net.client_sockets import ClientSockets
from mainstem.doors.net.limits import MemoryBudget

if TYPE_CHECKING:
    from mainstem.access_contract import Requester
    from mainstem.amqp.broker import AmqpBroker
    from mainstem.contract import Engine
    from mainstem.doors.contract import DoorContext, Listener, MetricSample
    from mainstem.doors.net.accepted import AcceptedConnection

log = logging.getLogger("mainstem.amqp091")

UNSENT_HIGH_BYTES = 256 << 10
UNSENT_LOW_BYTES = 64 << 10
"""When more than UNSENT_HIGH_BYTES are unsent, nothing is delivered until at most UNSENT_LOW_BYTES are."""
BODIES_MAX_BYTES = 256 << 20
"""Memory of all messages that are coming in."""
SWEEP_S = 1.0
DRAIN_S = 5.0
WORK_S = 5.0
"""How long the work of a connection may take after the end of its socket."""
ID_BYTES = 16


class AmqpSocket(ClientSocket, asyncio.Protocol):
    """One accepted socket. Implements `connection_context.AmqpTransport`."""

    def __init__(self, door: AmqpDoor, listener: Listener, accepted: AcceptedConnection) -> None:
        super().__init__(accepted)
        self._door = door
        self._listener = listener
        self.connection: Amqp091Connection | None = None

    # --- asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self._door.sockets.is_closing:
            transport.abort()  # type: ignore[attr-defined] # uvloop's and ours are no asyncio.Transport
            return
        self.opened(transport, UNSENT_HIGH_BYTES, UNSENT_LOW_BYTES)
        client = transport.get_extra_info("peername") or ("unknown", 0)
        own = transport.get_extra_info("sockname") or ("unknown", 0)
        peers = AmqpPeers(
            client_host=client[0],
            client_port=client[1],
            host=own[0],
            port=own[1],
            is_encrypted=self._listener.security.tls,
        )
        authentication = self._door.authentication
        login = LoginCheck(authentication, self._listener, self._accepted.host, self._accepted.principal)
        self.connection = Amqp091Connection(self._door.shared, self, peers, login)

    def data_received(self, data: bytes) -> None:
        if self.connection is not None:
            self.connection.received(data)

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        self._door.sockets.note_unsent(self, self.unsent_bytes())
        if self.connection is not None:
            self.connection.sending_blocked()

    def resume_writing(self) -> None:
        self._door.sockets.note_unsent(self, 0)
        if self.connection is not None:
            self.connection.sending_resumed()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost()
        if self.connection is not None:
            self.connection.lost()
        self._door.remove(self)

    # --- ClientSocket

    def task_failed(self, error: BaseException) -> None:
        log.error("the work of a client failed: its connection is closed", exc_info=error)
        self.abort()


class AmqpDoor:
    """Implements `doors.contract.OpenDoor`."""

    def __init__(self, context: DoorContext, broker: AmqpBroker) -> None:
        self._context = context
        self.authentication = context.access.authentication
        sessions = VhostSessions(
            broker.vhosts,
            context.access.authorizer,
            self._engine_of,
            context.views.masks,
            lambda: self.authentication.random_bytes(ID_BYTES).hex(),
        )
        settings = context.settings
        values = settings.door_values
        self.shared = ConnectionContext(
            clock=context.clock,
            limits=Limits(
                channel_max=int(str(values["amqp091_channel_max"])),
                frame_max=int(str(values["amqp091_frame_max_bytes"])),
                heartbeat_s=int(str(values["amqp091_heartbeat_s"])),
                message_max_bytes=int(str(values["amqp091_message_max_bytes"])),
                consumer_timeout_ms=int(str(values["amqp091_consumer_timeout_ms"])),
            ),
            open_vhost=sessions.open,
            registry=broker.connections,
            budget=MemoryBudget(context.clock, BODIES_MAX_BYTES),
            publish_refusal=context.write_refusal,
            quotas=context.access.quotas,
            warn=context.warnings.warn,
            version=context.version,
            cluster_name=f"mainstem@{context.listeners[0].address.host}",
            handshake_s=settings.first_request_timeout_ms / 1000,
            failed_login_s=settings.connection_failed_authentication_delay_ms / 1000,
        )
        self._ending: set[asyncio.Task[None]] = set()
        """Work of connections whose sockets have ended."""
        self._loop = asyncio.get_running_loop()
        self.sockets = ClientSockets[AmqpSocket](
            context.clock, SWEEP_S, self._end_reason, context.warnings.warn
        )
        context.access.admin.on_user_deleted.append(self._on_user_deleted)

    @property
    def connections(self) -> int:
        return len(self.sockets)

    def accept(self, connection: AcceptedConnection, listener: Listener) -> None:
        self.sockets.accept(connection, AmqpSocket(self, listener, connection))

    @property
    def http_app(self) -> None:
        return None

    def problems(self) -> Sequence[str]:
        return ()

    def metric_samples(self) -> Iterator[MetricSample]:
        yield "mainstem_amqp091_connections", (), len(self.sockets)
        for kind, count in self._context.warnings.counts.items():
            yield "mainstem_amqp091_refusals_total", (kind,), count

    async def drain(self) -> None:
        self.sockets.is_closing = True
        for client in self.sockets:
            if client.connection is not None:
                client.connection.close("broker forced connection closure with reason 'shutdown'")
        await self.sockets.until_empty(DRAIN_S)

    async def close(self) -> None:
        self.sockets.abort_all()
        await asyncio.sleep(0)  # their ends start work
        if self._ending:
            await asyncio.wait(self._ending, timeout=WORK_S)
            for task in list(self._ending):
                task.cancel()
            if self._ending:
                await asyncio.wait(self._ending)

    # --- what its sockets call

    def remove(self, client: AmqpSocket) -> None:
        """Forget a connection that has ended, and give its work time to end."""
        self.sockets.remove(client)
        for task in client.tasks:
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)
        if client.tasks:
            self._loop.call_later(WORK_S, _cancel_all, client.tasks)

    def _engine_of(self, requester: Requester) -> Engine:
        views = self._context.views
        return views.engine(requester) if views.limit(requester) else self._context.engine

    def _on_user_deleted(self, name: str) -> None:
        """Disconnect the clients that logged in with the password of this user."""
        for client in self.sockets:
            connection = client.connection
            if connection is not None and connection.is_password_login and connection.user == name:
                connection.close("user was deleted")

    def _end_reason(self, client: AmqpSocket, now: float) -> str | None:
        """Why a connection has to end, see `ClientSockets`. Sends the heartbeats that are due."""
        return None if client.connection is None else client.connection.tick(now)


async def open_door(context: DoorContext) -> AmqpDoor:
    """Create the AMQP door. The server calls this through `Door.load`."""
    assert context.broker is not None, "the server has virtual hosts"
    return AmqpDoor(context, await context.broker())


def _cancel_all(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
