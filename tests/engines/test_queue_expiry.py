"""Time to live: events that no consumer has in time are given up, never early and at most a second late."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace

import pytest

from mainstem.contract import NewEvent, NotReachable, Position
from mainstem.engines.embedded.queues import expiry, subscription_queue
from mainstem.log.errors import StorageError
from mainstem.queue_contract import Nack, SubscriptionInfo, SubscriptionSettings
from mainstem.queues.event_headers import expiry_of
from tests.engines.queue_server import SimulatedServer, depth, simulated, values


async def describe(server: SimulatedServer) -> SubscriptionInfo:
    return await server.drive(server.engine.subscription("s"))


def test_events_expire_whether_somebody_pulls_or_not_and_are_counted() -> None:
    async def test(server: SimulatedServer) -> None:
        await server.publish("t", b"0", b"1")
        await server.pass_time(5)
        await server.publish("t", b"2")
        await server.pass_time(4.9)
        assert (await depth(server)).outstanding == 3
        await server.pass_time(1.2)
        assert (await depth(server)).outstanding == 1
        info = await describe(server)
        assert (info.dropped, info.delivered) == (2, 0)
        await server.pass_time(5)
        assert (await depth(server)).outstanding == 0
        await server.pass_time(100)
        await server.publish("t", b"3")
        assert values(await server.pull()) == [b"3"]

    simulated(test, ttl_ms=10_000)


def test_an_expired_event_is_a_dead_letter_and_what_is_redriven_does_not_expire() -> None:
    async def test(server: SimulatedServer) -> None:
        await server.publish("t", b"0", b"1")
        await server.pass_time(12)
        (first, _) = await server.drive(server.engine.dead_letters("s"))
        assert (first.reason, first.attempts, first.origin) == ("expired", 0, Position("t", 0, 0))
        assert await server.drive(server.engine.redrive("s", [Position("t", 0, 0)])) == 1
        await server.pass_time(30)
        server.node.queue_runtime.take_snapshot()
        await server.pass_time(1)
        await server.crash(power=True)
        await server.pass_time(30)
        (again,) = await server.pull()
        assert (again.event.value, again.attempt) == (b"0", 1)
        await server.ack(again)
        assert len(await server.drive(server.engine.dead_letters("s"))) == 2

    simulated(test, ttl_ms=10_000, dead_letter_topic="dead")


def test_what_a_consumer_has_expires_when_it_comes_back() -> None:
    async def test(server: SimulatedServer) -> None:
        await server.publish("t", b"0", b"1", b"2")
        first, second, third = await server.pull()
        await server.drive(server.engine.settle("s", [Nack(third.token, 60_000)]))
        await server.pass_time(12)
        shown = await depth(server)
        assert (shown.leased, shown.waiting, shown.outstanding) == (2, 0, 2)
        await server.ack(first)
        await server.drive(server.engine.settle("s", [Nack(second.token)]))
        await server.pass_time(0.2)
        assert (await depth(server)).outstanding == 0
        info = await describe(server)
        assert (info.acked, info.dropped) == (1, 2)

    simulated(test, ttl_ms=10_000, lock_ms=60_000)


@pytest.mark.parametrize("query", ["", "yes"])
def test_after_a_restart_and_a_change_of_the_setting(query: str) -> None:
    async def test(server: SimulatedServer) -> None:
        await server.publish("t", b"yes 0", b"no 1")
        await server.pass_time(5)
        await server.crash(power=True)
        await server.pass_time(9)
        assert (await depth(server)).outstanding == (1 if query else 2), "the arrival counts from the restart"
        await server.pass_time(2.5)
        assert (await depth(server)).outstanding == 0
        settings = (await describe(server)).settings
        await server.drive(server.engine.alter_subscription("s", replace(settings, ttl_ms=0)))
        await server.publish("t", b"yes 2")
        await server.pass_time(60)
        assert (await depth(server)).outstanding == 1
        await server.drive(server.engine.alter_subscription("s", replace(settings, ttl_ms=70_000)))
        await server.pass_time(9)
        assert (await depth(server)).outstanding == 1
        await server.pass_time(2.5)
        assert (await depth(server)).outstanding == 0

    simulated(test, ttl_ms=10_000, filter=query)


def test_very_many_events_are_given_up_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expiry, "DYING_OF_TURN", 100)

    async def test(server: SimulatedServer) -> None:
        await server.publish("t", *[b"x"] * 1_050)
        await server.pass_time(14)
        info = await describe(server)
        assert (info.depth.outstanding, info.dead_lettered) == (0, 1_050)

    simulated(test, ttl_ms=10_000, dead_letter_topic="dead")


def test_an_event_may_name_the_time_itself() -> None:
    async def test(server: SimulatedServer) -> None:
        now_ms = server.clock.wall_ms()
        times = {b"0": str(now_ms - 1), b"1": str(now_ms + 5_000), b"2": "soon", b"3": "", b"4": "9" * 30}
        events = [NewEvent(value, headers=(("expires-at", time.encode()),)) for value, time in times.items()]
        await server.drive(server.engine.publish("t", events))
        deliveries = await server.pull()
        assert values(deliveries) == [b"1", b"2", b"3", b"4"]
        await server.drive(server.engine.settle("s", [Nack(deliveries[0].token)]))
        await server.pass_time(6)
        assert await server.pull() == []
        await server.pass_time(1)
        letters = await server.drive(server.engine.dead_letters("s"))
        assert [(letter.reason, letter.attempts) for letter in letters] == [("expired", 0), ("expired", 1)]
        await server.drive(server.engine.redrive("s", [Position("t", 0, 0)]))
        assert values(await server.pull()) == [b"0"], "who redrives it wants it delivered"

    simulated(test, dead_letter_topic="dead")


def test_the_header_is_a_number_of_milliseconds() -> None:
    def over(value: bytes | None, name: str = "expires-at") -> bool:
        return 0 < expiry_of(((name, value),)) <= 1_000

    assert [over(value) for value in (b"999", b"1000", b"1001", b"-5", b" 9", b"1e2", b"", None)] == [
        True, True, False, False, False, False, False, False,
    ]  # fmt: skip
    assert not over(b"5", "Expires-At")


def test_no_event_expires_early_or_more_than_a_second_late() -> None:
    """Random publishing, pulls, answers and restarts beside a naive model."""

    async def run(seed: int) -> int:
        server = SimulatedServer(seed)
        rng = random.Random(seed)
        ttl_ms = rng.choice((1_000, 4_000, 15_000))
        await server.drive(server.engine.create_topic("t", partitions=1))
        await server.drive(server.engine.create_topic("dead", partitions=1))
        settings = SubscriptionSettings(
            topics=("t",), ttl_ms=ttl_ms, lock_ms=2_000, dead_letter_topic=rng.choice((None, "dead"))
        )
        await server.drive(server.engine.create_subscription("s", settings))
        arrived: list[int] = []
        start_ms = 0
        leased: dict[int, int] = {}
        done: set[int] = set()
        late_ms = 1_000 + 100
        for _ in range(60):
            if rng.random() < 0.5:
                count = rng.randint(1, 4)
                await server.publish("t", *[b"x"] * count)
                arrived += [server.clock.wall_ms()] * count
            await server.pass_time(rng.choice((0.05, 0.3, 1.1, 3)))
            if rng.random() < 0.1:
                await server.crash(power=rng.random() < 0.5)
                start_ms = server.clock.wall_ms()
                await server.pass_time(0.1)
                leased.clear()
            now_ms = server.clock.wall_ms()
            leased = {offset: until for offset, until in leased.items() if until > now_ms}
            if rng.random() < 0.4:
                deliveries = await server.pull(count=rng.randint(1, 5))
                for item in deliveries:
                    since_ms = max(arrived[item.event.offset], start_ms)
                    assert now_ms - since_ms <= ttl_ms + late_ms, "delivered too late"
                    leased[item.event.offset] = item.deadline_ms
                if rng.random() < 0.7:
                    await server.ack(*deliveries)
                    for item in deliveries:
                        del leased[item.event.offset]
                        done.add(item.event.offset)
            now_ms = server.clock.wall_ms()
            browsed = await server.drive(server.engine.browse("s", max_events=1_000))
            outstanding = {item.event.offset for item in browsed if item.state != "dying"}
            for offset, arrived_ms in enumerate(arrived):
                if offset in done:
                    continue
                if now_ms - arrived_ms < ttl_ms:
                    assert offset in outstanding, "expired early"
                elif offset in outstanding:
                    since_ms = max(arrived_ms, start_ms)
                    assert offset in leased or now_ms - since_ms <= ttl_ms + late_ms, "expired late"
        await server.pass_time(40)
        info = await describe(server)
        assert info.depth.outstanding == 0
        await server.engine.close()
        return info.dropped + info.dead_lettered

    assert sum(asyncio.run(run(seed)) for seed in range(4)) > 10


def test_events_of_a_topic_that_is_made_later_expire_in_time() -> None:
    async def test(server: SimulatedServer) -> None:
        await server.drive(server.engine.delete_topic("t"))
        await server.pass_time(11)
        await server.drive(server.engine.create_topic("t", partitions=1))
        await server.publish("t", b"0")
        await server.pass_time(12)
        assert (await describe(server)).dropped == 1

    simulated(test, ttl_ms=10_000)


def test_a_subscription_is_looked_at_again_soon_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(server: SimulatedServer) -> None:
        async def refuse(_: object = ()) -> None:
            raise StorageError("no space")

        await server.publish("t", b"0")
        monkeypatch.setattr(server.engine._queue_service.queue("s"), "refresh", refuse)
        await server.pass_time(12)
        monkeypatch.undo()
        await server.pass_time(1.5)
        assert (await describe(server)).dropped == 1

    simulated(test, ttl_ms=10_000)


def test_a_pull_ends_with_the_error_if_the_disk_refuses_what_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(server: SimulatedServer) -> None:
        await server.publish("t", b"0")
        await server.ack(*await server.pull())
        over = NewEvent(b"1", headers=(("expires-at", b"1"),))
        await server.drive(server.engine.publish("t", [over]))
        refused = 0

        def refuse(_: object) -> None:
            nonlocal refused
            refused += 1
            assert refused < 10, "the pull does not end"
            raise StorageError("no space")

        monkeypatch.setattr(server.node.queue_runtime, "_append", refuse)
        with pytest.raises(NotReachable):
            await server.pull()
        monkeypatch.undo()
        assert await server.pull() == []
        assert (await describe(server)).dropped == 1

    simulated(test)


def test_what_was_not_delivered_is_ready_again_if_the_disk_refuses_what_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def test(server: SimulatedServer) -> None:
        await server.publish("t", b"0")
        await server.ack(*await server.pull())
        over = NewEvent(b"over", headers=(("expires-at", b"1"),))
        events = [NewEvent(b"1"), NewEvent(b"2"), over, NewEvent(b"3")]
        await server.drive(server.engine.publish("t", events))

        def refuse(_: object) -> None:
            raise StorageError("no space")

        monkeypatch.setattr(subscription_queue, "LEASE_EVENTS_MAX", 2)
        monkeypatch.setattr(server.node.queue_runtime, "_append", refuse)
        assert values(await server.pull()) == [b"1", b"2"]
        monkeypatch.undo()
        assert values(await server.pull()) == [b"3"]

    simulated(test)
