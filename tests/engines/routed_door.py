"""A test door for routed queues: declares queues and bindings, publishes to direct and fanout exchanges.

What its bindings mean is its own: `EXCHANGE\\nKEY` for a direct exchange, `EXCHANGE\\n` for
a fanout one.
"""

from __future__ import annotations

from typing import Any

from mainstem.contract import NewEvent, Position, StreamError
from mainstem.queue_contract import SubscriptionSettings
from mainstem.routing_contract import OffersRoutedQueues, RoutedEvent, RoutedQueues
from tests.engines.queue_server import SimulatedServer

SPACE = "shop"


class RoutedDoor:
    """The door of one server, which may be killed and started again."""

    def __init__(self, server: SimulatedServer, topic: str = "orders") -> None:
        self.server = server
        self.topic = topic

    @property
    def queues(self) -> RoutedQueues:
        engine = self.server.engine
        assert isinstance(engine, OffersRoutedQueues)
        return engine.routed_queues

    async def declare(self, *queues: str, **settings: Any) -> None:
        """Declare queues, and the namespace and the topic if they are not there."""
        if SPACE not in await self.server.drive(self.queues.namespaces()):
            await self.server.drive(self.queues.create_namespace(SPACE))
            await self.server.drive(self.server.engine.create_topic(self.topic, partitions=2))
        for queue in queues:
            await self.server.drive(self.queues.create_queue(SPACE, queue, SubscriptionSettings(**settings)))

    async def bind(self, queue: str, exchange: str, key: str = "") -> int:
        return await self.server.drive(self.queues.bind_queue(SPACE, queue, f"{exchange}\n{key}".encode()))

    async def events(self, exchange: str, key: str, events: list[NewEvent]) -> list[RoutedEvent]:
        """The events with the queues whose bindings match."""
        bindings = await self.queues.bindings(SPACE)
        matching = (f"{exchange}\n{key}".encode(), f"{exchange}\n".encode())
        queues = sorted({binding.queue for binding in bindings if binding.data in matching})
        return [RoutedEvent(event, self.topic, queues) for event in events]

    async def publish(
        self, exchange: str, key: str, *values: bytes, **options: Any
    ) -> list[Position | StreamError]:
        """Publish events in one call."""

        async def call() -> list[Position | StreamError]:
            events = [NewEvent(value, **options) for value in values]
            return await self.queues.publish(SPACE, await self.events(exchange, key, events))

        return await self.server.drive(call())
