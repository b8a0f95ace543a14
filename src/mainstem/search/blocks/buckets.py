"""The buckets of a histogram: their edges, and the counts that are known without reading the log.

Units whose events lie in one bucket are counted here. `histogram.py` reads the headers of the others.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence

from mainstem.search.contract import Bucket
from mainstem.search.ipc import TimeSpan, Unit


def count_within_buckets(
    timed: Iterable[tuple[Unit, TimeSpan]], edges: Sequence[int]
) -> tuple[list[float], list[Unit]]:
    """Count the events of the units whose times lie in one bucket. Returns the counts by bucket, and the
    units whose times cross an edge: their batch headers must be read."""
    counts = [0.0] * (len(edges) - 1)
    crossing = []
    for unit, span in timed:
        bucket = bisect_right(edges, span.min_ms) - 1
        if 0 <= bucket < len(counts) and span.max_ms < edges[bucket + 1]:
            counts[bucket] += span.events
        elif span.max_ms >= edges[0] and span.min_ms < edges[-1]:
            crossing.append(unit)
    return counts, crossing


def bucket_edges(from_ms: int, to_ms: int, buckets: int) -> list[int]:
    """The edges of at most `buckets` equal buckets that cover the times from `from_ms` to before `to_ms`."""
    width = max(1, -(-(to_ms - from_ms) // buckets))
    return [from_ms + width * i for i in range(buckets + 1) if i == 0 or from_ms + width * (i - 1) < to_ms]


def to_buckets(edges: Sequence[int], counts: Sequence[float]) -> list[Bucket]:
    """The buckets with counts rounded to whole events. Remainders are carried over, so the sum is kept."""
    buckets, remainder = [], 0.0
    for i, count in enumerate(counts):
        whole = round(count + remainder)
        remainder += count - whole
        buckets.append(Bucket(edges[i], edges[i + 1], whole))
    return buckets
