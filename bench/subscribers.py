"""How fast subscribers are: `python -m bench.subscribers [--events N]`.

An empty handler, at concurrency 1 and 32, decoding JSON and acknowledging each event: on an engine in this
process, with its log in memory, and on a server (`mainstem serve --durability os`). Beside it FastStream on
the same server, if it is installed, with its default (acknowledged before the handler) and with ACK.

Rates are events per second of CPU time of this process, medians of RUNS; those on a server leave out the
server's part, which is printed beside them.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import statistics
import tempfile
import time
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.support.server import Server

from mainstem.api.codec import codec_of
from mainstem.api.remote_backend import open_remote
from mainstem.api.runner import Runner
from mainstem.api.subscriber import declared, options_of
from mainstem.clock import LoopClock
from mainstem.contract import NewEvent
from mainstem.engines.embedded.engine import EmbeddedEngine
from mainstem.log.disk.memory_disk import MemoryDisk
from mainstem.node import Node
from mainstem.settings import Settings

KEYS = 1_000
RUNS = 3
BAR_SINGLE, BAR_LANES = "150,000", "100,000"
Row = tuple[str, str, float, str]
"""(what, unit, figure, bar)"""


class EngineHere:
    """A backend with an engine in this loop."""

    def __init__(self, engine: EmbeddedEngine, clock: LoopClock) -> None:
        self.engine = engine
        self.queues = engine
        self.clock = clock


def cpu_of(process_id: int) -> float:
    """Seconds of CPU time of another process."""
    fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def publish(engine: Any, topic: str, events: int) -> None:
    await engine.create_topic(topic, partitions=1)
    for first in range(0, events, 1_000):
        numbers = range(first, min(first + 1_000, events))
        await engine.publish(
            topic, [NewEvent(b'{"id":%d}' % number, b"k%d" % (number % KEYS)) for number in numbers]
        )


async def handled(backend: Any, topic: str, group: str, events: int, concurrency: int) -> float:
    """Seconds of CPU time for all events."""
    count, done = 0, asyncio.Event()

    async def handler(order: dict[str, int]) -> None:
        nonlocal count
        count += 1
        if count >= events:
            done.set()

    options = options_of(topic, group, concurrency=concurrency)
    runner = Runner(backend, [declared(handler, options, codec_of(dict[str, int]))])
    await runner.start()
    begin = time.process_time()
    await done.wait()
    spent = time.process_time() - begin
    await runner.stop()
    return spent


async def in_process(events: int) -> list[Row]:
    clock = LoopClock(asyncio.get_running_loop())
    settings = Settings(data=":memory:", durability="os")
    node = await Node.open(settings, MemoryDisk(), clock, random.Random(1))
    engine = EmbeddedEngine(node)
    await publish(engine, "orders", events)
    rows = await _rows(EngineHere(engine, clock), "in this process", events)
    await engine.close()
    await node.close()
    return rows


async def _rows(backend: Any, where: str, events: int) -> list[Row]:
    rows: list[Row] = []
    for concurrency, bar in ((1, BAR_SINGLE), (32, BAR_LANES)):
        rates = []
        for run in range(RUNS):
            spent = await handled(backend, "orders", f"g{concurrency}-{run}", events, concurrency)
            rates.append(events / spent)
        rows.append((f"mainstem, {where}, concurrency {concurrency}", "/s", statistics.median(rates), bar))
    return rows


async def on_server(server: Server, events: int) -> list[Row]:
    backend = await open_remote(server.address)
    await publish(backend.engine, "orders", events)
    assert server.process is not None
    before = cpu_of(server.process.pid)
    rows = await _rows(backend, "on a server", events)
    spent = (cpu_of(server.process.pid) - before) / (2 * RUNS * events)
    await backend.close()
    return [*rows, ("the server's part of it", "us an event", spent * 1e6, "")]


async def by_faststream(address: str, policy: str, events: int) -> float:
    """Seconds of CPU time from the first event to the last, by FastStream over confluent-kafka."""
    faststream: Any = import_module("faststream")
    count, begin, done = 0, 0.0, asyncio.Event()
    broker: Any = import_module("faststream.confluent").KafkaBroker(address, logger=None)

    async def handler(order: dict[str, int]) -> None:
        nonlocal count, begin
        begin = begin or time.process_time()
        count += 1
        if count >= events:
            done.set()

    group = f"faststream-{policy}-{time.time_ns()}"
    ack_policy = faststream.AckPolicy[policy]
    broker.subscriber("orders", group_id=group, auto_offset_reset="earliest", ack_policy=ack_policy)(handler)
    app = faststream.FastStream(broker)
    await app.start()
    await done.wait()
    spent = time.process_time() - begin
    await app.stop()
    return spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=20_000)
    events = parser.parse_args().events
    rows = asyncio.run(in_process(events))
    with (
        tempfile.TemporaryDirectory() as folder,
        Server(Path(folder) / "data", http="127.0.0.1:0", durability="os") as server,
    ):
        rows += asyncio.run(on_server(server, events))
        for policy in ("ACK_FIRST", "ACK") if find_spec("faststream") is not None else ():
            few = max(1_000, events // 4)
            rate = few / asyncio.run(by_faststream(server.address, policy, few))
            rows.append((f"FastStream, confluent, {policy}, on the server", "/s", rate, ""))
    print("| what | unit | figure | bar |\n|---|---|---|---|")
    for what, unit, figure, bar in rows:
        print(f"| {what} | {unit} | {figure:,.4g} | {bar} |")


if __name__ == "__main__":
    main()
