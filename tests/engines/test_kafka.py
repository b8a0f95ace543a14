"""The Kafka engine only: connecting to a server, and the public function for it."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from typing import Any

import pytest

import mainstem
from mainstem.clock import BlockingClock
from mainstem.contract import Headers, InvalidArgument, NewEvent, NotReachable, Position, StreamError
from mainstem.engines.kafka import headers, read
from mainstem.engines.kafka.engine import KafkaEngine
from tests.support.server import Server


def test_connect_is_the_public_way_in_and_out(server: Server) -> None:
    async def work() -> None:
        async with mainstem.connect(server.address) as stream:
            (position,) = await stream.publish("public", [mainstem.NewEvent(b"hello", key=b"k")])
            reader = await stream.reader([position])
            result = await reader.read(wait_ms=10_000)
            await reader.close()
        assert [(event.key, event.value) for event in result.events] == [(b"k", b"hello")]

    asyncio.run(work())


def test_one_address_of_several_is_enough(server: Server) -> None:
    async def work() -> None:
        async with mainstem.connect(f"127.0.0.1:1,{server.address}") as stream:
            assert (await stream.cluster()).id

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
        async with mainstem.connect(server.address) as stream:
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
        async with mainstem.connect(server.address) as stream:
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
