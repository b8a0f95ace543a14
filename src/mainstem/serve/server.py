"""Starts a server: settings -> listeners -> disk, clock, randomness -> node -> doors.

Owns: the order of start and stop, the data folder, the ready line. `start` serves the command, tests and
programs that embed a server alike: it handles no signals and does not block; `run` is the command's, until a
signal. Refuses: to listen where other machines could write, unless that was asked for.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import logging
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mainstem import doors as all_doors
from mainstem.doors.contract import DiskUsage, Door, DoorContext, DoorStatus, Listener
from mainstem.doors.net.address import HostPort
from mainstem.push.addresses import AllowedAddresses, AllowError
from mainstem.serve import malloc
from mainstem.serve.binding import BoundListener, bind_listeners, plan_doors
from mainstem.serve.descriptors import check_descriptors
from mainstem.serve.errors import CannotServe
from mainstem.settings import Settings

if TYPE_CHECKING:
    from mainstem.doors.net.warning_log import WarningLog
    from mainstem.engines.embedded.engine import EmbeddedEngine
    from mainstem.node import Node
    from mainstem.push.service import PushService
    from mainstem.serve.listeners import Listeners
    from mainstem.serve.search import LazySearch

log = logging.getLogger("mainstem.serve.server")

_IMPORTED = time.monotonic()

SETTLED_S = 20.0
"""By then the topics of the start have been listed, and their blocks planned."""


class Running:
    """A server that accepts clients. `await close()` ends it."""

    def __init__(
        self,
        settings: Settings,
        folder: Path,
        node: Node,
        engine: EmbeddedEngine,
        listeners: Listeners,
        search: LazySearch,
        push: PushService,
    ) -> None:
        self.settings = settings
        self.folder = folder
        self.node = node
        self.engine = engine
        self._listeners = listeners
        self._search = search
        self._push = push

    @property
    def addresses(self) -> Mapping[str, tuple[HostPort, ...]]:
        """Where each door is served, by its name; doors that are off are left out."""
        return {status.name: status.addresses for status in self.statuses() if status.is_on}

    def statuses(self) -> Sequence[DoorStatus]:
        """The status of every door, on or off."""
        return self._listeners.statuses()

    def doors_text(self) -> str:
        """`kafka=127.0.0.1:9092  http=127.0.0.1:8080`: the doors that are on, and those that should be."""
        return "  ".join(
            f"{status.name}={status.text}" for status in self.statuses() if status.is_on or status.off_reason
        )

    async def close(self) -> None:
        """Accept no new connections, finish the requests in progress, close the log cleanly. The order is
        that of the layers: doors, search, node. Before them, pushing ends, and then the engine lets those
        return that wait for events of a subscription."""
        try:
            await self._push.close()
            await self.engine.close()
            await self._listeners.close()
            await self._search.close()
        finally:
            await self.node.close()


async def start(settings: Settings) -> Running:
    """Start a server in the running loop; it accepts clients when this returns. CannotServe if it does not
    start: nothing is left open then."""
    with contextlib.ExitStack() as sockets:
        check_descriptors()
        allowed = _addresses_to_push_to(settings)
        plans = plan_doors(settings, all_doors.DOORS)
        bound, off_reasons = bind_listeners(settings, plans, sockets)
        settings = _with_bound_addresses(settings, bound)
        folder = data_folder(settings.data)
        node = await _open_node(settings, folder)
        try:
            running = _serve(settings, folder, node, bound, off_reasons, allowed)
        except BaseException:
            await node.close()
            raise
        sockets.pop_all()  # the acceptors close them
    return running


def _addresses_to_push_to(settings: Settings) -> AllowedAddresses:
    try:
        return AllowedAddresses.parse(settings.push_allow)
    except AllowError as error:
        raise CannotServe("usage", f"setting {error}") from None


def _with_bound_addresses(settings: Settings, bound: Sequence[BoundListener]) -> Settings:
    """The settings with the addresses that are really served: clients ask for them by DescribeConfigs."""
    values = dict(settings.door_values)
    for door in all_doors.DOORS:
        addresses = [str(entry.listener.address) for entry in bound if door.name in entry.listener.doors]
        values[door.name] = ",".join(addresses) or None
    return dataclasses.replace(settings, door_values=values)


def _serve(
    settings: Settings,
    folder: Path,
    node: Node,
    bound: Sequence[BoundListener],
    off_reasons: Mapping[str, str],
    allowed: AllowedAddresses,
) -> Running:
    """Create the engine, the search and the listeners, and begin to accept clients."""
    from mainstem import __version__
    from mainstem.engines.embedded.engine import EmbeddedEngine
    from mainstem.engines.read_only import read_only
    from mainstem.push.service import PushService
    from mainstem.serve.listeners import Listeners
    from mainstem.serve.search import LazySearch, import_local_search, local_search

    doors = all_doors.DOORS
    address = _advertised_address(bound, doors)
    engine = EmbeddedEngine(node, address=("", 0) if address is None else (address.host, address.port))
    search = LazySearch(partial(local_search, engine, folder, node))

    def disk_usage() -> DiskUsage:
        usage = shutil.disk_usage(folder)
        return DiskUsage(used_bytes=node.log.total_bytes(), free_bytes=usage.free, total_bytes=usage.total)

    def make_context(door: Door, its_listeners: tuple[Listener, ...], warnings: WarningLog) -> DoorContext:
        refuses_changes = bool(settings.door_values.get(f"{door.name}_read_only"))
        return DoorContext(
            settings=settings,
            clock=node.clock,
            engine=read_only(engine) if refuses_changes else engine,
            cluster_address="" if address is None else str(address),
            listeners=its_listeners,
            warnings=warnings,
            statuses=listeners.statuses,
            search=search.get,
            version=__version__,
            read_only=refuses_changes,
            http_mounts=listeners.http_mounts(),
            disk_usage=disk_usage,
            node=node if door.needs_node else None,
        )

    listeners = Listeners(bound, doors, off_reasons, settings, node.clock, make_context, import_local_search)
    listeners.start()
    push = PushService(engine, node.clock, allowed)
    engine.attach_pusher(push)
    running = Running(settings, folder, node, engine, listeners, search, push)
    if any(door.uses_search and door.name in running.addresses for door in doors):
        search.prepare_later()
    for entry in bound:
        if entry.listener.advertised != entry.listener.address:
            log.info("clients are directed to %s", entry.listener.advertised)
    return running


def _advertised_address(bound: Sequence[BoundListener], doors: Sequence[Door]) -> HostPort | None:
    """The advertised address of the first listener whose protocol passes one on to its clients."""
    names = {door.name for door in doors if door.needs_advertised_address}
    for entry in bound:
        if names.intersection(entry.listener.doors):
            return entry.listener.advertised
    return None


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
    collects = gc.isenabled()
    gc.disable()  # all that is made next stays: with 10,000 topics, looking for garbage takes 0.3 s
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
        if collects:
            gc.enable()


def data_folder(data: str) -> Path:
    """The folder as an absolute path, made if it is missing. CannotServe(folder) if it cannot be used."""
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


def run(settings: Settings, ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT, then close cleanly. `ready` gets the ready line when clients are
    accepted. CannotServe if the server does not start. A second signal ends the process at once, without a
    clean close."""
    if sys.platform == "win32":
        raise CannotServe(
            "refused", "serve needs Linux or macOS; on Windows run it inside WSL (wsl --install)"
        )
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(_run(settings, ready))


async def _run(settings: Settings, ready: Callable[[str], None]) -> None:
    stop = asyncio.Event()
    on_signals(stop)
    gc.disable()  # until what is made at the start is frozen
    running = await start(settings)
    ready(
        f"mainstem ready in {process_age_s():.2f} s  {running.doors_text()}  data={running.folder}"
        f"  durability={settings.durability}"
    )
    malloc.keep_freed()
    gc.freeze()  # what start-up made lives as long as the server: no collection needs to look at it again
    gc.enable()
    asyncio.get_running_loop().call_later(SETTLED_S, gc.freeze)  # nor at what is known of each topic
    await stop.wait()
    log.info("stopping: no new connections; requests in flight are finished")
    await running.close()
    log.info("stopped cleanly")


def on_signals(stop: asyncio.Event) -> None:
    """Set `stop` at SIGTERM or SIGINT; a second one ends the process at once."""
    loop = asyncio.get_running_loop()

    def on_signal(number: int) -> None:
        if stop.is_set():
            os._exit(128 + number)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """Makes uvloop's loops, where it is installed; else asyncio's own."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def process_age_s() -> float:
    """Seconds since this process began; on Linux the start of the interpreter is included."""
    try:
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError, ValueError):
        return time.monotonic() - _IMPORTED
