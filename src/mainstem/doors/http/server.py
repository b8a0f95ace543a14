"""The HTTP door: uvicorn, on the connections and in the loop that the server gives it.

Owns: start and stop, the task that samples. Refuses: signal handlers, lifespans, websockets, and trust in the
headers of proxies.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from mainstem.doors.http.app import build
from mainstem.doors.http.body_memory import budget_bytes
from mainstem.doors.http.connection import HttpConnection
from mainstem.doors.http.endpoint import HttpContext, SearchStats
from mainstem.doors.http.endpoints import ENDPOINTS
from mainstem.doors.http.mounts import MountedApps
from mainstem.doors.http.requesters import RequestAuthentication, RunningRequests
from mainstem.doors.http.sampler import Sampler
from mainstem.doors.http.search_slots import SEARCHES_MAX
from mainstem.doors.http.security import GuardedApp
from mainstem.doors.http.sessions import ConsoleSessions
from mainstem.doors.http.static_files import static_routes
from mainstem.doors.http.visible_totals import VisibleTotals
from mainstem.doors.net.address import parse_named
from mainstem.doors.net.http_connection import UnreadResponses
from mainstem.doors.net.http_guard import HttpGuard
from mainstem.doors.net.http_server import UvicornServer, uvicorn_config
from mainstem.doors.net.limits import MemoryBudget
from mainstem.doors.net.warning_log import WarningLog
from mainstem.turns import next_turn

if TYPE_CHECKING:
    from mainstem.audit.trail import AuditTrail
    from mainstem.clock import Clock
    from mainstem.contract import Engine
    from mainstem.door_contract import PublishesTokenKeys
    from mainstem.doors.contract import (
        Access,
        DiskUsage,
        DoorContext,
        DoorStatus,
        HttpApp,
        Listener,
        MetricSample,
        RequesterViews,
    )
    from mainstem.doors.net.accepted import AcceptedConnection
    from mainstem.search.contract import Search


def _sessions_of(
    access: Access, clock: Clock, running: RunningRequests, times_s: tuple[float, float]
) -> ConsoleSessions:
    """Sessions of the console that end after these times: without a sign of the person, and in any case."""
    idle_s, age_max_s = times_s
    random_bytes, on_end = access.authentication.random_bytes, running.abort_session
    return ConsoleSessions(clock, random_bytes, idle_s=idle_s, age_max_s=age_max_s, on_end=on_end)


def _end_with_credentials(access: Access, sessions: ConsoleSessions, running: RunningRequests) -> None:
    """Let sessions and requests end when the password or the token changes that they came with."""
    access.admin.on_credentials_changed += [sessions.end_of, running.abort_of]
    if access.api_tokens is not None:
        access.api_tokens.on_deleted.append(running.abort_token)


class HttpDoor:
    """Serves HTTP on the connections that it is given, from `start` to `close`. It does not close the
    engine."""

    def __init__(
        self,
        engine: Engine,
        clock: Clock,
        *,
        access: Access,
        views: RequesterViews,
        version: str,
        kafka_address: str,
        hosts: Iterable[str] = (),
        any_address: bool = False,
        max_body_bytes: int = 16 << 20,
        read_only: bool = False,
        search: Callable[[], Search],
        token_keys: PublishesTokenKeys | None = None,
        disk_usage: Callable[[], DiskUsage] | None = None,
        door_statuses: Callable[[], Sequence[DoorStatus]] = tuple,
        http_mounts: Mapping[str, Callable[[], Awaitable[HttpApp]]] | None = None,
        warnings: WarningLog | None = None,
        oidc_redirect: str | None = None,
        open_metrics: bool = False,
        session_times_s: tuple[float, float] = (1_800, 43_200),
        audit: AuditTrail | None = None,
    ) -> None:
        self._unread = UnreadResponses(warnings or WarningLog(clock, logging.getLogger("mainstem.http")))
        self._clock = clock
        self._sampler = Sampler(engine, clock)
        running = RunningRequests(clock)
        self._sessions = _sessions_of(access, clock, running, session_times_s)
        self.context = HttpContext(
            engine=engine,
            authorizer=access.authorizer,
            admin=access.admin,
            api_tokens=access.api_tokens,
            masks=access.masks,
            views=views,
            quotas=access.quotas,
            authentication=RequestAuthentication(
                access.authentication, self._sessions, access.api_tokens, clock
            ),
            running=running,
            audit=audit,
            clock=clock,
            sampler=self._sampler,
            max_body_bytes=max_body_bytes,
            body_budget=MemoryBudget(clock, budget_bytes(max_body_bytes)),
            read_only=read_only,
            oidc_redirect=oidc_redirect,
            open_metrics=open_metrics,
            version=version,
            kafka_address=kafka_address,
            token_keys=token_keys,
            disk_usage=disk_usage,
            door_statuses=door_statuses,
            search=search,
            search_slots=asyncio.Semaphore(SEARCHES_MAX),
            search_stats=SearchStats(),
            visible_totals=VisibleTotals(self._sampler, lambda: next_turn(clock)),
            closing=asyncio.Event(),
        )
        _end_with_credentials(access, self._sessions, running)
        routes = build(self.context, ENDPOINTS, static_routes(lambda: search().prepare()))
        self.app = GuardedApp(
            MountedApps(routes, http_mounts or {}, self.context.authentication),
            HttpGuard(hosts, any_address=any_address),
        )
        self._config = uvicorn_config(self.app)
        self._server = UvicornServer(self._config)
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Start uvicorn and the sampling task. Afterwards `accept` may be called."""
        logging.getLogger("uvicorn").setLevel(logging.WARNING)  # it logs its start; so do we, once
        serving = await self._server.start("http")
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
            connection,
            listener,
            config=self._config,
            server_state=self._server.server_state,
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
        self._sessions.close()

    async def close(self) -> None:
        await self.drain()


async def open_door(context: DoorContext) -> HttpDoor:
    """Create and start the HTTP door. The server calls this through `Door.load`."""
    addresses = [listener.address for listener in context.listeners]
    names = [address.host for address in addresses]
    advertised = filter(None, (context.settings.advertise or "").split(","))
    if context.token_keys is not None and context.token_keys.issuer is not None:
        names.append(urlsplit(context.token_keys.issuer).hostname or "")
    names += [parse_named(text, "--advertise", port=0)[1].host for text in advertised]
    values = context.settings.door_values
    door = HttpDoor(
        context.engine,
        context.clock,
        access=context.access,
        views=context.views,
        version=context.version,
        kafka_address=context.cluster_address,
        hosts=(*names, *values["http_hosts"].replace(",", " ").split()),
        any_address=not all(address.is_loopback for address in addresses),
        max_body_bytes=values["http_max_body_bytes"],
        read_only=context.read_only,
        search=context.search,
        token_keys=context.token_keys,
        disk_usage=context.disk_usage,
        door_statuses=context.statuses,
        http_mounts=context.http_mounts,
        warnings=context.warnings,
        oidc_redirect=values["http_oidc_redirect"],
        open_metrics=values["http_open_metrics"],
        session_times_s=(values["http_session_idle_ms"] / 1000, values["http_session_max_ms"] / 1000),
        audit=context.audit,
    )
    await door.start()
    return door
