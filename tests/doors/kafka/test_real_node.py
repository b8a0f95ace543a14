"""The Kafka door on a real node: every offered key and version, and two real clients."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop

from mainstem.clock import LoopClock
from mainstem.doors.kafka.handlers import discover
from mainstem.doors.kafka.server import KafkaDoor
from mainstem.kafka_protocol.message import Message
from mainstem.kafka_protocol.schema import api
from mainstem.log.disk.real_disk import RealDisk
from mainstem.node import Node
from mainstem.settings import Settings
from tests.doors.kafka.access_kit import memory_access
from tests.doors.kafka.examples import KINDS, example
from tests.doors.kafka.kit import batch, decode_reply, fetch_request, produce_request, request_frame
from tests.support.listening import ListeningDoor

Work = Callable[[tuple[str, int]], Awaitable[None]]


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[tuple[str, int]]:
    loop = asyncio.get_running_loop()
    settings = Settings(data=str(folder))
    node = await Node.open(settings, RealDisk(str(folder), loop), LoopClock(loop), random.Random(7))
    access = dataclasses.replace(memory_access(), quotas=node.quotas)
    listening = ListeningDoor(KafkaDoor(node, access), node.clock)
    try:
        yield listening.address
    finally:
        await listening.close()
        await node.close()


def run(folder: Path, work: Work) -> None:
    async def body() -> None:
        async with serving(folder) as address:
            await work(address)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asyncio.wait_for(body(), 60))


class RawCaller:
    """One raw connection, with one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.number = 0

    @classmethod
    async def connect(cls, address: tuple[str, int]) -> RawCaller:
        return cls(*await asyncio.open_connection(*address))

    async def call(self, key: int, version: int, message: Message) -> Message:
        self.number += 1
        self.writer.write(request_frame(key, version, self.number, message))
        size = int.from_bytes(await self.reader.readexactly(4), "big")
        frame = memoryview(await self.reader.readexactly(size))
        assert int.from_bytes(frame[:4], "big") == self.number
        return decode_reply(key, version, frame)

    def close(self) -> None:
        self.writer.transport.abort()


PAIRS = [
    (key, version)
    for key, handler in sorted(discover().items())
    for version in range(handler.versions[0], handler.versions[1] + 1)
]


@pytest.mark.parametrize("kind", KINDS)
def test_every_key_and_version_offered_is_answered(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def work(address: tuple[str, int]) -> None:
        caller = await RawCaller.connect(address)
        for key, version in PAIRS:
            request = example(api(key).request.fields, version, kind)
            if key == 0:
                vars(request)["acks"] = 1  # acks=0 has no reply
            try:
                assert isinstance(await asyncio.wait_for(caller.call(key, version, request), 10), Message)
            except Exception as error:
                raise AssertionError(f"key {key} version {version}") from error
        caller.close()

    with caplog.at_level(logging.WARNING, "mainstem"):
        run(tmp_path, work)
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_topic_ids_from_metadata_work_in_produce_and_fetch(tmp_path: Path) -> None:
    async def work(address: tuple[str, int]) -> None:
        caller = await RawCaller.connect(address)
        (topic,) = (
            await caller.call(3, 13, Message(topics=[Message(name="t")], allow_auto_topic_creation=True))
        ).topics
        sent = batch(b"a", b"b")
        answer = await caller.call(0, 13, produce_request(topic.topic_id, sent))
        assert answer.responses[0].partition_responses[0].error_code == 0
        answer = await caller.call(1, 18, fetch_request((topic.topic_id, 0, 0)))
        assert bytes(answer.responses[0].partitions[0].records)[16:] == bytes(sent)[16:]
        caller.close()

    run(tmp_path, work)


def test_confluent_kafka_writes_and_reads(tmp_path: Path) -> None:
    from confluent_kafka import Consumer, Producer

    def client(address: str) -> list[bytes | None]:
        producer = Producer(
            {"bootstrap.servers": address, "enable.idempotence": True, "compression.type": "lz4"}
        )
        for n in range(100):
            producer.produce("t", b"%d" % n)
        assert producer.flush(20) == 0
        consumer = Consumer({"bootstrap.servers": address, "group.id": "g", "auto.offset.reset": "earliest"})
        consumer.subscribe(["t"])
        values: list[bytes | None] = []
        while len(values) < 100:
            message: Any = consumer.poll(10)
            assert message is not None
            assert message.error() is None
            values.append(message.value())
        consumer.close()
        return values

    async def work(address: tuple[str, int]) -> None:
        values = await asyncio.to_thread(client, f"{address[0]}:{address[1]}")
        assert values == [b"%d" % n for n in range(100)]

    run(tmp_path, work)


def test_an_event_that_was_acknowledged_with_acks_1_is_there_for_what_follows(tmp_path: Path) -> None:
    from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
    from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

    async def work(address: tuple[str, int]) -> None:
        server = f"{address[0]}:{address[1]}"
        partition = TopicPartition("t", 0)
        admin = AIOKafkaAdminClient(bootstrap_servers=server)
        await admin.start()
        async with (
            AIOKafkaProducer(bootstrap_servers=server, acks=1) as producer,
            AIOKafkaConsumer(bootstrap_servers=server) as consumer,
        ):
            for n in range(10):
                time = 1_000_000 * n
                sent = await producer.send_and_wait("t", b"x", timestamp_ms=time)
                assert (await consumer.end_offsets([partition]))[partition] == sent.offset + 1
                sent = await producer.send_and_wait("t", b"x", timestamp_ms=time + 1)
                by_time = (await consumer.offsets_for_times({partition: time + 1}))[partition]
                assert (by_time.offset, by_time.timestamp) == (sent.offset, time + 1)
                sent = await producer.send_and_wait("t", b"x", timestamp_ms=time + 2)
                await admin.delete_records({partition: RecordsToDelete(before_offset=sent.offset + 1)})
                assert (await consumer.beginning_offsets([partition]))[partition] == sent.offset + 1
        await admin.close()

    run(tmp_path, work)


def test_aiokafka_writes_and_reads(tmp_path: Path) -> None:
    from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

    async def work(address: tuple[str, int]) -> None:
        server = f"{address[0]}:{address[1]}"
        async with AIOKafkaProducer(bootstrap_servers=server, enable_idempotence=True) as producer:
            for n in range(100):
                await producer.send("t", b"%d" % n)
        values: list[bytes | None] = []
        async with AIOKafkaConsumer(
            "t", bootstrap_servers=server, group_id="g", auto_offset_reset="earliest"
        ) as consumer:
            while len(values) < 100:
                values.append((await asyncio.wait_for(consumer.getone(), 20)).value)
        assert values == [b"%d" % n for n in range(100)]

    run(tmp_path, work)
