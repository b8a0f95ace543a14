"""`mainstem search`, `trace`, `export`: output and exit codes, the same by HTTP and by the Kafka protocol."""

from __future__ import annotations

import csv
import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyarrow import parquet

from mainstem.parquet import COLUMNS
from tests.cli.conftest import Mainstem, command
from tests.support.server import Server

ORDERS = "".join(
    f'{{"order":{4700 + n},"state":"{"failed" if n % 4 == 0 else "ok"}","at":{1_370_000_000 + n}}}\n'
    for n in range(20)
)


@pytest.fixture(scope="module", params=["http", pytest.param("kafka", marks=pytest.mark.slow)])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings = {"http": "127.0.0.1:0"} if request.param == "http" else {}
    with Server(tmp_path_factory.mktemp("search") / "data", **settings) as running:
        yield running


@pytest.fixture(scope="module", autouse=True)
def orders(server: Server) -> None:
    """Create two topics with events about order 4711."""
    for topic, stdin in (("orders", ORDERS), ("payments", '{"paid":"4711","at":1370000100}\n')):
        assert command("produce", topic, "--timestamp", "at", stdin=stdin, address=server.address).code == 0


def test_a_pipe_gets_one_json_object_per_line_newest_first(mainstem: Mainstem) -> None:
    done = mainstem("search", "4711")
    assert done.code == 0, done.err
    events = [json.loads(line) for line in done.out.splitlines()]
    assert [event["topic"] for event in events] == ["payments", "orders"]
    states = [
        json.loads(line)["value"]["order"] for line in mainstem("search", "state:failed").out.splitlines()
    ]
    assert states == [4716, 4712, 4708, 4704, 4700]
    oldest = mainstem("search", "state:failed", "--oldest-first", "-n", "2")
    assert [json.loads(line)["value"]["order"] for line in oldest.out.splitlines()] == [4700, 4704]
    assert "stopped at 2 matches" in oldest.err


def test_the_exit_codes_are_those_of_grep(mainstem: Mainstem) -> None:
    assert mainstem("search", "nothing-has-this").code == 1
    wrong = mainstem("search", "a:(b")
    assert wrong.code == 2
    assert wrong.err.splitlines()[2].strip() == "^"
    assert command("search", "x", address="127.0.0.1:1").code == 3
    assert mainstem("search", "x", "--since", "soon").code == 2


def test_a_missing_topic_is_reported(mainstem: Mainstem) -> None:
    nowhere = mainstem("search", "*", "--topic", "not-there", "--topic", "nor-*")
    assert (nowhere.code, nowhere.out) == (1, "")
    assert "no topic has a name like not-there or nor-*" in nowhere.err
    assert "no topic" not in mainstem("search", "nothing-has-this").err


def test_count_prints_only_the_number(mainstem: Mainstem) -> None:
    done = mainstem("search", "state:ok", "--count")
    assert (done.code, done.out) == (0, "15\n")
    none = mainstem("search", "state:lost", "--count")
    assert (none.code, none.out) == (1, "0\n")


def test_a_search_is_limited_by_topic_and_time(mainstem: Mainstem) -> None:
    assert mainstem("search", "4711", "--topic", "pay*", "--count").out == "1\n"
    span = ("--since", "2013-05-31T11:33:30Z", "--until", "2013-05-31T11:33:35Z")
    assert mainstem("search", "*", *span, "--count").out == "5\n"
    assert mainstem("search", "*", "--topic", "orders", "--since", "1h", "--count").out == "0\n"
    every = mainstem("search", "*", "--topic", "orders", "--count").out
    for since in ("30000d", "1960-01-01"):  # before 1970
        assert mainstem("search", "*", "--topic", "orders", "--since", since, "--count").out == every
        assert mainstem("search", "*", "--topic", "orders", "--until", since, "--count").out == "0\n"


def test_csv_and_facets(mainstem: Mainstem) -> None:
    rows = list(csv.reader(mainstem("search", "state:failed", "--csv").out.splitlines()))
    assert rows[0] == ["topic", "partition", "offset", "time", "key", "value"]
    assert len(rows) == 6
    facets = mainstem("search", "at:*", "--facet", "state", "--facet", "topic")
    assert facets.code == 0, facets.err
    assert facets.rows == [
        ["state", "ok", "15"],
        ["state", "failed", "5"],
        ["topic", "orders", "20"],
        ["topic", "payments", "1"],
    ]


def test_numbers_are_printed_and_counted_as_they_are_spelled(mainstem: Mainstem) -> None:
    payloads = [
        f'{{"n":{number}}}' for number in ("1234567890123456788", "1234567890123456789", "1e400", "1.10")
    ]
    assert mainstem("produce", "spelled", stdin="\n".join([*payloads, '{"n":1.1}']) + "\n").code == 0
    facets = mainstem("search", "n:*", "--topic", "spelled", "--facet", "n", "--oldest-first")
    counted = {value: count for _, value, count in facets.rows}
    assert counted == {"1234567890123456788": "1", "1234567890123456789": "1", "1e400": "1", "1.10": "2"}
    for command_line in (
        ("search", "n:*", "--topic", "spelled", "--json"),
        ("search", "n:*", "--topic", "spelled", "--csv"),
        ("tail", "spelled", "--from", "earliest", "--until", "latest", "--json"),
        ("export", "n:*", "--topic", "spelled"),
    ):
        printed = mainstem(*command_line).out.replace('""', '"')
        assert all(payload in printed for payload in payloads), command_line


def test_a_trace_is_by_time_over_all_topics(mainstem: Mainstem) -> None:
    done = mainstem("trace", "4711")
    assert [json.loads(line)["topic"] for line in done.out.splitlines()] == ["orders", "payments"]


def test_an_export_has_all_matches_in_order(mainstem: Mainstem, tmp_path: Path) -> None:
    done = mainstem("export", "--topic", "orders", "-o", str(tmp_path / "all.ndjson"))
    assert done.code == 0, done.err
    lines = (tmp_path / "all.ndjson").read_text().splitlines()
    assert [json.loads(line)["offset"] for line in lines] == list(range(20))
    table = mainstem("export", "state:failed", "--format", "csv")
    assert len(list(csv.reader(table.out.splitlines()))) == 6


def test_it_reports_when_it_has_to_use_the_kafka_protocol(mainstem: Mainstem, server: Server) -> None:
    message = mainstem("search", "4711").err
    by_kafka = (
        f"mainstem: the server at {server.address} serves no HTTP; reading every event by the Kafka protocol"
    )
    assert message.startswith(by_kafka) if not server.http else message == ""


def test_events_are_exact_byte_for_byte(mainstem: Mainstem, server: Server) -> None:
    value = b'{ "n": 1.10,\t"bytes": "\xc3\xbc"}'
    assert command("produce", "exact", stdin=value + b"\n\xff\xfe\n", address=server.address).code == 0
    done = mainstem("export", "--topic", "exact")
    first, second = done.out.splitlines()
    assert value.decode() in first
    assert json.loads(second)["value_format"] == "base64"


def test_parquet_is_a_file_that_has_every_byte(mainstem: Mainstem, tmp_path: Path) -> None:
    path = tmp_path / "all.parquet"
    done = mainstem("export", "--topic", "orders", "--format", "parquet", "-o", str(path))
    assert (done.code, done.err.splitlines()[-1]) == (0, "exported 20 events"), done.err
    rows = parquet.read_table(path).to_pylist()
    assert [row["offset"] for row in rows] == list(range(20))
    assert [row["value"].decode() for row in rows] == ORDERS.splitlines()
    assert rows[0]["timestamp"].isoformat() == "2013-05-31T11:33:20+00:00"


def test_the_columns_of_parquet_are_in_the_docs() -> None:
    page = (Path(__file__).parents[2] / "docs" / "CLI.md").read_text()
    table = page.partition("<!-- parquet columns -->")[2].partition("<!--")[0].splitlines()[3:]
    shown = [tuple(cell.strip(" `") for cell in row.split("|")[1:4]) for row in table]
    assert shown == list(COLUMNS)


def test_an_export_that_fails_leaves_no_file(mainstem: Mainstem, tmp_path: Path) -> None:
    path = tmp_path / "all.ndjson"
    assert mainstem("export", "--topic", "orders", "-o", str(path / "not-there")).code == 2
    assert command("export", "-o", str(path), address="127.0.0.1:1").code == 3
    assert list(tmp_path.iterdir()) == []


def test_a_terminal_shows_the_progress(server: Server) -> None:
    ours, theirs = pty.openpty()
    environ = {**os.environ, "MAINSTEM_AT": server.address}
    arguments = [sys.executable, "-m", "mainstem", "search", "4711"]
    done = subprocess.run(arguments, stdout=subprocess.DEVNULL, stderr=theirs, env=environ, timeout=60)
    os.close(theirs)
    shown = os.read(ours, 10_000).decode()
    os.close(ours)
    assert done.returncode == 0
    assert "searched 100%: 2 matches; " in shown
    assert ("through the Kafka protocol" in shown) == (not server.http)


def test_a_closed_pipe_ends_it_quietly(server: Server) -> None:
    arguments = [sys.executable, "-m", "mainstem", "export", "--topic", "orders"]
    with subprocess.Popen(
        arguments,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "MAINSTEM_AT": server.address},
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.close()
        message = running.stderr.read().decode()
        assert running.wait(60) == 141
    assert "Traceback" not in message
    assert "rror" not in message
