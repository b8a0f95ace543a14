"""Hands each accepted connection to the door whose bytes it sends.

Owns: the listening sockets, and when a door's code is imported: at its first connection. Refuses: connections
that speak the protocol of no door behind their listener.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from mainstem.doors.contract import Door, DoorStatus, Listener, OpenDoor, Opener
from mainstem.doors.net.accepted import AcceptedConnection
from mainstem.doors.net.acceptor import RETRY_SECONDS, Acceptor, is_exhausted
from mainstem.doors.net.limits import ConnectionLimits, connections_within_descriptors
from mainstem.doors.net.warning_log import WarningLog
from mainstem.serve import logs
from mainstem.serve.binding import BoundListener
from mainstem.serve.certificate_watch import CertificateWatch

if TYPE_CHECKING:
    from mainstem.clock import Clock
    from mainstem.doors.contract import DoorContext, HttpApp
    from mainstem.settings import Settings

log = logging.getLogger("mainstem.serve.listeners")

SNIFF_BYTES = 16
"""First bytes of a connection that doors are shown."""
SNIFF_RETRY_SECONDS = 0.02
"""Pause before a connection is looked at again if its first bytes were too few to distinguish protocols."""
SUPPRESSED_SECONDS = 5.0
"""Interval in which warnings that were suppressed are logged."""


class DoorSlot:
    """A door that is on. Its code is imported, and the door opened, at its first connection."""

    def __init__(
        self,
        door: Door,
        listeners: tuple[Listener, ...],
        limits: ConnectionLimits,
        warnings: WarningLog,
        make_context: Callable[[Door, tuple[Listener, ...], WarningLog], DoorContext],
        preload: Callable[[], None],
    ) -> None:
        self.door = door
        self.listeners = listeners
        self.limits = limits
        self.warnings = warnings
        self.opened: OpenDoor | None = None
        self._make_context = make_context
        self._preload = preload
        self._waiting: list[tuple[AcceptedConnection, Listener]] = []
        self._opening: asyncio.Task[None] | None = None
        self._closing = False

    def accept(self, connection: AcceptedConnection, listener: Listener) -> None:
        """Hand the connection to the door: now if the door is open, else as soon as it is."""
        if self.opened is not None and not self._closing:
            self.opened.accept(connection, listener)
        elif self._closing:
            connection.refuse()
        else:
            self._waiting.append((connection, listener))
            self.open_soon()

    def open_soon(self) -> None:
        """Begin to open the door, unless it is open or opening."""
        if self.opened is None and self._opening is None and not self._closing:
            self._opening = asyncio.get_running_loop().create_task(
                self._open(), name=f"open {self.door.name}"
            )

    async def open_http_app(self) -> HttpApp:
        """Open the door, if need be, for its paths on the HTTP door. RuntimeError if it cannot be opened."""
        self.open_soon()
        if self._opening is not None:
            await asyncio.shield(self._opening)
        app = None if self.opened is None else self.opened.http_app
        if app is None:
            raise RuntimeError(f"the {self.door.title} door is closed, or has no HTTP application")
        return app

    async def _open(self) -> None:
        try:
            while self.opened is None and not self._closing:
                await self._try_to_open()
        except Exception:
            log.exception(
                "the %s door cannot be opened: its connections are closed, and the next one tries again",
                self.door.title,
            )
        self._opening = None  # after a failure the next connection tries again
        waiting, self._waiting = self._waiting, []
        for connection, listener in waiting:
            if self.opened is None or self._closing:
                connection.refuse()
            else:
                self.opened.accept(connection, listener)

    async def _try_to_open(self) -> None:
        """Open the door; wait before the next try if the process has no descriptors or memory left."""
        try:
            opener = await _load_in_thread(self.door, self._preload)
            self.opened = await opener(self._make_context(self.door, self.listeners, self.warnings))
        except (OSError, ImportError) as error:
            if not is_exhausted(error):
                raise
            self.warnings.warn("open", f"connections have to wait: {getattr(error, 'strerror', error)}")
            await asyncio.sleep(RETRY_SECONDS)

    async def close(self) -> None:
        """Finish what is in progress, then end every connection."""
        self._closing = True
        if self._opening is not None:
            await self._opening
        if self.opened is not None:
            await self.opened.drain()
            await self.opened.close()

    def status(self, certificates: CertificateWatch) -> DoorStatus:
        """The door's status as the ready line, the health check and the console show it."""
        opened = self.opened
        return DoorStatus(
            name=self.door.name,
            title=self.door.title,
            flag=self.door.flag,
            addresses=tuple(listener.address for listener in self.listeners),
            advertised=tuple(listener.advertised for listener in self.listeners),
            security=tuple(listener.security for listener in self.listeners),
            connections=0 if opened is None else opened.connections,
            problems=() if opened is None else tuple(opened.problems()),
            notes=tuple(note for listener in self.listeners for note in certificates.notes(listener)),
            certificate_expires_at_s=min(
                filter(None, map(certificates.expires_at_s, self.listeners)), default=None
            ),
            metrics=self.door.metrics,
            samples=() if opened is None else tuple(opened.metric_samples()),
        )


class Listeners:
    """All listening sockets of a server and the doors behind them. `preload` imports what engine and search
    import at their first use; it is called in a thread, before a door that searches is opened."""

    def __init__(
        self,
        bound: Sequence[BoundListener],
        doors: Iterable[Door],
        off_reasons: Mapping[str, str],
        settings: Settings,
        clock: Clock,
        make_context: Callable[[Door, tuple[Listener, ...], WarningLog], DoorContext],
        preload: Callable[[], None] = lambda: None,
        admits: Callable[[str], bool] = lambda host: True,
    ) -> None:
        """`admits`: see `ConnectionLimits`."""
        self._loop = asyncio.get_running_loop()
        self._bound = bound
        self._doors = tuple(doors)
        self._off_reasons = off_reasons
        self._settings = settings
        self._acceptors: list[Acceptor] = []
        self._certificates = CertificateWatch(
            [(entry.listener, entry.tls) for entry in bound if entry.tls is not None], clock
        )
        self._sniffing: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._slots: dict[str, DoorSlot] = {}
        for door in self._doors:
            listeners = tuple(entry.listener for entry in bound if door.name in entry.listener.doors)
            if listeners:
                limits = ConnectionLimits(
                    clock,
                    connections_within_descriptors(settings.max_connections),
                    settings.max_connections_per_ip,
                    settings.max_connection_creation_rate,
                    admits,
                )
                warnings = WarningLog(clock, logging.getLogger(f"mainstem.{door.name}"))
                self._slots[door.name] = DoorSlot(door, listeners, limits, warnings, make_context, preload)

    def start(self) -> None:
        """Begin to accept connections, and open the doors that are needed before their first connection."""
        for bound in self._bound:
            slots = [self._slots[name] for name in bound.listener.doors]
            acceptor = Acceptor(
                self._loop,
                bound.socket,
                slots[0].limits,  # doors on one address share the limits of the first
                self._handler(slots, bound),
                slots[0].warnings.warn,
            )
            acceptor.start()
            self._acceptors.append(acceptor)
        self._log_suppressed()
        for slot in self._slots.values():
            if slot.door.started_text:
                log.info(slot.door.started_text.format(port=slot.listeners[0].address.port))
            if slot.door.preload:
                slot.open_soon()

    def reload_certificates(self, *, forced: bool = False) -> None:
        """Read the files of certificates again that have changed; all if `forced`."""
        self._certificates.check(forced=forced)

    def http_mounts(self) -> dict[str, Callable[[], Awaitable[HttpApp]]]:
        """For each door with paths on the HTTP door: the prefix of the paths -> the function that opens
        it."""
        return {
            slot.door.http_prefix: slot.open_http_app
            for slot in self._slots.values()
            if slot.door.http_prefix
        }

    def statuses(self) -> list[DoorStatus]:
        """The status of every door, on or off."""
        return [
            self._slots[door.name].status(self._certificates)
            if door.name in self._slots
            else DoorStatus(
                name=door.name,
                title=door.title,
                flag=door.flag,
                off_reason=self._off_reasons.get(door.name, ""),
                metrics=door.metrics,
            )
            for door in self._doors
        ]

    async def close(self) -> None:
        """Accept no more, then close the doors, the last one first."""
        for acceptor in self._acceptors:
            acceptor.close()
        if self._timer is not None:
            self._timer.cancel()
        for bound in self._bound:
            if bound.tls is not None:
                bound.tls.cancel_handshakes()
        for task in list(self._sniffing):
            task.cancel()
        if self._sniffing:
            await asyncio.wait(self._sniffing)
        for slot in reversed(self._slots.values()):
            await slot.close()
        logs.report_left_out(at_end=True)

    def _log_suppressed(self) -> None:
        for slot in self._slots.values():
            slot.warnings.log_suppressed()
        logs.report_left_out()
        self.reload_certificates()
        self._timer = self._loop.call_later(SUPPRESSED_SECONDS, self._log_suppressed)

    def _handler(
        self, slots: Sequence[DoorSlot], bound: BoundListener
    ) -> Callable[[socket.socket, str], None]:
        """The callback for an accepted connection: hand it to the only door, or look at its first bytes."""
        listener, limits, warn = bound.listener, slots[0].limits, slots[0].warnings.warn

        def accepted(sock: socket.socket, host: str) -> AcceptedConnection:
            return AcceptedConnection(sock, host, limits, listener.default_principal, bound.tls, warn)

        def hand_over(sock: socket.socket, host: str) -> None:
            slots[0].accept(accepted(sock, host), listener)

        def identify(sock: socket.socket, host: str) -> None:
            task = self._loop.create_task(self._sniff(accepted(sock, host), slots, listener))
            self._sniffing.add(task)
            task.add_done_callback(self._sniffing.discard)

        return hand_over if len(slots) == 1 else identify

    async def _sniff(
        self, connection: AcceptedConnection, slots: Sequence[DoorSlot], listener: Listener
    ) -> None:
        """Look at the first bytes, without taking them, until one door knows them or all refuse them."""
        try:
            async with asyncio.timeout(self._settings.first_request_timeout_ms / 1000):
                slot = await self._slot_for(connection.socket, slots)
        except (TimeoutError, OSError, asyncio.CancelledError):
            connection.refuse()
            return
        if slot is None:
            names = " or ".join(slot.door.title for slot in slots)
            slots[0].warnings.warn(
                "protocol",
                f"{connection.host} does not speak {names} at {listener.address}: connection closed",
            )
            connection.refuse()
        else:
            slot.accept(connection, listener)

    async def _slot_for(self, sock: socket.socket, slots: Sequence[DoorSlot]) -> DoorSlot | None:
        """The door whose protocol the first bytes are; None if no door's. OSError if the client is gone."""
        while True:
            await _readable(self._loop, sock)
            data = sock.recv(SNIFF_BYTES, socket.MSG_PEEK)
            if not data:
                raise ConnectionResetError("closed before its first byte")
            verdicts = [slot.door.sniff(data) for slot in slots]
            if True in verdicts:
                return slots[verdicts.index(True)]
            if None not in verdicts or len(data) >= SNIFF_BYTES:
                return None
            await asyncio.sleep(SNIFF_RETRY_SECONDS)


async def _readable(loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(sock, lambda: None if ready.done() else ready.set_result(None))
    try:
        await ready
    finally:
        loop.remove_reader(sock)


async def _load_in_thread(door: Door, preload: Callable[[], None]) -> Opener:
    """Import the door's code in a thread of its own: other connections are served meanwhile."""
    loop = asyncio.get_running_loop()
    loaded: asyncio.Future[Opener] = loop.create_future()

    def set_result(opener: Opener | None, error: BaseException | None) -> None:
        if loaded.done():
            return
        if error is not None:
            loaded.set_exception(error)
        else:
            assert opener is not None
            loaded.set_result(opener)

    def load() -> None:
        try:
            opener = door.load()
            if door.uses_search:
                preload()
        except BaseException as error:
            loop.call_soon_threadsafe(set_result, None, error)
        else:
            loop.call_soon_threadsafe(set_result, opener, None)

    threading.Thread(target=load, name=f"import {door.name}", daemon=True).start()
    return await loaded
