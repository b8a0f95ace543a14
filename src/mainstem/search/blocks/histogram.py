"""How many events lie where in time, from batch headers alone.

Owns: the times of units and the counting into buckets. Refuses: to decompress, and to read the headers of
a block that is known to lie in one bucket. A batch's events count as
spread evenly from its base timestamp to its largest one: exact where batches are short against buckets.
`unit_times` and `count_by_time` run in the workers.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence

from mainstem.log.storage.record_batch import BatchHeader
from mainstem.search.blocks.batches import DataDeleted, MappedRange, locate_batches
from mainstem.search.ipc import Unit


def _headers(unit: Unit) -> Iterator[BatchHeader]:
    with MappedRange(unit.path, unit.start, unit.end) as file:
        for batch in locate_batches(file.view):
            header = batch.header
            if (
                header is not None
                and header.count  # one without records has no first time, and its largest is theirs
                and not header.is_control
                and header.next_offset > unit.low
                and header.base_offset < unit.high
            ):
                yield header


def unit_times(units: Iterable[Unit]) -> list[tuple[int, int, int] | None]:
    """(least, largest time, events) of each; (0, -1, 0) if none has a time; None: its file is gone."""
    found: list[tuple[int, int, int] | None] = []
    for unit in units:
        least, most, events = 1 << 62, -1, 0
        try:
            for header in _headers(unit):
                start, end = _times(header)
                if end >= 0:
                    least, most = min(least, start), max(most, end)
                    events += _inside(header, unit)
        except DataDeleted:
            found.append(None)
        else:
            found.append((least, most, events) if most >= 0 else (0, -1, 0))
    return found


def _times(header: BatchHeader) -> tuple[int, int]:
    end = header.max_timestamp
    # The base is no record's time where compaction has removed the first one, or keeps its own there.
    start = end if header.log_append_time else min(header.base_timestamp, end)
    return max(0, start), end


def _inside(header: BatchHeader, unit: Unit) -> int:
    """Events of the batch that the unit wants: of one that lacks records, the share of its offsets."""
    offsets = header.last_offset_delta + 1
    outside = max(0, unit.low - header.base_offset) + max(0, header.next_offset - unit.high)
    return max(0, header.count * (offsets - outside) // offsets)


def count_by_time(units: Iterable[Unit], edges: Sequence[int]) -> list[float]:
    """Events in each bucket; bucket i is from edges[i] to before edges[i + 1]."""
    counts = [0.0] * (len(edges) - 1)
    for unit in units:
        try:
            for header in _headers(unit):
                spread_evenly(counts, edges, *_times(header), _inside(header, unit))
        except DataDeleted:
            continue
    return counts


def spread_evenly(counts: list[float], edges: Sequence[int], start: int, end: int, events: float) -> None:
    """Add events that lie evenly from `start` to `end`, both inclusive, ms."""
    if end < edges[0] or start >= edges[-1] or end < 0:
        return
    length = end - start + 1
    at = max(0, bisect_right(edges, start) - 1)
    while at < len(counts) and edges[at] <= end:
        overlap = min(end + 1, edges[at + 1]) - max(start, edges[at])
        if overlap > 0:
            counts[at] += events * overlap / length
        at += 1
