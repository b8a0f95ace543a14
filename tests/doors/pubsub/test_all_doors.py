"""One event by all doors: what Pub/Sub publishes is read with Kafka, HTTP and the search, and back."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from pathlib import Path
from typing import Any

import httpx
import pytest
from confluent_kafka import Consumer, Message, Producer, TopicPartition

from mainstem.pubsub.events import place_of
from mainstem.serve.server import Running
from tests.doors.pubsub.test_rest import NAME, TOPIC, succeed, with_client

VALUE = b'{"flight": "LH 4711"}'


def consume(address: str, partition: int, offset: int) -> Message:
    consumer = Consumer({"bootstrap.servers": address, "group.id": "gates"})
    consumer.assign([TopicPartition("flights", partition, offset)])
    message = consumer.poll(30)
    consumer.close()
    assert message is not None
    assert message.error() is None
    return message


def produce(address: str, **fields: Any) -> None:
    producer = Producer({"bootstrap.servers": address})
    producer.produce("flights", **fields)
    assert producer.flush(30) == 0


async def pull_all(client: httpx.AsyncClient, count: int) -> dict[str, dict[str, Any]]:
    """Messages by their ids."""
    messages: dict[str, dict[str, Any]] = {}
    while len(messages) < count:
        pulled = await succeed(client, "POST", f"{NAME}:pull", {"maxMessages": 10})
        for received in pulled.get("receivedMessages", ()):
            messages[received["message"].pop("messageId")] = received["message"]
            assert received["message"].pop("publishTime")
    return messages


@pytest.mark.slow  # it starts Kafka's clients
def test_one_event_by_all_doors(tmp_path: Path) -> None:
    async def scenario(running: Running, client: httpx.AsyncClient) -> None:
        kafka, http = (str(running.addresses[name][0]) for name in ("kafka", "http"))
        await succeed(client, "PUT", TOPIC)
        await succeed(client, "PUT", NAME, {"topic": TOPIC.removeprefix("/v1/")})
        message = {
            "data": b64encode(VALUE).decode(),
            "attributes": {"to": "Köln", "mainstem-note": "x"},
            "orderingKey": "gate-7",
        }
        answer = await succeed(client, "POST", f"{TOPIC}:publish", {"messages": [message]})
        partition, offset = place_of(answer["messageIds"][0])

        record = await asyncio.to_thread(consume, kafka, partition, offset)
        assert (record.key(), record.value()) == (b"gate-7", VALUE)
        assert record.headers() == [("user.mainstem-note", b"x"), ("to", "Köln".encode())]
        url = f"http://{http}/api/v1/topics/flights"
        page = (await client.get(f"{url}/partitions/{partition}/events?offset={offset}")).json()
        assert page["events"][0]["value"] == {"flight": "LH 4711"}
        search = {"query": 'flight:"LH 4711" header.to:Köln', "topics": ["flights"]}
        lines = (await client.post(f"http://{http}/api/v1/search", json=search)).text.splitlines()
        assert sum("hit" in json.loads(line) for line in lines) == 1, lines

        headers = [("raw", b"\xfe"), ("none", None), ("twice", b"1"), ("twice", b"2")]
        await asyncio.to_thread(produce, kafka, key=b"\xff", value=None, headers=headers)
        published = {"value": "LH 8", "key": "gate-7", "headers": [{"name": "to", "value": "Bonn"}]}
        assert (await client.post(f"{url}/events", json=published)).status_code == 200
        messages = await pull_all(client, 3)
        assert messages.pop(answer["messageIds"][0]) == message
        from_kafka, from_http = sorted(messages.values(), key=lambda item: "orderingKey" in item)
        assert from_kafka["attributes"] == {
            "raw-bin": "/g==",
            "none": "",
            "twice": "2",
            "mainstem-key": "/w==",
        }
        assert (from_http["orderingKey"], from_http["attributes"]) == ("gate-7", {"to": "Bonn"})

    with_client(tmp_path, scenario)
