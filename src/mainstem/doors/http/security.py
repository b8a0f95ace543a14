"""Checks every HTTP request before any route sees it, and adds the security headers to every response.

Owns: those headers, that neither a browser nor a proxy stores a response unless its route says so, the
response to a request that `doors/net/http_guard.py` forbids or whose body has no certain end, and the
response if a route fails before it has begun one. It is one layer around all routes, so that no new route can
miss it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from mainstem.doors.http.problem import Problem, from_failure
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
_CACHE = b"cache-control"
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
        has_begun = False

        async def send_with_headers(message: Message) -> None:
            nonlocal has_begun
            if message["type"] == "http.response.start":
                has_begun = True
                others = [header for header in message["headers"] if header[0].lower() not in _NAMES]
                if not any(name.lower() == _CACHE for name, _ in others):
                    others.append((_CACHE, b"no-store"))
                message["headers"] = [*others, *_RAW_HEADERS]
            await send(message)

        try:
            check_framing(scope["http_version"], scope["headers"])
            self._guard.check(scope["method"], scope["headers"])
            await self._app(scope, receive, send_with_headers)
        except Exception as error:
            if has_begun:
                raise
            await _problem_of(error, scope).response()(scope, receive, send_with_headers)


def _problem_of(error: Exception, scope: Scope) -> Problem:
    if isinstance(error, Problem):
        return error
    if isinstance(error, ForbiddenRequest):
        return Problem(error.kind, error.detail)
    return from_failure(error, scope)


def check_framing(http_version: str, headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Raise the problem `bad-request`, which closes the connection, if it is not certain where the body ends:
    a proxy in front may have taken the rest for another request (RFC 9112, 6.1 and 6.3)."""
    names = [name for name, _ in headers if name in (b"content-length", b"transfer-encoding")]
    if b"transfer-encoding" not in names:
        return
    if b"content-length" in names:
        detail = "it has Content-Length beside Transfer-Encoding"
    elif len(names) > 1:
        detail = "its Transfer-Encoding is given twice"
    elif http_version != "1.1":
        detail = f"HTTP/{http_version} has no Transfer-Encoding"
    else:
        return
    raise Problem("bad-request", detail, headers={"connection": "close"})
