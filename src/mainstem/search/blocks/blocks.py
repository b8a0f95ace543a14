"""Search blocks: each partition's log in pieces of about 8 MiB, the units of search.

Owns: where blocks begin and end. A block that is closed never changes: its bytes are committed, and the
committed log only loses whole segments. What lies behind the last closed block is cut anew each time.
Refuses: to read more of the log than a header here and there: it goes along the `.index` file, which it does
not trust (each entry must be what the header there says), and along the headers where that ends. `cut_blocks`
runs in the workers, `BlockMap` in the server.
"""

from __future__ import annotations

import os
import struct
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from mainstem.log.paths import parse_segment
from mainstem.log.storage.record_batch import HEADER_BYTES, BatchHeader, read_header
from mainstem.search.blocks.batches import DataDeleted, MappedRange, locate_batches
from mainstem.search.ipc import BlockRange, FilterInfo, UncutRange

BLOCK_BYTES = 8 << 20
_ENTRY = struct.Struct(">II")
UNKNOWN_OFFSET = -1
"""Stands for the first offset of a block that begins with damage."""
OPEN_END = 1 << 62
"""Stands for the offset after the last block of a segment, where only the caller knows it."""


def cut_blocks(gaps: Iterable[UncutRange], block_bytes: int) -> list[BlockRange]:
    """The blocks of each gap, oldest first. A file that is gone gives none."""
    cuts: list[BlockRange] = []
    for gap in gaps:
        try:
            with MappedRange(gap.path, gap.start, gap.end) as file:
                cuts += _cut(file.view, gap, block_bytes, _index(gap.path))
        except DataDeleted:
            continue
    return cuts


def _cut(
    view: memoryview, gap: UncutRange, block_bytes: int, index: list[tuple[int, int]]
) -> Iterator[BlockRange]:
    size, at = len(view), 0
    base = parse_segment(Path(gap.path).name) or 0
    header = _header(view, 0)
    while at < size:
        end = _boundary(view, gap, at, block_bytes, base, index)
        after = _header(view, end)
        # Of the newest block it matters whether it is newer than those of other partitions.
        newest = after.base_timestamp if after is not None else _newest(view[at:end])
        first = UNKNOWN_OFFSET if header is None else header.base_offset
        next_offset = OPEN_END if after is None else after.base_offset
        time_ms = max(newest, -1 if header is None else header.max_timestamp)
        yield BlockRange(
            gap.path, gap.start + at, gap.start + end, first, next_offset, time_ms, end < size or gap.closed
        )
        at, header = end, after


def _boundary(
    view: memoryview, gap: UncutRange, at: int, block_bytes: int, base: int, index: list[tuple[int, int]]
) -> int:
    """Where the block that begins at `at` ends."""
    size = len(view)
    target = at + block_bytes
    if target >= size:
        return size
    place = bisect_right(index, (gap.start + target, 1 << 32)) - 1
    position = at
    if place >= 0 and index[place][0] - gap.start > at:
        hinted = index[place][0] - gap.start
        header = _header(view, hinted)
        if header is not None and header.last_offset == base + index[place][1]:
            position = hinted
    for batch in locate_batches(view[position:]):
        if position + batch.position >= target and batch.header is not None:
            return position + batch.position
    return size


def _header(view: memoryview, position: int) -> BatchHeader | None:
    if position + HEADER_BYTES > len(view):
        return None
    header = read_header(view, position)
    return header if header.is_plausible and position + header.total_bytes <= len(view) else None


def _newest(view: memoryview) -> int:
    return max(
        (each.header.max_timestamp for each in locate_batches(view) if each.header is not None), default=-1
    )


def _index(path: str) -> list[tuple[int, int]]:
    """(position, last offset relative to the base) of each entry of the `.index` file; empty if it is
    of no use."""
    try:
        data = Path(path).with_suffix(".index").read_bytes()
    except OSError:
        return []
    entries = [(position, last) for last, position in _ENTRY.iter_unpack(data[: len(data) // 8 * 8])]
    return entries if all(a < b for a, b in pairwise(entries)) else []


# ----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Block:
    """A closed block, or the open end of a partition."""

    path: str
    start: int
    end: int
    first_offset: int
    next_offset: int
    time_ms: int
    """About the newest time in it."""
    closed: bool
    min_ms: int | None = None
    """Exact times of its events, once known."""
    max_ms: int | None = None
    filter_path: str | None = None
    """Its token filter, once it has one."""
    unfilterable: bool = False
    """It can have no token filter."""
    time_span: tuple[int, int, int] | None = None
    """Least and largest time and number of events, as far as histograms ask; None: not known yet."""

    def apply_filter_info(self, head: FilterInfo) -> None:
        """Take over what its filter says of its events."""
        self.min_ms, self.max_ms = head.min_ms, head.max_ms
        if head.events and head.min_ms >= 0:
            self.time_span = head.min_ms, head.max_ms, head.events


@dataclass(slots=True)
class BlockMap:
    """The closed blocks of one partition, oldest first."""

    blocks: list[Block] = field(default_factory=list)
    orphaned_filters: list[str] = field(default_factory=list)
    """Token filters of blocks that were forgotten."""

    def restore(self, heads: Sequence[FilterInfo]) -> None:
        """Take the blocks of an earlier run, which have filters."""
        end: tuple[str, int] = ("", 0)
        for head in sorted(heads, key=lambda each: (each.path, each.start)):
            if (head.path, head.start) < end:
                self.orphaned_filters.append(head.filter_path)  # two runs have cut differently
                continue
            end = head.path, head.end
            block = Block(
                head.path,
                head.start,
                head.end,
                head.first_offset,
                head.next_offset,
                head.max_ms,
                True,
                filter_path=head.filter_path,
            )
            block.apply_filter_info(head)
            self.blocks.append(block)

    def uncut_ranges(self, ranges: Sequence[tuple[str, int, int]]) -> list[UncutRange]:
        """What of the partition's committed ranges has no closed block. Forgets the blocks of files that
        are gone."""
        known: dict[str, list[Block]] = {path: [] for path, _, _ in ranges}
        ends = {path: end for path, _, end in ranges}
        for block in self.blocks:
            if block.end > ends.get(block.path, -1) and block.filter_path is not None:
                self.orphaned_filters.append(block.filter_path)
        self.blocks = [block for block in self.blocks if block.end <= ends.get(block.path, -1)]
        for block in self.blocks:
            known[block.path].append(block)
        gaps = []
        for number, (path, start, end) in enumerate(ranges):
            sealed = number < len(ranges) - 1
            for block in known[path]:
                if start < block.start:
                    gaps.append(UncutRange(path, start, block.start, True))
                start = max(start, block.end)
            if start < end:
                gaps.append(UncutRange(path, start, end, sealed))
        return gaps

    def add_blocks(
        self, cuts: Sequence[BlockRange], ranges: Sequence[tuple[str, int, int]], end: int
    ) -> list[Block]:
        """All blocks with these newly cut ones, of which the closed ones are remembered. `end`: the offset
        at which the ranges end."""
        order = {path: at for at, (path, _, _) in enumerate(ranges)}
        bases = [_base(path) for path, _, _ in ranges]
        blocks = list(self.blocks)
        for each in cuts:
            next_offset = each.next_offset
            if next_offset == OPEN_END:
                after = order[each.path] + 1
                next_offset = bases[after] if after < len(bases) else end
            blocks.append(
                Block(
                    each.path, each.start, each.end, each.first_offset, next_offset, each.time_ms, each.closed
                )
            )
        blocks.sort(key=lambda block: (order[block.path], block.start))
        for block, after_block in pairwise(blocks):
            if after_block.first_offset != UNKNOWN_OFFSET:
                block.next_offset = after_block.first_offset
        self.blocks = [block for block in blocks if block.closed]
        return blocks


def _base(path: str) -> int:
    return parse_segment(os.path.basename(path)) or 0
