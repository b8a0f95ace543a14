"""The examples run as they are written, against a real server."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer

from tests.scenarios import flights
from tests.support.server import Server

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with the sample in `flights`, one partition, as auto-create makes it."""
    with Server(tmp_path_factory.mktemp("examples") / "data", log_level="warning") as server:
        producer = Producer({"bootstrap.servers": server.address, "linger.ms": 20})
        for line in flights.sample():
            producer.produce("flights", line, timestamp=flights.time_ms(line))
        assert producer.flush(60) == 0
        yield server.address


def first_lines(name: str, address: str, count: int) -> list[str]:
    """What an example prints first; then it is stopped with Ctrl-C, which it has to take well."""
    command = [sys.executable, "-u", str(EXAMPLES / name), address]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        lines = [program.stdout.readline().rstrip("\n") for _ in range(count)]
        program.send_signal(signal.SIGINT)
        _, errors = program.communicate(timeout=30)
    assert program.returncode == 0, errors
    return lines


def test_the_board_shows_each_flight_in_order_and_goes_on_where_it_was(address: str) -> None:
    first = json.loads(flights.sample()[0])
    lines = first_lines("board.py", address, 50)
    assert lines[0].split() == [
        first["time_hour"], first["origin"], ">", first["dest"], first["carrier"], str(first["flight"]),
        "left", str(first["dep_time"]),
    ]  # fmt: skip
    assert first_lines("board.py", address, 1) != lines[:1]


def test_the_delays_of_each_airline_are_printed(address: str) -> None:
    (line,) = first_lines("delays.py", address, 1)
    assert "UA " in line
    assert " min" in line


def test_a_replay_begins_on_the_day_asked_for(address: str) -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "replay.py"), "2013-12-01", address],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    days = [line.split() for line in done.stdout.splitlines()]
    december = [json.loads(line) for line in flights.sample() if flights.time_ms(line) >= 1_385_856_000_000]
    assert days[0][0] == "2013-12-01"
    assert sum(int(count) for _, count in days) == sum(flight["dep_time"] is None for flight in december)
