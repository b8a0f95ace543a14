"""Scans segment files batch by batch, and finds the next valid batch after damage.

Owns: the scan over batch headers that index building, look-ups and the loading of derived state share; the
search for the next valid batch after bytes that are none; and, for recovery, how far a file has valid batches
beyond a known end. Refuses: to trust a length. No header makes it read more than the file has, and a scan
moves forward over any damage.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from mainstem.log.disk.contract import File
from mainstem.log.disk.nonblocking_read import ReadSteps
from mainstem.log.storage.record_batch import (
    HEADER_BYTES,
    BatchHeader,
    crc_matches,
    find_headers,
    iter_batches,
    read_header,
)
from mainstem.log.storage.segment import DamagedRange, Segment

SCAN_CHUNK_BYTES = 64 << 10
SEARCH_CHUNK_BYTES = 1 << 20
EPOCH_MAX = (1 << 31) - 1
OFFSET_MAX = (1 << 63) - 1

log = logging.getLogger(__name__)


class ScanInvalidated(Exception):
    """Raised by a scan whose visited batches do not count: one turned out to be damaged (the segment
    remembers that), or the log was truncated meanwhile. The caller begins the scan again."""


# --- a segment of an open partition -----------------------------------------------------------------------


def scan_batches(
    segment: Segment,
    position: int,
    offset: int,
    end: tuple[int, int],
    visit: Callable[[int, BatchHeader], bool | None],
    *,
    chunk_bytes: int = SCAN_CHUNK_BYTES,
) -> ReadSteps[None]:
    """Call `visit(position, header)` for each batch from `position`, where base offset `offset` is expected,
    to before `end` (position, offset), until it returns True. Large bodies are not read and CRCs not checked;
    bytes that cannot be a header are skipped and remembered as damage, and so are offsets that no batch has.
    Yields to the event loop after each chunk. Raises ScanInvalidated."""
    end_position, end_offset = end
    truncation_count = segment.truncation_count
    data: bytes | bytearray = b""
    chunk_position = position
    previous: tuple[int, BatchHeader] | None = None
    while position < end_position:
        damage = segment.damage_at_position(position)
        if damage is None:
            start = position - chunk_position
            if start + HEADER_BYTES > len(data):
                if data:
                    yield None
                chunk_position, start = position, 0
                data = yield segment, min(chunk_bytes, end_position - position), position
                if segment.truncation_count != truncation_count:
                    raise ScanInvalidated
            header = read_header(data, start) if start + HEADER_BYTES <= len(data) else None
            if header is not None and header_fits(header, position, offset, end):
                if visit(position, header):
                    return
                previous = position, header
                position += header.total_bytes
                offset = header.next_offset
                continue
            if previous is not None and not (yield from batch_is_valid(segment, *previous)):
                # The previous header has a wrong length or count, so that no batch begins here.
                yield from find_damage(segment, previous[0], previous[1].base_offset, end)
                raise ScanInvalidated
            damage = yield from find_damage(segment, position, offset, end)
        previous = None
        position, offset = damage.end_position, damage.next_offset
    if offset < end_offset:
        if previous is not None and not (yield from batch_is_valid(segment, *previous)):
            yield from find_damage(segment, previous[0], previous[1].base_offset, end)
            raise ScanInvalidated
        if segment.truncation_count != truncation_count:
            raise ScanInvalidated
        remember_missing(segment, position, offset, end_offset)


def remember_missing(segment: Segment, position: int, offset: int, next_offset: int) -> DamagedRange:
    """The batches of `segment` end at `position` with `offset`, but the log continues with `next_offset`:
    remember the offsets between as damage, for a removed range would have left a batch without records."""
    damage = DamagedRange(position, position, offset, next_offset)
    assert offset < next_offset, "a missing range has an offset"
    if damage not in segment.damaged_ranges:
        segment.add_damage(damage)
        log.error(
            "%s: no batch has offsets %d to %d; they cannot be read, later ones can; run `mainstem doctor`",
            segment.path, offset, next_offset - 1,
        )  # fmt: skip
    return damage


def header_fits(header: BatchHeader, position: int, offset: int, end: tuple[int, int]) -> bool:
    """Whether `header` can be that of a batch at `position` with base offset `offset`, in a log that ends at
    `end` (position, offset)."""
    return (
        header.base_offset == offset
        and header.is_plausible
        and position + header.total_bytes <= end[0]
        and header.next_offset <= end[1]
    )


def batch_is_valid(segment: Segment, position: int, header: BatchHeader) -> ReadSteps[bool]:
    """Whether the batch at `position` is complete and its CRC is right."""
    data = yield segment, header.total_bytes, position
    return len(data) == header.total_bytes and crc_matches(data, header)


def find_damage(
    segment: Segment, position: int, offset: int, end: tuple[int, int]
) -> ReadSteps[DamagedRange]:
    """No valid batch at `position` begins with `offset`: find the next valid batch, else the end of the log,
    and remember what lies between as damage. Raises ScanInvalidated."""
    truncation_count = segment.truncation_count
    following = yield from _after_damaged_body(segment, position, offset, end)
    if following is None:
        following = yield from _next_batch(segment, position + 1, offset, end)
    if segment.truncation_count != truncation_count:
        raise ScanInvalidated
    assert following[0] > position, "a scan moves forward over damage"
    damage = DamagedRange(position, following[0], offset, following[1])
    if segment.damage_at_position(position) is None:
        segment.add_damage(damage)
        log.error(
            "%s: bytes %d to %d are damaged; offsets %d to %d cannot be read, later ones can"
            "; run `mainstem doctor`",
            segment.path, damage.position, damage.end_position, damage.offset, damage.next_offset - 1,
        )  # fmt: skip
    return damage


def _after_damaged_body(
    segment: Segment, position: int, offset: int, end: tuple[int, int]
) -> ReadSteps[tuple[int, int] | None]:
    """(position, offset) after the batch at `position` if its header is right, so that only its body is
    damaged: another header, or the end of the log, follows exactly where it says. None otherwise."""
    data = yield segment, HEADER_BYTES, position
    if len(data) < HEADER_BYTES:
        return None
    header = read_header(data)
    if not header_fits(header, position, offset, end):
        return None
    after = position + header.total_bytes, header.next_offset
    if after == end:
        return after
    data = yield segment, HEADER_BYTES, after[0]
    if len(data) == HEADER_BYTES and header_fits(read_header(data), *after, end):
        return after
    return None


def _next_batch(
    segment: Segment, position: int, offset: int, end: tuple[int, int]
) -> ReadSteps[tuple[int, int]]:
    """(position, base offset) of the first valid batch from `position` on with a base offset after `offset`;
    `end` if there is none."""
    while position + HEADER_BYTES <= end[0]:
        data = yield segment, min(SEARCH_CHUNK_BYTES, end[0] - position), position
        for start in find_headers(data, offset, end[1]):
            header = read_header(data, start)
            if position + start + header.total_bytes > end[0]:
                continue
            if (yield from batch_is_valid(segment, position + start, header)):
                return position + start, header.base_offset
        if len(data) < SEARCH_CHUNK_BYTES:
            break
        yield None
        position += len(data) - HEADER_BYTES + 1
    return end


# --- a file of a partition that is not recovered yet ------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BatchRun:
    """Valid batches of one file that follow each other."""

    data: memoryview
    next_offset: int
    epoch: int
    """Leader epoch of the last batch."""


def valid_run_at(
    file: File,
    position: int,
    offset: int,
    epoch: int,
    *,
    end_position: int | None = None,
    epoch_max: int = EPOCH_MAX,
) -> BatchRun | None:
    """The valid batches at `position`: the first has base offset `offset`, each follows the one before, CRCs
    are right, leader epochs never fall and lie in `epoch`..`epoch_max`. None if there is none. About 1 MB at
    a time: call again for what follows. No batch reaches past `end_position`. Blocks."""
    available = file.size() - position
    if end_position is not None:
        available = min(available, end_position - position)
    if available < HEADER_BYTES:
        return None
    data = file.pread(min(SEARCH_CHUNK_BYTES, available), position)
    if len(data) < HEADER_BYTES:
        return None
    first = read_header(data)
    if first.is_plausible and len(data) < first.total_bytes <= available:
        if first.base_offset != offset or not epoch <= first.leader_epoch <= epoch_max:
            return None
        data = file.pread(first.total_bytes, position)
    view = memoryview(data)
    end = 0
    for start, header in iter_batches(view):
        if header.base_offset != offset or not epoch <= header.leader_epoch <= epoch_max:
            break
        if not crc_matches(view[start : start + header.total_bytes], header):
            break
        end, offset, epoch = start + header.total_bytes, header.next_offset, header.leader_epoch
    return BatchRun(view[:end], offset, epoch) if end else None


def next_valid_batch(file: File, position: int, offset: int, epoch: int) -> tuple[int, int] | None:
    """(position, base offset) of the next valid batch after `position`, with an offset after `offset` and no
    older epoch; None if there is none. No valid batch at `position` begins with `offset`. Blocks."""
    size = file.size()
    head = file.pread(HEADER_BYTES, position)
    if len(head) == HEADER_BYTES:
        header = read_header(head)
        after = position + header.total_bytes, header.next_offset
        if (
            header.is_plausible
            and header.base_offset == offset
            and valid_run_at(file, *after, epoch) is not None
        ):
            return after  # rather than a batch that is part of its records
    position += 1  # the batch may be valid but for its offset
    while position + HEADER_BYTES <= size:
        data = file.pread(SEARCH_CHUNK_BYTES, position)
        for start in find_headers(data, offset, OFFSET_MAX):
            base_offset = read_header(data, start).base_offset
            if valid_run_at(file, position + start, base_offset, epoch) is not None:
                return position + start, base_offset
        position += max(len(data) - HEADER_BYTES + 1, 1)
    return None
