"""A partition as all subscriptions share it: one reader, one watch, and one scan of its events.

Owns: where the scan reads, for views at different places, and how much it does in a turn of the event loop,
whether somebody pulls or not; and which queues are woken by a commit. Refuses: to decide what a view makes of
an event (`feed.py`), and views that know what is ready without looking at it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Protocol
from uuid import UUID

from mainstem.clock import Clock
from mainstem.contract import StreamError
from mainstem.coordinator.queues.records import ViewScanned
from mainstem.coordinator.queues.subscriptions import Subscriptions
from mainstem.engines.embedded.queues.event_slice import EventSlice
from mainstem.engines.embedded.queues.events import DecodedBudget, EventSource, read_batches
from mainstem.log.errors import CorruptBatch, LogError
from mainstem.log.partition.partition import Partition
from mainstem.search.match.matcher import Matcher
from mainstem.search.match.needle_index import NeedleIndex
from mainstem.turns import next_turn

SLICE_BYTES = 256 << 10
"""Bytes of batches that are opened together, but for a batch that is larger."""
TURN_US = 2_000
"""What a scan does in a turn of the event loop costs about this many microseconds."""
FEED_US = 30
"""What it costs to let one view take the answers of a slice."""
RETRY_S = 1.0
"""Time after which a scan goes on that the disk has stopped."""

log = logging.getLogger(__name__)


class ScannedFeed(Protocol):
    """A view that is scanned, as the scan sees it."""

    problem: str
    matcher: Matcher | None

    @property
    def scanned(self) -> int:
        """Where its scan goes on."""

    @property
    def reads_keys(self) -> bool:
        """Whether it needs the keys of events."""

    def on_ready(self) -> None:
        """Something may be ready."""

    def is_behind(self) -> bool:
        """Whether there is something to scan, and room for it."""

    def has_unkeyed(self) -> bool:
        """Whether events are outstanding whose keys are not known."""

    async def learn_keys(self) -> None:
        """Learn some of those keys."""

    def take_slice(self, events: EventSlice, size: int) -> ViewScanned | None:
        """Scan up to the end of a slice of `size` bytes. Returns a record of the scan if one is due."""


class PartitionScan:
    """One partition. Feeds join it when they are opened, and leave it when they are closed."""

    def __init__(self, clock: Clock, machine: Subscriptions, source: EventSource) -> None:
        self.source = source
        self._clock = clock
        self._machine = machine
        self._users = 0
        self._scanned: dict[ScannedFeed, None] = {}
        """The feeds that need events looked at."""
        self._listening: dict[Callable[[], None], None] = {}
        self._asked: frozenset[Matcher] = frozenset()
        self._needles: NeedleIndex | None = None
        """Of the filters in `_asked`."""
        self._turns = 0
        self._scanning: asyncio.Task[None] | None = None

    @property
    def partition(self) -> Partition:
        """The partition."""
        return self.source.partition

    def join(self, feed: ScannedFeed | None) -> None:
        """One more feed; not None: it is to be scanned."""
        self._users += 1
        if self._users == 1:
            self.partition.watch(self._on_moved)
        if feed is not None:
            self._scanned[feed] = None

    def leave(self, feed: ScannedFeed) -> None:
        """A feed is closed."""
        self._users -= 1
        self._scanned.pop(feed, None)
        self._listening.pop(feed.on_ready, None)
        if self.is_unused:
            self.partition.unwatch(self._on_moved)
            self.source.forget()
            if self._scanning is not None:
                self._scanning.cancel()

    @property
    def is_unused(self) -> bool:
        """Whether no feed uses it any more."""
        return not self._users

    def listen(self, on_ready: Callable[[], None]) -> None:
        """Call this once after the next commit. So a queue without consumers costs a commit nothing."""
        self._listening[on_ready] = None

    def _on_moved(self, _: Partition) -> None:
        listening, self._listening = self._listening, {}
        for on_ready in listening:
            on_ready()
        self.scan_soon()

    # --- the scan -----------------------------------------------------------------------------------------

    def scan_soon(self) -> None:
        """Look in the background at what the views have not looked at yet."""
        if self._scanned and (self._scanning is None or self._scanning.done()):
            self._scanning = asyncio.get_running_loop().create_task(self._scan_all())

    async def _scan_all(self) -> None:
        behind: list[ScannedFeed] = []
        try:
            while behind := [feed for feed in self._scanned if feed.is_behind()]:
                await self._scan_some(behind)
                for feed in behind:
                    feed.problem = ""
        except (LogError, OSError, StreamError) as error:
            problem = (
                f"topic {self.source.topic}, partition {self.partition.index}: the scan cannot read its"
                f" events: {error}"
            )
            for feed in behind:
                feed.problem = problem
            if not self.partition.deleted:
                log.warning("%s; trying again", problem)
                self._clock.call_later(RETRY_S, self.scan_soon)

    async def _scan_some(self, behind: list[ScannedFeed]) -> None:
        self._turns += 1
        unkeyed = [feed for feed in behind if feed.has_unkeyed()]
        keyed = [feed for feed in behind if not feed.has_unkeyed()]
        if unkeyed and (self._turns % 2 or not keyed):
            await unkeyed[self._turns % len(unkeyed)].learn_keys()
            await next_turn(self._clock)
            return
        first = self._next_place(keyed)
        events, size = await self._read(first)
        members = [feed for feed in keyed if first <= max(feed.scanned, first) < events.end]
        await self._look(events, members)
        await self._pass(events, size, members)

    def _next_place(self, feeds: Iterable[ScannedFeed]) -> int:
        """Where to read next. The newest events are read in a third of the turns, so that a view that is far
        behind delays others little; the lowest place in another third, so that it reaches those before it and
        is scanned with them; any in the last."""
        places = sorted({feed.scanned for feed in feeds})
        kind, number = self._turns % 3, self._turns // 3
        place = places[-1] if kind == 0 else places[0] if kind == 1 else places[number % len(places)]
        return max(place, self.partition.log_start_offset)

    async def _read(self, first: int) -> tuple[EventSlice, int]:
        """Some batches, and their bytes."""
        partition = self.partition
        try:
            batches = await read_batches(partition, first, SLICE_BYTES)
        except CorruptBatch as error:
            events = EventSlice(self.source.topic, partition.index, b"")
            events.end = min(error.next_offset or first + 1, partition.high_watermark)
            events.unreadable.append((first, events.end))
            return events, 0
        events = EventSlice(self.source.topic, partition.index, batches.data)
        await self._run(events.open())
        return events, len(batches.data)

    async def _look(self, events: EventSlice, members: list[ScannedFeed]) -> None:
        """Find the answers to all that these feeds ask. Feeds with equal filters share one."""
        matchers = dict.fromkeys(feed.matcher for feed in members if feed.matcher is not None)
        questions = [events.find_matches(matcher) for matcher in matchers]
        if len(matchers) > 1:
            if self._needles is None or not self._asked.issuperset(matchers):
                self._asked = frozenset(matchers)
                self._needles = NeedleIndex(self._asked)
            questions.insert(0, events.find_candidates(self._needles))
        if any(feed.reads_keys for feed in members):
            questions.append(events.read_keys())
        await self._run(chain.from_iterable(questions))

    async def _pass(self, events: EventSlice, size: int, members: list[ScannedFeed]) -> None:
        """Let each feed take the answers, if it still is in the slice. Others may have been closed, or moved
        by a seek, while the answers were found."""
        records: list[ViewScanned] = []

        def steps() -> Iterator[int]:
            for feed in members:
                if feed in self._scanned and feed.is_behind() and feed.scanned < events.end:
                    record = feed.take_slice(events, size)
                    if record is not None:
                        records.append(record)
                yield FEED_US

        await self._run(steps())
        if records:
            self._machine.changes.note_scans(records)
        await next_turn(self._clock)

    async def _run(self, steps: Iterable[int]) -> None:
        """Run steps, which yield their cost in microseconds, in several turns of the event loop."""
        cost = 0
        for step_us in steps:
            cost += step_us
            if cost >= TURN_US:
                await next_turn(self._clock)
                cost = 0


class PartitionScans:
    """The partitions that some subscription reads."""

    def __init__(self, clock: Clock, machine: Subscriptions) -> None:
        self._clock = clock
        self._machine = machine
        self._scans: dict[tuple[UUID, int], PartitionScan] = {}
        self._budget = DecodedBudget()

    def of(self, topic_id: UUID, topic: str, partition: Partition) -> PartitionScan:
        """That of a partition."""
        place = topic_id, partition.index
        scan = self._scans.get(place)
        if scan is None or scan.partition is not partition:
            source = EventSource(self._clock, topic, partition, self._budget)
            scan = self._scans[place] = PartitionScan(self._clock, self._machine, source)
        return scan

    def drop_unused(self, place: tuple[UUID, int]) -> None:
        """A feed of this topic and partition was closed."""
        scan = self._scans.get(place)
        if scan is not None and scan.is_unused:
            del self._scans[place]
