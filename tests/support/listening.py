"""A door behind one listening socket, as `mainstem.serve.listeners` puts it there, without the rest of a
server."""

from __future__ import annotations

import asyncio
import logging
import socket

from mainstem.clock import Clock
from mainstem.doors.contract import Listener, OpenDoor
from mainstem.doors.net.accepted import AcceptedConnection
from mainstem.doors.net.acceptor import Acceptor
from mainstem.doors.net.address import HostPort
from mainstem.doors.net.limits import ConnectionLimits, connections_within_descriptors
from mainstem.doors.net.security import SecurityProtocol
from mainstem.doors.net.warning_log import WarningLog
from mainstem.settings import Settings


class ListeningDoor:
    """Connections to `address` go to the door, within the limits of the settings."""

    def __init__(
        self,
        door: OpenDoor,
        clock: Clock,
        settings: Settings | None = None,
        *,
        sock: socket.socket | None = None,
        advertised: tuple[str, int] | None = None,
        warnings: WarningLog | None = None,
        security: SecurityProtocol = SecurityProtocol.PLAINTEXT,
        mechanisms: tuple[str, ...] = (),
    ) -> None:
        settings = settings or Settings()
        self.door = door
        self.limits = ConnectionLimits(
            clock,
            connections_within_descriptors(settings.max_connections),
            settings.max_connections_per_ip,
            settings.max_connection_creation_rate,
        )
        if sock is None:
            # With its protocol named: only on such sockets asyncio sets TCP_NODELAY.
            sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
            sock.bind(("127.0.0.1", 0))
        bound = HostPort.of(sock)
        self.address = (bound.host, bound.port)
        listener = Listener(
            name=security.name,
            address=bound,
            advertised=bound if advertised is None else HostPort(*advertised),
            doors=("door",),
            security=security,
            mechanisms=mechanisms,
        )
        warnings = warnings or WarningLog(clock, logging.getLogger("mainstem.kafka"))
        self._acceptor = Acceptor(
            asyncio.get_running_loop(),
            sock,
            self.limits,
            lambda accepted, host: door.accept(AcceptedConnection(accepted, host, self.limits), listener),
            warnings.warn,
        )
        self._acceptor.start()

    async def close(self) -> None:
        """Accept no more, and close the door."""
        self._acceptor.close()
        await self.door.drain()
        await self.door.close()
