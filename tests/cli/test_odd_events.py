"""Events that other clients wrote in unusual ways, in every command that reads: by HTTP and by the Kafka
protocol."""

from __future__ import annotations

import csv
import io
import json
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mainstem.cli import run
from mainstem.cli.exit_codes import ExitCode
from tests.cli.conftest import CommandResult
from tests.support.raw_batches import RawRecord, batch_with_names, produce_batch, undecodable_batch
from tests.support.server import Server

NAMES = "names"
"""The topic with five events, of which one has header names that are not UTF-8."""
HEADERS = [("caf\ufffd", "x"), ("caf\ufffd", None), ("plain", "y")]
DEEP = "deep"
"""The topic with values that are nested too deeply to be parsed."""
DEEP_VALUES = ["[" * 1_000, "[" * 1_000 + "]" * 1_000, "[" * 100_000, '{"a":' * 1_000 + "1" + "}" * 1_000]

Run = Callable[..., CommandResult]


@pytest.fixture(scope="module", params=["http", pytest.param("kafka", marks=pytest.mark.slow)])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings = {"http": "127.0.0.1:0"} if request.param == "http" else {}
    with Server(tmp_path_factory.mktemp("odd") / "data", **settings) as running:
        for topic in (NAMES, DEEP, "damaged", "target", "rest"):
            assert run(["topics", "create", topic, "--at", running.address]) == 0
        odd: list[tuple[bytes, bytes | None]] = [(b"caf\xe9", b"x"), (b"caf\xe9", None), (b"plain", b"y")]
        last: RawRecord = (b"k4", b"number 4", [], 1_796_000_000_004)
        batches: list[list[RawRecord]] = [
            [(b"k0", b"number 0", [], 1_796_000_000_000)],
            [
                (b"k1", b"number 1", [(b"usual", b"z")], 1_796_000_000_001),
                (b"k2", b"number 2", odd, 1_796_000_000_002),
                (None, b"number 3", [], 1_796_000_000_003),
            ],
            [last],
        ]
        for records in batches:
            produce_batch(running.address, NAMES, batch_with_names(records))
        produce_batch(running.address, "damaged", batch_with_names([last]))
        produce_batch(running.address, "damaged", undecodable_batch())
        deep: list[RawRecord] = [
            (b"deep-key", value.encode(), [], 1_796_000_000_000) for value in DEEP_VALUES
        ]
        produce_batch(running.address, DEEP, batch_with_names(deep))
        yield running


@pytest.fixture
def mainstem(server: Server, capfd: pytest.CaptureFixture[str]) -> Run:
    """The command line in this process, with its output in a pipe."""

    def call(*arguments: str) -> CommandResult:
        capfd.readouterr()
        code = run([*arguments, "--at", server.address])
        return CommandResult(code, *capfd.readouterr())

    return call


def events(done: CommandResult, code: int = ExitCode.DONE) -> list[Any]:
    """The events that a command printed as JSON, oldest first."""
    assert done.code == code, done.err
    return sorted((json.loads(line) for line in done.out.splitlines()), key=lambda event: event["offset"])


def assert_all_five(printed: list[Any]) -> None:
    assert [event["value"] for event in printed] == [f"number {n}" for n in range(5)]
    headers = [(header["name"], header["value"]) for header in printed[2]["headers"]]
    assert headers[: len(HEADERS)] == HEADERS


by_http = pytest.mark.parametrize("server", ["http"], indirect=True)
"""For tests that only the server with an HTTP door can have."""


def page_of(server: Server, topic: str) -> Any:
    """The page of events at the beginning of a topic, by HTTP."""
    url = f"http://{server.http}/api/v1/topics/{topic}/partitions/0/events?offset=0"
    with urllib.request.urlopen(url, timeout=20) as reply:
        return json.load(reply)


def test_a_header_name_that_is_not_utf8_hides_no_event(mainstem: Run) -> None:
    assert_all_five(events(mainstem("tail", NAMES, "--from", "earliest", "--until", "latest", "--json")))
    assert_all_five(events(mainstem("tail", NAMES, "-n", "5", "--json")))
    assert_all_five(events(mainstem("search", "number", "--topic", NAMES)))
    assert_all_five(events(mainstem("trace", "number", "--topic", NAMES)))
    assert_all_five(events(mainstem("export", "--topic", NAMES)))


def test_a_member_of_a_group_reads_past_a_header_name_that_is_not_utf8(mainstem: Run) -> None:
    done = mainstem("tail", NAMES, "--from", "earliest", "-n", "5", "--group", "names", "--json")
    assert_all_five(events(done))


def test_a_replay_publishes_events_with_such_header_names(mainstem: Run) -> None:
    done = mainstem("replay", "number", "--topic", NAMES, "--to", "target", "--rate", "100000", "--yes")
    assert (done.code, done.rows[0][2:]) == (ExitCode.DONE, ["5", "0", "0"])
    assert_all_five(events(mainstem("export", "--topic", "target")))


def test_a_replay_that_leaves_something_out_says_so_with_its_exit_code(mainstem: Run) -> None:
    for extra in (["--dry-run"], ["--yes"]):
        done = mainstem("replay", "", "--topic", "damaged", "--to", "rest", *extra)
        assert (done.code, done.rows[0][2:]) == (ExitCode.BAD_INPUT, ["1", "0", "1"])
        assert "skipped 1 range that could not be read" in done.err


@by_http
def test_a_page_of_events_by_http_has_all_of_them(server: Server) -> None:
    page = page_of(server, NAMES)
    assert page["unreadable"] == []
    assert_all_five(page["events"])


def test_a_value_that_is_nested_too_deeply_is_text(mainstem: Run) -> None:
    for arguments in (
        ("tail", DEEP, "--from", "earliest", "--until", "latest", "--json"),
        ("search", "", "--topic", DEEP),
        ("trace", "deep-key", "--topic", DEEP),
        ("export", "--topic", DEEP),
    ):
        printed = events(mainstem(*arguments))
        assert [event["value"] for event in printed] == DEEP_VALUES, arguments
        assert {event["value_format"] for event in printed} == {"text"}
    rows = list(csv.reader(io.StringIO(mainstem("export", "--topic", DEEP, "--format", "csv").out)))
    assert [row[-1] for row in rows[1:]] == DEEP_VALUES
    assert len(mainstem("tail", DEEP, "--from", "earliest", "--until", "latest").rows) == len(DEEP_VALUES)


def test_a_filter_reads_deeply_nested_values_as_text(mainstem: Run) -> None:
    assert mainstem("search", "a.b:1 OR a:>0", "--topic", DEEP).code == ExitCode.FAILED
    done = mainstem("search", 'key:"deep-key"', "--topic", DEEP, "--count")
    assert (done.code, done.out) == (ExitCode.DONE, f"{len(DEEP_VALUES)}\n")
    done = mainstem("search", "", "--topic", DEEP, "--facet", "a")
    assert (done.code, done.err.count("Traceback")) == (ExitCode.DONE, 0)
    done = mainstem("replay", 'key:"deep-key"', "--topic", DEEP, "--to", "rest", "--yes")
    assert (done.code, done.rows[0][2]) == (ExitCode.DONE, str(len(DEEP_VALUES)))


@by_http
def test_deeply_nested_values_are_text_by_http(server: Server) -> None:
    assert [event["value"] for event in page_of(server, DEEP)["events"]] == DEEP_VALUES
