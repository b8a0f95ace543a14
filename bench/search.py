"""Measures a search for one event in a large log, and the tools that people use for it today, on the same
data.

python -m bench.search [--gb N | --events N] [--folder DIR] [--repeats N] [--indexed] [--workers N]

Real events of about 1 KB with fresh ids (see `bench.events`), one topic of 4 partitions. With `--folder` the
data is kept for the next run. It prints medians and ratios, and names what it did not measure.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.compat import apache_kafka
from tests.support.server import Server

from bench import search_kaskade, search_load
from bench.events import NEEDLE, TOPIC, Filled, filled
from mainstem.clock import LoopClock
from mainstem.engines.embedded.engine import EmbeddedEngine
from mainstem.log.disk.real_disk import RealDisk
from mainstem.node import Node
from mainstem.search.contract import Done, Hit, SearchRequest
from mainstem.search.index import layout
from mainstem.search.local.search import LogSearch
from mainstem.settings import Settings

SUBSTRING = f"*{NEEDLE[1:-1]}*"
"""It finds the needle too, but token filters cannot exclude blocks for it."""
COMMON = "jfk"
NOT_MEASURED = {
    "kafka-ui, Redpanda Console, AKHQ, Conduktor, Kpow": "graphical, page by page",
}

Say = Callable[[str, str], None]


@dataclass(slots=True)
class SearchTiming:
    """One search."""

    first_s: float
    seconds: float
    done: Done


async def timed(search: LogSearch, request: SearchRequest) -> SearchTiming:
    """Run a search. Times from the call to the first match and to the end."""
    began = time.perf_counter()
    first = 0.0
    last: Done | None = None
    async with aclosing(search.search(request)) as updates:
        async for update in updates:
            if isinstance(update, Hit) and not first:
                first = time.perf_counter() - began
            elif isinstance(update, Done):
                last = update
    assert last is not None
    return SearchTiming(first, time.perf_counter() - began, last)


async def median_of(repeats: int, work: Callable[[], Awaitable[SearchTiming]]) -> SearchTiming:
    """The run with the median time."""
    runs = [await work() for _ in range(repeats)]
    return sorted(runs, key=lambda run: run.seconds)[repeats // 2]


@asynccontextmanager
async def opened(folder: Path, workers: int | None, *, indexed: bool = False) -> AsyncIterator[LogSearch]:
    """A search over the folder, as it is right after a start of the server."""
    loop = asyncio.get_running_loop()
    clock = LoopClock(loop)
    settings = Settings(data=str(folder), durability="os")
    node = await Node.open(settings, RealDisk(str(folder), loop), clock, random.Random(1))
    engine = EmbeddedEngine(node)
    await engine.alter_topic(TOPIC, {"mainstem.search": "indexed" if indexed else None})
    search = LogSearch(engine, folder, clock, workers=workers)
    try:
        yield search
    finally:
        await search.close()
        await node.close()


async def measure(folder: Path, data: Filled, workers: int | None, repeats: int, say: Say) -> float:
    """Measure our own search. Returns the seconds of the needle with token filters."""
    needle = SearchRequest(query=NEEDLE, limit=None)
    plain = SearchRequest(query=SUBSTRING, limit=None)
    common = SearchRequest(query=COMMON, limit=100)
    async with opened(folder, workers) as search:
        await timed(search, needle)  # reads the log into the page cache
        timing = await median_of(repeats, lambda: timed(search, plain))
        assert timing.done.totals.matches == 1
        rate = data.payload / timing.seconds
        say(
            "plain scan",
            f"{timing.seconds:.2f} s, {rate / 1e9:.2f} GB/s of payload, {search.pool.workers} workers",
        )
        began = time.perf_counter()
        blocks = await search.build_missing_filters()
        seconds = time.perf_counter() - began
        size = sum(path.stat().st_size for path in (folder / "search").rglob("*.tokens"))
        if blocks:
            say(
                "token filters made", f"{blocks} in {seconds:.0f} s, {data.payload / seconds / 1e6:,.0f} MB/s"
            )
        say("token filters take", f"{size / data.payload:.2%} of payload")
    async with opened(folder, workers) as search:
        for label in ("common word, first search", "common word"):
            timing = await timed(search, common)
            say(label, f"first after {timing.first_s:.3f} s, 100 after {timing.seconds:.3f} s")
    async with opened(folder, workers) as search:
        timing = await timed(search, needle)
        say("needle, first search", f"{timing.seconds:.3f} s")
        timing = await median_of(repeats, lambda: timed(search, needle))
        assert timing.done.totals.matches == 1
        totals = timing.done.totals
        say(
            "needle",
            f"{timing.seconds:.3f} s, {totals.skipped_bytes / (totals.total_bytes or 1):.1%} skipped",
        )
        traced = SearchRequest(query=f'"{data.last_id}"', limit=1000)
        traces = await median_of(repeats, lambda: timed(search, traced))
        say("trace of an id", f"{traces.seconds:.3f} s")
        for label in ("histogram, first", "histogram"):
            began = time.perf_counter()
            await search.histogram((), None, None, 100)
            say(label, f"{time.perf_counter() - began:.3f} s")
    return timing.seconds


async def measure_indexed(folder: Path, data: Filled, workers: int | None, repeats: int, say: Say) -> None:
    """Measure the needle with the full-text index."""
    needle = SearchRequest(query=NEEDLE, limit=None)
    root = folder / layout.ROOT
    async with opened(folder, workers, indexed=True) as search:
        known = len(list(root.glob("*/*")))
        began = time.perf_counter()
        await search.build_missing_parts()
        seconds = time.perf_counter() - began
        parts = len(list(root.glob("*/*")))
        rate = f"{data.payload / seconds / 1e6:,.0f} MB/s"
        say("index parts checked" if known else "index parts made", f"{parts} in {seconds:.0f} s, {rate}")
        size = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
        say("index takes", f"{size / data.payload:.1%} of payload")
    async with opened(folder, workers, indexed=True) as search:
        await search.build_missing_parts()
        timing = await timed(search, needle)
        say("needle, indexed, first search", f"{timing.seconds:.3f} s")
        timing = await median_of(repeats, lambda: timed(search, needle))
        assert timing.done.totals.matches == 1
        totals = timing.done.totals
        share = totals.indexed_bytes / (totals.total_bytes or 1)
        say("needle, indexed", f"{timing.seconds:.3f} s, {share:.1%} answered by the index")


# ----------------------------------------------------------------------------------------------------------
# the tools that people use today


def measure_others(folder: Path, ours_s: float, repeats: int, say: Say) -> None:
    """Measure the same needle with a consumer and grep, and with kaskade, from the same server."""
    readers: list[tuple[str, list[str]]] = []
    with Server(folder, durability="os") as server:
        if shutil.which("kcat"):
            command = ["kcat", "-C", "-b", server.address, "-t", TOPIC, "-o", "beginning", "-e", "-q"]
            readers.append(("kcat -C | grep", command))
        else:
            say("kcat -C | grep", "not measured: kcat is not installed")
        if shutil.which("java") and list(apache_kafka.JARS.glob("kafka_2.13-*.jar")):
            consumer = apache_kafka.java("512m", "org.apache.kafka.tools.consumer.ConsoleConsumer")
            consumer += ["--bootstrap-server", server.address, "--topic", TOPIC, "--from-beginning"]
            readers.append(("console consumer | grep", [*consumer, "--timeout-ms", "3000"]))
        else:
            say("console consumer | grep", "not measured: its jars are missing (make deps-all)")
        for name, command in readers:
            runs = [_grep(command) for _ in range(repeats if "kcat" in name else 1)]
            seconds = statistics.median(runs)
            say(name, f"{seconds:.2f} s, {seconds / ours_s:,.0f} times as long as ours")
        why = search_kaskade.missing()
        if why is None:
            seconds = search_kaskade.seconds(server.address, TOPIC, NEEDLE)
            say("kaskade, value contains", f"{seconds:.2f} s, {seconds / ours_s:,.0f} times as long as ours")
        else:
            say("kaskade, value contains", f"not measured: {why}")
    for name, why in NOT_MEASURED.items():
        say(name, f"not measured: {why}")


def _grep(command: Sequence[str]) -> float:
    """Seconds until the command has printed the whole topic and grep has found the needle in it."""
    with tempfile.TemporaryFile() as log:
        began = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log) as reader:
            grep = subprocess.run(
                ["grep", "-c", NEEDLE], stdin=reader.stdout, capture_output=True, text=True, check=False
            )
            seconds = time.perf_counter() - began
        assert grep.stdout.strip() == "1", f"{command[0]} did not find the needle"
    # The console consumer waits for more events before it ends.
    return seconds - (3.0 if "--timeout-ms" in command else 0.0)


# ----------------------------------------------------------------------------------------------------------


def main() -> None:
    """Fill a log, measure, and print the figures."""
    parser = argparse.ArgumentParser(prog="python -m bench.search", description="A needle in the log.")
    parser.add_argument("--gb", type=float, default=1.0, help="payload, GB")
    parser.add_argument("--events", type=int, help="number of events of about 1 KB; replaces --gb")
    parser.add_argument("--folder", type=Path, help="folder of the data, which is kept for the next run")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each figure")
    parser.add_argument("--indexed", action="store_true", help="measure also with a full-text index")
    parser.add_argument(
        "--workers", type=int, help="number of worker processes; default: as many as a server has"
    )
    options = parser.parse_args()
    payload = int((options.gb if options.events is None else options.events / 1e6) * 1e9)
    temporary = None if options.folder else tempfile.TemporaryDirectory(prefix="bench-")
    folder: Path = options.folder or Path(temporary.name if temporary else "") / "data"

    def say(what: str, figure: str) -> None:
        print(f"{what:28} {figure}", flush=True)

    try:
        began = time.perf_counter()
        data = asyncio.run(filled(folder, payload))
        say("data", f"{data.events:,} events, {data.payload / 1e9:.2f} GB of payload, "
            f"{time.perf_counter() - began:.0f} s")  # fmt: skip
        say("machine", f"{os.cpu_count()} cores, Python {sys.version.split()[0]}")
        ours_s = asyncio.run(measure(folder, data, options.workers, options.repeats, say))
        if options.indexed:
            asyncio.run(measure_indexed(folder, data, options.workers, options.repeats, say))
        measure_others(folder, ours_s, options.repeats, say)
        search_load.measure(options.repeats, say)
    finally:
        if temporary is not None:
            temporary.cleanup()


if __name__ == "__main__":
    main()
