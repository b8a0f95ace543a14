"""The figures of routed queues: true after a start, before anybody has asked for the queues."""

from __future__ import annotations

import random

import pytest

from mainstem.queue_contract import SubscriptionTotals
from tests.engines.queue_server import SimulatedServer
from tests.engines.routed_door import RoutedDoor
from tests.engines.test_routed_queues import with_door


async def totals_of(server: SimulatedServer) -> dict[str, SubscriptionTotals]:
    rows = await server.drive(server.engine.subscription_totals(None))
    return {row.name.removeprefix("shop/"): row for row in rows}


async def arrival_of(server: SimulatedServer, name: str) -> int | None:
    return (await server.drive(server.engine.subscription(f"shop/{name}"))).oldest_ms


@pytest.mark.parametrize(("power", "checkpoint"), [(False, True), (True, False)])
def test_after_a_start_they_are_those_of_before(*, power: bool, checkpoint: bool) -> None:
    async def test(door: RoutedDoor) -> None:
        server, rng = door.server, random.Random(1)
        for number in range(40):
            await door.publish(*rng.choice([("all", ""), ("direct", "a"), ("direct", "b")]), b"%d" % number)
            await server.pass_time(0.01)
        for name in ("a", "b"):
            deliveries = await server.pull(f"shop/{name}")
            rng.shuffle(deliveries)
            # The first ones and some others of `a`; all of `b` but one.
            done = deliveries[: len(deliveries) // 2] if name == "a" else deliveries[1:]
            await server.ack(*done, name=f"shop/{name}")
        await server.pass_time(20 if checkpoint else 0.1)  # the index is written every 10 s
        before = await totals_of(server)
        await server.crash(power=power)
        after = await totals_of(server)
        for name in ("a", "b"):
            assert after[name].depth.ready == before[name].depth.outstanding > 0
            assert after[name].depth.ahead == 0
            assert after[name].oldest_ms == before[name].oldest_ms
        assert {name: await arrival_of(server, name) for name in after} == {
            name: row.oldest_ms for name, row in after.items()
        }
        again = await totals_of(server)
        assert {name: row.depth for name, row in again.items()} == {
            name: row.depth for name, row in after.items()
        }

    with_door(test, "a", "b")


def test_a_queue_that_was_never_asked_for_has_its_events_and_an_empty_one_none() -> None:
    async def test(door: RoutedDoor) -> None:
        server = door.server
        await door.publish("direct", "a", b"0", b"1")
        for _ in range(2):
            totals = await totals_of(server)
            assert (totals["a"].depth.ready, totals["b"].depth.outstanding) == (2, 0)
            assert (totals["a"].oldest_ms is None, totals["b"].oldest_ms) == (False, None)
            await server.crash(power=False)

    with_door(test, "a", "b")


def test_what_a_filter_has_not_looked_at_is_ahead() -> None:
    async def test(door: RoutedDoor) -> None:
        server = door.server
        await door.publish("all", "", b"yes", b"no")
        await server.crash(power=False)
        assert 1 <= (await totals_of(server))["a"].depth.outstanding <= 2
        await server.pass_time(0.1)
        depth = (await totals_of(server))["a"].depth
        assert (depth.ready, depth.ahead) == (1, 0)

    with_door(test, "a", filter="yes")
