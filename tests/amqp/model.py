"""A virtual host on an embedded engine with a simulated disk and clock."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from mainstem.amqp.messages import AmqpMessage
from mainstem.amqp.properties import Properties
from mainstem.amqp.topology import AmqpBinding, ExchangeDeclaration, QueueDeclaration, QueueFigures
from mainstem.amqp.vhost import Vhost
from mainstem.amqp.vhosts import Vhosts
from mainstem.queue_contract import Delivery
from tests.engines.queue_server import SimulatedServer

T = TypeVar("T")


class Model:
    """The virtual host `/` of a server that may be killed and started again."""

    def __init__(self, server: SimulatedServer) -> None:
        self.server = server
        self.vhosts: Vhosts
        self.vhost: Vhost

    async def open(self) -> None:
        engine, clock = self.server.engine, self.server.clock
        self.vhosts = await self.drive(Vhosts.open(engine, clock, random.Random(1)))
        vhost = self.vhosts.get("/")
        assert vhost is not None
        self.vhost = vhost

    async def crash(self, *, power: bool = False) -> None:
        """Kill the server, and start it again."""
        await self.vhosts.close()
        await self.server.crash(power=power)
        await self.open()

    async def drive(self, call: Awaitable[T]) -> T:
        return await self.server.drive(call)

    # --- shortcuts ----------------------------------------------------------------------------------------

    async def exchange(self, name: str, kind: str = "direct", **options: object) -> None:
        """Declare a durable exchange."""
        declaration = ExchangeDeclaration(name, kind, **{"durable": True, **options})  # type: ignore[arg-type]
        await self.drive(self.vhost.declare_exchange(declaration))

    async def queue(
        self, name: str, arguments: object = None, owner: object = None, **options: object
    ) -> QueueFigures:
        """Declare a durable queue."""
        declaration = QueueDeclaration(
            name,
            **{"durable": True, "arguments": arguments or {}, **options},  # type: ignore[arg-type]
        )
        return await self.drive(self.vhost.declare_queue(declaration, owner))

    async def bind(self, source: str, destination: str, key: str = "", **options: object) -> None:
        binding = AmqpBinding(source, destination, routing_key=key, **options)  # type: ignore[arg-type]
        await self.drive(self.vhost.bind(binding))

    async def publish(
        self, exchange: str, key: str, *bodies: bytes, properties: Properties | None = None
    ) -> list[str]:
        """Publish messages with the same properties. The result of each."""
        properties = properties or Properties()
        messages = [AmqpMessage(exchange, key, properties, body) for body in bodies]
        return list(await self.drive(self.vhost.publish(messages)))

    async def pull(self, queue: str) -> list[Delivery]:
        return await self.server.pull(self.vhost.queues[queue].subscription)

    async def bodies(self, queue: str) -> list[bytes | None]:
        """What a consumer receives."""
        return [delivery.event.value for delivery in await self.pull(queue)]


def with_model(test: Callable[[Model], Awaitable[None]]) -> None:
    """Run a test."""

    async def run() -> None:
        model = Model(SimulatedServer())
        await model.open()
        try:
            await test(model)
        finally:
            await model.vhosts.close()
            await model.server.engine.close()

    asyncio.run(run())
