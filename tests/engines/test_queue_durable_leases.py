"""Durable leases: over a restart, consumers keep what they have, and may answer with the tokens they have."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from mainstem.contract import InvalidArgument, NewEvent
from mainstem.queue_contract import (
    Ack,
    Delivery,
    Extend,
    Nack,
    Outcome,
    Reject,
    SnapshotName,
    SubscriptionSettings,
    Verdict,
)
from tests.coordinator.seeds import small
from tests.engines.queue_server import SimulatedServer, depth, simulated, values

LOCK_S = 30


async def settle(server: SimulatedServer, outcomes: Sequence[Outcome]) -> list[Verdict]:
    return await server.drive(server.engine.settle("s", outcomes))


def attempts(deliveries: Sequence[Delivery]) -> list[int]:
    return [delivery.attempt for delivery in deliveries]


@pytest.mark.parametrize("power", [False, True])
@pytest.mark.parametrize("late", [False, True])
def test_what_a_consumer_has_is_its_own_after_a_restart_until_the_deadline(power: bool, late: bool) -> None:
    async def test(server: SimulatedServer) -> None:
        await server.publish("t", b"LH430", b"UA901", b"BA117", b"AF84")
        first, second, third = [item for _ in range(3) for item in await server.pull(count=1)]
        for _ in range(2):  # what survives one restart survives the next
            await server.crash(power=power)
            assert values(await server.pull()) in ([b"AF84"], [])
        assert (
            await settle(server, [Ack(first.token), Extend(second.token, 2 * LOCK_S * 1000)]) == ["done"] * 2
        )
        await server.crash(power=power)
        server.clock.advance(LOCK_S + 1)
        await server.turns()
        pulled = [item for item in await server.pull() if item.event.value == b"BA117"]
        assert attempts(pulled) == [2], "its lock has expired, that of the other has not"
        assert await settle(server, [Ack(third.token)]) == ["stale"]
        assert await settle(server, [Ack(second.token)]) == ["done"]
        assert await settle(server, [Ack(first.token)]) == ["stale"], "it is done already"

    simulated(test, durable_leases=True, accepts_late_acks=late)


@pytest.mark.parametrize("power", [False, True])
def test_locks_that_were_extended_alone_are_those_after_a_restart(power: bool) -> None:
    async def test(server: SimulatedServer) -> None:
        await server.publish("t", b"LH430", b"UA901", b"BA117")
        first, second, third = await server.pull()
        answers: list[Outcome] = [Extend(second.token, 2 * LOCK_S * 1000, alone=True)]
        answers.append(Extend(third.token, 3 * LOCK_S * 1000, alone=True))
        assert await settle(server, answers) == ["done"] * 2
        for _ in range(2):
            await server.crash(power=power)
        server.clock.advance(LOCK_S + 1)
        await server.turns()
        assert values(await server.pull()) == [b"LH430"]
        assert await settle(server, [Extend(second.token, LOCK_S * 1000, alone=True)]) == ["done"]
        assert await settle(server, [Ack(item.token) for item in (first, second, third)]) == [
            "stale",
            "done",
            "done",
        ]

    simulated(test, durable_leases=True, accepts_late_acks=False)


def test_without_the_setting_events_are_delivered_again_at_once() -> None:
    async def test(server: SimulatedServer) -> None:
        await server.publish("t", b"LH430")
        (delivery,) = await server.pull()
        await server.crash(power=False)
        assert values(await server.pull()) == [b"LH430"]
        assert await settle(server, [Ack(delivery.token)]) == ["stale"]

    simulated(test, accepts_late_acks=False)


def test_what_was_given_back_before_the_restart_is_nobodys() -> None:
    async def test(server: SimulatedServer) -> None:
        places = await server.publish("t", *[b"%d" % number for number in range(5)])
        acked, nacked, delayed, rejected, leased = await server.pull()
        answers: list[Outcome] = [Ack(acked.token), Nack(nacked.token)]
        answers += [Nack(delayed.token, delay_ms=5_000), Reject(rejected.token, "damaged")]
        assert await settle(server, answers) == ["done"] * 4
        await server.drive(server.engine.redrive("s", [places[3]]))
        await server.crash(power=True)
        assert values(await server.pull()) == [b"1", b"3"]
        stale: list[Outcome] = [Ack(item.token) for item in (nacked, delayed, rejected)]
        assert await settle(server, stale) == ["stale"] * 3
        assert await settle(server, [Ack(leased.token)]) == ["done"]

    simulated(test, durable_leases=True, accepts_late_acks=False)


def test_a_seek_and_a_snapshot_end_all_leases() -> None:
    async def test(server: SimulatedServer) -> None:
        await server.publish("t", b"LH430", b"UA901")
        await server.drive(server.engine.take_snapshot("s", "before"))
        (delivery,) = await server.pull(count=1)
        await server.drive(server.engine.seek("s", SnapshotName("before")))
        await server.crash(power=False)
        assert len(await server.pull()) == 2
        assert await settle(server, [Ack(delivery.token)]) == ["stale"]

    simulated(test, durable_leases=True, accepts_late_acks=False)


def test_with_a_filter_what_the_scan_has_not_recorded_is_kept_too() -> None:
    async def test(server: SimulatedServer) -> None:
        await server.publish("t", b"gate 1", b"delay", b"gate 2")
        await server.pass_time(0.1)
        first, second = await server.pull()
        await server.crash(power=True)
        await server.publish("t", b"gate 3")
        await server.pass_time(0.1)
        assert values(await server.pull()) == [b"gate 3"]
        assert await settle(server, [Ack(first.token), Nack(second.token)]) == ["done"] * 2
        assert attempts(await server.pull()) == [2]
        assert (await depth(server)).leased == 2

    simulated(test, durable_leases=True, filter="gate")


def test_it_does_not_go_with_key_order() -> None:
    async def test(server: SimulatedServer) -> None:
        settings = SubscriptionSettings(topics=("t",), durable_leases=True, in_key_order=True)
        with pytest.raises(InvalidArgument, match="durable_leases does not go with in_key_order"):
            await server.drive(server.engine.create_subscription("k", settings))

    simulated(test)


@dataclass
class OpenLease:
    """What the consumer of a random history has of an event."""

    delivery: Delivery
    until_s: float


@pytest.mark.parametrize("seed", range(12))
def test_random_histories_with_crashes(seed: int) -> None:
    """No event is delivered while somebody has it, whatever happens, and an answer in time counts."""

    async def test(server: SimulatedServer) -> None:
        rng = random.Random(seed)
        leased_until: dict[int, OpenLease] = {}
        acked: set[int] = set()
        published, begin_ms = 0, server.clock.wall_ms()

        def now_s() -> float:
            return (server.clock.wall_ms() - begin_ms) / 1000

        for _ in range(60):
            action = rng.choice(["publish", "pull", "pull", "answer", "answer", "wait", "crash"])
            if action == "publish":
                events = [NewEvent(b"flight") for _ in range(rng.randrange(1, 6))]
                await server.drive(server.engine.publish("t", events))
                published += len(events)
            elif action == "pull":
                for delivery in await server.pull(count=rng.randrange(1, 5)):
                    offset = delivery.event.offset
                    assert offset not in acked
                    assert offset not in leased_until or leased_until[offset].until_s <= now_s() + 0.1
                    leased_until[offset] = OpenLease(delivery, now_s() + LOCK_S)
            elif action == "wait":
                await server.pass_time(rng.choice([1, 10, 40]))
            elif action == "crash":
                await server.crash(power=rng.random() < 0.5)
            elif leased_until:
                offset = rng.choice(list(leased_until))
                has = leased_until.pop(offset)
                in_time = has.until_s > now_s() + 2
                kind = rng.choice(["ack", "nack", "extend"])
                if kind == "ack":
                    (verdict,) = await settle(server, [Ack(has.delivery.token)])
                    acked |= {offset} if verdict == "done" else set()
                elif kind == "nack":
                    (verdict,) = await settle(server, [Nack(has.delivery.token)])
                else:
                    (verdict,) = await settle(server, [Extend(has.delivery.token, LOCK_S * 1000)])
                    if verdict == "done":
                        leased_until[offset] = OpenLease(has.delivery, now_s() + LOCK_S - 1)
                assert verdict == "done" or not in_time, kind
        await server.pass_time(2 * LOCK_S)
        rest = {delivery.event.offset for delivery in await server.pull(count=500)}
        assert rest == set(range(published)) - acked

    with small():  # snapshots of the state, with leases
        simulated(test, durable_leases=True, accepts_late_acks=False)
