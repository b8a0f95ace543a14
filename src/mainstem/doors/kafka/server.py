"""The Kafka door's socket shell.

Owns: listening, accepting, the clocks on silent and stuck connections, draining at the end. Refuses: more
connections than `max.connections` and the process's file limit allow. Everything about the protocol is in
connection.py, which knows no socket. Called by `mainstem.server`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from typing import TYPE_CHECKING

from mainstem.doors.kafka.connection import Connection
from mainstem.doors.kafka.dispatch import Door
from mainstem.doors.kafka.handler import Context, Listener
from mainstem.doors.kafka.handlers import discover
from mainstem.doors.kafka.message import Buffer

if TYPE_CHECKING:
    from mainstem.node import Node

log = logging.getLogger("mainstem.kafka")

UNSENT_HIGH_BYTES = 256 << 10
UNSENT_LOW_BYTES = 64 << 10
"""A client that leaves more than HIGH unread gets no further request started until it has taken all but
LOW."""
STUCK_SECONDS = 30.0
"""So long a client may take less than 64 KB of what waits for it."""
PARTIAL_SECONDS = 60.0
"""So long a frame may stay unfinished without another 64 KB of it."""
SWEEP_SECONDS = 5.0
DRAIN_SECONDS = 10.0
SPARE_FILES = 64
"""Descriptors kept for the log beside those of its segments."""
KEEPALIVE_SECONDS = 60


class SocketLink(asyncio.BufferedProtocol):
    """One accepted socket: bytes to the connection, pieces to the transport."""

    __slots__ = ("_connection", "_listener", "_shell", "_transport", "unsent_bytes")

    def __init__(self, shell: KafkaDoor, listener: Listener) -> None:
        self._shell = shell
        self._listener = listener
        self._transport: asyncio.Transport | None = None
        self._connection: Connection | None = None
        self.unsent_bytes = 0
        """What waited for the client at the last look at a stuck connection."""

    # --- asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "writelines")
        if not self._shell.admits(self):
            transport.abort()  # type: ignore[attr-defined]
            return
        self._transport = transport  # type: ignore[assignment]
        transport.set_write_buffer_limits(UNSENT_HIGH_BYTES, UNSENT_LOW_BYTES)  # type: ignore[attr-defined]
        _tune(transport.get_extra_info("socket"))
        name = transport.get_extra_info("peername")
        peer = f"{name[0]}:{name[1]}" if name else "unknown"
        self._connection = Connection(self._shell.door, self, self._listener, peer)

    def get_buffer(self, sizehint: int) -> memoryview:
        assert self._connection is not None
        return self._connection.space()

    def buffer_updated(self, nbytes: int) -> None:
        assert self._connection is not None
        self._connection.received(nbytes)

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        if self._connection is not None:
            self._connection.sending_blocked()

    def resume_writing(self) -> None:
        if self._connection is not None:
            self._connection.sending_resumed()

    def connection_lost(self, exc: Exception | None) -> None:
        self._shell.forget(self)
        if self._connection is not None:
            self._connection.lost()
        self._connection = self._transport = None

    # --- Link

    def write(self, pieces: list[Buffer]) -> None:
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

    # --- the shell's side

    def abort(self) -> None:
        """Close at once, whatever is unsent."""
        if self._transport is not None:
            self._transport.abort()

    def drain(self) -> None:
        if self._connection is not None:
            self._connection.drain()

    def sweep(self, now: float, idle_seconds: float) -> str | None:
        """Why this connection has to end now, or None."""
        connection, transport = self._connection, self._transport
        if connection is None or transport is None:
            return None
        silent = now - connection.heard_at
        if connection.is_closed:
            return "does not take the end" if silent > STUCK_SECONDS else None
        if connection.blocked_since is not None:
            if now - connection.blocked_since < STUCK_SECONDS:
                return None
            unsent = transport.get_write_buffer_size()
            if self.unsent_bytes and unsent > self.unsent_bytes - UNSENT_LOW_BYTES:
                return f"has not read for {STUCK_SECONDS:.0f} s"
            self.unsent_bytes, connection.blocked_since = unsent, now
            return None
        self.unsent_bytes = 0
        if connection.has_partial_frame and connection.is_idle and silent > PARTIAL_SECONDS:
            return f"has not finished a frame in {PARTIAL_SECONDS:.0f} s"
        if connection.is_idle and silent > idle_seconds:
            return ""
        return None


class KafkaDoor:
    """Serves the Kafka protocol on one or more addresses."""

    def __init__(
        self, node: Node, *, advertised_host: str | None = None, advertised_port: int | None = None
    ) -> None:
        context = Context(node=node)
        self.door = Door(context, discover())
        self._advertised = (advertised_host, advertised_port)
        self._servers: list[asyncio.Server] = []
        self._links: set[SocketLink] = set()
        self._loop = asyncio.get_running_loop()
        self._sweeper: asyncio.TimerHandle | None = None
        self._empty: asyncio.Event | None = None
        """Set when the last connection is gone, while closing."""
        self._most = _most_connections(node.settings.max_connections)

    @property
    def connections(self) -> int:
        """How many there are."""
        return len(self._links)

    async def start(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        sock: socket.socket | None = None,
        name: str = "PLAINTEXT",
    ) -> tuple[str, int]:
        """Listen on an address, or on a socket that is bound already. The bound address. OSError if it is
        in use."""
        if sock is None:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            sock = socket.socket(family, socket.SOCK_STREAM)
            try:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.bind((host, port))
            except OSError:
                sock.close()
                raise
        bound: tuple[str, int] = sock.getsockname()[:2]
        listener = Listener(name, self._advertised[0] or bound[0], self._advertised[1] or bound[1])
        server = await self._loop.create_server(lambda: SocketLink(self, listener), sock=sock, backlog=1024)
        self._servers.append(server)
        if self._sweeper is None:
            self._sweep()
        return bound

    async def close(self) -> None:
        """Accept nobody, finish what is being committed, then close every connection."""
        for server in self._servers:
            server.close()
        if self._sweeper is not None:
            self._sweeper.cancel()
        self._empty = asyncio.Event()
        for link in list(self._links):
            link.drain()
        if self._links:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), DRAIN_SECONDS)
        for link in list(self._links):
            link.abort()
        await asyncio.sleep(0)

    def admits(self, link: SocketLink) -> bool:
        """Whether there is room for one more connection; it is counted."""
        if len(self._links) >= self._most or self._empty is not None:
            self.door.complain("connections", f"{self._most} connections (max.connections): one more refused")
            return False
        self._links.add(link)
        return True

    def forget(self, link: SocketLink) -> None:
        """A connection is gone."""
        self._links.discard(link)
        if self._empty is not None and not self._links:
            self._empty.set()

    def _sweep(self) -> None:
        """End the connections that have been silent or stuck for too long."""
        now = self.door.clock.monotonic()
        idle_seconds = self.door.settings.connections_max_idle_ms / 1000
        for link in list(self._links):
            why = link.sweep(now, idle_seconds)
            if why:
                self.door.complain("stuck", f"a client {why}: connection closed")
            if why is not None:
                link.abort()
        self._sweeper = self._loop.call_later(SWEEP_SECONDS, self._sweep)


def _tune(sock: socket.socket | None) -> None:
    """No delay for small replies; find out when a client's machine has vanished."""
    if sock is None:
        return
    with contextlib.suppress(OSError):  # not a TCP socket, or already gone
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_KEEPIDLE"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_SECONDS)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_SECONDS // 4)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)


def _most_connections(configured: int) -> int:
    """`max.connections`, but never so many that the log finds no descriptor: half of the process's limit is
    the log's."""
    import resource

    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if soft == resource.RLIM_INFINITY:
        return configured
    return max(min(configured, (soft - SPARE_FILES) // 2), 1)
