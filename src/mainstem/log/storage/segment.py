"""One segment: its files, its size, and what is known of them.

Owns: the names, the open file, the index and arrivals in memory, which bytes of it have been verified since
the start, and which are known to be damaged. Refuses: to know what is committed and what comes next
(`partition.py`). Called by the modules of the partition.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import NamedTuple

from mainstem.log.disk.contract import File
from mainstem.log.disk.nonblocking_read import LogContext
from mainstem.log.errors import PartitionDeleted
from mainstem.log.storage.arrival_index import PAIR, ArrivalIndex
from mainstem.log.storage.index import OFFSET_ENTRY_BYTES, TIME_ENTRY_BYTES, SegmentIndex

SUFFIXES = (".log", ".index", ".timeindex", ".arrivals")


class DamagedRange(NamedTuple):
    """Bytes that are no whole batch, and the offsets that are lost with them."""

    position: int
    end_position: int
    offset: int
    next_offset: int


class Segment:
    """A segment of one partition. Sealed unless it has a writer."""

    __slots__ = (
        "_arrivals", "_context", "_read_file", "_saved_arrival_pairs", "_saved_index_entries", "_size",
        "_stem", "_verified_by_reads", "_verified_by_writes", "base_offset", "damaged_ranges", "deleted",
        "index", "index_rebuilt", "last_batch_position", "max_timestamp", "truncation_count", "writer",
    )  # fmt: skip

    def __init__(self, shared: LogContext, folder: str, base_offset: int, size: int | None = None) -> None:
        self._context = shared
        self._stem = f"{folder}/{base_offset:020}"
        self._size = size
        self.base_offset = base_offset
        self.writer: File | None = None
        """Of the active segment, once it was needed."""
        self.deleted = False
        """Unlinked, or about to be."""
        self.index: SegmentIndex | None = None
        """None while it is not in memory; appends leave it alone then, and loading walks what it missed."""
        self.index_rebuilt = False
        """From the log, since the start: it cannot get better by doing it again."""
        self.max_timestamp: int | None = None
        """Of a sealed segment, ms, once known; -1: no record has one."""
        self.last_batch_position = -1
        """Position of the last batch appended since the start; -1: none."""
        self.truncation_count = 0
        """Rises when the end is cut: what was read before may not be there any more."""
        self.damaged_ranges: list[DamagedRange] = []
        """Found so far, by position."""
        self._read_file: File | None = None
        self._arrivals: ArrivalIndex | None = None
        self._saved_index_entries: tuple[int, int] | None = (0, 0)
        """Entries that are in the files already; None: the files have others, and are to be written anew."""
        self._saved_arrival_pairs: int | None = 0
        self._verified_by_writes = (0, 0)
        self._verified_by_reads = (0, 0)

    # --- files --------------------------------------------------------------------------------------------

    @property
    def path(self) -> str:
        """Of the `.log` file."""
        return self._stem + ".log"

    def file(self) -> File:
        """The `.log` file, open for reading. PartitionDeleted if it was unlinked meanwhile; OSError."""
        if self.deleted:
            raise PartitionDeleted(f"{self.path} was deleted")
        if self.writer is not None:
            return self.writer
        if self._read_file is None:
            self._read_file = self._context.disk.open(self.path)
        return self._read_file

    @property
    def size(self) -> int:
        """Bytes of log, also those not committed."""
        if self._size is None:
            self._size = self._context.disk.size(self.path)
        return self._size

    def mark_deleted(self) -> None:
        """It is about to be unlinked: who still reads it gets PartitionDeleted. Its writer is the
        committer's."""
        self.deleted = True
        self._context.indexes.remove(self)
        if self._read_file is not None:
            self._read_file.close()
            self._read_file = None

    def close_writer(self) -> None:
        """The committer needs the writer no more."""
        if self.writer is not None:
            self.writer.close()
            self.writer = None

    def unlink(self) -> None:
        """Delete all its files, the log last: if that fails, it is a segment as before. Idempotent.
        OSError."""
        for suffix in reversed(SUFFIXES):
            self._context.disk.unlink(self._stem + suffix)
        self.mark_deleted()

    # --- growing ------------------------------------------------------------------------------------------

    def extend(self, position: int, size: int) -> None:
        """`size` verified bytes were appended at `position`."""
        self._size = position + size
        self.last_batch_position = position
        start, end = self._verified_by_writes
        self._verified_by_writes = (start if end == position and end > start else position, position + size)

    def truncate(self, position: int, offset: int) -> None:
        """The log file now ends at `position`, which is `offset`. The index has to be walked again from its
        end."""
        self._size = position
        self.truncation_count += 1
        self.last_batch_position = -1
        self.max_timestamp = None
        self._verified_by_writes = _clip_range(self._verified_by_writes, position)
        self._verified_by_reads = _clip_range(self._verified_by_reads, position)
        self.damaged_ranges = [one for one in self.damaged_ranges if one.end_position <= position]
        relative = offset - self.base_offset
        if self.index is not None:
            self.index.truncate(relative)
            if self._saved_index_entries is not None and self._saved_index_entries > self.index.entries:
                self._saved_index_entries = None
        self.arrivals_below(offset)

    # --- verified and damaged ranges ----------------------------------------------------------------------

    def is_verified(self, start: int, end: int) -> bool:
        """Each byte of the range was checked against its CRC since the start: when it was written or when
        read."""
        for low, high in (self._verified_by_reads, self._verified_by_writes, self._verified_by_reads):
            if low <= start < high:
                start = high
        return start >= end

    def mark_verified(self, start: int, end: int) -> None:
        """The batches in the range have right CRCs. Only one range is remembered: readers go forward."""
        low, high = self._verified_by_reads
        self._verified_by_reads = (low, max(high, end)) if low <= start <= high else (start, end)

    def damage_at_position(self, position: int) -> DamagedRange | None:
        """The damage that covers `position`."""
        for one in self.damaged_ranges:
            if one.position <= position < one.end_position:
                return one
        return None

    def damage_at_offset(self, offset: int) -> DamagedRange | None:
        """The damage that `offset` is lost in."""
        for one in self.damaged_ranges:
            if one.offset <= offset < one.next_offset:
                return one
        return None

    def add_damage(self, damage: DamagedRange) -> None:
        """Remember it."""
        if damage not in self.damaged_ranges:
            self.damaged_ranges.insert(bisect_right(self.damaged_ranges, damage), damage)

    # --- index and arrivals -------------------------------------------------------------------------------

    def index_bytes(self) -> int:
        """Memory that the index takes."""
        return self.index.memory_bytes() if self.index is not None else 0

    def evict(self) -> None:
        """Give up the index: its files have all of it."""
        if self.writer is None and self.index is not None and self._saved_index_entries == self.index.entries:
            self.index = None

    def index_files(self) -> tuple[bytes, bytes]:
        """Contents of `.index` and `.timeindex`; empty where there is no file. Blocks, small files."""
        disk = self._context.disk
        paths = (self._stem + ".index", self._stem + ".timeindex")
        first, second = (disk.read_all(path) if disk.exists(path) else b"" for path in paths)
        return first, second

    def set_index(self, index: SegmentIndex, in_files: tuple[int, int] | None) -> None:
        """Take `index`; `in_files` of its entries are in the files already; None: write the files anew."""
        self.index = index
        self._saved_index_entries = in_files
        if self.writer is None:
            self._context.indexes.mark_used(self)

    @property
    def saved_entries(self) -> tuple[int, int] | None:
        """What `set_index` was told, and what was saved since."""
        return self._saved_index_entries

    @property
    def arrivals(self) -> ArrivalIndex:
        """Loaded at first use. Blocks then, a small file."""
        if self._arrivals is None:
            path = self._stem + ".arrivals"
            data = self._context.disk.read_all(path) if self._context.disk.exists(path) else b""
            self._arrivals = ArrivalIndex.parse(data)
            pairs = len(self._arrivals.times)
            self._saved_arrival_pairs = pairs if pairs * PAIR.size == len(data) else None
        return self._arrivals

    def arrivals_below(self, offset: int) -> ArrivalIndex:
        """Without those of batches at or behind `offset`: a crash took the batches, and may have left the
        pairs."""
        self.arrivals.truncate(offset - self.base_offset)
        if self._saved_arrival_pairs is not None and self._saved_arrival_pairs > len(self.arrivals.times):
            self._saved_arrival_pairs = None
        return self.arrivals

    def save_side_files(self, below: int) -> None:
        """Write new entries, those of batches before offset `below`, to the three files, unsynced.
        OSError."""
        relative = below - self.base_offset
        disk = self._context.disk
        if self.index is not None:
            ends = self.index.entries_below(relative)
            starts = self._saved_index_entries or (0, 0)
            parts = (
                (".index", OFFSET_ENTRY_BYTES, self.index.offset_bytes),
                (".timeindex", TIME_ENTRY_BYTES, self.index.time_bytes),
            )
            for (suffix, width, encode), start, end in zip(parts, starts, ends, strict=True):
                if self._saved_index_entries is None:
                    disk.write_all(self._stem + suffix, encode(0, end))
                elif end > start:
                    disk.append(self._stem + suffix, encode(start, end), start * width)
            self._saved_index_entries = ends
        if self._arrivals is not None:
            end = self._arrivals.pairs_below(relative)
            if self._saved_arrival_pairs is None:
                disk.write_all(self._stem + ".arrivals", self._arrivals.to_bytes(0, end))
            elif end > self._saved_arrival_pairs:
                data = self._arrivals.to_bytes(self._saved_arrival_pairs, end)
                disk.append(self._stem + ".arrivals", data, self._saved_arrival_pairs * PAIR.size)
            self._saved_arrival_pairs = end

    def side_files(self) -> list[str]:
        """Paths of the three files that exist."""
        paths = (self._stem + suffix for suffix in SUFFIXES[1:])
        return [path for path in paths if self._context.disk.exists(path)]


def _clip_range(span: tuple[int, int], end: int) -> tuple[int, int]:
    return min(span[0], end), min(span[1], end)
