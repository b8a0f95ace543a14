"""A node in this process, in a thread of its own: what `mainstem.open` gives.

Owns: opening a data folder, or a log in memory, and closing it within a bounded time; the proxies through
which callers of any event loop use it; and moving the time of a log in memory. Refuses: to run in the loop of
the program, where a handler that computes for a minute would stop the log, and heartbeats with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from mainstem import contract
from mainstem.api.errors import FolderInUse
from mainstem.api.hosted_engine import hosted
from mainstem.api.node_thread import NodeThread
from mainstem.api.redrive import redrive_letters
from mainstem.clock import Clock, TravelClock
from mainstem.contract import NO_SETTINGS, InvalidArgument, NotReachable, StreamError
from mainstem.event_loop import loop_factory
from mainstem.log.disk.lock_holder import lock_holder
from mainstem.log.paths import LOCK
from mainstem.search.contract import Hit, Progress, SearchRequest
from mainstem.search.query.errors import QueryError
from mainstem.serve.errors import CannotServe
from mainstem.serve.in_memory import InMemory

if TYPE_CHECKING:
    from mainstem.api.hosted_engine import HostedCalls
    from mainstem.engines.embedded.engine import EmbeddedEngine
    from mainstem.node import Node
    from mainstem.search.contract import Search, Update
    from mainstem.serve.server import Running
    from mainstem.settings import Settings

T = TypeVar("T")

MEMORY = ":memory:"
"""In place of the path of a data folder: a new log in memory, which is gone when it is closed."""
CLOSE_S = 10.0
"""Seconds in which a node is closed; what is not done by then is abandoned."""
FINISH_S = 1.0
"""Seconds that calls in progress have to end when the node closes; then they end with NotReachable."""
HITS_A_CROSSING = 100
"""Hits of a search that cross to its caller at once, at most."""

log = logging.getLogger(__name__)


class HostedNode:
    """A node in a thread of its own. Implements `Backend` for callers in any loop; may be used from several
    at the same time. Created by `open`."""

    def __init__(self, thread: NodeThread, opened: _Opened, memory: InMemory | None) -> None:
        self._thread = thread
        self._opened = opened
        self._memory = memory
        self._closed = False
        self.clock: Clock = opened.node.clock
        """The time of the log. Only `wall_ms` and `monotonic` may be called from another thread."""
        self.engine: HostedCalls = hosted(thread, opened.engine, self.close)
        """The engine, for callers in any loop."""
        self.queues: HostedCalls = self.engine
        """Its subscriptions: the same object."""

    @classmethod
    def open(
        cls, path: str | Path, *, serve: bool = False, settings: Mapping[str, object] = NO_SETTINGS
    ) -> HostedNode:
        """Open the data folder `path`, which is made if it is missing, or `:memory:`. Blocks: some
        milliseconds in memory; for a folder, while its log is recovered. `serve`: also accept the clients of
        other programs, on free ports of this machine unless `settings` say where. `settings`: those of
        `mainstem serve`, by name.

        FolderInUse: another process has the folder. NotReachable: it cannot be opened, and why.
        InvalidArgument: a setting."""
        given = _settings(str(path), settings, serve)
        thread = NodeThread(f"mainstem {path}", loop_factory())
        try:
            opened, memory = thread.call_now(lambda: _open(str(path), given, serve))
        except BaseException as error:
            thread.stop(CLOSE_S)
            if isinstance(error, CannotServe):
                raise _refused(error, str(path)) from None
            raise
        return cls(thread, opened, memory)

    @property
    def addresses(self) -> Mapping[str, str]:
        """HOST:PORT by the name of each door that is open, such as `kafka` and `http`."""
        return self._opened.addresses

    def serve(self, *doors: str) -> Mapping[str, str]:
        """Open these doors of a log in memory on free ports of this machine; those of a default server if
        none is named. Does nothing if doors are open already. Returns `addresses`. InvalidArgument: the log
        is not in memory, or there is no such door."""
        opened, memory = self._opened, self._memory
        if memory is None:
            raise InvalidArgument("doors to a log on disk are opened with it: open(path, serve=True)")
        settings = _settings(MEMORY, {"doors": ",".join(doors) or None}, True)
        if not opened.addresses:
            try:
                self.call(lambda: opened.serve(settings, memory))
            except CannotServe as error:
                raise InvalidArgument(str(error)) from None
        return opened.addresses

    async def search(
        self,
        query: str,
        *,
        topics: Sequence[str] = (),
        since_ms: int | None = None,
        until_ms: int | None = None,
        limit: int | None = None,
    ) -> AsyncGenerator[contract.Event, None]:
        """See `Backend`. `limit` None: all."""
        request = SearchRequest(query=query, topics=topics, since_ms=since_ms, until_ms=until_ms, limit=limit)
        hits = _Hits(self._opened, request)
        try:
            while events := await self._thread.call(hits.next, waits=True):
                for event in events:
                    yield event
        except QueryError as error:
            raise InvalidArgument(f"query: {error}") from None
        finally:
            with contextlib.suppress(NotReachable):  # the node was closed, and the search with it
                await self._thread.call(hits.close)

    async def redrive(self, subscription: str, *, where: str, since_ms: int | None, dry_run: bool) -> int:
        """See `Backend`."""
        opened, now_ms = self._opened, self.clock.wall_ms()
        return await self._thread.call(
            lambda: redrive_letters(
                opened.engine,
                opened.engine,
                subscription,
                where=where,
                since_ms=since_ms,
                now_ms=now_ms,
                dry_run=dry_run,
            )
        )

    def advance(self, by: timedelta) -> None:
        """Move the wall time of a log in memory forward, and do what is due then: retention, delays, retries,
        times to live. Blocks until that is done. Sessions, and what waits for a timeout, do not notice; locks
        of deliveries, which end at a time, do. ValueError: backwards. InvalidArgument: it is not in
        memory."""
        clock, opened = self.clock, self._opened
        if not isinstance(clock, TravelClock):
            raise InvalidArgument("the time of a log on disk cannot be moved")
        ms = int(by / timedelta(milliseconds=1))

        async def move() -> None:
            clock.advance(ms)
            opened.engine.clock_moved()
            await opened.node.enforce_retention()

        self.call(move)

    def call(self, work: Callable[[], Coroutine[Any, Any, T]], timeout_s: float | None = None) -> T:
        """Run `work()` in the node's loop and block until it is done, for callers without a loop. Raises what
        it raises; TimeoutError: `timeout_s` is over, and the work is cancelled."""
        return self._thread.call_now(work, timeout_s)

    async def close(self) -> None:
        """See `Backend`. Takes at most CLOSE_S; what does not end by then is logged and abandoned."""
        if not self._closed:
            await asyncio.to_thread(self.close_now)

    def close_now(self, timeout_s: float = CLOSE_S) -> list[str]:
        """As `close`, blocking. Returns the stacks of what did not end in time."""
        if self._closed:
            return []
        self._closed = True
        problems: list[str] = []
        try:
            self._thread.call_now(lambda: self._close(min(FINISH_S, timeout_s / 4)), timeout_s)
        except TimeoutError:
            problems.append(f"the log was not closed within {timeout_s:g} s")
        except NotReachable:
            pass  # the thread has ended
        problems += self._thread.stop(timeout_s / 4)
        for problem in problems:
            log.error("closing the stream in this process: %s", problem)
        return problems

    async def _close(self, finish_s: float) -> None:
        """In the thread: finish the calls in progress, and close all."""
        thread = self._thread
        thread.is_closing = True
        await self._opened.end_waiting()
        own = asyncio.current_task()
        for task, waits in list(thread.crossings.items()):
            if waits:
                task.cancel()
        if running := {task for task in thread.crossings if task is not own}:
            _, late = await asyncio.wait(running, timeout=finish_s)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=finish_s)
        await self._opened.close()


class _Opened:
    """What is open in the thread."""

    def __init__(self, node: Node, engine: EmbeddedEngine, make_search: Callable[[], Search]) -> None:
        self.node = node
        self.engine = engine
        self.addresses: Mapping[str, str] = {}
        self._make_search = make_search
        self._search: Search | None = None
        self._running: Running | None = None

    @classmethod
    def served(cls, running: Running) -> _Opened:
        """What a server with open doors has."""
        opened = cls(running.node, running.engine, running.search)
        opened._take(running)
        return opened

    async def serve(self, settings: Settings, memory: InMemory) -> None:
        """Open doors to the node in memory. CannotServe."""
        from mainstem.serve.server import start

        self._take(await start(settings, memory))

    def _take(self, running: Running) -> None:
        self._running = running
        self.addresses = {name: str(addresses[0]) for name, addresses in running.addresses.items()}

    def search(self) -> Search:
        """The search; it is created at its first use."""
        if self._search is None:
            self._search = self._make_search()
        return self._search

    async def end_waiting(self) -> None:
        """Let those return that wait for events of a subscription."""
        await self.engine.close()

    async def close(self) -> None:
        """Close all, in the order of the layers."""
        try:
            if self._search is not None:
                await self._search.close()
        finally:
            await (self.node if self._running is None else self._running).close()


class _Hits:
    """A search in the thread, which is asked for some of its hits at a time."""

    def __init__(self, opened: _Opened, request: SearchRequest) -> None:
        self._opened = opened
        self._request = request
        self._updates: AsyncGenerator[Update, None] | None = None

    async def next(self) -> list[contract.Event]:
        """The next hits, without waiting long for more than one. Empty at the end."""
        if self._updates is None:
            self._updates = self._opened.search().search(self._request)
        events: list[contract.Event] = []
        async for update in self._updates:
            if isinstance(update, Hit):
                events.append(update.event)
            if len(events) >= HITS_A_CROSSING or (events and isinstance(update, Progress)):
                break
        return events

    async def close(self) -> None:
        """Cancel the search."""
        if self._updates is not None:
            await self._updates.aclose()


def _settings(path: str, given: Mapping[str, object], serve: bool) -> Settings:
    """The settings of a node, with a free port for each door to open that has no address."""
    from mainstem.settings import Settings

    if not (given or serve):
        return Settings(data=path)
    from mainstem.doors import DOORS
    from mainstem.serve import options
    from mainstem.setting_definition import SettingsError

    flags = {"data": path, **given}
    if serve:
        flags["doors"] = flags.get("doors") or "kafka,http"
        wanted = str(flags["doors"]).split(",")
        for door in DOORS:
            if door.name in wanted or "all" in wanted:
                flags.setdefault(door.name, "127.0.0.1:0")
    known = {definition.name for definition in options.definitions()}
    if unknown := sorted(set(flags) - known):
        raise InvalidArgument(f"there is no setting {unknown[0]}")
    try:
        return options.load(flags)
    except SettingsError as error:
        raise InvalidArgument(str(error)) from None


async def _open(path: str, settings: Settings, serve: bool) -> tuple[_Opened, InMemory | None]:
    """In the thread: open a log, and perhaps doors to it."""
    if path == MEMORY:
        place = InMemory(TravelClock(asyncio.get_running_loop()))
        node = await place.open_node(settings)
        engine = place.engine()
        opened = _Opened(node, engine, lambda: place.search(engine))
        if serve:
            await opened.serve(settings, place)
        return opened, place
    from mainstem.engines.embedded.engine import EmbeddedEngine
    from mainstem.serve.private_files import tighten
    from mainstem.serve.search import local_search
    from mainstem.serve.server import data_folder, open_node, start

    if serve:
        return _Opened.served(await start(dataclasses.replace(settings, data=path))), None
    folder = data_folder(path)
    tighten(folder)
    node = await open_node(settings, folder)
    engine = EmbeddedEngine(node)
    return _Opened(node, engine, lambda: local_search(engine, folder, node)), None


def _refused(error: CannotServe, path: str) -> StreamError:
    """The error of the API for a log that cannot be opened."""
    if error.reason != "locked":
        return NotReachable(str(error))
    holder = lock_holder(str(Path(path) / LOCK))
    return FolderInUse(
        f"data folder {path} is in use by {holder}: stop it, connect() to it if it is a server, or open"
        " another folder"
    )
