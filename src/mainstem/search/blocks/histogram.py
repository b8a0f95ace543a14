"""Counts events by time from batch headers alone; nothing is decompressed.

A batch's events count as evenly spread from its base timestamp to its largest one. This is exact where
batches are short compared with buckets. `unit_times` and `count_by_time` run in the workers.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence

from mainstem.log.storage.record_batch import BatchHeader
from mainstem.search.blocks.batches import DataDeleted, MappedRange, OpenRange, locate_batches
from mainstem.search.ipc import TimeSpan, Unit


def _headers(unit: Unit, open_range: OpenRange) -> Iterator[BatchHeader]:
    with open_range(unit.path, unit.start, unit.end) as file:
        for batch in locate_batches(file.view):
            header = batch.header
            if (
                header is not None
                and header.count  # A batch without records has no first time.
                and not header.is_control
                and header.next_offset > unit.low
                and header.base_offset < unit.high
            ):
                yield header


def unit_times(units: Iterable[Unit], open_range: OpenRange = MappedRange) -> list[TimeSpan | None]:
    """The least and the largest time, and the number of events, of each unit; None: its file was deleted."""
    times: list[TimeSpan | None] = []
    for unit in units:
        min_ms, max_ms, events = 1 << 62, -1, 0
        try:
            for header in _headers(unit, open_range):
                start, end = _times(header)
                if end >= 0:
                    min_ms, max_ms = min(min_ms, start), max(max_ms, end)
                    events += _events_in_unit(header, unit)
        except DataDeleted:
            times.append(None)
        else:
            times.append(TimeSpan(min_ms, max_ms, events) if max_ms >= 0 else TimeSpan(0, -1, 0))
    return times


def _times(header: BatchHeader) -> tuple[int, int]:
    end = header.max_timestamp
    # The base timestamp may be larger than all records' times if compaction has removed the first record.
    start = end if header.log_append_time else min(header.base_timestamp, end)
    return max(0, start), end


def _events_in_unit(header: BatchHeader, unit: Unit) -> int:
    """The number of events of the batch that lie in the unit's offsets. If only a part of the batch's offsets
    lies in the unit, the batch counts by that share of them."""
    offsets = header.last_offset_delta + 1
    outside = max(0, unit.low - header.base_offset) + max(0, header.next_offset - unit.high)
    return max(0, header.count * (offsets - outside) // offsets)


def count_by_time(
    units: Iterable[Unit], edges: Sequence[int], open_range: OpenRange = MappedRange
) -> list[float]:
    """Events of the units in each bucket. Bucket i is from edges[i] to before edges[i + 1]."""
    counts = [0.0] * (len(edges) - 1)
    for unit in units:
        try:
            for header in _headers(unit, open_range):
                spread_evenly(counts, edges, *_times(header), _events_in_unit(header, unit))
        except DataDeleted:
            continue
    return counts


def spread_evenly(counts: list[float], edges: Sequence[int], start: int, end: int, events: float) -> None:
    """Add to `counts` events evenly spread from `start` to `end`, both inclusive, in ms."""
    if end < edges[0] or start >= edges[-1] or end < 0:
        return
    length = end - start + 1
    bucket = max(0, bisect_right(edges, start) - 1)
    while bucket < len(counts) and edges[bucket] <= end:
        overlap_ms = min(end + 1, edges[bucket + 1]) - max(start, edges[bucket])
        if overlap_ms > 0:
            counts[bucket] += events * overlap_ms / length
        bucket += 1
