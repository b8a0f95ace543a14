"""A real Kafka client for tests of real faults: it writes, reads, commits, and remembers what was
acknowledged."""

from __future__ import annotations

import time
from collections.abc import Callable

from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

WAIT_S = 40.0
QUIET = {"log_level": 0}


def wait_for(what: Callable[[], bool], why: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not what():
        assert time.monotonic() < deadline, why
        time.sleep(0.05)


class AcknowledgedClient:
    """A client of which every call ends within WAIT_S, successful or not."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.admin = AdminClient({"bootstrap.servers": address, **QUIET})
        self.acknowledged: list[tuple[int, bytes]] = []
        self.refusals: list[KafkaError] = []

    def create(self, *names: str) -> None:
        for made in self.admin.create_topics([NewTopic(name, 1, 1) for name in names]).values():
            made.result(WAIT_S)

    def producer(self, timeout_ms: int) -> Producer:
        return Producer(
            {"bootstrap.servers": self.address, "acks": "all", "message.timeout.ms": timeout_ms, **QUIET}
        )

    def answered(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self.refusals.append(error)
            return
        offset, value = message.offset(), message.value()
        assert offset is not None
        assert value is not None
        self.acknowledged.append((offset, value))

    def write(self, topic: str, count: int, size: int, timeout_ms: int = 30_000) -> None:
        producer = self.producer(timeout_ms)
        for number in range(count):
            producer.produce(topic, f"{number} ".encode() + bytes(size), on_delivery=self.answered)
            producer.poll(0)
        producer.flush(WAIT_S)

    def read(self, topic: str) -> list[tuple[int, bytes]]:
        consumer = Consumer(
            {"bootstrap.servers": self.address, "group.id": "judge", "enable.partition.eof": True, **QUIET}
        )
        consumer.assign([TopicPartition(topic, 0, 0)])
        events: list[tuple[int, bytes]] = []
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            message = consumer.poll(1.0)
            if message is not None and message.error() is not None:
                break
            if message is not None:
                offset, value = message.offset(), message.value()
                assert offset is not None
                assert value is not None
                events.append((offset, value))
        consumer.close()
        return events

    def commit(self, topic: str, offset: int) -> int:
        """Commit and ask: what the server then says."""
        consumer = Consumer({"bootstrap.servers": self.address, "group.id": "billing", **QUIET})
        try:
            consumer.commit(offsets=[TopicPartition(topic, 0, offset)], asynchronous=False)
            (committed,) = consumer.committed([TopicPartition(topic, 0)], timeout=WAIT_S)
            return int(committed.offset)
        finally:
            consumer.close()

    def lost(self, topic: str) -> list[int]:
        """Offsets of acknowledged events that are not there any more, or are others."""
        events = dict(self.read(topic))
        return [offset for offset, value in self.acknowledged if events.get(offset) != value]
