"""`mainstem topics`: its output, its refusals, its exit codes."""

from __future__ import annotations

import json

from tests.cli.conftest import Mainstem, command


def test_a_topic_is_created_listed_described_altered_and_deleted(mainstem: Mainstem) -> None:
    assert mainstem("topics", "create", "t1", "--partitions", "3", "--config", "retention.ms=1000").code == 0
    assert ["t1", "3", "0"] in mainstem("topics", "list").rows
    rows = mainstem("topics", "describe", "t1").rows
    assert rows == [row for row in mainstem("topics", "describe").rows if row[1] == "t1"]
    assert [row[:2] for row in rows if row[0] == "topic"] == [["topic", "t1"]]
    assert [row for row in rows if row[0] == "partition"] == [
        ["partition", "t1", str(partition), "0", "0", "0", "1"] for partition in range(3)
    ]
    assert ["setting", "t1", "retention.ms", "1000", "set"] in rows
    done = mainstem("topics", "alter", "t1", "--partitions", "4", "--config", "retention.ms=")
    assert (done.code, done.err) == (0, "")
    described = json.loads(mainstem("topics", "describe", "t1", "--json").out)
    assert len(described["partitions"]) == 4
    (retention,) = [setting for setting in described["settings"] if setting["name"] == "retention.ms"]
    assert retention["is_default"]
    assert mainstem("topics", "delete", "t1", "--yes").code == 0
    assert "t1" not in mainstem("topics", "list").out


def test_refusals_are_one_line_with_a_code(mainstem: Mainstem) -> None:
    done = mainstem("topics", "describe", "nowhere")
    assert (done.code, done.err) == (1, "mainstem: topic nowhere: there is no such topic or partition\n")
    done = mainstem("topics", "create", "a b")
    assert done.code == 1
    assert done.err.startswith("mainstem: topic a b: ")
    assert done.err.count("\n") == 1
    done = mainstem("topics", "create", "x", "--config", "retention.ms")
    assert done.code == 2
    assert "'retention.ms' is not NAME=VALUE" in done.err
    done = mainstem("topics", "alter", "x")
    assert (done.code, done.err.splitlines()[0]) == (
        2,
        "mainstem: nothing to change: give --partitions or --config",
    )


def test_nothing_is_deleted_without_confirmation(mainstem: Mainstem) -> None:
    mainstem("topics", "create", "kept")
    done = mainstem("topics", "delete", "kept")
    assert done.code == 2
    assert "add --yes" in done.err
    assert "kept" in mainstem("topics", "list").out


def test_an_unreachable_server_is_reported_at_once() -> None:
    done = command("topics", "list", "--at", "127.0.0.1:1")
    assert done.code == 3
    assert done.err == (
        "mainstem: no server at 127.0.0.1:1 (connection refused);"
        " start one with: mainstem serve, or give --at HOST:PORT\n"
    )


def test_a_malformed_address_is_refused() -> None:
    done = command("topics", "list", "--at", "nonsense")
    assert (done.code, done.err) == (1, "mainstem: 'nonsense' is not HOST:PORT\n")
