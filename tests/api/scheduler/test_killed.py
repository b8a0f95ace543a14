"""Subscribers killed at random, on a real Apache Kafka and on `mainstem serve` as a plain Kafka cluster."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from mainstem.contract import NewEvent
from mainstem.engines.kafka.engine import KafkaEngine
from tests.api.scheduler.killed_subscriber import CONCURRENCY
from tests.support.server import Server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
KEYS, PARTITIONS = 200, 4
END_S_MAX = 120
QUIET_S_MAX = 90
"""How long the processes may do nothing: a busy machine is slow, and not still."""
OPEN_MAX = 300
"""Events that may wait for the processes: a busy machine gets no more of them."""


@pytest.fixture(params=["mainstem", "apache-kafka"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "apache-kafka":
        yield request.getfixturevalue("real_kafka")
        return
    with Server(tmp_path / "data") as server:
        yield server.address


class Lives:
    """The processes of a group, and the file that they write."""

    def __init__(self, address: str, folder: Path, poison: str = "") -> None:
        self.topic, self.group = f"orders-{uuid.uuid4().hex[:8]}", "billing"
        self.path = folder / "lines"
        self.path.touch()
        self._errors = (folder / "errors").open("wb")
        self._address, self._poison = address, poison
        self._lines: list[list[str]] = []
        self._read_to = 0
        self._done: set[str] = set()
        self._done_by: defaultdict[str, int] = defaultdict(int)
        self.processes: list[subprocess.Popen[bytes]] = []

    def begin(self, seed: int) -> subprocess.Popen[bytes]:
        arguments = [self._address, self.topic, self.group, str(self.path), str(seed), self._poison]
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.api.scheduler.killed_subscriber", *arguments], stderr=self._errors
        )
        self.processes.append(process)
        return process

    def lines(self) -> list[list[str]]:
        """All lines so far."""
        with self.path.open("rb") as file:
            file.seek(self._read_to)
            whole = file.read().rpartition(b"\n")[0]
        for line in whole.splitlines():
            words = line.decode().split()
            self._lines.append(words)
            if words[0] == "done":
                self._done.add(f"{words[2]}:{words[3]}")
                self._done_by[words[1]] += 1
        self._read_to += len(whole) + bool(whole)
        return self._lines

    def done(self) -> set[str]:
        self.lines()
        return self._done

    def count_done(self, pid: int) -> int:
        self.lines()
        return self._done_by[str(pid)]

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()
        self._errors.close()


@asynccontextmanager
async def group_on(address: str, folder: Path, poison: str = "") -> Any:
    lives = Lives(address, folder, poison)
    engine = await KafkaEngine.connect(address, timeout_s=20)
    try:
        await engine.create_topic(lives.topic, partitions=PARTITIONS)
        yield lives, engine
    finally:
        lives.close()
        await engine.close()


def check(lines: list[list[str]], dead: set[int]) -> int:
    """Check the order, overlaps and repeats of what the processes did. Returns the number of repeats."""
    running: dict[str, str] = {}
    first_done: defaultdict[str, list[int]] = defaultdict(list)
    done: set[tuple[int, int]] = set()
    saying: defaultdict[tuple[str, str], list[tuple[int, int, str]]] = defaultdict(list)
    position = [0] * PARTITIONS
    beyond: list[set[int]] = [set() for _ in range(PARTITIONS)]
    repeats = 0
    for word, pid, *rest in lines:
        if word == "commit":
            saying[pid, rest[0]].append((int(rest[1]), int(rest[2]), rest[3]))
        elif word == "committed":
            for partition, offset, ranges in saying[pid, rest[0]]:
                position[partition] = offset
                pairs = [pair.split("-") for pair in ranges.split(",") if pair != "-"]
                beyond[partition] = {offset for begin, end in pairs for offset in range(int(begin), int(end))}
        elif word in ("start", "done", "failed"):
            key, number, place = rest[0], int(rest[1]), (int(rest[2]), int(rest[3]))
            if word == "start":
                assert key not in running or (running[key] != pid and int(running[key]) in dead), (
                    "two of a key"
                )
                running[key] = pid
                repeats += place in done
                assert place[1] >= position[place[0]], "it is before the position, and repeated"
                assert place[1] not in beyond[place[0]], "the notes say that it is done"
                continue
            running.pop(key, None)
            if word == "done" and place not in done:
                done.add(place)
                first_done[key].append(number)
    for key, numbers in first_done.items():
        assert numbers == sorted(numbers), f"the order of {key}"
    return repeats


class StillAlive:
    """Asserts that something is done all the time."""

    def __init__(self, lives: Lives) -> None:
        self._lives = lives
        self._lines, self._since_s = 0, time.monotonic()

    def check(self) -> None:
        """AssertionError: nothing has been done for long."""
        lines, now_s = len(self._lives.lines()), time.monotonic()
        if lines > self._lines:
            self._lines, self._since_s = lines, now_s
        assert now_s - self._since_s < QUIET_S_MAX, self._lives.lines()[-5:]


async def until_done(lives: Lives, published: set[str], pids: Sequence[int]) -> None:
    """Wait until everything is done, and these processes run."""
    progress = StillAlive(lives)
    while not all(["joined", str(pid)] in lives.lines() for pid in pids):
        progress.check()
        await asyncio.sleep(0.2)
    while not published <= lives.done():
        progress.check()
        await asyncio.sleep(0.2)


def test_killing_subscribers_at_random_loses_nothing_and_repeats_only_what_no_commit_says(
    address: str, tmp_path: Path
) -> None:
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    rng = random.Random(seed)

    async def work() -> None:
        async with group_on(address, tmp_path) as (lives, engine):
            published: set[str] = set()

            async def publish(count: int) -> None:
                numbers = range(len(published), len(published) + count)
                values = [f"k{rng.randrange(KEYS)}:{number}" for number in numbers]
                published.update(values)
                events = [NewEvent(value.encode(), value.partition(":")[0].encode()) for value in values]
                await engine.publish(lives.topic, events)

            await publish(500)
            slots = [lives.begin(rng.randrange(1 << 30)) for _ in range(2)]
            dead: set[int] = set()
            progress = StillAlive(lives)
            for _ in range(4):
                victim = rng.randrange(2)
                while lives.count_done(slots[victim].pid) < 100:
                    progress.check()
                    if len(published) - len(lives.done()) < OPEN_MAX:
                        await publish(60)
                    await asyncio.sleep(0.25)
                await asyncio.sleep(rng.random())
                slots[victim].kill()
                slots[victim].wait()
                dead.add(slots[victim].pid)
                slots[victim] = lives.begin(rng.randrange(1 << 30))
            await until_done(lives, published, [process.pid for process in slots])
            for process in slots:
                process.terminate()
            for process in slots:
                assert process.wait(30) == 0, (tmp_path / "errors").read_text()[-2_000:]
            repeats = check(lives.lines(), dead)
            print(f"{len(published)} events, {len(dead)} kills, {repeats} repeats, {CONCURRENCY} at once")

    asyncio.run(work())


def test_an_event_that_kills_its_process_is_a_dead_letter_after_three_or_four_deaths(
    address: str, tmp_path: Path
) -> None:
    async def work() -> None:
        poison = "k7:40"
        async with group_on(address, tmp_path, poison) as (lives, engine):
            values = [f"k{number % 20}:{number}" for number in range(40)] + [poison]
            values += [f"k{number % 20}:{number}" for number in range(41, 80)]
            events = [NewEvent(value.encode(), value.partition(":")[0].encode()) for value in values]
            await engine.publish(lives.topic, events)
            deaths = 0
            process = lives.begin(1)
            end_s = time.monotonic() + END_S_MAX
            while not set(values) - {poison} <= lives.done():
                assert time.monotonic() < end_s, lives.lines()[-20:]
                if process.poll() is not None:
                    assert process.returncode == -signal.SIGKILL, (tmp_path / "errors").read_text()[-2_000:]
                    deaths += 1
                    process = lives.begin(1)
                await asyncio.sleep(0.1)
            assert deaths in (3, 4), lives.lines()
            process.terminate()
            assert process.wait(30) == 0
            ends = [
                (await engine.bounds(f"{lives.topic}.billing.dead", partition)).end
                for partition in range(PARTITIONS)
            ]
            assert sum(ends) == 1

    asyncio.run(work())
