"""Checks Host, Origin and Sec-Fetch-Site of every request to a door that speaks HTTP, before any route.

Owns: which names a server may be called by, and which requests of browsers are let through. Refuses: names
that this server does not have (DNS rebinding), and requests that pages of other sites make, for every method
and on loopback too: so no simple cross-site POST reaches a route. Each door decides how its refusal looks.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Literal

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")


class ForbiddenRequest(Exception):
    """The error for a request that neither a program nor a page of this server sent. The message names the
    header that shows it."""

    def __init__(self, kind: Literal["forbidden-host", "forbidden-origin"], detail: str) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail


class HttpGuard:
    """Checks the headers of requests. `hosts`: the names that the server may be called by, beside those of
    loopback; with `any_address` also every IP address, which is for servers that other machines reach: a page
    can rebind a name, not an address."""

    def __init__(self, hosts: Iterable[str] = (), *, any_address: bool = False) -> None:
        self._hosts = frozenset(host.lower().strip("[]") for host in (*LOOPBACK_NAMES, *hosts))
        self._any_address = any_address

    def check(self, method: str, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Raise ForbiddenRequest unless the headers come from a program or from a page of this server."""
        values: dict[bytes, list[str]] = {}
        for name, value in headers:
            values.setdefault(name.lower(), []).append(value.decode("latin-1").strip().lower())
        hosts = values.get(b"host", [])
        if len(hosts) != 1 or not self._is_served(_name_of(hosts[0])):
            raise ForbiddenRequest("forbidden-host", f"the Host header says {', '.join(hosts) or 'nothing'}")
        for origin in values.get(b"origin", []):
            if origin not in (f"http://{hosts[0]}", f"https://{hosts[0]}"):
                raise ForbiddenRequest("forbidden-origin", f"the request comes from a page of {origin}")
        site = values.get(b"sec-fetch-site", ["none"])[0]
        navigates = method == "GET" and values.get(b"sec-fetch-mode", [""])[0] == "navigate"
        if site not in ("none", "same-origin") and not navigates:
            raise ForbiddenRequest("forbidden-origin", f"the browser says that the request is {site}")

    def _is_served(self, name: str) -> bool:
        return name in self._hosts or (self._any_address and _is_address(name))


def _name_of(host: str) -> str:
    """`localhost` of `localhost:8080`, `::1` of `[::1]:8080`; empty if it is neither."""
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
