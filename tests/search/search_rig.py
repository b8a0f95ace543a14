"""A node on a real disk with both kinds of search over it, and a brute-force search to compare them with."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mainstem.clock import LoopClock
from mainstem.contract import Event, Position
from mainstem.doors.kafka.server import KafkaDoor
from mainstem.engines.embedded.engine import EmbeddedEngine
from mainstem.log.disk.real_disk import RealDisk
from mainstem.log.partition.partition import Partition
from mainstem.log.storage.record_batch import Record, build
from mainstem.node import Node
from mainstem.search.cluster.search import ClusterSearch
from mainstem.search.contract import (
    Comparison,
    Done,
    Facets,
    Hit,
    Progress,
    Search,
    SearchRequest,
    Unreadable,
)
from mainstem.search.local.search import LogSearch
from mainstem.search.match.matcher import Matcher
from mainstem.settings import Settings
from tests.doors.kafka.access_kit import memory_access
from tests.support.listening import ListeningDoor

Row = tuple[bytes | None, bytes | None, Sequence[tuple[str, bytes | None]], int]
SEGMENT_BYTES = 64 << 10
"""Smaller than the settings permit, so that a test has many segments."""
NOW_MS = 1_700_000_000_000


@dataclass
class SearchResult:
    """All updates of a search, by kind."""

    events: list[Event] = field(default_factory=list)
    unreadable: list[Unreadable] = field(default_factory=list)
    progress: list[Progress] = field(default_factory=list)
    done: Done | None = None

    @property
    def end(self) -> Done:
        """The last update."""
        assert self.done is not None
        return self.done

    @property
    def places(self) -> list[tuple[str, int, int]]:
        """Topic, partition and offset of the hits, in their order."""
        return [(event.topic, event.partition, event.offset) for event in self.events]


@dataclass
class SearchRig:
    """A node, its engine, and the searches."""

    node: Node
    engine: EmbeddedEngine
    local: LogSearch
    cluster: ClusterSearch
    folder: Path
    listening: ListeningDoor

    def searches(self) -> list[Search]:
        """Both kinds of search over the same log."""
        return [self.local, self.cluster]

    def partition(self, topic: str, index: int) -> Partition:
        """A partition of the node's log."""
        topic_entry = self.node.topics.get(topic)
        assert topic_entry is not None
        return self.node.partition(topic_entry, index)

    async def append(self, topic: str, partition: int, rows: Sequence[Row], *, codec: str = "none") -> None:
        """Append one batch, and roll the segment if it is large enough."""
        log = self.partition(topic, partition)
        await log.when_committed(log.append(memoryview(build(rows, codec=codec))).next_offset)
        if log.segments.active is not None and log.segments.active.size > SEGMENT_BYTES:
            log.roll()

    async def events(self, topic: str) -> list[Event]:
        """All events of a topic, by partition and offset."""
        events: list[Event] = []
        for index in range(await self.engine.partitions(topic)):
            log = self.partition(topic, index)
            offset = log.log_start_offset
            reader = await self.engine.reader([Position(topic, index, offset)])
            while offset < log.high_watermark:
                read = (await reader.read(max_events=1_000, wait_ms=0)).events
                events += read
                offset = read[-1].offset + 1
            await reader.close()
        return events


async def count_facets(
    search: Search, request: SearchRequest, fields: Sequence[str], top: int
) -> tuple[Facets, Done]:
    """The facets of a search, and its last update."""
    async with aclosing(search.facets(request, fields, top)) as updates:
        *_, facets, done = [update async for update in updates if not isinstance(update, Progress)]
    assert isinstance(facets, Facets)
    assert isinstance(done, Done)
    return facets, done


async def compared(
    search: Search,
    selection: SearchRequest,
    baseline: SearchRequest,
    fields: Sequence[str] = (),
    top: int = 20,
) -> tuple[Comparison, Done]:
    """The comparison of two searches, and its last update."""
    async with aclosing(search.compare(selection, baseline, fields, top)) as updates:
        *_, comparison, done = [update async for update in updates if not isinstance(update, Progress)]
    assert isinstance(comparison, Comparison)
    assert isinstance(done, Done)
    return comparison, done


async def run(search: Search, request: SearchRequest) -> SearchResult:
    """Run a search to its end."""
    result = SearchResult()
    async with aclosing(search.search(request)) as updates:
        async for update in updates:
            if isinstance(update, Hit):
                result.events.append(update.event)
            elif isinstance(update, Unreadable):
                result.unreadable.append(update)
            elif isinstance(update, Progress):
                result.progress.append(update)
            else:
                assert result.done is None
                result.done = update
    assert result.done is not None
    return result


def brute_force(events: Sequence[Event], request: SearchRequest, now_ms: int) -> set[tuple[str, int, int]]:
    """Topic, partition and offset of the matches, found by testing every event."""
    matcher = Matcher.of(request.query, now_ms=now_ms)
    return {
        (event.topic, event.partition, event.offset)
        for event in events
        if (request.since_ms is None or event.timestamp_ms >= request.since_ms)
        and (request.until_ms is None or event.timestamp_ms < request.until_ms)
        and matcher.matches(
            event.topic,
            event.partition,
            Record(event.offset, event.timestamp_ms, event.key, event.value, event.headers),
        )
    }


@asynccontextmanager
async def open_search_rig(
    folder: Path, *, workers: int = 2, block_bytes: int = 16 << 10, part_blocks: int = 4, **settings: Any
) -> AsyncIterator[SearchRig]:
    """A rig with small blocks and parts, closed at the end."""
    loop = asyncio.get_running_loop()
    clock = LoopClock(loop)
    disk = RealDisk(str(folder), loop)
    node = await Node.open(
        Settings(data=str(folder), durability="os", **settings), disk, clock, random.Random(7)
    )
    engine = EmbeddedEngine(node)
    local = LogSearch(
        engine, folder, clock, workers=workers, block_bytes=block_bytes, part_blocks=part_blocks
    )
    listening = ListeningDoor(KafkaDoor(node, memory_access()), clock)
    # The cluster search needs only the Kafka door's address from the engine; it reads through the door.
    cluster = ClusterSearch(
        EmbeddedEngine(node, address=listening.address),
        clock,
        cache=folder / "cache",
        workers=1,
        span_bytes=block_bytes,
    )
    try:
        yield SearchRig(node, engine, local, cluster, folder, listening)
    finally:
        await local.close()
        await cluster.close()
        await listening.close()
        await node.close()


def run_on_search_rig(folder: Path, work: Callable[[SearchRig], Awaitable[None]], **settings: Any) -> None:
    """Run `work` on a new rig."""

    async def inner() -> None:
        async with open_search_rig(folder, **settings) as rig:
            await work(rig)

    asyncio.run(inner())
