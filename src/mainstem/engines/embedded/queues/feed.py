"""The feed of a subscription from one partition: its view, what of it is ready, and what retention deletes.

Owns: what becomes ready, and when. Refuses: consumers and waiting (`subscription_queue.py`), the scan itself
(`partition_scan.py`), and records: only the state machine changes what survives a restart.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Awaitable, Callable, Sequence

from mainstem.clock import Clock
from mainstem.contract import Position
from mainstem.coordinator.queues.subscriptions import Subscriptions
from mainstem.coordinator.queues.views import SubscriptionView
from mainstem.engines.embedded.queues.carried import ViewSource
from mainstem.engines.embedded.queues.own_times import Arrivals
from mainstem.engines.embedded.queues.partition_scan import PartitionScan
from mainstem.engines.embedded.queues.subscription_feed import (
    READY_MAX,
    SubscriptionFeed,
    scan_unseen,
)
from mainstem.log.partition.partition import Partition
from mainstem.log.storage.arrival_index import SPACING_MS
from mainstem.queues.runs import Run, runs_of
from mainstem.search.match.matcher import Matcher

SCAN_POSITIONS = 1_000_000
"""Positions that become ready in one turn of the loop, at most, where they need no look."""


class PartitionFeed(SubscriptionFeed):
    """A subscription's view of one partition, while it is served."""

    def __init__(
        self,
        clock: Clock,
        machine: Subscriptions,
        view: SubscriptionView,
        scan: PartitionScan,
        source: ViewSource,
        matcher: Matcher | None,
        wake_due: Callable[[SubscriptionView], int],
        on_ready: Callable[[], None],
        trim: Callable[[Partition], Awaitable[None]],
    ) -> None:
        """`trim` lets the events of a partition be done that were deleted."""
        super().__init__(clock, machine, view, matcher, wake_due, on_ready)
        self.source = source
        self._reader = source
        self._trim = trim
        self._scan: PartitionScan = scan
        scan.join(self if self.is_scanned else None)

    @property
    def partition(self) -> Partition:
        """The partition that it reads."""
        return self.source.partition

    @property
    def arrivals(self) -> Arrivals:
        """See `SubscriptionFeed.arrivals`."""
        return self.partition

    @property
    def end(self) -> int:
        """See `SubscriptionFeed.end`."""
        return self.partition.high_watermark

    @property
    def ahead(self) -> int:
        """Positions that the scan has not reached, and of which no record says what they are."""
        partition = self.partition
        first = partition.log_start_offset
        return self.view.sequence.ahead_and_oldest(first, partition.high_watermark)[0]

    async def trim(self) -> None:
        """Let the events that retention has deleted be done. Errors of the log and the coordinator."""
        await self._trim(self.partition)

    def following(self, position: int) -> int:
        """Events from this position on, before a filter."""
        return self.partition.high_watermark - position

    async def oldest(self) -> tuple[Position, int] | None:
        """See `SubscriptionFeed.oldest`."""
        position = self.view.sequence.oldest
        carried = self.view.carried.get(position)
        if carried is None:
            position = max(position, self.partition.log_start_offset)
        if position >= self.end:
            return None
        arrived_ms = self.partition.arrival_of(position) if carried is None else carried.arrived_ms
        return Position(self.source.topic, self.partition.index, position), max(0, arrived_ms)

    async def runs_of(self, places: Sequence[Position]) -> list[Run]:
        """The positions of those of these events that are in the partition."""
        own = self.source.topic, self.partition.index
        offsets = [place.offset for place in places if (place.topic, place.partition) == own]
        return runs_of(offset for offset in offsets if offset >= 0)

    def listen(self) -> None:
        """Wake the queue at the next commit."""
        self._scan.listen(self.on_ready)

    # --- what becomes ready -------------------------------------------------------------------------------

    async def advance(self) -> None:
        """See `SubscriptionFeed.advance`."""
        sequence = self.view.sequence
        if not sequence.counts().ready:  # else the timer does it
            self._wake_due(self.view)
        if self.is_scanned:
            self._scan.scan_soon()
        elif sequence.counts().ready < READY_MAX:
            end = min(self.partition.high_watermark, sequence.scanned + SCAN_POSITIONS)
            if end > sequence.scanned:
                sequence.scan(end)

    async def make_ready(self, end: int) -> None:
        """See `SubscriptionFeed.make_ready`."""
        scan_unseen(self.view.sequence, end, ())

    def arrived_before(self, wall_ms: int, began_ms: int) -> int:
        """See `SubscriptionFeed.arrived_before`."""
        return arrived_before(self.partition, wall_ms, began_ms)

    def arrived_by_ms(self, position: int) -> int:
        """See `SubscriptionFeed.arrived_by_ms`: the index has a pair a second."""
        return self.partition.arrival_of(position) + SPACING_MS

    def lease_events(self, max_events: int, max_bytes: int) -> int:
        """How many events to lease at once, so that they have about `max_bytes`."""
        if max_events == 1:
            return 1
        partition = self.partition
        start = max(partition.log_start_offset, min(self.view.sequence.oldest, partition.high_watermark - 1))
        count = partition.high_watermark - start
        average = partition.available_bytes(start) // count if count > 0 else 0
        return max(1, min(max_events, max_bytes // max(1, average)))

    def close(self) -> None:
        """Stop scanning and watching. Idempotent."""
        if not self._closed:
            self._closed = True
            self._scan.leave(self)


def arrived_before(partition: Partition, wall_ms: int, began_ms: int) -> int:
    """All events below this offset had arrived by a time, for certain. An index of arrivals may have lost its
    end with the last life of the server: until that is longer ago, only events before a pair that is there
    count. `began_ms`: when this server began."""
    if wall_ms >= began_ms:
        return partition.offset_for_arrival(wall_ms)
    for segment in reversed(list(partition.segments)):
        arrivals = segment.arrivals
        index = bisect_right(arrivals.times, wall_ms) - 1
        if index >= 0:
            return max(partition.log_start_offset, segment.base_offset + arrivals.offsets[index])
    return partition.log_start_offset
