"""A subscriber in a process of its own, which a test kills. It writes what it does to a file, line by line.

    python -m tests.api.scheduler.killed_subscriber ADDRESS TOPIC GROUP FILE SEED [POISON]

Lines: `start PID KEY NUMBER PARTITION OFFSET`, the same with `done` and `failed`; `commit PID N PARTITION
POSITION DONE` of each partition in a commit, and `committed PID N` when it is durable. An event whose value
is POISON kills the process.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections.abc import AsyncGenerator, Sequence
from itertools import count
from typing import Any

from mainstem import contract
from mainstem.api.codec import codec_of
from mainstem.api.event import Event
from mainstem.api.runner import Runner
from mainstem.api.scheduler import cluster_work
from mainstem.api.scheduler.partition_ledger import LedgerCommit
from mainstem.api.signals import Retry
from mainstem.api.subscriber import declared, options_of
from mainstem.clock import LoopClock
from mainstem.contract import Member
from mainstem.engines.kafka.engine import KafkaEngine
from mainstem.engines.kafka.read import CONSUMER_SETTINGS

CONCURRENCY = 32


class ClusterBackend:
    """A Kafka cluster as a backend: without queues."""

    queues = None

    def __init__(self, engine: KafkaEngine, clock: LoopClock) -> None:
        self.engine = engine
        self.clock = clock

    def search(self, query: str, **named: Any) -> AsyncGenerator[contract.Event, None]:
        raise NotImplementedError

    async def redrive(self, subscription: str, **named: Any) -> int:
        raise NotImplementedError

    async def close(self) -> None:
        await self.engine.close()


async def main(address: str, topic: str, group: str, path: str, seed: str, poison: str = "") -> None:
    rng = random.Random(int(seed))
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    pid = os.getpid()

    def write(*words: object) -> None:
        os.write(file, (" ".join(map(str, words)) + "\n").encode())

    async def handle(event: Event[str]) -> None:
        key, _, number = event.value.partition(":")
        place = pid, key, number, event.partition, event.offset
        write("start", *place)
        if event.value == poison:
            os.kill(pid, signal.SIGKILL)
        try:
            await asyncio.sleep(rng.uniform(0.005, 0.05))
            if rng.random() < 0.05:
                raise ValueError("by chance")
        except BaseException:
            write("failed", *place)
            raise
        write("done", *place)

    numbers = count()
    original = cluster_work._commit

    async def commit(member: Member, commits: Sequence[LedgerCommit]) -> None:
        number = next(numbers)
        for part in commits:
            position, done = part.position, part.notes.done
            if position.topic == topic:
                ranges = ",".join(f"{begin}-{end}" for begin, end in done)
                write("commit", pid, number, position.partition, position.offset, ranges or "-")
        await original(member, commits)
        write("committed", pid, number)

    cluster_work._commit = commit
    CONSUMER_SETTINGS["session.timeout.ms"] = 6_000
    CONSUMER_SETTINGS["heartbeat.interval.ms"] = 500
    retry = Retry(max_attempts=100, initial_delay=0.01, max_delay=0.05)
    engine = await KafkaEngine.connect(address)
    backend = ClusterBackend(engine, LoopClock(asyncio.get_running_loop()))
    options = options_of(topic, group, concurrency=CONCURRENCY, retry=retry)
    runner = Runner(backend, [declared(handle, options, codec_of(str))])
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await runner.start()
    write("joined", pid)
    await stop.wait()
    await runner.stop(5)
    write("stopped", pid)
    await engine.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
