"""Reads one partition: whole batches, as they are on disk, without blocking the event loop.

Owns: where sequential readers stopped, the CRC check of bytes that this process has neither written nor read
before, and the error that names the next readable offset after damage. Refuses: bytes past the high watermark
(except for the coordinator's own load), and parts of batches.

What is verified when, and why: FORMAT.md, part "Reading".
"""

from __future__ import annotations

from typing import NamedTuple

from mainstem.log.disk.contract import Buffer
from mainstem.log.disk.nonblocking_read import ReadSteps
from mainstem.log.errors import CorruptBatch, OffsetOutOfRange
from mainstem.log.partition.batch_scan import (
    ScanInvalidated,
    find_damage,
    header_fits,
    remember_missing,
    scan_batches,
)
from mainstem.log.partition.index_loading import IndexLoader
from mainstem.log.partition.segments import Segments
from mainstem.log.storage.record_batch import HEADER_BYTES, BatchHeader, crc_matches, read_header
from mainstem.log.storage.segment import DamagedRange, Segment
from mainstem.promise import Promise

CURSORS_MAX = 64
"""Positions remembered per partition, of sequential readers."""
READ_BYTES_MIN = 4096
SKIP_BYTES_MIN = 16 << 10
"""Verified data longer than this is not parsed header by header: the index names its last batch."""


class BatchSlice(NamedTuple):
    """Whole batches, one after the other: the result of a read."""

    data: Buffer
    next_offset: int
    """The offset after the last record: where to read next."""


class PartitionReader:
    """The reading side of one partition."""

    def __init__(self, segments: Segments, index_loader: IndexLoader) -> None:
        self._segments = segments
        self._index_loader = index_loader
        self._cursors: dict[int, tuple[Segment, int]] = {}
        """Offset -> the segment and the position at which its batch begins; the longest unused first."""

    def forget_cursors(self) -> None:
        """Forget where sequential readers stopped: the log was truncated, or segments were deleted."""
        self._cursors.clear()

    def read(self, offset: int, max_bytes: int, past_watermark: bool) -> BatchSlice | Promise[BatchSlice]:
        """See `Partition.read`."""
        segments = self._segments
        end = segments.log_end_offset if past_watermark else segments.high_watermark
        if not segments.log_start_offset <= offset < end:
            return self._empty_slice(offset)
        cursor = self._cursors.get(offset)
        if cursor is not None:
            segment, position = cursor
            limit = segments.readable_bytes(segment, past_watermark)
            length = limit - position
            if (
                0 < length <= max_bytes
                and segment.is_verified(position, limit)
                and not segment.damaged_ranges  # the bytes may end before the segment's last offset
            ):
                try:
                    data = segment.file().pread_nowait(length, position)
                except OSError:
                    data = None  # the long way finds the damage of a removed file, or raises StorageError
                if data is not None and len(data) == length:
                    next_offset = min(end, segments.end_of(segment))
                    self._remember(next_offset, segment, limit)
                    return BatchSlice(data, next_offset)
        return segments.context.run(self._read(offset, max_bytes, past_watermark))

    def read_blocking(self, offset: int, max_bytes: int, past_watermark: bool) -> BatchSlice:
        """See `Partition.read_blocking`."""
        segments = self._segments
        end = segments.log_end_offset if past_watermark else segments.high_watermark
        if not segments.log_start_offset <= offset < end:
            return self._empty_slice(offset)
        return segments.context.run_blocking(self._read(offset, max_bytes, past_watermark))

    def _empty_slice(self, offset: int) -> BatchSlice:
        segments = self._segments
        if segments.log_start_offset <= offset <= segments.log_end_offset:
            return BatchSlice(b"", offset)
        raise OffsetOutOfRange(
            f"offset {offset} is not in the log, which has offsets {segments.log_start_offset} to"
            f" {segments.high_watermark}"
        )

    def _remember(self, offset: int, segment: Segment, position: int) -> None:
        cursors = self._cursors
        cursors.pop(offset, None)
        cursors[offset] = segment, position
        if len(cursors) > CURSORS_MAX:
            del cursors[next(iter(cursors))]

    def _read(self, offset: int, max_bytes: int, past_watermark: bool) -> ReadSteps[BatchSlice]:
        segments = self._segments
        while True:
            truncation_count = segments.truncation_count
            segment = segments.holding(offset)
            if offset < segments.log_start_offset:
                return self._empty_slice(offset)
            if segment is None:
                first = segments[0].base_offset if segments else segments.log_end_offset
                raise _damage_error(DamagedRange(0, 0, offset, first))
            position, base_offset = yield from self._locate(segment, offset)
            end = segments.log_limit(segment) if past_watermark else segments.committed_limit(segment)
            length = min(max(max_bytes, READ_BYTES_MIN), end[0] - position)
            if length <= 0 and base_offset < end[1]:
                raise _damage_error(remember_missing(segment, position, base_offset, end[1]))
            if length <= 0:
                return BatchSlice(b"", offset)
            data = yield segment, length, position
            header = read_header(data) if len(data) >= HEADER_BYTES else None
            if header is not None and header.total_bytes > len(data) and header.is_plausible:
                data = yield segment, min(header.total_bytes, end[0] - position), position
            if segments.truncation_count != truncation_count:
                continue
            valid_bytes, next_offset = _valid_batches(segment, data, position, base_offset, end, max_bytes)
            if not valid_bytes:
                try:
                    damage = yield from find_damage(segment, position, base_offset, end)
                except ScanInvalidated:
                    continue
                raise _damage_error(damage)
            if position + valid_bytes == end[0] and next_offset < end[1]:
                remember_missing(segment, end[0], next_offset, end[1])
            self._remember(next_offset, segment, position + valid_bytes)
            whole = valid_bytes == len(data)
            return BatchSlice(data if whole else memoryview(data)[:valid_bytes], next_offset)

    def _locate(self, segment: Segment, offset: int) -> ReadSteps[tuple[int, int]]:
        """(position, base offset) of the batch that holds `offset`. CorruptBatch if it lies in damage."""
        cursor = self._cursors.get(offset)
        if cursor is not None and cursor[0] is segment:
            return cursor[1], offset
        if offset == segment.base_offset:
            return 0, offset
        for damage in segment.damaged_ranges:
            if damage.next_offset == offset:
                return damage.end_position, offset
        return (yield from self._locate_by_index(segment, offset))

    def _locate_by_index(self, segment: Segment, offset: int) -> ReadSteps[tuple[int, int]]:
        """As `_locate`: from the index entry before the batch, then along the headers."""
        while True:
            damage = segment.damage_at_offset(offset)
            if damage is not None:
                raise _damage_error(damage)
            start = yield from self._index_loader.batch_before(segment, offset)
            limit = self._segments.log_limit(segment)
            match: list[tuple[int, int]] = []

            def visit(position: int, header: BatchHeader, match: list[tuple[int, int]] = match) -> bool:
                if header.next_offset <= offset:
                    return False
                match.append((position, header.base_offset))
                return True

            try:
                yield from scan_batches(segment, *start, limit, visit, chunk_bytes=2 * READ_BYTES_MIN)
            except ScanInvalidated:
                continue
            if match and match[0][1] <= offset:
                return match[0]
            if segment.damage_at_offset(offset) is None:
                raise OffsetOutOfRange(f"offset {offset} is not in {segment.path}")

    # --- without reading ----------------------------------------------------------------------------------

    def available_bytes(self, offset: int) -> int:
        """See `Partition.available_bytes`."""
        segments = self._segments
        if not segments.log_start_offset <= offset < segments.high_watermark:
            return 0
        segment = segments.holding(offset)
        if segment is None:
            return 1  # no batch has this offset: reading it reports that
        cursor = self._cursors.get(offset)
        if cursor is not None:
            segment, position = cursor
        elif segment.index is not None:
            position, _ = segment.index.position_before(offset - segment.base_offset)
        else:
            offsets = max(1, segments.end_of(segment) - segment.base_offset)
            position = segment.size * (offset - segment.base_offset) // offsets
        total = segments.readable_bytes(segment) - position
        if segment is not segments.active:
            total += sum(segments.readable_bytes(following) for following in segments.after(segment))
        return max(total, 1)

    def byte_ranges(self, from_offset: int, to_offset: int) -> list[tuple[str, int, int]]:
        """See `Partition.byte_ranges`."""
        segments = self._segments
        from_offset = max(from_offset, segments.log_start_offset)
        to_offset = min(to_offset, segments.high_watermark)
        ranges = []
        for segment in segments:
            first, end = segment.base_offset, segments.end_of(segment)
            if end <= from_offset or first >= to_offset:
                continue
            start, stop = 0, segments.readable_bytes(segment)
            if from_offset > first or to_offset < end:
                index = segments.context.run_blocking(self._index_loader.load(segment))
                if from_offset > first:
                    start, _ = index.position_before(from_offset - first)
                if to_offset < end:
                    stop = min(stop, index.position_after(to_offset - 1 - first) or stop)
            if start < stop:
                ranges.append((segment.path, start, stop))
        return ranges


def _valid_batches(
    segment: Segment, data: Buffer, position: int, offset: int, end: tuple[int, int], max_bytes: int
) -> tuple[int, int]:
    """(bytes, next offset) of the whole valid batches at the beginning of `data`, which was read at
    `position`; the first begins with `offset`. At least one batch, also if it is larger than `max_bytes`;
    (0, offset) if the first is not valid. `end`: (position, offset) at which reading ends."""
    verified = segment.is_verified(position, position + len(data))
    view = memoryview(data)
    valid_bytes, size = 0, len(data)
    if verified and size > SKIP_BYTES_MIN:
        valid_bytes, offset = _skip_to_last_indexed(segment, data, position, offset, max_bytes)
    while size - valid_bytes >= HEADER_BYTES:
        header = read_header(data, valid_bytes)
        if not header_fits(header, position + valid_bytes, offset, end):
            break
        after = valid_bytes + header.total_bytes
        if after > size or (valid_bytes and after > max_bytes):
            break
        if not verified and not crc_matches(view[valid_bytes:after], header):
            break
        valid_bytes, offset = after, header.next_offset
    if valid_bytes and not verified:
        segment.mark_verified(position, position + valid_bytes)
    return valid_bytes, offset


def _skip_to_last_indexed(
    segment: Segment, data: Buffer, position: int, offset: int, max_bytes: int
) -> tuple[int, int]:
    """(bytes, offset) up to the last batch in `data` that the index knows; (0, offset) if it knows none."""
    index = segment.index
    entry = index.last_between(position, position + min(len(data), max_bytes)) if index is not None else None
    if entry is None or entry[0] + HEADER_BYTES > position + len(data):
        return 0, offset
    header = read_header(data, entry[0] - position)
    if header.is_plausible and header.last_offset - segment.base_offset == entry[1]:
        return entry[0] - position, header.base_offset
    return 0, offset


def _damage_error(damage: DamagedRange) -> CorruptBatch:
    last = damage.next_offset - 1
    return CorruptBatch(
        f"offsets {damage.offset} to {last} are damaged on disk; reading continues at {damage.next_offset}",
        damage.next_offset,
    )
