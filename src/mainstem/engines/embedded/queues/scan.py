"""The scan of a view that does not know what is ready without looking at its events: it has a filter, or it
delivers in key order.

Owns: which events are looked at, and how many of them in a turn of the loop; what does not match is done.
Refuses: views without a filter and without key order, and errors of the disk.
"""

from __future__ import annotations

from mainstem.clock import Clock
from mainstem.coordinator.queues.settlements import difference
from mainstem.coordinator.queues.views import SubscriptionView
from mainstem.engines.embedded.queues.events import EventSource, read_batches
from mainstem.log.errors import CorruptBatch
from mainstem.log.storage.record_batch import BatchHeader, decompressed, iter_batches, records_in
from mainstem.queues.keys import KEY_END
from mainstem.queues.ordered_view import OrderedView
from mainstem.queues.runs import Run, add_run, count_positions
from mainstem.search.match.matcher import Matcher
from mainstem.turns import next_turn

SCAN_BYTES = 64 << 10
"""Bytes of batches that are tested in one turn of the loop, but for a batch that is larger."""
READY_MAX = 100_000
"""A scan pauses while this number of events is ready: it would only fill the memory."""
UNKEYED_OF_STEP = 1_000
"""Events whose keys are learned in a step, after a restart or a redrive."""
CAP_BYTES = 64 << 20
"""A batch that is larger when it is decompressed counts as damaged."""


class EventScan:
    """Scans one view: for events that match a filter, if it has one, and for their keys, in key order."""

    def __init__(self, clock: Clock, source: EventSource, matcher: Matcher | None) -> None:
        self.unreadable = 0
        """Events that damage has made unreadable."""
        self._clock = clock
        self._source = source
        self._partition = source.partition
        self._matcher = matcher

    def is_behind(self, view: SubscriptionView) -> bool:
        """Whether there is something to scan, and room for it."""
        sequence = view.sequence
        if isinstance(sequence, OrderedView) and sequence.has_unkeyed():
            return True
        if sequence.scanned >= self._partition.high_watermark or sequence.is_full:
            return False
        return sequence.counts().ready < READY_MAX

    async def step(self, view: SubscriptionView) -> None:
        """Scan some batches, then wait for another turn of the loop. Does nothing if the view is moved
        meanwhile. LogError, OSError, StreamError: the disk or the partition fails."""
        sequence = view.sequence
        if isinstance(sequence, OrderedView) and sequence.has_unkeyed():
            await self._learn(sequence)
        else:
            await self._scan(view)
        await next_turn(self._clock)

    async def _learn(self, sequence: OrderedView) -> None:
        """Learn the keys of the lowest positions that are outstanding and whose keys are not known."""
        runs = sequence.unkeyed(UNKEYED_OF_STEP)
        end = runs[-1][1]
        events = await self._source.read(runs)
        # A seek or a redrive may have made others outstanding meanwhile: their keys were not looked at.
        now = [(first, min(stop, end)) for first, stop in sequence.unkeyed(UNKEYED_OF_STEP) if first < end]
        if not difference(now, runs):
            sequence.learn_keys(end, {offset: key_hash(event.key) for offset, event in events.items()
                                      if event.key is not None})  # fmt: skip

    async def _scan(self, view: SubscriptionView) -> None:
        start = max(view.sequence.scanned, self._partition.log_start_offset)
        skipped: list[Run] = []
        keys: dict[int, int] = {}
        if view.sequence.scanned < start:
            add_run(skipped, view.sequence.scanned, start)
        before = view.sequence, view.sequence.scanned
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
                self._look(batch, header, max(start, header.base_offset), skipped, keys)
                end = max(end, header.next_offset)
        sequence = view.sequence
        if (sequence, sequence.scanned) != before or end <= sequence.scanned:
            return
        if not isinstance(sequence, OrderedView):
            sequence.scan(end, skipped)
        elif not sequence.has_unkeyed():
            sequence.scan(end, skipped, keys=keys)

    def _look(
        self, batch: memoryview, header: BatchHeader, first: int, skipped: list[Run], keys: dict[int, int]
    ) -> None:
        """Add the positions of a batch from `first` on that do not match to `skipped`, and the hashes of the
        keys of the others to `keys`."""
        end = header.next_offset
        if first >= end:
            return
        matches: list[Run] = []
        matcher, topic, index = self._matcher, self._source.topic, self._partition.index
        if not header.is_control:
            try:
                raw = decompressed(batch, header, CAP_BYTES)
                if matcher is None or matcher.may_match(raw):
                    for record in records_in(batch, header, raw):
                        offset = record.offset
                        if offset >= first and (matcher is None or matcher.matches(topic, index, record)):
                            add_run(matches, offset, offset + 1)
                            if record.key is not None:
                                keys[offset] = key_hash(record.key)
            except CorruptBatch:
                self.unreadable += end - first - count_positions(matches)
        for match_first, match_end in matches:
            if first < match_first:
                add_run(skipped, first, match_first)
            first = match_end
        if first < end:
            add_run(skipped, first, end)


def key_hash(key: bytes) -> int:
    """A number below KEY_END that equal keys share. It is of this process: keys are in no record."""
    return hash(key) & (KEY_END - 1)
