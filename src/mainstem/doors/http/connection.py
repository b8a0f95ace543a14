"""One connection of the HTTP door: whose requests it brings, and problems in the place of refused ones.

Owns: the peer of each connection. Refuses: what `doors/net/http_connection.py` refuses; it has the deadlines.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec

from mainstem.doors.http.problem import Problem
from mainstem.doors.http.requesters import PEER_KEY, HttpPeer
from mainstem.doors.http.security import HEADERS
from mainstem.doors.net.http_connection import (
    BoundedHttpConnection,
    HttpRefusal,
    RefusalKind,
    UnreadResponses,
)
from mainstem.http_api.problems import MEDIA_TYPE

if TYPE_CHECKING:
    from mainstem.clock import Clock
    from mainstem.doors.contract import Listener
    from mainstem.doors.net.accepted import AcceptedConnection


class HttpConnection(BoundedHttpConnection):
    """One client's connection to the HTTP door."""

    def __init__(
        self,
        clock: Clock,
        unread: UnreadResponses,
        accepted: AcceptedConnection,
        listener: Listener,
        **protocol_arguments: Any,
    ) -> None:
        self.peer = HttpPeer(host=accepted.host, listener=listener, abort=self.abort)
        super().__init__(clock, unread, accepted, app_state={PEER_KEY: self.peer}, **protocol_arguments)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Called by asyncio when a client has connected."""
        self.peer.principal = self._accepted.principal
        self.peer.writes.begin(transport)
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio when the connection is closed."""
        self.peer.writes.on_lost()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Called by asyncio when the client does not read what was written."""
        self.peer.writes.on_pause()
        super().pause_writing()

    def resume_writing(self) -> None:
        """Called by asyncio when the client has read it."""
        self.peer.writes.on_resume()
        super().resume_writing()

    def refusal(self, kind: RefusalKind, detail: str) -> HttpRefusal:
        """The problem of this kind."""
        problem = Problem(kind, detail)
        headers = {"content-type": MEDIA_TYPE, "cache-control": "no-store", **HEADERS}
        return HttpRefusal(problem.status, headers, msgspec.json.encode(problem.members()))
