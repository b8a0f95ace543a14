"""Retention against events of routed queues that are not done: trimmed, warned of, pinned, carried over."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any
from unittest.mock import patch

import pytest

from mainstem.contract import NewEvent, Position
from mainstem.engines.embedded.queues.routed_scan import RoutedScan
from mainstem.log.offline.backup import Backup
from mainstem.queue_contract import Delivery, SubscriptionInfo, SubscriptionSettings
from tests.engines.queue_server import SimulatedServer, values
from tests.engines.routed_door import SPACE, RoutedDoor
from tests.engines.test_queue_carrying import carried_copies
from tests.engines.test_routed_queues import RoutedHistory, with_door
from tests.log.test_backup import LiveSource, SimTarget
from tests.support.clock import SimClock

BATCH = 40
"""Events of a segment."""


def retained(test: Callable[[RoutedDoor], Awaitable[None]], *queues: str, **settings: Any) -> None:
    """Run a test with a topic whose segments have 40 events and are due at once."""

    async def prepared(door: RoutedDoor) -> None:
        engine = door.server.engine
        await door.server.drive(engine.alter_topic("orders", {"segment.ms": "1", "retention.ms": "1"}))
        await test(door)

    with_door(prepared, *queues, **{"pin_ms": -1, **settings})


async def publish_segments(door: RoutedDoor, count: int, partition: int = 0, key: str = "") -> None:
    """Publish events that say their offset, for all queues or one of them."""
    exchange = "direct" if key else "all"
    for _ in range(count):
        first = (await door.server.drive(door.server.engine.bounds("orders", partition))).end
        events = [
            NewEvent(b"%d" % offset, headers=(("h", b"%d" % offset),), partition=partition)
            for offset in range(first, first + BATCH)
        ]
        routed = await door.events(exchange, key, events)
        await door.server.drive(door.queues.publish(SPACE, routed))
        door.server.clock.advance(0.1)


async def left_behind(server: SimulatedServer, name: str, *offsets: int) -> list[Delivery]:
    """Acknowledge everything that is ready but the events at these offsets; their deliveries."""
    deliveries = await server.pull(name, count=10_000)
    await server.ack(*(item for item in deliveries if item.event.offset not in offsets), name=name)
    return [item for item in deliveries if item.event.offset in offsets]


async def enforce(server: SimulatedServer, partition: int = 0) -> int:
    """Run retention; the log start offset of a partition."""
    await server.drive(server.node.enforce_retention())
    await server.pass_time(0.2)
    return (await server.drive(server.engine.bounds("orders", partition))).begin


async def describe(server: SimulatedServer, name: str = "shop/a") -> SubscriptionInfo:
    return await server.drive(server.engine.subscription(name))


def test_what_is_not_pinned_is_trimmed_counted_and_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    async def test(door: RoutedDoor) -> None:
        server = door.server
        await server.drive(server.engine.alter_topic("orders", {"retention.ms": "600000"}))
        await publish_segments(door, 2)
        server.clock.advance(500)
        await publish_segments(door, 1)
        with caplog.at_level(logging.WARNING):
            assert await enforce(server) == 0
        assert "subscription shop/b: 80 events are not done, and retention deletes them soon" in caplog.text
        await left_behind(server, "shop/a", 3, 100)
        assert (await describe(server)).expiring == 1
        assert (await describe(server)).problems == (
            f"namespace {SPACE}: an event is not done, and retention deletes it soon",
        )
        server.clock.advance(150)
        assert await enforce(server) == 2 * BATCH
        info = await describe(server)
        assert (info.trimmed, info.depth.outstanding, info.oldest) == (1, 1, Position("orders", 0, 100))
        assert (await describe(server, "shop/b")).trimmed == 80

    retained(test, "a", "b", pin_ms=0)


def test_a_segment_with_pinned_events_stays_and_no_other_partition_does() -> None:
    async def test(door: RoutedDoor) -> None:
        server = door.server
        await publish_segments(door, 1, 0)
        await publish_segments(door, 2, 1)
        await publish_segments(door, 1, 0)
        pinned = [*range(5, 15), 50]
        deliveries = await server.pull("shop/a", count=1_000)
        left = [item for item in deliveries if item.event.partition == 0 and item.event.offset in pinned]
        await server.ack(*(item for item in deliveries if item not in left), name="shop/a")
        await server.ack(*await server.pull("shop/b", count=1_000), name="shop/b")
        assert await enforce(server, 0) == 0
        assert (await server.drive(server.engine.bounds("orders", 1))).begin == 2 * BATCH
        assert await carried_copies(server) == 0
        await server.crash(power=True)
        assert await enforce(server, 0) == 0
        again = await server.pull("shop/a", count=1_000)
        assert [item.event.offset for item in again] == pinned
        await server.ack(*again, name="shop/a")
        assert await enforce(server, 0) == 2 * BATCH
        assert (await describe(server)).trimmed == 0

    retained(test, "a", "b")


def test_few_events_are_carried_over_and_delivered_as_they_were() -> None:
    async def test(door: RoutedDoor) -> None:
        server = door.server
        await publish_segments(door, 3)
        waiting = await left_behind(server, "shop/a", 7, 100)
        await left_behind(server, "shop/b", 7)
        assert await enforce(server) == 3 * BATCH
        assert await carried_copies(server) == 2, "a copy serves all queues"
        for power in (False, True):
            server.node.queue_runtime.take_snapshot()
            await server.pass_time(1)
            server.disk.remove_folder("routed")  # then no file but the copies says that they were there
            await server.crash(power=power)
        info = await describe(server)
        assert (info.depth.outstanding, info.trimmed, info.oldest) == (2, 0, Position("orders", 0, 7))
        browsed = await server.drive(server.engine.browse("shop/a"))
        assert [item.event.offset for item in browsed] == [7, 100]
        again = await server.pull("shop/a")
        assert [item.event for item in again] == [item.event for item in waiting]
        assert again[0].event.headers == (("h", b"7"),)
        assert values(await server.pull("shop/b")) == [b"7"]
        await server.ack(*again, name="shop/a")
        await publish_segments(door, 1)
        assert values(await server.pull("shop/a", count=1)) == [b"120"]

    retained(test, "a", "b")


def test_an_event_is_pinned_for_the_time_of_its_queue_and_then_trimmed() -> None:
    async def test(door: RoutedDoor) -> None:
        server = door.server
        await publish_segments(door, 1)
        server.clock.advance(400)
        await publish_segments(door, 1)
        assert await enforce(server) == 0
        server.clock.advance(300)
        assert await enforce(server) == BATCH
        await left_behind(server, "shop/a", 50)
        assert await enforce(server) == 2 * BATCH
        assert (await describe(server)).depth.outstanding == 1
        server.clock.advance(400)
        await enforce(server)
        info = await describe(server)
        assert (info.depth.outstanding, info.trimmed) == (0, BATCH + 1)

    retained(test, "a", pin_ms=600_000)


def test_what_a_seek_or_a_redrive_makes_outstanding_again_is_pinned_at_once() -> None:
    async def test(door: RoutedDoor) -> None:
        server = door.server
        await publish_segments(door, 1)
        await server.ack(*await server.pull("shop/a", count=1_000), name="shop/a")
        needs = server.engine._queue_service.carried.routed_needs
        topic = server.node.topics.get("orders")
        assert topic is not None
        partition = server.node.partition(topic, 0)
        await server.drive(needs.look(partition))
        assert server.node.queue_retention.first_pinned(partition, 0, BATCH) is None
        assert await server.drive(server.engine.redrive("shop/a", [Position("orders", 0, 9)])) == 1
        pinned = server.node.queue_retention.first_pinned(partition, 0, BATCH)
        assert pinned is not None
        assert pinned.first == 0, "it is not known yet which"
        await server.drive(needs.look(partition))
        pinned = server.node.queue_retention.first_pinned(partition, 0, BATCH)
        assert pinned is not None
        assert pinned.first == 9
        await server.drive(server.engine.seek("shop/a", "earliest"))
        assert await enforce(server) == 0
        assert len(await server.pull("shop/a", count=1_000)) == BATCH

    retained(test, "a")


def test_a_search_that_is_too_long_goes_on_in_the_next_run() -> None:
    async def test(door: RoutedDoor) -> None:
        server = door.server
        await publish_segments(door, 3, 1, key="a")
        await publish_segments(door, 1, 0, key="b")
        with patch("mainstem.engines.embedded.queues.routed_needs.LOOKED_MAX", 50):
            assert await enforce(server, 0) == 0
            assert await enforce(server, 0) == 0
            await server.ack(*await server.pull("shop/b", count=1_000), name="shop/b")
            for _ in range(3):
                begin = await enforce(server, 0)
        assert begin == BATCH, "the queue with a backlog has nothing in this partition"

    retained(test, "a", "b")


def test_filters_keep_what_they_have_not_looked_at_and_cold_index_pages_are_fetched() -> None:
    async def test(door: RoutedDoor) -> None:
        server = door.server
        await publish_segments(door, 3)
        server.node.routed._on_timer()
        await server.crash(power=False)
        server.disk.cold = 0.5
        await server.pass_time(2)
        assert await enforce(server) == 3 * BATCH
        server.disk.cold = 0.0
        await server.pass_time(1)
        assert values(await server.pull("shop/a")) == [b"7", b"77"]
        assert (await describe(server)).trimmed == 0

    with patch("mainstem.queues.routed_index.PAGE_ENTRIES", 8):
        retained(test, "a", filter="7 OR 77")


def test_key_order_holds_for_events_that_are_carried_over_before_they_are_looked_at() -> None:
    async def test(door: RoutedDoor) -> None:
        server = door.server
        await publish_segments(door, 1, 1)
        keys = {7: b"k", 9: b"k"}
        events = [NewEvent(b"%d" % number, keys.get(number), partition=0) for number in range(BATCH)]
        await server.drive(door.queues.publish(SPACE, await door.events("all", "", events)))
        await server.pass_time(0.2)
        deliveries = await server.pull("shop/a", count=1_000)
        left = [d for d in deliveries if d.event.partition == 0 and d.event.offset not in keys]
        await server.ack(*left, name="shop/a")
        with patch.object(RoutedScan, "scan_soon", lambda _: None):
            await server.crash(power=True)
            assert await enforce(server, 0) == BATCH
            assert await carried_copies(server) == 2
            server.disk.remove_folder("routed")  # the log from which it is built anew has not all events
            await server.crash(power=False)
        await server.drive(server.engine.subscription("shop/a"))
        await server.pass_time(0.5)
        first = await server.drive(server.engine.pull("shop/a", "one", max_events=BATCH + 1))
        assert first[-1].event.offset == 7
        assert await server.drive(server.engine.pull("shop/a", "two")) == [], "the other has the key"
        await server.ack(first[-1], name="shop/a")
        assert values(await server.drive(server.engine.pull("shop/a", "two"))) == [b"9"]

    retained(test, "a", in_key_order=True)


@pytest.mark.parametrize("steps", [15, *(pytest.param(n, marks=pytest.mark.slow) for n in (0, 6, 12, 21))])
def test_a_backup_has_what_is_carried_over_while_it_is_made(steps: int) -> None:
    """The state is copied before the events; the index of routed queues is not copied."""

    async def test(door: RoutedDoor) -> None:
        server = door.server
        await publish_segments(door, 3)
        await left_behind(server, "shop/a", 7, 50)
        server.node.routed._on_timer()
        target = SimTarget(server)
        copying = Backup(LiveSource(server), target, lambda: lambda _: True).run()  # type: ignore[arg-type]
        for _ in range(steps):
            next(copying, None)
        assert await enforce(server) == 3 * BATCH
        for _ in copying:
            await server.turns()
        await server.engine.close()
        clock = SimClock(server.clock.wall_ms() + 60_000)
        server.disk, server.clock = target.disk.power_cut(clock), clock
        assert not server.disk.list("routed")
        server.open()
        await server.pass_time(1)
        await enforce(server)
        delivered = {item.event.offset for item in await server.pull("shop/a", count=1_000)}
        assert {7, 50} <= delivered
        await publish_segments(door, 1)
        assert len(await server.pull("shop/a", count=1_000)) == BATCH

    retained(test, "a")


class RoutedRetainedHistory(RoutedHistory):
    """A history in which retention runs all the time, against a routed queue that pins (I16)."""

    segment_ms = 1

    async def begin(self) -> None:
        await super().begin()
        engine = self.server.engine
        settings = {"segment.ms": str(self.segment_ms), "retention.ms": "1"}
        await self.server.drive(engine.alter_topic("orders", settings))
        info = await self.server.drive(engine.subscription("shop/s"))
        changed = {**info.settings.by_name(), "pin_ms": -1}
        await self.server.drive(engine.alter_subscription("shop/s", SubscriptionSettings(**changed)))

    async def wait(self) -> None:
        await self.retain()
        await super().wait()

    async def publish(self) -> None:
        await super().publish()
        await self.retain()

    async def retain(self) -> None:
        call = asyncio.ensure_future(self._retain())
        if not await self.crash_during(call):
            await self.server.drive(call)

    async def _retain(self) -> None:
        await self.server.node.enforce_retention()

    async def drain(self) -> None:
        await super().drain()
        info = await self.server.drive(self.server.engine.subscription("shop/s"))
        assert info.trimmed == 0, "what is pinned is not trimmed"
        await self.server.pass_time(1)
        for _ in range(2):
            await self.server.drive(self._retain())
        assert not self.server.node.queue_retention.pinned, "what is done is not pinned"


class RoutedCarryingHistory(RoutedRetainedHistory):
    """As `RoutedRetainedHistory`, with segments of which most is done."""

    segment_ms = 3_000


@pytest.mark.parametrize("history", [RoutedRetainedHistory, RoutedCarryingHistory])
def test_no_pinned_event_is_lost_whatever_happens(history: type[RoutedRetainedHistory]) -> None:
    asyncio.run(history(1).run())


@pytest.mark.slow
@pytest.mark.parametrize("history", [RoutedRetainedHistory, RoutedCarryingHistory])
def test_no_pinned_event_is_lost_in_many_histories(history: type[RoutedRetainedHistory]) -> None:
    for seed in range(50):
        asyncio.run(history(seed).run())
