"""What the cases of confluent-kafka (librdkafka) are made of: clients, topics, sending and reading."""

from __future__ import annotations

import time
from functools import cache
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

from tests.compat.cases import Address, fresh, librdkafka_login, same

WAIT = 20.0
HOUR_MS = 3_600_000


@cache
def admin() -> AdminClient:
    """The one admin client: its futures fail when it is collected before they are done."""
    return AdminClient({"bootstrap.servers": Address.value, **librdkafka_login()})


def done(futures: dict[Any, Any]) -> list[Any]:
    """The results of an admin call, in order."""
    return [future.result(WAIT) for future in futures.values()]


def topic(prefix: str, partitions: int = 1, config: dict[str, str] | None = None) -> str:
    name = fresh(prefix)
    done(admin().create_topics([NewTopic(name, partitions, 1, config=config or {})]))
    return name


def producer(**config: Any) -> Producer:
    return Producer({"bootstrap.servers": Address.value, **librdkafka_login(), "linger.ms": 5} | config)


def consumer(group: str | None = None, config: dict[str, Any] | None = None) -> Consumer:
    base = {"bootstrap.servers": Address.value, "group.id": group or fresh("g"), **librdkafka_login()}
    return Consumer(base | {"auto.offset.reset": "earliest", "enable.auto.commit": False} | (config or {}))


def send(name: str, values: list[Any], config: dict[str, Any] | None = None, **fields: Any) -> list[Message]:
    """Produce the values and wait for the acknowledgements; returns the delivered messages."""
    reports: list[Message] = []
    failures: list[Any] = []

    def report(error: Any, message: Message) -> None:
        (failures if error else reports).append(error or message)

    client = producer(**(config or {}))
    for value in values:
        client.produce(name, value, on_delivery=report, **fields)
    same(client.flush(WAIT), 0, "messages left after flush")
    same(failures, [], "delivery errors")
    return reports


def take(client: Consumer, count: int, seconds: float = WAIT) -> list[Message]:
    """Exactly `count` messages."""
    messages: list[Message] = []
    deadline = time.monotonic() + seconds
    while len(messages) < count and time.monotonic() < deadline:
        for message in client.consume(count - len(messages), 0.2):
            if message.error():
                raise KafkaException(message.error())
            messages.append(message)
    same(len(messages), count, "messages read")
    return messages


def read(name: str, count: int, partition: int = 0, offset: int = OFFSET_BEGINNING) -> list[Message]:
    client = consumer()
    client.assign([TopicPartition(name, partition, offset)])
    messages = take(client, count)
    client.close()
    return messages


def admin_offset(name: str, spec: OffsetSpec) -> int:
    offset: int = done(admin().list_offsets({TopicPartition(name, 0): spec}))[0].offset
    return offset
