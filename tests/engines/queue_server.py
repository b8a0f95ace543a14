"""An embedded engine on the simulated disk and clock, which a test kills and starts again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

from mainstem.contract import NewEvent, Position
from mainstem.engines.embedded.engine import EmbeddedEngine
from mainstem.log.disk.contract import Disk
from mainstem.node import Node
from mainstem.queue_contract import Ack, Delivery, QueueDepth, SubscriptionSettings
from mainstem.settings import Settings
from tests.coordinator.seeds import small
from tests.support.clock import SimClock
from tests.support.simdisk import SimDisk

T = TypeVar("T")
IDLE_TURNS = 5
"""Turns of the loop in which asyncio passes on what the last turn of the clock has resolved."""


class SimulatedServer:
    """A node with an engine. Time passes only while a call is driven."""

    def __init__(self, seed: int = 1, settings: Settings | None = None) -> None:
        self.settings = Settings() if settings is None else settings
        self.rng = random.Random(seed)
        self.clock = SimClock()
        self.disk = SimDisk(self.clock, self.rng)
        self.open()

    def open(self) -> None:
        """Start it on the present disk."""
        with small():
            self.node = Node.open(self.settings, cast(Disk, self.disk), self.clock, self.rng).result()
        self.engine = EmbeddedEngine(self.node)

    async def crash(self, *, power: bool) -> None:
        """End it at once, by kill -9 or a power cut, and start it again."""
        await self.engine.close()
        await asyncio.sleep(0)
        clock = SimClock(wall_ms=self.clock.wall_ms() + 1)
        self.disk = self.disk.power_cut(clock) if power else self.disk.kill(clock)
        self.clock = clock
        self.open()
        await self.turns()

    async def turns(self) -> bool:
        """Let asyncio run until it waits, then the clock. Whether the clock had something to do."""
        for _ in range(IDLE_TURNS):
            await asyncio.sleep(0)
        return self.clock.run() > 0

    async def drive(self, call: Awaitable[T]) -> T:
        """Let time pass until the call returns."""
        task = asyncio.ensure_future(call)
        while not task.done():
            if not await self.turns() and not task.done():
                self.clock.advance(0.001)
        return task.result()

    async def pass_time(self, seconds: float) -> None:
        """Let time pass, in small steps."""
        end_s = self.clock.monotonic() + seconds
        while self.clock.monotonic() < end_s:
            if not await self.turns():
                self.clock.advance(min(0.05, end_s - self.clock.monotonic()))
        await self.turns()

    # --- shortcuts ----------------------------------------------------------------------------------------

    async def publish(self, topic: str, *values: bytes) -> list[Position]:
        return await self.drive(self.engine.publish(topic, [NewEvent(value) for value in values]))

    async def pull(self, name: str = "s", *, count: int = 100, wait_ms: int = 0) -> list[Delivery]:
        return await self.drive(self.engine.pull(name, "c", max_events=count, wait_ms=wait_ms))

    async def ack(self, *deliveries: Delivery, name: str = "s") -> None:
        verdicts = await self.drive(self.engine.settle(name, [Ack(item.token) for item in deliveries]))
        assert verdicts == ["done"] * len(deliveries)


def values(deliveries: list[Delivery]) -> list[bytes | None]:
    return [delivery.event.value for delivery in deliveries]


def simulated(test: Callable[[SimulatedServer], Awaitable[None]], **settings: Any) -> None:
    """Run a test against a server with the topics `t` and `dead`, and a subscription `s` of `t`."""

    async def run() -> None:
        server = SimulatedServer()
        await server.drive(server.engine.create_topic("t", partitions=1))
        await server.drive(server.engine.create_topic("dead", partitions=1))
        await server.drive(
            server.engine.create_subscription("s", SubscriptionSettings(topics=("t",), **settings))
        )
        await test(server)
        await server.engine.close()

    asyncio.run(run())


async def depth(server: SimulatedServer, name: str = "s") -> QueueDepth:
    return (await server.drive(server.engine.subscription(name))).depth
