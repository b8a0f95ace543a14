"""A subscription that delivers to a single consumer at a time."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace

from mainstem.queue_contract import Ack, Delivery, Extend, Nack
from tests.engines.queue_server import SimulatedServer, simulated, values


async def pull(server: SimulatedServer, consumer: str, wait_ms: int = 0, count: int = 1) -> list[Delivery]:
    call = server.engine.pull("s", consumer, max_events=count, wait_ms=wait_ms)
    return await server.drive(call)


async def active(server: SimulatedServer) -> str | None:
    return (await server.drive(server.engine.subscription("s"))).active_consumer


def test_others_receive_nothing_while_one_has_an_event_or_was_seen() -> None:
    async def test(server: SimulatedServer) -> None:
        await server.publish("t", b"0", b"1", b"2", b"3")
        assert await active(server) is None
        (first,) = await pull(server, "a")
        assert await active(server) == "a"
        assert await pull(server, "b") == []
        await server.ack(first)
        assert await pull(server, "b") == [], "between two pulls it stays the active one"
        assert values(await pull(server, "a")) == [b"1"]
        await server.pass_time(19)
        assert await pull(server, "b") == [], "it has an event"
        start_ms = server.clock.wall_ms()
        assert values(await pull(server, "b", wait_ms=60_000)) == [b"1"]
        assert 800 <= server.clock.wall_ms() - start_ms <= 1_100, "its lock has expired"
        assert await active(server) == "b"
        assert await pull(server, "a") == []

    simulated(test, single_active=True, active_timeout_ms=5_000, lock_ms=20_000)


def test_the_next_one_is_the_one_that_waits_longest_when_the_time_is_over() -> None:
    async def test(server: SimulatedServer) -> None:
        await server.publish("t", b"0", b"1", b"2")
        (first,) = await pull(server, "a")
        waiting = [asyncio.ensure_future(server.engine.pull("s", name, wait_ms=60_000)) for name in "bc"]
        await server.pass_time(1)
        start_ms = server.clock.wall_ms()
        await server.ack(first)
        while not waiting[0].done():
            await server.pass_time(0.05)
        assert 5_000 <= server.clock.wall_ms() - start_ms <= 5_150
        assert values(waiting[0].result()) == [b"1", b"2"]
        await server.pass_time(10)
        assert not waiting[1].done()
        waiting[1].cancel()
        await server.pass_time(0.1)

    simulated(test, single_active=True, active_timeout_ms=5_000)


def test_a_pull_that_waits_and_answers_are_signs_of_life() -> None:
    async def test(server: SimulatedServer) -> None:
        waiting = asyncio.ensure_future(server.engine.pull("s", "a", wait_ms=60_000))
        await server.pass_time(30)
        assert await active(server) == "a"
        assert await pull(server, "b", wait_ms=10_000) == []
        await server.publish("t", b"0", b"1")
        await server.pass_time(0.1)
        assert values(waiting.result()) == [b"0", b"1"]
        for _ in range(3):
            await server.pass_time(15)
            outcome = Extend(waiting.result()[0].token, 20_000)
            assert await server.drive(server.engine.settle("s", [outcome])) == ["done"]
            assert await pull(server, "b") == []
        nacks = [Nack(item.token) for item in waiting.result()]
        await server.drive(server.engine.settle("s", nacks))
        await server.pass_time(4.9)
        assert await pull(server, "b") == []
        await server.pass_time(0.2)
        assert len(await pull(server, "b", count=2)) == 2

    simulated(test, single_active=True, active_timeout_ms=5_000, lock_ms=20_000)


def test_after_a_restart_the_first_that_pulls_is_active_and_the_setting_may_change() -> None:
    async def test(server: SimulatedServer) -> None:
        await server.publish("t", b"0", b"1")
        await pull(server, "a")
        await server.crash(power=True)
        assert values(await pull(server, "b")) == [b"0"]
        assert await pull(server, "a") == []
        settings = (await server.drive(server.engine.subscription("s"))).settings
        await server.drive(server.engine.alter_subscription("s", replace(settings, single_active=False)))
        assert values(await pull(server, "a")) == [b"1"]
        assert await active(server) is None

    simulated(test, single_active=True)


def test_events_are_with_one_consumer_at_a_time_whatever_they_do() -> None:
    """Random pulls, answers and silence of three consumers, over three partitions."""

    async def test(server: SimulatedServer) -> None:
        rng = random.Random(7)
        await server.drive(server.engine.add_partitions("t", 3))
        outstanding: dict[str, dict[str, int]] = {name: {} for name in "abc"}
        acked: set[tuple[int, int]] = set()
        for step in range(400):
            name = rng.choice("abc")
            if step < 300 and rng.random() < 0.3:
                await server.publish("t", *[b"%d" % number for number in range(rng.randint(1, 5))])
            now_ms = server.clock.wall_ms()
            for consumer, tokens in outstanding.items():
                outstanding[consumer] = {key: until for key, until in tokens.items() if until > now_ms}
            if rng.random() < 0.6:
                deliveries = await pull(server, name, count=rng.randint(1, 4))
                others = [tokens for other, tokens in outstanding.items() if other != name]
                assert not (deliveries and any(others)), "two consumers have events"
                outstanding[name].update({item.token: item.deadline_ms for item in deliveries})
                for item in deliveries:
                    assert (item.event.partition, item.event.offset) not in acked
            elif outstanding[name]:
                chosen = rng.sample(list(outstanding[name]), rng.randint(1, len(outstanding[name])))
                outcomes = [Ack(token) if rng.random() < 0.7 else Nack(token) for token in chosen]
                assert set(await server.drive(server.engine.settle("s", outcomes))) <= {"done"}
                for token in chosen:
                    del outstanding[name][token]
            else:
                await server.pass_time(rng.choice((0.1, 1.5, 4)))
        await server.pass_time(30)
        info = await server.drive(server.engine.subscription("s"))
        assert info.acked > 50
        for _ in range(50):
            deliveries = await pull(server, "a", count=100)
            await server.ack(*deliveries)
            if not deliveries:
                break
        assert (await server.drive(server.engine.subscription("s"))).depth.outstanding == 0

    simulated(test, single_active=True, active_timeout_ms=2_000, lock_ms=3_000)


def test_only_answers_of_the_active_consumer_are_signs_of_its_life() -> None:
    async def test(server: SimulatedServer) -> None:
        await server.publish("t", b"0", b"1", b"2")
        (old,) = await pull(server, "b")
        settings = (await server.drive(server.engine.subscription("s"))).settings
        await server.drive(server.engine.alter_subscription("s", replace(settings, single_active=True)))
        (event,) = await pull(server, "a")
        await server.ack(event)
        for _ in range(4):
            await server.pass_time(2)
            await server.drive(server.engine.settle("s", [Extend(old.token, 20_000)]))
        assert await active(server) is None
        assert values(await pull(server, "c")) == [b"2"]
        assert await active(server) == "c"

    simulated(test, active_timeout_ms=5_000, lock_ms=20_000)
