"""Cuts a unit of a search down to the batches that the full-text index lets through.

Owns: which ranges of the file are read, and which range of the log each of them covers. Refuses: to query the
index (`reader.py`), and to cut where damage hides which offsets a batch has.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

import msgspec

from mainstem.search.execution import WorkItem
from mainstem.search.ipc import CandidateBatch

RANGES_MAX = 32
"""A block with more candidate ranges is read whole, which is faster."""


def cut_to_candidates(
    item: WorkItem, candidates: Sequence[CandidateBatch], newest_first: bool
) -> list[WorkItem]:
    """Cut an item down to its candidate batches, in the order of the search. Neighbouring batches form one
    new item. A new item counts the unread bytes before it as covered; the last one also those after it."""
    unit = item.unit
    ranges: list[CandidateBatch] = []
    for i in range(bisect_left(candidates, unit.start, key=lambda batch: batch.start), len(candidates)):
        batch = candidates[i]
        if batch.start >= unit.end:
            break
        if batch.next_offset <= batch.first_offset:
            return [item]  # Damage follows, so the last offset of this batch is unknown.
        if batch.next_offset <= unit.low or batch.first_offset >= unit.high:
            continue
        if ranges and ranges[-1].end == batch.start:
            ranges[-1] = CandidateBatch(
                ranges[-1].start, batch.end, ranges[-1].first_offset, batch.next_offset
            )
        else:
            ranges.append(batch)
    if len(ranges) > RANGES_MAX:
        return [item]
    if not ranges:
        item.excluded = item.indexed = True
        return [item]
    cut_items, start, low = [], unit.start, unit.low
    for number, candidate in enumerate(ranges):
        is_last = number == len(ranges) - 1
        end, high = (unit.end, unit.high) if is_last else (candidate.end, candidate.next_offset)
        covered = msgspec.structs.replace(unit, start=start, end=end, low=low, high=high)
        # Not a higher end: the scan would report the offsets behind the batches as lost.
        part = msgspec.structs.replace(
            unit,
            start=candidate.start,
            end=candidate.end,
            low=max(unit.low, candidate.first_offset),
            high=min(unit.high, candidate.next_offset),
        )
        cut_items.append(WorkItem(part, item.time_ms, item.block, indexed=True, covered=covered))
        start, low = end, high
    assert sum(cut.size for cut in cut_items) == item.size, "the cut items cover the whole item"
    return cut_items[::-1] if newest_first else cut_items
