"""Pulls that wait are woken when an event is due, whatever notices first that its time has come; and when a
key is free.

The tests of times set the wall clock: it is past the time of the event, and the timer has not looked yet.
"""

from __future__ import annotations

import asyncio

import pytest

from mainstem.contract import NewEvent
from mainstem.queue_contract import Delivery, Nack
from mainstem.share_contract import BatchPull
from tests.engines.queue_server import SimulatedServer, simulated, values
from tests.engines.test_share_dead_letters import group

DELAY_MS = 2_000
WAIT_MS = 20_000


async def give_back(server: SimulatedServer, delivery: Delivery, name: str = "s") -> None:
    verdicts = await server.drive(server.engine.settle(name, [Nack(delivery.token, DELAY_MS)]))
    assert verdicts == ["done"]


async def wait_for_events(server: SimulatedServer) -> asyncio.Task[list[Delivery]]:
    """A pull that waits."""
    pull = asyncio.ensure_future(server.engine.pull("s", "c", wait_ms=WAIT_MS))
    await server.pass_time(0.1)
    assert not pull.done()
    return pull


@pytest.mark.parametrize("in_key_order", [False, True])
def test_a_look_at_the_figures_at_the_time_of_an_event_wakes_who_waits_for_it(in_key_order: bool) -> None:
    async def test(server: SimulatedServer) -> None:
        await server.publish("t", b"0")
        (delivery,) = await server.pull()
        await give_back(server, delivery)
        pull = await wait_for_events(server)
        server.clock.wall += DELAY_MS
        info = await server.drive(server.engine.subscription("s"))
        assert info.depth.waiting == 0
        await server.pass_time(0.01)
        assert values(pull.result()) == [b"0"]

    simulated(test, in_key_order=in_key_order)


def test_a_pull_of_another_consumer_wakes_the_one_that_has_the_key() -> None:
    async def test(server: SimulatedServer) -> None:
        events = [NewEvent(b"0", key=b"k"), NewEvent(b"1", key=b"k")]
        await server.drive(server.engine.publish("t", events))
        _, second = await server.pull()
        await give_back(server, second)
        pull = await wait_for_events(server)
        server.clock.wall += DELAY_MS
        assert await server.drive(server.engine.pull("s", "other")) == []
        await server.pass_time(0.01)
        assert values(pull.result()) == [b"1"]

    simulated(test, in_key_order=True)


def test_a_look_at_the_figures_wakes_pulls_of_batches() -> None:
    async def test(server: SimulatedServer) -> None:
        await group(server)
        await server.publish("t", b"0")
        topic = server.node.topics.get("t")
        assert topic is not None
        key, queues = (topic.id, 0), server.engine.batch_queues
        pull = BatchPull("g", "m", [key], max_events=9, max_bytes=999, min_bytes=1, wait_ms=WAIT_MS)
        (delivery,) = await server.pull("g")
        await give_back(server, delivery, "g")
        pulled, _ = queues.pull_batches(pull)
        await server.pass_time(0.1)
        assert not pulled.done
        server.clock.wall += DELAY_MS
        await server.drive(server.engine.subscription("g"))
        await server.pass_time(0.01)
        assert [run.first for delivery in pulled.result() for run in delivery.acquired] == [0]

    simulated(test)


def test_a_key_whose_event_is_deleted_while_a_consumer_has_it_is_free_for_those_that_wait() -> None:
    async def test(server: SimulatedServer) -> None:
        await server.drive(server.engine.publish("t", [NewEvent(b"0", key=b"k")]))
        assert values(await server.pull()) == [b"0"]
        await server.drive(server.engine.publish("t", [NewEvent(b"1", key=b"k")]))
        pull = asyncio.ensure_future(server.engine.pull("s", "other", wait_ms=WAIT_MS))
        await server.pass_time(0.1)
        assert not pull.done()
        await server.drive(server.engine.delete_records("t", 0, 1))
        await server.drive(server.engine.subscription("s"))
        await server.pass_time(0.01)
        assert values(pull.result()) == [b"1"]

    simulated(test, in_key_order=True)
