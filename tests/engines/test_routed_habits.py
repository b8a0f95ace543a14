"""What a routed queue does as any other subscription: filter, key order, time to live, priority."""

from __future__ import annotations

import random
from typing import Any
from unittest.mock import patch

import pytest

from mainstem.contract import InvalidArgument, NewEvent, Position
from mainstem.coordinator.queues import index_files
from mainstem.engines.embedded.engine import EmbeddedEngine
from mainstem.engines.embedded.queues import routed_scan, subscription_feed
from mainstem.log.disk import nonblocking_read
from mainstem.log.errors import CorruptBatch
from mainstem.log.storage import record_batch
from mainstem.queue_contract import Delivery, Nack, SnapshotName, SubscriptionSettings
from mainstem.routing_contract import RoutedEvent
from tests.engines.queue_server import SimulatedServer, depth, values
from tests.engines.routed_door import SPACE, RoutedDoor
from tests.engines.test_routed_queues import with_door
from tests.support.simdisk import SimFile


async def drain(server: SimulatedServer, name: str) -> list[bytes | None]:
    """Everything that is there, acknowledged."""
    received: list[bytes | None] = []
    for _ in range(3):
        while part := await server.pull(name, count=37):
            received += values(part)
            await server.ack(*part, name=name)
        await server.pass_time(0.1)
    return received


async def publish(door: RoutedDoor, *events: NewEvent, exchange: str = "all", key: str = "") -> None:
    async def call() -> list[Any]:
        return await door.queues.publish(SPACE, await door.events(exchange, key, list(events)))

    results = await door.server.drive(call())
    assert all(isinstance(result, Position) for result in results), results


@pytest.mark.parametrize("seed", range(2))
def test_a_filter_leaves_what_a_naive_one_leaves_over_restarts_and_seeks(seed: int) -> None:
    async def test(door: RoutedDoor) -> None:
        server, rng = door.server, random.Random(seed)
        expected: dict[str, list[bytes]] = {"a": [], "b": []}
        for number in range(120):
            value = b"%s %d" % (rng.choice([b"red", b"blue"]), number)
            exchange, key = rng.choice([("all", ""), ("direct", "a"), ("direct", "b")])
            await publish(door, NewEvent(value, partition=rng.randrange(2)), exchange=exchange, key=key)
            if value.startswith(b"red"):
                for queue in expected:
                    if exchange == "all" or key == queue:
                        expected[queue].append(value)
            if rng.random() < 0.05:
                await server.pass_time(rng.random() * 0.1)
                await server.crash(power=rng.random() < 0.5)
        assert await drain(server, "shop/a") == expected["a"]
        assert await drain(server, "shop/b") == expected["b"]
        assert (await depth(server, "shop/a")).outstanding == 0
        await server.drive(server.engine.seek("shop/b", "earliest"))
        assert await drain(server, "shop/b") == expected["b"]
        await server.crash(power=True)
        assert await drain(server, "shop/b") == []

    small = patch.object(routed_scan, "SLICE_EVENTS", 7), patch.object(subscription_feed, "RECORD_RUNS", 5)
    with small[0], small[1]:
        with_door(test, "a", "b", filter="red")


def test_redrive_asks_the_filter_and_purge_looks_at_nothing() -> None:
    async def test(door: RoutedDoor) -> None:
        server = door.server
        places = await door.publish("all", "", b"red", b"blue", partition=0)
        assert await drain(server, "shop/a") == [b"red"]
        positions = [place for place in places if isinstance(place, Position)]
        assert await server.drive(server.engine.redrive("shop/a", positions)) == 1
        assert await drain(server, "shop/a") == [b"red"]
        await door.publish("all", "", *[b"red"] * 20, partition=1)
        await server.drive(server.engine.purge("shop/a"))
        await server.crash(power=False)
        assert await drain(server, "shop/a") == []
        states = await server.drive(server.engine.event_states(positions[1]))
        assert [state.state for state in states] == ["done"]

    with_door(test, "a", filter="red")


def test_events_of_a_key_are_delivered_in_order_and_come_back_in_order() -> None:
    async def test(door: RoutedDoor) -> None:
        server, engine = door.server, door.server.engine
        for number in range(12):
            key = b"k%d" % (number % 3)
            await publish(door, NewEvent(b"%d" % number, key, partition=number % 2))
            await publish(door, NewEvent(b"other", b"k0"), exchange="direct", key="b")
        await server.pass_time(0.1)

        async def pull(consumer: str, count: int) -> list[Delivery]:
            return await server.drive(engine.pull("shop/a", consumer, max_events=count))

        first = await pull("one", 4)
        assert values(first) == [b"0", b"1", b"2", b"3"]
        assert values(await pull("two", 10)) == [], "each key has an event with another consumer"
        await server.drive(engine.settle("shop/a", [Nack(first[0].token, 0)]))
        assert await server.drive(engine.settle("shop/a", [Nack(first[3].token, 0)])) == ["stale"]
        assert values(await pull("two", 10)) == [b"0", b"3", b"6", b"9"]
        await server.crash(power=True)
        await server.pass_time(0.1)
        assert await drain(server, "shop/a") == [b"%d" % number for number in range(12)]

    with_door(test, "a", "b", in_key_order=True)


def test_a_time_to_live_is_exact_to_the_millisecond_whatever_the_timestamp_says() -> None:
    async def test(door: RoutedDoor) -> None:
        server = door.server
        began_ms = server.clock.wall_ms()
        await publish(door, NewEvent(b"0", timestamp_ms=5, partition=0))
        await server.pass_time(0.4)
        await publish(door, NewEvent(b"1", timestamp_ms=began_ms + 60_000, partition=1))
        leased = await server.pull("shop/b", count=1)
        await server.crash(power=True)
        await server.pass_time((began_ms + 1_990 - server.clock.wall_ms()) / 1000)
        assert (await depth(server, "shop/a")).outstanding == 2
        await server.pass_time(0.1)
        assert (await depth(server, "shop/a")).outstanding == 1
        assert values(await server.pull("shop/a")) == [b"1"]
        await server.pass_time(0.5)
        letters = await server.drive(server.engine.dead_letters("shop/b"))
        assert [(letter.letter.value, letter.reason) for letter in letters] == [
            (b"0", "expired"),
            (b"1", "expired"),
        ]
        assert await server.drive(server.engine.redrive("shop/b", [letters[0].origin])) == 1
        await server.pass_time(3)
        assert values(await server.pull("shop/b")) == values(leased), "a redriven event is exempt"

    with_door(test, "a", "b", ttl_ms=2_000, dead_letter_topic="dead")


def test_a_time_to_live_counts_where_the_clock_was_set_back() -> None:
    async def test(door: RoutedDoor) -> None:
        server = door.server
        await door.publish("all", "", b"0")
        server.clock.wall -= 60_000
        await door.publish("all", "", b"1")
        await server.pass_time(10)
        assert (await depth(server, "shop/a")).outstanding == 2, "never early"
        await server.pass_time(60)
        assert (await depth(server, "shop/a")).outstanding == 0
        sequence = next(iter(server.node.routed._by_id.values()))
        arrived = [arrival.arrived_ms for arrival in sequence.index.arrivals()]
        assert arrived == sorted(arrived)

    with_door(test, "a", ttl_ms=5_000)


def test_an_event_that_says_that_it_is_over_is_not_delivered() -> None:
    async def test(door: RoutedDoor) -> None:
        server = door.server
        over_ms = server.clock.wall_ms() + 500
        headers = (("expires-at", b"%d" % over_ms),)
        await publish(door, NewEvent(b"0", headers=headers), NewEvent(b"1"))
        await server.pass_time(0.6)
        assert await drain(server, "shop/a") == [b"1"]
        letters = await server.drive(server.engine.dead_letters("shop/a"))
        assert [(letter.letter.value, letter.reason) for letter in letters] == [(b"0", "expired")]

    with_door(test, "a", dead_letter_topic="dead")


@pytest.mark.parametrize("settings", [{}, {"filter": "x"}, {"in_key_order": True}])
def test_an_event_is_delivered_when_its_publisher_says(settings: dict[str, Any]) -> None:
    async def test(door: RoutedDoor) -> None:
        server = door.server
        headers = (("mainstem-not-before", b"%d" % (server.clock.wall_ms() + 900)),)
        await publish(door, NewEvent(b"x late", headers=headers), NewEvent(b"x now"))
        assert await drain(server, "shop/a") == [b"x now"]
        assert (await depth(server, "shop/a")).waiting == 1
        await server.crash(power=True)
        assert await drain(server, "shop/a") == []
        await server.pass_time(0.7)
        assert await drain(server, "shop/a") == [b"x late"]

    with_door(test, "a", **settings)


def test_the_highest_priority_comes_first_in_the_order_of_arrival() -> None:
    async def test(door: RoutedDoor) -> None:
        server = door.server
        events = [
            NewEvent(
                b"%d-%d" % (priority, number), headers=(("priority", b"%d" % priority),), partition=number % 2
            )
            for number, priority in enumerate([1, 9, 4, 9, 1, 4])
        ]
        await publish(door, *events)
        await publish(door, NewEvent(b"none"))
        order = [b"9-1", b"9-3", b"4-2", b"4-5", b"none", b"1-0", b"1-4"]
        assert values(await server.pull("shop/a", count=3)) == order[:3]
        await server.crash(power=True)
        assert await drain(server, "shop/a") == order

    with_door(test, "a", by_priority=True)


def test_a_single_consumer_at_a_time_receives_events() -> None:
    async def test(door: RoutedDoor) -> None:
        server, engine = door.server, door.server.engine
        await door.publish("all", "", b"0", b"1")
        (first,) = await server.drive(engine.pull("shop/a", "one", max_events=1))
        assert await server.drive(engine.pull("shop/a", "two")) == []
        assert (await server.drive(engine.subscription("shop/a"))).active_consumer == "one"
        await server.drive(engine.settle("shop/a", [Nack(first.token, 0)]))
        await server.pass_time(1.2)
        assert values(await server.drive(engine.pull("shop/a", "two"))) == [b"0", b"1"]

    with_door(test, "a", single_active=True, active_timeout_ms=1_000)


def test_a_seek_passes_batches_that_damage_has_made_unreadable() -> None:
    async def test(door: RoutedDoor) -> None:
        server = door.server
        for number in range(3):
            await door.publish("all", "", b"%d" % number, partition=0)
        decode, left = record_batch.decode, [1]

        def damaged(batch: memoryview) -> Any:
            if left.pop() if left else 0:
                raise CorruptBatch("its records are not what its header says")
            return decode(batch)

        with patch("mainstem.engines.embedded.queues.routed_feed.decode", damaged):
            assert await server.drive(server.engine.seek("shop/a", Position("orders", 0, 0))) == 2
        assert await drain(server, "shop/a") == [b"1", b"2"]

    with_door(test, "a")


def test_what_is_said_of_an_event_and_what_is_done_to_a_chosen_one() -> None:
    async def test(door: RoutedDoor) -> None:
        server, engine = door.server, door.server.engine
        (first,) = await door.publish("all", "", b"0", partition=1)
        (second,) = await door.publish("direct", "a", b"1", partition=1)
        (third,) = await door.publish("direct", "nothing", b"2", partition=1)
        assert isinstance(first, Position)
        assert isinstance(second, Position)
        assert isinstance(third, Position)

        async def states(place: Position) -> list[tuple[str, str]]:
            known = await server.drive(engine.event_states(place))
            return [(state.subscription, state.state) for state in known]

        assert await states(first) == [("shop/a", "ready"), ("shop/b", "ready")]
        assert await states(third) == []
        deliveries = await server.pull("shop/a")
        assert await states(second) == [("shop/a", "leased")]
        outcomes = [Nack(delivery.token, 60_000) for delivery in deliveries]
        await server.drive(engine.settle("shop/a", outcomes))
        await server.ack(*await server.pull("shop/b"), name="shop/b")
        assert await states(first) == [("shop/a", "waiting"), ("shop/b", "done")]
        assert await server.drive(engine.wake("shop/a", [second, third, Position("orders", 1, 99)])) == 1
        assert values(await server.pull("shop/a")) == [b"1"]
        assert await server.drive(engine.cancel("shop/a", [first, third])) == 1
        assert await states(first) == [("shop/a", "done"), ("shop/b", "done")]

    with_door(test, "a", "b")


def test_named_snapshots() -> None:
    async def test(door: RoutedDoor) -> None:
        server, engine = door.server, door.server.engine
        for number in range(6):
            await door.publish("all", "", b"%d" % number, partition=number % 2)
            await door.publish("direct", "b", b"other")
        await server.ack(*await server.pull("shop/a", count=2), name="shop/a")
        assert (await server.drive(engine.take_snapshot("shop/a", "before"))).events == 4
        assert len(await drain(server, "shop/a")) == 4
        await door.publish("all", "", b"6")
        await server.crash(power=True)
        assert await server.drive(engine_of(server).seek("shop/a", SnapshotName("before"))) == 5
        assert await drain(server, "shop/a") == [b"2", b"3", b"4", b"5", b"6"]
        (totals,) = await server.drive(engine_of(server).subscription_totals(["shop/a"]))
        assert (totals.depth.outstanding, totals.acked) == (0, 5)

    with_door(test, "a", "b")


def engine_of(server: SimulatedServer) -> EmbeddedEngine:
    return server.engine


@pytest.mark.parametrize("settings", [{}, {"filter": "e*"}, {"in_key_order": True}], ids=str)
def test_index_pages_that_are_not_in_memory_are_fetched_without_waiting(settings: dict[str, Any]) -> None:
    async def test(door: RoutedDoor) -> None:
        server = door.server
        wanted = []
        for number in range(150):
            await door.publish("all" if number % 3 else "direct", "b", b"e%d" % number, partition=number % 2)
            wanted += [b"e%d" % number] if number % 3 else []
        server.node.routed._on_timer()
        await server.crash(power=False)

        from_disk = SimFile.pread

        def pread(file: SimFile, length: int, position: int) -> bytes:
            assert not file.path.startswith("routed/"), "the loop waits for the disk"
            return from_disk(file, length, position)

        server.disk.cold = 0.5
        tries = [patch.object(module, "PREFETCH_TRIES_MAX", 99) for module in (index_files, nonblocking_read)]
        with patch.object(SimFile, "pread", pread), tries[0], tries[1]:
            await server.drive(server.engine.subscription_totals(["shop/a"]))
            info = await server.drive(server.engine.subscription("shop/a"))
            assert info.oldest == Position("orders", 1, 0)
            await server.pass_time(3)
            assert await drain(server, "shop/a") == wanted
            middle = Position("orders", 0, 30)
            left = await server.drive(server.engine.seek("shop/a", middle))
            await server.pass_time(3)
            assert await drain(server, "shop/a") == wanted[-left:]
            browsed = await server.drive(server.engine.browse("shop/b", max_events=10))
            assert len(browsed) == 10
        server.disk.cold = 0.0

    with patch("mainstem.queues.routed_index.PAGE_ENTRIES", 8):
        with_door(test, "a", "b", **settings)


NAMES = [
    "/",
    "a/b",
    "%2F",
    "ünï códe",
    "a:b",
    "..",
    "日本",
    "x" * 255,
    "é" * 127,
    "\u200d",
    " ",
    "'\"<&>",
    "${x}",
]


def test_names_are_any_text_of_255_bytes_and_no_two_queues_are_one() -> None:
    async def test(door: RoutedDoor) -> None:
        server, drive = door.server, door.server.drive
        spaces = ["/", "%2F", "a", "a/b", "ü", "e" * 255]
        for space in spaces:
            await drive(door.queues.create_namespace(space))
            for name in NAMES:
                await drive(door.queues.create_queue(space, name, SubscriptionSettings(lock_ms=9_000)))
                await drive(door.queues.bind_queue(space, name, name.encode()))
        names = {door.queues.subscription_of(space, name) for space in spaces for name in NAMES}
        assert len(names) == len(spaces) * len(NAMES)
        assert door.queues.subscription_of("/", "orders") == "%2F/orders"
        for number, space in enumerate(spaces):
            event = NewEvent(b"%d" % number)
            await drive(door.queues.publish(space, [RoutedEvent(event, "orders", NAMES)]))
        await server.crash(power=True)
        assert await drive(door.queues.namespaces()) == sorted([*spaces, SPACE])
        for number, space in enumerate(spaces):
            assert await drive(door.queues.queues_of(space)) == sorted(NAMES)
            bindings = await drive(door.queues.bindings(space))
            assert [(binding.queue, binding.data) for binding in bindings] == [
                (name, name.encode()) for name in NAMES
            ]
            for name in NAMES:
                assert values(await server.pull(door.queues.subscription_of(space, name))) == [b"%d" % number]
        for wrong in ("", "a\nb", "\x00", "\x7f", "\x85", "\u2028", "\ud800", "x" * 256, "é" * 128):
            with pytest.raises(InvalidArgument):
                await drive(door.queues.create_namespace(wrong))
            with pytest.raises(InvalidArgument):
                await drive(door.queues.create_queue("/", wrong, SubscriptionSettings()))
        with pytest.raises(InvalidArgument):
            await drive(server.engine.create_subscription("a/b", SubscriptionSettings(topics=("orders",))))
        folders = server.disk.list("routed")
        assert all(len(folder) == 32 and folder.isalnum() for folder in folders)

    with_door(test)
