"""How fast the Python API publishes and reads, by the CPU time of the program that uses it.

    python -m bench.python_api [server|memory]

Each figure is the median of several runs. The CPU time of a server is not in it; that of a log in memory is.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

from tests.support.server import Server

import mainstem

EVENTS = 60_000
RUNS = 5
SINGLE_EVENTS = 500
PARTITIONS = 4


def median_rate(count: int, durations_s: list[float]) -> str:
    """Events a second of the median duration."""
    return f"{count / statistics.median(durations_s):,.0f}/s"


async def measure(stream: mainstem.Stream) -> dict[str, str]:
    """What is measured on a stream that is open, and the results."""
    await stream.backend.engine.create_topic("measured", partitions=PARTITIONS)
    topic = stream.topic("measured", key=lambda order: order["customer"])
    orders = [{"id": n, "customer": f"c{n % 1000}", "total": n * 0.5} for n in range(EVENTS)]
    await topic.publish_many(orders[:1_000])
    many: list[float] = []
    for _ in range(RUNS):
        begin = time.process_time()
        await topic.publish_many(orders)
        many.append(time.process_time() - begin)
    single: list[float] = []
    for order in orders[:SINGLE_EVENTS]:
        begin = time.perf_counter()
        await topic.publish(order)
        single.append(time.perf_counter() - begin)
    read: list[float] = []
    for _ in range(RUNS):
        begin = time.process_time()
        count = sum([len(events) async for events in topic.read_lists()])
        read.append((time.process_time() - begin) / count)
    return {
        "publish_many, dicts with a key": median_rate(EVENTS, many),
        "publish, awaited, p50": f"{statistics.median(single) * 1000:.2f} ms",
        "read_lists, dicts": median_rate(1, read),
    }


async def run(stream: mainstem.Stream) -> dict[str, str]:
    """Open the stream and measure."""
    async with stream:
        return await measure(stream)


def main(place: str = "server") -> None:
    """Measure on a server of its own, or in memory, and print the results."""
    if place == "memory":
        results = asyncio.run(run(mainstem.open(":memory:")))
    else:
        with (
            tempfile.TemporaryDirectory() as folder,
            Server(Path(folder) / "data", http="127.0.0.1:0", durability="os") as server,
        ):
            results = asyncio.run(run(mainstem.connect(server.address)))
    for name, result in results.items():
        print(f"{place:<8} {name:<32} {result}")


if __name__ == "__main__":
    main(*sys.argv[1:])
