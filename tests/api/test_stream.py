"""What a program does with a stream and its topics, on every kind of place."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

import mainstem
from mainstem.api.requests import Replies
from mainstem.contract import NewEvent
from tests.api.conftest import Place
from tests.support.server import Server

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


class Sale(msgspec.Struct, frozen=True):
    """What the topics of these tests have."""

    id: int
    customer: str = "ann"


async def make(stream: mainstem.Stream, topic: str, partitions: int = 1) -> None:
    await stream.backend.engine.create_topic(topic, partitions=partitions)


def test_publish_and_read_with_all_that_an_event_has(place: Place) -> None:
    async def work(stream: mainstem.Stream) -> None:
        await make(stream, place.topic, 3)
        position = await stream.publish(
            place.topic,
            {"id": 1},
            key="größe",
            headers={"a": "ü", "b": b"\xff"},
            time=EPOCH,
            partition=2,
        )
        assert position == mainstem.Position(place.topic, 2, 0)
        (event,) = [event async for event in stream.read(place.topic)]
        assert (event.value, event.key, event.time) == ({"id": 1}, "größe", EPOCH)
        assert (event.topic, event.partition, event.offset, event.attempt) == (place.topic, 2, 0, 1)
        assert event.headers["a"] == "ü"
        assert event.raw.headers == (("a", "ü".encode()), ("b", b"\xff"))

    place.run(work)


def test_a_topic_with_a_model_and_a_key(place: Place) -> None:
    async def work(stream: mainstem.Stream) -> None:
        await make(stream, place.topic, 4)
        sales = stream.topic(place.topic, Sale, key=lambda sale: sale.customer)
        first = await sales.publish(Sale(1))
        assert await sales.publish_many(Sale(number) for number in range(2, 5)) == 3
        other = await sales.publish(Sale(9), key=None, partition=(first.partition + 1) % 4)
        assert other.partition != first.partition
        events = [event async for event in sales.read()]
        assert {event.value for event in events} == {Sale(1), Sale(2), Sale(3), Sale(4), Sale(9)}
        assert {event.partition for event in events if event.key == "ann"} == {first.partition}
        assert [event.value.id for event in events if event.key == "ann"] == [1, 2, 3, 4]

    place.run(work)


def test_times_bound_what_is_read(place: Place) -> None:
    async def work(stream: mainstem.Stream) -> None:
        await make(stream, place.topic, 2)
        for hour in (0, 1, 3, 2, 4):  # out of order
            await stream.publish(place.topic, hour, time=EPOCH + timedelta(hours=hour), partition=hour % 2)

        async def hours(
            since: datetime | str | None = None, until: datetime | str | None = None
        ) -> list[int]:
            reading = stream.read(place.topic, since=since, until=until)
            return sorted([event.value async for event in reading])

        assert await hours() == [0, 1, 2, 3, 4]
        assert await hours(since=EPOCH + timedelta(hours=2)) == [2, 3, 4]
        assert await hours(since="2026-01-01T01:00", until="2026-01-01T03:00Z") == [1, 2]
        assert await hours(until=EPOCH) == []
        assert await hours(since="1h") == []
        with pytest.raises(mainstem.InvalidArgument, match="is no time"):
            await hours(since="yesterday")

    place.run(work)


def test_what_is_read_matches_a_query(place: Place) -> None:
    async def work(stream: mainstem.Stream) -> None:
        await make(stream, place.topic)
        await stream.publish_many(
            place.topic, [{"id": number, "odd": number % 2 == 1} for number in range(10)]
        )
        reading = stream.read(place.topic, where="odd:true AND id:>4")
        assert [event.value["id"] async for event in reading] == [5, 7, 9]
        with pytest.raises(mainstem.InvalidArgument, match="where: "):
            await anext(stream.read(place.topic, where="a:("))

    place.run(work)


def test_following_goes_on_with_what_is_published_later(place: Place) -> None:
    async def work(stream: mainstem.Stream) -> None:
        await make(stream, place.topic, 2)
        await stream.publish(place.topic, 0)
        async with aclosing(stream.read(place.topic, follow=True)) as events:
            values = [(await anext(events)).value]
            for number in (1, 2, 3):
                await stream.publish(place.topic, number, partition=number % 2)
                values.append((await anext(events)).value)
        assert values == [0, 1, 2, 3]
        with pytest.raises(mainstem.InvalidArgument, match="has no end"):
            await anext(stream.read(place.topic, follow=True, until="1h"))

    place.run(work)


def test_the_newest_events_in_the_order_of_their_times(place: Place) -> None:
    async def work(stream: mainstem.Stream) -> None:
        await make(stream, place.topic, 3)
        assert await stream.last(place.topic) == []
        for number in (0, 2, 1, 4, 3, 5):
            time = EPOCH + timedelta(minutes=number)
            await stream.publish(place.topic, number, time=time, partition=number % 2)
        assert [event.value for event in await stream.last(place.topic, 3)] == [3, 4, 5]
        assert [event.value for event in await stream.last(place.topic, 100)] == [0, 1, 2, 3, 4, 5]
        assert [event.value for event in await stream.last(place.topic)] == [5]
        assert await stream.last(place.topic, 0) == []
        with pytest.raises(mainstem.InvalidArgument):
            await stream.last(place.topic, -1)

    place.run(work)


def test_publishing_many_keeps_the_order_of_each_key(place: Place) -> None:
    async def numbers() -> AsyncGenerator[dict[str, int], None]:
        for number in range(6_000):
            yield {"id": number, "key": number % 7}

    async def work(stream: mainstem.Stream) -> None:
        await make(stream, place.topic, 3)
        count = await stream.publish_many(
            place.topic, numbers(), key=lambda value: str(value["key"]), headers={"h": "1"}
        )
        assert count == 6_000
        by_key: dict[str, list[int]] = {}
        async for event in stream.read(place.topic):
            assert event.headers == {"h": "1"}
            by_key.setdefault(event.key or "", []).append(event.value["id"])
        assert sorted(by_key) == [str(key) for key in range(7)]
        assert all(ids == list(range(int(key), 6_000, 7)) for key, ids in by_key.items())
        assert await stream.publish_many(place.topic, []) == 0

    place.run(work)


def test_an_event_of_another_model_is_undecodable_where_it_is(place: Place) -> None:
    async def work(stream: mainstem.Stream) -> None:
        await make(stream, place.topic)
        await stream.publish(place.topic, {"id": "x"})
        sales = stream.topic(place.topic, Sale)
        for reading in (sales.last(), anext(sales.read())):
            with pytest.raises(mainstem.Undecodable, match=rf"^{place.topic}/0/0: not a valid Sale: "):
                await reading
        with pytest.raises(TypeError, match="the topic's model is Sale, and this is dict"):
            await sales.publish({"id": 1})  # type: ignore[arg-type]

    place.run(work)


def test_wrong_arguments_are_refused(place: Place) -> None:
    async def work(stream: mainstem.Stream) -> None:
        await make(stream, place.topic)
        wrongs: tuple[dict[str, Any], ...] = (
            {"time": EPOCH.replace(tzinfo=None)},
            {"delay": -1},
            {"delay": timedelta(days=8)},
        )
        for wrong in wrongs:
            with pytest.raises(mainstem.InvalidArgument):
                await stream.publish(place.topic, 1, **wrong)
        with pytest.raises(TypeError, match="a key is str or bytes"):
            await stream.publish(place.topic, 1, key=7)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="the header h is str or bytes"):
            await stream.publish(place.topic, 1, headers={"h": 1})  # type: ignore[dict-item]
        with pytest.raises(mainstem.UnknownTopic):
            await anext(stream.read(place.topic + "_none"))
        assert await stream.last(place.topic) == []

    place.run(work)


def test_a_delay_is_a_header_with_the_time(place: Place) -> None:
    async def work(stream: mainstem.Stream) -> None:
        await make(stream, place.topic)
        before_ms = stream.backend.clock.wall_ms()
        await stream.publish(place.topic, 1, delay=timedelta(minutes=5))
        (event,) = await stream.last(place.topic)
        assert 0 <= int(event.headers["mainstem-not-before"]) - before_ms - 300_000 < 60_000

    place.run(work)


def test_requests_and_their_replies(place: Place) -> None:
    """A stand-in for subscribers: it replies to requests as they do."""

    async def work(stream: mainstem.Stream) -> None:
        await make(stream, place.topic)
        sales = stream.topic(place.topic, Sale)
        replies = Replies(stream.backend.engine)

        async def answer() -> None:
            async for event in sales.read(follow=True):
                if not replies.wants_reply(event.raw):
                    continue
                if event.value.id == 0:
                    await replies.send_failure(event.raw, "unknown sale")
                elif event.value.id != 99:
                    await replies.send_reply(event.raw, {"twice": event.value.id * 2})

        task = asyncio.ensure_future(answer())
        try:
            assert await sales.request(Sale(4), dict[str, int]) == {"twice": 8}
            several = [sales.request(Sale(number), dict[str, int]) for number in range(1, 20)]
            assert [reply["twice"] for reply in await asyncio.gather(*several)] == list(range(2, 40, 2))
            with pytest.raises(mainstem.RequestFailed, match=r"^unknown sale$"):
                await sales.request(Sale(0), dict[str, int])
            with pytest.raises(mainstem.Undecodable):
                await sales.request(Sale(1), Sale)
            with pytest.raises(mainstem.RequestTimeout, match=r"within 0\.1 s"):
                await sales.request(Sale(99), Sale, timeout=timedelta(seconds=0.1))
            assert await stream.request(place.topic, {"id": 5}, dict[str, int]) == {"twice": 10}
        finally:
            task.cancel()
            await asyncio.wait([task])

    place.run(work)


def test_a_header_does_not_decide_where_a_reply_goes(place: Place) -> None:
    async def work(stream: mainstem.Stream) -> None:
        await make(stream, place.topic)
        await make(stream, place.topic + "_other")
        replies = Replies(stream.backend.engine)
        for headers in (
            {"reply-to": f"topic:{place.topic}_other", "correlation-id": "1"},
            {"reply-to": f"topic:{place.topic}.replies"},
            {"reply-to": f"topic:{place.topic}.replies", "correlation-id": "x" * 201},
            {"correlation-id": "1"},
        ):
            await stream.publish(place.topic, 1, headers=headers)
            (event,) = await stream.last(place.topic)
            assert not replies.wants_reply(event.raw)
            await replies.send_reply(event.raw, 1)
        assert await stream.last(place.topic + "_other") == []

    place.run(work)


def test_a_stream_is_opened_only_where_it_is_entered(server: Server, topic: str) -> None:
    stream = mainstem.connect(server.address)
    numbers = stream.topic(topic)
    with pytest.raises(RuntimeError, match="the stream is not open"):
        asyncio.run(numbers.last())

    async def twice() -> None:
        async with stream:
            await make(stream, topic)
            async with stream:
                await numbers.publish(1)
            await numbers.publish(2)
        with pytest.raises(RuntimeError):
            await numbers.publish(3)

    async def again() -> None:
        async with stream:
            assert [event.value for event in await numbers.last(10)] == [1, 2]

    asyncio.run(twice())
    asyncio.run(again())


def test_without_a_server_there_is_an_error_and_not_a_wait() -> None:
    async def connect() -> None:
        async with mainstem.connect("kafka://127.0.0.1:1"):
            raise AssertionError

    with pytest.raises(mainstem.NotReachable):
        asyncio.run(connect())
    with pytest.raises(mainstem.InvalidArgument, match="write HOST:PORT"):
        asyncio.run(mainstem.connect("http://127.0.0.1:1").__aenter__())


def test_the_address_is_that_of_the_environment_when_the_stream_is_opened(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = mainstem.connect()
    monkeypatch.setenv("MAINSTEM_AT", "kafka://" + server.address)

    async def work() -> None:
        async with stream:
            assert (await stream.backend.engine.cluster()).id

    asyncio.run(work())


def test_a_folder_has_one_stream_at_a_time(tmp_path: Path) -> None:
    async def work() -> None:
        async with mainstem.open(tmp_path / "data", serve=True) as own:
            await make(own, "kept")
            await own.publish("kept", 1)
            with pytest.raises(mainstem.FolderInUse):
                await mainstem.open(tmp_path / "data").__aenter__()
        async with mainstem.open(str(tmp_path / "data")) as own:
            assert [event.value for event in await own.last("kept", 10)] == [1]

    asyncio.run(work())


def test_a_substitute_takes_the_place_of_the_stream_and_of_its_topics(place: Place) -> None:
    stream = mainstem.connect("127.0.0.1:1")
    topic = stream.topic(place.topic)

    async def work(other: mainstem.Stream) -> None:
        await make(other, place.topic)
        with stream.using(other.backend):
            async with stream:
                await topic.publish(1)
            await topic.publish(2)
        with pytest.raises(RuntimeError):
            await topic.publish(3)
        assert [event.value for event in await other.last(place.topic, 5)] == [1, 2]

    place.run(work)


def test_events_that_others_publish_are_what_they_are(place: Place) -> None:
    async def work(stream: mainstem.Stream) -> None:
        await make(stream, place.topic)
        values = [b"\xff", b"", None, b"text", b'"json"', b"[1]"]
        await stream.backend.engine.publish(place.topic, [NewEvent(value) for value in values])
        events = [event.value async for event in stream.read(place.topic)]
        assert events == [b"\xff", "", None, "text", "json", [1]]

    place.run(work)


def test_an_iteration_may_be_left_open_when_the_stream_is_closed(server: Server, topic: str) -> None:
    """Where a program does not end its iterations, the stream does: nothing is logged, nothing is left."""
    left: list[AsyncGenerator[mainstem.Event[Any], None]] = []

    async def work() -> None:
        async with mainstem.connect(server.address) as stream:
            await stream.publish(topic, 1)
            left.append(stream.read(topic, follow=True))
            assert (await anext(left[0])).value == 1
            waiting = asyncio.ensure_future(anext(left[0]))
            await asyncio.wait([waiting], timeout=0.02)
        with pytest.raises(mainstem.NotReachable):
            await waiting

    loop_errors: list[dict[str, Any]] = []
    with asyncio.Runner() as runner:
        runner.get_loop().set_exception_handler(lambda _, context: loop_errors.append(context))
        runner.run(work())
    assert loop_errors == []
