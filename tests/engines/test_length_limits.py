"""The limits of routed queues: what is too much is given up, or refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from mainstem.attach_contract import DeadEvent, OffersDeadLetterSink, QueueIsFull
from mainstem.contract import InvalidArgument, NotReachable, Position, StreamError
from mainstem.queue_contract import SubscriptionSettings
from tests.engines.attached_client import attached, client, settle_down
from tests.engines.queue_server import SimulatedServer, depth, simulated, values
from tests.engines.routed_door import RoutedDoor
from tests.engines.test_attached import fill, numbers
from tests.engines.test_routed_queues import with_door


class NotingSink:
    """Notes what it gets, and refuses it while `error` is set."""

    def __init__(self) -> None:
        self.moved: list[tuple[str, bytes | None, str, int]] = []
        self.origins: list[str] = []
        self.ends: list[str] = []
        self.error: StreamError | None = None

    def recorded(self, subscription: str, *, is_all: bool) -> None:
        if is_all:
            self.ends.append(subscription)

    async def move(self, subscription: str, events: Sequence[DeadEvent]) -> list[StreamError | None]:
        if self.error is None:
            self.moved += [(subscription, dead.event.value, dead.reason, dead.attempts) for dead in events]
            self.origins += [dead.origin for dead in events]
        return [self.error] * len(events)


def sink_of(server: SimulatedServer) -> NotingSink:
    assert isinstance(server.engine, OffersDeadLetterSink)
    sink = NotingSink()
    server.engine.attach_dead_letter_sink(sink)
    return sink


async def ready(server: SimulatedServer, name: str = "shop/a") -> list[bytes | None]:
    """The ready events. Takes them."""
    return values(await server.pull(name))


def test_the_earliest_ready_events_are_given_up_when_there_are_too_many() -> None:
    async def test(door: RoutedDoor) -> None:
        server = door.server
        sink = sink_of(server)
        await fill(door, 0, 5, partition=0)
        await settle_down(server)
        assert attached(server).queue_counts("shop/a").ready == 3
        moved = [dead for dead in sink.moved if dead[0] == "shop/a"]
        assert moved == [("shop/a", b"0", "maxlen", 0), ("shop/a", b"1", "maxlen", 0)]
        assert (await depth(server, "shop/b")).outstanding == 3
        await server.crash(power=True)
        sink = sink_of(server)
        await fill(door, 5, 6, partition=0)
        await settle_down(server)
        assert [value for name, value, *_ in sink.moved if name == "shop/a"] == [b"2"]
        assert await ready(server) == numbers(3, 6)

    with_door(test, "a", "b", length_max=3, dead_letters_to_sink=True)


def test_what_consumers_have_or_have_room_for_does_not_count() -> None:
    async def test(door: RoutedDoor) -> None:
        server = door.server
        consumer = await client(server, limit=5)
        await fill(door, 0, 9, partition=0)
        await settle_down(server)
        assert consumer.received == numbers(0, 5)
        assert attached(server).queue_counts("shop/a").ready == 2
        await consumer.nack(1)
        await settle_down(server)
        assert consumer.received == [*numbers(0, 5), b"0"], "it comes back to where there is room"
        await consumer.ack(5)
        await settle_down(server)
        assert consumer.received[6:] == [b"7", b"8"]

    with_door(test, "a", length_max=2)


def test_bytes_of_values_are_limited_too() -> None:
    async def test(door: RoutedDoor) -> None:
        server = door.server
        await door.publish("all", "", b"a" * 40, b"b" * 40, b"c" * 40, partition=0)
        await settle_down(server)
        assert await ready(server) == [b"b" * 40, b"c" * 40]

    async def refusing(door: RoutedDoor) -> None:
        values = [bytes([letter]) * 40 for letter in b"abc"]
        results = await door.publish("all", "", *values, partition=0)
        assert [type(result) for result in results] == [Position, Position, QueueIsFull]
        assert await ready(door.server) == values[:2]

    with_door(test, "a", length_bytes_max=100)
    with_door(refusing, "a", length_bytes_max=100, overflow="reject-publish")


def test_a_full_queue_refuses_what_others_take() -> None:
    async def test(door: RoutedDoor) -> None:
        server = door.server
        sink = sink_of(server)
        await server.drive(
            server.engine.alter_subscription("shop/b", SubscriptionSettings(dead_letters_to_sink=True))
        )
        results = await door.publish("all", "", b"0", b"1", b"2", partition=0)
        assert [type(result) for result in results] == [Position, Position, QueueIsFull]
        assert type((await door.publish("direct", "a", b"3"))[0]) is QueueIsFull
        await settle_down(server)
        assert attached(server).queue_counts("shop/b").ready == 3
        assert sink.moved == []
        deliveries = await server.pull("shop/a", count=1)
        assert values(deliveries) == [b"0"]
        assert type((await door.publish("direct", "a", b"4"))[0]) is Position
        assert type((await door.publish("direct", "a", b"5"))[0]) is QueueIsFull
        settings = SubscriptionSettings(
            length_max=2, overflow="reject-publish-dlx", dead_letters_to_sink=True
        )
        await server.drive(server.engine.alter_subscription("shop/a", settings))
        assert type((await door.publish("direct", "a", b"6"))[0]) is QueueIsFull
        await settle_down(server)
        assert sink.moved == [("shop/a", b"6", "maxlen", 0)]

    with_door(test, "a", "b", length_max=2, overflow="reject-publish", dead_letters_to_sink=True)


def test_a_consumer_with_room_makes_room_in_a_queue_that_refuses() -> None:
    async def test(door: RoutedDoor) -> None:
        await client(door.server, limit=3)
        results = await door.publish("all", "", *[b"%d" % number for number in range(6)], partition=0)
        assert [type(result) for result in results] == [Position] * 4 + [QueueIsFull] * 2

    with_door(test, "a", length_max=1, overflow="reject-publish")


def test_dead_events_wait_for_their_sink_and_go_to_it_once() -> None:
    async def test(door: RoutedDoor) -> None:
        server = door.server
        await fill(door, 0, 2, partition=0)
        consumer = await client(server, limit=1)
        await consumer.reject()
        await consumer.nack()
        await consumer.nack()
        await server.pass_time(1)
        assert (await depth(server, "shop/a")).dying == 2
        await server.crash(power=True)
        assert (await depth(server, "shop/a")).dying == 2
        sink = sink_of(server)
        sink.error = NotReachable("not now")
        await server.pass_time(1)
        assert (await depth(server, "shop/a")).dying == 2
        sink.error = None
        await server.pass_time(40)
        assert [(value, reason) for _, value, reason, _ in sink.moved] == [
            (b"0", "rejected"),
            (b"1", "failed"),
        ]
        assert len(set(sink.origins)) == 2
        assert (await depth(server, "shop/a")).outstanding == 0
        await server.crash(power=True)
        sink = sink_of(server)
        await server.pass_time(1)
        assert sink.moved == []

    with_door(test, "a", failures_max=2, dead_letters_to_sink=True)


def test_expired_events_go_to_the_sink() -> None:
    async def test(door: RoutedDoor) -> None:
        sink = sink_of(door.server)
        await fill(door, 0, 2, partition=0)
        await door.server.pass_time(2)
        assert [(value, reason) for _, value, reason, _ in sink.moved] == [
            (b"0", "expired"),
            (b"1", "expired"),
        ]

    with_door(test, "a", ttl_ms=500, dead_letters_to_sink=True)


@pytest.mark.parametrize(
    "settings", [{"length_max": 1}, {"length_bytes_max": 1}, {"dead_letters_to_sink": True}]
)
def test_a_subscription_of_topics_has_none_of_these(settings: dict[str, Any]) -> None:
    async def test(server: SimulatedServer) -> None:
        changed = SubscriptionSettings(topics=("t",), **settings)
        with pytest.raises(InvalidArgument, match="only a queue of a namespace"):
            await server.drive(server.engine.create_subscription("limited", changed))
        with pytest.raises(InvalidArgument, match="only a queue of a namespace"):
            await server.drive(server.engine.alter_subscription("s", changed))

    simulated(test)


def test_words_that_mean_nothing_are_refused() -> None:
    async def test(door: RoutedDoor) -> None:
        for settings in (
            SubscriptionSettings(overflow="drop-tail"),
            SubscriptionSettings(dead_letters_to_sink=True, dead_letter_topic="dead"),
        ):
            with pytest.raises(InvalidArgument):
                await door.server.drive(door.queues.create_queue("shop", "other", settings))

    with_door(test, "a")
