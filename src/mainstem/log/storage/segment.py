"""One segment: its files, its size, and what is known of them.

Owns: the names, the open file, the index and arrivals in memory, which bytes of it have been verified since
the start, and which are known to be damaged. Refuses: to know what is committed and what comes next
(`partition.py`). Called by the modules of the partition.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import NamedTuple

from mainstem.log.disk.contract import File
from mainstem.log.disk.nonblocking_read import Shared
from mainstem.log.errors import PartitionDeleted
from mainstem.log.storage.arrival_index import PAIR, Arrivals
from mainstem.log.storage.index import OFFSET_ENTRY_BYTES, TIME_ENTRY_BYTES, SegmentIndex

SUFFIXES = (".log", ".index", ".timeindex", ".arrivals")


class Damage(NamedTuple):
    """Bytes that are no whole batch, and the offsets that are lost with them."""

    position: int
    end_position: int
    offset: int
    next_offset: int


class Segment:
    """A segment of one partition. Sealed unless it has a writer."""

    __slots__ = (
        "_arrivals", "_reader", "_saved_arrivals", "_saved_index", "_scanned", "_shared", "_size", "_stem",
        "_written", "base_offset", "damage", "gone", "index", "index_rebuilt", "last_batch", "max_timestamp",
        "version", "writer",
    )  # fmt: skip

    def __init__(self, shared: Shared, folder: str, base_offset: int, size: int | None = None) -> None:
        self._shared = shared
        self._stem = f"{folder}/{base_offset:020}"
        self._size = size
        self.base_offset = base_offset
        self.writer: File | None = None
        """Of the active segment, once it was needed."""
        self.gone = False
        """Unlinked, or about to be."""
        self.index: SegmentIndex | None = None
        """None while it is not in memory; appends leave it alone then, and loading walks what it missed."""
        self.index_rebuilt = False
        """From the log, since the start: it cannot get better by doing it again."""
        self.max_timestamp: int | None = None
        """Of a sealed segment, ms, once known; -1: no record has one."""
        self.last_batch = -1
        """Position of the last batch appended since the start; -1: none."""
        self.version = 0
        """Rises when the end is cut: what was read before may not be there any more."""
        self.damage: list[Damage] = []
        """Found so far, by position."""
        self._reader: File | None = None
        self._arrivals: Arrivals | None = None
        self._saved_index: tuple[int, int] | None = (0, 0)
        """Entries that are in the files already; None: the files have others, and are to be written anew."""
        self._saved_arrivals: int | None = 0
        self._written = (0, 0)
        self._scanned = (0, 0)

    # --- files --------------------------------------------------------------------------------------------

    @property
    def path(self) -> str:
        """Of the `.log` file."""
        return self._stem + ".log"

    def file(self) -> File:
        """The `.log` file, open for reading. PartitionDeleted if it was unlinked meanwhile; OSError."""
        if self.gone:
            raise PartitionDeleted(f"{self.path} was deleted")
        if self.writer is not None:
            return self.writer
        if self._reader is None:
            self._reader = self._shared.disk.open(self.path)
        return self._reader

    @property
    def size(self) -> int:
        """Bytes of log, also those not committed."""
        if self._size is None:
            self._size = self._shared.disk.size(self.path)
        return self._size

    def give_up(self) -> None:
        """It is about to be unlinked: who still reads it gets PartitionDeleted. Its writer is the
        committer's."""
        self.gone = True
        self._shared.indexes.forget(self)
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def release(self) -> None:
        """The committer needs the writer no more."""
        if self.writer is not None:
            self.writer.close()
            self.writer = None

    def unlink(self) -> None:
        """Delete all its files, the log last: if that fails, it is a segment as before. Idempotent.
        OSError."""
        for suffix in reversed(SUFFIXES):
            self._shared.disk.unlink(self._stem + suffix)
        self.give_up()

    # --- growing ------------------------------------------------------------------------------------------

    def grown(self, position: int, size: int) -> None:
        """`size` verified bytes were appended at `position`."""
        self._size = position + size
        self.last_batch = position
        start, end = self._written
        self._written = (start if end == position and end > start else position, position + size)

    def cut(self, position: int, offset: int) -> None:
        """The log file now ends at `position`, which is `offset`. The index has to be walked again from its
        end."""
        self._size = position
        self.version += 1
        self.last_batch = -1
        self.max_timestamp = None
        self._written = _clip(self._written, position)
        self._scanned = _clip(self._scanned, position)
        self.damage = [one for one in self.damage if one.end_position <= position]
        relative = offset - self.base_offset
        if self.index is not None:
            self.index.cut(relative)
            if self._saved_index is not None and self._saved_index > self.index.entries:
                self._saved_index = None
        self.arrivals_to(offset)

    # --- verified and damaged ranges ----------------------------------------------------------------------

    def is_verified(self, start: int, end: int) -> bool:
        """Each byte of the range was checked against its CRC since the start: when it was written or when
        read."""
        for low, high in (self._scanned, self._written, self._scanned):
            if low <= start < high:
                start = high
        return start >= end

    def verified(self, start: int, end: int) -> None:
        """The batches in the range have right CRCs. Only one range is remembered: readers go forward."""
        low, high = self._scanned
        self._scanned = (low, max(high, end)) if low <= start <= high else (start, end)

    def damage_at(self, position: int) -> Damage | None:
        """The damage that covers `position`."""
        for one in self.damage:
            if one.position <= position < one.end_position:
                return one
        return None

    def damage_of(self, offset: int) -> Damage | None:
        """The damage that `offset` is lost in."""
        for one in self.damage:
            if one.offset <= offset < one.next_offset:
                return one
        return None

    def add_damage(self, damage: Damage) -> None:
        """Remember it."""
        if damage not in self.damage:
            self.damage.insert(bisect_right(self.damage, damage), damage)

    # --- index and arrivals -------------------------------------------------------------------------------

    def index_bytes(self) -> int:
        """Memory that the index takes."""
        return self.index.memory_bytes() if self.index is not None else 0

    def unload(self) -> None:
        """Give up the index: its files have all of it."""
        if self.writer is None and self.index is not None and self._saved_index == self.index.entries:
            self.index = None

    def index_files(self) -> tuple[bytes, bytes]:
        """Contents of `.index` and `.timeindex`; empty where there is no file. Blocks, small files."""
        disk = self._shared.disk
        paths = (self._stem + ".index", self._stem + ".timeindex")
        first, second = (disk.read_all(path) if disk.exists(path) else b"" for path in paths)
        return first, second

    def index_loaded(self, index: SegmentIndex, in_files: tuple[int, int] | None) -> None:
        """Take `index`; `in_files` of its entries are in the files already; None: write the files anew."""
        self.index = index
        self._saved_index = in_files
        if self.writer is None:
            self._shared.indexes.used(self)

    @property
    def saved_entries(self) -> tuple[int, int] | None:
        """What `index_loaded` was told, and what was saved since."""
        return self._saved_index

    @property
    def arrivals(self) -> Arrivals:
        """Loaded at first use. Blocks then, a small file."""
        if self._arrivals is None:
            path = self._stem + ".arrivals"
            data = self._shared.disk.read_all(path) if self._shared.disk.exists(path) else b""
            self._arrivals = Arrivals.parse(data)
            pairs = len(self._arrivals.times)
            self._saved_arrivals = pairs if pairs * PAIR.size == len(data) else None
        return self._arrivals

    def arrivals_to(self, offset: int) -> Arrivals:
        """Without those of batches at or behind `offset`: a crash took the batches, and may have left the
        pairs."""
        self.arrivals.cut(offset - self.base_offset)
        if self._saved_arrivals is not None and self._saved_arrivals > len(self.arrivals.times):
            self._saved_arrivals = None
        return self.arrivals

    def save(self, below: int) -> None:
        """Write new entries, those of batches before offset `below`, to the three files, unsynced.
        OSError."""
        relative = below - self.base_offset
        disk = self._shared.disk
        if self.index is not None:
            ends = self.index.entries_below(relative)
            starts = self._saved_index or (0, 0)
            parts = (
                (".index", OFFSET_ENTRY_BYTES, self.index.offset_bytes),
                (".timeindex", TIME_ENTRY_BYTES, self.index.time_bytes),
            )
            for (suffix, width, encode), start, end in zip(parts, starts, ends, strict=True):
                if self._saved_index is None:
                    disk.write_all(self._stem + suffix, encode(0, end))
                elif end > start:
                    disk.append(self._stem + suffix, encode(start, end), start * width)
            self._saved_index = ends
        if self._arrivals is not None:
            end = self._arrivals.pairs_below(relative)
            if self._saved_arrivals is None:
                disk.write_all(self._stem + ".arrivals", self._arrivals.to_bytes(0, end))
            elif end > self._saved_arrivals:
                data = self._arrivals.to_bytes(self._saved_arrivals, end)
                disk.append(self._stem + ".arrivals", data, self._saved_arrivals * PAIR.size)
            self._saved_arrivals = end

    def side_files(self) -> list[str]:
        """Paths of the three files that exist."""
        paths = (self._stem + suffix for suffix in SUFFIXES[1:])
        return [path for path in paths if self._shared.disk.exists(path)]


def _clip(span: tuple[int, int], end: int) -> tuple[int, int]:
    return min(span[0], end), min(span[1], end)
