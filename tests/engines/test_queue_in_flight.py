"""The events that all consumers of a server have together are limited, because they take memory."""

from __future__ import annotations

import pytest

from mainstem.contract import NotReachable
from mainstem.coordinator.queues import in_flight
from mainstem.queue_contract import SubscriptionSettings
from tests.engines.queue_server import SimulatedServer, simulated

FREE = 5
LEASES = 40


@pytest.fixture(autouse=True)
def low(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_flight, "IN_FLIGHT_BYTES_MAX", LEASES * in_flight.LEASE_BYTES)
    monkeypatch.setattr(in_flight, "FREE_EVENTS", FREE)


async def pull_singly(server: SimulatedServer, name: str, most: int) -> int:
    """How many events a consumer gets that asks for one at a time and answers none."""
    for count in range(most):
        try:
            assert await server.pull(name, count=1)
        except NotReachable:
            return count
    return most


def test_consumers_that_never_answer_get_no_more_and_each_subscription_gets_some() -> None:
    async def test(server: SimulatedServer) -> None:
        others = ("a", "b", "c")
        for name in others:
            await server.drive(
                server.engine.create_subscription(name, SubscriptionSettings(topics=("t",), lock_ms=5_000))
            )
        await server.publish("t", *[b"%d" % number for number in range(200)])
        assert LEASES - 5 <= await pull_singly(server, "s", 200) <= LEASES
        for name in others:
            assert await pull_singly(server, name, 200) == FREE
        await server.pass_time(5.2)  # those locks are over, and those of `s` are not
        for name in others:
            assert await pull_singly(server, name, 200) == FREE

    simulated(test, lock_ms=600_000)


def test_what_is_answered_makes_room_and_answered_events_do_not_count() -> None:
    async def test(server: SimulatedServer) -> None:
        await server.publish("t", *[b"%d" % number for number in range(500)])
        for _ in range(4 * LEASES):
            await server.ack(*await server.pull(count=1))
            await server.pass_time(0.05)
        deliveries = [delivery for _ in range(LEASES - 3) for delivery in await server.pull(count=1)]
        await server.pass_time(1.1)
        assert await pull_singly(server, "s", 100) < 10
        await server.ack(*deliveries)
        await server.pass_time(1.1)
        assert await pull_singly(server, "s", 30) == 30

    simulated(test, lock_ms=600_000)


def test_a_pull_that_waits_ends_with_the_error_and_leaves_nothing_leased() -> None:
    async def test(server: SimulatedServer) -> None:
        await server.publish("t", *[b"%d" % number for number in range(100)])
        count = await pull_singly(server, "s", 100)
        with pytest.raises(NotReachable, match="they have to answer first"):
            await server.pull(wait_ms=1_000)
        info = await server.drive(server.engine.subscription("s"))
        assert (info.depth.leased, info.problems) == (count, (in_flight.FULL,))

    simulated(test, lock_ms=600_000)
