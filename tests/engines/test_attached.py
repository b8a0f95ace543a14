"""Attached consumers of the embedded engine: who gets which event, and what becomes of answers."""

from __future__ import annotations

import pytest

from mainstem.attach_contract import AttachRequest, ConsumerClash, DeliveryWindow
from mainstem.contract import InvalidArgument, NewEvent
from mainstem.queue_contract import NoSuchSubscription, SubscriptionSettings
from mainstem.routing_contract import RoutedEvent
from tests.engines.attached_client import AttachedClient, attached, client, settle_down
from tests.engines.queue_server import SimulatedServer, depth, simulated
from tests.engines.routed_door import SPACE, RoutedDoor
from tests.engines.test_routed_queues import with_door


def numbers(first: int, end: int) -> list[bytes | None]:
    return [b"%d" % number for number in range(first, end)]


async def fill(door: RoutedDoor, first: int, end: int, **options: object) -> None:
    await door.publish("all", "", *[b"%d" % number for number in range(first, end)], **options)


def test_what_is_there_and_what_comes_is_delivered_in_order_and_done_when_acknowledged() -> None:
    async def test(door: RoutedDoor) -> None:
        server = door.server
        await fill(door, 0, 3)
        consumer = await client(server)
        await fill(door, 3, 5)
        await settle_down(server)
        assert consumer.received == numbers(0, 5)
        assert consumer.consumer.unanswered == consumer.window.taken == 5
        await consumer.ack(5)
        assert consumer.consumer.unanswered == 0
        assert (await depth(server, "shop/a")).outstanding == 0
        assert (await depth(server, "shop/b")).outstanding == 5, "no other queue notices"
        await server.crash(power=True)
        assert (await depth(server, "shop/a")).outstanding == 0

    with_door(test, "a", "b")


def test_a_window_bounds_what_a_consumer_has_and_two_can_share_one() -> None:
    async def test(door: RoutedDoor) -> None:
        server = door.server
        shared = DeliveryWindow(3)
        first = await AttachedClient(server, "first", 2, "shop/a").attach(shared)
        second = await AttachedClient(server, "second", 2, "shop/b").attach(shared)
        await fill(door, 0, 10)
        await settle_down(server)
        assert len(first.received) + len(second.received) == 3 == shared.taken
        assert max(len(first.received), len(second.received)) == 2
        shared.set_limit(4)
        await settle_down(server)
        assert (first.received, second.received) == (numbers(0, 2), numbers(0, 2))
        await first.settle([], ())
        first.window.set_limit(5)
        shared.set_limit(6)
        await settle_down(server)
        assert (len(first.received), len(second.received)) == (4, 2)

    with_door(test, "a", "b")


def test_consumers_of_the_same_priority_get_events_in_turn() -> None:
    async def test(door: RoutedDoor) -> None:
        server = door.server
        first, second = await client(server, "first"), await client(server, "second")
        await fill(door, 0, 6, partition=0)
        await settle_down(server)
        assert (first.received, second.received) == ([b"0", b"2", b"4"], [b"1", b"3", b"5"])
        for number in range(6, 9):
            await fill(door, number, number + 1)
            await settle_down(server)
        assert (len(first.received), len(second.received)) == (5, 4)
        await first.ack(5)
        await second.ack(4)
        assert (await depth(server, "shop/a")).outstanding == 0

    with_door(test, "a")


def test_a_consumer_with_a_higher_priority_is_first_while_it_has_room() -> None:
    async def test(door: RoutedDoor) -> None:
        server = door.server
        low = await client(server, "low", 4)
        high = await client(server, "high", 2, priority=5)
        await fill(door, 0, 5, partition=0)
        await settle_down(server)
        assert (high.received, low.received) == (numbers(0, 2), numbers(2, 5))
        await high.ack(1)
        await fill(door, 5, 7, partition=0)
        await settle_down(server)
        assert (high.received, low.received) == ([b"0", b"1", b"5"], [b"2", b"3", b"4", b"6"])

    with_door(test, "a")


def test_what_is_given_back_comes_again_in_its_old_place() -> None:
    async def test(door: RoutedDoor) -> None:
        server = door.server
        await fill(door, 0, 6, partition=0)
        consumer = await client(server, limit=3)
        assert [item.attempt for item in consumer.deliveries] == [1, 1, 1]
        await consumer.nack(2, counts=False)
        assert consumer.received == [b"0", b"1", b"2", b"0", b"1"], "before those that wait"
        assert [(item.attempt, item.failures) for item in consumer.deliveries] == [(1, 0), (2, 0), (2, 0)]
        await consumer.nack(3)
        again = sorted(consumer.deliveries, key=lambda item: item.event.offset)
        assert [item.event.value for item in again] == numbers(0, 3)
        assert [(item.attempt, item.failures) for item in again] == [(3, 1), (3, 1), (2, 1)]

    with_door(test, "a")


def test_a_failure_too_many_and_a_rejection_are_dead_letters() -> None:
    async def test(door: RoutedDoor) -> None:
        server = door.server
        await fill(door, 0, 2, partition=0)
        consumer = await client(server, limit=1)
        await consumer.nack()
        await consumer.nack()
        assert consumer.values == [b"1"]
        await consumer.reject()
        letters = await server.drive(server.engine.dead_letters("shop/a"))
        assert [(letter.letter.value, letter.reason) for letter in letters] == [
            (b"0", "failed"),
            (b"1", "rejected"),
        ]

    with_door(test, "a", failures_max=2, dead_letter_topic="dead")


def test_without_requeue_a_detached_consumer_may_still_answer() -> None:
    async def test(door: RoutedDoor) -> None:
        server = door.server
        await fill(door, 0, 4, partition=0)
        consumer = await client(server, limit=2)
        consumer.consumer.detach(requeue=False)
        await settle_down(server)
        assert (await depth(server, "shop/a")).leased == 2
        await consumer.ack(1)
        other = await client(server, "other")
        assert other.received == numbers(2, 4)
        await consumer.nack(1)
        assert other.received == [b"2", b"3", b"1"]
        assert consumer.ends == []

    with_door(test, "a")


def test_with_requeue_what_a_detached_consumer_had_is_for_others() -> None:
    async def test(door: RoutedDoor) -> None:
        server = door.server
        await fill(door, 0, 4, partition=0)
        consumer = await client(server, limit=2)
        consumer.consumer.detach(requeue=True)
        consumer.consumer.detach(requeue=True)
        other = await client(server, "other")
        assert other.received == numbers(0, 4)
        assert [item.attempt for item in other.deliveries] == [2, 2, 1, 1]
        await consumer.ack(2)
        assert (await depth(server, "shop/a")).leased == 4, "its answers are too late"

    with_door(test, "a", accepts_late_acks=False)


def test_a_consumer_that_is_paused_gets_nothing_until_it_is_resumed() -> None:
    async def test(door: RoutedDoor) -> None:
        server = door.server
        consumer = await client(server)
        consumer.consumer.pause()
        await fill(door, 0, 2, partition=0)
        await settle_down(server)
        assert consumer.received == []
        other = await client(server, "other", 1)
        assert other.received == [b"0"]
        consumer.consumer.resume()
        await settle_down(server)
        assert consumer.received == [b"1"]

    with_door(test, "a")


def test_a_consumer_that_does_not_acknowledge_has_no_window() -> None:
    async def test(door: RoutedDoor) -> None:
        server = door.server
        consumer = await client(server, limit=1, auto_ack=True)
        await fill(door, 0, 700)
        await settle_down(server)
        assert len(consumer.received) == 700
        assert (await depth(server, "shop/a")).outstanding == 0
        assert consumer.window.taken == consumer.consumer.unanswered == 0
        await server.crash(power=True)
        assert (await depth(server, "shop/a")).outstanding == 0

    with_door(test, "a")


def test_an_exclusive_consumer_is_the_only_one() -> None:
    async def test(door: RoutedDoor) -> None:
        server = door.server
        alone = await client(server, "alone", exclusive=True)
        for name in ("alone", "other"):
            with pytest.raises(ConsumerClash):
                await client(server, name)
        alone.consumer.detach(requeue=True)
        await client(server, "other")
        with pytest.raises(ConsumerClash):
            await client(server, "alone", exclusive=True)

    with_door(test, "a")


def test_a_single_active_consumer_is_followed_by_the_one_with_the_highest_priority() -> None:
    async def test(door: RoutedDoor) -> None:
        server = door.server
        clients = [
            await client(server, "first", 2),
            await client(server, "second", 2),
            await client(server, "third", 2, priority=1),
        ]
        await fill(door, 0, 6, partition=0)
        await settle_down(server)
        assert [item.consumer.is_active for item in clients] == [True, False, False]
        assert clients[0].received == numbers(0, 2)
        clients[0].consumer.detach(requeue=True)
        await settle_down(server)
        assert [item.consumer.is_active for item in clients] == [False, False, True]
        assert [item.received for item in clients[1:]] == [[], numbers(0, 2)]
        assert await server.pull("shop/a") == [], "it is the single one of those that pull, too"
        clients[2].consumer.detach(requeue=False)
        await settle_down(server)
        assert clients[1].received == numbers(2, 4)

    with_door(test, "a", single_active=True)


def test_the_earliest_event_can_be_taken_without_attaching() -> None:
    async def test(door: RoutedDoor) -> None:
        server = door.server
        calls = attached(server)
        assert await server.drive(calls.take("shop/a", "c")) is None
        await fill(door, 0, 2, partition=0)
        delivery = await server.drive(calls.take("shop/a", "c", auto_ack=True))
        assert delivery is not None
        assert delivery.event.value == b"0"
        delivery = await server.drive(calls.take("shop/a", "c"))
        assert delivery is not None
        await server.pass_time(40)
        counts = calls.queue_counts("shop/a")
        assert (counts.ready, counts.unanswered, counts.consumers) == (0, 1, 0), "it has no deadline"
        await server.ack(delivery, name="shop/a")
        assert (await depth(server, "shop/a")).outstanding == 0
        with pytest.raises(NoSuchSubscription):
            await server.drive(calls.take("shop/none", "c"))

    with_door(test, "a")


def test_a_purge_leaves_to_consumers_what_they_have() -> None:
    async def test(door: RoutedDoor) -> None:
        server = door.server
        consumer = await client(server, limit=2)
        await fill(door, 0, 10)
        await settle_down(server)
        counts = attached(server).queue_counts("shop/a")
        assert (counts.ready, counts.unanswered, counts.consumers) == (8, 2, 1)
        assert await server.drive(attached(server).purge_ready("shop/a")) == 8
        assert attached(server).queue_counts("shop/a").ready == 0
        await consumer.nack(1)
        assert len(consumer.received) == 3
        await server.crash(power=True)
        assert (await depth(server, "shop/a")).outstanding == 2

    with_door(test, "a")


def test_consumers_hear_of_the_end_of_their_subscription() -> None:
    async def test(door: RoutedDoor) -> None:
        server = door.server
        first, second = await client(server), await client(server, subscription="shop/b")
        await server.drive(server.engine.delete_subscription("shop/a"))
        assert [type(end) for end in first.ends] == [NoSuchSubscription]
        attached(server).settle_soon("shop/a", [])
        await server.engine.close()
        assert second.ends == [None]
        with pytest.raises(NoSuchSubscription):
            await client(server, subscription="shop/a")

    with_door(test, "a", "b")


def test_after_a_kill_what_was_not_acknowledged_comes_as_delivered_before() -> None:
    async def test(door: RoutedDoor) -> None:
        server = door.server
        await fill(door, 0, 5, partition=0)
        consumer = await client(server, limit=4)
        await consumer.settle([])
        await consumer.ack(2)
        await server.crash(power=True)
        consumer = await client(server)
        assert consumer.received == numbers(2, 5)
        assert all(item.attempt > 1 for item in consumer.deliveries), "all of them may have been delivered"
        await fill(door, 5, 6, partition=0)
        await settle_down(server)
        assert consumer.deliveries[-1].attempt == 1

    with_door(test, "a")


def test_a_door_that_fails_keeps_no_other_from_its_events(caplog: pytest.LogCaptureFixture) -> None:
    async def test(door: RoutedDoor) -> None:
        server = door.server

        def fail(_: object) -> None:
            raise ZeroDivisionError

        ends: list[object] = []
        request = AttachRequest("shop/a", "broken")
        await server.drive(attached(server).attach(request, fail, ends.append))
        other = await client(server, "other", 10)
        await fill(door, 0, 4, partition=0)
        await settle_down(server)
        assert sorted(value or b"" for value in other.received) == numbers(0, 4)
        assert ends == [None]
        assert "ZeroDivisionError" in caplog.text

    with_door(test, "a")


def test_partitions_and_keys_of_a_subscription_of_topics_are_delivered_too() -> None:
    async def test(server: SimulatedServer) -> None:
        await server.publish("t", b"0", b"1")
        consumer = await client(server, subscription="s", limit=2)
        await server.publish("t", b"2")
        await settle_down(server)
        assert consumer.received == [b"0", b"1"]
        await consumer.ack(2)
        assert consumer.received == [b"0", b"1", b"2"]
        for name in ("by_priority", "durable_leases"):
            settings = SubscriptionSettings(topics=("t",), **{name: True})  # type: ignore[arg-type]
            await server.drive(server.engine.create_subscription(name, settings))
            with pytest.raises(InvalidArgument):
                await client(server, subscription=name)

    simulated(test)


def test_in_key_order_a_key_is_with_one_consumer_at_a_time() -> None:
    async def test(door: RoutedDoor) -> None:
        server = door.server
        first, second = await client(server, "first", 1), await client(server, "second", 1)
        for number in range(4):
            event = NewEvent(b"%d" % number, b"k%d" % (number // 3))
            await server.drive(door.queues.publish(SPACE, [RoutedEvent(event, "orders", ["a"])]))
        await server.pass_time(0.5)
        assert sorted(map(len, (first.received, second.received))) == [1, 1]
        holder = first if first.received == [b"0"] else second
        other = second if holder is first else first
        assert other.received == [b"3"], "events 1 and 2 have the key of event 0"
        await other.ack()
        await server.pass_time(0.5)
        assert other.received == [b"3"]
        await holder.ack()
        await server.pass_time(0.5)
        assert sorted(first.received + second.received, key=str) == [b"0", b"1", b"3"]

    with_door(test, "a", in_key_order=True)
