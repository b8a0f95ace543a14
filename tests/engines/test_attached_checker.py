"""Random histories of attached consumers with kills and power cuts, judged by what is promised."""

from __future__ import annotations

import random

import pytest

from mainstem.contract import Position
from mainstem.queue_contract import Ack, Delivery, Nack, Reject
from tests.engines.attached_client import AttachedClient, attached, settle_down
from tests.engines.queue_server import depth
from tests.engines.routed_door import RoutedDoor
from tests.engines.test_routed_queues import with_door

STEPS = 60


class AttachedHistory:
    """A run with one queue, and what is known of each of its events."""

    def __init__(self, door: RoutedDoor, seed: int) -> None:
        self.door = door
        self.rng = random.Random(seed)
        self.consumers: list[AttachedClient] = []
        self.made = 0
        self.published: list[int] = []
        self.done: set[int] = set()
        """Acknowledged, rejected or purged, and that was some time ago."""
        self.seen: set[int] = set()
        """Delivered once."""
        self.newest: dict[AttachedClient, int] = {}
        """The latest that a consumer was the first to get."""
        self.wrong: list[str] = []
        self.unanswered: dict[int, AttachedClient] = {}
        """Event -> who has it."""

    async def publish(self) -> None:
        count = self.rng.choice((1, 2, 7, 600 if self.rng.random() < 0.05 else 3))
        first = len(self.published)
        results = await self.door.publish(
            "all", "", *[b"%d" % number for number in range(first, first + count)], partition=0
        )
        assert all(isinstance(result, Position) for result in results)
        self.published += range(first, first + count)

    def deliver(self, consumer: AttachedClient, deliveries: list[Delivery]) -> None:
        newest = self.newest.get(consumer, -1)
        for delivery in deliveries:
            number = int(delivery.event.value or b"")
            self.expect(number not in self.unanswered, f"{number} is with one consumer")
            self.expect(number not in self.done, f"{number} is done and does not come back")
            self.expect(
                delivery.attempt > 1 or number not in self.seen, f"{number} has been delivered before"
            )
            if number not in self.seen:
                self.expect(number > newest, f"first deliveries are in order: {number} after {newest}")
                newest = self.newest[consumer] = number
            self.seen.add(number)
            self.unanswered[number] = consumer
        consumer.deliveries += deliveries
        limit = consumer.window.limit
        self.expect(not limit or consumer.window.taken <= limit, "the window is not overrun")

    def expect(self, is_right: bool, rule: str) -> None:
        """Note what is wrong: a consumer that raises is detached."""
        if not is_right:
            self.wrong.append(rule)

    async def attach(self) -> None:
        consumer = AttachedClient(self.door.server, f"c{self.made}", self.rng.choice((0, 1, 3, 50)), "shop/a")
        self.made += 1
        consumer.deliver = lambda deliveries: self.deliver(consumer, deliveries)  # type: ignore[method-assign]
        await consumer.attach(priority=self.rng.randrange(2))
        self.consumers.append(consumer)

    async def answer(self, consumer: AttachedClient) -> None:
        if not consumer.deliveries:
            return
        count = self.rng.randint(1, len(consumer.deliveries))
        chosen = self.rng.sample(consumer.deliveries, count)
        verb = self.rng.choice((Ack, Ack, Nack, Reject))
        for delivery in chosen:
            del self.unanswered[int(delivery.event.value or b"")]
        if verb is Nack:
            counts = self.rng.random() < 0.5
            await consumer.settle([Nack(delivery.token, counts=counts) for delivery in chosen])
        else:
            numbers = {int(delivery.event.value or b"") for delivery in chosen}
            await consumer.settle([verb(delivery.token) for delivery in chosen])
            self.done |= numbers

    async def detach(self, consumer: AttachedClient) -> None:
        self.consumers.remove(consumer)
        if self.rng.random() < 0.5:
            consumer.consumer.detach(requeue=False)
            while consumer.deliveries:
                await self.answer(consumer)
            return
        for number in [number for number, owner in self.unanswered.items() if owner is consumer]:
            del self.unanswered[number]
        consumer.consumer.detach(requeue=True)
        await settle_down(self.door.server)

    async def purge(self) -> None:
        await self.door.server.drive(attached(self.door.server).purge_ready("shop/a"))
        self.done |= set(self.published) - self.unanswered.keys()
        await settle_down(self.door.server)

    async def crash(self) -> None:
        await self.door.server.crash(power=self.rng.random() < 0.5)
        self.consumers.clear()
        self.unanswered.clear()
        self.newest.clear()

    async def step(self) -> None:
        choice, consumer = self.rng.random(), self.rng.choice(self.consumers or [None])
        if choice < 0.3:
            await self.publish()
        elif choice < 0.42 or consumer is None:
            await self.attach()
        elif choice < 0.85:
            await self.answer(consumer)
        elif choice < 0.9:
            await self.detach(consumer)
        elif choice < 0.93:
            consumer.consumer.pause() if self.rng.random() < 0.5 else consumer.consumer.resume()
        elif choice < 0.95:
            await self.purge()
        else:
            await self.crash()
        await settle_down(self.door.server)
        assert self.wrong == []
        assert all(
            item.consumer.unanswered == len(item.deliveries) == item.window.taken for item in self.consumers
        )

    async def drain(self) -> None:
        """Acknowledge all that there is."""
        while self.consumers:
            await self.detach(self.consumers[0])
        await self.attach()
        consumer = self.consumers[0]
        consumer.window.set_limit(0)
        await settle_down(self.door.server)
        while consumer.deliveries:
            numbers = {int(delivery.event.value or b"") for delivery in consumer.deliveries}
            for number in numbers:
                del self.unanswered[number]
            await consumer.ack(len(consumer.deliveries))
            self.done |= numbers
        assert self.wrong == []
        assert self.done == set(self.published), "nothing is lost"
        assert (await depth(self.door.server, "shop/a")).outstanding == 0


@pytest.mark.parametrize("seed", range(6))
def test_each_event_is_with_one_consumer_until_it_is_done_and_none_is_lost(seed: int) -> None:
    async def test(door: RoutedDoor) -> None:
        history = AttachedHistory(door, seed)
        for _ in range(STEPS):
            await history.step()
        await history.drain()

    with_door(test, "a")
