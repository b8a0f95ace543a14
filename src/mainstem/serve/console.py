"""`mainstem console`, composed: the HTTP door and its page in front of any Kafka cluster.

Owns: the order of start and stop. Refuses: to listen where strangers could write unless it was told so.
Called by `mainstem.cli.commands.console`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mainstem.serve.server import CannotServe, HostPort, is_loopback, listen_on, loop_factory, on_signals

if TYPE_CHECKING:
    from mainstem.search.contract import Search

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleSettings:
    """What `mainstem console` was told."""

    cluster_address: str
    """HOST:PORT of the cluster."""
    http: str
    """HOST:PORT to listen on."""
    hosts: Sequence[str] = ()
    data: str | None = None
    """Folder of what is kept to search faster; None: the user's cache."""
    read_only: bool = False
    allow_anonymous: bool = False


def run(settings: ConsoleSettings, ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT. NotReachable, CannotServe when it does not come to that."""
    address = HostPort.parse(settings.http, "--http")
    if not settings.allow_anonymous and not is_loopback(address.host):
        raise CannotServe(
            "refused",
            f"--http {address} is open to others and there is no authentication: anybody could read and"
            " write; use 127.0.0.1, or add --allow-anonymous if the network is trusted",
        )
    cache = _cache_folder(settings.data)
    with ExitStack() as sockets, asyncio.Runner(loop_factory=loop_factory()) as runner:
        listener = sockets.enter_context(listen_on(address, "--http"))
        runner.run(_serve(settings, cache, listener, ready))


def _cache_folder(data: str | None) -> Path | None:
    """Made, if it is not there. CannotServe: the folder that was asked for cannot be used."""
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
    log.warning("searches are not made faster by token filters: %s: %s", folder, problem)
    return None


async def _serve(
    settings: ConsoleSettings, cache: Path | None, listener: socket.socket, ready: Callable[[str], None]
) -> None:
    from mainstem.clock import LoopClock
    from mainstem.engines.kafka.engine import KafkaEngine
    from mainstem.serve.http import COVER_AFTER_S, Served

    stop = asyncio.Event()
    on_signals(stop)
    cluster = await KafkaEngine.connect(settings.cluster_address)
    clock = LoopClock(asyncio.get_running_loop())

    def make_search() -> Search:
        from mainstem.search.cluster.search import ClusterSearch

        made = ClusterSearch(cluster, clock, cache=cache)
        if cache is not None:
            made.start_building_filters()
        return made

    try:
        bound = HostPort.of(listener)
        served = Served(
            cluster,
            clock,
            make_search,
            at=settings.cluster_address,
            hosts=(bound.host, *settings.hosts),
            others=not is_loopback(bound.host),
            read_only=settings.read_only,
        )
        await served.start(listener)
        asyncio.get_running_loop().call_later(COVER_AFTER_S, served.search)
        ready(f"mainstem console ready  http://{bound}/  kafka={settings.cluster_address}")
        await stop.wait()
        await served.close()
    finally:
        await cluster.close()
