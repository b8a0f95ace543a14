"""Maps a range of a segment file and locates its batches, including the damage between them.

Owns: following the batch headers, and finding the next whole batch after damage. Refuses: to trust a length
in a header, and to decode records. Only committed bytes are mapped: they are never truncated, and a memory
map reads only the pages that are used.
"""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import NamedTuple, Protocol, TypeAlias

from mainstem.log.storage.record_batch import (
    HEADER_BYTES,
    BatchHeader,
    crc_matches,
    find_headers,
    read_header,
)

_NO_OFFSET_ABOVE = 1 << 62


class LocatedBatch(NamedTuple):
    """A batch or a damaged range, between two positions. A damaged range without bytes means that the offsets
    from `offset` on are missing: no batch has them."""

    position: int
    end: int
    offset: int
    """First offset of the batch; of a damaged range, the first offset lost."""
    header: BatchHeader | None
    """None: this is a damaged range."""

    @property
    def next_offset(self) -> int:
        """The offset after the batch. Not for a damaged range: its last offset is unknown."""
        assert self.header is not None, "which offsets damage had is not known"
        return self.header.next_offset


class DataDeleted(Exception):
    """Raised if data to be searched was deleted in the meantime: its file does not exist or is too short, or
    its topic does not exist any more."""


class OpenedRange(Protocol):
    """The bytes of a file from one position to another. A context manager."""

    view: memoryview
    """The bytes; index 0 is the first position."""

    def prefetch(self) -> None:
        """Ask the system to read the whole range ahead."""

    def __enter__(self) -> OpenedRange: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


OpenRange: TypeAlias = Callable[[str, int, int], OpenedRange]
"""Opens a file (path, start, end). Raises DataDeleted if it is missing or ends before `end`."""


class MappedRange:
    """A read-only memory map of a file from `start` to `end`. A context manager."""

    def __init__(self, path: str, start: int, end: int) -> None:
        """Raises DataDeleted if the file is missing or ends before `end`, OSError if it cannot be mapped."""
        assert 0 <= start < end, f"the range {start} to {end} of {path} is not empty"
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
        """The bytes of the range; index 0 is position `start` of the file."""
        self.start = start

    def prefetch(self) -> None:
        """Ask the system to read the whole range ahead."""
        if hasattr(mmap, "MADV_WILLNEED"):
            self._map.madvise(mmap.MADV_WILLNEED)

    def __enter__(self) -> MappedRange:
        return self

    def __exit__(self, *_: object) -> None:
        # The traceback of an exception may still refer to slices; then the map is freed with them.
        with contextlib.suppress(BufferError):
            self.view.release()
            self._map.close()


def locate_batches(
    view: memoryview, *, end_offset: int | None = None, offset_gaps: bool = False
) -> Iterator[LocatedBatch]:
    """Locate the batches in bytes that begin and end at batch boundaries. Positions are relative to them.

    An offset that no batch has is damage, also before `end_offset`, the offset after these bytes.
    `offset_gaps`: accept missing offsets between batches, as compaction by Apache Kafka leaves them. CRCs are
    checked only after damage."""
    position, size = 0, len(view)
    offset: int | None = None
    previous: LocatedBatch | None = None
    while position < size:
        header = read_header(view, position) if size - position >= HEADER_BYTES else None
        if header is not None and _fits(header, position, offset, size, offset_gaps):
            if previous is not None:
                yield previous
            previous = LocatedBatch(position, position + header.total_bytes, header.base_offset, header)
            position, offset = previous.end, header.next_offset
            continue
        if previous is not None and not _crc_matches(view, previous):
            # The previous header is damaged, and its length led to the wrong position.
            position, offset = previous.position, previous.offset
        elif previous is not None:
            yield previous
        previous = None
        lost_offset = 0 if offset is None else offset
        end = _next_whole_batch(view, position + 1, lost_offset)
        yield LocatedBatch(position, end, lost_offset, None)
        position, offset = end, None
    if previous is not None and end_offset is not None and previous.next_offset < end_offset:
        if _crc_matches(view, previous):
            yield previous
            yield LocatedBatch(size, size, previous.next_offset, None)
        else:
            yield LocatedBatch(previous.position, size, previous.offset, None)
    elif previous is not None:
        yield previous


def _fits(header: BatchHeader, position: int, offset: int | None, size: int, offset_gaps: bool) -> bool:
    return (
        header.is_plausible
        and position + header.total_bytes <= size
        and (offset is None or header.base_offset == offset or (offset_gaps and header.base_offset > offset))
    )


def _crc_matches(view: memoryview, batch: LocatedBatch) -> bool:
    assert batch.header is not None
    return crc_matches(view[batch.position : batch.end], batch.header)


def _next_whole_batch(view: memoryview, position: int, offset_min: int) -> int:
    """Position of the first whole batch from `position` on with `offset_min` or a later offset; the end of
    the bytes if there is none."""
    rest = bytes(view[position:])
    for candidate in find_headers(rest, offset_min, _NO_OFFSET_ABOVE):
        header = read_header(rest, candidate)
        end = position + candidate + header.total_bytes
        if end <= len(view) and crc_matches(view[position + candidate : end], header):
            return position + candidate
    return len(view)
