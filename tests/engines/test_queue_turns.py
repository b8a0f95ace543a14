"""What the embedded engine's queues cost others: cancelled calls, and very many subscriptions."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any
from unittest.mock import patch

import pytest

from mainstem.contract import NewEvent, NotReachable
from mainstem.coordinator.queues import reasons
from mainstem.coordinator.queues.views import SubscriptionViews
from mainstem.coordinator.topics.topics import TopicMetadata
from mainstem.engines.embedded.publish import PublishResult
from mainstem.engines.embedded.queues.subscription_queue import SubscriptionQueue
from mainstem.promise import Promise
from mainstem.queue_contract import Ack, Delivery, Nack, Outcome, Reject, SubscriptionSettings
from tests.engines.queue_server import SimulatedServer, depth, simulated, values


@pytest.mark.parametrize("delay_ms", [0, 500])
def test_an_answer_whose_caller_left_still_wakes_those_that_wait(delay_ms: int) -> None:
    async def test(server: SimulatedServer) -> None:
        await server.publish("t", b"0")
        (delivery,) = await server.pull()
        waiting = asyncio.ensure_future(server.engine.pull("s", "d", wait_ms=20_000))
        await server.pass_time(0.1)
        settling = asyncio.ensure_future(server.engine.settle("s", [Nack(delivery.token, delay_ms)]))
        await asyncio.sleep(0)
        settling.cancel()
        await server.pass_time(1)
        assert settling.cancelled()
        assert waiting.done()
        assert values(waiting.result()) == [b"0"]

    simulated(test)


def test_a_rejection_whose_caller_left_still_leads_to_a_dead_letter() -> None:
    async def test(server: SimulatedServer) -> None:
        await server.publish("t", b"0")
        (delivery,) = await server.pull()
        outcomes: list[Outcome] = [Reject(delivery.token)]
        settling = asyncio.ensure_future(server.engine.settle("s", outcomes))
        await asyncio.sleep(0)
        settling.cancel()
        await server.pass_time(1)
        assert (await depth(server)).dying == 0
        assert (await server.drive(server.engine.bounds("dead", 0))).end == 1

    simulated(test, dead_letter_topic="dead")


def test_pulls_answers_and_timers_do_not_look_at_all_views(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(server: SimulatedServer) -> None:
        await server.publish("t", b"0", b"1", b"2")
        looked_at_all = 0

        def count_calls(views: SubscriptionViews) -> list[object]:
            nonlocal looked_at_all
            looked_at_all += 1
            return list(views._by_id.values())

        with monkeypatch.context() as patched:
            patched.setattr(SubscriptionViews, "all", count_calls)
            first, second, _ = await server.pull()
            await server.drive(server.engine.settle("s", [Ack(first.token), Nack(second.token, 500)]))
            assert values(await server.pull(wait_ms=1_000)) == [b"1"]
            assert values(await server.pull(wait_ms=60_000)) == [b"2"]
        assert looked_at_all == 0

    simulated(test)


def test_a_pull_ends_also_where_its_timer_is_early() -> None:
    """Timers of an event loop are rounded to milliseconds; here they take half of the time."""

    async def test(server: SimulatedServer) -> None:
        clock = server.node.clock
        call_later = clock.call_later
        early: dict[str, Any] = {"call_later": lambda seconds, call: call_later(seconds * 0.5, call)}
        with patch.multiple(clock, **early):
            pulling = asyncio.ensure_future(server.engine.pull("s", "c", wait_ms=1_000))
            await server.pass_time(3)
        assert pulling.done()
        assert pulling.result() == []

    simulated(test)


def test_a_pull_of_events_that_are_larger_than_the_average_stops_at_its_bytes() -> None:
    async def test(server: SimulatedServer) -> None:
        for _ in range(50):
            await server.publish("t", b"x" * 200_000)
        await server.publish("t", *[b"small"] * 5_000)
        pull = server.engine.pull("s", "c", max_events=500, max_bytes=1_000_000)
        large = await server.drive(pull)
        assert [delivery.event.offset for delivery in large] == list(range(len(large)))
        assert 1_000_000 <= len(large) * 200_000 <= 1_400_000
        state = await depth(server)
        assert (state.leased, state.outstanding) == (len(large), 5_050)
        await server.ack(*large)
        assert (await server.pull(count=1))[0].event.offset == len(large)

    simulated(test)


def test_large_dead_letters_are_written_in_parts() -> None:
    async def test(server: SimulatedServer) -> None:
        for _ in range(60):
            await server.publish("t", b"x" * 200_000)
        deliveries = await server.drive(server.engine.pull("s", "c", max_bytes=1 << 30))
        assert len(deliveries) == 60
        most = 0
        write = server.engine._queue_service.dead_letters._publish

        async def measured(
            topic: TopicMetadata, letters: Sequence[NewEvent], server_id: int
        ) -> list[PublishResult]:
            nonlocal most
            most = max(most, sum(len(letter.value or b"") for letter in letters))
            return await write(topic, letters, server_id)

        server.engine._queue_service.dead_letters._publish = measured  # type: ignore[method-assign]
        rejections: list[Outcome] = [Reject(delivery.token) for delivery in deliveries]
        await server.drive(server.engine.settle("s", rejections))
        await server.pass_time(2)
        assert (await server.drive(server.engine.bounds("dead", 0))).end == 60
        assert most <= 5 << 20

    simulated(test, dead_letter_topic="dead")


def test_reasons_are_limited_and_those_of_events_that_are_done_are_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reasons, "REASONS_MAX", 3)

    async def test(server: SimulatedServer) -> None:
        await server.publish("t", *[b"%d" % number for number in range(6)])
        deliveries = await server.pull()
        await server.ack(*deliveries[:2])
        stale: list[Outcome] = [Reject(delivery.token, "too late") for delivery in deliveries[:2]]
        assert await server.drive(server.engine.settle("s", stale)) == ["stale"] * 2
        known = server.node.subscriptions.views.reasons
        assert len(known) == 0
        back: list[Outcome] = [
            Nack(delivery.token, 60_000, reason=f"no room {delivery.event.offset}")
            for delivery in deliveries[2:]
        ]
        await server.drive(server.engine.settle("s", back))
        browsed = await server.drive(server.engine.browse("s"))
        assert [event.reason for event in browsed] == ["", "no room 3", "no room 4", "no room 5"]
        await server.drive(server.engine.purge("s"))
        assert len(known) == 0

    simulated(test)


def test_after_a_close_no_call_opens_a_feed() -> None:
    async def test(server: SimulatedServer) -> None:
        await server.publish("t", *[b"a"] * 100)
        opening = asyncio.ensure_future(
            server.engine.create_subscription("new", SubscriptionSettings(topics=("t",), filter="a"))
        )
        await asyncio.sleep(0)
        partition = server.node.partition(server.node.topics.get("t"), 0)  # type: ignore[arg-type]
        await server.engine.close()
        for call in (server.engine.subscription("s"), server.engine.purge("s")):
            with pytest.raises(NotReachable, match="shutting down"):
                await server.drive(call)
        with pytest.raises(NotReachable, match="shutting down"):
            await server.drive(opening)
        await server.pass_time(1)
        assert not partition._waiters._callbacks
        assert all(not queue.feeds for queue in server.engine._queue_service._queues.values())

    simulated(test, filter="a")


def test_an_idle_view_is_frozen_and_goes_on_as_it_was() -> None:
    async def test(server: SimulatedServer) -> None:
        await server.publish("t", *[b"%d" % number for number in range(10)])
        deliveries = await server.pull()
        await server.ack(*deliveries[2:])
        (view,) = server.node.subscriptions.views.all()
        await server.pass_time(25)
        assert view.sequence.table.open_pages
        await server.pass_time(180)
        assert not view.sequence.table.open_pages
        assert server.engine._queue_service._idle._timer is None
        again = await server.pull()
        assert [(item.event.value, item.attempt) for item in again] == [(b"0", 2), (b"1", 2)]
        await server.ack(*again)
        assert (await depth(server)).outstanding == 0

    simulated(test)


def test_a_commit_wakes_one_consumer_that_waits_and_each_wakes_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks = 0
    take = SubscriptionQueue.take

    async def counted(queue: SubscriptionQueue, *limits: Any) -> list[Delivery]:
        nonlocal looks
        looks += 1
        return await take(queue, *limits)

    monkeypatch.setattr(SubscriptionQueue, "take", counted)

    async def test(server: SimulatedServer) -> None:
        def pull() -> asyncio.Future[list[Delivery]]:
            return asyncio.ensure_future(server.engine.pull("s", "c", max_events=1, wait_ms=600_000))

        nonlocal looks
        waiting = [pull() for _ in range(50)]
        await server.pass_time(0.1)
        assert looks == 50
        looks = 0
        await server.publish("t", b"0")
        await server.pass_time(0.1)
        assert values(await waiting[0]) == [b"0"]
        assert looks <= 3
        # One that leaves as soon as it was woken passes it on.
        waiters = list(server.engine._queue_service.queue("s")._waiting)
        publishing = asyncio.ensure_future(server.publish("t", *[b"%d" % number for number in range(1, 41)]))
        while not waiters[0].is_set() and not publishing.done():
            await asyncio.sleep(0)
        waiting[1].cancel()
        await publishing
        await server.pass_time(10)
        received = [pull.result() for pull in waiting if pull.done() and not pull.cancelled()]
        assert waiting[1].cancelled()
        assert [values(deliveries) for deliveries in received] == [[b"%d" % number] for number in range(41)]
        for left in waiting:
            left.cancel()
        await server.pass_time(0.1)

    simulated(test)


def test_a_pull_that_waits_receives_from_partitions_and_topics_that_are_created_meanwhile() -> None:
    async def test(server: SimulatedServer) -> None:
        waiting = asyncio.ensure_future(server.engine.pull("s", "c", wait_ms=60_000))
        await server.pass_time(0.1)
        await server.drive(server.engine.delete_topic("t"))
        await server.pass_time(0.1)
        await server.drive(server.engine.create_topic("t", partitions=1))
        await server.publish("t", b"0")
        await server.pass_time(1)
        assert waiting.done()
        assert values(waiting.result()) == [b"0"]
        waiting = asyncio.ensure_future(server.engine.pull("s", "c", wait_ms=60_000))
        await server.pass_time(0.1)
        await server.drive(awaited(server.node.topics.add_partitions("t", 2)))
        await server.drive(server.engine.publish("t", [NewEvent(b"1", partition=1)]))
        await server.pass_time(1)
        assert waiting.done()
        assert values(waiting.result()) == [b"1"]

    simulated(test)


async def awaited(promise: Promise[TopicMetadata]) -> TopicMetadata:
    return await promise
