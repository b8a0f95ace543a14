"""FastStream's hello world against a server: `python -m tests.compat.faststream.suite ADDRESS [CASE…]`."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition

from tests.compat.cases import Address, case, main, same


def _registered() -> list[str]:
    client = Consumer({"bootstrap.servers": Address.value, "group.id": "suite"})
    client.assign([TopicPartition("out-topic", 0, OFFSET_BEGINNING)])
    messages: list[Any] = client.consume(10, 1.0)
    client.close()
    return [message.value().decode().strip('"') for message in messages if not message.error()]


def _hello(kind: str) -> None:
    """The program answers each message. Its subscriber starts at the end: send until it answers."""
    program = subprocess.Popen([sys.executable, "-m", "tests.compat.faststream.hello", Address.value, kind])
    producer = Producer({"bootstrap.servers": Address.value})
    try:
        expected = f"User: {len(kind)} - {kind} registered"
        deadline = time.monotonic() + 40
        while expected not in _registered():
            same(program.poll(), None, "the program runs")
            same(time.monotonic() < deadline, True, "answered within 40 s")
            producer.produce("in-topic", json.dumps({"user": kind, "user_id": len(kind)}))
            producer.flush(10)
    finally:
        program.terminate()
        same(program.wait(20), 0, "exit code after SIGTERM")


@case("hello-world-aiokafka")
def _aiokafka() -> None:
    _hello("kafka")


@case("hello-world-confluent")
def _confluent() -> None:
    _hello("confluent")


if __name__ == "__main__":
    main()
