"""A partition as all subscriptions share it: one reader, one watch, and one scan of its events.

Owns: where the scan reads, and which queues are woken by a commit. Refuses: how a scan goes on
(`event_scan.py`), and views that know what is ready without looking at it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from uuid import UUID

from mainstem.clock import Clock
from mainstem.coordinator.queues.subscriptions import Subscriptions
from mainstem.engines.embedded.queues.block_exclusions import (
    BlockExclusions,
    BlockTesterSlot,
    ExcludedEvents,
)
from mainstem.engines.embedded.queues.event_scan import EventScan, ScannedFeed
from mainstem.engines.embedded.queues.event_slice import EventSlice
from mainstem.engines.embedded.queues.events import DecodedBudget, EventSource, read_batches
from mainstem.log.errors import CorruptBatch
from mainstem.log.partition.partition import Partition

SLICE_BYTES = 256 << 10
"""Bytes of batches that are opened together, but for a batch that is larger."""


class PartitionScan(EventScan):
    """One partition. Feeds join it when they are opened, and leave it when they are closed."""

    def __init__(
        self, clock: Clock, machine: Subscriptions, source: EventSource, blocks: BlockTesterSlot
    ) -> None:
        super().__init__(clock, machine)
        self.source = source
        self._exclusions = BlockExclusions(clock, blocks, source.topic, source.partition)
        self.subject = f"topic {source.topic}, partition {source.partition.index}"
        self._users = 0
        self._listening: dict[Callable[[], None], None] = {}

    @property
    def partition(self) -> Partition:
        """The partition."""
        return self.source.partition

    @property
    def log_start(self) -> int:
        """See `EventScan.log_start`."""
        return self.partition.log_start_offset

    @property
    def is_over(self) -> bool:
        """See `EventScan.is_over`."""
        return self.partition.deleted

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
            self._exclusions.stop()
            self.stop()

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

    def _excluded(self, first: int, feeds: Iterable[ScannedFeed]) -> ExcludedEvents | None:
        """See `EventScan._excluded`."""
        end = self.partition.high_watermark
        within = (feed.matcher for feed in feeds if self._is_within(feed, first, end))
        return self._exclusions.find(first, [matcher for matcher in within if matcher is not None])

    async def _read(self, first: int) -> tuple[EventSlice, int]:
        """See `EventScan._read`."""
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


class PartitionScans:
    """The partitions that some subscription reads."""

    def __init__(self, clock: Clock, machine: Subscriptions) -> None:
        self._clock = clock
        self._machine = machine
        self._scans: dict[tuple[UUID, int], PartitionScan] = {}
        self.blocks = BlockTesterSlot()
        self.budget = DecodedBudget()

    def of(self, topic_id: UUID, topic: str, partition: Partition) -> PartitionScan:
        """That of a partition."""
        place = topic_id, partition.index
        scan = self._scans.get(place)
        if scan is None or scan.partition is not partition:
            source = EventSource(self._clock, topic, partition, self.budget)
            scan = self._scans[place] = PartitionScan(self._clock, self._machine, source, self.blocks)
        return scan

    def drop_unused(self, place: tuple[UUID, int]) -> None:
        """A feed of this topic and partition was closed."""
        scan = self._scans.get(place)
        if scan is not None and scan.is_unused:
            del self._scans[place]
