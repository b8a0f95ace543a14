"""One event by all doors: what AMQP publishes is read with Kafka, HTTP and the search, and back."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pika
import pytest
from confluent_kafka import Consumer, Message, Producer, TopicPartition
from pika.adapters.blocking_connection import BlockingChannel

from mainstem.serve.server import Running
from tests.doors.amqp091.test_streams import run, with_channel

VALUE = b'{"flight": "LH 4711"}'
PROPERTIES = pika.BasicProperties(
    content_type="application/json", message_id="m-1", headers={"to": "Köln", "seats": 180}
)


def consume(address: str, topic: str) -> Message:
    """The first event of a topic."""
    consumer = Consumer({"bootstrap.servers": address, "group.id": "gates"})
    consumer.assign([TopicPartition(topic, 0, 0)])
    message = consumer.poll(30)
    consumer.close()
    assert message is not None
    assert message.error() is None
    return message


def produce(address: str) -> None:
    producer = Producer({"bootstrap.servers": address})
    headers = [("content-type", b"text/plain"), ("to", "Köln".encode()), ("raw", b"\xfe")]
    producer.produce("arrivals", value=b"by Kafka", key=b"gate-7", headers=headers)
    assert producer.flush(30) == 0


def published(channel: BlockingChannel) -> None:
    """Publish to an exchange, whose queue gets it, and to a topic."""
    channel.confirm_delivery()
    channel.exchange_declare("flights", "topic", durable=True)
    channel.queue_declare("work", durable=True)
    channel.queue_bind("work", "flights", "departed.#")
    for exchange in ("flights", "kafka.departures"):
        channel.basic_publish(exchange, "departed.FRA", VALUE, PROPERTIES)
    method, properties, body = channel.basic_get("work", auto_ack=True)
    assert method is not None
    assert (method.exchange, body, properties.headers) == ("flights", VALUE, PROPERTIES.headers)
    arguments = {"x-mainstem-topic": "arrivals", "x-mainstem-from": "first"}
    channel.queue_declare("gates", durable=True, arguments=arguments)


def received(channel: BlockingChannel, count: int) -> dict[bytes, tuple[str, str, Any]]:
    """Messages of the queue of the topic: body -> exchange, routing key, properties."""
    messages: dict[bytes, tuple[str, str, Any]] = {}
    channel.basic_qos(prefetch_count=10)
    for method, properties, body in channel.consume("gates"):
        messages[body] = (method.exchange, method.routing_key, properties)
        channel.basic_ack(method.delivery_tag)
        if len(messages) == count:
            break
    channel.cancel()
    return messages


@pytest.mark.slow  # it starts Kafka's clients
def test_one_event_by_all_doors(tmp_path: Path) -> None:
    async def scenario(running: Running) -> None:
        kafka, http = (str(running.addresses[name][0]) for name in ("kafka", "http"))
        for topic in ("departures", "arrivals"):
            await running.engine.create_topic(topic, partitions=1)
        await with_channel(running, published)
        async with httpx.AsyncClient(base_url=f"http://{http}/api/v1", timeout=30) as client:
            for topic in ("amqp.flights", "departures"):
                record = await asyncio.to_thread(consume, kafka, topic)
                assert (record.key(), record.value()) == (b"departed.FRA", VALUE)
                headers = dict(record.headers() or ())
                assert (headers["content-type"], headers["message-id"]) == (b"application/json", b"m-1")
                assert (headers["to"], headers["seats"]) == ("Köln".encode(), b"180")
                page = (await client.get(f"topics/{topic}/partitions/0/events?offset=0")).json()
                assert page["events"][0]["value"] == {"flight": "LH 4711"}
                search = {"query": 'flight:"LH 4711" header.to:Köln', "topics": [topic]}
                lines = (await client.post("search", json=search)).text.splitlines()
                assert sum("hit" in json.loads(line) for line in lines) == 1, lines

            await asyncio.to_thread(produce, kafka)
            event = {"value": "by HTTP", "key": "gate-8", "headers": [{"name": "priority", "value": "7"}]}
            assert (await client.post("topics/arrivals/events", json=event)).status_code == 200
        messages = await with_channel(running, lambda channel: received(channel, 2))
        exchange, key, properties = messages[b"by Kafka"]
        assert (exchange, key, properties.content_type) == ("kafka.arrivals", "gate-7", "text/plain")
        assert properties.headers["to"] == "Köln"
        assert "raw" in properties.headers
        exchange, key, properties = messages[b"by HTTP"]
        assert (exchange, key, properties.priority) == ("kafka.arrivals", "gate-8", 7)

    run(tmp_path / "data", scenario)
