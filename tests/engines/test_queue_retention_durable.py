"""Retention against answers that are not durable yet, and while the state of subscriptions is not known."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import pytest

from mainstem.coordinator.queues.retention import count_dependent
from mainstem.queue_contract import Ack, SubscriptionSettings
from tests.engines.queue_server import SimulatedServer, simulated
from tests.engines.test_queue_retention import describe, enforce, publish_apart, retained

EVENTS = 6
SLOW_S = 10.0
"""The longest that a sync takes which a test lets hang."""


async def published(server: SimulatedServer, **topic: str) -> None:
    """Segments of topic `t` with an event each, of which a subscription `s` has all that are not done."""
    await server.drive(server.engine.create_topic("t", partitions=1))
    await server.drive(server.engine.create_subscription("s", SubscriptionSettings(topics=("t",), pin_ms=-1)))
    await retained(server, **topic)
    await publish_apart(server, 0, EVENTS)


async def answer_in_vain(server: SimulatedServer) -> None:
    """Acknowledge all events; that does not become durable for some seconds."""
    tokens = [Ack(delivery.token) for delivery in await server.pull()]
    server.disk.slow_s = SLOW_S
    answer = asyncio.ensure_future(server.engine.settle("s", tokens))
    await server.turns()
    server.disk.slow_s = 0.0
    assert not answer.done()
    (view,) = server.node.subscriptions.views.all()
    assert count_dependent(view, EVENTS) == 0, "in memory, the events are done"


async def lost_answers(seed: int, delete: Callable[[SimulatedServer], None], **topic: str) -> int:
    """Cut the power after a deletion that began while an answer was not durable. How many events the cut made
    outstanding again; all of them have to be there."""
    server = SimulatedServer(seed)
    await published(server, **topic)
    await answer_in_vain(server)
    delete(server)
    for _ in range(20):
        await server.turns()
    await server.crash(power=True)
    await server.pass_time(31)  # the locks expire
    await server.drive(server.node.enforce_retention())
    await server.pass_time(0.05)
    info = await describe(server)
    assert info.trimmed == 0
    assert len(await server.pull()) == info.depth.outstanding
    await server.engine.close()
    return info.depth.outstanding


def enforce_now(server: SimulatedServer) -> None:
    server.node.enforce_retention()


def free_early(server: SimulatedServer) -> None:
    server.node.space_relief.free(1_000_000)


@pytest.mark.parametrize(
    ("delete", "topic"),
    [
        (enforce_now, {"retention.ms": "60000"}),
        (free_early, {"retention.ms": "-1", "mainstem.retention.early": "true"}),
    ],
)
def test_an_answer_that_a_power_cut_takes_back_finds_its_events(
    delete: Callable[[SimulatedServer], None], topic: dict[str, str]
) -> None:
    async def test() -> None:
        again = [await lost_answers(seed, delete, **topic) for seed in range(4)]
        assert EVENTS in again, "in some of these lives the cut takes back the answer"

    asyncio.run(test())


def test_retention_deletes_nothing_while_what_is_pinned_is_not_known(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def test(server: SimulatedServer) -> None:
        await retained(server, **{"retention.ms": "60000"})
        await publish_apart(server, 0, EVENTS)
        server.node.queue_runtime.reload("a test asks for it")
        with caplog.at_level(logging.WARNING):
            assert await server.drive(server.node.enforce_retention()) == 0
        assert "retention does not run, for what subscriptions pin is not known" in caplog.text
        server.node.space_relief.free(1_000_000)
        await server.pass_time(0.05)
        assert await enforce(server) == 0
        await server.ack(*await server.pull())
        assert await enforce(server) == EVENTS

    simulated(test, pin_ms=-1)
