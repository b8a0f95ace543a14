"""Events of routed queues that name the time when they are over are given up at that time."""

from __future__ import annotations

import pytest

import mainstem.engines.embedded.queues.routed_deadlines as module
from mainstem.engines.embedded.engine import EmbeddedEngine
from tests.engines.attached_client import client, settle_down
from tests.engines.queue_server import SimulatedServer, depth
from tests.engines.routed_door import RoutedDoor
from tests.engines.test_length_limits import NotingSink, sink_of
from tests.engines.test_routed_queues import with_door


async def publish_until(door: RoutedDoor, key: str, value: bytes, after_ms: int) -> None:
    time_ms = door.server.clock.wall_ms() + after_ms
    header = ("expires-at", b"%d" % time_ms)
    await door.publish("direct", key, value, partition=0, headers=(header,))


def expired(sink: NotingSink) -> list[tuple[str, bytes | None]]:
    assert all(reason == "expired" for _, _, reason, _ in sink.moved)
    return [(name, value) for name, value, _, _ in sink.moved]


def deadlines_of(server: SimulatedServer) -> int:
    assert isinstance(server.engine, EmbeddedEngine)
    return len(server.engine._queue_deadlines._heap)


def test_each_is_given_up_at_its_time_also_behind_one_that_lives_for_longer() -> None:
    async def test(door: RoutedDoor) -> None:
        server = door.server
        sink = sink_of(server)
        await publish_until(door, "a", b"long", 10_000)
        await publish_until(door, "a", b"short", 1_000)
        await publish_until(door, "b", b"other", 2_000)
        await door.publish("all", "", b"for ever", partition=0)
        await server.pass_time(0.9)
        assert expired(sink) == []
        await server.pass_time(0.2)
        assert expired(sink) == [("shop/a", b"short")]
        await server.pass_time(1.1)
        assert expired(sink) == [("shop/a", b"short"), ("shop/b", b"other")]
        assert (await depth(server, "shop/a")).outstanding == 2

    with_door(test, "a", "b", dead_letters_to_sink=True)


def test_after_a_restart_the_deadlines_are_known_again() -> None:
    async def test(door: RoutedDoor) -> None:
        server = door.server
        for number in range(3):
            await publish_until(door, "a", b"%d" % number, 1_000 * (number + 1))
        await server.crash(power=True)
        sink = sink_of(server)
        await server.pass_time(2.2)
        assert expired(sink) == [("shop/a", b"0"), ("shop/a", b"1")]
        await server.pass_time(1)
        assert len(sink.moved) == 3
        assert deadlines_of(server) == 0

    with_door(test, "a", dead_letters_to_sink=True)


def test_what_a_consumer_has_at_its_time_is_its_own_until_it_comes_back() -> None:
    async def test(door: RoutedDoor) -> None:
        server = door.server
        sink = sink_of(server)
        consumer = await client(server, limit=2)
        await publish_until(door, "a", b"done", 1_000)
        await publish_until(door, "a", b"back", 1_000)
        await settle_down(server)
        await server.pass_time(2)
        assert expired(sink) == []
        await consumer.ack(1)
        consumer.consumer.detach(requeue=True)
        await server.pass_time(6)
        assert expired(sink) == [("shop/a", b"back")]

    with_door(test, "a", dead_letters_to_sink=True)


@pytest.mark.parametrize("ttl_ms", [0, 1])
def test_what_lives_for_no_time_is_for_a_consumer_that_is_there(ttl_ms: int) -> None:
    async def test(door: RoutedDoor) -> None:
        server = door.server
        sink = sink_of(server)
        consumer = await client(server, limit=1)
        for value in (b"0", b"1"):
            await (door.publish("all", "", value) if ttl_ms else publish_until(door, "a", value, 0))
            await settle_down(server)
        assert consumer.received == [b"0"]
        await server.pass_time(1)
        assert [value for _, value in expired(sink)] == [b"1"]

    with_door(test, "a", ttl_ms=ttl_ms, dead_letters_to_sink=True)


def test_deadlines_of_what_is_done_are_forgotten_as_others_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DEADLINES_MAX", 10)

    async def test(door: RoutedDoor) -> None:
        server = door.server
        consumer = await client(server, auto_ack=True)
        for number in range(30):
            await publish_until(door, "a", b"%d" % number, 60_000)
            await settle_down(server)
        assert len(consumer.received) == 30
        assert deadlines_of(server) <= 2

    with_door(test, "a")


def test_above_the_limit_an_event_is_given_up_when_it_would_be_delivered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "DEADLINES_MAX", 2)

    async def test(door: RoutedDoor) -> None:
        server = door.server
        sink = sink_of(server)
        for number in range(3):
            await publish_until(door, "a", b"%d" % number, 1_000)
        await server.pass_time(2)
        assert [value for _, value in expired(sink)] == [b"0", b"1"]
        consumer = await client(server)
        await server.pass_time(1)
        assert consumer.received == []
        assert len(sink.moved) == 3

    with_door(test, "a", dead_letters_to_sink=True)
