"""Time to live while the disk refuses records: what is over is not delivered, although it is still there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from mainstem.contract import NotReachable
from mainstem.engines.embedded.queues import expiry
from mainstem.log.errors import StorageError
from mainstem.queue_contract import SubscriptionInfo
from mainstem.share_contract import BatchPull
from tests.engines.queue_server import SimulatedServer, simulated, values
from tests.engines.test_share_dead_letters import group


def refuse(monkeypatch: pytest.MonkeyPatch, server: SimulatedServer) -> None:
    """The disk takes no record of queues any more, until the patch is undone."""

    def append(records: Sequence[object]) -> None:
        raise StorageError("no space")

    monkeypatch.setattr(server.node.queue_runtime, "_append", append)


async def describe(server: SimulatedServer, name: str = "s") -> SubscriptionInfo:
    return await server.drive(server.engine.subscription(name))


@pytest.mark.parametrize("dead_letters", [None, "dead"])
def test_what_is_over_is_not_delivered_while_the_disk_refuses_to_give_it_up(
    monkeypatch: pytest.MonkeyPatch, dead_letters: str | None
) -> None:
    async def test(server: SimulatedServer) -> None:
        await server.publish("t", b"0")
        await server.ack(*await server.pull())  # the mark that covers a lease is far ahead now
        await server.publish("t", b"1", b"2")
        refuse(monkeypatch, server)
        assert values(await server.pull(count=1)) == [b"1"], "what is not over needs no record"
        await server.pass_time(12)
        for wait_ms in (0, 100):
            with pytest.raises(NotReachable):
                await server.pull(wait_ms=wait_ms)
        monkeypatch.undo()
        await server.pass_time(1.5)
        await server.publish("t", b"3")
        assert values(await server.pull()) == [b"3"]
        await server.pass_time(32)  # the locks of those that were delivered expire
        info = await describe(server)
        assert info.dropped + info.dead_lettered == 3

    simulated(test, ttl_ms=10_000, dead_letter_topic=dead_letters)


def test_what_is_over_is_not_delivered_while_it_is_given_up_in_parts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(expiry, "DYING_OF_TURN", 2)

    async def test(server: SimulatedServer) -> None:
        await server.publish("t", *[b"old"] * 9)
        await server.publish("t", b"new")
        server.clock.wall += 12_000  # the clock is set: the pull comes before the timer of the expiry
        await server.publish("t", b"newest")
        assert values(await server.pull()) == [b"newest"]

    simulated(test, ttl_ms=10_000, dead_letter_topic="dead")


def test_a_share_group_is_delivered_nothing_that_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    async def acquired(server: SimulatedServer, wait_ms: int = 0) -> list[tuple[int, int]]:
        topic = server.node.topics.get("t")
        assert topic is not None
        pull = BatchPull("g", "m", [(topic.id, 0)], 100, 1 << 20, min_bytes=1, wait_ms=wait_ms)
        taken = await server.drive(server.engine.batch_queues.pull_batches(pull)[0])
        return [(run.first, run.last) for delivery in taken for run in delivery.acquired]

    async def test(server: SimulatedServer) -> None:
        await group(server)
        settings = replace((await describe(server, "g")).settings, ttl_ms=10_000)
        await server.drive(server.engine.alter_subscription("g", settings))
        await server.publish("t", b"0")
        assert await acquired(server) == [(0, 0)]
        await server.publish("t", b"1")
        refuse(monkeypatch, server)
        server.clock.advance(12)
        assert await acquired(server) == []
        assert await acquired(server, wait_ms=300) == []
        monkeypatch.undo()
        await server.publish("t", b"2")
        assert await acquired(server, wait_ms=5_000) == [(2, 2)]

    simulated(test)


def test_many_answers_do_not_make_a_subscription_be_looked_at_in_each_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks = 0
    expire_all = expiry.QueueExpiry._expire_all

    async def counted(self: expiry.QueueExpiry, *what: Any) -> float:
        nonlocal looks
        looks += 1
        return await expire_all(self, *what)

    monkeypatch.setattr(expiry.QueueExpiry, "_expire_all", counted)

    async def test(server: SimulatedServer) -> None:
        await server.publish("t", *[b"x"] * 100)
        begin_s, first = server.clock.monotonic(), looks
        for delivery in await server.pull():
            await server.ack(delivery)
        passed_s = server.clock.monotonic() - begin_s
        assert looks - first <= 2 + passed_s / expiry.WAIT_S_MIN

    simulated(test, ttl_ms=10_000)
