"""Routed queues of the embedded engine: everything that a subscription does, over routes of a test door."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any

import pytest

from mainstem.contract import (
    EventTooLarge,
    InvalidArgument,
    NewEvent,
    Position,
    PositionOutOfRange,
    UnknownTopic,
)
from mainstem.queue_contract import (
    Nack,
    NoSuchSubscription,
    SubscriptionNameTaken,
    SubscriptionSettings,
)
from mainstem.queues.event_headers import not_before_of
from mainstem.routing_contract import NamespaceNameTaken, NoSuchNamespace, RoutedEvent
from mainstem.settings import Settings
from tests.engines.queue_server import SimulatedServer, depth, values
from tests.engines.routed_door import SPACE, RoutedDoor
from tests.engines.test_queue_checker import QueueHistory


def with_door(
    test: Callable[[RoutedDoor], Awaitable[None]],
    *queues: str,
    server: Settings | None = None,
    **settings: Any,
) -> None:
    """Run a test with queues that are bound to the fanout exchange `all`, and by their name to `direct`."""

    async def run() -> None:
        door = RoutedDoor(SimulatedServer(settings=server))
        await door.server.drive(door.server.engine.create_topic("dead", partitions=1))
        await door.declare(*queues, **settings)
        for queue in queues:
            await door.bind(queue, "all")
            await door.bind(queue, "direct", queue)
        await test(door)
        await door.server.engine.close()

    asyncio.run(run())


def test_each_queue_gets_what_its_bindings_match_and_acknowledges_for_itself() -> None:
    async def test(door: RoutedDoor) -> None:
        server = door.server
        await door.publish("all", "", b"0", b"1", partition=0)
        await door.publish("direct", "a", b"2", headers=(("mainstem-x", b"1"), ("plain", b"2")))
        await door.publish("direct", "unbound", b"3")
        first = await server.pull("shop/a")
        assert values(first) == [b"0", b"1", b"2"]
        assert first[2].event.headers == (("mainstem-x", b"1"), ("plain", b"2"))
        assert values(await server.pull("shop/b")) == [b"0", b"1"]
        await server.ack(*first, name="shop/a")
        await server.crash(power=True)
        assert values(await server.pull("shop/a")) == []
        again = await server.pull("shop/b")
        assert values(again) == [b"0", b"1"]
        assert [delivery.attempt for delivery in again] == [2, 2]

    with_door(test, "a", "b")


def test_an_event_comes_back_after_a_failure_and_dies_after_too_many() -> None:
    async def test(door: RoutedDoor) -> None:
        server = door.server
        await door.publish("all", "", b"0", b"1", b"2", partition=1)
        for attempt in (1, 2):
            deliveries = await server.pull("shop/a")
            assert [delivery.attempt for delivery in deliveries] == [attempt] * len(deliveries)
            outcomes = [Nack(delivery.token, 1_000) for delivery in deliveries]
            await server.drive(server.engine.settle("shop/a", outcomes))
            assert await server.pull("shop/a") == []
            await server.pass_time(1.1)
        await server.pass_time(1)
        assert (await depth(server, "shop/a")).outstanding == 0
        letters = await server.drive(server.engine.dead_letters("shop/a"))
        assert [letter.letter.value for letter in letters] == [b"0", b"1", b"2"]
        assert [letter.origin for letter in letters] == [Position("orders", 1, offset) for offset in range(3)]
        assert not any(name.startswith("mainstem-route") for name, _ in letters[0].letter.headers)
        assert await server.drive(server.engine.redrive("shop/a", [letters[1].origin], dry_run=True)) == 1
        assert await server.drive(server.engine.redrive("shop/a", [letters[1].origin])) == 1
        assert values(await server.pull("shop/a")) == [b"1"]
        assert values(await server.pull("shop/b")) == [b"0", b"1", b"2"], "no other queue notices"

    with_door(test, "a", "b", failures_max=2, dead_letter_topic="dead")


def test_a_pull_that_waits_gets_what_is_published_meanwhile() -> None:
    async def test(door: RoutedDoor) -> None:
        server = door.server
        waiting = asyncio.ensure_future(server.drive(server.engine.pull("shop/a", "c", wait_ms=60_000)))
        await server.turns()
        await door.publish("direct", "b", b"other")
        await server.turns()
        assert not waiting.done()
        await door.publish("all", "", b"0")
        assert values(await waiting) == [b"0"]

    with_door(test, "a", "b")


def test_browse_shows_a_queue_in_its_order_in_parts() -> None:
    async def test(door: RoutedDoor) -> None:
        server = door.server
        for number in range(10):
            await door.publish("all" if number % 3 else "direct", "a", b"%d" % number, partition=number % 2)
        await server.pull("shop/b", count=2)
        before = await depth(server, "shop/b")
        seen: list[bytes | None] = []
        after = None
        while part := await server.drive(server.engine.browse("shop/b", after=after, max_events=2)):
            seen += [browsed.event.value for browsed in part]
            last = part[-1].event
            after = Position(last.topic, last.partition, last.offset)
        assert seen == [b"1", b"2", b"4", b"5", b"7", b"8"]
        leased = await server.drive(server.engine.browse("shop/b", "leased"))
        assert [browsed.event.value for browsed in leased] == [b"1", b"2"]
        assert await depth(server, "shop/b") == before
        info = await server.drive(server.engine.subscription("shop/b"))
        assert (info.oldest, before.ready, before.leased) == (Position("orders", 1, 0), 4, 2)

    with_door(test, "a", "b")


def test_seek_and_purge() -> None:
    async def test(door: RoutedDoor) -> None:
        server = door.server
        places = []
        for number in range(6):
            await door.publish("direct", "b", b"other", partition=number % 2)
            places += await door.publish("all", "", b"%d" % number, partition=number % 2)
            await server.pass_time(1)
        await server.ack(*await server.pull("shop/a"), name="shop/a")
        assert await server.drive(server.engine.seek("shop/a", "earliest")) == 6
        assert len(await server.pull("shop/a")) == 6
        third = places[3]
        assert isinstance(third, Position)
        assert await server.drive(server.engine.seek("shop/a", third)) == 3
        later = await server.pull("shop/a")
        assert values(later) == [b"3", b"4", b"5"]
        assert await server.drive(server.engine.seek("shop/a", later[1].event.timestamp_ms)) == 2
        assert values(await server.pull("shop/a")) == [b"4", b"5"]
        assert await server.drive(server.engine.seek("shop/a", "earliest")) == 6
        assert await server.drive(server.engine.purge("shop/a")) == 6
        assert await server.pull("shop/a") == []
        assert await server.drive(server.engine.seek("shop/a", "latest")) == 0
        assert (await depth(server, "shop/b")).outstanding == 12
        with pytest.raises(PositionOutOfRange):
            await server.drive(server.engine.seek("shop/a", Position("orders", 0, 99)))
        with pytest.raises(UnknownTopic):
            await server.drive(server.engine.seek("shop/a", Position("dead", 0, 0)))
        await server.crash(power=False)
        assert await server.pull("shop/a") == []

    with_door(test, "a", "b")


def test_redrive_takes_only_events_of_the_queue_that_are_done() -> None:
    async def test(door: RoutedDoor) -> None:
        server = door.server
        places = [
            *await door.publish("all", "", b"0", partition=0),
            *await door.publish("direct", "b", b"1", partition=0),
            *await door.publish("all", "", b"2", partition=0),
        ]
        await server.ack(*await server.pull("shop/a", count=1), name="shop/a")
        positions = [place for place in places if isinstance(place, Position)]
        others = [Position("orders", 0, 99), Position("dead", 0, 0), Position("orders", 1, 0)]
        assert await server.drive(server.engine.redrive("shop/a", [*positions, *others])) == 1
        assert values(await server.pull("shop/a")) == [b"0", b"2"]

    with_door(test, "a", "b")


def test_a_deleted_queue_ends_its_pulls_and_a_deleted_namespace_all_of_them() -> None:
    async def test(door: RoutedDoor) -> None:
        server = door.server
        await door.publish("all", "", b"0")
        await server.drive(server.engine.delete_subscription("shop/a"))
        with pytest.raises(NoSuchSubscription):
            await server.pull("shop/a")
        await door.declare("a")
        assert await server.pull("shop/a") == [], "a new queue has nothing that was published before"
        await door.publish("all", "", b"1")
        assert await server.pull("shop/a") == [], "its bindings went with the old one"
        assert await server.drive(door.queues.queues_of(SPACE)) == ["a", "b"]
        await server.drive(door.queues.delete_namespace(SPACE))
        assert await server.drive(server.engine.subscriptions()) == []
        with pytest.raises(NoSuchNamespace):
            await door.publish("all", "", b"2")
        await server.crash(power=True)
        assert await server.drive(door.queues.namespaces()) == []

    with_door(test, "a", "b")


def test_what_the_contract_refuses() -> None:
    async def test(door: RoutedDoor) -> None:
        server, queues = door.server, door.queues

        async def refused(call: Awaitable[Any], error: type[Exception]) -> None:
            with pytest.raises(error):
                await server.drive(call)

        await refused(queues.create_namespace(SPACE), NamespaceNameTaken)
        await refused(queues.create_namespace("a\x00b"), InvalidArgument)
        await refused(queues.create_queue("nowhere", "q", SubscriptionSettings()), NoSuchNamespace)
        await refused(queues.create_queue(SPACE, "a", SubscriptionSettings()), SubscriptionNameTaken)
        for wrong in (
            {"filter": "("},
            {"in_key_order": True, "by_priority": True},
            {"topics": ("orders",), "length_max": 5},
            {"from_latest": True},
            {"lock_ms": 0},
        ):
            await refused(queues.create_queue(SPACE, "q", SubscriptionSettings(**wrong)), InvalidArgument)
        missing = SubscriptionSettings(dead_letter_topic="missing")
        await refused(queues.create_queue(SPACE, "q", missing), UnknownTopic)
        await refused(queues.bind_queue(SPACE, "q", b""), NoSuchSubscription)
        await refused(queues.unbind_queue("nowhere", 1), NoSuchNamespace)
        await refused(queues.bindings("nowhere"), NoSuchNamespace)
        await refused(queues.notes("nowhere"), NoSuchNamespace)
        await refused(queues.set_note(SPACE, "exchange orders", bytes(65_537)), InvalidArgument)
        await refused(queues.set_note(SPACE, "x" * 1_025, b""), InvalidArgument)
        assert await server.drive(queues.unbind_queue(SPACE, 999)) is False
        await refused(
            server.engine.alter_subscription("shop/a", SubscriptionSettings(topics=("orders",))),
            InvalidArgument,
        )
        await server.drive(server.engine.alter_subscription("shop/a", SubscriptionSettings(lock_ms=1_000)))
        results = await door.publish("all", "", b"0", bytes(2 << 20), b"1", partition=0)
        assert [type(result) for result in results] == [Position, EventTooLarge, Position]
        assert values(await server.pull("shop/a")) == [b"0", b"1"]
        door.topic = "missing"
        assert isinstance((await door.publish("all", "", b"2"))[0], UnknownTopic)

    with_door(test, "a")


def test_what_a_door_keeps_with_a_namespace_outlives_a_kill() -> None:
    async def test(door: RoutedDoor) -> None:
        for name, data in (("exchange orders", b"direct"), ("exchange logs", b"topic"), ("none", None)):
            await door.server.drive(door.queues.set_note(SPACE, name, data))
        await door.server.drive(door.queues.set_note(SPACE, "exchange orders", b"fanout"))
        await door.server.drive(door.queues.set_note(SPACE, "exchange logs", None))
        for power in (False, True):
            await door.server.crash(power=power)
            notes = await door.server.drive(door.queues.notes(SPACE))
            assert notes == {"exchange orders": b"fanout"}

    with_door(test)


def test_headers_of_the_door_are_stored_as_they_are() -> None:
    async def test(door: RoutedDoor) -> None:
        event = NewEvent(b"1", headers=(("mainstem-amqp091", b"forged"), ("type", b"order")))
        own = (("mainstem-amqp091", b"\0\0"), ("priority", b"7"))
        routed = RoutedEvent(event, "orders", ["a"], own)
        (place,) = await door.server.drive(door.queues.publish(SPACE, [routed]))
        assert isinstance(place, Position)
        (delivery,) = await door.server.pull("shop/a")
        assert delivery.event.headers == (*own, ("user.mainstem-amqp091", b"forged"), ("type", b"order"))
        reader = await door.server.engine.reader([place])
        stored = (await door.server.drive(reader.read())).events[0].headers
        names = [name for name, _ in stored]
        assert names == ["mainstem-route", "mainstem-amqp091", "priority", "user.mainstem-amqp091", "type"]

    with_door(test, "a")


def test_events_that_retention_deleted_are_trimmed_in_every_queue() -> None:
    async def test(door: RoutedDoor) -> None:
        server, engine = door.server, door.server.engine
        for number in range(8):
            await door.publish("all" if number % 2 else "direct", "a", b"%d" % number, partition=0)
            await server.pass_time(1)
        await server.ack(*await server.pull("shop/a", count=3), name="shop/a")
        topic = server.node.topics.get("orders")
        assert topic is not None
        await server.drive(server.node.partition(topic, 0).delete_records(6))
        info = await server.drive(engine.subscription("shop/a"))
        assert (info.trimmed, info.depth.outstanding, info.oldest) == (3, 2, Position("orders", 0, 6))
        other = await server.drive(engine.subscription("shop/b"))
        assert (other.trimmed, other.depth.outstanding) == (3, 1)
        assert values(await server.pull("shop/a")) == [b"6", b"7"]
        await server.crash(power=True)
        assert values(await server.pull("shop/b")) == [b"7"]

    with_door(test, "a", "b")


@pytest.mark.parametrize("seed", range(3))
def test_a_queue_is_never_ahead_of_the_log(seed: int) -> None:
    """With durability os, a power cut takes events that were acknowledged: new ones are delivered all the
    same."""

    async def test(door: RoutedDoor) -> None:
        server = door.server
        server.rng.seed(seed)
        await server.pass_time(2)  # a checkpoint: the queue stays
        for round_ in range(4):
            new = [b"%d-%d" % (round_, number) for number in range(20)]
            places = await door.publish("all", "", *new)
            assert all(isinstance(place, Position) for place in places)
            received: list[bytes | None] = []
            while deliveries := await server.pull("shop/a"):
                received += values(deliveries)
                await server.ack(*deliveries, name="shop/a")
            assert set(new) <= set(received)
            server.node.routed._on_timer()  # the index may reach the disk, and the events not
            await server.crash(power=True)

    with_door(test, "a", server=Settings(durability="os"))


class RoutedHistory(QueueHistory):
    """The history of the routed queue `s`, which gets every event, beside one that gets some."""

    name = f"{SPACE}/s"
    settings_of_queue: Mapping[str, Any] = MappingProxyType({})
    """Beside those of all histories."""

    async def begin(self) -> None:
        self.door = RoutedDoor(self.server)
        await self.server.drive(self.server.engine.create_topic("dead", partitions=1))
        usual = {"lock_ms": 2_000, "backoff_min_ms": 100, "failures_max": 6, "dead_letter_topic": "dead"}
        await self.door.declare("s", **usual, **self.settings_of_queue)
        await self.door.declare("other")
        await self.door.bind("s", "direct", "s")
        await self.door.bind("s", "all")
        await self.door.bind("other", "all")
        await self.door.bind("other", "direct", "other")
        self.highest: dict[int, int] = {}
        """Partition -> the number of the last event that was delivered for the first time."""

    async def publish(self) -> None:
        numbers = range(self.count, self.count + self.rng.randint(1, 20))
        self.count = numbers.stop
        new = [b"%d" % number for number in numbers]
        exchange, key = self.rng.choice([("all", ""), ("direct", "s"), ("direct", "other")])
        if key != "other":
            self.maybe_published.update(new)
        partition = self.rng.randrange(2)

        async def call() -> Any:
            events = [NewEvent(value, headers=self.delay(), partition=partition) for value in new]
            return await self.door.queues.publish(SPACE, await self.door.events(exchange, key, events))

        publishing = asyncio.ensure_future(call())
        if await self.crash_during(publishing):
            return
        results = await self.server.drive(publishing)
        if key != "other":
            self.published.update(
                value for value, result in zip(new, results, strict=True) if isinstance(result, Position)
            )

    def received(self, consumer: str, deliveries: Any) -> None:
        for delivery in deliveries:
            is_delayed = not_before_of(delivery.event.headers) > 0
            if not is_delayed and self.attempts[delivery.event.value or b""] == (0, 0):
                number = int(delivery.event.value or b"")
                assert number > self.highest.get(delivery.event.partition, -1), "an inversion"
                self.highest[delivery.event.partition] = number
        super().received(consumer, deliveries)


def test_nothing_is_lost_resurrected_or_unexpected_in_a_routed_queue_over_crashes() -> None:
    histories = []
    for seed in range(4):
        history = RoutedHistory(seed)
        asyncio.run(history.run())
        histories.append(history)
    assert sum(history.deliveries for history in histories) > 120
    assert sum(history.crashes for history in histories) > 10


@pytest.mark.slow
def test_nothing_is_lost_in_many_lives_of_a_routed_queue() -> None:
    for seed in range(100, 200):
        asyncio.run(RoutedHistory(seed).run())
