"""Serves the sockets of the stream door.

Owns: one object for each socket, the tasks of its connection, the timeouts of clients that do not log in, do
not read or do not answer, draining at the end. Everything about the protocol is in `connection.py`, which
knows no socket.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from mainstem.door_contract import WatchesTopics
from mainstem.doors.net.client_socket import ClientSocket
from mainstem.doors.net.client_sockets import ClientSockets
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
DRAIN_S = 5.0
CLOSE_S = 1.0


class StreamSocket(ClientSocket, asyncio.Protocol):
    """One accepted socket. Implements `connection.StreamTransport`."""

    def __init__(self, door: StreamDoor, listener: Listener, accepted: AcceptedConnection) -> None:
        super().__init__(accepted)
        self._door = door
        self._listener = listener
        self.connection: StreamClientConnection | None = None

    # --- asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self._door.sockets.is_closing:
            transport.abort()  # type: ignore[attr-defined] # uvloop's and ours are no asyncio.Transport
            return
        self.opened(transport, UNSENT_HIGH_BYTES, UNSENT_LOW_BYTES)
        self.connection = StreamClientConnection(
            self._door.state, self, self._listener, self.peer, self._accepted.principal
        )

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

    def connection_lost(self, error: Exception | None) -> None:
        self._door.sockets.remove(self)
        self.lost()
        if self.connection is not None:
            self.connection.lost()
        for task in self.tasks:
            task.cancel()

    # --- ClientSocket

    def task_failed(self, error: BaseException) -> None:
        if self.connection is not None:
            self.connection.failed(error)

    # --- the door's side

    def end_reason(self, now: float, login_s: float) -> str | None:
        """Why this connection has to end now; None: it may stay."""
        connection = self.connection
        if connection is None:
            return None
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
        return None


class StreamDoor:
    """Implements `doors.contract.OpenDoor`."""

    def __init__(self, context: DoorContext) -> None:
        self.state = StreamDoorState(context)
        self.sockets = ClientSockets[StreamSocket](context.clock, SWEEP_S, self._end_reason, self.state.warn)
        engine = context.engine
        self._unwatch = (
            engine.watch_topics(self.state.on_topic_change)
            if isinstance(engine, WatchesTopics)
            else lambda: None
        )
        context.access.admin.on_user_deleted.append(self._on_user_deleted)

    @property
    def connections(self) -> int:
        return len(self.sockets)

    def accept(self, connection: AcceptedConnection, listener: Listener) -> None:
        self.sockets.accept(connection, StreamSocket(self, listener, connection))

    @property
    def http_app(self) -> None:
        return None

    def problems(self) -> Sequence[str]:
        return ()

    def metric_samples(self) -> Iterator[MetricSample]:
        state, name = self.state, "mainstem_rabbitmq_stream_"
        yield f"{name}connections", (), len(self.sockets)
        yield f"{name}publishers", (), state.publishers
        yield f"{name}consumers", (), state.consumers
        yield f"{name}published_total", (), state.published
        yield f"{name}delivered_total", (), state.delivered
        for kind, count in state.context.warnings.counts.items():
            yield f"{name}refusals_total", (kind,), count

    async def drain(self) -> None:
        self.sockets.is_closing = True
        for client in self.sockets:
            if client.connection is not None:
                client.connection.drain()
        await self.sockets.until_empty(DRAIN_S)

    async def close(self) -> None:
        self._unwatch()
        self.state.context.access.admin.on_user_deleted.remove(self._on_user_deleted)
        self.sockets.abort_all()
        await self.sockets.until_empty(CLOSE_S)

    def _on_user_deleted(self, name: str) -> None:
        """Disconnect the clients that logged in with the password of this user."""
        for client in self.sockets:
            identity = None if client.connection is None else client.connection.login.identity
            if identity is not None and identity.expires_at_ms is None and identity.principal.name == name:
                client.abort()

    def _end_reason(self, client: StreamSocket, now: float) -> str | None:
        return client.end_reason(now, self.state.context.settings.first_request_timeout_ms / 1000)


async def open_door(context: DoorContext) -> StreamDoor:
    """Create the stream door. The server calls this through `Door.load`."""
    return StreamDoor(context)
