"""Retention against events that are not done: trimmed and warned of, or pinned."""

from __future__ import annotations

import asyncio
import dataclasses
import logging

import pytest

from mainstem.queue_contract import SubscriptionInfo, SubscriptionSettings
from mainstem.queues.settings import PIN_MS_MAX
from tests.engines.queue_server import SimulatedServer, simulated, values
from tests.engines.test_queue_checker import QueueHistory

PERIOD_S = 60.0
"""Time between two events."""


async def retained(server: SimulatedServer, **settings: str) -> None:
    """Let each batch of topic `t` be a segment of its own."""
    await server.drive(server.engine.alter_topic("t", {"segment.ms": "1", **settings}))


async def publish_apart(server: SimulatedServer, first: int, end: int) -> None:
    for number in range(first, end):
        await server.publish("t", b"%d" % number)
        server.clock.advance(PERIOD_S)


async def enforce(server: SimulatedServer) -> int:
    """Run retention; the log start offset of topic `t`."""
    await server.drive(server.node.enforce_retention())
    await server.pass_time(0.05)
    return (await server.drive(server.engine.bounds("t", 0))).begin


async def describe(server: SimulatedServer, name: str = "s") -> SubscriptionInfo:
    return await server.drive(server.engine.subscription(name))


async def alter(server: SimulatedServer, name: str = "s", **changes: int) -> None:
    settings = (await describe(server, name)).settings
    changed = dataclasses.replace(settings, **changes)  # type: ignore[arg-type]
    await server.drive(server.engine.alter_subscription(name, changed))


def test_retention_trims_what_is_not_pinned_and_warns_before(caplog: pytest.LogCaptureFixture) -> None:
    async def test(server: SimulatedServer) -> None:
        await retained(server, **{"retention.ms": "600000"})
        await publish_apart(server, 0, 7)
        assert await enforce(server) == 0
        assert (await describe(server)).expiring == 0
        with caplog.at_level(logging.WARNING):
            await publish_apart(server, 7, 9)
            assert await enforce(server) == 0
        assert "subscription s: 2 events are not done, and retention deletes them soon" in caplog.text
        info = await describe(server)
        assert (info.expiring, info.trimmed) == (2, 0)
        assert info.problems == (
            "topic t, partition 0: 2 events are not done, and retention deletes them soon",
        )
        await publish_apart(server, 9, 12)
        assert await enforce(server) == 3
        info = await describe(server)
        assert (info.trimmed, info.expiring, info.depth.outstanding) == (3, 2, 9)
        await server.ack(*await server.pull())
        assert (await describe(server)).expiring == 0

    simulated(test)


def test_events_whose_size_is_near_the_limit_are_warned_of() -> None:
    async def test(server: SimulatedServer) -> None:
        await retained(server, **{"retention.ms": "-1"})
        await publish_apart(server, 0, 10)
        size = server.node.partition(server.node.topics.all()[-1], 0).size_bytes()
        await retained(server, **{"retention.bytes": str(size)})
        assert await enforce(server) == 0
        assert (await describe(server)).expiring == 2
        await publish_apart(server, 10, 11)
        assert await enforce(server) == 1
        assert (await describe(server)).trimmed == 1

    simulated(test)


def test_a_pinned_event_is_kept_until_it_is_done() -> None:
    async def test(server: SimulatedServer) -> None:
        await retained(server, **{"retention.ms": "60000"})
        await publish_apart(server, 0, 6)
        deliveries = await server.pull()
        await server.ack(*deliveries[:2], *deliveries[3:])
        assert await enforce(server) == 2
        server.clock.advance(PERIOD_S)  # its lock expires
        await server.turns()
        assert await enforce(server) == 2
        assert (await describe(server)).expiring == 0
        await server.crash(power=True)
        assert await enforce(server) == 2
        (again,) = await server.pull()
        assert again.event.value == b"2"
        await server.ack(again)
        assert await enforce(server) == 6
        assert (await describe(server)).trimmed == 0

    simulated(test, pin_ms=-1)


def test_a_pinned_event_is_kept_although_the_partition_is_too_large() -> None:
    async def test(server: SimulatedServer) -> None:
        await retained(server, **{"retention.bytes": "1"})
        await publish_apart(server, 0, 4)
        assert await enforce(server) == 0
        await server.ack(*(await server.pull(count=3)))
        assert await enforce(server) == 3

    simulated(test, pin_ms=-1)


def test_an_event_is_pinned_for_the_time_of_its_subscription_and_then_trimmed() -> None:
    async def test(server: SimulatedServer) -> None:
        await retained(server, **{"retention.ms": "60000"})
        await publish_apart(server, 0, 9)
        server.clock.advance(2)
        assert await enforce(server) == 0
        assert (await describe(server)).expiring == 2
        server.clock.advance(4 * PERIOD_S)
        start = await enforce(server)
        assert start == 4, "the events of more than ten periods ago"
        info = await describe(server)
        assert (info.trimmed, info.depth.outstanding) == (start, 9 - start)

    simulated(test, pin_ms=600_000)


def test_the_setting_may_be_changed_and_has_limits() -> None:
    async def test(server: SimulatedServer) -> None:
        await retained(server, **{"retention.ms": "60000"})
        await alter(server, pin_ms=-1)
        await publish_apart(server, 0, 4)
        assert await enforce(server) == 0
        await alter(server, pin_ms=0)
        assert await enforce(server) > 0
        for invalid in (-2, PIN_MS_MAX + 1):
            with pytest.raises(Exception, match="pin_ms"):
                await alter(server, pin_ms=invalid)

    simulated(test)


def test_the_oldest_event_of_any_subscription_counts() -> None:
    async def test(server: SimulatedServer) -> None:
        await retained(server, **{"retention.ms": "1"})
        await server.drive(
            server.engine.create_subscription("other", SubscriptionSettings(topics=("t",), pin_ms=-1))
        )
        await publish_apart(server, 0, 4)
        await server.ack(*await server.pull(count=3))
        assert await enforce(server) == 0
        await server.ack(*await server.pull("other", count=2), name="other")
        assert await enforce(server) == 2
        await server.drive(server.engine.delete_subscription("other"))
        assert await enforce(server) == 3

    simulated(test, pin_ms=-1)


def test_events_that_a_filter_has_not_looked_at_are_pinned() -> None:
    async def test(server: SimulatedServer) -> None:
        await retained(server, **{"retention.ms": "1"})
        for feed in server.engine._queue_service.queue("s").feeds.values():
            feed.close()
        await publish_apart(server, 0, 3)
        assert await enforce(server) == 0
        await server.crash(power=False)
        await server.pass_time(1)
        assert values(await server.pull(wait_ms=100)) == [b"2"]
        assert await enforce(server) == 2

    simulated(test, pin_ms=-1, filter="2")


def test_a_request_to_delete_records_wins_and_is_counted() -> None:
    async def test(server: SimulatedServer) -> None:
        await publish_apart(server, 0, 4)
        await server.drive(server.engine.delete_records("t", 0, 3))
        info = await describe(server)
        assert (info.trimmed, info.depth.outstanding) == (3, 1)
        await server.drive(server.engine.delete_topic("t"))
        assert (await describe(server)).depth.outstanding == 0

    simulated(test, pin_ms=-1)


def test_a_preview_of_settings_shows_what_is_pinned() -> None:
    async def test(server: SimulatedServer) -> None:
        await retained(server)
        await publish_apart(server, 0, 4)
        await server.ack(*await server.pull(count=1))
        (bounds,) = await server.drive(server.engine.preview_settings("t", {"retention.ms": "1"}))
        assert (bounds.begin, bounds.end) == (1, 4)

    simulated(test, pin_ms=-1)


def test_each_view_is_trimmed_once_however_many_subscriptions_ask() -> None:
    async def test(server: SimulatedServer) -> None:
        for number in range(5):
            await server.drive(
                server.engine.create_subscription(f"s{number}", SubscriptionSettings(topics=("t",)))
            )
        await publish_apart(server, 0, 4)
        before = server.node.queue_runtime._end
        await server.drive(server.engine.delete_records("t", 0, 2))
        for number in range(5):
            assert len(await server.pull(f"s{number}")) == 2
        for name in ("s", *(f"s{number}" for number in range(5))):
            assert (await describe(server, name)).trimmed == 2
        trims = 6
        marks, epochs = 5, 1
        assert server.node.queue_runtime._end - before == trims + marks + epochs

    simulated(test)


class RetainedHistory(QueueHistory):
    """A history in which retention runs all the time, against a subscription that pins (I16)."""

    async def begin(self) -> None:
        await super().begin()
        server = self.server
        await server.drive(server.engine.alter_topic("t", {"segment.ms": "1", "retention.ms": "1"}))
        await alter(server, pin_ms=-1)

    async def wait(self) -> None:
        await self.retain()
        await super().wait()

    async def publish(self) -> None:
        await super().publish()
        await self.retain()

    async def retain(self) -> None:
        call = asyncio.ensure_future(self._retain())
        if not await self.crash_during(call):
            await self.server.drive(call)

    async def _retain(self) -> None:
        await self.server.node.enforce_retention()

    async def drain(self) -> None:
        await super().drain()
        await self.server.pass_time(1)
        await self.server.drive(self._retain())
        assert not self.server.node.queue_retention.pinned, "what is done is not pinned"


@pytest.mark.parametrize("seed", range(1))
def test_no_pinned_event_is_lost_whatever_happens(seed: int) -> None:
    asyncio.run(RetainedHistory(seed).run())


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, 100, 20))
def test_no_pinned_event_is_lost_in_many_histories(first: int) -> None:
    for seed in range(first, first + 20):
        asyncio.run(RetainedHistory(seed).run())
