"""What the shared scan of a partition costs: rows of `python -m bench.queues`.

Over a node with a real disk in a temporary folder. The time to the first match is of the wall clock, that of
the others CPU time of the process.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from mainstem.clock import LoopClock
from mainstem.engines.embedded.engine import EmbeddedEngine
from mainstem.log.disk.real_disk import RealDisk
from mainstem.log.partition.partition import Partition
from mainstem.log.storage.record_batch import build
from mainstem.node import Node
from mainstem.queue_contract import SubscriptionSettings
from mainstem.search.local.search import LogSearch
from mainstem.settings import Settings

Row = tuple[str, str, float, str]
"""(what, unit, figure, bar)"""
BATCH = 500
"""Events of a producer's batch, of some 100 bytes each."""
RARE = 10_000
"""An event in this number has the rare word."""
IDLE_S = 3.0


@cache
def batch(number: int) -> bytes:
    """A batch of events for many customers; the first may have the rare word."""
    records = []
    for index in range(BATCH):
        word = "rare" if index == 0 and number % (RARE // BATCH) == RARE // BATCH - 1 else "usual"
        customer = (number * BATCH + index) * 7919 % 1000
        value = b'{"customer":"c%04d","state":"%s","total":%d,"text":"lorem ipsum dolor sit amet"}'
        records.append((b"c%04d" % customer, value % (customer, word.encode(), index), (), 1_700_000_000_000))
    return bytes(build(records))


async def append(partition: Partition, first: int, batches: int) -> None:
    """Append batches, and wait until they are committed."""
    for number in range(first, first + batches):
        partition.append(memoryview(bytearray(batch(number % (RARE // BATCH)))))
        if number % 50 == 49:
            await asyncio.sleep(0)
            while partition.high_watermark < partition.log_end_offset:
                await asyncio.sleep(0.001)
    while partition.high_watermark < partition.log_end_offset:
        await asyncio.sleep(0.001)


async def scanned(engine: EmbeddedEngine, names: list[str]) -> None:
    """Wait until the subscriptions are scanned to the end."""
    for name in names:
        while (await engine.subscription(name)).depth.ahead:
            await asyncio.sleep(0.002)


class ScanBench:
    """A server with a topic, and subscriptions of it."""

    def __init__(self, engine: EmbeddedEngine, node: Node, folder: Path, events: int) -> None:
        self.engine = engine
        self.folder = folder
        self.node = node
        self.events = events
        self.share = min(1.0, events / 10_000_000)

    async def subscribe(self, name: str, query: str) -> None:
        """Create a subscription of the topic."""
        await self.engine.create_subscription(name, SubscriptionSettings(topics=("t",), filter=query))

    async def rows(self) -> list[Row]:
        """All of them."""
        await self.engine.create_topic("t", partitions=1)
        topic = self.node.topics.get("t")
        assert topic is not None
        partition = self.node.partition(topic, 0)
        rows = await self.commits(partition)
        await append(partition, 0, self.events // BATCH)
        millions = f"{self.events / 1e6:g} M events"
        begin = time.monotonic()
        await self.subscribe("rare", "state:rare")
        assert await self.engine.pull("rare", "c", max_events=1, wait_ms=60_000)
        rows.append(
            (f"filter of 1 in 10,000 over {millions}: first match", "s", time.monotonic() - begin, "≤ 3")
        )
        cpu_s = time.process_time()
        await scanned(self.engine, ["rare"])
        rows.append(("the same, all of it scanned", "s", time.process_time() - cpu_s, ""))
        names = [f"none{number}" for number in range(50)]
        cpu_s = time.process_time()
        for number, name in enumerate(names):
            await self.subscribe(name, f"state:absent{number}")
        await scanned(self.engine, names)
        what = f"50 filters that match nothing over {millions}: first scan"
        rows.append((what, "s", time.process_time() - cpu_s, ""))
        pulls = [asyncio.ensure_future(self.engine.pull(name, "c", wait_ms=600_000)) for name in names]
        await asyncio.sleep(0.5)
        cpu_s = time.process_time()
        await asyncio.sleep(IDLE_S)
        idle = 100 * (time.process_time() - cpu_s) / IDLE_S
        rows.append(("their idle CPU after it, with 50 consumers that wait", "%", idle, "< 5"))
        for pull in pulls:
            pull.cancel()
        await asyncio.gather(*pulls, return_exceptions=True)
        rows.append((f"{what}, where the search has token filters", "s", await self.with_token_filters(), ""))
        return rows

    async def with_token_filters(self) -> float:
        """CPU seconds of the first scan of 50 further filters, whose words no block has. The tests of blocks
        in a worker of the search are not counted."""
        search = LogSearch(self.engine, self.folder, self.node.clock, workers=1)
        try:
            await search.build_missing_filters()
            self.engine.skip_blocks_by(search)
            names = [f"gone{number}" for number in range(50)]
            cpu_s = time.process_time()
            for number, name in enumerate(names):
                await self.subscribe(name, f"state:gone{number}")
            await scanned(self.engine, names)
            return time.process_time() - cpu_s
        finally:
            await search.close()

    async def commits(self, partition: Partition) -> list[Row]:
        """What a commit of 500 events costs, with many subscriptions."""
        rows: list[Row] = []
        alone = await self.commit_ms(partition, [])
        names = [f"c{number}" for number in range(max(10, round(300 * self.share)))]
        for number, name in enumerate(names):
            await self.subscribe(name, f"key:c{number:04d}")
        figure = await self.commit_ms(partition, names) - alone
        rows.append(("a commit of 500 events, with 300 filters by key", "ms", figure, ""))
        for name in names:
            await self.engine.delete_subscription(name)
        names = [f"p{number}" for number in range(max(10, round(3_000 * self.share)))]
        for name in names:
            await self.subscribe(name, "")
        figure = await self.commit_ms(partition, []) - alone
        rows.append(("a commit, with 3,000 subscriptions without a filter", "ms", figure, ""))
        for name in names:
            await self.engine.delete_subscription(name)
        return rows

    async def commit_ms(self, partition: Partition, names: list[str]) -> float:
        """Milliseconds of CPU time of a commit of 500 events until all of these have scanned it."""
        times = []
        for _ in range(20):
            begin = time.process_time()
            await append(partition, 0, 1)
            queues = [self.engine._queue_service.queue(name) for name in names]
            while any(feed.ahead for queue in queues for feed in queue.feeds.values()):
                await asyncio.sleep(0.002)
            times.append(time.process_time() - begin)
        return statistics.median(times) * 1e3


async def _run(folder: Path, events: int) -> list[Row]:
    loop = asyncio.get_running_loop()
    settings = Settings(data=str(folder), durability="os")
    node = await Node.open(settings, RealDisk(folder, loop), LoopClock(loop), random.Random(7))
    engine = EmbeddedEngine(node)
    try:
        return await ScanBench(engine, node, folder, events).rows()
    finally:
        await engine.close()
        await node.close()


def scans(scale: float) -> Iterator[Row]:
    """All rows."""
    with tempfile.TemporaryDirectory() as folder:
        events = max(20_000, round(10_000_000 * scale) // RARE * RARE)
        yield from asyncio.run(_run(Path(folder), events))
