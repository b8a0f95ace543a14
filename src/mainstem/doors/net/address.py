"""A host and a port, and who can reach them.

Owns: reading and writing `HOST:PORT` and `NAME://HOST:PORT`, and which hosts only this machine reaches.
Refuses: to resolve names.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from dataclasses import dataclass

LOOPBACK = "127.0.0.1"
PORT_MAX = 65_535


class AddressError(ValueError):
    """The error for a text that is not an address. Its message is one line: the setting or flag, the text,
    and what is expected."""


@dataclass(frozen=True, slots=True)
class HostPort:
    """A host and a port, as in `127.0.0.1:9092` or `[::1]:9092`."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def of(cls, sock: socket.socket) -> HostPort:
        """The address that a socket is bound to."""
        return cls(*sock.getsockname()[:2])

    @classmethod
    def parse(cls, text: str, where: str, *, port: int | None = None) -> HostPort:
        """Read `HOST:PORT`; `port` is used when the text has none. `where` names the setting or flag in the
        message of an AddressError."""
        host, colon, digits = text.rpartition(":")
        has_no_port = not colon or text.endswith("]") or (host.count(":") and not host.startswith("["))
        if has_no_port:
            host, digits = text, "" if port is None else str(port)
        host = host.strip("[]")
        if (
            not digits.isascii()
            or not digits.isdigit()
            or int(digits) > PORT_MAX
            or (":" in host) != ("[" in text)
        ):
            raise AddressError(f"{where}: {text!r} is not HOST:PORT (IPv6: [HOST]:PORT)")
        return cls(host, int(digits))

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches it."""
        return is_loopback(self.host)

    @property
    def is_wildcard(self) -> bool:
        """Whether the host means all addresses of this machine, as 0.0.0.0: no client can connect to it."""
        with contextlib.suppress(ValueError):
            return ipaddress.ip_address(self.host).is_unspecified
        return not self.host


def parse_named(text: str, where: str, *, port: int | None = None) -> tuple[str, HostPort]:
    """Read `[NAME://]HOST:PORT`: the name in capitals, as Kafka compares names of listeners; empty if there
    is none. Else as `HostPort.parse`."""
    name, separator, address = text.strip().rpartition("://")
    if separator and not (name.isascii() and name.replace("_", "").replace("-", "").isalnum()):
        raise AddressError(f"{where}: {text.strip()!r} is not NAME://HOST:PORT")
    return name.upper(), HostPort.parse(address, where, port=port)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the host."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host.lower() == "localhost"
