"""Streams whose subscribers run: handlers, replies, dead letters, traces, lists; on a server, in memory."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from datetime import timedelta

import msgspec
import pytest

import mainstem
from mainstem.api.subscriber import Subscriber
from tests.api.conftest import Place

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Invoice(msgspec.Struct, frozen=True):
    """What the topics of these tests have."""

    id: int
    customer: str = "ann"


class Receipt(msgspec.Struct, frozen=True):
    """What a handler replies."""

    invoice: int


@pytest.fixture
def fresh_place(place: Place) -> Place:
    """A place whose stream has no subscribers of other tests."""
    place.opened.stream.subscribers.clear()
    return place


@pytest.fixture
def queue_place(place: Place) -> Place:
    """A place whose stream has queues, without the subscribers of other tests."""
    stream = place.opened.stream
    if stream.backend.queues is None:
        pytest.skip("a Kafka cluster has no queues")
    stream.subscribers.clear()
    return place


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


async def until_redrivable(stream: mainstem.Stream, topic: str, count: int) -> None:
    """Wait until this number of dead letters of the group `book` is durable."""
    async with asyncio.timeout(30):
        while (await stream.redrive(topic, group="book", dry_run=True)).left < count:
            await asyncio.sleep(0.05)


async def until_empty(stream: mainstem.Stream, subscription: str) -> None:
    """Wait until a subscription has nothing outstanding."""
    assert stream.backend.queues is not None
    async with asyncio.timeout(20):
        while True:
            (totals,) = await stream.backend.queues.subscription_totals([subscription])
            if not totals.depth.outstanding:
                return
            await asyncio.sleep(0.01)


def test_handlers_get_what_is_published_and_reply(fresh_place: Place) -> None:
    async def work(stream: mainstem.Stream) -> None:
        await stream.backend.engine.create_topic(fresh_place.topic, partitions=2)
        invoices = stream.topic(fresh_place.topic, Invoice, key=lambda invoice: invoice.customer)
        seen: list[int] = []

        @invoices.subscriber(group="silent", retry=mainstem.Retry(max_attempts=1))
        async def refuse(invoice: Invoice) -> None:
            if invoice.id == 50:
                raise mainstem.DeadLetter("has no say in the reply")

        @invoices.subscriber(group="silent-too")
        async def pass_by(invoice: Invoice) -> Receipt | None:
            return None

        @invoices.subscriber(group="book", concurrency=4)
        async def book(invoice: Invoice) -> Receipt:
            seen.append(invoice.id)
            return Receipt(invoice.id)

        async with stream.running():
            await invoices.publish_many([Invoice(number) for number in range(50)])
            assert await invoices.request(Invoice(50), Receipt) == Receipt(50)
            await until(lambda: len(seen) == 51)
        assert seen == list(range(51))

    fresh_place.run(work)


def test_dead_letters_are_driven_again_to_their_group_alone(fresh_place: Place) -> None:
    async def work(stream: mainstem.Stream) -> None:
        topic = fresh_place.topic
        await stream.backend.engine.create_topic(topic, partitions=1)
        is_broken = True
        booked: list[int] = []
        audited: list[int] = []

        @stream.subscriber(topic, group="book", retry=mainstem.Retry(max_attempts=1))
        async def book(invoice: Invoice) -> None:
            if is_broken:
                raise mainstem.DeadLetter("no ink" if invoice.id % 2 else "no paper")
            booked.append(invoice.id)

        @stream.subscriber(topic, group="audit")
        def audit(event: mainstem.Event[Invoice]) -> None:
            audited.append(event.value.id)

        async with stream.running():
            await stream.publish_many(topic, [Invoice(number) for number in range(6)])
            await until_redrivable(stream, topic, 6)
            is_broken = False
            counted = await stream.redrive(topic, group="book", dry_run=True)
            assert counted == mainstem.Redriven(published=0, left=6)
            where = 'header.mainstem-dead-letter-detail:"no ink"'
            assert (await stream.redrive(topic, group="book", where=where)).published == 3
            await until(lambda: len(booked) == 3)
            assert booked == [1, 3, 5]
            assert (await stream.redrive(topic, group="book")).published == 3, "a letter counts once"
            await until(lambda: len(booked) == 6)
            assert (await stream.redrive(topic, group="book", dry_run=True)).left == 0
            with pytest.raises(mainstem.InvalidArgument):
                await stream.redrive(topic, group="book", where="a:(")
            with pytest.raises((mainstem.NoSuchSubscription, mainstem.UnknownTopic)):
                await stream.redrive(topic, group="none")
            await until(lambda: len(audited) == 6)
        assert audited == list(range(6))

    fresh_place.run(work)


def test_a_request_that_is_given_up_fails_with_the_reason(fresh_place: Place) -> None:
    async def work(stream: mainstem.Stream) -> None:
        topic = fresh_place.topic
        await stream.backend.engine.create_topic(topic, partitions=1)

        @stream.subscriber(topic, group="book")
        async def book(invoice: Invoice) -> Receipt:
            raise mainstem.DeadLetter("unknown customer")

        async with stream.running():
            with pytest.raises(mainstem.RequestFailed, match="unknown customer"):
                await stream.request(topic, Invoice(1), Receipt)

    fresh_place.run(work)


def test_the_lifespan_of_an_application_runs_the_subscribers(fresh_place: Place) -> None:
    async def work(stream: mainstem.Stream) -> None:
        topic = fresh_place.topic
        await stream.backend.engine.create_topic(topic, partitions=1)
        seen: list[int] = []

        @stream.subscriber(topic, group="book")
        async def book(number: int) -> None:
            seen.append(number)

        async with stream.lifespan(object()):
            await stream.publish(topic, 7)
            await until(lambda: bool(seen))
        await stream.publish(topic, 8)
        assert seen == [7]

    fresh_place.run(work)


def test_a_search_finds_what_was_published(place: Place) -> None:
    async def work(stream: mainstem.Stream) -> None:
        topic = place.topic
        await stream.backend.engine.create_topic(topic, partitions=2)
        await stream.publish_many(topic, [{"id": number, "name": f"n{number}"} for number in range(100)])
        hits = [hit.value["id"] async for hit in stream.search("id:>90", topics=[topic], since="1h", limit=5)]
        assert len(hits) == 5
        assert set(hits) <= set(range(91, 100))
        assert [hit async for hit in stream.search("id:1", topics=[topic], until="1h")] == []
        with pytest.raises(mainstem.InvalidArgument, match="query: "):
            await anext(stream.search("a:("))

    place.run(work)


def test_a_declaration_gives_the_function_back() -> None:
    stream = mainstem.connect()

    def plain(invoice: Invoice) -> int:
        return invoice.id

    assert stream.topic("invoices", Invoice).subscriber(group="a")(plain) is plain
    assert stream.subscriber("invoices", group="b", batch=10)(sum_of) is sum_of
    assert [type(subscriber) for subscriber in stream.subscribers] == [Subscriber] * 2
    assert [subscriber.takes_list for subscriber in stream.subscribers] == [False, True]


def sum_of(numbers: list[int]) -> int:
    return sum(numbers)


def test_a_trace_goes_from_the_event_to_what_its_handler_publishes(queue_place: Place) -> None:
    async def work(stream: mainstem.Stream) -> None:
        orders, payments = (
            stream.topic(queue_place.topic, int),
            stream.topic(f"{queue_place.topic}.payments", int),
        )

        @orders.subscriber(group="billing")
        async def bill(order: int) -> None:
            await payments.publish(order + 1)

        await orders.publish(1, headers={"traceparent": PARENT})
        async with stream.running():
            await until_empty(stream, f"{queue_place.topic}.billing")
        (payment,) = await payments.last()
        assert (payment.value, payment.headers["traceparent"]) == (2, PARENT)

    queue_place.run(work)


def test_keys_keep_their_order_while_handlers_fail_and_lists_are_whole(queue_place: Place) -> None:
    order: defaultdict[str, list[int]] = defaultdict(list)
    lists: list[list[int]] = []
    failures = 0

    async def work(stream: mainstem.Stream) -> None:
        numbers = stream.topic(queue_place.topic, int, key=lambda number: str(number % 7))

        @numbers.subscriber(group="lanes", concurrency=8, retry=mainstem.Retry(initial_delay=0))
        async def handle(event: mainstem.Event[int]) -> None:
            nonlocal failures
            if event.value % 5 == 0 and event.attempt == 1:
                failures += 1
                raise ValueError("a first attempt")
            order[str(event.key)].append(event.value)

        @numbers.subscriber(group="lists", batch=20, max_wait=timedelta(milliseconds=10))
        def store(batch: list[int]) -> None:
            lists.append(batch)

        await numbers.publish_many(range(50))
        async with stream.running() as runner:
            await until_empty(stream, f"{queue_place.topic}.lanes")
            await until_empty(stream, f"{queue_place.topic}.lists")
            async with asyncio.timeout(30):  # the server knows of an answer before its reply is here
                while (lanes := (await runner.state())[0]).done < 50:
                    await asyncio.sleep(0.01)
            assert (lanes.done, lanes.failed, lanes.dead, lanes.lag) == (50, 10, 0, 0)

    queue_place.run(work)
    assert failures == 10
    assert order == {str(key): list(range(key, 50, 7)) for key in range(7)}
    assert sorted(number for batch in lists for number in batch) == list(range(50))
    assert max(map(len, lists)) <= 20


def test_a_delayed_event_comes_at_its_time_as_a_first_attempt(queue_place: Place) -> None:
    attempts: list[int] = []
    late_ms: list[float] = []

    async def work(stream: mainstem.Stream) -> None:
        @stream.subscriber(queue_place.topic, group="billing")
        async def bill(event: mainstem.Event[str]) -> None:
            attempts.append(event.attempt)
            late_ms.append(stream.backend.clock.wall_ms() - int(event.headers["mainstem-not-before"]))

        await stream.publish(queue_place.topic, "later", delay=0.05)
        async with stream.running():
            await until_empty(stream, f"{queue_place.topic}.billing")

    queue_place.run(work)
    assert attempts == [1]
    assert late_ms[0] >= 0


def test_a_stop_gives_events_back_without_a_failure(queue_place: Place) -> None:
    async def work(stream: mainstem.Stream) -> None:
        begun = asyncio.Event()

        @stream.subscriber(queue_place.topic, group="billing")
        async def bill(order: str) -> None:
            begun.set()
            await asyncio.Event().wait()

        await stream.publish(queue_place.topic, "1", key="a")
        await stream.publish(queue_place.topic, "2", key="a")
        async with stream.running(grace=0.0):
            await begun.wait()
        assert stream.backend.queues is not None
        (totals,) = await stream.backend.queues.subscription_totals([f"{queue_place.topic}.billing"])
        assert (totals.depth.leased, totals.depth.outstanding) == (0, 2)
        assert sum(totals.dead_lettered.values()) == 0

    queue_place.run(work)
