"""Serves the sockets of the stream door.

Owns: one object for each socket, the tasks of its connection, the timeouts of clients that do not log in, do
not read or do not answer, draining at the end. Everything about the protocol is in `connection.py`, which
knows no socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Coroutine, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from mainstem.door_contract import WatchesTopics
from mainstem.doors.rabbitmq_stream.connection import Stage, StreamClientConnection
from mainstem.doors.rabbitmq_stream.shared import StreamDoorState

if TYPE_CHECKING:
    from mainstem.doors.contract import DoorContext, Listener, MetricSample
    from mainstem.doors.net.accepted import AcceptedConnection

UNSENT_HIGH_BYTES = 512 << 10
UNSENT_LOW_BYTES = 128 << 10
STUCK_S = 60.0
"""A client that leaves what it is sent unread for this long is disconnected."""
CLOSING_S = 10.0
"""How long the answer to a Close is waited for."""
ANSWER_S = 60.0
"""How long the answer to a ConsumerUpdate is waited for, as in RabbitMQ."""
SWEEP_S = 5.0
SWEEP_TURN = 500
DRAIN_S = 5.0
CLOSE_S = 1.0


class StreamSocket(asyncio.Protocol):
    """One accepted socket. Implements `connection.StreamTransport`."""

    def __init__(self, door: StreamDoor, listener: Listener, accepted: AcceptedConnection) -> None:
        self._door = door
        self._listener = listener
        self._accepted = accepted
        self._transport: asyncio.Transport | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.connection: StreamClientConnection | None = None

    # --- asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self._door.is_closing:
            transport.abort()  # type: ignore[attr-defined] # uvloop's and ours are no asyncio.Transport
            return
        self._transport = transport  # type: ignore[assignment] # as above
        transport.set_write_buffer_limits(UNSENT_HIGH_BYTES, UNSENT_LOW_BYTES)  # type: ignore[attr-defined] # as above
        sock = transport.get_extra_info("socket")
        if sock is not None:
            with contextlib.suppress(OSError):  # not a TCP socket, or closed already
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        name = transport.get_extra_info("peername")
        peer = f"{name[0]}:{name[1]}" if name else "unknown"
        self.connection = StreamClientConnection(
            self._door.state, self, self._listener, peer, self._accepted.principal
        )

    def data_received(self, data: bytes) -> None:
        if self.connection is not None:
            self.connection.received(data)

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        if self.connection is not None:
            self.connection.sending_blocked()

    def resume_writing(self) -> None:
        if self.connection is not None:
            self.connection.sending_resumed()

    def connection_lost(self, error: Exception | None) -> None:
        self._door.remove(self)
        self._accepted.closed()
        if self.connection is not None:
            self.connection.lost()
        for task in self._tasks:
            task.cancel()
        self._transport = None

    # --- StreamTransport

    def write(self, pieces: list[bytes]) -> None:
        if self._transport is not None:
            self._transport.writelines(pieces)

    def pause(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and self.connection is not None:
            self.connection.failed(error)

    # --- the door's side

    def abort(self) -> None:
        """Close at once, whatever is unsent."""
        if self._transport is not None:
            self._transport.abort()

    def close_reason(self, now: float, login_s: float) -> str:
        """Why this connection has to be closed now; empty: it may stay."""
        connection = self.connection
        if connection is None:
            return ""
        if connection.stage < Stage.READY and now - connection.opened_at > login_s:
            return f"has not opened its connection in {login_s:.0f} s"
        if connection.blocked_since is not None and now - connection.blocked_since > STUCK_S:
            return f"has not read for {STUCK_S:.0f} s"
        if connection.stage is Stage.CLOSING and now - connection.opened_at > CLOSING_S:
            return "does not answer a Close"
        if connection.login.is_expired:
            return "has not renewed its login"
        session = connection.session
        since = None if session is None else session.asked_since
        if since is not None and now - since > ANSWER_S:
            return f"has not answered a ConsumerUpdate in {ANSWER_S:.0f} s"
        return ""


class StreamDoor:
    """Implements `doors.contract.OpenDoor`."""

    def __init__(self, context: DoorContext) -> None:
        self.state = StreamDoorState(context)
        self.is_closing = False
        self._sockets: set[StreamSocket] = set()
        self._loop = asyncio.get_running_loop()
        self._empty = asyncio.Event()
        engine = context.engine
        self._unwatch = (
            engine.watch_topics(self.state.on_topic_change)
            if isinstance(engine, WatchesTopics)
            else lambda: None
        )
        self._sweeper = context.clock.call_later(SWEEP_S, self._sweep)
        context.access.admin.on_user_deleted.append(self._on_user_deleted)

    @property
    def connections(self) -> int:
        return len(self._sockets)

    def accept(self, connection: AcceptedConnection, listener: Listener) -> None:
        accepted = StreamSocket(self, listener, connection)
        self._sockets.add(accepted)
        connection.attach(self._loop, accepted)

    @property
    def http_app(self) -> None:
        return None

    def problems(self) -> Sequence[str]:
        return ()

    def metric_samples(self) -> Iterator[MetricSample]:
        state, name = self.state, "mainstem_rabbitmq_stream_"
        yield f"{name}connections", (), len(self._sockets)
        yield f"{name}publishers", (), state.publishers
        yield f"{name}consumers", (), state.consumers
        yield f"{name}published_total", (), state.published
        yield f"{name}delivered_total", (), state.delivered
        for kind, count in state.context.warnings.counts.items():
            yield f"{name}refusals_total", (kind,), count

    async def drain(self) -> None:
        self.is_closing = True
        for client in list(self._sockets):
            if client.connection is not None:
                client.connection.drain()
        await self._until_empty(DRAIN_S)

    async def _until_empty(self, limit_s: float) -> None:
        """Wait for the end of all connections, but no longer than this."""
        self._empty.clear()
        if self._sockets:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(limit_s):
                    await self._empty.wait()

    async def close(self) -> None:
        self._sweeper.cancel()
        self._unwatch()
        self.state.context.access.admin.on_user_deleted.remove(self._on_user_deleted)
        for client in list(self._sockets):
            client.abort()
        await self._until_empty(CLOSE_S)

    def remove(self, client: StreamSocket) -> None:
        """Forget a connection that has ended."""
        self._sockets.discard(client)
        if not self._sockets:
            self._empty.set()

    def _on_user_deleted(self, name: str) -> None:
        """Disconnect the clients that logged in with the password of this user."""
        for client in list(self._sockets):
            identity = None if client.connection is None else client.connection.login.identity
            if identity is not None and identity.expires_at_ms is None and identity.principal.name == name:
                client.abort()

    def _sweep(self, left: Iterator[StreamSocket] | None = None) -> None:
        """End the connections that have been stuck for too long."""
        clock = self.state.clock
        if left is None:
            left = iter(list(self._sockets))
        now = clock.monotonic()
        login_s = self.state.context.settings.first_request_timeout_ms / 1000
        checked = 0
        for client in islice(left, SWEEP_TURN):
            checked += 1
            if reason := client.close_reason(now, login_s):
                self.state.warn("stuck", f"a client {reason}: connection closed")
                client.abort()
        if checked == SWEEP_TURN:
            self._sweeper = clock.call_later(0, lambda: self._sweep(left))
        else:
            self._sweeper = clock.call_later(SWEEP_S, self._sweep)


async def open_door(context: DoorContext) -> StreamDoor:
    """Create the stream door. The server calls this through `Door.load`."""
    return StreamDoor(context)
