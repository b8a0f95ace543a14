"""`mainstem pubsub seed`: what it makes by the Pub/Sub door of a server, and what it refuses."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from mainstem.cli import run
from tests.support.server import Server

SEED = {
    "schemas": [{"name": "flight", "type": "AVRO", "definition": {"type": "string"}}],
    "topics": [
        "dead",
        {"name": "flights", "labels": {"team": "gates"}},
        {"name": "typed", "schemaSettings": {"schema": "flight", "encoding": "JSON"}},
        "projects/other/topics/flights",
    ],
    "subscriptions": [
        {
            "name": "gates",
            "topic": "flights",
            "deadLetterPolicy": {"deadLetterTopic": "dead", "maxDeliveryAttempts": 7},
        }
    ],
}


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """HOST:PORT of the Pub/Sub door of a server."""
    folder = tmp_path_factory.mktemp("seed") / "data"
    with Server(folder, doors="kafka,pubsub", pubsub="127.0.0.1:0") as server:
        yield re.findall(r"  pubsub=(\S+)", server.ready_line)[0]


def seed(tmp_path: Path, door: str, document: object, *options: str) -> int:
    file = tmp_path / "seed.json"
    file.write_text(json.dumps(document))
    return run(["pubsub", "seed", str(file), "--at", door, *options])


def get(door: str, path: str) -> Any:
    connection = HTTPConnection(door)
    connection.request("GET", path)
    response = json.loads(connection.getresponse().read())
    connection.close()
    return response


def test_a_file_is_made_once(door: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [
        ("schemas", "projects/air/schemas/flight"),
        ("topics", "projects/air/topics/dead"),
        ("topics", "projects/air/topics/flights"),
        ("topics", "projects/air/topics/typed"),
        ("topics", "projects/other/topics/flights"),
        ("subscriptions", "projects/air/subscriptions/gates"),
    ]
    for outcome in ("created", "exists"):
        assert seed(tmp_path, door, SEED, "--project", "air") == 0
        assert capsys.readouterr().out == "".join(f"{part}\t{name}\t{outcome}\n" for part, name in names)
    subscription = get(door, "/v1/projects/air/subscriptions/gates")
    assert subscription["topic"] == "projects/air/topics/flights"
    assert subscription["deadLetterPolicy"] == {
        "deadLetterTopic": "projects/air/topics/dead",
        "maxDeliveryAttempts": 7,
    }
    topic = get(door, "/v1/projects/air/topics/typed")
    assert topic["schemaSettings"]["schema"] == "projects/air/schemas/flight"
    assert seed(tmp_path, door, {"topics": ["abc"]}, "--json") == 0
    assert json.loads(capsys.readouterr().out) == {
        "kind": "topics",
        "name": "projects/mainstem/topics/abc",
        "outcome": "created",
    }


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ({"subscriptions": [{"name": "s-1", "topic": "nothing"}]}, "not found"),
        (
            {
                "topics": ["t-1"],
                "subscriptions": [{"name": "s-1", "topic": "t-1", "ackDeadlineSeconds": 5}],
            },
            "Invalid ack deadline",
        ),
        ({"topics": ["1"]}, "Invalid resource name"),
        ({"topics": [{"labels": {}}]}, "has no name"),
        ({"subscriptions": ["s-1"]}, 'an item of subscriptions has no topic: "s-1"'),
        ({"schemas": [{"name": "s-1", "type": "AVRO"}]}, "an item of schemas has no definition"),
        ({"topics": "flights"}, "is no list"),
        ({"queues": []}, "is no object with the lists"),
        ([], "is no object with the lists"),
    ],
)
def test_what_cannot_be_made_is_named(
    door: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], document: object, says: str
) -> None:
    assert seed(tmp_path, door, document) != 0
    assert says in capsys.readouterr().err


def test_no_server_and_no_address(door: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert seed(tmp_path, "127.0.0.1:1", SEED) == 3
    assert "cannot connect" in capsys.readouterr().err
    assert seed(tmp_path, "nowhere", SEED) != 0
    assert "is no address" in capsys.readouterr().err
