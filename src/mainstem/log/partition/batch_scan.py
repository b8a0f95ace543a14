"""Walking a segment batch by batch, and finding the way past damage.

Owns: the one walk over headers that index building, look-ups, recovery of producer windows and inspection
share, and the search for the next whole batch after bytes that are none. Refuses: to trust a length: no
header makes it read more than the segment has, and damage makes it neither stop for good nor run in
circles. Called by the log's modules.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from mainstem.log.disk.nonblocking_read import ReadSteps
from mainstem.log.storage.record_batch import (
    HEADER_BYTES,
    BatchHeader,
    crc_matches,
    find_headers,
    read_header,
)
from mainstem.log.storage.segment import DamagedRange, Segment

CHUNK_BYTES = 64 << 10
SEARCH_BYTES = 1 << 20

log = logging.getLogger(__name__)


class ScanInvalidated(Exception):
    """What was visited does not hold: a batch turned out to be damaged (it is noted in the segment), or the
    log was cut meanwhile. Begin again."""


def scan_batches(
    segment: Segment,
    position: int,
    offset: int,
    end: tuple[int, int],
    visit: Callable[[int, BatchHeader], bool | None],
    *,
    chunk_bytes: int = CHUNK_BYTES,
) -> ReadSteps[None]:
    """Call `visit(position, header)` for each batch from `position`, which is `offset`, to before `end`
    (position, offset), until it returns True. Bodies are not read if they are large, CRCs not checked; what
    cannot be a header is skipped and noted as damage. Others get a turn after each chunk. Raises
    ScanInvalidated."""
    end_position, _ = end
    version = segment.truncation_count
    data: bytes | bytearray = b""
    start = position
    before: tuple[int, BatchHeader] | None = None
    while position < end_position:
        damage = segment.damage_at_position(position)
        if damage is None:
            at = position - start
            if at + HEADER_BYTES > len(data):
                if data:
                    yield None
                start, at = position, 0
                data = yield segment, min(chunk_bytes, end_position - position), position
                if segment.truncation_count != version:
                    raise ScanInvalidated
            header = read_header(data, at) if at + HEADER_BYTES <= len(data) else None
            if header is not None and header_fits(header, position, offset, end):
                if visit(position, header):
                    return
                before = position, header
                position += header.total_bytes
                offset = header.next_offset
                continue
            if before is not None and not (yield from batch_is_valid(segment, *before)):
                # The header before this one lied about its length or count, not this one.
                yield from find_damage(segment, before[0], before[1].base_offset, end)
                raise ScanInvalidated
            damage = yield from find_damage(segment, position, offset, end)
        before = None
        position, offset = damage.end_position, damage.next_offset


def header_fits(header: BatchHeader, position: int, offset: int, end: tuple[int, int]) -> bool:
    """It can be the header of the batch at `position` that begins with `offset`, in a log that ends at
    `end`."""
    return (
        header.base_offset == offset
        and header.is_plausible
        and position + header.total_bytes <= end[0]
        and header.next_offset <= end[1]
    )


def batch_is_valid(segment: Segment, position: int, header: BatchHeader) -> ReadSteps[bool]:
    """The CRC of the batch is right."""
    data = yield segment, header.total_bytes, position
    return len(data) == header.total_bytes and crc_matches(data, header)


def find_damage(
    segment: Segment, position: int, offset: int, end: tuple[int, int]
) -> ReadSteps[DamagedRange]:
    """What is at `position` is no whole batch beginning with `offset`: find where the next one begins, and
    note what is between. To the end of the log if there is none."""
    version = segment.truncation_count
    found = yield from _body_only(segment, position, offset, end)
    if found is None:
        found = yield from _next_batch(segment, position + 1, offset, end)
    if segment.truncation_count != version:
        raise ScanInvalidated
    damage = DamagedRange(position, found[0], offset, found[1])
    if segment.damage_at_position(position) is None:
        segment.add_damage(damage)
        log.error(
            "%s: bytes %d to %d are damaged; offsets %d to %d cannot be read, what follows can",
            segment.path, *damage[:2], damage.offset, damage.next_offset - 1,
        )  # fmt: skip
    return damage


def _body_only(
    segment: Segment, position: int, offset: int, end: tuple[int, int]
) -> ReadSteps[tuple[int, int] | None]:
    """(position, offset) of the next batch if the header here is right, as the next one confirms, or the
    end does."""
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
    """(position, base offset) of the first whole batch from `position` on with a larger offset; else the
    end."""
    while position + HEADER_BYTES <= end[0]:
        data = yield segment, min(SEARCH_BYTES, end[0] - position), position
        for at in find_headers(data, offset, end[1]):
            header = read_header(data, at)
            if position + at + header.total_bytes <= end[0]:
                whole = yield segment, header.total_bytes, position + at
                if len(whole) == header.total_bytes and crc_matches(whole, header):
                    return position + at, header.base_offset
        if len(data) < SEARCH_BYTES:
            break
        yield None
        position += len(data) - HEADER_BYTES + 1
    return end
