"""Serves the sockets of the AMQP 0-9-1 door.

Owns: one object for each socket, the tasks of its connection, the clock of heartbeats, draining at the end.
Refuses: clients that do not open their connection in time, that are silent beyond their heartbeat, or that
together leave too much unread. Everything about the protocol is in connection.py, which knows no socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Coroutine, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from mainstem.doors.amqp091.connection import Amqp091Connection
from mainstem.doors.amqp091.connection_context import AmqpPeers, ConnectionContext
from mainstem.doors.amqp091.login import LoginCheck
from mainstem.doors.amqp091.negotiation import Limits
from mainstem.doors.amqp091.session import VhostSessions
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
UNSENT_ALL_BYTES = 256 << 20
"""Most bytes that all clients together may leave unread; the clients that have most are disconnected."""
BODIES_MAX_BYTES = 256 << 20
"""Memory of all messages that are coming in."""
SWEEP_S = 1.0
SWEEP_TURN = 500
"""Number of connections that are looked at before other tasks may run."""
KEEPALIVE_S = 60
DRAIN_S = 5.0
WORK_S = 5.0
"""How long the work of a connection may take after the end of its socket."""
ID_BYTES = 16


class AmqpSocket(asyncio.Protocol):
    """One accepted socket. Implements `connection_context.AmqpTransport`."""

    def __init__(self, door: AmqpDoor, listener: Listener, accepted: AcceptedConnection) -> None:
        self._door = door
        self._listener = listener
        self._accepted = accepted
        self._transport: asyncio.Transport | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.connection: Amqp091Connection | None = None

    # --- asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self._door.is_closing:
            transport.abort()  # type: ignore[attr-defined] # uvloop's and ours are no asyncio.Transport
            return
        self._transport = transport  # type: ignore[assignment] # as above
        transport.set_write_buffer_limits(UNSENT_HIGH_BYTES, UNSENT_LOW_BYTES)  # type: ignore[attr-defined] # as above
        _tune(transport.get_extra_info("socket"))
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
        self._door.slow.add(self)
        if self.connection is not None:
            self.connection.sending_blocked()

    def resume_writing(self) -> None:
        self._door.slow.discard(self)
        if self.connection is not None:
            self.connection.sending_resumed()

    def connection_lost(self, exc: Exception | None) -> None:
        self._door.slow.discard(self)
        self._accepted.closed()
        self._transport = None
        if self.connection is not None:
            self.connection.lost()
        self._door.remove(self, self._tasks)

    # --- AmqpTransport

    def write(self, pieces: list[bytes]) -> None:
        if self._transport is not None:
            self._transport.writelines(pieces)

    def unsent_bytes(self) -> int:
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def pause(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def start_task(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("the work of a client failed: its connection is closed", exc_info=error)
            self.abort()

    # --- the door's side

    def abort(self) -> None:
        """Close at once, whatever is unsent."""
        if self._transport is not None:
            self._transport.abort()


class AmqpDoor:
    """Implements `doors.contract.OpenDoor`."""

    def __init__(self, context: DoorContext, broker: AmqpBroker) -> None:
        self._context = context
        self.authentication = context.access.authentication
        sessions = VhostSessions(
            broker.vhosts,
            context.access.authorizer,
            self._engine_of,
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
            ),
            open_vhost=sessions.open,
            registry=broker.connections,
            budget=MemoryBudget(context.clock, BODIES_MAX_BYTES),
            warn=context.warnings.warn,
            version=context.version,
            cluster_name=f"mainstem@{context.listeners[0].address.host}",
            handshake_s=settings.first_request_timeout_ms / 1000,
            failed_login_s=settings.connection_failed_authentication_delay_ms / 1000,
        )
        self.is_closing = False
        self.slow: set[AmqpSocket] = set()
        """Clients that read too slowly."""
        self._sockets: set[AmqpSocket] = set()
        self._ending: set[asyncio.Task[None]] = set()
        """Work of connections whose sockets have ended."""
        self._loop = asyncio.get_running_loop()
        self._empty = asyncio.Event()
        self._sweeper = context.clock.call_later(SWEEP_S, self._sweep)
        context.access.admin.on_user_deleted.append(self._on_user_deleted)

    @property
    def connections(self) -> int:
        return len(self._sockets)

    def accept(self, connection: AcceptedConnection, listener: Listener) -> None:
        accepted = AmqpSocket(self, listener, connection)
        self._sockets.add(accepted)
        connection.attach(self._loop, accepted)

    @property
    def http_app(self) -> None:
        return None

    def problems(self) -> Sequence[str]:
        return ()

    def metric_samples(self) -> Iterator[MetricSample]:
        yield "mainstem_amqp091_connections", (), len(self._sockets)
        for kind, count in self._context.warnings.counts.items():
            yield "mainstem_amqp091_refusals_total", (kind,), count

    async def drain(self) -> None:
        self.is_closing = True
        for client in list(self._sockets):
            if client.connection is not None:
                client.connection.close("broker forced connection closure with reason 'shutdown'")
        self._empty.clear()
        if self._sockets:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(DRAIN_S):
                    await self._empty.wait()

    async def close(self) -> None:
        self._sweeper.cancel()
        for client in list(self._sockets):
            client.abort()
        await asyncio.sleep(0)  # their ends start work
        if self._ending:
            await asyncio.wait(self._ending, timeout=WORK_S)
            for task in list(self._ending):
                task.cancel()
            if self._ending:
                await asyncio.wait(self._ending)

    # --- what its sockets call

    def remove(self, client: AmqpSocket, tasks: set[asyncio.Task[None]]) -> None:
        """Forget a connection that has ended, and give its work time to end."""
        self._sockets.discard(client)
        if not self._sockets:
            self._empty.set()
        for task in list(tasks):
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)
        if tasks:
            self._loop.call_later(WORK_S, _cancel_all, list(tasks))

    def _engine_of(self, requester: Requester) -> Engine:
        views = self._context.views
        return views.engine(requester) if views.limit(requester) else self._context.engine

    def _on_user_deleted(self, name: str) -> None:
        """Disconnect the clients that logged in with the password of this user."""
        for client in list(self._sockets):
            connection = client.connection
            if connection is not None and connection.is_password_login and connection.user == name:
                connection.close("user was deleted")

    # --- time

    def _sweep(self, left: Iterator[AmqpSocket] | None = None) -> None:
        """Send the heartbeats that are due, and end the connections that have to end."""
        clock = self._context.clock
        if left is None:
            left = iter(list(self._sockets))
        now = clock.monotonic()
        checked = 0
        for client in islice(left, SWEEP_TURN):
            checked += 1
            reason = None if client.connection is None else client.connection.tick(now)
            if reason is not None:
                self._context.warnings.warn("stuck", f"a client {reason}: connection closed")
                client.abort()
        if checked == SWEEP_TURN:
            self._sweeper = clock.call_later(0, lambda: self._sweep(left))
        else:
            self._limit_unsent()
            self._sweeper = clock.call_later(SWEEP_S, self._sweep)

    def _limit_unsent(self) -> None:
        """Disconnect the clients that leave most unread, if all together leave too much."""
        unsent = sum(client.unsent_bytes() for client in self.slow)
        if unsent <= UNSENT_ALL_BYTES:
            return
        for client in sorted(self.slow, key=AmqpSocket.unsent_bytes, reverse=True):
            self._context.warnings.warn("unsent", "all clients leave too much unread: connection closed")
            unsent -= client.unsent_bytes()
            client.abort()
            if unsent <= UNSENT_ALL_BYTES // 2:
                return


async def open_door(context: DoorContext) -> AmqpDoor:
    """Create the AMQP door. The server calls this through `Door.load`."""
    assert context.broker is not None, "the server has virtual hosts"
    return AmqpDoor(context, await context.broker())


def _cancel_all(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()


def _tune(sock: socket.socket | None) -> None:
    """Send small frames at once, and notice when a client's machine has vanished."""
    if sock is None:
        return
    with contextlib.suppress(OSError):  # not a TCP socket, or closed already
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_KEEPIDLE"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_S)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_S // 4)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)
