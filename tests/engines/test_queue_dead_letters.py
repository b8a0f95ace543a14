"""Dead letters of the embedded engine: their headers, a topic that refuses, and redrive."""

from __future__ import annotations

import asyncio

import pytest

from mainstem.contract import Position
from mainstem.queue_contract import (
    DEAD_LETTER_FROM_HEADER,
    DEAD_LETTER_SUBSCRIPTION_HEADER,
    Nack,
    Outcome,
    Reject,
)
from tests.engines.queue_server import SimulatedServer, depth, simulated


async def letters(server: SimulatedServer) -> list[tuple[bytes | None, dict[str, str]]]:
    """Value and headers of all dead letters."""
    reader = await server.engine.reader([Position("dead", 0, 0)])
    events = (await server.drive(reader.read(wait_ms=0))).events
    await reader.close()
    return [
        (event.value, {name: (value or b"").decode() for name, value in event.headers}) for event in events
    ]


def test_what_fails_too_often_or_is_rejected_is_dead_lettered_with_its_reason() -> None:
    async def test(server: SimulatedServer) -> None:
        await server.publish("t", b"0", b"1")
        first, second = await server.pull()
        outcomes: list[Outcome] = [Reject(first.token, "no such order"), Nack(second.token)]
        assert await server.drive(server.engine.settle("s", outcomes)) == ["done", "done"]
        (second,) = await server.pull()
        await server.pass_time(31)
        assert (await depth(server)).outstanding == 0
        (value, rejected), (failed_value, failed) = await letters(server)
        assert (value, failed_value) == (b"0", b"1")
        assert rejected["mainstem-dead-letter-reason"] == "rejected"
        assert rejected["mainstem-dead-letter-detail"] == "no such order"
        assert rejected[DEAD_LETTER_SUBSCRIPTION_HEADER] == "s"
        assert rejected[DEAD_LETTER_FROM_HEADER] == "t/0/0"
        assert failed["mainstem-dead-letter-reason"] == "failed"
        assert failed["mainstem-dead-letter-attempts"] == "2"
        assert "mainstem-dead-letter-time" in failed
        info = await server.drive(server.engine.subscription("s"))
        assert (info.dead_lettered, info.dropped, info.failed) == (2, 0, 3)
        assert await server.drive(server.engine.redrive("s", [Position("t", 0, 0)], dry_run=True)) == 1
        assert await server.pull() == []
        positions = [Position("t", 0, 0), Position("t", 0, 7), Position("dead", 0, 0)]
        assert await server.drive(server.engine.redrive("s", positions)) == 1
        (again,) = await server.pull()
        assert (again.event.value, again.attempt) == (b"0", 1)

    simulated(test, failures_max=2, dead_letter_topic="dead")


def test_a_letter_is_of_the_past_when_its_event_was_redriven_until_it_is_given_up_again() -> None:
    async def redriven(server: SimulatedServer) -> list[tuple[int, bool]]:
        letters = await server.drive(server.engine.dead_letters("s"))
        return [(letter.origin.offset, letter.is_redriven) for letter in letters]

    async def reject_all(server: SimulatedServer, count: int) -> None:
        rejected: list[Outcome] = [Reject(delivery.token) for delivery in await server.pull()]
        assert await server.drive(server.engine.settle("s", rejected)) == ["done"] * count
        await server.pass_time(1)

    async def test(server: SimulatedServer) -> None:
        await server.publish("t", b"0", b"1", b"2")
        await reject_all(server, 3)
        assert await redriven(server) == [(0, False), (1, False), (2, False)]
        place = [Position("t", 0, 0), Position("t", 0, 2)]
        assert await server.drive(server.engine.redrive("s", place)) == 2
        await server.publish("t", b"3")
        first, *others = await server.pull()
        await server.ack(first)
        rejected: list[Outcome] = [Reject(delivery.token) for delivery in others]
        assert await server.drive(server.engine.settle("s", rejected)) == ["done"] * 2
        await server.pass_time(1)
        expected = [(0, True), (1, False), (2, False), (2, False), (3, False)]
        assert await redriven(server) == expected
        await server.crash(power=True)
        assert await redriven(server) == expected

    simulated(test, dead_letter_topic="dead")


def test_without_a_dead_letter_topic_what_is_given_up_is_dropped_and_counted() -> None:
    async def test(server: SimulatedServer) -> None:
        await server.publish("t", b"0")
        (delivery,) = await server.pull()
        await server.drive(server.engine.settle("s", [Reject(delivery.token)]))
        info = await server.drive(server.engine.subscription("s"))
        assert (info.depth.outstanding, info.dropped, info.dead_lettered) == (0, 1, 0)

    simulated(test)


def test_a_deleted_topic_whose_views_have_not_ended_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(server: SimulatedServer) -> None:
        await server.publish("t", b"0")
        (delivery,) = await server.pull()
        with monkeypatch.context() as patched:
            patched.setattr(server.node.topics, "by_id", lambda _: None)
            settling = asyncio.ensure_future(server.engine.settle("s", [Reject(delivery.token)]))
            assert await server.drive(settling) == ["done"]
            await server.pass_time(2)
        await server.pass_time(5)
        assert [value for value, _ in await letters(server)] == [b"0"]

    simulated(test, dead_letter_topic="dead")


def test_a_dead_letter_topic_that_refuses_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(server: SimulatedServer) -> None:
        await server.publish("t", b"0")
        await server.drive(server.engine.delete_topic("dead"))
        (delivery,) = await server.pull()
        assert await server.drive(server.engine.settle("s", [Reject(delivery.token)])) == ["done"]
        await server.pass_time(3)
        info = await server.drive(server.engine.subscription("s"))
        assert info.depth.dying == 1
        assert info.problems == ("subscription s: topic dead does not exist",)
        (browsed,) = await server.drive(server.engine.browse("s", "dying"))
        assert browsed.event.value == b"0"
        await server.crash(power=True)
        await server.drive(server.engine.create_topic("dead", partitions=1))
        node = server.node
        monkeypatch.setattr(type(node), "rejection_reason", "the disk is full")
        await server.pass_time(3)
        assert "the disk is full" in (await server.drive(server.engine.subscription("s"))).problems[0]
        monkeypatch.undo()
        await server.pass_time(40)
        info = await server.drive(server.engine.subscription("s"))
        assert (info.depth.outstanding, info.dead_lettered, info.problems) == (0, 1, ())
        assert [value for value, _ in await letters(server)] == [b"0"]

    simulated(test, dead_letter_topic="dead")


def test_events_that_were_purged_leave_no_problem_of_dead_letters() -> None:
    async def test(server: SimulatedServer) -> None:
        await server.publish("t", b"0")
        await server.drive(server.engine.delete_topic("dead"))
        (delivery,) = await server.pull()
        await server.drive(server.engine.settle("s", [Reject(delivery.token)]))
        await server.pass_time(10)
        assert (await server.drive(server.engine.subscription("s"))).problems
        assert await server.drive(server.engine.purge("s")) == 1
        info = await server.drive(server.engine.subscription("s"))
        missing = "dead-letter topic dead does not exist: events that are given up wait for it"
        assert (info.depth.outstanding, info.problems) == (0, (missing,))

    simulated(test, dead_letter_topic="dead")
