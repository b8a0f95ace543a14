"""Carrying over what subscriptions pin: a segment does not stay for a few events."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mainstem.contract import InvalidArgument, NewEvent, Position, StreamError
from mainstem.coordinator.queues.types import CARRIED_TOPIC as CARRIED
from mainstem.log.offline.backup import Backup
from mainstem.queue_contract import Delivery, Nack, Reject, SnapshotName, SubscriptionSettings
from mainstem.settings import Settings
from tests.engines.queue_server import SimulatedServer, simulated, values
from tests.engines.test_queue_retention import PERIOD_S, RetainedHistory, alter, describe, enforce, retained
from tests.log.test_backup import LiveSource, SimTarget
from tests.support.clock import SimClock

BATCH = 40
"""Events of a segment."""


async def publish_segments(server: SimulatedServer, count: int, first: int = 0) -> None:
    for number in range(first, first + count):
        events = [
            NewEvent(b"%d" % offset, b"key-%d" % offset, (("h", b"%d" % offset),), 1_000_000 + offset)
            for offset in range(number * BATCH, (number + 1) * BATCH)
        ]
        await server.drive(server.engine.publish("t", events))
        server.clock.advance(0.1)


async def left_behind(server: SimulatedServer, *offsets: int, name: str = "s") -> list[Delivery]:
    """Acknowledge everything that is ready but the events at these offsets; their deliveries."""
    deliveries = await server.pull(name, count=10_000)
    await server.ack(*(item for item in deliveries if item.event.offset not in offsets), name=name)
    return [item for item in deliveries if item.event.offset in offsets]


async def carried_copies(server: SimulatedServer) -> int:
    """How many copies the topic of carried events has."""
    bounds = await server.drive(server.engine.bounds(CARRIED, 0))
    return bounds.end - bounds.begin


def carrying(test: Any, **settings: Any) -> None:
    """Run a test with a topic whose segments have 40 events and are due at once."""

    async def prepared(server: SimulatedServer) -> None:
        await retained(server, **{"retention.ms": "1"})
        await test(server)

    simulated(prepared, **{"pin_ms": -1, **settings})


def test_a_segment_does_not_stay_for_a_few_events_and_these_are_delivered() -> None:
    async def test(server: SimulatedServer) -> None:
        await publish_segments(server, 4)
        waiting = await left_behind(server, 7, 9, 100)
        assert await enforce(server) == 4 * BATCH
        assert await carried_copies(server) == 3
        info = await describe(server)
        assert (info.depth.outstanding, info.trimmed, info.oldest) == (3, 0, Position("t", 0, 7))
        assert info.oldest_ms is not None
        assert server.clock.wall_ms() - info.oldest_ms < 2_000
        browsed = await server.drive(server.engine.browse("s"))
        assert [item.event.offset for item in browsed] == [7, 9, 100]
        await server.ack(waiting[0])
        server.clock.advance(60)
        await server.turns()
        again = await server.pull()
        assert [item.event for item in again] == [item.event for item in waiting[1:]]
        assert again[0].event.headers == (("h", b"9"),)
        assert again[0].event.key == b"key-9"
        assert again[0].event.timestamp_ms == 1_000_009
        await server.ack(*again)
        assert (await describe(server)).depth.outstanding == 0
        await enforce(server)
        assert await carried_copies(server) == 0

    carrying(test)


@pytest.mark.parametrize("power", [False, True])
def test_carried_events_survive_crashes_and_snapshots(power: bool) -> None:
    async def test(server: SimulatedServer) -> None:
        await publish_segments(server, 3)
        await left_behind(server, 7, 50)
        await enforce(server)
        await server.crash(power=power)
        assert values(await server.pull()) == [b"7", b"50"]
        server.node.queue_runtime.take_snapshot()
        await server.pass_time(1)
        await server.crash(power=power)
        await publish_segments(server, 1, 3)
        assert await enforce(server) == 3 * BATCH
        deliveries = await server.pull()
        assert len(deliveries) == 2 + BATCH
        await server.ack(*deliveries)
        assert (await describe(server)).trimmed == 0

    carrying(test)


def test_events_that_wait_or_die_are_carried_as_they_are() -> None:
    async def test(server: SimulatedServer) -> None:
        await publish_segments(server, 2)
        delayed, dying = await left_behind(server, 7, 17)
        await server.drive(
            server.engine.settle("s", [Nack(delayed.token, delay_ms=60_000), Reject(dying.token, "no")])
        )
        server.node.topics._by_name.pop("dead")
        assert await enforce(server) == 2 * BATCH
        assert (await describe(server)).depth.waiting == 1
        await server.crash(power=True)  # the topic is back
        await server.pass_time(1)
        reader = await server.drive(server.engine.reader([Position("dead", 0, 0)]))
        (letter,) = (await server.drive(reader.read(wait_ms=100))).events
        assert (letter.value, letter.key) == (b"17", b"key-17")
        server.clock.advance(61)
        assert values(await server.pull()) == [b"7"]

    carrying(test, dead_letter_topic="dead")


def test_key_order_holds_for_carried_events() -> None:
    async def test(server: SimulatedServer) -> None:
        for part in range(2):
            events = [NewEvent(b"%d" % number, b"k%d" % (number % 20)) for number in range(40)]
            await server.drive(server.engine.publish("t", events))
            server.clock.advance(0.1)
            assert part < 2
        deliveries = []
        for _ in range(6):
            deliveries += await server.pull(count=1_000)
        blocked = [item for item in deliveries if item.event.key == b"k3"]
        assert [item.event.offset for item in blocked] == [3, 23, 43, 63]
        await server.ack(*(item for item in deliveries if item.event.key != b"k3"))
        assert await enforce(server) == 80
        await server.crash(power=False)
        await server.pass_time(1)
        offsets = []
        while again := await server.pull(count=1):
            offsets.append(again[0].event.offset)
            await server.ack(*again)
        assert offsets == [3, 23, 43, 63]

    carrying(test, in_key_order=True)


def test_a_segment_with_many_pinned_events_stays() -> None:
    async def test(server: SimulatedServer) -> None:
        await publish_segments(server, 3)
        await left_behind(server, 3, *range(BATCH, BATCH + 5), 2 * BATCH)
        assert await enforce(server) == BATCH
        assert await carried_copies(server) == 1
        server.clock.advance(60)
        await server.turns()
        assert len(await left_behind(server, 3, BATCH + 2)) == 2
        assert await enforce(server) == 3 * BATCH
        assert (await describe(server)).depth.outstanding == 2

    carrying(test)


def test_each_subscription_has_its_own_and_a_copy_serves_all_of_them() -> None:
    async def test(server: SimulatedServer) -> None:
        for name in ("pins", "trims"):
            pin_ms = -1 if name == "pins" else 0
            settings = SubscriptionSettings(topics=("t",), pin_ms=pin_ms)
            await server.drive(server.engine.create_subscription(name, settings))
        await publish_segments(server, 2)
        await left_behind(server, 5, 6)
        await left_behind(server, 6, 7, name="pins")
        assert await enforce(server) == 2 * BATCH
        assert await carried_copies(server) == 3
        assert (await describe(server, "trims")).trimmed == 2 * BATCH
        server.clock.advance(60)
        await server.turns()
        assert values(await server.pull()) == [b"5", b"6"]
        assert values(await server.pull("pins")) == [b"6", b"7"]
        await server.drive(server.engine.delete_subscription("pins"))
        assert (await describe(server)).depth.outstanding == 2

    carrying(test)


def test_a_carried_event_is_trimmed_when_it_is_not_pinned_any_more() -> None:
    async def test(server: SimulatedServer) -> None:
        await publish_segments(server, 2)
        await left_behind(server, 5, 50)
        await enforce(server)
        await alter(server, pin_ms=120_000)
        server.clock.advance(PERIOD_S)
        await enforce(server)
        assert (await describe(server)).trimmed == 0
        server.clock.advance(2 * PERIOD_S)
        await enforce(server)
        info = await describe(server)
        assert (info.trimmed, info.depth.outstanding) == (2, 0)
        await enforce(server)
        assert await carried_copies(server) == 0

    carrying(test)


def test_what_deletes_on_request_deletes_carried_events() -> None:
    async def test(server: SimulatedServer) -> None:
        await publish_segments(server, 2)
        await left_behind(server, 5, 50)
        await enforce(server)
        await server.drive(server.engine.delete_records("t", 0, 10))
        info = await describe(server)
        assert (info.trimmed, info.depth.outstanding) == (1, 1)
        await server.drive(server.engine.purge("s"))
        assert (await describe(server)).depth.outstanding == 0
        await enforce(server)
        assert await carried_copies(server) == 0

    carrying(test)


def test_a_seek_leaves_no_carried_events_behind_and_a_redrive_does_not_find_them() -> None:
    async def test(server: SimulatedServer) -> None:
        await publish_segments(server, 2)
        (first, _) = await left_behind(server, 5, 50)
        await enforce(server)
        await server.ack(first)
        assert await server.drive(server.engine.redrive("s", [Position("t", 0, 5)])) == 0
        await server.drive(server.engine.seek("s", "earliest"))
        assert (await describe(server)).depth.outstanding == 0
        assert await server.pull() == []

    carrying(test)


def test_a_seek_to_a_snapshot_delivers_what_is_carried_over() -> None:
    async def test(server: SimulatedServer) -> None:
        await server.drive(server.engine.take_snapshot("s", "before"))
        await publish_segments(server, 2)
        await left_behind(server, 5, 50, 51)
        await server.drive(server.engine.take_snapshot("s", "after"))
        await enforce(server)
        server.clock.advance(60)
        await server.turns()
        (first, *_) = await server.pull()
        await server.ack(first)
        for name in ("before", "after"):
            await server.drive(server.engine.seek("s", SnapshotName(name)))
            assert (await describe(server)).depth.outstanding == 2
            assert values(await server.pull()) == [b"50", b"51"]
            await server.crash(power=True)
            assert values(await server.pull()) == [b"50", b"51"]
        server.clock.advance(60)
        await publish_segments(server, 1, 2)
        await left_behind(server)
        assert await enforce(server) == 3 * BATCH
        assert (await describe(server)).depth.outstanding == 0

    carrying(test)


def test_copies_are_copied_again_when_few_of_a_segment_are_needed() -> None:
    async def test(server: SimulatedServer) -> None:
        await publish_segments(server, 1)
        await left_behind(server, 5)
        await enforce(server)
        topic = server.node.topics.get(CARRIED)
        assert topic is not None
        partition = server.node.partition(topic, 0)
        partition.config = server.node.topics.partition_config(topic)
        for number in range(1, 12):
            await publish_segments(server, 1, number)
            (item,) = await left_behind(server, number * BATCH)
            await enforce(server)
            await server.ack(item)
        assert partition.log_start_offset == 0, "the oldest copy is needed"
        partition.roll()
        await enforce(server)
        await server.pass_time(1)
        assert partition.log_start_offset > 10
        server.clock.advance(60)
        await server.turns()
        assert values(await server.pull()) == [b"5"]

    carrying(test)


def test_nothing_is_lost_when_copying_fails(caplog: pytest.LogCaptureFixture) -> None:
    async def test(server: SimulatedServer) -> None:
        await publish_segments(server, 2)
        await left_behind(server, 5)
        server.node.space_guard.rejection_reason = "the disk is full"
        server.disk.sync_fails = 1.0
        await enforce(server)
        server.disk.sync_fails = 0.0
        server.node.space_guard.rejection_reason = None
        await server.crash(power=True)
        assert values(await server.pull()) == [b"5"]

    carrying(test)


def test_the_topic_of_carried_events_is_the_servers_own() -> None:
    async def test(server: SimulatedServer) -> None:
        await publish_segments(server, 1)
        await left_behind(server, 5)
        await enforce(server)
        engine = server.engine
        assert CARRIED not in [topic.name for topic in await server.drive(engine.topics())]
        assert CARRIED in [topic.name for topic in await server.drive(engine.topics(internal=True))]
        with pytest.raises(InvalidArgument):
            await server.drive(engine.publish(CARRIED, [NewEvent(b"forged")]))
        for call in (
            engine.delete_topic(CARRIED),
            engine.alter_topic(CARRIED, {"retention.ms": "1"}),
            engine.add_partitions(CARRIED, 2),
            engine.create_topic(CARRIED),
            engine.delete_records(CARRIED, 0, -1),
            engine.create_subscription("x", SubscriptionSettings(topics=(CARRIED,))),
        ):
            with pytest.raises(StreamError):
                await server.drive(call)

    carrying(test)


STEPS = [pytest.param(steps, marks=pytest.mark.slow) for steps in (0, 3, 6, 9, 12, 18, 21)]


@pytest.mark.parametrize("steps", [15, *STEPS])
def test_a_backup_has_what_is_carried_over_while_it_is_made(steps: int) -> None:
    """The state is copied before the events: it does not know of the copies that came in between."""

    async def test(server: SimulatedServer) -> None:
        await publish_segments(server, 3)
        await left_behind(server, 7, 50)
        target = SimTarget(server)
        source = LiveSource(server)
        copying = Backup(source, target, lambda: lambda _: True).run()  # type: ignore[arg-type]
        for _ in range(steps):
            next(copying, None)
        assert await enforce(server) == 3 * BATCH
        for _ in copying:
            await server.turns()
        await server.engine.close()
        clock = SimClock(server.clock.wall_ms() + 60_000)
        server.disk, server.clock = target.disk.power_cut(clock), clock
        server.open()
        report = server.node.recovery_report
        assert report is not None
        assert report.is_copy
        await server.pass_time(1)
        await enforce(server)
        delivered = {item.event.offset for item in await server.pull(count=1_000)}
        assert {7, 50} <= delivered

    carrying(test)


@pytest.mark.slow
def test_copies_that_a_power_cut_took_are_not_believed() -> None:
    async def run(seed: int) -> None:
        server = SimulatedServer(seed, Settings(durability="os"))
        await server.drive(server.engine.create_topic("t", partitions=1, settings={"segment.ms": "1"}))
        await server.drive(
            server.engine.create_subscription("s", SubscriptionSettings(topics=("t",), pin_ms=-1))
        )
        await publish_segments(server, 2)
        await server.pass_time(40)
        await left_behind(server, 5)
        await server.drive(server.engine.alter_topic("t", {"retention.ms": "1"}))
        await enforce(server)
        await server.crash(power=True)
        await server.pass_time(1)
        delivered = [item.event for item in await server.pull(count=1_000)]
        assert all(event.value == b"%d" % event.offset for event in delivered if event.offset < 2 * BATCH)
        assert (await describe(server)).depth.ready == 0
        await server.engine.close()

    for seed in range(8):
        asyncio.run(run(seed))


class CarryingHistory(RetainedHistory):
    """As `RetainedHistory`, with segments of which most is done."""

    async def begin(self) -> None:
        await super().begin()
        await self.server.drive(self.server.engine.alter_topic("t", {"segment.ms": "3000"}))


@pytest.mark.parametrize("seed", range(1))
def test_no_carried_event_is_lost_or_comes_back(seed: int) -> None:
    asyncio.run(CarryingHistory(seed).run())


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, 200, 20))
def test_no_carried_event_is_lost_in_many_histories(first: int) -> None:
    for seed in range(first, first + 20):
        asyncio.run(CarryingHistory(seed).run())


def test_a_copy_that_no_view_refers_to_yet_is_not_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(server: SimulatedServer) -> None:
        await publish_segments(server, 2)
        await left_behind(server, 7)
        carried = server.engine._queue_service.carried
        append_copies, shrinking = carried._append, list[asyncio.Future[None]]()

        async def append_slowly(*arguments: Any) -> Any:
            copied = await append_copies(*arguments)
            shrinking.append(asyncio.ensure_future(carried.shrink()))
            for _ in range(20):
                await asyncio.sleep(0)
            return copied

        monkeypatch.setattr(carried, "_append", append_slowly)
        await enforce(server)
        monkeypatch.undo()
        await server.drive(asyncio.gather(*shrinking))
        assert await carried_copies(server) == 1
        await server.crash(power=True)
        assert values(await server.pull()) == [b"7"]

    carrying(test)
