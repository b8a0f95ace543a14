"""A connection that a listener accepted, on its way to the door that serves it.

Owns: the socket until a protocol is attached to it, and the connection's place in the limits until it ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket

from mainstem.doors.net.limits import ConnectionLimits

_attaching: set[asyncio.Task[None]] = set()
"""Tasks whose only other reference is the loop's weak one."""


class AcceptedConnection:
    """One connection. It counts against the limits until `closed` is called."""

    __slots__ = ("_limits", "_socket", "host")

    def __init__(self, sock: socket.socket, host: str, limits: ConnectionLimits) -> None:
        self._socket: socket.socket | None = sock
        self._limits: ConnectionLimits | None = limits
        self.host = host
        """The client's address, without its port."""

    @property
    def socket(self) -> socket.socket:
        """The socket, until a protocol is attached."""
        assert self._socket is not None, "a protocol has the socket"
        return self._socket

    def attach(self, loop: asyncio.AbstractEventLoop, protocol: asyncio.BaseProtocol) -> None:
        """Let `protocol` serve the socket. If the client has closed the connection by then,
        `protocol.connection_lost` is called and `connection_made` is not."""
        sock, self._socket = self.socket, None
        task = loop.create_task(_attach(loop, sock, protocol))
        _attaching.add(task)
        task.add_done_callback(_attaching.discard)

    def refuse(self) -> None:
        """Close the connection without serving it."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.close()
            self._socket = None
        self.closed()

    def closed(self) -> None:
        """Record that the connection has ended, which frees its place in the limits. Idempotent."""
        limits, self._limits = self._limits, None
        if limits is not None:
            limits.release(self.host)


async def _attach(
    loop: asyncio.AbstractEventLoop, sock: socket.socket, protocol: asyncio.BaseProtocol
) -> None:
    try:
        await loop.connect_accepted_socket(lambda: protocol, sock)
    except OSError:  # the client is gone already
        sock.close()
        protocol.connection_lost(None)
