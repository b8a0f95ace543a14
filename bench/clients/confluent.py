"""The second client for Kafka's protocol: librdkafka by confluent-kafka, as applications use it."""

from __future__ import annotations

import time

from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition

from bench.clients.program import Result, main, payload


def produce(address: str, topic: str, *, total: int, record_bytes: int = 1024) -> Result:
    """`total` bytes, record by record, acks=all, librdkafka's defaults but for a larger queue."""
    refused: list[KafkaError] = []

    def on_delivery(error: KafkaError | None, message: Message) -> None:
        if error is not None:
            refused.append(error)

    producer = Producer(
        {
            "bootstrap.servers": address,
            "acks": "all",
            "queue.buffering.max.messages": 1_000_000,
            "on_delivery": on_delivery,
        }
    )
    value = payload(record_bytes)
    count = total // record_bytes
    began = time.perf_counter()
    for number in range(count):
        while True:
            try:
                producer.produce(topic, value)
                break
            except BufferError:
                producer.poll(0.01)
        if number % 1000 == 0:
            producer.poll(0)
    producer.flush(120)
    seconds = time.perf_counter() - began
    if refused:
        raise RuntimeError(f"{len(refused)} were not delivered: {refused[0]}")
    return {"seconds": seconds, "bytes": count * record_bytes}


def fetch(address: str, topic: str, *, total: int, record_bytes: int = 1024) -> Result:
    """Read `total` bytes from the start of partition 0, 1,000 messages a call."""
    consumer = Consumer({"bootstrap.servers": address, "group.id": "bench", "enable.auto.commit": False})
    consumer.assign([TopicPartition(topic, 0, 0)])
    read = 0
    deadline = time.monotonic() + 120
    began = time.perf_counter()
    while read < total // record_bytes:
        read += len(consumer.consume(1000, 1.0))
        if time.monotonic() > deadline:
            raise RuntimeError(f"only {read} records were received in two minutes")
    seconds = time.perf_counter() - began
    consumer.close()
    return {"seconds": seconds, "bytes": read * record_bytes}


if __name__ == "__main__":
    main({"produce": produce, "fetch": fetch})
