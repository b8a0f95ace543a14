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
from mainstem.doors.contract import Access, DiskUsage, Door, DoorContext, DoorStatus, Listener
from mainstem.doors.net.address import HostPort
from mainstem.event_loop import loop_factory
from mainstem.push.addresses import AllowedAddresses, AllowError
from mainstem.serve import malloc
from mainstem.serve.authentication import ServerAuthentication
from mainstem.serve.authentication import check_settings as check_authentication
from mainstem.serve.binding import BoundListener, bind_listeners, plan_doors
from mainstem.serve.descriptors import check_descriptors
from mainstem.serve.errors import CannotServe
from mainstem.serve.listener_names import ListenerNames, NamedAddress
from mainstem.serve.private_files import tighten
from mainstem.serve.secure import SecureStart, SecureSummary
from mainstem.settings import Settings

if TYPE_CHECKING:
    from mainstem.amqp.broker import AmqpBroker
    from mainstem.audit.trail import AuditTrail
    from mainstem.doors.net.warning_log import WarningLog
    from mainstem.engines.embedded.engine import EmbeddedEngine
    from mainstem.node import Node
    from mainstem.push.service import PushService
    from mainstem.push.tokens import PushTokens
    from mainstem.search.contract import Search
    from mainstem.serve.broker import LazyBroker
    from mainstem.serve.in_memory import InMemory
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
        broker: LazyBroker,
        push: PushService,
        audit: AuditTrail | None,
        authentication: ServerAuthentication,
    ) -> None:
        self.settings = settings
        self.folder = folder
        self.node = node
        self.engine = engine
        self._listeners = listeners
        self._search = search
        self._broker = broker
        self._push = push
        self._audit = audit
        self._authentication = authentication

        self.secure: SecureSummary | None = None
        """What was set up, if the setting `secure` is on."""

    @property
    def addresses(self) -> Mapping[str, tuple[HostPort, ...]]:
        """Where each door is served, by its name; doors that are off are left out."""
        return {status.name: status.addresses for status in self.statuses() if status.is_on}

    def statuses(self) -> Sequence[DoorStatus]:
        """The status of every door, on or off."""
        return self._listeners.statuses()

    def search(self) -> Search:
        """The server's search, which is created at its first use."""
        return self._search.get()

    async def broker(self) -> AmqpBroker:
        """The virtual hosts and connections of RabbitMQ's protocols, which are loaded soon after the start,
        or at their first use if there are none yet."""
        return await self._broker.get()

    def reload_certificates(self) -> None:
        """Read the files of certificates again. Those that cannot be used stay as they were, which is
        logged."""
        self._listeners.reload_certificates(forced=True)

    def doors_text(self) -> str:
        """`kafka=127.0.0.1:9092  http=127.0.0.1:8080`: the doors that are on, and those that should be."""
        return "  ".join(
            f"{status.name}={status.text}" for status in self.statuses() if status.is_on or status.off_reason
        )

    async def close(self) -> None:
        """Accept no new connections, finish the requests in progress, close the log cleanly. The order is
        that of the layers: doors, broker, search, audit, node. Before them, pushing ends, and then the
        engine lets those return that wait for events of a subscription."""
        try:
            await self._push.close()
            await self.engine.close()
            await self._listeners.close()
            await self._broker.close()
            await self._search.close()
            if self._audit is not None:
                await self._audit.close()
        finally:
            self._authentication.close()
            await self.node.close()


async def start(settings: Settings, memory: InMemory | None = None) -> Running:
    """Start a server in the running loop; it accepts clients when this returns. `memory`: where its log is;
    None: in the data folder. CannotServe if it does not start: nothing is left open then."""
    with contextlib.ExitStack() as sockets:
        check_descriptors()
        allowed = _addresses_to_push_to(settings)
        _issuer_of_push_tokens(settings)
        check_super_users(settings)
        secure = SecureStart(data_folder(settings.data)) if settings.secure else None
        if secure is not None:
            settings = secure.settings(settings)
        plans = plan_doors(settings, all_doors.DOORS)
        if secure is not None:
            secure.make_certificate(
                ListenerNames(settings), [address for plan in plans for address in plan.addresses]
            )
        bound, off_reasons = bind_listeners(settings, plans, sockets)
        check_authentication(settings, [entry.listener for entry in bound])
        settings = _with_bound_addresses(settings, bound)
        if memory is None:
            folder = data_folder(settings.data)
            tighten(folder)
            node = await open_node(settings, folder)
        else:
            folder, node = memory.folder, await memory.open_node(settings)
        try:
            summary = None if secure is None else await secure.make_admin(node.access)
            running = _serve(settings, folder, node, bound, off_reasons, allowed, memory)
            running.secure = summary
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


def _issuer_of_push_tokens(settings: Settings) -> str | None:
    """CannotServe(usage): the setting `push_issuer` cannot be read."""
    from mainstem.push.tokens import parse_issuer

    try:
        return parse_issuer(settings.push_issuer) if settings.push_issuer else None
    except ValueError as error:
        raise CannotServe("usage", f"setting push_issuer: {error}") from None


def check_super_users(settings: Settings) -> None:
    """CannotServe(usage): the setting `super_users` cannot be read."""
    from mainstem.coordinator.access.authorizer import parse_super_users

    try:
        parse_super_users(settings.super_users)
    except ValueError as error:
        raise CannotServe("usage", f"setting super_users: {error}") from None


def _with_bound_addresses(settings: Settings, bound: Sequence[BoundListener]) -> Settings:
    """The settings with the addresses that are really served: clients ask for them by DescribeConfigs."""
    values = dict(settings.door_values)
    for door in all_doors.DOORS:
        addresses = [
            NamedAddress(
                # Kafka's setting has names; of the others, clients need to know the protocol
                entry.listener.name if door.needs_advertised_address else entry.listener.security,
                entry.listener.address,
            )
            for entry in bound
            if door.name in entry.listener.doors
        ]
        values[door.name] = ",".join(map(str, addresses)) or None
    return dataclasses.replace(settings, door_values=values)


def _serve(
    settings: Settings,
    folder: Path,
    node: Node,
    bound: Sequence[BoundListener],
    off_reasons: Mapping[str, str],
    allowed: AllowedAddresses,
    memory: InMemory | None,
) -> Running:
    """Create the engine, the search and the listeners, and begin to accept clients."""
    from mainstem.engines.authorized.engine import AuthorizedViews
    from mainstem.engines.embedded.engine import EmbeddedEngine
    from mainstem.engines.read_only import read_only
    from mainstem.serve.audit import open_audit
    from mainstem.serve.broker import LazyBroker
    from mainstem.serve.listeners import Listeners
    from mainstem.serve.search import LazySearch, import_local_search, local_search
    from mainstem.version import __version__

    doors, access = all_doors.DOORS, node.access
    address = _advertised_address(bound, doors)
    host_and_port = ("", 0) if address is None else (address.host, address.port)
    engine = EmbeddedEngine(node, address=host_and_port) if memory is None else memory.engine(host_and_port)
    search = LazySearch(
        partial(local_search, engine, folder, node) if memory is None else partial(memory.search, engine)
    )
    topology = node.subscriptions.topology
    broker = LazyBroker(engine, node.clock, random.SystemRandom(), lambda: bool(topology.all()))
    authentication = ServerAuthentication(settings, access, node.clock, node.log.folder_id.bytes)
    push_tokens = _push_tokens(settings, folder if memory is None else None, node)
    audit = open_audit(node, authentication, [entry.listener for entry in bound])

    def make_context(door: Door, its_listeners: tuple[Listener, ...], warnings: WarningLog) -> DoorContext:
        refuses_changes = bool(settings.door_values.get(f"{door.name}_read_only"))
        its_engine = read_only(engine) if refuses_changes else engine
        return DoorContext(
            settings=settings,
            clock=node.clock,
            engine=its_engine,
            access=access_of(node, authentication, is_read_only=refuses_changes, uses_node=door.needs_node),
            cluster_address="" if address is None else str(address),
            listeners=its_listeners,
            warnings=warnings,
            statuses=listeners.statuses,
            search=search.get,
            views=AuthorizedViews(its_engine, search.get, access.authorizer, access.masks, node.clock),
            version=__version__,
            read_only=refuses_changes,
            http_mounts=listeners.http_mounts(),
            disk_usage=partial(_disk_usage, folder, node) if memory is None else None,
            write_refusal=lambda: node.rejection_reason,
            token_keys=push_tokens,
            audit=audit,
            broker=broker.get,
            node=node if door.needs_node else None,
        )

    admits = node.quotas.admits
    listeners = Listeners(
        bound, doors, off_reasons, settings, node.clock, make_context, import_local_search, admits
    )
    listeners.start()
    push = _start_pushing(engine, node, allowed, push_tokens)
    running = Running(settings, folder, node, engine, listeners, search, broker, push, audit, authentication)
    broker.load_what_is_there()
    if any(door.uses_search and door.name in running.addresses for door in doors):
        search.prepare_later()
    _log_advertised(bound)
    return running


def _disk_usage(folder: Path, node: Node) -> DiskUsage:
    usage = shutil.disk_usage(folder)
    return DiskUsage(used_bytes=node.log.total_bytes(), free_bytes=usage.free, total_bytes=usage.total)


def _log_advertised(bound: Sequence[BoundListener]) -> None:
    """Log the addresses that clients are given instead of those that are bound."""
    for entry in bound:
        if entry.listener.advertised != entry.listener.address:
            log.info("clients are directed to %s", entry.listener.advertised)


def _push_tokens(settings: Settings, folder: Path | None, node: Node) -> PushTokens:
    """The tokens of push requests. `folder`: None: their keys are in memory alone."""
    from mainstem.log import paths
    from mainstem.push.tokens import PushTokens

    file = None if folder is None else folder / paths.PUSH / "keys.json"
    return PushTokens(file, _issuer_of_push_tokens(settings), node.clock)


def _start_pushing(
    engine: EmbeddedEngine, node: Node, allowed: AllowedAddresses, tokens: PushTokens
) -> PushService:
    """Push the events of the engine's subscriptions from now on."""
    from mainstem.push.service import PushService

    push = PushService(engine, node.clock, allowed, tokens)
    engine.attach_pusher(push)
    return push


def access_of(
    node: Node, authentication: ServerAuthentication, *, is_read_only: bool, uses_node: bool = False
) -> Access:
    """Access as a door gets it: with the errors of the contract, unless the door uses the node itself."""
    from mainstem.engines.embedded.access_admin import TranslatedAdmin
    from mainstem.engines.embedded.mask_admin import TranslatedMasks
    from mainstem.engines.embedded.quota_admin import TranslatedQuotas
    from mainstem.engines.embedded.token_store import TranslatedTokens

    return Access(
        authorizer=node.access.authorizer,
        admin=node.access if uses_node else TranslatedAdmin(node.access, is_read_only),
        authentication=authentication,
        masks=TranslatedMasks(node.access.masks, is_read_only),
        quotas=node.quotas if uses_node else TranslatedQuotas(node.quotas, is_read_only),
        api_tokens=TranslatedTokens(node.api_tokens, is_read_only),
    )


def _advertised_address(bound: Sequence[BoundListener], doors: Sequence[Door]) -> HostPort | None:
    """The advertised address of the first listener whose protocol passes one on to its clients."""
    names = {door.name for door in doors if door.needs_advertised_address}
    for entry in bound:
        if names.intersection(entry.listener.doors):
            return entry.listener.advertised
    return None


async def open_node(settings: Settings, folder: Path) -> Node:
    """Open log and coordinator of a folder, which they lock. CannotServe: they cannot be opened. Blocks while
    it reads."""
    from mainstem.clock import LoopClock
    from mainstem.log.disk.real_disk import RealDisk
    from mainstem.log.errors import LogFolderError, LogFolderLocked

    loop = asyncio.get_running_loop()
    disk = RealDisk(str(folder), loop)
    if settings.durability == "disk":
        disk.start()  # beside the imports that follow, the longest part of a start

    from mainstem.node import Node

    rng = random.SystemRandom()  # the secret of masks must not follow from ids that are public
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


def run(
    settings: Settings,
    ready: Callable[[str], None],
    on_secure: Callable[[SecureSummary], None] = lambda _: None,
) -> None:
    """Serve until SIGTERM or SIGINT, then close cleanly. `ready` gets the ready line when clients are
    accepted, and before it `on_secure` what was set up, if the setting `secure` is on. CannotServe if the
    server does not start. A second signal ends the process at once, without a clean close."""
    if sys.platform == "win32":
        raise CannotServe(
            "refused", "serve needs Linux or macOS; on Windows run it inside WSL (wsl --install)"
        )
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(_run(settings, ready, on_secure))


async def _run(
    settings: Settings, ready: Callable[[str], None], on_secure: Callable[[SecureSummary], None]
) -> None:
    stop = asyncio.Event()
    on_signals(stop)
    gc.disable()  # until what is made at the start is frozen
    running = await start(settings)
    if running.secure is not None:
        on_secure(running.secure)
    ready(
        f"mainstem ready in {process_age_s():.2f} s  {running.doors_text()}  data={running.folder}"
        f"  durability={settings.durability}"
    )
    if not os.isatty(0):  # else it is the end of a terminal, and ends the server as it does others
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, running.reload_certificates)
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


def process_age_s() -> float:
    """Seconds since this process began; on Linux the start of the interpreter is included."""
    try:
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError, ValueError):
        return time.monotonic() - _IMPORTED
