"""A log in this process: what opening one costs, and what crossing to its thread costs:
`python -m bench.in_process [--repeats N]`.

Opening and closing in memory, as a test does that has a broker of its own; tests with real clients, an
aiokafka producer and a group's consumer; from publishing an event to a reader in another thread; and
importing. CPU time of the process where that is meant, for the machine may be busy; times
between threads are of the clock, and on a busy machine say little.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

TESTS = 100
EVENTS = 1_000


def opening(repeats: int) -> list[tuple[str, float, str]]:
    """Opening and closing a log in memory: the first, and the median of those after it."""
    from mainstem.api.host import MEMORY, HostedNode

    def once() -> float:
        began = time.process_time()
        HostedNode.open(MEMORY).close_now()
        return (time.process_time() - began) * 1000

    first = once()
    return [
        ("open and close in memory, the first, with its imports", first, "ms CPU"),
        (
            "open and close in memory, after the first",
            statistics.median(once() for _ in range(repeats)),
            "ms CPU",
        ),
    ]


def real_clients() -> list[tuple[str, float, str]]:
    """TESTS tests, each with a broker, a producer and a consumer of its own."""
    from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

    from mainstem.api.host import MEMORY, HostedNode

    async def test(node: HostedNode) -> None:
        address = node.serve("kafka")["kafka"]
        producer: Any = AIOKafkaProducer(bootstrap_servers=address)
        await producer.start()
        await producer.send_and_wait("orders", b"1")
        await producer.stop()
        consumer: Any = AIOKafkaConsumer(
            "orders", bootstrap_servers=address, group_id="billing", auto_offset_reset="earliest"
        )
        await consumer.start()
        assert (await consumer.getone()).value == b"1"
        await consumer.stop()

    def once() -> None:
        node = HostedNode.open(MEMORY)
        try:
            asyncio.run(test(node))
        finally:
            node.close_now()

    once()
    began, began_cpu = time.perf_counter(), time.process_time()
    for _ in range(TESTS):
        once()
    return [
        (f"{TESTS} tests with aiokafka clients", time.perf_counter() - began, "s"),
        (f"{TESTS} tests with aiokafka clients", time.process_time() - began_cpu, "s CPU"),
    ]


def crossing() -> list[tuple[str, float, str]]:
    """From publishing an event to its reader, both in this loop, the log in its thread."""
    from mainstem.api.host import MEMORY, HostedNode
    from mainstem.contract import NewEvent, Position

    async def run(node: HostedNode) -> tuple[float, float]:
        await node.engine.publish("orders", [NewEvent(b"x")])
        reader = await node.engine.reader([Position("orders", 0, 1)])
        to_reader, acknowledged = [], []
        for _ in range(EVENTS):
            reading = asyncio.ensure_future(reader.read(wait_ms=10_000))
            await asyncio.sleep(0.0005)  # it waits in the other thread
            began = time.perf_counter()
            publishing = asyncio.ensure_future(node.engine.publish("orders", [NewEvent(b"x")]))
            await reading
            to_reader.append(time.perf_counter() - began)
            await publishing
            acknowledged.append(time.perf_counter() - began)
        return statistics.median(to_reader) * 1000, statistics.median(acknowledged) * 1000

    node = HostedNode.open(MEMORY)
    try:
        to_reader, acknowledged = asyncio.run(run(node))
    finally:
        node.close_now()
    return [
        ("an event from publish to a reader, across threads, p50", to_reader, "ms"),
        ("an event from publish to its acknowledgement, across threads, p50", acknowledged, "ms"),
    ]


def imports() -> list[tuple[str, float, str]]:
    """CPU time of imports, each in a new process, beside what the process has anyway."""
    rows = []
    for what in ("mainstem", "mainstem.contract"):
        code = f"import time; began = time.process_time(); import {what}; print(time.process_time() - began)"
        seconds = [float(subprocess.check_output([sys.executable, "-c", code])) for _ in range(5)]
        rows.append((f"import {what}", statistics.median(seconds) * 1000, "ms CPU"))
    return rows


def main() -> None:
    """Measure, and print a line for each figure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition(":")[0])
    parser.add_argument("--repeats", type=int, default=50, help="how often a log is opened")
    repeats = parser.parse_args().repeats
    parts: list[Callable[[], list[tuple[str, float, str]]]] = [
        imports,
        lambda: opening(repeats),
        crossing,
        real_clients,
    ]
    for part in parts:
        for what, value, unit in part():
            print(f"{what}: {value:.3g} {unit}", flush=True)


if __name__ == "__main__":
    main()
