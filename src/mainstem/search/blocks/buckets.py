"""The buckets of a histogram, and what can be told of them without reading the log.

Owns: their edges, what lies in one as a whole, and how they are shown. What lies across an edge is counted
by `histogram.py`. Used by both kinds of search.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence

from mainstem.search.contract import Bucket
from mainstem.search.ipc import Unit


def count_within_buckets(
    timed: Iterable[tuple[Unit, tuple[int, int, int]]], edges: Sequence[int]
) -> tuple[list[float], list[Unit]]:
    """Events of the units that lie in one bucket as a whole, by bucket, and the units across an edge, whose
    headers have to be read."""
    counts = [0.0] * (len(edges) - 1)
    across = []
    for unit, (least, most, events) in timed:
        at = bisect_right(edges, least) - 1
        if 0 <= at < len(counts) and most < edges[at + 1]:
            counts[at] += events
        elif most >= edges[0] and least < edges[-1]:
            across.append(unit)
    return counts, across


def bucket_edges(from_ms: int, to_ms: int, buckets: int) -> list[int]:
    """Equal spans that cover from inclusive to exclusive."""
    width = max(1, -(-(to_ms - from_ms) // buckets))
    return [
        from_ms + width * at for at in range(buckets + 1) if at == 0 or from_ms + width * (at - 1) < to_ms
    ]


def to_buckets(edges: Sequence[int], counts: Sequence[float]) -> list[Bucket]:
    """As they are shown: whole events, their sum kept."""
    found, carried = [], 0.0
    for at, exact in enumerate(counts):
        whole = round(exact + carried)
        carried += exact - whole
        found.append(Bucket(edges[at], edges[at + 1], whole))
    return found
