"""Search, trace, export and replay on a real Apache Kafka, without an HTTP door, and through a console."""

from __future__ import annotations

import json
import random
from http.client import HTTPConnection
from pathlib import Path
from uuid import uuid4

import pytest

from tests.cli.conftest import CommandResult, Mainstem, command
from tests.cli.test_replay import replayed, start, written
from tests.support.console_process import console_process

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
ORDERS = 5_000


@pytest.fixture(scope="module")
def orders(real_kafka: str) -> str:
    """A topic of orders, and one with payments of every tenth order. Returns the prefix of their names."""
    name = f"cli-{uuid4().hex[:8]}"
    lines = "".join(f'{{"order":"o{number}","of":"k{number % 97}"}}\n' for number in range(ORDERS))
    paid = "".join(f'{{"paid":"o{number}"}}\n' for number in range(0, ORDERS, 10))
    for topic, key, rows in ((f"{name}-orders", "of", lines), (f"{name}-payments", "paid", paid)):
        assert command("topics", "create", topic, "--partitions", "4", address=real_kafka).code == 0
        assert command("produce", topic, "--key", key, stdin=rows, address=real_kafka).code == 0
    return name


@pytest.fixture
def mainstem(real_kafka: str) -> Mainstem:
    def run(*arguments: str, **more: str) -> CommandResult:
        return command(*arguments, address=real_kafka, **more)

    return run


def a_target(mainstem: Mainstem) -> str:
    name = f"again-{uuid4().hex[:8]}"
    assert mainstem("topics", "create", name, "--partitions", "3").code == 0
    return name


def test_events_are_found_counted_traced_and_exported(orders: str, mainstem: Mainstem) -> None:
    matches = mainstem("search", "order:o4710", "--topic", f"{orders}-*", "--json")
    assert matches.code == 0, matches.err
    (row,) = [json.loads(line) for line in matches.out.splitlines()]
    assert row["value"] == {"order": "o4710", "of": "k54"}
    counted = mainstem("search", "of:k7", "--topic", f"{orders}-orders", "--count")
    assert (counted.code, counted.out.strip()) == (0, str(len(range(7, ORDERS, 97))))
    traced = mainstem("trace", "o4710", "--topic", f"{orders}-*", "--json")
    assert traced.code == 0, traced.err
    assert {json.loads(line)["topic"] for line in traced.out.splitlines()} == {
        f"{orders}-orders",
        f"{orders}-payments",
    }
    exported = mainstem("export", "--topic", f"{orders}-orders")
    assert exported.code == 0, exported.err
    assert len(exported.out.splitlines()) == ORDERS
    assert mainstem("search", "nothing-has-this", "--topic", f"{orders}-*").code == 1
    bad = mainstem("search", "order:(", "--topic", f"{orders}-*")
    assert bad.code == 2
    assert bad.err.splitlines()[-1] == "         ^"


def test_kill_9_of_a_replay_loses_and_doubles_nothing(
    orders: str, mainstem: Mainstem, real_kafka: str
) -> None:
    chance = random.Random(9)
    to = a_target(mainstem)
    order = ("replay", "order:*", "--topic", f"{orders}-orders", "--to", to, "--job", "k9")
    breaks = 0
    while True:
        client = start(real_kafka, *order, "--rate", "1500", "--yes")
        until = written(real_kafka, to) + chance.randint(1, 2_500)
        while client.poll() is None and written(real_kafka, to) < until:
            pass
        if client.poll() is not None:
            assert client.poll() == 0
            break
        client.kill()
        client.wait()
        breaks += 1
    assert breaks >= 1
    counts = replayed(real_kafka, to)
    assert (len(counts), counts.total()) == (ORDERS, ORDERS)
    again = mainstem(*order, "--yes", "--json")
    assert json.loads(again.out)["published_before"] == ORDERS
    assert written(real_kafka, to) == ORDERS


def test_a_replay_killed_with_its_console_continues_in_the_next_one(
    orders: str, mainstem: Mainstem, real_kafka: str, tmp_path: Path
) -> None:
    to = a_target(mainstem)
    asked = {"matches": {"query": "order:*", "topics": [f"{orders}-orders"]}, "to": to, "job": "c9"}
    with console_process(real_kafka, tmp_path) as (process, http):
        host, _, port = http.rpartition(":")
        connection = HTTPConnection(host, int(port), timeout=60)
        connection.request("POST", "/api/v1/replay", json.dumps(asked | {"rate": 1_000}), JSON)
        reply = connection.getresponse()
        assert reply.status == 200
        while written(real_kafka, to) < 700:
            assert reply.readline()
        process.kill()
        process.wait()
        reply.close()
        connection.close()
    with console_process(real_kafka, tmp_path) as (_, http):
        host, _, port = http.rpartition(":")
        connection = HTTPConnection(host, int(port), timeout=120)
        connection.request("POST", "/api/v1/replay", json.dumps(asked | {"rate": 100_000}), JSON)
        last = connection.getresponse().read().splitlines()[-1]
        connection.close()
    assert json.loads(last)["published_before"] >= 700, last
    counts = replayed(real_kafka, to)
    assert (len(counts), counts.total()) == (ORDERS, ORDERS)


JSON = {"content-type": "application/json"}
