"""Key order through the service: events of a key come in order, over everything that happens to them."""

from __future__ import annotations

import asyncio
from collections import defaultdict

import pytest

from mainstem.contract import NewEvent, Position
from mainstem.queue_contract import Ack, Delivery, Nack, Outcome, Reject, SubscriptionSettings
from tests.engines.queue_server import SimulatedServer, depth, simulated, values
from tests.engines.test_queue_checker import QueueHistory

KEYS = 4
EXPIRY_MS = 20
"""A lock that has expired is looked at within this time."""


class KeyedHistory(QueueHistory):
    """A history that judges the order by key: when an event is delivered, each earlier one of its key that is
    not done is in the hands of the same consumer."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.offsets: defaultdict[tuple[bytes, int], dict[int, bytes]] = defaultdict(dict)
        """(key, partition) -> offset -> value, as far as clients know them."""
        self.holders: dict[bytes, tuple[str, int, str]] = {}
        """Value -> the consumer that has it, until when, and the token of that delivery."""
        self.compared = 0

    def settings(self) -> SubscriptionSettings:
        return SubscriptionSettings(
            topics=("t",),
            in_key_order=True,
            lock_ms=2_000,
            backoff_min_ms=100,
            failures_max=6,
            dead_letter_topic="dead",
        )

    def key(self, value: bytes) -> bytes:
        return b"k%d" % (int(value) * 7 % KEYS)

    def on_published(self, events: list[NewEvent], positions: list[Position]) -> None:
        for event, position in zip(events, positions, strict=True):
            self.offsets[event.key or b"", position.partition][position.offset] = event.value or b""

    def received(self, consumer: str, deliveries: list[Delivery]) -> None:
        super().received(consumer, deliveries)
        now_ms = self.server.clock.wall_ms()
        for delivery in deliveries:
            event = delivery.event
            value = event.value or b""
            known = self.offsets[event.key or b"", event.partition]
            for offset, earlier in known.items():
                if offset < event.offset and earlier not in self.done and earlier not in self.maybe_done:
                    holder, deadline_ms, _ = self.holders.get(earlier, ("no consumer", 0, ""))
                    assert holder == consumer, f"{value!r} passed {earlier!r}, which {holder} has"
                    assert now_ms < deadline_ms + EXPIRY_MS, f"{value!r} passed {earlier!r}, which expired"
                    self.compared += 1
            known[event.offset] = value
            self.maybe_done.discard(value)
            self.holders[value] = consumer, delivery.deadline_ms, delivery.token

    def on_answers(self, answered: list[Delivery]) -> None:
        for delivery in answered:
            value = delivery.event.value or b""
            if value in self.holders and self.holders[value][2] == delivery.token:
                del self.holders[value]

    async def crash(self) -> None:
        self.holders.clear()
        await super().crash()


def seed_run(seed: int) -> KeyedHistory:
    history = KeyedHistory(seed)
    asyncio.run(history.run())
    return history


def test_no_event_passes_an_earlier_one_of_its_key_over_crashes() -> None:
    histories = [seed_run(seed) for seed in range(8)]
    assert sum(history.compared for history in histories) > 1_000
    assert sum(history.deliveries for history in histories) > 400
    assert sum(history.crashes for history in histories) > 20


@pytest.mark.slow
def test_no_event_passes_an_earlier_one_of_its_key_in_many_lives() -> None:
    for seed in range(100, 300):
        seed_run(seed)


async def keyed(server: SimulatedServer, *keys: bytes) -> None:
    """Publish an event for each key; its value is the key and how often it was published in this call."""
    seen: defaultdict[bytes, int] = defaultdict(int)
    events = []
    for key in keys:
        events.append(NewEvent(key + b"%d" % seen[key], key))
        seen[key] += 1
    await server.drive(server.engine.publish("t", events))
    await server.pass_time(0.01)


async def pull(server: SimulatedServer, consumer: str, *, count: int = 100) -> list[Delivery]:
    return await server.drive(server.engine.pull("s", consumer, max_events=count))


def test_later_events_of_a_key_are_for_the_consumer_that_has_the_earlier_ones() -> None:
    async def test(server: SimulatedServer) -> None:
        await keyed(server, b"a", b"b", b"a", b"b", b"a")
        first = await pull(server, "c", count=1)
        assert values(first) == [b"a0"]
        others = await pull(server, "d")
        assert values(others) == [b"b0", b"b1"]
        assert values(await pull(server, "c")) == [b"a1", b"a2"]
        await server.ack(*others)
        assert (await depth(server)).parked == 0

    simulated(test, in_key_order=True)


def test_a_pull_that_waits_receives_the_events_of_the_keys_that_its_consumer_has() -> None:
    """Not the consumer that waits longest."""

    async def test(server: SimulatedServer) -> None:
        await keyed(server, b"a")
        await pull(server, "c")
        waiting = {
            consumer: asyncio.ensure_future(server.engine.pull("s", consumer, wait_ms=60_000))
            for consumer in ("d", "e", "c", "f")
        }
        await server.pass_time(0.5)
        await keyed(server, b"a")
        await server.pass_time(0.5)
        assert {consumer for consumer, call in waiting.items() if call.done()} == {"c"}
        await keyed(server, b"b", b"g")
        await server.pass_time(0.5)
        assert waiting["d"].done()
        for call in waiting.values():
            call.cancel()

    simulated(test, in_key_order=True)


def test_what_is_given_back_takes_later_events_back_and_is_delivered_before_them() -> None:
    async def test(server: SimulatedServer) -> None:
        await keyed(server, b"a", b"a", b"b", b"a")
        zero, first, _, second = await pull(server, "c")
        await server.ack(second)
        outcomes: list[Outcome] = [Nack(zero.token, 5_000)]
        assert await server.drive(server.engine.settle("s", outcomes)) == ["done"]
        assert await server.drive(server.engine.settle("s", [Nack(first.token)])) == ["stale"]
        assert await pull(server, "d") == []
        browsed = await server.drive(server.engine.browse("s", "parked"))
        assert [(item.event.value, item.why) for item in browsed] == [
            (b"a1", "waits for offset 0, of its key")
        ]
        await server.pass_time(6)
        again = await pull(server, "d")
        assert [(item.event.value, item.attempt) for item in again] == [(b"a0", 2), (b"a1", 2)]

    simulated(test, in_key_order=True)


def test_a_rejected_event_frees_its_key() -> None:
    async def test(server: SimulatedServer) -> None:
        await keyed(server, b"a", b"a")
        (zero,) = await pull(server, "c", count=1)
        assert await server.drive(server.engine.settle("s", [Reject(zero.token)])) == ["done"]
        assert values(await pull(server, "d")) == [b"a1"]

    simulated(test, in_key_order=True)


@pytest.mark.parametrize("power", [False, True])
def test_after_a_restart_the_keys_of_what_is_outstanding_are_known_before_it_is_delivered(
    power: bool,
) -> None:
    async def test(server: SimulatedServer) -> None:
        await keyed(server, *[b"a", b"b", b"c"] * 20)
        taken = await pull(server, "c", count=30)
        await server.ack(*taken[3:])
        await server.crash(power=power)
        await server.pass_time(0.1)
        first = await pull(server, "c", count=1)
        assert values(first) == [b"a0"]
        others = values(await pull(server, "d"))
        assert b"b0" in others
        assert not any((value or b"").startswith(b"a") for value in others)

    simulated(test, in_key_order=True)


def test_a_redriven_event_is_the_next_of_its_key() -> None:
    async def test(server: SimulatedServer) -> None:
        await keyed(server, b"a", b"a", b"a", b"a")
        zero, first = await pull(server, "c", count=2)
        await server.ack(zero, first)
        (second,) = await pull(server, "c", count=1)
        assert await server.drive(server.engine.redrive("s", [Position("t", 0, 1)])) == 1
        await server.pass_time(0.1)
        assert await pull(server, "d") == []
        await server.ack(second)
        assert values(await pull(server, "d")) == [b"a1", b"a3"]

    simulated(test, in_key_order=True)


def test_a_filter_in_key_order_and_a_purge() -> None:
    async def test(server: SimulatedServer) -> None:
        await keyed(server, b"a", b"b", b"a", b"b")
        assert values(await pull(server, "c", count=1)) == [b"b0"]
        assert await pull(server, "d") == []
        assert await server.drive(server.engine.purge("s")) == 2
        await keyed(server, b"b")
        assert values(await pull(server, "d")) == [b"b0"]

    simulated(test, in_key_order=True, filter="key:b")


def test_consumers_share_many_keys_and_each_key_stays_in_order() -> None:
    """Several consumers at once, each of which acknowledges in another order than it received."""

    async def test(server: SimulatedServer) -> None:
        await keyed(server, *[b"k%d" % (number % 20) for number in range(2_000)])
        delivered: defaultdict[bytes, list[int]] = defaultdict(list)
        consumers: defaultdict[bytes, set[str]] = defaultdict(set)

        async def consume(name: str) -> None:
            while deliveries := await server.engine.pull("s", name, max_events=37, wait_ms=200):
                for delivery in deliveries:
                    key = delivery.event.key or b""
                    delivered[key].append(delivery.event.offset)
                    consumers[key].add(name)
                tokens = [Ack(delivery.token) for delivery in reversed(deliveries)]
                assert set(await server.engine.settle("s", tokens)) == {"done"}

        await server.drive(asyncio.gather(*(consume(name) for name in "cdef")))
        assert sum(map(len, delivered.values())) == 2_000
        assert all(offsets == sorted(offsets) for offsets in delivered.values())
        assert any(len(names) > 1 for names in consumers.values())

    simulated(test, in_key_order=True)
