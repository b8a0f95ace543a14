"""Subscribers and servers that are killed: nothing is lost, keys keep their order, little is repeated.

Handlers run on 32 lanes over 200 keys, and fail at random.
"""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from mainstem.api.remote_backend import open_remote
from mainstem.contract import NewEvent
from tests.api.killed_subscriber import LANES
from tests.support.server import Server

KEYS, EVENTS_OF_KEY = 200, 5
ORDERS = {f"k{key}:{number}" for key in range(KEYS) for number in range(EVENTS_OF_KEY)}
KILLS = 4
DEADLINE_S = 90


@dataclass(frozen=True)
class Line:
    """What the program has noted."""

    process: int
    what: str
    key: str
    number: int
    time_s: float


def ledger(path: Path) -> list[Line]:
    lines = []
    for text in path.read_text().splitlines() if path.exists() else ():
        process, what, order, time_s = text.split()
        key, number = order.split(":")
        lines.append(Line(int(process), what, key, int(number), float(time_s)))
    return lines


def publish(address: str) -> None:
    async def go() -> None:
        backend = await open_remote(address)
        await backend.engine.create_topic("orders", partitions=3)
        orders = sorted(ORDERS, key=lambda order: order.partition(":")[2])
        events = [NewEvent(order.encode(), order.partition(":")[0].encode()) for order in orders]
        await backend.engine.publish("orders", events)
        await backend.close()

    asyncio.run(go())


@contextmanager
def program(address: str, path: Path, seed: int) -> Iterator[subprocess.Popen[bytes]]:
    arguments = (sys.executable, "-m", "tests.api.killed_subscriber", address, str(path), str(seed))
    log = path.with_suffix(".log").open("ab")
    with log, subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stderr=log) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_until(condition: Callable[[], object], path: Path) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        log = path.with_suffix(".log")
        assert time.monotonic() < deadline, log.read_text()[-3_000:]
        time.sleep(0.02)


def ended(path: Path) -> set[str]:
    return {f"{line.key}:{line.number}" for line in ledger(path) if line.what == "end"}


def check_order(lines: list[Line]) -> None:
    """No two calls of one key at once in a process, and the first success of each event in the order of its
    key."""
    busy: dict[int, set[str]] = defaultdict(set)
    done: dict[str, int] = defaultdict(int)
    for line in lines:
        if line.what == "begin":
            assert line.key not in busy[line.process], f"two calls of {line.key}"
            busy[line.process].add(line.key)
            assert line.number <= done[line.key], f"{line.key}:{line.number} before {done[line.key]}"
        else:
            busy[line.process].remove(line.key)
        if line.what == "end" and line.number == done[line.key]:
            done[line.key] += 1


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1])
def test_a_killed_subscriber_loses_nothing_and_repeats_what_was_in_flight(tmp_path: Path, seed: int) -> None:
    rng, path = random.Random(seed), tmp_path / "ledger"
    kills: dict[int, float] = {}
    with Server(tmp_path / "data", http="127.0.0.1:0") as server:
        publish(server.address)
        for number in range(KILLS):
            with program(server.address, path, seed + number) as process:
                enough = len(ended(path)) + rng.randrange(20, 150)
                wait_until(lambda enough=enough: len(ended(path)) >= enough, path)  # type: ignore[misc]
                process.kill()
                kills[process.pid] = time.time()
        with program(server.address, path, seed + KILLS) as process:
            wait_until(lambda: ended(path) == ORDERS, path)
            process.terminate()
            assert process.wait(30) == 0
    lines = ledger(path)
    check_order(lines)
    ends: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        if line.what == "end":
            ends[f"{line.key}:{line.number}"].append(line)
    for order, times in ends.items():
        for line in times[:-1]:
            assert line.process in kills, f"{order} is repeated, and no kill is the reason"
            assert kills[line.process] - line.time_s < 1.0, f"{order} was done long before the kill"


@pytest.mark.slow
def test_a_killed_server_costs_no_event_and_hardly_a_second_call(tmp_path: Path) -> None:
    rng, path = random.Random(2), tmp_path / "ledger"
    with Server(tmp_path / "data", http="127.0.0.1:0") as server:
        server.settings["http"] = server.http  # the same port after each restart
        publish(server.address)
        with program(server.address, path, 2) as process:
            for _ in range(2):
                enough = len(ended(path)) + rng.randrange(50, 250)
                wait_until(lambda enough=enough: len(ended(path)) >= enough, path)  # type: ignore[misc]
                server.restart(kill=True)
            wait_until(lambda: ended(path) == ORDERS, path)
            process.terminate()
            assert process.wait(30) == 0
    lines = ledger(path)
    check_order(lines)
    repeated = sum(line.what == "end" for line in lines) - len(ORDERS)
    assert repeated <= 2 * LANES
