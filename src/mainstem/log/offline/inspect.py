"""The batches of one segment file, each with its CRC checked.

Owns: the scan of a file that no running server uses: every CRC is checked, and damage is reported with its
byte range and skipped. Refuses: to change anything, to trust a length, to open records. Reads plain files,
not the log's `Disk`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from mainstem.log import paths
from mainstem.log.storage.record_batch import (
    HEADER_BYTES,
    BatchHeader,
    crc_matches,
    find_headers,
    read_header,
)

MAX_OFFSET = (1 << 63) - 1
_SEARCH_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class InspectedBatch:
    """One batch whose header is plausible."""

    position: int
    header: BatchHeader
    crc_ok: bool
    """False: the batch is damaged."""
    is_out_of_sequence: bool
    """Its base offset does not follow from the batch before it."""


@dataclass(frozen=True, slots=True)
class InspectedDamage:
    """Bytes that are no valid batch."""

    position: int
    end_position: int
    zeros: bool
    """All bytes are zero: space that was never written."""


def inspect(path: str) -> Iterator[InspectedBatch | InspectedDamage]:
    """Yield everything in the segment file `path`, in order. OSError."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        position = 0
        expected = paths.parse_segment(os.path.basename(path))
        while position < size:
            header = _header(file, position, size)
            if header is None:
                end = _next_batch(file, position + 1, size)
                yield InspectedDamage(position, end, _is_zero(file, position, end))
                position, expected = end, None
                continue
            whole = crc_matches(_read(file, position, header.total_bytes), header)
            after = position + header.total_bytes
            if not whole and after < size and _header(file, after, size) is None:
                # The length itself may be damaged: following it would skip batches.
                end = _next_batch(file, position + 1, size)
                yield InspectedDamage(position, end, zeros=False)
                position, expected = end, None
                continue
            gap = expected is not None and header.base_offset != expected
            yield InspectedBatch(position, header, whole, gap)
            position, expected = after, header.next_offset


def _read(file: BinaryIO, position: int, length: int) -> bytes:
    file.seek(position)
    return file.read(length)


def _header(file: BinaryIO, position: int, size: int) -> BatchHeader | None:
    data = _read(file, position, HEADER_BYTES)
    if len(data) < HEADER_BYTES:
        return None
    header = read_header(data)
    return header if header.is_plausible and position + header.total_bytes <= size else None


def _next_batch(file: BinaryIO, position: int, size: int) -> int:
    """The position of the first valid batch from `position` on; `size` if there is none."""
    while position + HEADER_BYTES <= size:
        data = _read(file, position, _SEARCH_BYTES)
        for start in find_headers(data, -1, MAX_OFFSET):
            header = read_header(data, start)
            if position + start + header.total_bytes <= size:
                whole = _read(file, position + start, header.total_bytes)
                if crc_matches(whole, header):
                    return position + start
        if len(data) < _SEARCH_BYTES:
            break
        position += len(data) - HEADER_BYTES + 1
    return size


def _is_zero(file: BinaryIO, position: int, end: int) -> bool:
    while position < end:
        piece = _read(file, position, min(_SEARCH_BYTES, end - position))
        if piece.strip(b"\0"):
            return False
        position += len(piece)
    return True
