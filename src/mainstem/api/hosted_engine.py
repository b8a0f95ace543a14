"""The engine of a node in another thread, for callers of any event loop.

Owns: proxies of the engine, its readers and its members. Each call runs in the node's thread (`NodeThread`).
What a call returned although its caller was cancelled is not lost: events that were read are returned by the
next read, and deliveries are given back. Refuses: the calls of the engine that are not awaited, which are for
doors and for the search.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from typing import Any, Literal, Protocol, cast

from mainstem.api.node_thread import NodeThread
from mainstem.contract import (
    NO_NOTES,
    AssignedPartition,
    Engine,
    Member,
    MemberHooks,
    Position,
    PreviewsSettings,
    Reader,
    ReadResult,
    TopicPartition,
    UnknownTopic,
)
from mainstem.door_contract import PublishesOnce
from mainstem.queue_contract import PULL_BYTES_MAX, Delivery, Nack, Queues


class HostedReader:
    """Implements `Reader` over a reader of the node's thread."""

    def __init__(self, thread: NodeThread, reader: Reader, positions: Sequence[Position]) -> None:
        self._thread = thread
        self._reader = reader
        self._positions = {(position.topic, position.partition): position for position in positions}
        self._seeks: list[Position] = []
        """To be made by the next read."""
        self._unclaimed: ReadResult | None = None
        """What a read returned whose caller was cancelled."""

    async def read(self, *, max_events: int = 1_000, wait_ms: int = 1_000) -> ReadResult:
        """See the contract."""
        if self._unclaimed is not None:
            return self._claim(max_events)
        seeks, self._seeks = self._seeks, []

        async def read() -> tuple[ReadResult, Sequence[Position]]:
            for position in seeks:
                self._reader.seek(position)
            result = await self._reader.read(max_events=max_events, wait_ms=wait_ms)
            return result, self._reader.positions()

        def on_lost(lost: tuple[ReadResult, Sequence[Position]]) -> None:
            self._unclaimed = lost[0] or None

        result, positions = await self._thread.call(read, on_lost, waits=True)
        self._note(positions)
        return result

    def _claim(self, max_events: int) -> ReadResult:
        """What was not returned yet, at most `max_events` of it."""
        assert self._unclaimed is not None
        unclaimed, events = self._unclaimed, self._unclaimed.events
        claimed, rest = events[:max_events], ReadResult(events[max_events:])
        self._unclaimed = rest or None
        self._note([Position(event.topic, event.partition, event.offset + 1) for event in claimed])
        return ReadResult(claimed, unclaimed.unreadable)

    def _note(self, positions: Sequence[Position]) -> None:
        sought = {(position.topic, position.partition) for position in self._seeks}
        for position in positions:
            if (position.topic, position.partition) not in sought:
                self._positions[position.topic, position.partition] = position

    def positions(self) -> Sequence[Position]:
        """See the contract."""
        return sorted(self._positions.values())

    def seek(self, position: Position) -> None:
        """See the contract. UnknownTopic: it is none of the reader's partitions."""
        place = position.topic, position.partition
        if place not in self._positions:
            raise UnknownTopic(f"topic {position.topic}: the reader has no partition {position.partition}")
        self._positions[place] = position
        self._seeks.append(position)
        if self._unclaimed is not None:
            rest = [event for event in self._unclaimed.events if (event.topic, event.partition) != place]
            self._unclaimed = ReadResult(rest, self._unclaimed.unreadable) or None

    async def close(self) -> None:
        """See the contract."""
        await self._thread.call(self._reader.close)


class HostedMember:
    """Implements `Member` over a member of the node's thread. It sends its heartbeats there, so that it stays
    in its group however long its user is busy."""

    def __init__(self, thread: NodeThread, member: Member) -> None:
        self._thread = thread
        self._member = member
        self._unclaimed: list[ReadResult] = []
        """What reads returned whose callers were cancelled. It is returned whole: `commit` commits all that
        the node's member has returned."""

    async def read(self, *, max_events: int = 1_000, wait_ms: int = 1_000) -> ReadResult:
        """See the contract. After a read that was cancelled, there may be more than `max_events`."""
        if self._unclaimed:
            return self._unclaimed.pop(0)
        read = functools.partial(self._member.read, max_events=max_events, wait_ms=wait_ms)
        return await self._thread.call(read, self._on_lost, waits=True)

    def _on_lost(self, result: ReadResult) -> None:
        if result:
            self._unclaimed.append(result)

    async def commit(
        self, positions: Sequence[Position] | None = None, notes: Mapping[TopicPartition, str] = NO_NOTES
    ) -> None:
        """See the contract. All that was read is not committed before what a cancelled read had read was
        returned: it would be lost."""
        if positions is not None or not self._unclaimed:
            await self._thread.call(functools.partial(self._member.commit, positions, notes))

    def pause(self, partitions: Collection[TopicPartition]) -> None:
        """See the contract."""
        self._thread.soon(functools.partial(self._member.pause, partitions))

    def resume(self, partitions: Collection[TopicPartition]) -> None:
        """See the contract."""
        self._thread.soon(functools.partial(self._member.resume, partitions))

    async def close(self) -> None:
        """See the contract."""
        await self._thread.call(self._member.close)


class _HooksOfCaller:
    """Calls hooks in the loop of the member's user."""

    def __init__(self, hooks: MemberHooks) -> None:
        self._hooks = hooks
        self._loop = asyncio.get_running_loop()

    async def assigned(self, partitions: Sequence[AssignedPartition]) -> None:
        await self._call(self._hooks.assigned(partitions))

    async def revoked(self, partitions: Sequence[TopicPartition]) -> None:
        await self._call(self._hooks.revoked(partitions))

    async def lost(self, partitions: Sequence[TopicPartition]) -> None:
        await self._call(self._hooks.lost(partitions))

    async def _call(self, calling: Coroutine[Any, Any, None]) -> None:
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(calling, self._loop))


class HostedCalls(Engine, Queues, PublishesOnce, PreviewsSettings, Protocol):
    """What the engine in the thread implements, of the calls that are awaited."""


class HostedEngine:
    """Implements `Engine`, `Queues`, `PublishesOnce` and `PreviewsSettings` over the engine of a node in
    `thread`. Created by `hosted`; its other methods are added below, each as a call of the thread."""

    def __init__(
        self, thread: NodeThread, engine: HostedCalls, close: Callable[[], Coroutine[Any, Any, None]]
    ) -> None:
        """`close`: closes all, the node and the thread."""
        self._thread = thread
        self._engine = engine
        self._close = close

    async def reader(self, start: Sequence[Position]) -> HostedReader:
        """See the contract."""
        engine = self._engine

        async def make() -> tuple[Reader, Sequence[Position]]:
            reader = await engine.reader(start)
            return reader, reader.positions()

        def close_lost(made: tuple[Reader, Sequence[Position]]) -> None:
            self._in_thread(made[0].close)

        return HostedReader(self._thread, *await self._thread.call(make, close_lost))

    async def join(
        self,
        group: str,
        topics: Sequence[str],
        *,
        start: Literal["earliest", "latest"],
        hooks: MemberHooks | None = None,
    ) -> HostedMember:
        """See the contract."""
        called = None if hooks is None else _HooksOfCaller(hooks)
        join = functools.partial(self._engine.join, group, topics, start=start, hooks=called)
        member = await self._thread.call(join, lambda member: self._in_thread(member.close))
        return HostedMember(self._thread, member)

    async def pull(
        self,
        name: str,
        consumer: str,
        *,
        max_events: int = 100,
        wait_ms: int = 0,
        max_bytes: int = PULL_BYTES_MAX,
        lock_ms: int | None = None,
    ) -> list[Delivery]:
        """See the contract."""
        pull = functools.partial(
            self._engine.pull,
            name,
            consumer,
            max_events=max_events,
            wait_ms=wait_ms,
            max_bytes=max_bytes,
            lock_ms=lock_ms,
        )

        def give_back(deliveries: list[Delivery]) -> None:
            if deliveries:
                nacks = [Nack(delivery.token, counts=False, delivered=False) for delivery in deliveries]
                self._in_thread(functools.partial(self._engine.settle, name, nacks))

        return await self._thread.call(pull, give_back)

    async def close(self) -> None:
        """Close all: the node and its thread."""
        await self._close()

    def _in_thread(self, work: Callable[[], Awaitable[object]]) -> None:
        """Run `work` in the thread without waiting for it, as a call that is in progress when all closes."""

        async def run() -> None:
            await work()

        def start() -> None:
            task = self._thread.loop.create_task(run())
            self._thread.crossings[task] = False
            task.add_done_callback(lambda _: self._thread.crossings.pop(task, None))

        self._thread.soon(start)


def _crossing(name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
    async def method(self: HostedEngine, *args: Any, **named: Any) -> Any:
        return await self._thread.call(functools.partial(getattr(self._engine, name), *args, **named))

    method.__name__, method.__qualname__ = name, f"HostedEngine.{name}"
    method.__doc__ = "See the contract."
    return method


def _add_methods() -> None:
    for base in HostedCalls.__mro__:
        for name, member in vars(base).items():
            if inspect.iscoroutinefunction(member) and not hasattr(HostedEngine, name):
                setattr(HostedEngine, name, _crossing(name))


_add_methods()


def hosted(
    thread: NodeThread, engine: HostedCalls, close: Callable[[], Coroutine[Any, Any, None]]
) -> HostedCalls:
    """The proxy of an engine that runs in `thread`."""
    return cast(HostedCalls, HostedEngine(thread, engine, close))
