"""Finds offsets by record time and by arrival time, and arrival times by offset.

Owns: the look-ups that need more than a position. By record time the result is a record, so its batch is
decoded. Refuses: to report what is not committed.

Kafka: UnifiedLog.fetchOffsetByTimestamp, LogSegment.findOffsetByTimestamp.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from mainstem.log.disk.nonblocking_read import ReadSteps
from mainstem.log.errors import CorruptBatch
from mainstem.log.partition.batch_scan import ScanInvalidated, scan_batches
from mainstem.log.partition.index_loading import IndexLoader
from mainstem.log.partition.segments import Segments
from mainstem.log.storage.arrival_index import SPACING_MS, age_ms
from mainstem.log.storage.record_batch import BatchHeader, Record, decode
from mainstem.log.storage.segment import Segment

DECODED_BYTES_MAX = 64 << 20
SEGMENTS_PER_TURN = 16
"""Segments whose files are read before the event loop has a turn: there may be tens of thousands."""


class TimedOffset(NamedTuple):
    """A record that was looked up by its timestamp."""

    offset: int
    timestamp_ms: int
    leader_epoch: int


class OffsetLookup:
    """The look-ups of one partition: offsets by record time or arrival time, arrival times by offset."""

    __slots__ = ("_index_loader", "_segments")

    def __init__(self, segments: Segments, index_loader: IndexLoader) -> None:
        self._segments = segments
        self._index_loader = index_loader

    # --- by record time -----------------------------------------------------------------------------------

    def offset_for_time(self, timestamp_ms: int) -> ReadSteps[TimedOffset | None]:
        """See `Partition.offset_for_time`."""
        segments = self._segments
        for number, segment in enumerate(list(segments), 1):
            if number % SEGMENTS_PER_TURN == 0 and segment.max_timestamp is None:
                yield None
            if segment.deleted or segments.end_of(segment) <= segments.log_start_offset:
                continue
            if (yield from self.max_timestamp(segment)) < timestamp_ms:
                continue
            record = yield from self._first_in_segment(segment, timestamp_ms)
            if record is not None:
                return record
        return None

    def offset_of_max_timestamp(self) -> ReadSteps[TimedOffset | None]:
        """See `Partition.offset_of_max_timestamp`."""
        segments = self._segments
        max_ms, segment_of_max = -1, None
        for number, segment in enumerate(list(segments), 1):
            if number % SEGMENTS_PER_TURN == 0 and segment.max_timestamp is None:
                yield None
            if segment.deleted or segments.end_of(segment) <= segments.log_start_offset:
                continue
            segment_max_ms = yield from self.max_timestamp(segment)
            if segment_max_ms > max_ms:
                max_ms, segment_of_max = segment_max_ms, segment
        if segment_of_max is None:
            return None
        record = yield from self._first_in_segment(segment_of_max, max_ms)
        if record is not None:
            return record
        # The batch with the largest is not committed yet, or was given up: the largest of what can be read.
        return (yield from self._scan_for_max_timestamp())

    def max_timestamp(self, segment: Segment) -> ReadSteps[int]:
        """Largest record timestamp of `segment`, ms; -1: no record has one."""
        if segment is self._segments.active or segment.max_timestamp is None:
            index = yield from self._index_loader.load(segment)
            if segment is self._segments.active:
                return index.max_timestamp
            segment.max_timestamp = index.max_timestamp
        return segment.max_timestamp

    def _scan_for_max_timestamp(self) -> ReadSteps[TimedOffset | None]:
        """As `offset_of_max_timestamp`, by a scan of all headers: rare."""
        segments = self._segments
        best: list[BatchHeader] = []

        def visit(_: int, header: BatchHeader) -> None:
            if header.next_offset <= segments.log_start_offset:
                return
            if not best or header.max_timestamp > best[-1].max_timestamp:
                best.append(header)

        for segment in list(segments):
            try:
                limit = segments.committed_limit(segment)
                yield from scan_batches(segment, 0, segment.base_offset, limit, visit)
            except ScanInvalidated:
                return (yield from self._scan_for_max_timestamp())
        if not best or best[-1].max_timestamp < 0:
            return None
        max_ms, offset = best[-1].max_timestamp, best[-1].base_offset
        holder = segments.holding(offset)
        if holder is None:
            return None
        return (yield from self._first_record(holder, max(offset, segments.log_start_offset), max_ms))

    def _first_in_segment(self, segment: Segment, timestamp_ms: int) -> ReadSteps[TimedOffset | None]:
        """The first committed record of `segment` with that timestamp or a later one, found by its index."""
        index = yield from self._index_loader.load(segment)
        earlier = segment.base_offset + index.offset_before_time(timestamp_ms)
        first = max(earlier + 1, self._segments.log_start_offset, segment.base_offset)
        return (yield from self._first_record(segment, first, timestamp_ms))

    def _first_record(self, segment: Segment, first: int, timestamp_ms: int) -> ReadSteps[TimedOffset | None]:
        """The first committed record of `segment` from offset `first` on with that timestamp or a later one.
        The largest timestamp of a batch decides whether it is decoded. A batch that cannot be decoded counts
        as its first record."""
        segments = self._segments
        while first < min(segments.end_of(segment), segments.high_watermark):
            start = yield from self._index_loader.batch_before(segment, first)
            match: list[tuple[int, BatchHeader]] = []

            def visit(
                position: int,
                header: BatchHeader,
                first: int = first,
                match: list[tuple[int, BatchHeader]] = match,
            ) -> bool:
                if header.next_offset <= first or header.max_timestamp < timestamp_ms:
                    return False
                match.append((position, header))
                return True

            try:
                yield from scan_batches(segment, *start, segments.committed_limit(segment), visit)
            except ScanInvalidated:
                continue
            if not match:
                return None
            position, header = match[0]
            data = yield segment, header.total_bytes, position
            for record in _records(data, header):
                if record.offset >= first and record.timestamp_ms >= timestamp_ms:
                    return TimedOffset(record.offset, record.timestamp_ms, header.leader_epoch)
            first = header.next_offset
        return None

    # --- by arrival ---------------------------------------------------------------------------------------

    def offset_for_arrival(self, wall_ms: int) -> int:
        """See `Partition.offset_for_arrival`. Searches from the end: most callers ask for recent times."""
        offset = self._segments.high_watermark
        for segment in reversed(self._segments):
            arrivals = segment.arrivals
            relative = arrivals.first_at_or_after(wall_ms)
            if relative is not None:
                offset = min(offset, segment.base_offset + relative)
            # An earlier event may have arrived up to a second after its pair: a crash forgets that.
            if arrivals.times and arrivals.times[0] + SPACING_MS <= wall_ms:
                break
        return max(offset, self._segments.log_start_offset)

    def arrival_of(self, offset: int) -> int:
        """See `Partition.arrival_of`."""
        segment = self._segments.holding(offset)
        if segment is None:
            return -1
        arrivals = segment.arrivals
        arrival_ms = arrivals.arrival_of(offset - segment.base_offset)
        if arrival_ms is not None:
            return arrival_ms
        # The arrival is lost: it cannot be later than that of what follows.
        return arrivals.times[0] if arrivals.times else self._latest_arrival(segment)

    def last_arrival(self, segment: Segment, latest_ms: int | None = None) -> int:
        """Wall ms at which the last batch of `segment` arrived. If that is lost, or was noted before the
        clock was set: the latest time at which it can have arrived (`latest_ms`, if the caller knows it)."""
        segments = self._segments
        now_ms = segments.context.clock.wall_ms()
        if segment is segments.active and segments.accepts_appends:
            arrival_ms = segments.last_arrival_ms
        else:
            arrival_ms = segment.arrivals.last_ms if segment.arrivals.times else -1
        if arrival_ms < 0 or age_ms(arrival_ms, now_ms) < now_ms - arrival_ms:
            return self._latest_arrival(segment) if latest_ms is None else latest_ms
        return arrival_ms

    def _latest_arrival(self, segment: Segment) -> int:
        """The first arrival that is known after `segment`; now, if there is none."""
        for following in self._segments.after(segment):
            arrival_ms = following.arrivals.first_plausible()
            if arrival_ms is not None:
                return arrival_ms
        return self._segments.context.clock.wall_ms()

    def latest_arrivals(self, segments: Sequence[Segment]) -> list[int]:
        """For each of `segments`, the last ones of the partition: the latest wall ms at which one of its
        batches can have arrived."""
        latest_ms = self._segments.context.clock.wall_ms()
        arrivals_ms = []
        for segment in reversed(segments):
            arrivals_ms.append(latest_ms)
            first_ms = segment.arrivals.first_plausible()
            latest_ms = latest_ms if first_ms is None else first_ms
        return arrivals_ms[::-1]


def _records(data: bytes | bytearray, header: BatchHeader) -> list[Record]:
    try:
        return decode(data, cap_bytes=DECODED_BYTES_MAX)
    except CorruptBatch:
        return [Record(header.base_offset, header.max_timestamp, None, None)]
