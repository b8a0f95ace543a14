"""It runs on real input: a year of departures, two services, a third one that comes later, sudden deaths,
retention.

The sample of 10,000 runs in `make test`; all 336,776 with the slow tests (dependency group `scenarios`).
"""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer
from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from tests.faults.ack_checker import Ledger, LedgerEvent, Partition
from tests.scenarios import flights
from tests.support.server import Server

TOPIC = "flights"
JUNE_MS = 1_370_044_800_000  # 2013-06-01T00:00:00Z
QUIET = {"log_level": 0}
PATIENCE_S = 45.0

Events = dict[Partition, list[tuple[int, bytes]]]
"""For each partition, (offset, payload) in the order in which they came."""


@dataclass(frozen=True)
class Size:
    """How large a run is."""

    partitions: int
    segment_bytes: int
    retention_bytes: int


SAMPLE = Size(partitions=2, segment_bytes=1 << 20, retention_bytes=400_000)
WHOLE = Size(partitions=3, segment_bytes=8 << 20, retention_bytes=10 << 20)


def key_of(line: bytes) -> bytes:
    """The aircraft."""
    start = line.index(b'"tailnum":"') + len(b'"tailnum":"')
    return line[start : line.index(b'"', start)]


def partition_of(line: bytes, size: Size) -> int:
    """As librdkafka's `consistent` partitioner: all events of an aircraft are in one partition."""
    return zlib.crc32(key_of(line)) % size.partitions


class Airport:
    """The producing service: sends lines in order and remembers what was acknowledged."""

    def __init__(self, address: str, lines: list[bytes], size: Size) -> None:
        self.ledger = Ledger()
        self.lines = lines
        self.size = size
        self.number_of = {line: number for number, line in enumerate(lines)}
        assert len(self.number_of) == len(lines), "two flights with the same payload"
        self.acknowledged = 0
        self._producer = Producer(
            {
                "bootstrap.servers": address,
                "enable.idempotence": True,
                "linger.ms": 5,
                "reconnect.backoff.max.ms": 250,
                **QUIET,
            }
        )

    def event(self, line: bytes) -> LedgerEvent:
        """How the ledger knows a line."""
        return LedgerEvent.of("airport", self.number_of[line], line)

    def send(self, first: int, last: int, on_progress: Callable[[int], None] = lambda _: None) -> None:
        """Send lines[first:last] and wait for every answer. `on_progress` gets the number sent so far."""
        for number in range(first, last):
            line = self.lines[number]
            where = (TOPIC, partition_of(line, self.size))
            self.ledger.sent(where, self.event(line))
            while True:
                try:
                    self._producer.produce(
                        TOPIC,
                        line,
                        key_of(line),
                        where[1],
                        on_delivery=self._answered,
                        timestamp=flights.time_ms(line),
                    )
                    break
                except BufferError:
                    self._producer.poll(0.1)
            if number % 500 == 0:
                self._producer.poll(0)
                on_progress(number)
        assert self._producer.flush(PATIENCE_S) == 0

    def _answered(self, error: KafkaError | None, message: Message) -> None:
        assert error is None, error
        offset, partition, line = message.offset(), message.partition(), message.value()
        assert offset is not None
        assert partition is not None
        assert line is not None
        self.ledger.acknowledged((TOPIC, partition), offset, self.event(line))
        self.acknowledged += 1


def board(address: str, count: int) -> Events:
    """A service on confluent-kafka, group `board`: reads `count` events, then leaves, remembering its
    place."""
    consumer = Consumer(
        {
            "bootstrap.servers": address,
            "group.id": "board",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            **QUIET,
        }
    )
    consumer.subscribe([TOPIC])
    seen = _consume(consumer, lambda events, _: sum(map(len, events.values())) >= count)
    consumer.commit(asynchronous=False)
    consumer.close()
    return seen


async def delays(address: str, count: int) -> Events:
    """A service on aiokafka, group `delays`: the same, with another client library."""
    consumer = AIOKafkaConsumer(
        TOPIC,
        bootstrap_servers=address,
        group_id="delays",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    await consumer.start()
    seen: Events = {}
    try:
        async with asyncio.timeout(PATIENCE_S):
            while sum(map(len, seen.values())) < count:
                for where, events in (await consumer.getmany(timeout_ms=200)).items():
                    values = seen.setdefault((where.topic, where.partition), [])
                    values += [(event.offset, event.value) for event in events]
        await consumer.commit()
    finally:
        await consumer.stop()
    return seen


def replay(address: str, size: Size, start_ms: int | None) -> Events:
    """A service that comes later: everything from a time on, or from the log start, without a group."""
    consumer = Consumer(
        {
            "bootstrap.servers": address,
            "group.id": "unused",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            **QUIET,
        }
    )
    places = [TopicPartition(TOPIC, number, start_ms or 0) for number in range(size.partitions)]
    if start_ms is not None:
        places = consumer.offsets_for_times(places, timeout=PATIENCE_S)
    else:
        places = [
            TopicPartition(
                TOPIC, place.partition, consumer.get_watermark_offsets(place, timeout=PATIENCE_S)[0]
            )
            for place in places
        ]
    consumer.assign(places)
    seen = _consume(consumer, lambda _, ends: ends == size.partitions)
    consumer.close()
    return seen


def _consume(consumer: Consumer, enough: Callable[[Events, int], bool]) -> Events:
    seen: Events = {}
    ends = 0
    deadline = time.monotonic() + PATIENCE_S
    while not enough(seen, ends):
        assert time.monotonic() < deadline, f"waiting for more than {sum(map(len, seen.values()))} events"
        for message in consumer.consume(2000, timeout=0.3):
            error = message.error()
            if error is not None:
                assert error.code() == KafkaError._PARTITION_EOF, error
                ends += 1
                continue
            topic, partition, offset, value = (
                message.topic(),
                message.partition(),
                message.offset(),
                message.value(),
            )
            assert topic is not None
            assert partition is not None
            assert offset is not None
            assert value is not None
            seen.setdefault((topic, partition), []).append((offset, value))
    return seen


def payloads(events: Events) -> list[bytes]:
    """All payloads, sorted."""
    return sorted(value for partition_events in events.values() for _, value in partition_events)


def keep_only(address: str, size: Size) -> None:
    """Retention by size, from now on."""
    change = ConfigEntry(
        "retention.bytes", str(size.retention_bytes), incremental_operation=AlterConfigOpType.SET
    )
    resource = ConfigResource(ResourceType.TOPIC, TOPIC, incremental_configs=[change])
    admin = AdminClient({"bootstrap.servers": address, **QUIET})
    admin.incremental_alter_configs([resource])[resource].result(PATIENCE_S)


def wait_for_log_starts(address: str, size: Size) -> dict[Partition, int]:
    """Until retention has moved the log start of every partition."""
    consumer = Consumer({"bootstrap.servers": address, "group.id": "unused", **QUIET})
    deadline = time.monotonic() + PATIENCE_S
    while True:
        starts = {
            (TOPIC, number): consumer.get_watermark_offsets(
                TopicPartition(TOPIC, number), timeout=PATIENCE_S
            )[0]
            for number in range(size.partitions)
        }
        if all(starts.values()):
            consumer.close()
            return starts
        assert time.monotonic() < deadline, f"retention drops nothing: {starts}"
        time.sleep(0.1)


def run(folder: Path, lines: list[bytes], size: Size) -> None:
    """The whole story; the last 500 events are kept for its end."""
    first = len(lines) - 500
    deaths = {first // 3 // 500 * 500, first * 2 // 3 // 500 * 500}
    with Server(folder / "data", log_retention_check_interval_ms=200, log_level="warning") as server:
        admin = AdminClient({"bootstrap.servers": server.address, **QUIET})
        topic = NewTopic(TOPIC, size.partitions, 1, config={"segment.bytes": str(size.segment_bytes)})
        admin.create_topics([topic])[TOPIC].result(PATIENCE_S)
        airport = Airport(server.address, lines, size)

        def die(sent: int) -> None:
            if sent in deaths:
                server.restart(kill=True)

        airport.send(0, first, on_progress=die)
        assert airport.acknowledged == first

        everything = replay(server.address, size, None)
        there = {
            where: [(offset, airport.event(line)) for offset, line in events]
            for where, events in everything.items()
        }
        assert airport.ledger.judge(there) == []
        assert payloads(everything) == sorted(lines[:first])

        assert board(server.address, first) == everything
        assert asyncio.run(delays(server.address, first)) == everything

        late = replay(server.address, size, JUNE_MS)
        assert payloads(late) == sorted(line for line in lines[:first] if flights.time_ms(line) >= JUNE_MS)

        keep_only(server.address, size)
        starts = wait_for_log_starts(server.address, size)
        replayed = replay(server.address, size, None)
        for where, events in replayed.items():
            assert events[0][0] >= starts[where]
            assert events == [(offset, line) for offset, line in everything[where] if offset >= events[0][0]]

        airport.send(first, len(lines))
        assert payloads(board(server.address, 500)) == sorted(lines[first:])
        assert payloads(asyncio.run(delays(server.address, 500))) == sorted(lines[first:])
        assert server.stop() == 0


@pytest.mark.slow
def test_a_sample_of_the_flights(tmp_path: Path) -> None:
    run(tmp_path, flights.sample(), SAMPLE)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_all_flights(tmp_path: Path) -> None:
    lines = flights.whole()
    assert len(lines) == flights.WHOLE_EVENTS
    assert flights.thin(lines) == flights.sample()
    run(tmp_path, lines, WHOLE)
