"""What happens to pinned events, and to publishers, when space is nearly used up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from mainstem.contract import NewEvent, NotReachable
from mainstem.log.errors import DiskFull
from mainstem.queue_contract import SubscriptionSettings
from mainstem.settings import Settings
from tests.engines.queue_server import SimulatedServer
from tests.engines.test_queue_retention import describe
from tests.log.batches import batch

LIMIT_BYTES = 100_000
EVENT = b"x" * 900


def limited(test: Callable[[SimulatedServer], Awaitable[None]], **topic: str) -> None:
    """Run a test with 100 KB for all data, a topic `t` whose retention is due at once, and a topic `other`.
    Subscription `s` pins the events of `t`."""

    async def run() -> None:
        server = SimulatedServer(settings=Settings(data_max_bytes=LIMIT_BYTES))
        for name, settings in (("t", {"retention.ms": "1"} | topic), ("other", {})):
            await server.drive(
                server.engine.create_topic(name, partitions=1, settings={"segment.ms": "1"} | settings)
            )
        await server.drive(
            server.engine.create_subscription("s", SubscriptionSettings(topics=("t",), pin_ms=-1))
        )
        await test(server)
        await server.engine.close()

    asyncio.run(run())


async def fill(server: SimulatedServer, topic: str, size: int) -> None:
    """Publish single events, each a segment of its own, of this size in all."""
    for _ in range(size // 1_000):
        await server.drive(server.engine.publish(topic, [NewEvent(EVENT)]))
        server.clock.advance(0.01)


async def begin_of(server: SimulatedServer, topic: str) -> int:
    return (await server.drive(server.engine.bounds(topic, 0))).begin


def test_topics_that_allow_it_lose_their_oldest_segments_early() -> None:
    async def test(server: SimulatedServer) -> None:
        await server.drive(server.engine.create_subscription("o", SubscriptionSettings(topics=("other",))))
        await fill(server, "other", 70_000)
        await server.drive(server.engine.alter_topic("other", {"mainstem.retention.early": "true"}))
        await server.ack(*await server.pull("o", count=50), name="o")
        await fill(server, "t", 24_000)
        await server.pass_time(15)
        begin = await begin_of(server, "other")
        assert 1 <= begin <= 10, "as much as is needed"
        assert await begin_of(server, "t") == 0
        for _ in range(12):
            await fill(server, "other", 5_000)
            await server.pass_time(5)
        assert await begin_of(server, "other") == 50, "the subscription needs what follows"
        assert (await describe(server, "o")).trimmed == 0

    limited(test)


def test_publishers_to_a_topic_with_pinned_events_are_refused_until_they_are_done() -> None:
    async def test(server: SimulatedServer) -> None:
        engine = server.engine
        await fill(server, "t", 92_000)
        await server.pass_time(12)
        with pytest.raises(NotReachable, match="subscription s pins events of this topic"):
            await server.drive(engine.publish("t", [NewEvent(b"more")]))
        topic = server.node.topics.get("t")
        assert topic is not None
        with pytest.raises(DiskFull):  # clients of Kafka try again
            server.node.append_from_client(topic, 0, batch())
        health = await server.drive(engine.health())
        assert not health.ok
        assert health.problems[0].startswith("topic t accepts no events: space is nearly used up, and")
        await server.drive(engine.publish("other", [NewEvent(b"more")]))
        await server.ack(*await server.pull(count=1_000))
        await server.pass_time(12)
        assert await begin_of(server, "t") == 92
        await server.drive(engine.publish("t", [NewEvent(b"more")]))
        assert (await server.drive(engine.health())).ok
        assert (await describe(server)).trimmed == 0

    limited(test)


def test_a_topic_may_drop_what_is_pinned_instead() -> None:
    async def test(server: SimulatedServer) -> None:
        await fill(server, "t", 80_000)
        await server.pass_time(400)
        assert await begin_of(server, "t") == 0
        await fill(server, "t", 12_000)
        await server.pass_time(12)
        assert await begin_of(server, "t") > 80
        assert (await describe(server)).trimmed > 80
        await server.drive(server.engine.publish("t", [NewEvent(b"more")]))

    limited(test, **{"mainstem.queue.overflow": "drop"})


def test_topics_are_not_refused_for_what_is_pinned_while_there_is_space() -> None:
    async def test(server: SimulatedServer) -> None:
        await fill(server, "t", 50_000)
        await server.pass_time(400)
        assert server.node.queue_retention.pinned
        await server.drive(server.engine.publish("t", [NewEvent(b"more")]))
        assert (await server.drive(server.engine.health())).ok

    limited(test)
