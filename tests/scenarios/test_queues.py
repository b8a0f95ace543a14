"""Two pools of workers on flights, and a poisoned event.

It is retried, given up, repaired and redriven, while a plain consumer group reads everything once.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import CommandResult, command
from tests.scenarios import flights
from tests.support.server import Server

EVENTS = 60
POISONED = 37
"""The number of the line whose work fails until the worker is repaired."""
WORKER = """
read -r flight
printf '%s/%s %s\\n' "$MAINSTEM_PARTITION" "$MAINSTEM_OFFSET" "$MAINSTEM_ATTEMPT" >> "$LEDGER"
case $flight in *"$POISON"*) [ -e "$REPAIRED" ] || exit 1;; esac
printf '%s\\n' "$flight" >> "$DONE"
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path / "data", http="127.0.0.1:0", log_level="warning") as running:
        yield running


class Pool:
    """The workers of a subscription. They write down each attempt, and what they have done."""

    def __init__(self, server: Server, folder: Path, subscription: str, poison: str) -> None:
        self._subscription = subscription
        self._ledger = folder / f"{subscription}-attempts"
        self._done = folder / f"{subscription}-done"
        self.repaired = folder / f"{subscription}-repaired"
        self._environment = os.environ | {
            "MAINSTEM_AT": server.address,
            "LEDGER": str(self._ledger),
            "DONE": str(self._done),
            "REPAIRED": str(self.repaired),
            "POISON": poison,
        }

    def start(self, workers: int) -> list[subprocess.Popen[bytes]]:
        """Start workers that end when nothing is left to do."""
        arguments = ("work", self._subscription, "--jobs", "2", "--until-empty", "--", "sh", "-c", WORKER)
        return [
            subprocess.Popen(
                [sys.executable, "-m", "mainstem", *arguments],
                env=self._environment,
                stderr=subprocess.PIPE,
            )
            for _ in range(workers)
        ]

    def done(self) -> list[str]:
        """The flights whose work is done."""
        return self._done.read_text().splitlines()

    def attempts(self) -> Counter[str]:
        """How often each event was tried."""
        return Counter(line.split()[0] for line in self._ledger.read_text().splitlines())


def wait_for(workers: list[subprocess.Popen[bytes]]) -> None:
    for worker in workers:
        _, errors = worker.communicate(timeout=120)
        assert worker.returncode == 0, errors.decode()


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_two_pools_work_on_flights_and_a_poisoned_event_is_repaired(server: Server, tmp_path: Path) -> None:
    def mainstem(*arguments: str, stdin: bytes = b"") -> CommandResult:
        done = command(*arguments, stdin=stdin, address=server.address)
        assert done.code == 0, done.err
        return done

    lines = [line.decode() for line in flights.sample()][:EVENTS]
    for topic in ("flights", "flights-dead"):
        mainstem("topics", "create", topic, "--partitions", "2")
    mainstem("produce", "flights", "--key", "tailnum", stdin="\n".join(lines).encode())
    mainstem("queues", "create", "notices", "--topic", "flights")
    mainstem(
        *("queues", "create", "fees", "--topic", "flights", "--failures-max", "3"),
        *("--dead-letter-topic", "flights-dead", "--config", "backoff_min_ms=50"),
    )
    notices = Pool(server, tmp_path, "notices", poison="no flight has this")
    fees = Pool(server, tmp_path, "fees", poison=lines[POISONED])
    workers = [*notices.start(2), *fees.start(2)]
    board = mainstem("tail", "flights", "--group", "board", "--from", "earliest", "-n", str(EVENTS), "--json")
    wait_for(workers)

    # The plain group has seen every event once, and so has the pool that has no trouble.
    assert sorted(json.dumps(json.loads(line)["value"]) for line in board.out.splitlines()) == sorted(
        json.dumps(json.loads(line)) for line in lines
    )
    assert sorted(notices.done()) == sorted(lines)
    # The other one has done all but the poisoned event, which was tried three times and given up.
    assert sorted(fees.done()) == sorted(line for line in lines if line != lines[POISONED])
    (poisoned,) = [event for event, count in fees.attempts().items() if count > 1]
    assert fees.attempts()[poisoned] == 3
    (letter,) = mainstem("tail", "flights-dead", "-n", "9", "--json").out.splitlines()
    assert json.loads(letter)["value"] == json.loads(lines[POISONED])
    names = [header["name"] for header in json.loads(letter)["headers"]]
    assert "mainstem-dead-letter-from" in names

    # Repaired and redriven, it is done; the other pool and the topic have no further event.
    fees.repaired.touch()
    assert mainstem("queues", "redrive", "fees", "--all").out == "redrove 1 event\n"
    wait_for([*fees.start(1), *notices.start(1)])
    assert sorted(fees.done()) == sorted(lines)
    assert fees.attempts()[poisoned] == 4
    assert sorted(notices.done()) == sorted(lines)
    listed = {row[0]: row[1:7] for row in mainstem("queues", "list").rows}
    assert listed == {"fees": ["0"] * 6, "notices": ["0"] * 6}
    assert ["flights", "2", str(EVENTS)] in mainstem("topics", "list").rows
