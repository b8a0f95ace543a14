"""The batches of a stretch of a segment, with what lies between them if it is damaged.

Owns: walking a mapped file by its headers, and finding the next whole batch after damage. Refuses: to trust
a length or to stop at damage. Used by the workers; they map files, so that only what is looked at is read,
and only below the watermark, which is never cut again.
"""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Iterator
from typing import NamedTuple

from mainstem.log.storage.record_batch import (
    HEADER_BYTES,
    BatchHeader,
    crc_matches,
    find_headers,
    read_header,
)

_NO_OFFSET_ABOVE = 1 << 62


class LocatedBatch(NamedTuple):
    """A batch, or damage (no header)."""

    position: int
    end: int
    offset: int
    """Of its first event; of damage: the first that is lost."""
    header: BatchHeader | None


class DataDeleted(Exception):
    """The file is gone, or shorter than it was: its data was deleted."""


class MappedRange:
    """A file from `start` to `end`, readable. A context manager."""

    def __init__(self, path: str, start: int, end: int) -> None:
        self._from = start - start % mmap.ALLOCATIONGRANULARITY
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise DataDeleted(path) from None
        try:
            if os.fstat(descriptor).st_size < end:
                raise DataDeleted(path)
            self._map = mmap.mmap(descriptor, end - self._from, prot=mmap.PROT_READ, offset=self._from)
        finally:
            os.close(descriptor)
        self.view = memoryview(self._map)[start - self._from :]
        """The bytes; position 0 is `start`."""
        self.start = start

    def prefetch(self) -> None:
        """Tell the system that all of it is wanted."""
        if hasattr(mmap, "MADV_WILLNEED"):
            self._map.madvise(mmap.MADV_WILLNEED)

    def __enter__(self) -> MappedRange:
        return self

    def __exit__(self, *_: object) -> None:
        # What was raised may still hold slices; the map then goes with them.
        with contextlib.suppress(BufferError):
            self.view.release()
            self._map.close()


def locate_batches(
    view: memoryview, first_offset: int | None = None, *, offset_gaps: bool = False
) -> Iterator[LocatedBatch]:
    """Each batch of a stretch that begins and ends at batch boundaries, positions relative to it.
    `first_offset`: what the first batch begins with, if that is known. `offset_gaps`: offsets may be missing
    between batches, as compaction leaves them. CRCs are only checked past damage."""
    position, offset, size = 0, first_offset, len(view)
    previous: LocatedBatch | None = None
    while position < size:
        header = read_header(view, position) if size - position >= HEADER_BYTES else None
        if header is not None and _fits(header, position, offset, size, offset_gaps):
            if previous is not None:
                yield previous
            previous = LocatedBatch(position, position + header.total_bytes, header.base_offset, header)
            position, offset = previous.end, header.next_offset
            continue
        if previous is not None and not _whole(view, previous):
            # The header before lied about its length, not this one.
            position, offset = previous.position, previous.offset
        elif previous is not None:
            yield previous
        previous = None
        lost = 0 if offset is None else offset
        end = _next_batch(view, position + 1, lost)
        yield LocatedBatch(position, end, lost, None)
        position, offset = end, None
    if previous is not None:
        yield previous


def _fits(header: BatchHeader, position: int, offset: int | None, size: int, holes: bool) -> bool:
    return (
        header.is_plausible
        and position + header.total_bytes <= size
        and (offset is None or header.base_offset == offset or (holes and header.base_offset > offset))
    )


def _whole(view: memoryview, batch: LocatedBatch) -> bool:
    assert batch.header is not None
    return crc_matches(view[batch.position : batch.end], batch.header)


def _next_batch(view: memoryview, position: int, above: int) -> int:
    """Where the first whole batch from `position` on begins; the end if there is none."""
    rest = bytes(view[position:])
    for at in find_headers(rest, above, _NO_OFFSET_ABOVE):
        header = read_header(rest, at)
        end = position + at + header.total_bytes
        if end <= len(view) and crc_matches(view[position + at : end], header):
            return position + at
    return len(view)
