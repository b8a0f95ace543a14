"""Compares the sealed segments of one partition with those that its checkpoint row knows.

Owns: their number and bytes, from one stat each, so that a start with tens of thousands of them takes a
moment; the state and the row that follow. Refuses: to open a segment. Where files were removed, emptied or
cut, the partition itself looks for the lost offsets when it opens (`partition/sealed_check.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mainstem.log import paths
from mainstem.log.commit.checkpoint import CheckpointRow
from mainstem.log.disk.contract import Disk
from mainstem.log.partition.recovered_state import RecoveredState


def compared(
    disk: Disk, folder: str, state: RecoveredState, row: CheckpointRow | None, new_row: CheckpointRow
) -> tuple[RecoveredState, CheckpointRow]:
    """`state` and `new_row` with what is known of the sealed segments. `row`: that of the last checkpoint;
    None: the partition is newer, and recovery has read all of it. OSError."""
    sizes = tuple(disk.size(f"{folder}/{paths.segment_name(base)}") for base in state.segments[:-1])
    as_recorded = row is None or (
        row.sealed is not None and row.sealed == sealed_before(row, state.segments, sizes)
    )
    fenced = state.fence_reason is not None
    state = replace(
        state,
        sealed_sizes=sizes,
        sealed_as_recorded=as_recorded,
        acknowledged_end=new_row.end_offset if fenced else 0,
    )
    if as_recorded and not fenced:
        new_row = replace(new_row, sealed=sealed_before(new_row, state.segments, sizes))
    return state, new_row


def sealed_before(row: CheckpointRow, segments: Sequence[int], sizes: Sequence[int]) -> tuple[int, int]:
    """Number and bytes of those of `segments` that are before the row's segment and end after its log start.
    `sizes`: of all but the last one."""
    count = total = 0
    for base, following, size in zip(segments, segments[1:], sizes, strict=False):
        if base < row.segment and min(following, row.segment) > row.log_start:
            count, total = count + 1, total + size
    return count, total
