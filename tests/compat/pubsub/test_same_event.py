"""The same event through Google's client for Pub/Sub, a Kafka client, HTTP and search, in both directions."""

from __future__ import annotations

import base64
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from tests.compat.pubsub.mainstem_server import pubsub_address, pubsub_server
from tests.compat.pubsub.suites import PYTHON, environment
from tests.support.server import Server

ORDER = '{"order": 4711, "shop": "grüße"}'
ATTRIBUTES = {"kind": "order", "größe": "XL", "empty": ""}
TOPIC, SUBSCRIPTION = "projects/mainstem/topics/orders", "projects/mainstem/subscriptions/billing"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    if not PYTHON.exists() and os.environ.get("CI"):
        pytest.fail("Google's Python client is missing: make deps-all")
    if not PYTHON.exists():
        pytest.skip("Google's Python client is missing: make deps-all")
    with pubsub_server(tmp_path).start() as running:
        yield running


def google(server: Server, action: str) -> dict[str, Any]:
    """What clients/one_event.py prints."""
    command = [str(PYTHON), "-m", "tests.compat.pubsub.clients.one_event", action, TOPIC, SUBSCRIPTION]
    environ = {**os.environ, **environment(pubsub_address(server), server.data.parent)}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def by_kafka(server: Server, partition: int, offset: int) -> Any:
    """The record."""
    consumer = Consumer({"bootstrap.servers": server.address, "group.id": "audit"})
    try:
        consumer.assign([TopicPartition("orders", partition, offset)])
        message = consumer.poll(30)
        assert message is not None, "no record came"
        assert message.error() is None
        return message
    finally:
        consumer.close()


@pytest.mark.slow
def test_what_googles_client_publishes_is_read_by_kafka_http_and_the_search(server: Server) -> None:
    number = int(google(server, "publish")["id"])
    offset, partition = divmod(number, 1 << 16)
    record = by_kafka(server, partition, offset)
    assert (record.value(), record.key()) == (ORDER.encode(), b"customer-7")
    assert dict(record.headers()) == {name: value.encode() for name, value in ATTRIBUTES.items()}
    with httpx.Client(base_url=f"http://{server.http}", timeout=30, trust_env=False) as http:
        path = f"/api/v1/topics/orders/partitions/{partition}/events"
        (event,) = http.get(path, params={"offset": offset, "limit": 1}).json()["events"]
        assert (event["value"], event["key"]) == (json.loads(ORDER), "customer-7")
        assert {header["name"]: header["value"] for header in event["headers"]} == ATTRIBUTES
        for query in ("4711", "order:4711", "header.kind:order", 'shop:"grüße"'):
            lines = http.post("/api/v1/search", json={"query": query, "topics": ["orders"]}).text.splitlines()
            hits = [item["hit"] for line in lines if "hit" in (item := json.loads(line))]
            assert [(hit["partition"], hit["offset"]) for hit in hits] == [(partition, offset)], query
    message = google(server, "receive")
    assert (message["data"], message["attributes"], message["id"]) == (ORDER, ATTRIBUTES, str(number))
    assert (message["ordering_key"], message["time_ms"]) == ("customer-7", record.timestamp()[1])


@pytest.mark.slow
def test_what_a_kafka_client_writes_reaches_googles_client_whatever_its_bytes(server: Server) -> None:
    google(server, "publish")
    google(server, "receive")
    producer = Producer({"bootstrap.servers": server.address})
    headers = [("kind", b"refund"), ("kind", b"order"), ("trace", b"\xff\x00"), ("none", None)]
    producer.produce("orders", ORDER.encode(), key=b"\xff\xfe", headers=headers)
    assert producer.flush(30) == 0
    message = google(server, "receive")
    assert (message["data"], message["ordering_key"]) == (ORDER, "")
    assert message["attributes"] == {
        "kind": "order",
        "trace-bin": base64.b64encode(b"\xff\x00").decode(),
        "none": "",
        "mainstem-key": base64.b64encode(b"\xff\xfe").decode(),
    }


@pytest.mark.slow
def test_the_first_stream_of_the_page_runs_as_it_is_written(server: Server) -> None:
    folder = server.data.parent
    page = (Path(__file__).parents[3] / "docs" / "PUBSUB.md").read_text()
    (code,) = re.findall(r'^```python title="first\.py"\n(.*?)^```', page, re.DOTALL | re.MULTILINE)
    (folder / "first.py").write_text(code)
    variables = {**os.environ, **environment(pubsub_address(server), folder), "MAINSTEM_AT": server.address}
    commands = page.partition("first.py\n")[2].partition("```")[0].splitlines()
    assert len(commands) == 3
    printed = []
    for command in [
        [str(PYTHON), "first.py"],
        *([sys.executable, "-m", *shlex.split(line)] for line in commands),
    ]:
        done = subprocess.run(
            command, cwd=folder, env=variables, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr[-4000:]
        printed.append(done.stdout)
    assert sorted(printed[0].splitlines()) == [f'bill {{"id": {number}}} ann' for number in range(3)]
    assert [len(output.splitlines()) for output in printed[1:3]] == [3, 3]
    assert "counter\tbilling\tdelivered\t3\n" in printed[3]
    assert "counter\tbilling\tacked\t3\n" in printed[3]
