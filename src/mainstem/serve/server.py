"""`mainstem serve`, composed: settings -> disk, clock, randomness -> node -> doors.

Owns: the order of start and stop, the addresses and who may be served on them, the signals, the ready line.
Refuses: to listen where strangers could write unless it was told so. Called by
`mainstem.cli.commands.serve`.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import ipaddress
import logging
import os
import random
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mainstem.serve import malloc
from mainstem.settings import Settings

if TYPE_CHECKING:
    from mainstem.node import Node

log = logging.getLogger("mainstem.serve.server")

_IMPORTED = time.monotonic()

HTTP_DEFAULT = "127.0.0.1:8080"
SETTLED_S = 20.0
"""By then the topics of the start have been listed, and their blocks planned."""

Reason = Literal["usage", "refused", "address", "folder", "locked"]


class CannotServe(Exception):
    """The server did not start. The message is one line: what, where, what to do."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        """usage: what was given makes no sense; refused: unsafe as asked; address: cannot be bound; folder:
        cannot be used; locked: another server has it."""


@dataclass(frozen=True, slots=True)
class HostPort:
    """A host and a port, as in `127.0.0.1:9092` or `[::1]:9092`."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def of(cls, listener: socket.socket) -> HostPort:
        """Where a socket is bound."""
        return cls(*listener.getsockname()[:2])

    @classmethod
    def parse(cls, text: str, where: str, *, port: int | None = None) -> HostPort:
        """Read `HOST:PORT`; `port` is used when the text has none. CannotServe(usage) says `where` it
        stood."""
        host, colon, digits = text.rpartition(":")
        if (
            not colon or text.endswith("]") or (host.count(":") and not host.startswith("["))
        ) and port is not None:
            host, digits = text, str(port)
        host = host.strip("[]")
        if (
            not digits.isascii()
            or not digits.isdigit()
            or int(digits) > 65535
            or (":" in host) != ("[" in text)
        ):
            raise CannotServe("usage", f"{where}: {text!r} is not HOST:PORT (IPv6: [HOST]:PORT)")
        return cls(host, int(digits))


def run(settings: Settings, ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT, then close cleanly. `ready` gets the ready line when clients are
    accepted.

    CannotServe when it does not come to that. A second signal ends the process at once, without a clean
    close.
    """
    if sys.platform == "win32":
        raise CannotServe(
            "refused", "serve needs Linux or macOS; on Windows run it inside WSL (wsl --install)"
        )
    with contextlib.ExitStack() as sockets:
        listener = sockets.enter_context(bind(settings))
        http = bind_http(settings)
        if http is not None:
            sockets.enter_context(http)
        # Clients ask for it by DescribeConfigs: it says what is true.
        settings = dataclasses.replace(settings, http=None if http is None else str(HostPort.of(http)))
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(_serve(settings, listener, http, ready))


async def _serve(
    settings: Settings, listener: socket.socket, http: socket.socket | None, ready: Callable[[str], None]
) -> None:
    stop = asyncio.Event()
    on_signals(stop)
    bound = HostPort.of(listener)
    advertised = advertised_address(settings, bound)
    folder = data_folder(settings.data)
    node = await _open_node(settings, folder)
    try:
        from mainstem.doors.kafka.server import KafkaDoor

        door = KafkaDoor(node, advertised_host=advertised.host, advertised_port=advertised.port)
        await door.start(sock=listener)
        served = None
        if http is not None:
            from mainstem.serve import http as serve_http

            at = advertised.host, advertised.port
            served = serve_http.of_node(settings, node, folder, at, HostPort.of(http).host, door.samples)
            await served.start(http)
        age_s = process_age_s()
        if advertised != bound:
            log.info("clients are told to connect to %s", advertised)
        ready(
            f"mainstem ready in {age_s:.2f} s  kafka={bound}{f'  http={settings.http}' if served else ''}"
            f"  data={folder}  durability={settings.durability}"
        )
        malloc.keep_freed()
        gc.freeze()  # what start-up made lives as long as the server: no collection needs to look at it again
        asyncio.get_running_loop().call_later(SETTLED_S, gc.freeze)  # nor at what is known of each topic
        await stop.wait()
        log.info("stopping: no new connections; requests in flight are finished")
        if served is not None:
            await served.close()
        await door.close()
    finally:
        await node.close()
    log.info("stopped cleanly")


async def _open_node(settings: Settings, folder: Path) -> Node:
    from mainstem.clock import LoopClock
    from mainstem.log.disk.real_disk import RealDisk
    from mainstem.log.errors import LogFolderError, LogFolderLocked

    loop = asyncio.get_running_loop()
    disk = RealDisk(str(folder), loop)
    if settings.durability == "disk":
        disk.start()  # beside the imports that follow, the longest part of a start

    from mainstem.node import Node

    rng = random.Random(os.urandom(32))
    gc.disable()  # next to all that is made stays: with 10,000 topics looking for garbage takes 0.3 s
    try:
        return await Node.open(settings, disk, LoopClock(loop), rng)
    except LogFolderLocked:
        disk.close()
        raise CannotServe(
            "locked",
            f"data folder {folder} is in use by another server: stop it, or give --data another folder",
        ) from None
    except (LogFolderError, OSError) as error:
        disk.close()
        raise CannotServe("folder", f"data folder {folder}: {error}") from None
    finally:
        gc.freeze()
        gc.enable()


def data_folder(data: str) -> Path:
    """The folder as an absolute path; it is there and can be written to, else CannotServe(folder)."""
    if not data:  # a variable of a script that is not set: the working directory is not meant
        raise CannotServe("folder", "the data folder has no name; give --data a folder")
    folder = Path(data).absolute()
    if folder.exists() and not folder.is_dir():
        raise CannotServe("folder", f"data folder {folder} is a file; give --data a folder")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise CannotServe(
            "folder", f"data folder {folder} cannot be made: {error.strerror}; give --data another folder"
        ) from None
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise CannotServe(
            "folder",
            f"data folder {folder} is not writable for this user; change its owner or give --data another",
        )
    return folder


def bind(settings: Settings) -> socket.socket:
    """A bound socket that does not listen yet: until the log is recovered, clients are refused and try
    again."""
    address = HostPort.parse(settings.kafka, "--kafka")
    _check_safe(settings, address, "--kafka")
    if _is_wildcard(address.host) and settings.advertise is None:
        raise CannotServe(
            "refused",
            f"--kafka {address} is a wildcard, and clients need one address to connect to:"
            " add --advertise HOST:PORT with the name they know this machine by",
        )
    return listen_on(address, "--kafka")


def bind_http(settings: Settings) -> socket.socket | None:
    """As `bind`, for the HTTP door; None: there shall be none, or the default address is taken, which a
    line of the log says."""
    if settings.no_http:
        return None
    address = HostPort.parse(settings.http or HTTP_DEFAULT, "--http")
    _check_safe(settings, address, "--http")
    try:
        return listen_on(address, "--http")
    except CannotServe as error:
        if settings.http is not None:
            raise
        log.warning("no HTTP door: %s", error)
        return None


def listen_on(address: HostPort, flag: str) -> socket.socket:
    """A socket bound to it. CannotServe(address) names the flag that gave it."""
    try:
        found = socket.getaddrinfo(
            address.host or None, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError as error:
        raise CannotServe("address", f"{flag} {address}: {error.strerror}") from None
    family, kind, protocol, _, name = min(found, key=lambda each: each[0] != socket.AF_INET)
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(name)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise CannotServe(
            "address",
            f"cannot listen on {address}: {os.strerror(error.errno or 0).lower()};"
            f" stop what listens there, or give {flag} another port (port 0 picks a free one)",
        ) from None
    return listener


def advertised_address(settings: Settings, bound: HostPort) -> HostPort:
    """What Metadata tells clients: `advertise`, its port 0 or left out meaning the bound one; else the
    bound address."""
    if settings.advertise is None:
        return bound
    told = HostPort.parse(settings.advertise, "--advertise", port=0)
    if not told.host or _is_wildcard(told.host):
        raise CannotServe(
            "refused", f"--advertise {told}: clients cannot connect to a wildcard address; name a host"
        )
    return HostPort(told.host, told.port or bound.port)


def _check_safe(settings: Settings, address: HostPort, flag: str) -> None:
    if not settings.allow_anonymous and not is_loopback(address.host):
        raise CannotServe(
            "refused",
            f"{flag} {address} is open to others and there is no authentication: anybody could read and"
            " write; use 127.0.0.1, or add --allow-anonymous if the network is trusted",
        )


def _is_wildcard(host: str) -> bool:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_unspecified
    return not host


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches it."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host.lower() == "localhost"


def on_signals(stop: asyncio.Event) -> None:
    """Set `stop` on SIGTERM or SIGINT; a second one ends the process at once."""
    loop = asyncio.get_running_loop()

    def on_signal(number: int) -> None:
        if stop.is_set():
            os._exit(128 + number)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """uvloop's loops where there is one."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def process_age_s() -> float:
    """Seconds since this process began, the interpreter's start included where the system tells (Linux)."""
    try:
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError, ValueError):
        return time.monotonic() - _IMPORTED
