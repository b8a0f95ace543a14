"""Checks every HTTP request before any route sees it, and adds the security headers to every response.

Owns: those headers, and the response to a request that `doors/net/http_guard.py` forbids. It is one layer
around all routes, so that no new route can miss it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mainstem.doors.http.problem import Problem
from mainstem.doors.net.http_guard import ForbiddenRequest, HttpGuard

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS: dict[str, str] = {
    "content-security-policy": (
        "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
        " font-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
_RAW_HEADERS = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
_NAMES = frozenset(name for name, _ in _RAW_HEADERS)


class GuardedApp:
    """Passes the requests that the guard lets through to the application, and answers the others."""

    def __init__(self, app: ASGIApp, guard: HttpGuard) -> None:
        self._app = app
        self._guard = guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request to the application if the guard allows it, else answer it with the problem. Either
        reply gets the security headers."""
        if scope["type"] != "http":
            return  # no websockets here: the server closes them

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                others = [header for header in message["headers"] if header[0].lower() not in _NAMES]
                message["headers"] = [*others, *_RAW_HEADERS]
            await send(message)

        try:
            self._guard.check(scope["method"], scope["headers"])
        except ForbiddenRequest as error:
            await Problem(error.kind, error.detail).response()(scope, receive, send_with_headers)
        else:
            await self._app(scope, receive, send_with_headers)
