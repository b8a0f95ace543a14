"""Finding offsets: by record time, by arrival, the largest timestamp.

Owns: the look-ups that need more than a position. By record time the answer is a record, so its batch is
opened. Refuses: to tell of what is not committed. Called through `Partition`.

Kafka: UnifiedLog.fetchOffsetByTimestamp, LogSegment.findOffsetByTimestamp.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from mainstem.log.disk.nonblocking_read import ReadSteps
from mainstem.log.errors import CorruptBatch
from mainstem.log.partition import index_loading
from mainstem.log.partition.batch_scan import ScanInvalidated, scan_batches
from mainstem.log.partition.reader import batch_before
from mainstem.log.storage.arrival_index import SPACING_MS, age_ms
from mainstem.log.storage.index import TIME_ENTRY_BYTES
from mainstem.log.storage.record_batch import BatchHeader, Record, decode
from mainstem.log.storage.segment import Segment
from mainstem.promise import Promise

if TYPE_CHECKING:
    from mainstem.log.partition.partition import Partition

DECODED_BYTES_MAX = 64 << 20
SEGMENTS_PER_TURN = 16
"""Segments whose files are read before others have a turn: there may be tens of thousands."""
assert TIME_ENTRY_BYTES == 12


class TimedOffset(NamedTuple):
    """A record that was looked for."""

    offset: int
    timestamp_ms: int
    leader_epoch: int


def offset_for_time(partition: Partition, timestamp_ms: int) -> ReadSteps[TimedOffset | None]:
    """See `Partition.offset_for_time`."""
    at_least = lambda timestamp: timestamp >= timestamp_ms  # noqa: E731
    for number, segment in enumerate(list(partition.segments), 1):
        if number % SEGMENTS_PER_TURN == 0 and segment.max_timestamp is None:
            yield None
        if segment.deleted or partition.end_of(segment) <= partition.log_start_offset:
            continue
        if (yield from max_timestamp(partition, segment)) < timestamp_ms:
            continue
        index = yield from index_loading.index_of(partition, segment)
        known = segment.base_offset + index.offset_before_time(timestamp_ms)
        first = max(known + 1, partition.log_start_offset, segment.base_offset)
        found = yield from _first(partition, segment, first, at_least)
        if found is not None:
            return found
    return None


def offset_of_max_timestamp(partition: Partition) -> Promise[TimedOffset | None]:
    """See `Partition.offset_of_max_timestamp`."""
    shared = partition.context
    return shared.run_later(_offset_of_max_timestamp(partition))


def _offset_of_max_timestamp(partition: Partition) -> ReadSteps[TimedOffset | None]:
    best, where = -1, None
    for number, segment in enumerate(list(partition.segments), 1):
        if number % SEGMENTS_PER_TURN == 0 and segment.max_timestamp is None:
            yield None
        if segment.deleted or partition.end_of(segment) <= partition.log_start_offset:
            continue
        found = yield from max_timestamp(partition, segment)
        if found > best:
            best, where = found, segment
    if where is None:
        return None
    index = yield from index_loading.index_of(partition, where)
    known = where.base_offset + index.offset_before_time(best)
    first = max(known + 1, partition.log_start_offset, where.base_offset)
    found_at = yield from _first(partition, where, first, lambda timestamp: timestamp >= best)
    if found_at is not None:
        return found_at
    # The batch with the largest is not committed yet, or was given up: the largest of what can be seen.
    return (yield from _largest(partition))


def _largest(partition: Partition) -> ReadSteps[TimedOffset | None]:
    """By walking all headers: rare."""
    best: list[BatchHeader] = []

    def visit(_: int, header: BatchHeader) -> None:
        if header.next_offset <= partition.log_start_offset:
            return
        if not best or header.max_timestamp > best[-1].max_timestamp:
            best.append(header)

    for segment in list(partition.segments):
        try:
            yield from scan_batches(segment, 0, segment.base_offset, _limit(partition, segment), visit)
        except ScanInvalidated:
            return (yield from _largest(partition))
    if not best or best[-1].max_timestamp < 0:
        return None
    most, offset = best[-1].max_timestamp, best[-1].base_offset
    holder = partition.segment_of(offset)
    if holder is None:
        return None
    first = max(offset, partition.log_start_offset)
    return (yield from _first(partition, holder, first, lambda timestamp: timestamp >= most))


def max_timestamp(partition: Partition, segment: Segment) -> ReadSteps[int]:
    """Largest timestamp of a segment's batches; -1: no record has one."""
    if segment is partition.active or segment.max_timestamp is None:
        index = yield from index_loading.index_of(partition, segment)
        if segment is partition.active:
            return index.max_timestamp
        segment.max_timestamp = index.max_timestamp
    return segment.max_timestamp


def _limit(partition: Partition, segment: Segment) -> tuple[int, int]:
    """Where reading ends in a segment: position, offset."""
    return partition.limit_of(segment), min(partition.end_of(segment), partition.high_watermark)


def _first(
    partition: Partition, segment: Segment, first: int, fits: Callable[[int], bool]
) -> ReadSteps[TimedOffset | None]:
    """The first committed record from offset `first` on in the segment whose timestamp fits. Whether a
    batch can have one is told by its largest timestamp. A batch that cannot be opened stands for its first
    record."""
    while first < min(partition.end_of(segment), partition.high_watermark):
        start = yield from batch_before(partition, segment, first)
        found: list[tuple[int, BatchHeader]] = []

        def visit(
            position: int,
            header: BatchHeader,
            first: int = first,
            found: list[tuple[int, BatchHeader]] = found,
        ) -> bool:
            if header.next_offset <= first or not fits(header.max_timestamp):
                return False
            found.append((position, header))
            return True

        try:
            yield from scan_batches(segment, *start, _limit(partition, segment), visit)
        except ScanInvalidated:
            continue
        if not found:
            return None
        position, header = found[0]
        data = yield segment, header.total_bytes, position
        for record in _records(data, header):
            if record.offset >= first and fits(record.timestamp_ms):
                return TimedOffset(record.offset, record.timestamp_ms, header.leader_epoch)
        first = header.next_offset
    return None


def _records(data: bytes | bytearray, header: BatchHeader) -> list[Record]:
    try:
        return decode(data, cap_bytes=DECODED_BYTES_MAX)
    except CorruptBatch:
        return [Record(header.base_offset, header.max_timestamp, None, None)]


# --- by arrival -------------------------------------------------------------------------------------------


def offset_for_arrival(partition: Partition, wall_ms: int) -> int:
    """See `Partition.offset_for_arrival`. Searches from the end: what is asked for is mostly recent."""
    best = partition.high_watermark
    for segment in reversed(partition.segments):
        arrivals = segment.arrivals
        found = arrivals.first_at_or_after(wall_ms)
        if found is not None:
            best = min(best, segment.base_offset + found)
        # Of what came before, an event may have arrived up to a second after its pair: a crash forgets that.
        if arrivals.times and arrivals.times[0] + SPACING_MS <= wall_ms:
            break
    return max(best, partition.log_start_offset)


def arrival_of(partition: Partition, offset: int) -> int:
    """See `Partition.arrival_of`."""
    segment = partition.segment_of(offset)
    if segment is None:
        return -1
    arrivals = segment.arrivals
    found = arrivals.arrival_of(offset - segment.base_offset)
    if found is not None:
        return found
    # Its arrival is lost: it cannot have come after what follows it.
    return arrivals.times[0] if arrivals.times else arrival_bound(partition, segment)


def last_arrival(partition: Partition, segment: Segment, bound: int | None = None) -> int:
    """When the last batch of `segment` arrived, wall ms; the latest that it can have been (`bound`, if the
    caller knows it) if that was lost, or noted before the clock was set."""
    now = partition.context.clock.wall_ms()
    if segment is partition.active and partition.ready:
        found = partition.last_arrival_ms
    else:
        found = segment.arrivals.last_ms if segment.arrivals.times else -1
    if found < 0 or age_ms(found, now) < now - found:
        return arrival_bound(partition, segment) if bound is None else bound
    return found


def arrival_bound(partition: Partition, segment: Segment) -> int:
    """The first arrival that is known after `segment`; now, if there is none."""
    after = bisect_right(partition.segments, segment.base_offset, key=lambda each: each.base_offset)
    for at in range(after, len(partition.segments)):
        found = partition.segments[at].arrivals.first_plausible()
        if found is not None:
            return found
    return partition.context.clock.wall_ms()


def arrival_bounds(partition: Partition, segments: Sequence[Segment]) -> list[int]:
    """`arrival_bound` of each of these, which are the last ones, in one pass."""
    bounds, bound = [], partition.context.clock.wall_ms()
    for segment in reversed(segments):
        bounds.append(bound)
        found = segment.arrivals.first_plausible()
        bound = bound if found is None else found
    return bounds[::-1]
