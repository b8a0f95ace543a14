"""Starts `mainstem console`: the HTTP door, with the console's page, in front of any Kafka cluster.

Owns: the order of start and stop. With an own folder (`own_folder.py`) it has users, rights, masking rules
and an audit of its own; without one, everybody who reaches it may do what its account may in the cluster.
Refuses: to listen where other machines could write, unless that was asked for.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mainstem.client_security import PLAINTEXT, ClientSecurity
from mainstem.doors.contract import Access, Door, DoorContext, Listener
from mainstem.doors.http import DOOR as HTTP
from mainstem.doors.net.address import HostPort
from mainstem.event_loop import loop_factory
from mainstem.serve.authentication import ServerAuthentication
from mainstem.serve.authentication import check_settings as check_authentication
from mainstem.serve.binding import bind_listeners, plan_doors
from mainstem.serve.descriptors import check_descriptors
from mainstem.serve.errors import CannotServe
from mainstem.serve.listener_names import ListenerNames
from mainstem.serve.own_folder import OwnFolder, folder_of, with_access_control
from mainstem.serve.secure import SecureStart, SecureSummary
from mainstem.serve.server import check_super_users, on_signals
from mainstem.setting_definition import SettingsError
from mainstem.settings import PREFIX, Settings, load

if TYPE_CHECKING:
    from mainstem.clock import LoopClock
    from mainstem.contract import Engine
    from mainstem.doors.net.warning_log import WarningLog
    from mainstem.engines.kafka.engine import KafkaEngine
    from mainstem.search.contract import Search
    from mainstem.serve.binding import BoundListener
    from mainstem.serve.listeners import Listeners
    from mainstem.serve.search import LazySearch

log = logging.getLogger(__name__)

NOT_OF_CONSOLE = (PREFIX + "DATA", PREFIX + "DOORS")
"""Variables that a server reads, and a console beside it does not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleSettings:
    """The settings of `mainstem console`."""

    cluster_address: str
    """HOST:PORT of the cluster."""
    http: str
    """HOST:PORT to listen on."""
    data: str | None = None
    """Its folder; None: it has none, and keeps the token filters, which make searches faster, in the user's
    cache."""
    flags: Mapping[str, object] = field(default_factory=dict)
    """Settings of a server that are given, by name; None: not given."""
    environ: Mapping[str, str] = field(default_factory=dict)
    config: str | None = None
    """TOML file with settings of a server."""
    security: ClientSecurity = PLAINTEXT
    """How it connects to the cluster."""

    def of_door(self) -> Settings:
        """The settings of its HTTP door and of its folder. CannotServe(usage)."""
        environ = {name: value for name, value in self.environ.items() if name not in NOT_OF_CONSOLE}
        flags = {**self.flags, "doors": HTTP.name, "http": self.http}
        try:
            return load(flags, environ, self.config, of_doors=HTTP.definitions)
        except SettingsError as error:
            raise CannotServe("usage", str(error)) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Start:
    """What is known once the sockets are bound."""

    console: ConsoleSettings
    settings: Settings
    own: Path | None
    """The own folder."""
    filters: Path | None
    """The folder of token filters, if there is no own folder."""
    secure: SecureStart | None
    bound: list[BoundListener]

    @property
    def is_read_only(self) -> bool:
        return bool(self.settings.door_values["http_read_only"])

    @property
    def listeners(self) -> list[Listener]:
        return [entry.listener for entry in self.bound]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningConsole:
    """A console that accepts browsers."""

    address: HostPort
    """The first address that it listens on."""
    ready_line: str
    own: OwnFolder | None
    """Its users, rights and audit; None: it has none."""
    secure: SecureSummary | None
    """What was set up, if the setting `secure` is on."""


def run(
    console: ConsoleSettings,
    ready: Callable[[str], None],
    on_secure: Callable[[SecureSummary], None] = lambda _: None,
) -> None:
    """Serve until SIGTERM or SIGINT. `ready` gets the ready line, and before it `on_secure` what was set up,
    if the setting `secure` is on. NotReachable or CannotServe if it does not start."""

    async def serve() -> None:
        stop = asyncio.Event()
        on_signals(stop)
        async with serving(console) as running:
            if running.secure is not None:
                on_secure(running.secure)
            ready(running.ready_line)
            await stop.wait()

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(serve())


@asynccontextmanager
async def serving(console: ConsoleSettings) -> AsyncIterator[RunningConsole]:
    """The console, until the context ends. NotReachable or CannotServe if it does not start. Blocks while it
    opens its folder."""
    async with AsyncExitStack() as opened:
        start = _bind(console, opened.enter_context(ExitStack()))
        yield await _open(start, opened)


def _bind(console: ConsoleSettings, sockets: ExitStack) -> _Start:
    """Read the settings, find or make the own folder, and bind the sockets. CannotServe."""
    check_descriptors()
    settings = console.of_door()
    check_super_users(settings)
    names = ListenerNames(settings)
    addresses = [names.parse(text.strip(), HTTP.flag) for text in console.http.split(",")]
    has_logins = any(names.security(named.name).authenticates for named in addresses)
    own = folder_of(console.data, settings, has_logins=has_logins)
    secure = SecureStart(own) if settings.secure and own is not None else None
    if secure is not None:
        settings = secure.settings(settings)
    if own is not None:
        settings = with_access_control(settings, own)
    plans = plan_doors(settings, (HTTP,))
    if secure is not None:
        planned = [address for plan in plans for address in plan.addresses]
        secure.make_certificate(ListenerNames(settings), planned)
    filters = None if own is not None else _cache_folder(console.data)
    bound, _ = bind_listeners(settings, plans, sockets)
    check_authentication(settings, [entry.listener for entry in bound])
    return _Start(console=console, settings=settings, own=own, filters=filters, secure=secure, bound=bound)


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


async def _open(start: _Start, opened: AsyncExitStack) -> RunningConsole:
    """Connect to the cluster, open the own folder and begin to accept browsers. `opened` closes it all."""
    from mainstem.clock import LoopClock
    from mainstem.engines.kafka.engine import KafkaEngine
    from mainstem.serve.search import LazySearch

    console = start.console
    cluster = await KafkaEngine.connect(console.cluster_address, security=console.security)
    opened.push_async_callback(cluster.close)
    clock = LoopClock(asyncio.get_running_loop())
    own = secure = None
    if start.own is not None:
        own = await OwnFolder.open(start.settings, start.own, start.listeners)
        opened.push_async_callback(own.close)
        if start.secure is not None:
            secure = await start.secure.make_admin(own.node.access)
    filters = start.filters if own is None else own.cluster_filters
    search = LazySearch(lambda: _cluster_search(cluster, clock, filters))
    opened.push_async_callback(search.close)
    if own is None:
        access = _open_access(start.settings, clock, opened)
    else:
        access = own.access(is_read_only=start.is_read_only)
    listeners = _listeners(start, cluster, clock, search, access, own)
    opened.push_async_callback(listeners.close)
    listeners.start()
    search.prepare_later()
    address = start.listeners[0].address
    return RunningConsole(address=address, ready_line=_ready_line(start), own=own, secure=secure)


def _ready_line(start: _Start) -> str:
    first = start.bound[0]
    data = "" if start.own is None else f"  data={start.own}"
    return (
        f"mainstem console ready  {'https' if first.tls else 'http'}://{first.listener.address}/"
        f"  kafka={start.console.cluster_address}{data}"
    )


def _open_access(settings: Settings, clock: LoopClock, opened: AsyncExitStack) -> Access:
    """Access without an own folder: everybody may do what the console's account may."""
    from mainstem.engines.kafka.access import EverythingAllowed, NoMasks, NoUsers

    users = NoUsers()
    authentication = ServerAuthentication(settings, users, clock, None)
    opened.callback(authentication.close)
    return Access(authorizer=EverythingAllowed(), admin=users, masks=NoMasks(), authentication=authentication)


def _listeners(
    start: _Start,
    cluster: KafkaEngine,
    clock: LoopClock,
    cluster_search: LazySearch,
    access: Access,
    own: OwnFolder | None,
) -> Listeners:
    """The listeners, which open the HTTP door."""
    from mainstem.engines.authorized.engine import AuthorizedViews
    from mainstem.engines.read_only import read_only
    from mainstem.serve.listeners import Listeners
    from mainstem.serve.search import import_cluster_search
    from mainstem.version import __version__

    all_of_it: Engine = cluster if own is None else own.engine(cluster)
    engine = read_only(all_of_it) if start.is_read_only else all_of_it
    search = cluster_search.get if own is None else own.search(cluster_search.get)
    views = AuthorizedViews(engine, search, access.authorizer, access.masks, clock)

    def make_context(door: Door, its_listeners: tuple[Listener, ...], warnings: WarningLog) -> DoorContext:
        return DoorContext(
            settings=start.settings,
            clock=clock,
            engine=engine,
            access=access,
            cluster_address=start.console.cluster_address,
            listeners=its_listeners,
            warnings=warnings,
            statuses=listeners.statuses,
            search=search,
            views=views,
            version=__version__,
            read_only=start.is_read_only,
            audit=None if own is None else own.audit,
        )

    quotas = access.quotas
    listeners = Listeners(
        start.bound, (HTTP,), {}, start.settings, clock, make_context, import_cluster_search, quotas.admits
    )
    return listeners


def _cluster_search(cluster: KafkaEngine, clock: LoopClock, cache: Path | None) -> Search:
    from mainstem.search.cluster.search import ClusterSearch

    search = ClusterSearch(cluster, clock, cache=cache, security=cluster.security)
    if cache is not None:
        search.start_building_filters()
    return search
