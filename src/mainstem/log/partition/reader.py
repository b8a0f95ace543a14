"""Reading a partition: whole batches, as they are on disk, without waiting on the loop.

Owns: where sequential readers stopped, the CRC check of bytes that this process has not written or read
before, and what a reader is told at damage. Refuses: bytes past the watermark (unless asked by the
coordinator's own load), half batches. Called through `Partition`.

What is verified when, and why: FORMAT.md, part "Reading".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from mainstem.log.disk.contract import Buffer
from mainstem.log.disk.nonblocking_read import ReadSteps
from mainstem.log.errors import CorruptBatch, OffsetOutOfRange
from mainstem.log.partition import index_loading
from mainstem.log.partition.batch_scan import ScanInvalidated, find_damage, header_fits, scan_batches
from mainstem.log.storage.record_batch import HEADER_BYTES, BatchHeader, crc_matches, read_header
from mainstem.log.storage.segment import DamagedRange, Segment
from mainstem.promise import Promise

if TYPE_CHECKING:
    from mainstem.log.partition.partition import Partition

CURSORS_MAX = 64
"""Places remembered of each partition."""
READ_BYTES_MIN = 4096
HOP_BYTES = 16 << 10


class BatchSlice(NamedTuple):
    """Whole batches, one after the other."""

    data: Buffer
    next_offset: int
    """Where to read next."""


class PartitionReader:
    """The reading side of one partition."""

    def __init__(self, partition: Partition) -> None:
        self._partition = partition
        self._cursors: dict[int, tuple[Segment, int]] = {}

    def forget_cursors(self) -> None:
        """The log was cut, or segments were removed."""
        self._cursors.clear()

    def read(self, offset: int, max_bytes: int, past_watermark: bool) -> BatchSlice | Promise[BatchSlice]:
        """See `Partition.read`."""
        partition = self._partition
        end = partition.log_end_offset if past_watermark else partition.high_watermark
        if not partition.log_start_offset <= offset < end:
            return self._nothing(offset)
        found = self._cursors.get(offset)
        if found is not None:
            segment, position = found
            limit = partition.limit_of(segment, past_watermark)
            length = limit - position
            if 0 < length <= max_bytes and segment.is_verified(position, limit):
                data = segment.file().pread_nowait(length, position)
                if data is not None and len(data) == length:
                    next_offset = min(end, partition.end_of(segment))
                    self._remember(next_offset, segment, limit)
                    return BatchSlice(data, next_offset)
        return partition.context.run(self._read(offset, max_bytes, past_watermark))

    def read_blocking(self, offset: int, max_bytes: int, past_watermark: bool) -> BatchSlice:
        """See `Partition.read_blocking`."""
        partition = self._partition
        end = partition.log_end_offset if past_watermark else partition.high_watermark
        if not partition.log_start_offset <= offset < end:
            return self._nothing(offset)
        return partition.context.run_blocking(self._read(offset, max_bytes, past_watermark))

    def _nothing(self, offset: int) -> BatchSlice:
        partition = self._partition
        if partition.log_start_offset <= offset <= partition.log_end_offset:
            return BatchSlice(b"", offset)
        span = f"{partition.log_start_offset} to {partition.high_watermark}"
        raise OffsetOutOfRange(f"offset {offset} is not in the log, which has {span}")

    def _remember(self, offset: int, segment: Segment, position: int) -> None:
        cursors = self._cursors
        cursors.pop(offset, None)
        cursors[offset] = segment, position
        if len(cursors) > CURSORS_MAX:
            del cursors[next(iter(cursors))]

    def _read(self, offset: int, max_bytes: int, past_watermark: bool) -> ReadSteps[BatchSlice]:
        partition = self._partition
        while True:
            cuts = partition.truncation_count
            segment = partition.segment_of(offset)
            if segment is None or offset < partition.log_start_offset:
                return self._nothing(offset)
            position, at = yield from self._locate(segment, offset)
            limit = partition.limit_of(segment, past_watermark)
            length = min(max(max_bytes, READ_BYTES_MIN), limit - position)
            if length <= 0:
                return BatchSlice(b"", offset)
            data = yield segment, length, position
            header = read_header(data) if len(data) >= HEADER_BYTES else None
            if header is not None and header.total_bytes > len(data) and header.is_plausible:
                data = yield segment, min(header.total_bytes, limit - position), position
            if partition.truncation_count != cuts:
                continue
            end = limit, min(partition.end_of(segment), partition.log_end_offset)
            taken, next_offset = _whole(segment, data, position, at, end, max_bytes)
            if not taken:
                try:
                    damage = yield from find_damage(segment, position, at, end)
                except ScanInvalidated:
                    continue
                raise _lost(damage)
            self._remember(next_offset, segment, position + taken)
            return BatchSlice(data if taken == len(data) else memoryview(data)[:taken], next_offset)

    def _locate(self, segment: Segment, offset: int) -> ReadSteps[tuple[int, int]]:
        """(position, base offset) of the batch that holds `offset`. CorruptBatch if it lies in damage."""
        found = self._cursors.get(offset)
        if found is not None and found[0] is segment:
            return found[1], offset
        if offset == segment.base_offset:
            return 0, offset
        for damage in segment.damaged_ranges:
            if damage.next_offset == offset:
                return damage.end_position, offset
        return (yield from locate_batch(self._partition, segment, offset))

    # --- without reading ----------------------------------------------------------------------------------

    def available_bytes(self, offset: int) -> int:
        """See `Partition.available_bytes`."""
        partition = self._partition
        if not partition.log_start_offset <= offset < partition.high_watermark:
            return 0
        segment = partition.segment_of(offset)
        if segment is None:
            return 0
        found = self._cursors.get(offset)
        if found is not None:
            segment, position = found
        elif segment.index is not None:
            position, _ = segment.index.position_before(offset - segment.base_offset)
        else:
            offsets = max(1, partition.end_of(segment) - segment.base_offset)
            position = segment.size * (offset - segment.base_offset) // offsets
        total = partition.limit_of(segment) - position
        for later in reversed(partition.segments):
            if later.base_offset <= segment.base_offset:
                break
            total += partition.limit_of(later)
        return max(total, 1)

    def byte_ranges(self, from_offset: int, to_offset: int) -> list[tuple[str, int, int]]:
        """See `Partition.byte_ranges`."""
        partition = self._partition
        from_offset = max(from_offset, partition.log_start_offset)
        to_offset = min(to_offset, partition.high_watermark)
        ranges = []
        for segment in partition.segments:
            first, end = segment.base_offset, partition.end_of(segment)
            if end <= from_offset or first >= to_offset:
                continue
            start, stop = 0, partition.limit_of(segment)
            if from_offset > first or to_offset < end:
                index = partition.context.run_blocking(index_loading.index_of(partition, segment))
                if from_offset > first:
                    start, _ = index.position_before(from_offset - first)
                if to_offset < end:
                    stop = min(stop, index.position_after(to_offset - 1 - first) or stop)
            if start < stop:
                ranges.append((segment.path, start, stop))
        return ranges


def locate_batch(partition: Partition, segment: Segment, offset: int) -> ReadSteps[tuple[int, int]]:
    """(position, base offset) of the batch that holds `offset`, which is in `segment`: from the index, then
    along the headers. CorruptBatch if it lies in damage."""
    while True:
        damage = segment.damage_at_offset(offset)
        if damage is not None:
            raise _lost(damage)
        start = yield from batch_before(partition, segment, offset)
        end = segment.size, partition.end_of(segment)
        found: list[tuple[int, int]] = []

        def visit(position: int, header: BatchHeader, found: list[tuple[int, int]] = found) -> bool:
            if header.next_offset <= offset:
                return False
            found.append((position, header.base_offset))
            return True

        try:
            yield from scan_batches(segment, *start, end, visit, chunk_bytes=2 * READ_BYTES_MIN)
        except ScanInvalidated:
            continue
        if found and found[0][1] <= offset:
            return found[0]
        if segment.damage_at_offset(offset) is None:
            raise OffsetOutOfRange(f"offset {offset} is not in {segment.path}")


def batch_before(partition: Partition, segment: Segment, offset: int) -> ReadSteps[tuple[int, int]]:
    """(position, base offset) of a batch at or before the one that holds `offset`, close to it."""
    index = yield from index_loading.index_of(partition, segment)
    position, claimed = index.position_before(offset - segment.base_offset)
    end = segment.size, partition.end_of(segment)
    if claimed is not None:
        header = yield from index_loading.entry_header(segment, position, claimed, end)
        if header is None and not segment.index_rebuilt:
            index = yield from index_loading.rebuild_index(partition, segment)
            return (yield from batch_before(partition, segment, offset))
        if header is not None:
            return position, header.base_offset
    return 0, segment.base_offset


def _whole(
    segment: Segment, data: Buffer, position: int, offset: int, end: tuple[int, int], max_bytes: int
) -> tuple[int, int]:
    """(bytes, next offset) of the whole right batches at the beginning of `data`, at least one if it is
    right, else (0, offset)."""
    verified = segment.is_verified(position, position + len(data))
    view = memoryview(data)
    taken, size = 0, len(data)
    if verified and size > HOP_BYTES:
        taken, offset = _hop(segment, data, position, offset, max_bytes)
    while size - taken >= HEADER_BYTES:
        header = read_header(data, taken)
        if not header_fits(header, position + taken, offset, end):
            break
        after = taken + header.total_bytes
        if after > size or (taken and after > max_bytes):
            break
        if not verified and not crc_matches(view[taken:after], header):
            break
        taken, offset = after, header.next_offset
    if taken and not verified:
        segment.mark_verified(position, position + taken)
    return taken, offset


def _hop(segment: Segment, data: Buffer, position: int, offset: int, max_bytes: int) -> tuple[int, int]:
    """(bytes, offset) up to the last batch in `data` that the index knows: verified bytes need no walk."""
    index = segment.index
    found = index.last_between(position, position + min(len(data), max_bytes)) if index is not None else None
    if found is None or found[0] + HEADER_BYTES > position + len(data):
        return 0, offset
    header = read_header(data, found[0] - position)
    if header.is_plausible and header.last_offset - segment.base_offset == found[1]:
        return found[0] - position, header.base_offset
    return 0, offset


def _lost(damage: DamagedRange) -> CorruptBatch:
    last = damage.next_offset - 1
    return CorruptBatch(
        f"offsets {damage.offset} to {last} are damaged on disk; reading goes on at {damage.next_offset}"
    )
