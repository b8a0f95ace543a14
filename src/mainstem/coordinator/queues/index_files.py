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
import logging
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple
from zlib import crc32

from mainstem.log.disk.contract import Disk, File
from mainstem.log.disk.nonblocking_read import PREFETCH_TRIES_MAX
from mainstem.promise import Promise
from mainstem.queues.index_lane import PageRow
from mainstem.queues.index_page import ColdIndexPage, DamagedIndexPage
from mainstem.queues.routed_index import IndexPage

MAGIC: Final = b"MSINDX"
VERSION: Final = 1
FILE_BYTES: Final = 16 << 20
"""A file that is larger gets no further group."""
NO_CUT: Final = (1 << 64) - 1
FETCHED_PAGES: Final = 64
"""Pages that were fetched and are not used yet, at most: of 64 KB."""

log = logging.getLogger(__name__)

_HEADER = struct.Struct(">6sHQIIQQQQ")
_COVERED = struct.Struct(">IQ")
_PAGE = struct.Struct(">QQQHI")
_CRCS = struct.Struct(">II")
_POSITION_BITS, _LENGTH_BITS = 28, 16
"""Of a place: file, position, length. A group is not larger than a file, and begins before FILE_BYTES."""
GROUP_BYTES_MAX: Final = (1 << _POSITION_BITS) - FILE_BYTES


class StoredRow(NamedTuple):
    """A page of a group."""

    queue: int
    first: int
    last: int
    entries: int
    place: tuple[int, int]
    """Its position in the file, and its bytes."""


@dataclass(slots=True)
class PageGroup:
    """One group, as a file has it."""

    namespace: int
    covered: dict[int, int]
    """Ordinal of a partition -> the offset below which the index has all events."""
    start: int
    cut: int
    end: int
    end_position: int
    """Where it ends in its file."""
    rows: list[StoredRow] = field(default_factory=list)
    loaded: list[PageRow] = field(default_factory=list)
    """The pages, with places that `IndexFiles.read` knows."""


@dataclass(slots=True)
class _IndexFile:
    number: int
    file: File
    size: int = 0
    last: int = -1
    """The highest sequence in it."""


def read_group(
    pread: Callable[[int, int], bytes], file_bytes: int, position: int, *, verify: bool
) -> PageGroup:
    """The group at a position of a file; `pread(length, position)` reads the file. `verify`: read and check
    the bytes of its pages, too. DamagedIndexPage: it does not fit; OSError."""
    fixed = pread(_HEADER.size, position)
    if len(fixed) < _HEADER.size:
        raise DamagedIndexPage("the head of a group is cut off")
    magic, version, namespace, partitions, pages, start, cut, end, body_bytes = _HEADER.unpack(fixed)
    if magic != MAGIC or version != VERSION:
        raise DamagedIndexPage(f"no group of version {VERSION} begins here")
    rows_bytes = partitions * _COVERED.size + pages * _PAGE.size
    size = _HEADER.size + rows_bytes + _CRCS.size + body_bytes
    if body_bytes >= GROUP_BYTES_MAX or position + size > file_bytes:
        raise DamagedIndexPage(f"the file ends before the {size:,} bytes of a group")
    rest = pread(rows_bytes + _CRCS.size, position + _HEADER.size)
    head_crc, body_crc = _CRCS.unpack_from(rest, rows_bytes)
    if crc32(rest[:rows_bytes], crc32(fixed)) != head_crc:
        raise DamagedIndexPage("the checksum of a group's head does not match")
    at_byte = position + _HEADER.size + rows_bytes + _CRCS.size
    if verify and crc32(pread(body_bytes, at_byte)) != body_crc:
        raise DamagedIndexPage("the checksum of a group's pages does not match")
    covered_bytes = partitions * _COVERED.size
    covered = dict(_COVERED.iter_unpack(rest[:covered_bytes]))
    group = PageGroup(namespace, covered, start, cut, end, position + size)
    for queue, first, last, entries, length in _PAGE.iter_unpack(rest[covered_bytes:rows_bytes]):
        group.rows.append(StoredRow(queue, first, last, entries, (at_byte, length)))
        at_byte += length
    if at_byte != group.end_position:
        raise DamagedIndexPage("a group's pages have other sizes than its head says")
    return group


class IndexFiles:
    """The files of one namespace. Implements `PageStore`."""

    def __init__(self, disk: Disk, folder: str, namespace: int) -> None:
        self.folder = folder
        self._disk = disk
        self._namespace = namespace
        self.may_block = True
        """Whether `read` may wait for the disk: at a start."""
        self._files: dict[int, _IndexFile] = {}
        self._fetched: dict[int, bytes | bytearray] = {}
        """Place -> a page that was fetched and is not used yet."""

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
        self._fetched.clear()
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
        """See `PageStore`. While `may_block`, it waits for the disk."""
        number, position, length = _parts(place)
        try:
            file = self._files[number].file
            data: bytes | bytearray | None = self._fetched.pop(place, None)
            if data is None:
                read = file.pread if self.may_block else file.pread_nowait
                data = read(length, position)
        except (KeyError, OSError) as error:
            raise DamagedIndexPage(f"file {number} of the index cannot be read: {error}") from error
        if data is None:
            raise ColdIndexPage(place)
        if len(data) < length:
            raise DamagedIndexPage(f"file {number} of the index ends before byte {position + length}")
        return bytes(data)

    def fetch(self, place: int) -> Promise[None]:
        """Let the sync process read a page that is cold: `read` returns it then, once. Does not fail: `read`
        does."""
        done = Promise[None]()
        self._fetch(place, 1, done)
        return done

    def _fetch(self, place: int, attempt: int, done: Promise[None]) -> None:
        number, position, length = _parts(place)
        known = self._files.get(number)
        if known is None:  # it was deleted, as `read` says
            done.resolve(None)
            return

        def on_cached(prefetched: Promise[None]) -> None:
            data: bytes | bytearray | None = b""
            try:
                prefetched.result()
                data = known.file.pread_nowait(length, position)
                if data is None and attempt >= PREFETCH_TRIES_MAX:
                    data = known.file.pread(length, position)
            except OSError as error:
                log.warning("file %d of the index %s cannot be read: %s", number, self.folder, error)
            if data is None:
                self._fetch(place, attempt + 1, done)
                return
            while len(self._fetched) >= FETCHED_PAGES:
                del self._fetched[next(iter(self._fetched))]
            self._fetched[place] = data
            done.resolve(None)

        self._disk.prefetch(known.file, position, length).then(on_cached)

    def load(self, *, verify: bool) -> Iterator[PageGroup]:
        """The groups of all files, up to the first that does not fit; what follows is deleted. `verify`: read
        and check the pages, too: after a stop that was not clean. For a start. OSError."""
        is_whole = True
        for name in self._disk.list(self.folder):
            number = number_of(name)
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
        try:
            group = read_group(known.file.pread, known.file.size(), known.size, verify=verify)
        except DamagedIndexPage:
            return None
        if group.namespace != self._namespace:
            return None
        for row in group.rows:
            position, length = row.place
            place = _place(known.number, position, length)
            group.loaded.append(PageRow(row.queue, row.first, row.last, row.entries, place))
            known.last = max(known.last, row.last)
        known.size = group.end_position
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


def number_of(name: str) -> int | None:
    """The number of a file by its name; None: it is none of an index."""
    stem, _, suffix = name.partition(".")
    return int(stem) if suffix == "index" and stem.isdecimal() and len(stem) == 10 else None
