"""Events that people choose: waking and cancelling them, and what each subscription knows of one."""

from __future__ import annotations

import asyncio

import pytest

from mainstem.contract import InvalidArgument, NewEvent, Position, PositionOutOfRange, UnknownTopic
from mainstem.engines.embedded.queues import chosen_events, states
from mainstem.queue_contract import Ack, EventInSubscription, Nack, Outcome, Reject, SubscriptionSettings
from mainstem.timespec import format_iso
from tests.engines.queue_server import SimulatedServer, depth, simulated, values


def places(*offsets: int, topic: str = "t") -> list[Position]:
    return [Position(topic, 0, offset) for offset in offsets]


async def waiting(server: SimulatedServer, count: int, delay_ms: int = 60_000) -> None:
    """Publish events, and let them wait."""
    await server.publish("t", *[b"%d" % number for number in range(count)])
    outcomes: list[Outcome] = [Nack(item.token, delay_ms) for item in await server.pull(count=count)]
    await server.drive(server.engine.settle("s", outcomes))


@pytest.mark.parametrize("in_key_order", [False, True])
def test_what_waits_is_woken_and_counts_as_no_delivery(in_key_order: bool) -> None:
    async def test(server: SimulatedServer) -> None:
        await waiting(server, 4)
        engine = server.engine
        assert await server.drive(engine.wake("s", places(1, 2, 9), dry_run=True)) == 2
        assert (await depth(server)).waiting == 4
        pulling = asyncio.ensure_future(engine.pull("s", "d", wait_ms=5_000))
        await server.pass_time(0.1)
        assert await server.drive(engine.wake("s", places(1, 2, 9))) == 2
        woken = await server.drive(pulling)
        assert values(woken) == [b"1", b"2"]
        assert [delivery.attempt for delivery in woken] == [2, 2]
        await server.ack(*woken)
        assert await server.drive(engine.wake("s", None)) == 2
        await server.crash(power=True)
        again = await server.pull(wait_ms=1_000)
        assert values(again) == [b"0", b"3"]
        assert await server.drive(server.engine.wake("s", None)) == 0

    simulated(test, in_key_order=in_key_order)


@pytest.mark.parametrize("in_key_order", [False, True])
def test_what_no_consumer_has_is_cancelled(in_key_order: bool) -> None:
    async def test(server: SimulatedServer) -> None:
        await waiting(server, 4)
        await server.publish("t", b"4", b"5")
        (leased,) = await server.pull(count=1)
        assert leased.event.offset == 4
        engine = server.engine
        assert await server.drive(engine.cancel("s", places(0, 4, 5, 77), dry_run=True)) == 2
        assert await server.drive(engine.cancel("s", places(0, 4, 5, 77))) == 2
        state = await depth(server)
        assert (state.waiting, state.leased, state.ready) == (3, 1, 0)
        assert await server.drive(engine.cancel("s", None)) == 3
        await server.crash(power=True)
        assert values(await server.pull(wait_ms=120_000)) == [b"4"]
        assert await server.drive(server.engine.redrive("s", places(0, 5))) == 2
        assert values(await server.pull(wait_ms=100)) == [b"0", b"5"]

    simulated(test, in_key_order=in_key_order)


def test_very_many_are_changed_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chosen_events, "POSITIONS_OF_CHANGE", 7)

    async def test(server: SimulatedServer) -> None:
        await waiting(server, 40)
        assert await server.drive(server.engine.wake("s", None)) == 40
        assert (await depth(server)).ready == 40

    simulated(test)


def test_an_event_says_its_state_in_each_subscription(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(states, "ENTRIES_OF_TURN", 2)

    async def test(server: SimulatedServer) -> None:
        engine = server.engine
        for name in ("acked", "waiting", "dying"):
            settings = SubscriptionSettings(topics=("t",), dead_letter_topic="dead")
            await server.drive(engine.create_subscription(name, settings))
        await server.drive(engine.delete_topic("dead"))
        await server.publish("t", *[b"%d" % number for number in range(5)])
        filtered = SubscriptionSettings(topics=("t",), filter="none-has-this")
        await server.drive(engine.create_subscription("filtered", filtered))
        await server.pass_time(1)
        now_ms = server.clock.wall_ms()
        for name, answer in (("acked", Ack), ("waiting", lambda t: Nack(t, 60_000)), ("dying", Reject)):
            outcomes = [answer(item.token) for item in await server.pull(name)]
            await server.drive(engine.settle(name, outcomes))
        await server.drive(engine.pull("s", "billing-1", max_events=3))
        shown = await server.drive(engine.event_states(Position("t", 0, 1)))
        assert [state.subscription for state in shown] == ["acked", "dying", "filtered", "s", "waiting"]
        by_name = {state.subscription: state for state in shown}
        assert by_name["acked"] == EventInSubscription("acked", "done")
        assert by_name["filtered"] == EventInSubscription("filtered", "done")
        assert (by_name["dying"].state, by_name["dying"].attempts) == ("dying", 1)
        leased, delayed = by_name["s"], by_name["waiting"]
        assert (leased.state, leased.consumer, delayed.state, delayed.failures) == (
            "leased", "billing-1", "waiting", 1,
        )  # fmt: skip
        assert leased.until_ms is not None
        assert delayed.until_ms is not None
        assert leased.why == f"leased by billing-1 until {format_iso(leased.until_ms)}"
        assert now_ms + 60_000 <= delayed.until_ms <= now_ms + 61_000
        assert delayed.why == f"delayed until {format_iso(delayed.until_ms)}"
        (ready,) = [
            state
            for state in await server.drive(engine.event_states(Position("t", 0, 4)))
            if state.subscription == "s"
        ]
        assert ready == EventInSubscription("s", "ready")
        for view in server.node.subscriptions.views.all():
            view.sequence.freeze()
        await server.drive(engine.event_states(Position("t", 0, 1)))
        assert not any(view.sequence.table.open_pages for view in server.node.subscriptions.views.all())
        for wrong, error in (
            (Position("t", 0, 5), PositionOutOfRange),
            (Position("t", 1, 0), UnknownTopic),
            (Position("none", 0, 0), UnknownTopic),
        ):
            with pytest.raises(error):
                await server.drive(engine.event_states(wrong))
        await server.drive(engine.create_topic("empty", partitions=1))
        with pytest.raises(
            PositionOutOfRange, match=r"no event with offset 0; .* begin at 0 and end before 0"
        ):
            await server.drive(engine.event_states(Position("empty", 0, 0)))

    simulated(test)


def test_what_a_consumer_has_is_shown() -> None:
    async def test(server: SimulatedServer) -> None:
        engine = server.engine
        await server.drive(engine.add_partitions("t", 2))
        new = [NewEvent(b"%d" % number, partition=number % 2) for number in range(20)]
        await server.drive(engine.publish("t", new))
        for consumer, count in (("a", 3), ("b", 4), ("a", 2)):
            await server.drive(engine.pull("s", consumer, max_events=count))
        info = await server.drive(engine.subscription("s"))
        assert [(row.name, row.leased) for row in info.consumers] == [("a", 5), ("b", 4)]
        assert [row.leases for row in info.consumers] == [2, 1]
        browsed = await server.drive(engine.browse("s", consumer="a"))
        assert len(browsed) == 5
        assert {row.consumer for row in browsed} == {"a"}
        assert all(row.until_ms is not None for row in browsed)
        places = [Position(row.event.topic, row.event.partition, row.event.offset) for row in browsed]
        assert places == sorted(places)
        rest = await server.drive(engine.browse("s", "leased", consumer="a", after=places[1], max_events=2))
        assert [row.event.offset for row in rest] == [place.offset for place in places[2:4]]
        assert await server.drive(engine.browse("s", consumer="c")) == []
        with pytest.raises(InvalidArgument):
            await server.drive(engine.browse("s", "ready", consumer="a"))

    simulated(test)


def test_a_redrive_at_a_rate_survives_a_kill_and_counts_no_delivery() -> None:
    async def test(server: SimulatedServer) -> None:
        await server.publish("t", *[b"%d" % number for number in range(6)])
        await server.ack(*await server.pull())
        start_ms = server.clock.wall_ms()
        assert await server.drive(server.engine.redrive("s", places(*range(6)), per_s=2)) == 6
        assert await server.drive(server.engine.redrive("s", places(*range(6)), per_s=2)) == 0
        await server.crash(power=True)
        seen: list[tuple[bytes | None, int]] = []
        while len(seen) < 6:
            for delivery in await server.pull(wait_ms=60_000):
                seen.append((delivery.event.value, server.clock.wall_ms() - start_ms))
                await server.ack(delivery)
        assert [value for value, _ in seen] == [b"%d" % number for number in range(6)]
        for number, (_, after_ms) in enumerate(seen):
            assert 500 * number <= after_ms <= 500 * number + 200
        for wrong in (0.0, 1e9, float("nan")):
            with pytest.raises(InvalidArgument):
                await server.drive(server.engine.redrive("s", places(0), per_s=wrong))
        with pytest.raises(InvalidArgument, match="seven days"):
            await server.drive(server.engine.redrive("s", places(0) * 10_000, per_s=0.01))

    simulated(test)
