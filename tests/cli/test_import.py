"""`mainstem import rabbitmq`, on a server with the management door and on one without it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from mainstem.cli import run
from tests.support.server import Server

DEFINITIONS = {
    "rabbitmq_version": "3.13.7",
    "users": [{"name": "alice", "password_hash": "kI3GCqW5"}],
    "vhosts": [{"name": "/"}, {"name": "shop"}],
    "queues": [{"name": "billing", "vhost": "shop", "durable": True, "auto_delete": False, "arguments": {}}],
    "exchanges": [{"name": "orders", "vhost": "shop", "type": "topic", "durable": True}],
    "bindings": [
        {
            "source": "orders",
            "vhost": "shop",
            "destination": "billing",
            "destination_type": "queue",
            "routing_key": "orders.#",
        }
    ],
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("import") / "data"
    with Server(folder, http="127.0.0.1:0", rabbitmq_management="127.0.0.1:0") as running:
        yield running


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "definitions.json"
    path.write_text(json.dumps(DEFINITIONS))
    return path


def test_what_is_taken_and_what_is_skipped(
    server: Server, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = ("--at", f"http://{server.http}")
    rows = "vhosts\t2\t0\nqueues\t1\t0\nexchanges\t1\t0\nbindings\t1\t0\nusers\t0\t1\n"
    for options in (("--dry-run", *place), place, place):
        assert run(["import", "rabbitmq", str(file), *options]) == 4
        printed = capsys.readouterr()
        assert printed.out == rows
        assert printed.err.startswith("mainstem: skipped users alice: the hash of a password has 6 bytes")
    assert run(["import", "rabbitmq", str(file), "--json", *place]) == 4
    assert json.loads(capsys.readouterr().out)["taken"]["bindings"] == 1


def test_an_item_that_makes_no_sense_ends_it(
    server: Server, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = ("--at", f"http://{server.http}")
    file.write_text(json.dumps({"queues": [{"name": "billing", "vhost": "nowhere"}]}))
    assert run(["import", "rabbitmq", str(file), *place]) == 1
    assert "no_such_vhost" in capsys.readouterr().err
    for text in ("{", "[]"):
        file.write_text(text)
        assert run(["import", "rabbitmq", str(file), *place]) == 1


def test_a_server_without_the_door_is_named(
    tmp_path: Path, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Server(tmp_path / "data", http="127.0.0.1:0") as without:
        assert run(["import", "rabbitmq", str(file), "--at", f"http://{without.http}"]) == 1
    assert "--rabbitmq-management" in capsys.readouterr().err
