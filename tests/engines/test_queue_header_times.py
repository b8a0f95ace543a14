"""Events that name their own time are given up without a consumer, by looks that are bounded."""

from __future__ import annotations

import pytest

from mainstem.contract import NewEvent
from mainstem.engines.embedded.queues import header_times
from mainstem.engines.embedded.queues.expiry_index import ExpiryIndex
from mainstem.engines.embedded.queues.header_times import LOOK_S, WINDOW_EVENTS
from mainstem.queue_contract import SubscriptionSettings
from tests.engines.queue_server import SimulatedServer, depth, simulated, values
from tests.engines.test_queue_expiry_refused import describe, refuse


async def publish(server: SimulatedServer, lives_ms: int | None, *values: bytes) -> None:
    headers: tuple[tuple[str, bytes], ...] = ()
    if lives_ms is not None:
        headers = (("expires-at", b"%d" % (server.clock.wall_ms() + lives_ms)),)
    events = [NewEvent(value, headers=headers) for value in values]
    await server.drive(server.engine.publish("t", events))


async def look(server: SimulatedServer) -> None:
    """Let a look pass."""
    server.clock.advance(LOOK_S)
    await server.pass_time(0.2)


@pytest.mark.parametrize("query", ["", "yes"])
def test_what_is_over_is_not_ready_for_ever_without_a_consumer(query: str) -> None:
    async def test(server: SimulatedServer) -> None:
        await publish(server, 30_000, b"yes 0", b"yes 1")
        await publish(server, None, b"yes 2")
        await publish(server, 600_000, b"yes 3")
        assert (await depth(server)).outstanding == 4
        await look(server)
        await server.pass_time(1)
        assert (await depth(server)).ready == 2
        letters = await server.drive(server.engine.dead_letters("s"))
        assert [(letter.reason, letter.attempts) for letter in letters] == [("expired", 0)] * 2
        assert values(await server.pull()) == [b"yes 2", b"yes 3"]

    simulated(test, dead_letter_topic="dead", filter=query)


def test_all_that_is_over_is_given_up_also_behind_events_that_are_not() -> None:
    async def test(server: SimulatedServer) -> None:
        await publish(server, None, *[b"x"] * 3 * WINDOW_EVENTS)
        await publish(server, 1, *[b"x"] * 2 * WINDOW_EVENTS)
        await publish(server, None, b"last")
        for _ in range(6):
            await look(server)
        assert (await depth(server)).ready == 3 * WINDOW_EVENTS + 1
        assert (await describe(server)).dropped == 2 * WINDOW_EVENTS

    simulated(test)


def test_a_pull_goes_on_behind_events_that_are_over_however_large_these_are() -> None:
    async def test(server: SimulatedServer) -> None:
        await publish(server, 1, b"x" * 1_000, b"y" * 1_000)
        await publish(server, None, b"last")
        server.clock.advance(0.1)
        pulled = await server.drive(server.engine.pull("s", "c", max_events=10, max_bytes=500))
        assert values(pulled) == [b"last"]

    simulated(test)


def test_a_look_looks_at_some_views_and_the_next_one_at_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(header_times, "VIEWS_OF_LOOK", 2)
    monkeypatch.setattr(ExpiryIndex, "note", lambda *_: None)  # it finds them all at once

    async def test(server: SimulatedServer) -> None:
        for number in range(4):
            settings = SubscriptionSettings(topics=("t",))
            await server.drive(server.engine.create_subscription(f"s{number}", settings))
        await publish(server, 1, b"x")
        outstanding = []
        for _ in range(3):
            await look(server)
            totals = await server.drive(server.engine.subscription_totals())
            outstanding.append(sum(row.depth.outstanding for row in totals))
        assert outstanding == [3, 1, 0]

    simulated(test)


def test_a_look_goes_on_after_the_disk_has_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(server: SimulatedServer) -> None:
        await publish(server, 1, b"x")
        refuse(monkeypatch, server)
        await look(server)
        assert (await depth(server)).ready == 1
        monkeypatch.undo()
        await look(server)
        assert (await depth(server)).ready == 0

    simulated(test)


def test_redriven_events_are_left_as_they_are() -> None:
    async def test(server: SimulatedServer) -> None:
        await publish(server, 1, b"x")
        await look(server)
        (letter,) = await server.drive(server.engine.dead_letters("s"))
        await server.drive(server.engine.redrive("s", [letter.origin]))
        await look(server)
        assert (await depth(server)).ready == 1, "who redrives it wants it delivered"

    simulated(test, dead_letter_topic="dead")
