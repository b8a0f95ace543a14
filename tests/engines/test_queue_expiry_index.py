"""Events that name their expiry are given up in time, without a consumer, once one of them was read."""

from __future__ import annotations

import asyncio

import pytest

from mainstem.contract import NewEvent
from mainstem.engines.embedded.queues import expiry_index
from mainstem.engines.embedded.queues.header_times import WINDOW_EVENTS
from mainstem.queue_contract import Nack, SubscriptionSettings
from tests.engines.queue_server import SimulatedServer, simulated, values
from tests.engines.test_queue_expiry_refused import refuse


async def publish(server: SimulatedServer, lives_ms: int | None, count: int = 1) -> None:
    headers: tuple[tuple[str, bytes], ...] = ()
    if lives_ms is not None:
        headers = (("expires-at", b"%d" % (server.clock.wall_ms() + lives_ms)),)
    await server.drive(server.engine.publish("t", [NewEvent(b"quote", headers=headers)] * count))


async def begin(server: SimulatedServer) -> None:
    """The server has read an event that names its expiry, and it is done."""
    await publish(server, 3_600_000)
    await server.ack(*(await server.pull()))


def ready(server: SimulatedServer, name: str = "s") -> int:
    """The ready events, without a look: a description of a subscription looks at some of them."""
    subscription = server.node.subscriptions.get(name).id
    (view,) = server.node.subscriptions.views.of_subscription(subscription)
    return view.sequence.counts().ready


@pytest.mark.parametrize("query", ["", "quote"])
def test_events_are_given_up_when_their_time_has_come(query: str) -> None:
    async def test(server: SimulatedServer) -> None:
        await begin(server)
        await publish(server, None)
        await publish(server, 5_000, 3)
        await publish(server, 9_000)
        await server.pass_time(4.8)
        assert ready(server) == (5 if query else 0), "they are ahead of a view that needs no look"
        await server.pass_time(0.4)
        assert ready(server) == 2
        await server.pass_time(4)
        assert ready(server) == 1
        letters = await server.drive(server.engine.dead_letters("s"))
        assert [(letter.reason, letter.attempts) for letter in letters] == [("expired", 0)] * 4

    simulated(test, dead_letter_topic="dead", filter=query)


def test_those_of_a_backlog_are_given_up_in_all_subscriptions() -> None:
    async def test(server: SimulatedServer) -> None:
        await server.drive(server.engine.create_subscription("o", SubscriptionSettings(topics=("t",))))
        await publish(server, None, 4 * WINDOW_EVENTS)
        await publish(server, 20_000, 2 * WINDOW_EVENTS)
        await publish(server, None, 1)
        assert len(await server.pull("o", count=1)) == 1
        await begin_by_pull(server)
        await server.pass_time(30)
        assert ready(server, "o") == 4 * WINDOW_EVENTS + 1

    simulated(test)


async def begin_by_pull(server: SimulatedServer) -> None:
    """Let subscription `s` read everything, and acknowledge it."""
    while part := await server.pull(count=100):
        await server.ack(*part)


def test_what_a_consumer_has_expires_when_it_comes_back() -> None:
    async def test(server: SimulatedServer) -> None:
        await publish(server, 5_000)
        (delivery,) = await server.pull()
        await server.pass_time(6)
        await server.drive(server.engine.settle("s", [Nack(delivery.token)]))
        assert await server.pull() == []
        assert ready(server) == 0

    simulated(test)


def test_it_is_tried_again_when_the_disk_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(server: SimulatedServer) -> None:
        await begin(server)
        await publish(server, 2_000)
        refuse(monkeypatch, server)
        await server.pass_time(5)
        assert ready(server) == 1
        monkeypatch.undo()
        await server.pass_time(1.5)
        assert ready(server) == 0

    simulated(test)


def test_a_full_index_goes_on_when_some_have_expired(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expiry_index, "ENTRIES_MAX", 5)
    monkeypatch.setattr(expiry_index, "SLICE_BYTES", 1)
    monkeypatch.setattr(expiry_index, "EXPIRED_OF_TURN", 2)

    async def test(server: SimulatedServer) -> None:
        await publish(server, 2_000)
        await server.ack(*(await server.pull()))
        for number in range(10):
            await publish(server, 1_000 + 100 * number, 2)
        await server.pass_time(3)
        assert ready(server) == 0
        await publish(server, None)
        assert values(await server.pull()) == [b"quote"]

    simulated(test)


def test_partitions_without_such_events_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse_to_read(*_: object) -> None:
        raise AssertionError("a partition without such events was read")

    monkeypatch.setattr(expiry_index, "read_batches", refuse_to_read)

    async def test(server: SimulatedServer) -> None:
        await publish(server, None, 5)
        await server.ack(*(await server.pull()))
        await publish(server, None, 5)
        await server.pass_time(100)
        await asyncio.sleep(0)
        assert len(await server.pull()) == 5

    simulated(test)


def test_a_redriven_event_does_not_expire_again() -> None:
    async def test(server: SimulatedServer) -> None:
        await begin(server)
        await publish(server, 2_000)
        await server.pass_time(3)
        (letter,) = await server.drive(server.engine.dead_letters("s"))
        await server.drive(server.engine.redrive("s", [letter.origin]))
        await server.pass_time(70)
        assert ready(server) == 1, "who redrives it wants it delivered"

    simulated(test, dead_letter_topic="dead")


def test_a_deleted_topic_is_forgotten() -> None:
    async def test(server: SimulatedServer) -> None:
        await begin(server)
        await publish(server, 2_000)
        await server.drive(server.engine.delete_topic("t"))
        await server.pass_time(3)
        await server.drive(server.engine.create_topic("t", partitions=1))
        await publish(server, None)
        assert values(await server.pull()) == [b"quote"]

    simulated(test)
