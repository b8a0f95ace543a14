"""The Kafka engine only: connecting to a server, and the public function for it."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from concurrent.futures import Future
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

import mainstem
from mainstem.clock import BlockingClock
from mainstem.contract import (
    Bounds,
    EventTooLarge,
    Headers,
    InvalidArgument,
    NewEvent,
    NotReachable,
    Position,
    StreamError,
    TopicExists,
    UnknownTopic,
)
from mainstem.engines.kafka import headers, read
from mainstem.engines.kafka.engine import KafkaEngine
from mainstem.engines.kafka.publish import PendingCount
from tests.engines.conftest import kafka
from tests.support.server import Server


def test_connect_is_the_public_way_in_and_out(server: Server) -> None:
    async def work() -> None:
        async with mainstem.connect(server.address) as stream:
            position = await stream.publish("public", "hello", key="k")
            events = [event async for event in stream.read("public")]
        assert [(event.key, event.value, event.offset) for event in events] == [("k", "hello", 0)]
        assert position == Position("public", 0, 0)

    asyncio.run(work())


def test_one_address_of_several_is_enough(server: Server) -> None:
    async def work() -> None:
        async with mainstem.connect(f"127.0.0.1:1,{server.address}") as stream:
            assert (await stream.backend.engine.cluster()).id

    asyncio.run(work())


class FixedWallClock(BlockingClock):
    """The real clock, except that it is always 5 s after the epoch."""

    def wall_ms(self) -> int:
        return 5_000


def test_the_lag_of_a_group_is_measured_on_the_clock_of_the_engine(server: Server) -> None:
    async def work() -> None:
        engine = await KafkaEngine.connect(server.address, timeout_s=10, clock=FixedWallClock())
        try:
            await engine.create_topic("clocked", partitions=1, settings={"retention.ms": "-1"})
            await engine.publish(
                "clocked", [NewEvent(b"%d" % i, timestamp_ms=1_000 * i) for i in range(1, 4)]
            )
            member = await engine.join("clocked-group", ["clocked"], start="earliest")
            read = 0
            while not read:
                read = len((await member.read(max_events=1)).events)
            await member.commit()
            (position,) = (await engine.group("clocked-group")).positions
            await member.close()
        finally:
            await engine.close()
        assert (position.lag, position.lag_ms) == (2, 3_000)

    asyncio.run(work())


def test_an_address_without_a_listener_is_an_immediate_error() -> None:
    with pytest.raises(NotReachable, match=r"no server at 127\.0\.0\.1:1 \(connection refused\)"):
        asyncio.run(KafkaEngine.connect("127.0.0.1:1"))
    with pytest.raises(InvalidArgument, match="not HOST:PORT"):
        asyncio.run(KafkaEngine.connect("127.0.0.1"))


@pytest.mark.slow
def test_a_listener_that_is_not_kafka_is_an_error_after_the_timeout() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(
            NotReachable, match=f"what listens at {address} does not answer as a Kafka server in 1 s"
        ):
            asyncio.run(KafkaEngine.connect(address, timeout_s=1))


def test_importing_the_package_imports_no_client() -> None:
    check = "import sys, mainstem; assert not {'confluent_kafka', 'asyncio', 'msgspec'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], timeout=60).returncode == 0


def test_headers_of_a_bounded_number_of_partitions_are_kept(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(headers, "PARTITIONS_MAX", 2)

    async def publish() -> None:
        async with kafka(server.address) as stream:
            await stream.create_topic("headers", partitions=4)
            events = [NewEvent(b"x", headers=(("n", b"%d" % i),), partition=i) for i in range(4)]
            await stream.publish("headers", events)

    asyncio.run(publish())
    host, port = server.address.rsplit(":", 1)
    reader = headers.HeaderReader([(host, int(port))], BlockingClock(), 10.0)
    for partition in (0, 1, 2, 3, 0):
        assert reader.read("headers", partition, 0) == (("n", b"%d" % partition),)
        assert len(reader._fetched) <= 2
    reader.close()


def test_headers_that_cannot_be_read_cost_no_other_event(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def headers_of(message: Any) -> list[tuple[str, bytes | None]]:
        if message.offset() == 2:
            raise SystemError
        return []

    failures = 2

    def read_headers(_: headers.HeaderReader, topic: str, partition: int, offset: int) -> Headers:
        nonlocal failures
        if failures:
            failures -= 1
            raise StreamError(f"{topic} {partition}@{offset}: its headers cannot be read")
        return (("late", b""),)

    monkeypatch.setattr(read, "_headers_of", headers_of)
    monkeypatch.setattr(headers.HeaderReader, "read", read_headers)

    async def work() -> tuple[list[int], int]:
        offsets: list[int] = []
        errors = 0
        async with kafka(server.address) as stream:
            await stream.create_topic("unread-headers", partitions=1)
            await stream.publish("unread-headers", [NewEvent(b"%d" % i) for i in range(5)])
            reader = await stream.reader([Position("unread-headers", 0, 0)])
            for _ in range(20):
                try:
                    offsets += [event.offset for event in (await reader.read(wait_ms=2_000)).events]
                except StreamError:
                    errors += 1
                if offsets[-1:] == [4]:
                    break
            await reader.close()
        return offsets, errors

    offsets, errors = asyncio.run(work())
    assert offsets == [0, 1, 2, 3, 4]
    assert errors >= 1


def test_values_and_keys_alone_are_published_in_order_and_errors_are_raised(server: Server) -> None:
    async def work() -> None:
        async with kafka(server.address) as engine:
            await engine.create_topic("plain", partitions=3, settings={"max.message.bytes": "500000"})
            assert isinstance(engine, KafkaEngine)
            await engine.publish_plain("plain", [], None)
            await engine.publish_plain("plain", [None, b""], None)
            values = [b"%d" % number for number in range(3_000)]
            await engine.publish_plain("plain", values, [b"k%d" % (int(value) % 5) for value in values])
            reader = await engine.reader([Position("plain", partition, 0) for partition in range(3)])
            by_key: dict[bytes | None, list[int]] = {}
            while sum(map(len, by_key.values())) < 3_000:
                for event in (await reader.read()).events:
                    if event.key is not None:
                        by_key.setdefault(event.key, []).append(int(event.value or b""))
            await reader.close()
            assert by_key == {b"k%d" % key: list(range(key, 3_000, 5)) for key in range(5)}
            with pytest.raises(EventTooLarge):
                await engine.publish_plain("plain", [b"a", b"x" * 600_000, b"b"], None)

    asyncio.run(work())


def test_the_last_report_may_come_before_all_events_are_handed_over() -> None:
    async def work() -> None:
        loop = asyncio.get_running_loop()
        early, late, refused = (PendingCount("t", loop) for _ in range(3))
        early.delivered(None, None)
        early.handed_over(1, None)
        await early.done
        late.handed_over(2, None)
        late.delivered(None, None)
        assert not late.done.done()
        late.delivered(None, None)
        await late.done
        refused.handed_over(0, KafkaError(KafkaError.MSG_SIZE_TOO_LARGE))
        with pytest.raises(EventTooLarge):
            await refused.done

    asyncio.run(work())


@pytest.mark.parametrize(
    "code",
    [KafkaError.UNKNOWN_LEADER_EPOCH, KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.LEADER_NOT_AVAILABLE],
)
def test_a_broker_that_learns_late_of_a_new_topic_is_asked_again(
    server: Server, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """Several brokers share a cluster's news, and the one that leads a new partition may be the last."""
    asked = 0

    async def work() -> None:
        async with kafka(server.address) as engine:
            assert isinstance(engine, KafkaEngine)
            client = engine._admin.client
            list_offsets = client.list_offsets

            def late(partitions: Any, **options: Any) -> Any:
                nonlocal asked
                asked += 1
                futures = list_offsets(partitions, **options)
                if asked <= 2:  # the first offsets and the ends
                    for partition in futures:
                        futures[partition] = Future[Any]()
                        futures[partition].set_exception(KafkaException(KafkaError(code)))
                return futures

            topic = f"late-{code}"
            await engine.create_topic(topic, partitions=1)
            monkeypatch.setattr(client, "list_offsets", late)
            assert await engine.bounds(topic, 0) == Bounds(0, 0)
            assert asked == 4
            with pytest.raises(UnknownTopic):
                await engine.bounds("not-there", 0)

    asyncio.run(work())


def test_a_topic_is_known_when_its_creation_is_answered(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So is one that another client has created just before."""
    asked = 0

    async def work() -> None:
        async with kafka(server.address) as engine:
            assert isinstance(engine, KafkaEngine)
            client = engine._admin.client
            describe_topics = client.describe_topics

            def late(topics: Any, **options: Any) -> Any:
                nonlocal asked
                asked += 1
                futures = describe_topics(topics, **options)
                if asked % 3:
                    for name in futures:
                        futures[name] = Future[Any]()
                        futures[name].set_exception(
                            KafkaException(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART))
                        )
                return futures

            monkeypatch.setattr(client, "describe_topics", late)
            await engine.create_topic("known", partitions=1)
            assert asked == 3
            with pytest.raises(TopicExists):
                await engine.create_topic("known", partitions=1)
            assert asked == 6

    asyncio.run(work())
