"""Who may ask at all, checked before any route: Host, Origin, Sec-Fetch-Site.

Owns: the guard around the whole application, and the headers of every answer. Refuses: names that this
server was not told it has (DNS rebinding), and pages of other sites, on loopback too, for each method. A
guard of one layer for all routes: a new one cannot forget it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import TYPE_CHECKING

from mainstem.doors.http.problem import Problem

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
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Guard:
    """Wraps the application. `hosts`: the names by which it may be called, beside those of loopback; with
    `any_address` also every IP address, which is for servers that others reach: a page can rebind a name,
    not an address."""

    def __init__(self, app: ASGIApp, hosts: Iterable[str] = (), *, any_address: bool = False) -> None:
        self._app = app
        self._hosts = frozenset(each.lower().strip("[]") for each in (*LOOPBACK, *hosts))
        self._any_address = any_address

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on."""
        if scope["type"] != "http":
            return  # no websockets here: the server closes them

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                kept = [each for each in message["headers"] if each[0].lower() not in _NAMES]
                message["headers"] = [*kept, *_RAW_HEADERS]
            await send(message)

        try:
            self.check(scope["method"], scope["headers"])
        except Problem as problem:
            await problem.response()(scope, receive, send_guarded)
        else:
            await self._app(scope, receive, send_guarded)

    def check(self, method: str, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Problem, if these headers do not come from a program or from our own page."""
        found: dict[bytes, list[str]] = {}
        for name, value in headers:
            found.setdefault(name.lower(), []).append(value.decode("latin-1").strip().lower())
        hosts = found.get(b"host", [])
        if len(hosts) != 1 or not self._is_served(_name_of(hosts[0])):
            raise Problem("forbidden-host", f"the Host header says {', '.join(hosts) or 'nothing'}")
        for origin in found.get(b"origin", []):
            if origin not in (f"http://{hosts[0]}", f"https://{hosts[0]}"):
                raise Problem("forbidden-origin", f"the request comes from a page of {origin}")
        site = found.get(b"sec-fetch-site", ["none"])[0]
        navigates = method == "GET" and found.get(b"sec-fetch-mode", [""])[0] == "navigate"
        if site not in ("none", "same-origin") and not navigates:
            raise Problem("forbidden-origin", f"the browser says that the request is {site}")

    def _is_served(self, name: str) -> bool:
        return name in self._hosts or (self._any_address and _is_address(name))


def _name_of(host: str) -> str:
    """`localhost` of `localhost:8080`, `::1` of `[::1]:8080`; of what is neither, what is no name."""
    if host.startswith("["):
        name, _, rest = host[1:].partition("]")
        return name if not rest or rest.startswith(":") else ""
    return host.partition(":")[0] if host.count(":") <= 1 else ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
