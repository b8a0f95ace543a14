"""The scan of a filtered view: looks at events in the background, and lets those that do not match be done.

Owns: where a filter is tested, and how much of it in a turn of the loop. Refuses: views without a filter,
which know what is ready without looking at it.
"""

from __future__ import annotations

from mainstem.clock import Clock
from mainstem.coordinator.queues.views import SubscriptionView
from mainstem.engines.embedded.queues.events import read_batches
from mainstem.log.errors import CorruptBatch
from mainstem.log.partition.partition import Partition
from mainstem.log.storage.record_batch import BatchHeader, decompressed, iter_batches, records_in
from mainstem.queues.runs import Run, add_run, count_positions
from mainstem.search.match.matcher import Matcher
from mainstem.turns import next_turn

SCAN_BYTES = 64 << 10
"""Bytes of batches that are tested in one turn of the loop, but for a batch that is larger."""
READY_MAX = 100_000
"""A scan pauses while this number of events is ready: it would only fill the memory."""
CAP_BYTES = 64 << 20
"""A batch that is larger when it is decompressed counts as damaged."""


class FilterScan:
    """Scans one view for the events that match."""

    def __init__(self, clock: Clock, topic: str, partition: Partition, matcher: Matcher) -> None:
        self.unreadable = 0
        """Events that damage has made unreadable."""
        self._clock = clock
        self._topic = topic
        self._partition = partition
        self._matcher = matcher

    def is_behind(self, view: SubscriptionView) -> bool:
        """Whether there is something to scan, and room for it."""
        sequence = view.sequence
        return sequence.scanned < self._partition.high_watermark and sequence.counts().ready < READY_MAX

    async def step(self, view: SubscriptionView) -> None:
        """Scan some batches, then wait for another turn of the loop. Does nothing if the view is moved
        meanwhile. LogError, OSError: the disk or the partition fails."""
        start = max(view.sequence.scanned, self._partition.log_start_offset)
        skipped: list[Run] = []
        if view.sequence.scanned < start:
            add_run(skipped, view.sequence.scanned, start)
        before = view.sequence.scanned
        try:
            batches = await read_batches(self._partition, start, SCAN_BYTES)
        except CorruptBatch as error:
            end = min(error.next_offset or start + 1, self._partition.high_watermark)
            add_run(skipped, start, end)
            self.unreadable += end - start
        else:
            end = start
            data = memoryview(batches.data)
            for position, header in iter_batches(data):
                batch = data[position : position + header.total_bytes]
                self._test(batch, header, max(start, header.base_offset), skipped)
                end = max(end, header.next_offset)
        if view.sequence.scanned == before and end > before:
            view.sequence.scan(end, skipped)
        await next_turn(self._clock)

    def _test(self, batch: memoryview, header: BatchHeader, first: int, skipped: list[Run]) -> None:
        """Add the positions of a batch from `first` on that do not match to `skipped`."""
        end = header.next_offset
        if first >= end:
            return
        matches: list[Run] = []
        if not header.is_control:
            try:
                raw = decompressed(batch, header, CAP_BYTES)
                if self._matcher.may_match(raw):
                    for record in records_in(batch, header, raw):
                        if record.offset >= first and self._matcher.matches(
                            self._topic, self._partition.index, record
                        ):
                            add_run(matches, record.offset, record.offset + 1)
            except CorruptBatch:
                self.unreadable += end - first - count_positions(matches)
        for match_first, match_end in matches:
            if first < match_first:
                add_run(skipped, first, match_first)
            first = match_end
        if first < end:
            add_run(skipped, first, end)
