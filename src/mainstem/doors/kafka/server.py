"""The Kafka door's socket shell.

Owns: the sockets, the clocks on silent and stuck connections, draining at the end. Refuses: to wait for ever
for a request, for the rest of one, or for a client to take its replies. How many may come is decided in
net/acceptor.py; everything about the protocol is in connection.py, which knows no socket. Called by
`mainstem.serve.server`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

from mainstem.doors.kafka.connection import KafkaConnection
from mainstem.doors.kafka.dispatch import Dispatcher
from mainstem.doors.kafka.handler import AdvertisedListener, HandlerContext
from mainstem.doors.kafka.handlers import discover
from mainstem.doors.net.acceptor import Acceptor
from mainstem.doors.net.limits import ConnectionLimits
from mainstem.kafka_protocol.message import Buffer

if TYPE_CHECKING:
    from mainstem.node import Node

log = logging.getLogger("mainstem.kafka")

UNSENT_HIGH_BYTES = 256 << 10
UNSENT_LOW_BYTES = 64 << 10
"""A client that leaves more than HIGH unread gets no further request started until it has taken all but
LOW."""
STUCK_SECONDS = 30.0
"""So long a client may take less than 64 KB of what waits for it."""
UNSENT_ALL_BYTES = 256 << 20
"""What all clients together may leave unread; beyond it, who made it more is closed."""
PARTIAL_SECONDS = 60.0
PRESSED_SECONDS = 10.0
"""So long a frame may stay unfinished without another 64 KB of it; PRESSED: if others wait for memory, and
it holds much."""
PROGRESS_BYTES = 64 << 10
SWEEP_SECONDS = 5.0
SWEEP_TURN = 500
"""Connections that are looked at before everything else has its turn."""
DRAIN_SECONDS = 10.0
SPARE_FILES = 64
"""Descriptors kept for the log beside those of its segments."""
KEEPALIVE_SECONDS = 60


class KafkaSocket(asyncio.BufferedProtocol):
    """One accepted socket: bytes to the connection, pieces to the transport."""

    __slots__ = (
        "_address",
        "_connection",
        "_door",
        "_listener",
        "_transport",
        "accepted_at",
        "progress",
        "stalled_since",
        "unsent",
    )

    def __init__(self, door: KafkaDoor, listener: AdvertisedListener, address: str) -> None:
        self._door = door
        self._listener = listener
        self._address = address
        self._transport: asyncio.Transport | None = None
        self._connection: KafkaConnection | None = None
        self.accepted_at = self.stalled_since = door.dispatcher.clock.monotonic()
        self.unsent: tuple[float, int] = (0.0, 0)
        """Since when it has taken too little, and how much waited for it when that was seen first."""
        self.progress: tuple[float, int] = (0.0, 0)
        """When the last whole frame had come and how much of the next one, when it last was noticeably
        more."""

    @property
    def address(self) -> str:
        """Where the client is, without its port."""
        return self._address

    # --- asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "writelines")
        if self._door.is_closing:
            transport.abort()  # type: ignore[attr-defined]
            return
        self._transport = transport  # type: ignore[assignment]
        transport.set_write_buffer_limits(UNSENT_HIGH_BYTES, UNSENT_LOW_BYTES)  # type: ignore[attr-defined]
        _tune(transport.get_extra_info("socket"))
        name = transport.get_extra_info("peername")
        peer = f"{name[0]}:{name[1]}" if name else "unknown"
        self._connection = KafkaConnection(self._door.dispatcher, self, self._listener, peer)

    def get_buffer(self, sizehint: int) -> memoryview:
        assert self._connection is not None
        return self._connection.receive_buffer()

    def buffer_updated(self, nbytes: int) -> None:
        assert self._connection is not None
        self._connection.received(nbytes)

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        if self._connection is not None and self._transport is not None:
            self._connection.sending_blocked()
            self._door.note_unsent(self, self._transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        self._door.note_unsent(self, 0)
        if self._connection is not None:
            self._connection.sending_resumed()

    def connection_lost(self, exc: Exception | None) -> None:
        self._door.remove(self)
        if self._connection is not None:
            self._connection.lost()
        self._connection = self._transport = None

    # --- KafkaTransport

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

    def close_reason(self, now: float) -> str | None:
        """Why this connection has to end now, or None; empty: it was silent, which is no complaint."""
        connection = self._connection
        if connection is None:
            return None
        silent = now - connection.last_activity_at
        if connection.is_closed:
            return "does not take the end" if silent > STUCK_SECONDS else None
        if connection.blocked_since is not None:
            return self._unread_reason(connection, connection.blocked_since, now)
        settings = self._door.dispatcher.settings
        if (
            not connection.has_sent_request
            and now - self.accepted_at > settings.first_request_timeout_ms / 1000
        ):
            began = connection.partial_frame_bytes is not None
            return f"has sent no request in {settings.first_request_timeout_ms} ms" if began else ""
        stalled = self._stalled_reason(connection, now)
        if stalled is None and connection.is_idle and silent > settings.connections_max_idle_ms / 1000:
            return ""
        return stalled

    def _unread_reason(self, connection: KafkaConnection, since: float, now: float) -> str | None:
        """Of a client that does not take what is sent to it."""
        assert self._transport is not None
        unsent = self._transport.get_write_buffer_size()
        seen_since, before = self.unsent
        if seen_since != since:
            self.unsent = since, unsent
        elif now - since >= STUCK_SECONDS:
            if unsent > before - UNSENT_LOW_BYTES:
                return f"has not read for {STUCK_SECONDS:.0f} s"
            connection.blocked_since, self.unsent = now, (now, unsent)
        return None

    def _stalled_reason(self, connection: KafkaConnection, now: float) -> str | None:
        """Of a client that has begun a frame."""
        there, enough = connection.partial_frame_bytes, PROGRESS_BYTES
        if there is None and self._door.dispatcher.receiving.is_contended:
            there, enough = connection.held_bytes or None, 1  # it waits for room, and keeps others from it
        heard_at, before = self.progress
        if there is None or connection.last_activity_at != heard_at or there >= before + enough:
            if there is not None and there >= before + enough:
                connection.last_activity_at = now
            self.progress, self.stalled_since = (connection.last_activity_at, there or 0), now
            return None
        if connection.partial_frame_bytes is None or now - self.stalled_since < PARTIAL_SECONDS:
            return None
        return f"has not finished a frame in {PARTIAL_SECONDS:.0f} s"

    def unused_memory_bytes(self, now: float) -> int:
        """What it holds of the memory that others wait for, if it has made no use of it for a while."""
        if self._connection is None or now - self.stalled_since < PRESSED_SECONDS:
            return 0
        return self._connection.held_bytes


class KafkaDoor:
    """Serves the Kafka protocol on one or more addresses."""

    def __init__(
        self, node: Node, *, advertised_host: str | None = None, advertised_port: int | None = None
    ) -> None:
        context = HandlerContext(node=node)
        self.dispatcher = Dispatcher(context, discover())
        self._advertised = (advertised_host, advertised_port)
        self._acceptors: list[Acceptor] = []
        self._sockets: set[KafkaSocket] = set()
        self._unsent: dict[KafkaSocket, int] = {}
        self._unsent_bytes = 0
        self._loop = asyncio.get_running_loop()
        self._sweeper: asyncio.TimerHandle | None = None
        self._empty: asyncio.Event | None = None
        """Set when the last connection is gone, while closing."""
        settings = node.settings
        self._limits = ConnectionLimits(
            self.dispatcher.clock,
            _most_connections(settings.max_connections),
            settings.max_connections_per_ip,
            settings.max_connection_creation_rate,
        )

    @property
    def connections(self) -> int:
        """How many there are."""
        return len(self._sockets)

    def samples(self) -> Iterator[tuple[str, tuple[str, ...], float]]:
        """What this door tells of itself: names of metrics, values of their labels, numbers."""
        yield "kafka_server_socket_server_metrics_connection_count", (), len(self._sockets)
        for kind, count in self.dispatcher.refusals.items():
            yield "mainstem_kafka_refusals_total", (kind,), count

    @property
    def is_closing(self) -> bool:
        """Nobody is let in any more."""
        return self._empty is not None

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
        listener = AdvertisedListener(name, self._advertised[0] or bound[0], self._advertised[1] or bound[1])

        def link(address: str) -> KafkaSocket:
            made = KafkaSocket(self, listener, address)
            self._sockets.add(made)
            return made

        acceptor = Acceptor(self._loop, sock, self._limits, link, self.dispatcher.warn_rate_limited)
        acceptor.start()
        self._acceptors.append(acceptor)
        if self._sweeper is None:
            self._sweep()
        return bound

    async def close(self) -> None:
        """Accept nobody, finish what is being committed, then close every connection."""
        for acceptor in self._acceptors:
            acceptor.close()
        if self._sweeper is not None:
            self._sweeper.cancel()
        self._empty = asyncio.Event()
        for link in list(self._sockets):
            link.drain()
        if self._sockets:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), DRAIN_SECONDS)
        for link in list(self._sockets):
            link.abort()
        await asyncio.sleep(0)

    def remove(self, link: KafkaSocket) -> None:
        """A connection is gone."""
        if link not in self._sockets:
            return
        self._sockets.discard(link)
        self.note_unsent(link, 0)
        self._limits.release(link.address)
        for acceptor in self._acceptors:
            acceptor.on_connection_closed()
        if self._empty is not None and not self._sockets:
            self._empty.set()

    def note_unsent(self, link: KafkaSocket, count: int) -> None:
        """A client leaves so many bytes unread, now that it has stopped to read (or reads again: 0)."""
        self._unsent_bytes += count - self._unsent.pop(link, 0)
        if count:
            self._unsent[link] = count
            if self._unsent_bytes > UNSENT_ALL_BYTES:
                self.dispatcher.warn_rate_limited(
                    "unsent", "too much is unread by all clients together: connection closed"
                )
                self._loop.call_soon(link.abort)

    def _sweep(self, left: Iterator[KafkaSocket] | None = None) -> None:
        """End the connections that have been silent or stuck for too long."""
        if left is None:
            self.dispatcher.log_suppressed()
            left = iter(list(self._sockets))
        now = self.dispatcher.clock.monotonic()
        looked = 0
        for link in islice(left, SWEEP_TURN):
            looked += 1
            why = link.close_reason(now)
            if why:
                self.dispatcher.warn_rate_limited("stuck", f"a client {why}: connection closed")
            if why is not None:
                link.abort()
        if looked == SWEEP_TURN:
            self._sweeper = self._loop.call_later(0, self._sweep, left)
        else:
            self._relieve()
            self._sweeper = self._loop.call_later(SWEEP_SECONDS, self._sweep)

    def _relieve(self) -> None:
        """If some wait for memory: end the connections that hold much of it and make no use of it."""
        receiving = self.dispatcher.receiving
        if not receiving.is_contended:
            return
        now = self.dispatcher.clock.monotonic()
        hogs = sorted(
            ((link.unused_memory_bytes(now), id(link), link) for link in self._sockets), reverse=True
        )
        left = receiving.used_bytes
        for held, _, link in hogs:
            if not held or left <= receiving.max_bytes // 2:
                break
            left -= held
            self.dispatcher.warn_rate_limited(
                "memory", "a client holds memory for a frame and sends no more: connection closed"
            )
            link.abort()


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
