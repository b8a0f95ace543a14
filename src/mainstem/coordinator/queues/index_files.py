"""The files of a namespace's index: pages, written in groups.

    0  magic "MSINDX", 6 bytes      56  rows of partitions: ordinal, u32 | offset, u64: what is below it is
    6  version, u16                     in this group or in earlier ones
    8  namespace, u64                +  rows of pages: queue, u64 | first sequence, u64 | last sequence, u64
   16  partitions, u32                  | entries, u16 | bytes, u32
   20  pages, u32                    +  CRC-32 of all bytes of the group before, u32
   24  start, u64                    +  CRC-32 of the bytes of all pages, u32
   32  cut, u64                      +  the pages, one after the other
   40  end, u64                     All big-endian. A file is such groups, one after the other; a new file
   48  bytes of all pages, u64      begins when one is full.

`start`: the sequence below which the log has deleted events. `cut`: from this sequence on, the pages of
earlier groups are void; 2^64 - 1: none is. `end`: the sequence that the next event gets, or one below.

The files are derived from the log and never synced: what a start finds may end anywhere. A group counts only
as a whole, and the first one that does not fit ends the index. The log is read again from the offsets of the
last group on.

Owns: the files, and which of them are needed. Refuses: what is in a page, and to fail a start: an error is
one of the index.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from zlib import crc32

from mainstem.log.disk.contract import Disk, File
from mainstem.queues.index_lane import PageRow
from mainstem.queues.index_page import DamagedIndexPage
from mainstem.queues.routed_index import IndexPage

MAGIC: Final = b"MSINDX"
VERSION: Final = 1
FILE_BYTES: Final = 16 << 20
"""A file that is larger gets no further group."""
NO_CUT: Final = (1 << 64) - 1

_HEADER = struct.Struct(">6sHQIIQQQQ")
_COVERED = struct.Struct(">IQ")
_PAGE = struct.Struct(">QQQHI")
_CRCS = struct.Struct(">II")
_POSITION_BITS, _LENGTH_BITS = 28, 16
"""Of a place: file, position, length. A group is not larger than a file, and begins before FILE_BYTES."""
GROUP_BYTES_MAX: Final = (1 << _POSITION_BITS) - FILE_BYTES


@dataclass(slots=True)
class PageGroup:
    """One group, as a file has it."""

    covered: dict[int, int]
    """Ordinal of a partition -> the offset below which the index has all events."""
    start: int
    cut: int
    end: int
    rows: list[PageRow] = field(default_factory=list)


@dataclass(slots=True)
class _IndexFile:
    number: int
    file: File
    size: int = 0
    last: int = -1
    """The highest sequence in it."""


class IndexFiles:
    """The files of one namespace. Implements `PageStore`."""

    def __init__(self, disk: Disk, folder: str, namespace: int) -> None:
        self.folder = folder
        self._disk = disk
        self._namespace = namespace
        self._files: dict[int, _IndexFile] = {}

    # --- writing ------------------------------------------------------------------------------------------

    def write(
        self,
        pages: Sequence[IndexPage],
        covered: Mapping[int, int],
        *,
        start: int,
        end: int,
        cut: int = NO_CUT,
    ) -> list[int]:
        """Append a group. Returns the places of its pages. OSError: nothing was appended."""
        body = b"".join(page.data for page in pages)
        if len(body) >= GROUP_BYTES_MAX:
            raise OSError(errno.EFBIG, f"a group of {len(body):,} bytes")
        head = bytearray(
            _HEADER.pack(
                MAGIC, VERSION, self._namespace, len(covered), len(pages), start, cut, end, len(body)
            )
        )
        for ordinal, offset in sorted(covered.items()):
            head += _COVERED.pack(ordinal, offset)
        for page in pages:
            row = page.row
            head += _PAGE.pack(row.queue, row.first, row.last, row.entries, len(page.data))
        head += _CRCS.pack(crc32(head), crc32(body))
        target = self._target()
        position = target.size
        try:
            target.file.pwrite(bytes(head) + body, position)
        except OSError:
            target.file.truncate(position)
            raise
        target.size += len(head) + len(body)
        places: list[int] = []
        position += len(head)
        for page in pages:
            places.append(_place(target.number, position, len(page.data)))
            position += len(page.data)
            target.last = max(target.last, page.row.last)
        return places

    def _target(self) -> _IndexFile:
        if self._files:
            last = self._files[max(self._files)]
            if last.size < FILE_BYTES:
                return last
        else:
            self._disk.make_folder(self.folder)
        number = max(self._files, default=0) + 1
        self._files[number] = _IndexFile(number, self._disk.open(self._path(number), create=True))
        return self._files[number]

    def trim(self, start: int) -> None:
        """Delete the files all of whose pages are below this sequence, but for the last one, which says how
        far the index is."""
        for number in sorted(self._files)[:-1]:
            if self._files[number].last >= start:
                break
            self._delete(number)

    def delete(self) -> None:
        """Delete all files."""
        for number in list(self._files):
            self._delete(number)
        self._disk.remove_folder(self.folder)

    def _delete(self, number: int) -> None:
        self._disk.unlink(self._path(number))
        self._files.pop(number).file.close()

    def close(self) -> None:
        """Close the files."""
        for known in self._files.values():
            known.file.close()

    # --- reading ------------------------------------------------------------------------------------------

    def read(self, place: int) -> bytes:
        """See `PageStore`. Blocks if the page is not in the page cache."""
        number, position, length = _parts(place)
        try:
            data = self._files[number].file.pread(length, position)
        except (KeyError, OSError) as error:
            raise DamagedIndexPage(f"file {number} of the index cannot be read: {error}") from error
        if len(data) < length:
            raise DamagedIndexPage(f"file {number} of the index ends before byte {position + length}")
        return data

    def load(self, *, verify: bool) -> Iterator[PageGroup]:
        """The groups of all files, up to the first that does not fit; what follows is deleted. `verify`: read
        and check the pages, too: after a stop that was not clean. For a start. OSError."""
        is_whole = True
        for name in self._disk.list(self.folder):
            number = _number_of(name)
            if number is None:
                continue
            if not is_whole:
                self._disk.unlink(f"{self.folder}/{name}")
                continue
            known = self._files[number] = _IndexFile(number, self._disk.open(self._path(number)))
            file_bytes = known.file.size()
            while known.size < file_bytes:
                group = self._load_group(known, verify)
                if group is None:
                    is_whole = False
                    known.file.truncate(known.size)
                    break
                yield group

    def _load_group(self, known: _IndexFile, verify: bool) -> PageGroup | None:
        """The group at the end of what was loaded of a file; None: it does not fit."""
        position = known.size
        fixed = known.file.pread(_HEADER.size, position)
        if len(fixed) < _HEADER.size:
            return None
        magic, version, namespace, partitions, pages, start, cut, end, body_bytes = _HEADER.unpack(fixed)
        if (magic, version, namespace) != (MAGIC, VERSION, self._namespace):
            return None
        rows_bytes = partitions * _COVERED.size + pages * _PAGE.size
        size = _HEADER.size + rows_bytes + _CRCS.size + body_bytes
        if body_bytes >= GROUP_BYTES_MAX or known.size + size > known.file.size():
            return None
        rest = known.file.pread(rows_bytes + _CRCS.size, position + _HEADER.size)
        head_crc, body_crc = _CRCS.unpack_from(rest, rows_bytes)
        if crc32(rest[:rows_bytes], crc32(fixed)) != head_crc:
            return None
        position += _HEADER.size + rows_bytes + _CRCS.size
        if verify and crc32(known.file.pread(body_bytes, position)) != body_crc:
            return None
        covered_bytes = partitions * _COVERED.size
        group = PageGroup(dict(_COVERED.iter_unpack(rest[:covered_bytes])), start, cut, end)
        for queue, first, last, entries, length in _PAGE.iter_unpack(rest[covered_bytes:rows_bytes]):
            place = _place(known.number, position, length)
            group.rows.append(PageRow(queue, first, last, entries, place))
            position += length
            known.last = max(known.last, last)
        if position != known.size + size:
            return None
        known.size += size
        return group

    def _path(self, number: int) -> str:
        return f"{self.folder}/{number:010}.index"


def _place(number: int, position: int, length: int) -> int:
    assert position < 1 << _POSITION_BITS
    assert length < 1 << _LENGTH_BITS
    return (number << _POSITION_BITS | position) << _LENGTH_BITS | length


def _parts(place: int) -> tuple[int, int, int]:
    rest, length = place >> _LENGTH_BITS, place & (1 << _LENGTH_BITS) - 1
    return rest >> _POSITION_BITS, rest & (1 << _POSITION_BITS) - 1, length


def _number_of(name: str) -> int | None:
    stem, _, suffix = name.partition(".")
    return int(stem) if suffix == "index" and stem.isdecimal() and len(stem) == 10 else None
