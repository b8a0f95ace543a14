"""`python -m bench.search`: a needle in the log, with and without token filters, against `kcat -C | grep`.

python -m bench.search [--gb N] [--folder DIR]

Events of about 1 KB of JSON with fresh ids, in batches of 64 KB as producers send them, one topic of 4
partitions. Prints figures, asserts nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path

from mainstem.clock import LoopClock
from mainstem.engines.embedded import EmbeddedEngine
from mainstem.log.batch import build
from mainstem.log.realdisk import RealDisk
from mainstem.node import Node
from mainstem.search.local import LogSearch
from mainstem.search.service import Done, Hit, SearchRequest
from mainstem.settings import Settings

PARTITIONS = 4
BATCH_EVENTS = 64
NEEDLE = "needle4711x"
WORDS = ("delivered", "failed", "pending", "gate", "runway", "weather", "crew", "delay", "paid", "refund")


def event(rng: random.Random, number: int) -> bytes:
    """About 1 KB of JSON, with ids that occur once."""
    lines = ",".join(
        f'{{"sku":"{rng.getrandbits(48):012x}","what":"{rng.choice(WORDS)}","count":{rng.randrange(9)},'
        f'"price":{rng.randrange(100_000) / 100},"note":"{rng.choice(WORDS)} {rng.choice(WORDS)}"}}'
        for _ in range(9)
    )
    return f'{{"order":{number},"id":"{rng.getrandbits(128):032x}","lines":[{lines}]}}'.encode()


async def fill(node: Node, total_bytes: int) -> int:
    """Append until there is so much; bytes of payload."""
    engine, rng = EmbeddedEngine(node), random.Random(4711)
    await engine.create_topic("orders", partitions=PARTITIONS)
    topic = node.topics.get("orders")
    assert topic is not None
    written = number = 0
    middle = False
    while written < total_bytes:
        rows = []
        for _ in range(BATCH_EVENTS):
            value = event(rng, number)
            if not middle and written > total_bytes // 2:
                value, middle = value[:-1] + f',"mark":"{NEEDLE}"}}'.encode(), True
            rows.append((None, value, (), 1_700_000_000_000 + number))
            number += 1
            written += len(value)
        partition = node.partition(topic, number // BATCH_EVENTS % PARTITIONS)
        await partition.when_committed(partition.append(memoryview(build(rows))).next_offset)
    return written


async def timed(search: LogSearch, query: str, **more: int | None) -> tuple[float, float, Done]:
    """Seconds to the first match and to the end."""
    began = time.perf_counter()
    first = 0.0
    last: Done | None = None
    async with aclosing(search.search(SearchRequest(query=query, **more))) as updates:  # type: ignore[arg-type]  # the limit
        async for update in updates:
            if isinstance(update, Hit) and not first:
                first = time.perf_counter() - began
            elif isinstance(update, Done):
                last = update
    assert last is not None
    return first, time.perf_counter() - began, last


async def measure(folder: Path, total_bytes: int, say: Callable[[str, str], None]) -> None:
    """All figures of our own."""
    loop = asyncio.get_running_loop()
    clock = LoopClock(loop)
    node = await Node.open(
        Settings(data=str(folder), durability="os"), RealDisk(str(folder), loop), clock, random.Random(1)
    )
    search = LogSearch(EmbeddedEngine(node), folder, clock)
    try:
        began = time.perf_counter()
        payload = await fill(node, total_bytes)
        say("written", f"{payload / 1e9:.2f} GB of payload in {time.perf_counter() - began:.0f} s")
        await timed(search, NEEDLE, limit=1)  # starts the workers, brings the log into the page cache
        _, seconds, done = await timed(search, NEEDLE, limit=None)
        say("needle, plain scan", f"{seconds:.2f} s, {payload / seconds / 1e6:,.0f} MB/s of payload")
        assert done.totals.matches == 1
        began = time.perf_counter()
        blocks = await search.cover()
        seconds = time.perf_counter() - began
        size = sum(path.stat().st_size for path in (folder / "search").rglob("*.tokens"))
        say("token filters made", f"{blocks} in {seconds:.0f} s, {payload / seconds / 1e6:,.0f} MB/s, "
            f"{size / payload:.2%} of payload")  # fmt: skip
        _, seconds, done = await timed(search, NEEDLE, limit=None)
        say("needle, token filters", f"{seconds:.3f} s, "
            f"{done.totals.skipped_bytes / (done.totals.total_bytes or 1):.1%} skipped")  # fmt: skip
        first, seconds, _ = await timed(search, "refund", limit=100)
        say("common word", f"first after {first:.3f} s, 100 after {seconds:.3f} s")
        began = time.perf_counter()
        await search.histogram((), None, None, 100)
        say("histogram", f"{time.perf_counter() - began:.2f} s")
    finally:
        await search.close()
        await node.close()


def kcat(folder: Path, say: Callable[[str, str], None]) -> None:
    """What people do today, on the same data."""
    if shutil.which("kcat") is None:
        say("kcat -C | grep", "kcat is not installed")
        return
    command = [sys.executable, "-m", "mainstem", "serve", "--data", str(folder), "--kafka", "127.0.0.1:0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout is not None
        ready = re.search(r"kafka=(\S+)", server.stdout.readline())
        assert ready is not None
        began = time.perf_counter()
        pipe = f"kcat -C -b {ready[1]} -t orders -o beginning -e -q | grep -c {NEEDLE}"
        found = subprocess.run(["sh", "-c", pipe], capture_output=True, text=True, check=False)
        say("kcat -C | grep", f"{time.perf_counter() - began:.2f} s, {found.stdout.strip()} found")
        server.terminate()


def main() -> None:
    """Fill, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m bench.search", description="A needle in the log.")
    parser.add_argument("--gb", type=float, default=1.0, help="payload, GB")
    parser.add_argument("--folder", help="where the log is made and removed; a temporary folder otherwise")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=options.folder))

    def say(what: str, figure: str) -> None:
        print(f"{what:24} {figure}", flush=True)

    try:
        asyncio.run(measure(folder, int(options.gb * 1e9), say))
        kcat(folder, say)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
