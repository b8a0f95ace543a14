"""`mainstem replay`: confirmation, rate, each event once; through the HTTP door and by the Kafka protocol."""

from __future__ import annotations

import json
import os
import pty
import random
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition

from tests.cli.conftest import Mainstem, command
from tests.support.server import Server

ORDERS = 40


@pytest.fixture(scope="module", params=["http", pytest.param("kafka", marks=pytest.mark.slow)])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("replay") / "data", request.param) as running:
        lines = "".join(f'{{"order":{number}}}\n' for number in range(ORDERS))
        assert command("produce", "orders", "--key", "order", stdin=lines, address=running.address).code == 0
        yield running


def serving(data: Path, by: str) -> Server:
    return Server(data, http="127.0.0.1:0") if by == "http" else Server(data)


def target(mainstem: Mainstem, name: str) -> str:
    assert mainstem("topics", "create", name, "--partitions", "3").code == 0
    return name


def replayed(address: str, topic: str) -> Counter[str]:
    """How often the event of each source position was replayed into a topic."""
    rows = command("export", "--topic", topic, address=address).out.splitlines()
    headers = [{header["name"]: header["value"] for header in json.loads(row)["headers"]} for row in rows]
    return Counter(header["mainstem-replayed-from"] for header in headers)


class ReplayTerminal:
    """A running replay with a terminal."""

    def __init__(self, address: str, *arguments: str) -> None:
        self._screen, theirs = pty.openpty()
        self.shown = ""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mainstem", "replay", *arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**os.environ, "MAINSTEM_AT": address, "NO_COLOR": "1", "COLUMNS": "200"},
            start_new_session=True,
            # A test that runs in the background of a shell inherits that Ctrl-C is ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        os.close(theirs)

    def until(self, seen: Callable[[str], bool]) -> None:
        """Read the screen until `seen` returns true for it."""
        while not seen(self.shown):
            self.shown += os.read(self._screen, 10_000).decode()

    def end(self) -> int:
        """Read the rest of the screen; returns the exit code."""
        while True:
            try:
                more = os.read(self._screen, 10_000)
            except OSError:  # the process has closed the terminal
                break
            if not more:
                break
            self.shown += more.decode(errors="replace")
        os.close(self._screen)
        return self.process.wait(60)


def test_it_is_counted_before_and_reported_after(mainstem: Mainstem) -> None:
    to = target(mainstem, "counted")
    order = ("replay", "order:>=30", "--topic", "orders", "--to", to)
    dry = mainstem(*order, "--dry-run")
    assert (dry.code, dry.rows[0][0], dry.rows[0][2:]) == (0, to, ["10", "0", "0"])
    refused = mainstem(*order)
    assert (refused.code, refused.out) == (2, "")
    assert "add --yes, or --dry-run" in refused.err
    done = mainstem(*order, "--yes", "--json", "--job", "late")
    expected = {
        "to": to,
        "job": "late",
        "dry_run": False,
        "events": 10,
        "published_before": 0,
        "unreadable": 0,
    }
    assert json.loads(done.out) == expected
    again = mainstem(*order, "--yes", "--json", "--job", "late")
    assert json.loads(again.out) == expected | {"events": 0, "published_before": 10, "dry_run": True}
    assert again.code == 0


def test_an_impossible_replay_is_refused(server: Server, mainstem: Mainstem) -> None:
    nowhere = mainstem("replay", "*", "--to", "not-there", "--yes")
    assert (nowhere.code, nowhere.out) == (2, "")
    assert "not-there" in nowhere.err
    to = target(mainstem, "refusing")
    assert mainstem("replay", "nothing-has-this", "--to", to, "--yes").code == 1
    assert mainstem("replay", "(", "--to", to, "--yes").code == 2
    unnamed = mainstem("replay", "*", "--to", to, "--yes", "--job", "a b")
    assert unnamed.code == 2
    assert "is not a job's id" in unnamed.err
    assert not replayed(server.address, to)


def test_a_person_may_say_no(server: Server, mainstem: Mainstem) -> None:
    to = target(mainstem, "declined")
    running = ReplayTerminal(server.address, "*", "--topic", "orders", "--to", to)
    running.until(lambda shown: "[y/N]" in shown)
    os.write(running._screen, b"n\n")
    assert running.end() == 130
    assert f"Publish 40 events into topic {to}, at most 1,000 per second (about < 1 s)?" in running.shown
    assert not replayed(server.address, to)


def test_ctrl_c_at_the_question_ends_it(server: Server, mainstem: Mainstem) -> None:
    to = target(mainstem, "interrupted-early")
    running = ReplayTerminal(server.address, "*", "--topic", "orders", "--to", to)
    running.until(lambda shown: "[y/N]" in shown)
    running.process.send_signal(signal.SIGINT)
    assert running.end() == 130
    assert not replayed(server.address, to)


def test_ctrl_c_stops_it_and_the_printed_command_continues_it(server: Server, mainstem: Mainstem) -> None:
    to = target(mainstem, "interrupted")
    order = ("*", "--topic", "orders", "--to", to, "--rate", "8", "--yes", "--until", "2100-01-01")
    running = ReplayTerminal(server.address, *order)
    running.until(lambda shown: " 4 of 40 events" in shown)
    running.process.send_signal(signal.SIGINT)
    assert running.end() == 130
    (again,) = [line for line in running.shown.splitlines() if line.startswith("  mainstem replay")]
    words = shlex.split(again)[1:]
    words[words.index("--rate") + 1] = "1000000"
    deadline = time.monotonic() + 30
    while (done := mainstem(*words, "--yes")).code == 2 and time.monotonic() < deadline:
        assert "is running already" in done.err  # the server notices the closed connection a moment later
    assert done.code == 0, done.err
    assert 0 < int(done.rows[0][2]) < ORDERS
    counts = replayed(server.address, to)
    assert (len(counts), counts.total()) == (ORDERS, ORDERS)


# ----------------------------------------------------------------------------------------------------------

MANY = 9_000


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("by", ["http", "kafka"])
@pytest.mark.parametrize("killed", ["client", "server"])
def test_kill_9_at_any_moment_loses_and_doubles_nothing(tmp_path: Path, by: str, killed: str) -> None:
    chance = random.Random(f"{by} {killed}")
    with serving(tmp_path / "data", by) as server:
        lines = "".join(f'{{"order":{number},"of":"k{number % 97}"}}\n' for number in range(MANY))
        command("topics", "create", "many", "--partitions", "4", address=server.address)
        command("topics", "create", "again", "--partitions", "3", address=server.address)
        assert command("produce", "many", "--key", "of", stdin=lines, address=server.address).code == 0
        order = ("replay", "order:*", "--topic", "many", "--to", "again", "--job", "k9")
        breaks = 0
        while True:
            client = start(server.address, *order, "--rate", "2500", "--yes")
            if wait_for(client, server, written(server.address, "again") + chance.randint(1, 4_000)):
                break
            breaks += 1
            if killed == "client":
                client.kill()
                client.wait()
            else:
                server.restart(kill=True)
                client.wait(60)
        assert breaks >= 1
        counts = replayed(server.address, "again")
    assert [place for place, times in counts.items() if times > 1] == []
    assert len(counts) == MANY


def start(address: str, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "mainstem", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "MAINSTEM_AT": address},
    )


def wait_for(client: subprocess.Popen[bytes], server: Server, events: int) -> bool:
    """Wait until the target has this many events or the client has ended; returns whether it has finished."""
    while client.poll() is None and written(server.address, "again") < events:
        time.sleep(0.02)
    # 2: the server has not noticed yet that the client before was killed.
    assert client.poll() in (None, 0, 2)
    return client.poll() == 0


def written(address: str, topic: str) -> int:
    """Number of events in a topic, from the ends of its three partitions."""
    consumer = Consumer({"bootstrap.servers": address, "group.id": "watching"})
    try:
        ends = [
            consumer.get_watermark_offsets(TopicPartition(topic, address), timeout=30)[1]
            for address in range(3)
        ]
    finally:
        consumer.close()
    return sum(ends)
