"""A connection that a listener accepted, on its way to the door that serves it.

Owns: the socket until a protocol is attached to it, who its client is before it logs in, and the connection's
place in the limits until it ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable

from mainstem.access_contract import ANONYMOUS, Principal
from mainstem.doors.net.limits import ConnectionLimits
from mainstem.doors.net.tls import ServerTls
from mainstem.doors.net.tls_transport import TlsTransport

_attaching: set[asyncio.Task[None]] = set()
"""Tasks whose only other reference is the loop's weak one."""


def _not_logged(kind: str, text: str) -> None:
    """A warning that is for no log."""


class AcceptedConnection:
    """One connection. It counts against the limits until `closed` is called. With `tls` it is encrypted;
    `warn` is then called with the kind and the text of a warning about a client."""

    __slots__ = ("_limits", "_socket", "_tls", "_warn", "host", "principal")

    def __init__(
        self,
        sock: socket.socket,
        host: str,
        limits: ConnectionLimits,
        default_principal: Principal = ANONYMOUS,
        tls: ServerTls | None = None,
        warn: Callable[[str, str], None] = _not_logged,
    ) -> None:
        self._socket: socket.socket | None = sock
        self._limits: ConnectionLimits | None = limits
        self._tls = tls
        self._warn = warn
        self.principal = default_principal
        """Who the client is before it logs in, known from the protocol's `connection_made` on: the user whom
        its certificate names, else the default principal of the listener."""
        self.host = host
        """The client's address, without its port."""

    @property
    def socket(self) -> socket.socket:
        """The socket, until a protocol is attached."""
        assert self._socket is not None, "a protocol has the socket"
        return self._socket

    def attach(self, loop: asyncio.AbstractEventLoop, protocol: asyncio.BaseProtocol) -> None:
        """Let `protocol` serve the socket, after the handshake if there is TLS. If the client has closed the
        connection by then, or is refused, `protocol.connection_lost` is called and `connection_made` is
        not."""
        sock, self._socket = self.socket, None
        if self._tls is not None:
            protocol = TlsTransport(
                self._tls, protocol, self.host, self.principal, self._set_principal, self._warn
            )
        task = loop.create_task(_attach(loop, sock, protocol))
        _attaching.add(task)
        task.add_done_callback(_attaching.discard)

    def _set_principal(self, principal: Principal) -> None:
        self.principal = principal

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
