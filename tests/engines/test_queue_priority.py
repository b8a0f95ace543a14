"""Subscriptions by priority: the highest of the next events comes first, within a window."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from mainstem.contract import InvalidArgument, NewEvent
from mainstem.engines.embedded.queues import subscription_queue
from mainstem.queue_contract import Ack, Nack, SubscriptionSettings
from mainstem.queues.event_headers import priority_of
from tests.engines.queue_server import SimulatedServer, depth, simulated, values


async def publish(server: SimulatedServer, *priorities: int | None, partition: int = 0) -> None:
    """Events whose values are their priorities."""
    events = [
        NewEvent(
            b"%d" % (4 if number is None else number),
            headers=() if number is None else (("priority", b"%d" % number),),
            partition=partition,
        )
        for number in priorities
    ]
    await server.drive(server.engine.publish("t", events))


def test_the_highest_comes_first_and_equal_ones_in_their_order() -> None:
    async def test(server: SimulatedServer) -> None:
        await publish(server, 1, 9, None, 0, 9, 5)
        first = await server.pull(count=2)
        assert [(item.event.value, item.event.offset) for item in first] == [(b"9", 1), (b"9", 4)]
        await publish(server, 7)
        rest = await server.pull()
        assert values(rest) == [b"7", b"5", b"4", b"1", b"0"]
        assert {item.attempt for item in [*first, *rest]} == {1}, "what was looked at was not delivered"
        await server.drive(server.engine.settle("s", [Nack(first[1].token)]))
        (again,) = await server.pull()
        assert (again.event.offset, again.attempt) == (4, 2)

    simulated(test, by_priority=True)


def test_a_header_that_is_no_priority_does_not_count() -> None:
    def of(value: bytes | None) -> int:
        return priority_of((("priority", value),))

    assert [of(value) for value in (b"0", b"9", b"255", b"high", b"", None, b"-1", b"9" * 12)] == [
        0, 9, 9, 4, 4, 4, 4, 4,
    ]  # fmt: skip


def test_a_pull_looks_at_a_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscription_queue, "WINDOW_EVENTS", 5)

    async def test(server: SimulatedServer) -> None:
        await publish(server, 1, 1, 1, 1, 1, 9)
        assert values(await server.pull(count=1)) == [b"1"], "the 9 is behind the window"
        assert values(await server.pull(count=1)) == [b"9"]
        assert (await depth(server)).leased == 2

    simulated(test, by_priority=True)


def test_over_partitions_with_several_consumers_at_once() -> None:
    async def test(server: SimulatedServer) -> None:
        await server.drive(server.engine.add_partitions("t", 3))
        for partition in range(3):
            await publish(server, 2, 8, 5, partition=partition)
        pulls = [server.engine.pull("s", f"c{number}", max_events=3) for number in range(3)]
        results = await server.drive(asyncio.gather(*pulls))
        assert [values(result) for result in results] == [[b"8"] * 3, [b"5"] * 3, [b"2"] * 3]
        assert await server.pull() == []

    simulated(test, by_priority=True)


def test_bytes_are_limited_and_a_cancelled_pull_leaves_nothing_leased() -> None:
    async def test(server: SimulatedServer) -> None:
        await server.drive(
            server.engine.publish("t", [NewEvent(b"x" * 1_000, headers=(("priority", b"3"),))] * 10)
        )
        deliveries = await server.drive(server.engine.pull("s", "c", max_bytes=2_500))
        assert len(deliveries) == 3
        (feed,) = server.engine._queue_service.queue("s").feeds.values()
        read, going_on = feed.source.read, asyncio.Event()

        async def slow(*arguments: Any, **named: Any) -> Any:
            await going_on.wait()
            return await read(*arguments, **named)

        feed.source.read = slow  # type: ignore[method-assign]
        cancelled = asyncio.ensure_future(server.engine.pull("s", "d"))
        waiting = asyncio.ensure_future(server.engine.pull("s", "e", wait_ms=5_000))
        await server.pass_time(0.1)
        cancelled.cancel()
        going_on.set()
        assert len(await server.drive(waiting)) == 7
        assert cancelled.cancelled()

    simulated(test, by_priority=True)


def test_it_contradicts_key_order() -> None:
    async def test(server: SimulatedServer) -> None:
        settings = SubscriptionSettings(topics=("t",), by_priority=True, in_key_order=True)
        with pytest.raises(InvalidArgument, match="contradict"):
            await server.drive(server.engine.create_subscription("n", settings))

    simulated(test)


def test_each_pull_has_what_a_naive_queue_would_have() -> None:
    """Random publishing, pulls and answers; the window is larger than the queue."""

    async def test(server: SimulatedServer) -> None:
        rng = random.Random(3)
        ready: dict[int, int] = {}
        leased: dict[int, str] = {}
        levels: dict[int, int] = {}
        offset = 0
        for _ in range(250):
            act = rng.random()
            if act < 0.4:
                new = [rng.randint(0, 9) for _ in range(rng.randint(1, 6))]
                await publish(server, *new)
                for level in new:
                    ready[offset] = levels[offset] = level
                    offset += 1
            elif act < 0.7:
                count = rng.randint(1, 5)
                expected = sorted(ready, key=lambda place: (-levels[place], place))[:count]
                deliveries = await server.pull(count=count)
                assert [item.event.offset for item in deliveries] == expected
                for item in deliveries:
                    del ready[item.event.offset]
                    leased[item.event.offset] = item.token
            elif leased:
                place = rng.choice(sorted(leased))
                token = leased.pop(place)
                if rng.random() < 0.5:
                    ready[place] = levels[place]
                    await server.drive(server.engine.settle("s", [Nack(token)]))
                else:
                    await server.drive(server.engine.settle("s", [Ack(token)]))

    simulated(test, by_priority=True, lock_ms=3_600_000)
