"""A history of random deliveries and answers with kills and power cuts, judged as a whole.

Promised (docs/QUEUES.md): an event that was published is processed or dead-lettered in the end; an answered
acknowledgement or rejection is final; nothing is delivered that was not published, nor before its time.
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from typing import Any

import pytest

from mainstem.contract import Headers, NewEvent, Position
from mainstem.queue_contract import Ack, Delivery, Nack, Outcome, Reject, SubscriptionSettings
from mainstem.queues.event_headers import not_before_of
from tests.engines.queue_server import SimulatedServer

STEPS = 40
CONSUMERS = 3


class QueueHistory:
    """What clients saw of one subscription."""

    name = "s"

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.server = SimulatedServer(seed)
        self.published: set[bytes] = set()
        self.maybe_published: set[bytes] = set()
        """The publisher got no answer."""
        self.done: set[bytes] = set()
        """Acknowledged or rejected, with an answer."""
        self.maybe_done: set[bytes] = set()
        """The consumer got no answer."""
        self.rejected: set[bytes] = set()
        self.attempts: defaultdict[bytes, tuple[int, int]] = defaultdict(lambda: (0, 0))
        """Of the last delivery: its attempt, and the crashes before it."""
        self.deliveries = 0
        self.delayed = 0
        """Deliveries of delayed events."""
        self.crashes = 0
        self.unanswered: list[Delivery] = []
        """Delivered, and not answered yet."""
        self.count = 0

    async def begin(self) -> None:
        server = self.server
        await server.drive(server.engine.create_topic("t", partitions=2))
        await server.drive(server.engine.create_topic("dead", partitions=1))
        await server.drive(server.engine.create_subscription("s", self.settings()))

    def settings(self) -> SubscriptionSettings:
        return SubscriptionSettings(
            topics=("t",), lock_ms=2_000, backoff_min_ms=100, failures_max=6, dead_letter_topic="dead"
        )

    def key(self, value: bytes) -> bytes:
        return value

    async def run(self) -> None:
        await self.begin()
        for _ in range(STEPS):
            acts = (self.publish, self.pull, self.pull, self.answer, self.answer, self.wait, self.crash)
            await self.rng.choice(acts)()
        await self.drain()
        await self.server.engine.close()

    async def publish(self) -> None:
        values = [b"%d" % number for number in range(self.count, self.count + self.rng.randint(1, 30))]
        self.count += len(values)
        self.maybe_published.update(values)
        events = [NewEvent(value, self.key(value), self.delay()) for value in values]
        call = asyncio.ensure_future(self.server.engine.publish("t", events))
        if await self.crash_during(call):
            return
        self.on_published(events, await self.server.drive(call))
        self.published.update(values)

    def delay(self) -> Headers:
        """The headers of an event: some are delayed."""
        if self.rng.random() < 0.8:
            return ()
        due_ms = self.server.clock.wall_ms() + self.rng.randrange(4_000)
        return (("mainstem-not-before", b"%d" % due_ms),)

    def on_published(self, events: list[NewEvent], positions: list[Position]) -> None:
        """The publisher got its answer."""

    async def pull(self) -> None:
        consumer = f"c{self.rng.randrange(CONSUMERS)}"
        call = asyncio.ensure_future(
            self.server.engine.pull(self.name, consumer, max_events=self.rng.randint(1, 20))
        )
        if not await self.crash_during(call):
            self.received(consumer, await self.server.drive(call))

    def received(self, consumer: str, deliveries: list[Delivery]) -> None:
        for delivery in deliveries:
            value = delivery.event.value or b""
            assert value in self.maybe_published, "delivered, and never published"
            assert value not in self.done, "resurrected: delivered after its answered acknowledgement"
            due_ms = not_before_of(delivery.event.headers)
            assert self.server.clock.wall_ms() >= due_ms, "delivered before its time"
            self.delayed += bool(due_ms)
            attempts, crashes = self.attempts[value]
            least = attempts if crashes == self.crashes else min(attempts, 1)
            assert delivery.attempt > least, "attempts count up"
            self.attempts[value] = delivery.attempt, self.crashes
            self.deliveries += 1
        self.unanswered += deliveries

    async def answer(self) -> None:
        self.rng.shuffle(self.unanswered)
        count = self.rng.randint(0, len(self.unanswered))
        answered, self.unanswered = self.unanswered[:count], self.unanswered[count:]
        outcomes: list[Outcome] = [
            self.rng.choices((Ack(item.token), Nack(item.token), Reject(item.token)), (8, 3, 1))[0]
            for item in answered
        ]
        final = [
            (item.event.value or b"", outcome)
            for item, outcome in zip(answered, outcomes, strict=True)
            if not isinstance(outcome, Nack)
        ]
        self.maybe_done.update(value for value, _ in final)
        self.on_answers(answered)
        call = asyncio.ensure_future(self.server.engine.settle(self.name, outcomes))
        if await self.crash_during(call):
            return
        verdicts = dict(zip(outcomes, await self.server.drive(call), strict=True))
        for value, outcome in final:
            if verdicts[outcome] in ("done", "late"):
                self.done.add(value)
                if isinstance(outcome, Reject):
                    self.rejected.add(value)

    def on_answers(self, answered: list[Delivery]) -> None:
        """Consumers send answers about these."""

    async def wait(self) -> None:
        await self.server.pass_time(self.rng.choice((0.01, 0.2, 3)))

    async def crash_during(self, call: asyncio.Future[Any]) -> bool:
        """Crash in the middle of a call, now and then."""
        if self.rng.random() > 0.08:
            return False
        for _ in range(self.rng.randrange(6)):
            await self.server.turns()
            if self.rng.random() < 0.5 and not call.done():
                self.server.clock.advance(0.001)
        call.cancel()
        await self.crash()
        return True

    async def crash(self) -> None:
        self.crashes += 1
        await self.server.crash(power=self.rng.random() < 0.5)

    async def drain(self) -> None:
        """Acknowledge everything that is left; then nothing is, and every event has an end."""
        server = self.server
        for _ in range(100):
            await server.pass_time(3)
            self.unanswered = []
            self.received("c", await server.pull(self.name, count=1_000))
            tokens = [Ack(item.token) for item in self.unanswered]
            verdicts = await server.drive(server.engine.settle(self.name, tokens))
            assert set(verdicts) <= {"done"}
            self.done.update(item.event.value or b"" for item in self.unanswered)
            depth = (await server.drive(server.engine.subscription(self.name))).depth
            if not depth.outstanding:
                break
        assert not depth.outstanding, f"the lag is not 0: {depth}"
        dead = await self.dead_letters()
        lost = self.published - self.done - self.maybe_done - dead
        assert not lost, f"lost: {sorted(lost)}"
        assert self.rejected <= dead, "rejected, without a dead letter"

    async def dead_letters(self) -> set[bytes]:
        dead: set[bytes] = set()
        reader = await self.server.engine.reader([Position("dead", 0, 0)])
        while result := await self.server.drive(reader.read(wait_ms=0)):
            dead.update(event.value or b"" for event in result.events)
        await reader.close()
        return dead


def seed_run(seed: int) -> QueueHistory:
    """The history of one seed."""
    history = QueueHistory(seed)
    asyncio.run(history.run())
    return history


def test_nothing_is_lost_and_nothing_comes_back_over_crashes() -> None:
    histories = [seed_run(seed) for seed in range(12)]
    assert sum(history.deliveries for history in histories) > 1_000
    assert sum(history.delayed for history in histories) > 150
    assert sum(history.crashes for history in histories) > 40
    assert sum(len(history.rejected) for history in histories) > 20


@pytest.mark.slow
def test_nothing_is_lost_and_nothing_comes_back_in_many_lives() -> None:
    for seed in range(100, 400):
        seed_run(seed)
