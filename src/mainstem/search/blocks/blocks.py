"""Divides each partition's log into blocks of about 8 MiB, the units of search.

A closed block never changes: its bytes are committed, and the committed log only loses whole segments. The
range after the last closed block is divided again each time.

Owns: where blocks begin and end, and which are closed. Refuses: to decode records, and to write to the log.

Only a few batch headers are read: a boundary is looked up in the `.index` file, whose entries are checked
against the header that they name, and then found by following headers. `cut_blocks` runs in the workers,
`BlockMap` in the server.
"""

from __future__ import annotations

import os
import struct
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from mainstem.log.paths import parse_segment
from mainstem.log.storage.record_batch import HEADER_BYTES, BatchHeader, read_header
from mainstem.search.blocks.batches import DataDeleted, MappedRange, OpenRange, locate_batches
from mainstem.search.ipc import BlockRange, FilterInfo, TimeSpan, UncutRange

BLOCK_BYTES = 8 << 20
_ENTRY = struct.Struct(">II")
UNKNOWN_OFFSET = -1
"""The first offset of a block that begins with damage."""
OPEN_END = 1 << 62
"""The offset after the last block of a segment, which only the caller knows."""


def read_file(path: str) -> bytes:
    """The contents of a file. OSError."""
    return Path(path).read_bytes()


def cut_blocks(
    ranges: Iterable[UncutRange],
    block_bytes: int,
    open_range: OpenRange = MappedRange,
    read: Callable[[str], bytes] = read_file,
) -> list[BlockRange]:
    """Divide ranges of segment files into blocks, oldest first. The ranges of a deleted file give no
    blocks."""
    blocks: list[BlockRange] = []
    for uncut in ranges:
        try:
            with open_range(uncut.path, uncut.start, uncut.end) as file:
                blocks += _cut(file.view, uncut, block_bytes, _index_entries(uncut.path, read))
        except DataDeleted:
            continue
    return blocks


def _cut(
    view: memoryview, uncut: UncutRange, block_bytes: int, index: list[tuple[int, int]]
) -> Iterator[BlockRange]:
    size, start = len(view), 0
    base = parse_segment(Path(uncut.path).name) or 0
    header = _header_at(view, 0)
    while start < size:
        end = _block_end(view, uncut, start, block_bytes, base, index)
        assert start < end <= size, "a block ends after its start and within its range"
        next_header = _header_at(view, end)
        if header is not None:
            first_offset = header.base_offset
        else:  # damage; a segment's file says with which offset it begins
            first_offset = UNKNOWN_OFFSET if uncut.start + start else base
        # The newest block needs its exact time: it is compared with those of other partitions.
        newest_ms = next_header.base_timestamp if next_header is not None else _max_timestamp(view[start:end])
        yield BlockRange(
            uncut.path,
            uncut.start + start,
            uncut.start + end,
            first_offset,
            OPEN_END if next_header is None else next_header.base_offset,
            max(newest_ms, -1 if header is None else header.max_timestamp),
            end < size or uncut.closed,
        )
        start, header = end, next_header


def _block_end(
    view: memoryview,
    uncut: UncutRange,
    start: int,
    block_bytes: int,
    base: int,
    index: list[tuple[int, int]],
) -> int:
    """Where the block that begins at `start` ends: at the first batch after `block_bytes`."""
    size = len(view)
    target = start + block_bytes
    if target >= size:
        return size
    entry = bisect_right(index, (uncut.start + target, 1 << 32)) - 1
    position = start
    if entry >= 0 and index[entry][0] - uncut.start > start:
        indexed_position = index[entry][0] - uncut.start
        header = _header_at(view, indexed_position)
        if header is not None and header.last_offset == base + index[entry][1]:
            position = indexed_position
    for batch in locate_batches(view[position:]):
        if position + batch.position >= target and batch.header is not None:
            return position + batch.position
    return size


def _header_at(view: memoryview, position: int) -> BatchHeader | None:
    if position + HEADER_BYTES > len(view):
        return None
    header = read_header(view, position)
    return header if header.is_plausible and position + header.total_bytes <= len(view) else None


def _max_timestamp(view: memoryview) -> int:
    headers = (batch.header for batch in locate_batches(view))
    return max((header.max_timestamp for header in headers if header is not None), default=-1)


def _index_entries(path: str, read: Callable[[str], bytes]) -> list[tuple[int, int]]:
    """Position, and last offset relative to the base, of each entry of the segment's `.index` file. Empty if
    the file is missing or its positions do not rise."""
    try:
        data = read(str(Path(path).with_suffix(".index")))
    except OSError:
        return []
    entries = [(position, last) for last, position in _ENTRY.iter_unpack(data[: len(data) // 8 * 8])]
    return entries if all(a < b for a, b in pairwise(entries)) else []


# ----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Block:
    """Some batches of one segment, or of one partition of a cluster: a unit of search."""

    path: str
    """The segment's file; of a cluster, the topic's id or the filter's folder."""
    start: int
    end: int
    """Positions in the file; of a cluster, `end` is the estimated size."""
    first_offset: int
    next_offset: int
    time_ms: int
    """About the newest time of the block's events."""
    closed: bool
    """Whether the block is complete. An open block may still grow."""
    min_ms: int | None = None
    """Exact least time of the block's events; None: unknown."""
    max_ms: int | None = None
    """Exact largest time of the block's events; None: unknown."""
    filter_path: str | None = None
    """Path of the block's token filter; None: it has none yet."""
    unfilterable: bool = False
    """Whether no token filter can be built for it."""
    time_span: TimeSpan | None = None
    """The block's least and largest time and number of events, for histograms; None: unknown."""

    @classmethod
    def of_filter(cls, info: FilterInfo) -> Block:
        """The closed block that a token filter belongs to."""
        block = cls(
            info.path,
            info.start,
            info.end,
            info.first_offset,
            info.next_offset,
            info.max_ms,
            closed=True,
            filter_path=info.filter_path,
        )
        block.apply_filter_info(info)
        return block

    def apply_filter_info(self, info: FilterInfo) -> None:
        """Copy the times and the number of events from the description of the block's token filter."""
        self.min_ms, self.max_ms = info.min_ms, info.max_ms
        if info.events and info.min_ms >= 0:
            self.time_span = TimeSpan(info.min_ms, info.max_ms, info.events)


@dataclass(slots=True)
class BlockMap:
    """The closed blocks of one partition, oldest first."""

    blocks: list[Block] = field(default_factory=list)
    orphaned_filters: list[str] = field(default_factory=list)
    """Token filters of blocks that this map no longer has."""

    def restore(self, filters: Sequence[FilterInfo]) -> None:
        """Add the blocks that token filters of an earlier run describe. Filters that overlap others become
        orphans."""
        end: tuple[str, int] = ("", 0)
        for info in sorted(filters, key=lambda info: (info.path, info.start)):
            if (info.path, info.start) < end:
                self.orphaned_filters.append(info.filter_path)  # Two runs divided the segment differently.
                continue
            end = info.path, info.end
            self.blocks.append(Block.of_filter(info))

    def uncut_ranges(self, ranges: Sequence[tuple[str, int, int]]) -> list[UncutRange]:
        """The parts of the partition's committed ranges that no closed block covers. Removes the blocks of
        deleted files."""
        blocks_by_path: dict[str, list[Block]] = {path: [] for path, _, _ in ranges}
        ends = {path: end for path, _, end in ranges}
        for block in self.blocks:
            if block.end > ends.get(block.path, -1) and block.filter_path is not None:
                self.orphaned_filters.append(block.filter_path)
        self.blocks = [block for block in self.blocks if block.end <= ends.get(block.path, -1)]
        for block in self.blocks:
            blocks_by_path[block.path].append(block)
        uncut = []
        for number, (path, start, end) in enumerate(ranges):
            is_sealed = number < len(ranges) - 1
            for block in blocks_by_path[path]:
                if start < block.start:
                    uncut.append(UncutRange(path, start, block.start, True))
                start = max(start, block.end)
            if start < end:
                uncut.append(UncutRange(path, start, end, is_sealed))
        return uncut

    def add_blocks(
        self, new_blocks: Sequence[BlockRange], ranges: Sequence[tuple[str, int, int]], end: int
    ) -> list[Block]:
        """Add new blocks, and return all blocks of the partition. The map keeps only the closed ones. `end`:
        the offset at which the ranges end."""
        order = {path: number for number, (path, _, _) in enumerate(ranges)}
        bases = [_base_offset(path) for path, _, _ in ranges]
        blocks = list(self.blocks)
        for new in new_blocks:
            next_offset = new.next_offset
            if next_offset == OPEN_END:
                next_segment = order[new.path] + 1
                next_offset = bases[next_segment] if next_segment < len(bases) else end
            blocks.append(
                Block(new.path, new.start, new.end, new.first_offset, next_offset, new.time_ms, new.closed)
            )
        blocks.sort(key=lambda block: (order[block.path], block.start))
        for block, next_block in pairwise(blocks):
            assert block.path != next_block.path or block.end <= next_block.start, "blocks do not overlap"
            if next_block.first_offset != UNKNOWN_OFFSET:
                block.next_offset = next_block.first_offset
        self.blocks = [block for block in blocks if block.closed]
        return blocks


def _base_offset(path: str) -> int:
    return parse_segment(os.path.basename(path)) or 0
