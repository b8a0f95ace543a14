"""The HTTP door: uvicorn, on the connections and in the loop that the server gives it.

Owns: start and stop, the task that samples. Refuses: signal handlers, lifespans, websockets, and trust in the
headers of proxies.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import uvicorn

from mainstem.doors.http.app import build
from mainstem.doors.http.body_memory import budget_bytes
from mainstem.doors.http.connection import IDLE_TIMEOUT_S, HttpConnection, UnreadResponses
from mainstem.doors.http.endpoint import HttpContext, SearchStats
from mainstem.doors.http.endpoints import ENDPOINTS
from mainstem.doors.http.mounts import MountedApps
from mainstem.doors.http.sampler import Sampler
from mainstem.doors.http.search_slots import SEARCHES_MAX
from mainstem.doors.http.security import GuardedApp
from mainstem.doors.http.static_files import static_routes
from mainstem.doors.net.address import HostPort
from mainstem.doors.net.http_guard import HttpGuard
from mainstem.doors.net.limits import MemoryBudget
from mainstem.doors.net.warning_log import WarningLog

if TYPE_CHECKING:
    from mainstem.clock import Clock
    from mainstem.contract import Engine
    from mainstem.doors.contract import (
        DiskUsage,
        DoorContext,
        DoorStatus,
        HttpApp,
        Listener,
        MetricSample,
    )
    from mainstem.doors.net.accepted import AcceptedConnection
    from mainstem.search.contract import Search

DRAIN_SECONDS = 5
HEAD_BYTES = 64 << 10
"""Maximum size of a request's line and headers."""


class _UvicornServer(uvicorn.Server):
    """uvicorn for connections that the door is given: it opens no sockets and handles no signals, and instead
    of ten checks a second whether to stop it waits for `stop`."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.stop = asyncio.Event()
        self.accepts = asyncio.Event()

    async def main_loop(self) -> None:
        self.accepts.set()
        while not self.stop.is_set():
            await self.on_tick(0)  # the Date header
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.stop.wait(), 1.0)


class HttpDoor:
    """Serves HTTP on the connections that it is given, from `start` to `close`. It does not close the
    engine."""

    def __init__(
        self,
        engine: Engine,
        clock: Clock,
        *,
        version: str,
        kafka_address: str,
        hosts: Iterable[str] = (),
        any_address: bool = False,
        max_body_bytes: int = 16 << 20,
        read_only: bool = False,
        search: Callable[[], Search],
        disk_usage: Callable[[], DiskUsage] | None = None,
        door_statuses: Callable[[], Sequence[DoorStatus]] = tuple,
        http_mounts: Mapping[str, Callable[[], Awaitable[HttpApp]]] | None = None,
        warnings: WarningLog | None = None,
    ) -> None:
        closing = asyncio.Event()
        self._unread = UnreadResponses(warnings or WarningLog(clock, logging.getLogger("mainstem.http")))
        self._clock = clock
        self._sampler = Sampler(engine, clock)
        self.context = HttpContext(
            engine=engine,
            clock=clock,
            sampler=self._sampler,
            max_body_bytes=max_body_bytes,
            body_budget=MemoryBudget(clock, budget_bytes(max_body_bytes)),
            read_only=read_only,
            version=version,
            kafka_address=kafka_address,
            disk_usage=disk_usage,
            door_statuses=door_statuses,
            search=search,
            search_slots=asyncio.Semaphore(SEARCHES_MAX),
            search_stats=SearchStats(),
            closing=closing,
        )
        self.app = GuardedApp(
            MountedApps(
                build(self.context, ENDPOINTS, static_routes(lambda: search().prepare())), http_mounts or {}
            ),
            HttpGuard(hosts, any_address=any_address),
        )
        self._config = uvicorn.Config(
            self.app,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=int(IDLE_TIMEOUT_S),
            timeout_graceful_shutdown=DRAIN_SECONDS,
            h11_max_incomplete_event_size=HEAD_BYTES,
        )
        self._server = _UvicornServer(self._config)
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Start uvicorn and the sampling task. Afterwards `accept` may be called."""
        logging.getLogger("uvicorn").setLevel(logging.WARNING)  # it logs its start; so do we, once
        serving = asyncio.create_task(self._server._serve([]), name="http")
        accepts = asyncio.create_task(self._server.accepts.wait())
        await asyncio.wait((serving, accepts), return_when=asyncio.FIRST_COMPLETED)
        accepts.cancel()
        if serving.done():
            await serving  # raises why
        sampling = asyncio.create_task(
            self._sampler.run(self.context.pause, self.context.closing), name="stats"
        )
        self._tasks = [serving, sampling]

    # --- OpenDoor, see doors/contract.py

    @property
    def connections(self) -> int:
        return len(self._server.server_state.connections)

    def accept(self, connection: AcceptedConnection, listener: Listener) -> None:
        protocol = HttpConnection(
            self._clock,
            self._unread,
            connection.closed,
            config=self._config,
            server_state=self._server.server_state,
            app_state={},
        )
        connection.attach(asyncio.get_running_loop(), protocol)

    @property
    def http_app(self) -> None:
        return None

    def problems(self) -> Sequence[str]:
        return ()

    def metric_samples(self) -> Iterable[MetricSample]:
        return ()

    async def drain(self) -> None:
        self.context.closing.set()  # ends the responses that stream
        self._server.stop.set()
        for task in self._tasks:
            await task
        self._tasks = []

    async def close(self) -> None:
        await self.drain()


async def open_door(context: DoorContext) -> HttpDoor:
    """Create and start the HTTP door. The server calls this through `Door.load`."""
    addresses = [listener.address for listener in context.listeners]
    names = [address.host for address in addresses]
    advertise = context.settings.advertise
    if advertise is not None:
        names.append(HostPort.parse(advertise, "--advertise", port=0).host)
    values = context.settings.door_values
    door = HttpDoor(
        context.engine,
        context.clock,
        version=context.version,
        kafka_address=context.cluster_address,
        hosts=(*names, *values["http_hosts"].replace(",", " ").split()),
        any_address=not all(address.is_loopback for address in addresses),
        max_body_bytes=values["http_max_body_bytes"],
        read_only=context.read_only,
        search=context.search,
        disk_usage=context.disk_usage,
        door_statuses=context.statuses,
        http_mounts=context.http_mounts,
        warnings=context.warnings,
    )
    await door.start()
    return door
