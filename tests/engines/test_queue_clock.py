"""Locks while the wall clock is set: they measure how long a consumer has an event, whatever it says (I7)."""

from __future__ import annotations

import random

import pytest

from mainstem.queue_contract import Ack, Delivery, Extend, Nack, Outcome
from tests.engines.queue_server import SimulatedServer, depth, simulated, values

HOUR_MS = 3_600_000
LOCK_S = 2.0
EXPIRY_S = 0.06
"""A lock that has expired is looked at within this time."""


@pytest.mark.parametrize("seed", range(2))
def test_what_is_not_done_is_offered_within_its_lock_and_no_sooner_whatever_the_clock_says(seed: int) -> None:
    rng = random.Random(seed)
    done: set[bytes] = set()
    free_s: dict[bytes, float] = {}
    """Value -> when the lock of its latest delivery expires; of what was given back, when that was."""
    again = 0

    async def receive(server: SimulatedServer) -> list[Delivery]:
        """Everything that is deliverable."""
        nonlocal again
        before_s = server.clock.monotonic()
        deliveries = await server.pull(count=1_000)
        now_s = server.clock.monotonic()
        received = {delivery.event.value or b"" for delivery in deliveries}
        assert not received & done
        assert all(free_s.get(value, 0.0) <= now_s for value in received), "before its lock is over"
        due = {value for value, at_s in free_s.items() if at_s + EXPIRY_S < before_s and value not in done}
        assert due <= received, "its lock is over, and it is not offered"
        again += sum(value in free_s for value in received)
        free_s.update(dict.fromkeys(received, now_s + LOCK_S))
        for delivery in deliveries:
            assert 0 < delivery.deadline_ms - server.clock.wall_ms() <= LOCK_S * 1_000
        return deliveries

    async def test(server: SimulatedServer) -> None:
        for step in range(60):
            await server.publish("t", b"%d" % step)
            deliveries = await receive(server)
            server.clock.wall += rng.choice((-HOUR_MS, -50, 0, 0, 900, HOUR_MS))
            outcomes: list[Outcome] = []
            for delivery in deliveries:
                verb = rng.choice((Ack, Nack, None, None))
                value = delivery.event.value or b""
                if verb is Ack:
                    outcomes.append(Ack(delivery.token))
                    done.add(value)
                elif verb is Nack:
                    outcomes.append(Nack(delivery.token, 0))
                    free_s[value] = server.clock.monotonic()
            if outcomes:
                assert set(await server.drive(server.engine.settle("s", outcomes))) == {"done"}
            await server.pass_time(rng.choice((0.1, 0.5, 2.5)))
        server.clock.wall -= HOUR_MS
        await server.pass_time(LOCK_S + EXPIRY_S)
        await server.ack(*await receive(server))
        assert (await depth(server)).outstanding == 0
        assert again > 40

    simulated(test, lock_ms=int(LOCK_S * 1_000))


def test_a_clock_that_is_set_forward_is_no_failure_of_a_consumer() -> None:
    """With its last failure an event would be given up."""

    async def test(server: SimulatedServer) -> None:
        await server.publish("t", b"a")
        (delivery,) = await server.pull()
        server.clock.wall += HOUR_MS
        await server.pass_time(1)
        assert (await depth(server)).leased == 1
        (browsed,) = await server.drive(server.engine.browse("s", "leased"))
        assert browsed.until_ms is not None
        assert 900 <= browsed.until_ms - server.clock.wall_ms() <= 1_000
        (consumer,) = (await server.drive(server.engine.subscription("s"))).consumers
        assert consumer.deadline_ms == browsed.until_ms
        await server.ack(delivery)

    simulated(test, lock_ms=2_000, failures_max=1)


def test_an_extended_lock_is_as_long_as_was_asked_for() -> None:
    async def test(server: SimulatedServer) -> None:
        await server.publish("t", b"a")
        (delivery,) = await server.pull()
        server.clock.wall -= HOUR_MS
        assert await server.drive(server.engine.settle("s", [Extend(delivery.token, 5_000)])) == ["done"]
        await server.pass_time(4.9)
        assert await server.pull() == []
        await server.pass_time(0.1 + EXPIRY_S)
        assert values(await server.pull()) == [b"a"]

    simulated(test, lock_ms=2_000)
