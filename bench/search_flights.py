"""Measures how many flights a search process counts, compares and tests per second of processor time.

python -m bench.search_flights [CHECKOUT ...] [--repeats N]

340,000 flights of 300 bytes, in batches of 64 KB without compression, are searched by one process without
token filters, so that every event is read. With further checkouts, such as a git worktree of an earlier
commit, all of them are measured in turns. Prints, for each row and checkout, the median of flights per second
of the process, and the seconds that the user waits. Asserts nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
COPIES = 34
"""How often the sample of 10,000 flights is written."""
BATCH_EVENTS = 200
UNITED = "carrier:UA"
ROWS = (
    "facets of all fields",
    "facets of carrier and dest",
    "facets of carrier:UA",
    "carrier:UA compared with the rest",
    "count of carrier:UA AND dep_delay:>120",
    "count of dep_delay:>120",
)


def started(search: Any, row: str) -> AsyncGenerator[Any, None]:
    """The updates of the search of a row. The interface is that of every checkout since 0.1.0."""
    from mainstem.search.contract import SearchRequest

    def request(query: str, **more: Any) -> SearchRequest:
        return SearchRequest(query=query, limit=None, **more)

    async def result(compared: Any) -> AsyncGenerator[Any, None]:
        yield await compared

    match row:
        case "facets of all fields":
            return search.facets(request(""), (), 10)  # type: ignore[no-any-return]
        case "facets of carrier and dest":
            return search.facets(request(""), ("carrier", "dest"), 10)  # type: ignore[no-any-return]
        case "facets of carrier:UA":
            return search.facets(request(UNITED), (), 10)  # type: ignore[no-any-return]
        case "carrier:UA compared with the rest":
            compared = search.compare(request(UNITED), request(f"NOT ({UNITED})"))
            return compared if hasattr(compared, "aclose") else result(compared)
        case _:
            return search.search(request(row.removeprefix("count of "), only_count=True))  # type: ignore[no-any-return]


async def measure(repeats: int) -> dict[str, list[tuple[float, float]]]:
    """Processor seconds of the search process, and seconds, of each run of each row, with the checkout that
    is imported."""
    from tests.scenarios import flights

    from mainstem.clock import LoopClock
    from mainstem.engines.embedded.engine import EmbeddedEngine
    from mainstem.log.disk.real_disk import RealDisk
    from mainstem.log.storage.record_batch import build
    from mainstem.node import Node
    from mainstem.search.local.search import LogSearch
    from mainstem.settings import Settings

    runs: dict[str, list[tuple[float, float]]] = {row: [] for row in ROWS}
    loop = asyncio.get_running_loop()
    clock = LoopClock(loop)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        settings = Settings(data=folder, durability="os")
        node = await Node.open(settings, RealDisk(folder, loop), clock, random.Random(1))
        engine = EmbeddedEngine(node)
        await engine.create_topic("flights", partitions=1)
        topic = node.topics.get("flights")
        assert topic is not None
        partition = node.partition(topic, 0)
        lines = flights.sample()
        for _ in range(COPIES):
            for start in range(0, len(lines), BATCH_EVENTS):
                rows = [(None, line, (), 1_700_000_000_000) for line in lines[start : start + BATCH_EVENTS]]
                appended = partition.append(memoryview(build(rows)))
            await partition.when_committed(appended.next_offset)
        search = LogSearch(engine, Path(folder), clock, workers=1)
        async for _ in started(search, ROWS[0]):
            pass  # reads the log into the page cache, and starts the process
        for _ in range(repeats):
            for row in ROWS:
                (pid,) = search.pool.pids
                before, began = processor_s(pid), time.perf_counter()
                async with aclosing(started(search, row)) as updates:
                    async for _ in updates:
                        pass
                runs[row].append((processor_s(pid) - before, time.perf_counter() - began))
        await search.close()
        await node.close()
    return runs


def processor_s(pid: int) -> float:
    """Seconds that a process has run."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def measure_checkout(checkout: Path) -> dict[str, list[tuple[float, float]]]:
    """One run of each row in a checkout. RuntimeError: it failed."""
    environ = {**os.environ, "PYTHONPATH": f"{checkout / 'src'}{os.pathsep}{checkout}"}
    command = [sys.executable, "-P", __file__, "--as-json"]
    done = subprocess.run(command, cwd=checkout, env=environ, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{checkout}: {done.stderr[-2000:]}")
    figures: dict[str, list[tuple[float, float]]] = json.loads(done.stdout.splitlines()[-1])
    return figures


def main() -> None:
    """Measure the checkouts in turns and print the medians."""
    parser = argparse.ArgumentParser(prog="python -m bench.search_flights", description="Flights per second.")
    parser.add_argument("others", type=Path, nargs="*", help="further checkouts to measure")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each figure")
    parser.add_argument("--as-json", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.as_json:
        print(json.dumps(asyncio.run(measure(1))))
        return
    checkouts = [*(other.resolve() for other in options.others), ROOT]
    runs: dict[tuple[Path, str], list[tuple[float, float]]] = {}
    for _ in range(options.repeats):
        for checkout in checkouts:
            for row, figures in measure_checkout(checkout).items():
                runs.setdefault((checkout, row), []).extend(figures)
    for row in ROWS:
        for checkout in checkouts:
            used_s, waited_s = (
                statistics.median(values) for values in zip(*runs[checkout, row], strict=True)
            )
            rate = COPIES * 10_000 / used_s
            print(f"{row:40} {checkout.name:20} {rate:10,.0f} flights/s, {waited_s:6.2f} s", flush=True)


if __name__ == "__main__":
    main()
