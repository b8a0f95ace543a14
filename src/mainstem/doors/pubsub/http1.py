"""HTTP/1.1 at the door's address, beside HTTP/2: the REST form of the API, and the health check of emulators.

Owns: the connections, and what is checked before the API: names of the server, pages of other sites, `GET /`.
Refuses: what `doors/net/http_connection.py` and `doors/net/http_guard.py` refuse, in Google's form of an
error.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from mainstem.doors.net.http_connection import (
    BoundedHttpConnection,
    HttpRefusal,
    RefusalKind,
    UnreadResponses,
)
from mainstem.doors.net.http_guard import ForbiddenRequest, HttpGuard
from mainstem.doors.net.http_server import UvicornServer, uvicorn_config
from mainstem.doors.pubsub.callers import Callers, ConnectionCaller
from mainstem.doors.pubsub.calls import Code

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from mainstem.doors.contract import DoorContext, HttpApp, Listener
    from mainstem.doors.net.accepted import AcceptedConnection

CALLER_KEY = "pubsub_caller"
"""Where the state of a request has its `ConnectionCaller`, which says who sends it."""
HEALTHY = b"Ok\n"
"""What Google's emulator answers to `GET /`: programs that start it in a container wait for that."""
STATUS_OF_KIND: dict[RefusalKind, tuple[int, Code]] = {
    "crowded": (503, Code.UNAVAILABLE),
    "slow-request": (408, Code.DEADLINE_EXCEEDED),
    "head-too-large": (431, Code.INVALID_ARGUMENT),
    "bad-request": (400, Code.INVALID_ARGUMENT),
}


def error_body(status: int, code: Code, message: str) -> bytes:
    """Google's JSON of an error."""
    return msgspec.json.encode({"error": {"code": status, "message": message, "status": code.name}})


class PubsubHttpConnection(BoundedHttpConnection):
    """One client's connection of HTTP/1.1."""

    def refusal(self, kind: RefusalKind, detail: str) -> HttpRefusal:
        status, code = STATUS_OF_KIND[kind]
        return HttpRefusal(status, {"content-type": "application/json"}, error_body(status, code, detail))


class Http1Side:
    """Serves the connections of the door that speak HTTP/1.1. `rest` answers what is not `/`; None: there is
    nothing else."""

    def __init__(self, context: DoorContext, callers: Callers, rest: HttpApp | None) -> None:
        self._clock = context.clock
        self._callers = callers
        self._rest = rest
        addresses = [listener.address for listener in context.listeners]
        names = [address.host for address in addresses]
        names += context.settings.door_values["http_hosts"].replace(",", " ").split()
        self._guard = HttpGuard(names, any_address=not all(address.is_loopback for address in addresses))
        self._unread = UnreadResponses(context.warnings)
        self._config = uvicorn_config(self)
        self._server = UvicornServer(self._config)
        self._serving: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        """Number of open connections."""
        return len(self._server.server_state.connections)

    async def start(self) -> None:
        """Begin to serve. Afterwards `take` may be called."""
        self._serving = await self._server.start("pubsub http")

    def take(
        self, transport: asyncio.Transport, listener: Listener, accepted: AcceptedConnection, data: bytes
    ) -> None:
        """Serve a connection on which these bytes have come."""
        caller = ConnectionCaller(self._callers, listener, accepted.host, accepted.principal)
        protocol = PubsubHttpConnection(
            self._clock,
            self._unread,
            accepted,
            config=self._config,
            server_state=self._server.server_state,
            app_state={CALLER_KEY: caller},
        )
        transport.set_write_buffer_limits()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        protocol.data_received(data)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI application."""
        if scope["type"] != "http":
            return
        media = b"application/json"
        try:
            self._guard.check(scope["method"], scope["headers"])
        except ForbiddenRequest as error:
            status, body = 403, error_body(403, Code.PERMISSION_DENIED, error.detail)
        else:
            if scope["path"] == "/" and scope["method"] in ("GET", "HEAD"):
                status, body, media = 200, HEALTHY, b"text/plain; charset=utf-8"
            elif self._rest is not None:
                await self._rest(scope, receive, send)
                return
            else:
                status, body = 404, error_body(404, Code.NOT_FOUND, f"there is no {scope['path']}")
        headers = [(b"content-type", media), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        is_head = scope["method"] == "HEAD"
        await send({"type": "http.response.body", "body": b"" if is_head else body})

    async def drain(self) -> None:
        """Take no new requests, and wait some seconds for those in progress."""
        self._server.stop.set()
        if self._serving is not None:
            await self._serving
            self._serving = None
