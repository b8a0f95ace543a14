"""Accepting connections, no more than there is room for.

Owns: one listening socket, and when it is looked at. Refuses: an address that has too many connections
already (closed at once, as Apache Kafka does). It does not accept while there are `max.connections`, faster
than `max.connection.creation.rate`, or while the process has no descriptor left: who comes then waits in the
queue of the operating system, and costs nothing. Called by server.py.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable

from mainstem.doors.net.limits import ConnectionLimits

BACKLOG = 1024
TURN = 32
"""Connections that are accepted before everything else has its turn."""
RETRY_SECONDS = 1.0
"""When descriptors or memory are gone, so long nothing is accepted, unless a connection ends before."""

_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class Acceptor:
    """One listening address. `make` gives the protocol of a connection from an address; `complain` takes the
    kind and the text of a line for the log."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        listener: socket.socket,
        limits: ConnectionLimits,
        make: Callable[[str], asyncio.BaseProtocol],
        warn: Callable[[str, str], None],
    ) -> None:
        self._loop = loop
        self._listener = listener
        self._limits = limits
        self._make = make
        self._warn = warn
        self._timer: asyncio.TimerHandle | None = None
        self._accepting = self._closed = False
        self._starting: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Listen and accept."""
        self._listener.setblocking(False)
        self._listener.listen(BACKLOG)
        self._resume()

    def close(self) -> None:
        """Listen no more."""
        self._pause()
        self._closed = True
        self._listener.close()

    def on_connection_closed(self) -> None:
        """A connection is gone: whoever waits for its room may come."""
        if not self._accepting:
            self._resume()

    def _resume(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._closed and not self._accepting:
            self._accepting = True
            self._loop.add_reader(self._listener, self._accept_some)

    def _pause(self, seconds: float | None = None) -> None:
        """Accept nobody, for so long or until a connection is gone."""
        if self._accepting:
            self._accepting = False
            self._loop.remove_reader(self._listener)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if seconds is None else self._loop.call_later(seconds, self._resume)

    def _accept_some(self) -> None:
        for _ in range(TURN):
            if self._limits.is_full:
                most = self._limits.max_connections
                self._warn("connections", f"{most} connections (max.connections): more have to wait")
                self._pause()
                return
            wait_s = self._limits.delay_s()
            if wait_s:
                self._pause(wait_s)
                return
            try:
                sock, name = self._listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    continue  # that client is gone already
                self._warn("accept", f"connections have to wait: {error.strerror}")
                self._pause(RETRY_SECONDS)
                return
            self._admit(sock, name[0])

    def _admit(self, sock: socket.socket, address: str) -> None:
        if not self._limits.admit(address):
            most = self._limits.max_per_address
            self._warn(
                "address", f"{most} connections from {address} (max.connections.per.ip): one more refused"
            )
            sock.close()
            return
        sock.setblocking(False)
        task = self._loop.create_task(self._connect(sock, address))
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)

    async def _connect(self, sock: socket.socket, address: str) -> None:
        protocol = self._make(address)
        try:
            await self._loop.connect_accepted_socket(lambda: protocol, sock)
        except OSError:  # gone before it began
            sock.close()
            protocol.connection_lost(None)
