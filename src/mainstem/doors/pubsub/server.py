"""Serves the sockets of the Pub/Sub door.

Owns: one object for each socket, which protocol it speaks, the timeouts of clients that do not begin, do not
read, or are gone, and draining at the end. Refuses: what is not HTTP. Everything about HTTP/2 is in
`grpc_connection.py` and below, which know no socket; sockets of HTTP/1.1 are passed to `http1.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from mainstem.doors.net.client_socket import ClientSocket
from mainstem.doors.net.client_sockets import ClientSockets
from mainstem.doors.net.limits import MemoryBudget
from mainstem.doors.pubsub.callers import Callers, ConnectionCaller
from mainstem.doors.pubsub.calls import Code, RpcError, RpcMethod
from mainstem.doors.pubsub.dispatcher import MethodDispatcher
from mainstem.doors.pubsub.first_bytes import is_http1
from mainstem.doors.pubsub.grpc_connection import GrpcConnection
from mainstem.doors.pubsub.http1 import Http1Side
from mainstem.doors.pubsub.services import all_methods, rest_app

if TYPE_CHECKING:
    from mainstem.doors.contract import DoorContext, Listener, MetricSample
    from mainstem.doors.net.accepted import AcceptedConnection

UNSENT_HIGH_BYTES = 512 << 10
UNSENT_LOW_BYTES = 128 << 10
MESSAGES_MAX_BYTES = 256 << 20
"""Memory of all messages that are coming in."""
STUCK_S = 60.0
"""A client that leaves what it is sent unread for this long is disconnected."""
SILENT_S = 60.0
"""A client that sends nothing for this long is asked whether it is there."""
GONE_S = 90.0
"""One that does not answer is disconnected when it has been silent for this long."""
CLOSING_S = 10.0
"""How long a connection that is to end may take for it."""
SWEEP_S = 5.0
NOTICE_S = 1.0
"""How long the answer of clients to the notice that the server stops is waited for."""
DRAIN_S = 5.0
CLOSE_S = 1.0


class PubsubSocket(ClientSocket, asyncio.Protocol):
    """One accepted socket. Implements `grpc_connection.ConnectionSocket`."""

    def __init__(self, door: PubsubDoor, listener: Listener, accepted: AcceptedConnection) -> None:
        super().__init__(accepted)
        self._door = door
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._will_flush = self._was_asked = False
        self._opened_at = self._received_at = door.context.clock.monotonic()
        self._blocked_since: float | None = None
        self._ends_since: float | None = None
        self._first_bytes = b""
        self.connection: GrpcConnection | None = None
        """None: too little has come to know the protocol."""

    # --- asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        door = self._door
        if door.sockets.is_closing:
            transport.abort()  # type: ignore[attr-defined] # uvloop's and ours are no asyncio.Transport
            return
        self.opened(transport, UNSENT_HIGH_BYTES, UNSENT_LOW_BYTES)

    def data_received(self, data: bytes) -> None:
        self._received_at = self._door.context.clock.monotonic()
        self._was_asked = False
        if self.connection is not None:
            self.connection.received(data)
        else:
            self._begin(self._first_bytes + data)

    def _begin(self, data: bytes) -> None:
        """These are the first bytes: see which protocol it is."""
        verdict, transport = is_http1(data), self._transport
        if verdict is None or transport is None:
            self._first_bytes = data
            return
        door = self._door
        if verdict:
            self._transport = None
            door.sockets.remove(self)
            door.http1.take(transport, self._listener, self._accepted, data)
            return
        self.connection = GrpcConnection(
            self,
            door.dispatcher,
            door.context.clock,
            door.budget,
            ConnectionCaller(door.callers, self._listener, self._accepted.host, self._accepted.principal),
            self.peer,
        )
        self.connection.received(data)

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        self._door.sockets.note_unsent(self, self.unsent_bytes())
        self._blocked_since = self._door.context.clock.monotonic()
        if self.connection is not None:
            self.connection.set_blocked(True)

    def resume_writing(self) -> None:
        self._door.sockets.note_unsent(self, 0)
        self._blocked_since = None
        if self.connection is not None:
            self.connection.set_blocked(False)

    def connection_lost(self, exc: Exception | None) -> None:
        self._door.sockets.remove(self)
        self.lost()
        if self.connection is not None:
            self.connection.lost()

    # --- ConnectionSocket

    def flush_soon(self) -> None:
        if not self._will_flush:
            self._will_flush = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._will_flush = False
        if self.connection is not None and self._transport is not None:
            self.connection.flush()

    def warn(self, kind: str, text: str) -> None:
        self._door.context.warnings.warn(kind, text)

    # --- the door's side

    def end_reason(self, now: float, first_s: float, idle_s: float) -> str | None:
        """Why this connection has to end now; None: it may stay."""
        connection = self.connection
        if connection is None:
            return f"has not begun in {first_s:.0f} s" if now - self._opened_at > first_s else None
        http2, silent_s = connection.http2, now - self._received_at
        if http2.is_over or http2.is_draining:
            if self._ends_since is None:
                self._ends_since = now
            return "" if now - self._ends_since > CLOSING_S and not http2.streams else None
        if not http2.is_greeted:
            return f"has not begun in {first_s:.0f} s" if now - self._opened_at > first_s else None
        if self._blocked_since is not None and now - self._blocked_since > STUCK_S:
            return f"has not read for {STUCK_S:.0f} s"
        if silent_s > GONE_S and self._was_asked:
            return ""
        if not http2.streams and silent_s > idle_s:
            connection.drain()
        elif silent_s > SILENT_S and not self._was_asked:
            self._was_asked = True
            http2.ping()
            self.flush_soon()
        return None


class PubsubDoor:
    """Implements `doors.contract.OpenDoor`."""

    def __init__(self, context: DoorContext, methods: Mapping[str, RpcMethod]) -> None:
        self.context = context
        self.dispatcher = MethodDispatcher(context, methods)
        self.callers = Callers(context.access, context.clock)
        self.budget = MemoryBudget(context.clock, MESSAGES_MAX_BYTES)
        settings = context.settings
        first_s, idle_s = settings.first_request_timeout_ms / 1000, settings.connections_max_idle_ms / 1000
        self.sockets = ClientSockets[PubsubSocket](
            context.clock,
            SWEEP_S,
            lambda client, now: client.end_reason(now, first_s, idle_s),
            context.warnings.warn,
        )
        self.http1 = Http1Side(context, self.callers, rest_app(context, self.dispatcher))
        context.access.admin.on_user_deleted.append(self._on_user_deleted)

    @property
    def connections(self) -> int:
        return len(self.sockets) + len(self.http1)

    def accept(self, connection: AcceptedConnection, listener: Listener) -> None:
        self.sockets.accept(connection, PubsubSocket(self, listener, connection))

    @property
    def http_app(self) -> None:
        return None

    def problems(self) -> Sequence[str]:
        return ()

    def metric_samples(self) -> Iterator[MetricSample]:
        yield "mainstem_pubsub_connections", (), self.connections
        running = sum(
            len(client.connection.calls) for client in self.sockets if client.connection is not None
        )
        yield "mainstem_pubsub_calls_running", (), running
        for (path, code), count in self.dispatcher.counts.items():
            yield "mainstem_pubsub_calls_total", (path.rpartition("/")[2], code.name), count
        for kind, count in self.context.warnings.counts.items():
            yield "mainstem_pubsub_refusals_total", (kind,), count

    async def drain(self) -> None:
        self.sockets.is_closing = True
        for client in self.sockets:
            if client.connection is not None:
                client.connection.drain()
            else:
                client.abort()
        await asyncio.gather(self._drain_sockets(), self.http1.drain())

    async def _drain_sockets(self) -> None:
        await self.sockets.until_empty(NOTICE_S)
        for client in self.sockets:
            if client.connection is not None:
                client.connection.http2.end_draining()
        await self.sockets.until_empty(DRAIN_S)

    async def close(self) -> None:
        self.context.access.admin.on_user_deleted.remove(self._on_user_deleted)
        self.sockets.stop_sweeping()
        for client in self.sockets:
            if client.connection is not None:
                client.connection.stop_calls()
        await self.sockets.until_empty(CLOSE_S)
        self.sockets.abort_all()
        await self.http1.drain()
        await self.sockets.until_empty(CLOSE_S)

    def _on_user_deleted(self, name: str) -> None:
        """End the calls of this user, and check credentials anew."""
        self.callers.changes += 1
        for client in self.sockets:
            if client.connection is None:
                continue
            for call in list(client.connection.calls):
                if call.call.requester.principal.name == name:
                    call.finish(RpcError(Code.UNAUTHENTICATED, "the user was deleted"))


async def open_door(context: DoorContext) -> PubsubDoor:
    """Create the Pub/Sub door. The server calls this through `Door.load`."""
    door = PubsubDoor(context, all_methods(context))
    await door.http1.start()
    return door
