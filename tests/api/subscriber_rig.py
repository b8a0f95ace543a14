"""An engine on a disk in memory, in the loop of the test, as a backend for subscribers."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from mainstem import contract
from mainstem.api.codec import codec_of
from mainstem.api.runner import Runner
from mainstem.api.signals import Retry
from mainstem.api.subscriber import Subscriber, declared, options_of
from mainstem.clock import LoopClock
from mainstem.contract import NewEvent
from mainstem.engines.embedded.engine import EmbeddedEngine
from mainstem.log.disk.memory_disk import MemoryDisk
from mainstem.node import Node
from mainstem.queue_contract import Queues
from mainstem.settings import Settings

AT_ONCE = Retry(initial_delay=0.0)


class MemoryBackend:
    """The backend, and how a test publishes to it."""

    def __init__(self, engine: EmbeddedEngine, clock: LoopClock) -> None:
        self.engine = engine
        self.queues: Queues | None = engine
        self.clock = clock

    def search(self, query: str, **named: Any) -> AsyncGenerator[contract.Event, None]:
        raise NotImplementedError

    async def redrive(self, subscription: str, **named: Any) -> int:
        raise NotImplementedError

    async def close(self) -> None:
        pass

    async def publish(self, topic: str, *values: str, key: str | None = None, **headers: str) -> None:
        """Publish texts: to key `key`, or the part of each before a colon."""
        given = tuple((name.replace("_", "-"), text.encode()) for name, text in headers.items())
        events = [
            NewEvent(
                value.encode(),
                (key or value.partition(":")[0] if ":" in value else key or "").encode() or None,
                given,
            )
            for value in values
        ]
        await self.engine.publish(topic, events)

    async def letters(self, topic: str) -> list[contract.Event]:
        """All events of a topic."""
        events: list[contract.Event] = []
        for partition in range(await self.engine.partitions(topic)):
            bounds = await self.engine.bounds(topic, partition)
            reader = await self.engine.reader([contract.Position(topic, partition, bounds.begin)])
            while reader.positions()[0].offset < bounds.end:
                events += (await reader.read()).events
            await reader.close()
        return events


@asynccontextmanager
async def memory_backend(partitions: int = 1) -> AsyncIterator[MemoryBackend]:
    """A new log in memory."""
    clock = LoopClock(asyncio.get_running_loop())
    settings = Settings(data=":memory:", num_partitions=partitions, durability="os")
    node = await Node.open(settings, MemoryDisk(), clock, random.Random(7))
    engine = EmbeddedEngine(node)
    try:
        yield MemoryBackend(engine, clock)
    finally:
        await engine.close()
        await node.close()


def subscriber(
    function: Callable[[Any], Any],
    topic: str = "orders",
    group: str = "billing",
    model: Any = str,
    **options: Any,
) -> Subscriber:
    """A subscriber of texts, tried again at once."""
    options.setdefault("retry", AT_ONCE)
    return declared(function, options_of(topic, group, **options), codec_of(model))


@asynccontextmanager
async def running(
    backend: MemoryBackend, subscribers: Sequence[Subscriber], grace_s: float = 5.0, **named: Any
) -> AsyncIterator[Runner]:
    """The subscribers, running."""
    runner = Runner(backend, subscribers, **named)
    await runner.start()
    try:
        yield runner
    finally:
        await runner.stop(grace_s)


async def settled(runner: Runner, total: int | None = None) -> None:
    """Wait until every group has done everything, and as many as `total` in all."""
    async with asyncio.timeout(20):
        while True:
            states = await runner.state()
            ended = sum(state.done + state.dead for state in states)
            if not any(state.lag for state in states) and (total is None or ended >= total):
                return
            await asyncio.sleep(0.002)
