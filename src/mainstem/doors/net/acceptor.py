"""Accepts the connections of one listening socket, no more than the limits allow.

Owns: the listening socket, and when connections are accepted. Refuses: an address that has too many
connections already (closed at once, as Apache Kafka does). It accepts none while `max.connections` are open,
beyond the rate `max.connection.creation.rate`, and while the process has no descriptor left: new clients then
wait in the operating system's queue, where they cost nothing.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable

from mainstem.doors.net.limits import ConnectionLimits

BACKLOG = 1024
CONNECTIONS_PER_TURN = 32
"""Number of connections that are accepted at once; then other tasks may run."""
RETRY_SECONDS = 1.0
"""Pause when descriptors or memory are exhausted, unless a connection ends before."""

EXHAUSTED_ERRNOS = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


def is_exhausted(error: BaseException) -> bool:
    """Whether the process or the machine had no descriptors or memory left for what failed; an import may
    have."""
    if isinstance(error, ImportError):  # of a shared library: it has no errno
        return any(os.strerror(number) in str(error) for number in EXHAUSTED_ERRNOS)
    return isinstance(error, OSError) and error.errno in EXHAUSTED_ERRNOS


class Acceptor:
    """One listening socket. `on_accepted` is called with the socket and the client's address of each
    connection; `warn` with the kind and the text of a warning."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        listener: socket.socket,
        limits: ConnectionLimits,
        on_accepted: Callable[[socket.socket, str], None],
        warn: Callable[[str, str], None],
    ) -> None:
        self._loop = loop
        self._listener = listener
        self._limits = limits
        self._on_accepted = on_accepted
        self._warn = warn
        self._timer: asyncio.TimerHandle | None = None
        self._accepting = self._closed = False

    def start(self) -> None:
        """Begin to listen, and accept connections until `close`."""
        self._listener.setblocking(False)
        self._listener.listen(BACKLOG)
        self._limits.on_release(self._on_release)
        self._resume()

    def close(self) -> None:
        """Accept no more, and close the listening socket."""
        self._pause()
        self._closed = True
        self._listener.close()

    def _on_release(self) -> None:
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
        """Accept no connection for some seconds, or until another one ends; None: only until one ends."""
        if self._accepting:
            self._accepting = False
            self._loop.remove_reader(self._listener)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if seconds is None else self._loop.call_later(seconds, self._resume)

    def _accept_some(self) -> None:
        for _ in range(CONNECTIONS_PER_TURN):
            if self._limits.is_full:
                limit = self._limits.max_connections
                self._warn(
                    "connections", f"{limit} connections are open (max.connections): new ones have to wait"
                )
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
                if not is_exhausted(error):
                    continue  # the client has closed the connection already
                self._warn("accept", f"new connections have to wait: {error.strerror}")
                self._pause(RETRY_SECONDS)
                return
            self._admit(sock, name[0])

    def _admit(self, sock: socket.socket, host: str) -> None:
        if not self._limits.has_quota(host):
            self._warn(
                "quota",
                f"{host} connects more often than its connection_creation_rate: one more closed",
            )
            sock.close()
            return
        if not self._limits.admit(host):
            limit = self._limits.max_per_address
            self._warn(
                "address", f"{limit} connections from {host} (max.connections.per.ip): one more refused"
            )
            sock.close()
            return
        sock.setblocking(False)
        self._on_accepted(sock, host)
