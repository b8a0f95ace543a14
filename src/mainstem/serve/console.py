"""Starts `mainstem console`: the HTTP door, with the console's page, in front of any Kafka cluster.

Owns: the order of start and stop. Refuses: to listen where other machines could write, unless that was asked
for.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mainstem.doors.contract import Door, DoorContext, Listener
from mainstem.doors.http import DOOR as HTTP
from mainstem.serve.binding import bind_listeners, plan_doors
from mainstem.serve.descriptors import check_descriptors
from mainstem.serve.errors import CannotServe
from mainstem.serve.server import loop_factory, on_signals
from mainstem.settings import Settings, load

if TYPE_CHECKING:
    from mainstem.clock import LoopClock
    from mainstem.doors.net.warning_log import WarningLog
    from mainstem.engines.kafka.engine import KafkaEngine
    from mainstem.search.contract import Search
    from mainstem.serve.binding import BoundListener

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleSettings:
    """The settings of `mainstem console`."""

    cluster_address: str
    """HOST:PORT of the cluster."""
    http: str
    """HOST:PORT to listen on."""
    http_hosts: str = ""
    """Names by which browsers may call it, with commas."""
    data: str | None = None
    """Folder of the token filters, which make searches faster; None: the user's cache."""
    read_only: bool = False
    allow_anonymous: bool = False


def run(settings: ConsoleSettings, ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT. NotReachable or CannotServe if it does not start."""
    of_door = load(
        {
            "doors": HTTP.name,
            "http": settings.http,
            "http_hosts": settings.http_hosts,
            "http_read_only": settings.read_only,
            "allow_anonymous": settings.allow_anonymous,
        },
        of_doors=HTTP.definitions,
    )
    with ExitStack() as sockets, asyncio.Runner(loop_factory=loop_factory()) as runner:
        check_descriptors()
        plans = plan_doors(of_door, (HTTP,))
        cache = _cache_folder(settings.data)
        bound, _ = bind_listeners(of_door, plans, sockets)
        runner.run(_serve(settings, of_door, cache, bound, ready))


def _cache_folder(data: str | None) -> Path | None:
    """The folder of token filters, made if it is missing. CannotServe: the folder that was asked for cannot
    be used."""
    from mainstem.search.cluster.filters import user_cache_folder

    if data == "":
        raise CannotServe("folder", "--data has no name; give it a folder")
    folder = user_cache_folder() if data is None else Path(data).absolute()
    if folder is None:
        return None
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK | os.X_OK)
        problem = "" if writable else "it cannot be written to"
    except OSError as error:
        problem = error.strerror or str(error)
    if not problem:
        return folder
    if data is not None:
        raise CannotServe("folder", f"--data {data}: {problem}")
    log.warning(
        "no token filters, so searches read all events: %s: %s; --data names another", folder, problem
    )
    return None


async def _serve(
    settings: ConsoleSettings,
    of_door: Settings,
    cache: Path | None,
    bound: list[BoundListener],
    ready: Callable[[str], None],
) -> None:
    from mainstem import __version__
    from mainstem.clock import LoopClock
    from mainstem.engines.kafka.engine import KafkaEngine
    from mainstem.engines.read_only import read_only
    from mainstem.serve.listeners import Listeners
    from mainstem.serve.search import LazySearch, import_cluster_search

    stop = asyncio.Event()
    on_signals(stop)
    cluster = await KafkaEngine.connect(settings.cluster_address)
    clock = LoopClock(asyncio.get_running_loop())
    search = LazySearch(lambda: _cluster_search(cluster, clock, cache))

    def make_context(door: Door, its_listeners: tuple[Listener, ...], warnings: WarningLog) -> DoorContext:
        return DoorContext(
            settings=of_door,
            clock=clock,
            engine=read_only(cluster) if settings.read_only else cluster,
            cluster_address=settings.cluster_address,
            listeners=its_listeners,
            warnings=warnings,
            statuses=listeners.statuses,
            search=search.get,
            version=__version__,
            read_only=settings.read_only,
        )

    listeners = Listeners(bound, (HTTP,), {}, of_door, clock, make_context, import_cluster_search)
    try:
        listeners.start()
        search.prepare_later()
        ready(
            f"mainstem console ready  http://{bound[0].listener.address}/  kafka={settings.cluster_address}"
        )
        await stop.wait()
        await listeners.close()
        await search.close()
    finally:
        await cluster.close()


def _cluster_search(cluster: KafkaEngine, clock: LoopClock, cache: Path | None) -> Search:
    from mainstem.search.cluster.search import ClusterSearch

    search = ClusterSearch(cluster, clock, cache=cache)
    if cache is not None:
        search.start_building_filters()
    return search
