"""A consumer that is attached to a subscription of a simulated server, and notes what it gets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mainstem.attach_contract import (
    AttachedConsumer,
    AttachedConsumers,
    AttachesConsumers,
    AttachRequest,
    DeliveryWindow,
)
from mainstem.contract import StreamError
from mainstem.queue_contract import Ack, Delivery, Nack, Outcome, Reject
from tests.engines.queue_server import SimulatedServer


def attached(server: SimulatedServer) -> AttachedConsumers:
    assert isinstance(server.engine, AttachesConsumers)
    return server.engine.attached


class AttachedClient:
    """An attached consumer."""

    def __init__(self, server: SimulatedServer, name: str, limit: int, subscription: str) -> None:
        self.server = server
        self.name = name
        self.subscription = subscription
        self.window = DeliveryWindow(limit)
        self.deliveries: list[Delivery] = []
        """All that it got and has not answered."""
        self.received: list[bytes | None] = []
        """The values of all that it ever got."""
        self.ends: list[StreamError | None] = []
        self.consumer: AttachedConsumer

    async def attach(self, *windows: DeliveryWindow, **options: Any) -> AttachedClient:
        request = AttachRequest(self.subscription, self.name, (self.window, *windows), **options)
        call = attached(self.server).attach(request, self.deliver, self.ends.append)
        self.consumer = await self.server.drive(call)
        await self.server.turns()
        return self

    def deliver(self, deliveries: list[Delivery]) -> None:
        assert deliveries
        self.deliveries += deliveries
        self.received += [delivery.event.value for delivery in deliveries]

    @property
    def values(self) -> list[bytes | None]:
        """Of what it has not answered."""
        return [delivery.event.value for delivery in self.deliveries]

    async def settle(self, outcomes: Sequence[Outcome], windows: Sequence[DeliveryWindow] = ()) -> None:
        """Answer, as a door does: the answers first, then the room."""
        tokens = {outcome.token for outcome in outcomes}
        self.deliveries = [delivery for delivery in self.deliveries if delivery.token not in tokens]
        attached(self.server).settle_soon(self.subscription, outcomes)
        for window in (self.window, *windows):
            window.free(len(outcomes))
        await settle_down(self.server)

    async def ack(self, count: int = 1) -> None:
        await self.settle([Ack(delivery.token) for delivery in self.deliveries[:count]])

    async def nack(self, count: int = 1, **options: Any) -> None:
        await self.settle([Nack(delivery.token, **options) for delivery in self.deliveries[:count]])

    async def reject(self, count: int = 1) -> None:
        await self.settle([Reject(delivery.token) for delivery in self.deliveries[:count]])


async def settle_down(server: SimulatedServer) -> None:
    """Let everything happen that follows, without the passing of much time."""
    await server.pass_time(0.1)


async def client(
    server: SimulatedServer, name: str = "c", limit: int = 0, subscription: str = "shop/a", **options: Any
) -> AttachedClient:
    """A consumer that is attached now."""
    attached_client = await AttachedClient(server, name, limit, subscription).attach(**options)
    await settle_down(server)
    return attached_client
