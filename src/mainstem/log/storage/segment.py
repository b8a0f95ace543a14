"""One segment of a partition: its files, its size, and what is known about them.

Owns: the file names, the open file, the index and arrivals in memory, which bytes were verified since the
start, and which are known to be damaged. Refuses: to know what is committed and which segment comes next
(`partition/segments.py`).
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
    """A damaged part of a segment: bytes that are not valid batches (an empty range if batches are missing),
    and the offsets that are lost with them."""

    position: int
    end_position: int
    offset: int
    next_offset: int


class Segment:
    """A segment of one partition. It is sealed unless it has a writer."""

    __slots__ = (
        "_arrivals", "_context", "_folder", "_read_file", "_saved_arrival_pairs", "_saved_index_entries",
        "_size", "_stem", "_verified_by_reads", "_verified_by_writes", "base_offset", "damaged_ranges",
        "deleted", "index", "index_rebuilt", "last_batch_position", "max_timestamp", "truncation_count",
        "writer",
    )  # fmt: skip

    def __init__(self, context: LogContext, folder: str, base_offset: int, size: int | None = None) -> None:
        self._context = context
        self._folder = folder
        self._stem = f"{folder}/{base_offset:020}"
        self._size = size
        self.base_offset = base_offset
        self.writer: File | None = None
        """The file of the active segment, once it was appended to."""
        self.deleted = False
        """True: the segment's files are unlinked, or about to be."""
        self.index: SegmentIndex | None = None
        """The segment's index; None while it is not in memory. Appends do not change it then; loading adds
        the batches it has missed."""
        self.index_rebuilt = False
        """True: the index was built from the log since the start, and building it again would give the
        same."""
        self.max_timestamp: int | None = None
        """Largest timestamp of a sealed segment, ms; -1: no record has one; None: not known yet."""
        self.last_batch_position = -1
        """Position of the last batch that was appended since the start; -1: none."""
        self.truncation_count = 0
        """Number of truncations of the segment. If it has risen, bytes that were read before may no longer be
        there."""
        self.damaged_ranges: list[DamagedRange] = []
        """Damaged ranges that are known, by position."""
        self._read_file: File | None = None
        self._arrivals: ArrivalIndex | None = None
        self._saved_index_entries: tuple[int, int] | None = (0, 0)
        """Index entries (offsets, times) that are in the files; None: the files have other entries and must
        be rewritten."""
        self._saved_arrival_pairs: int | None = 0
        """Arrival pairs that are in the file; None: the file has other pairs and must be rewritten."""
        self._verified_by_writes = (0, 0)
        self._verified_by_reads = (0, 0)

    # --- files --------------------------------------------------------------------------------------------

    @property
    def path(self) -> str:
        """Path of the `.log` file."""
        return self._stem + ".log"

    def file(self) -> File:
        """The `.log` file, open for reading. PartitionDeleted: it was unlinked in the meantime. OSError."""
        if self.deleted:
            raise PartitionDeleted(f"{self.path} was deleted")
        if self.writer is not None:
            return self.writer
        if self._read_file is None:
            self._read_file = self._context.disk.open(self.path)
        return self._read_file

    @property
    def size(self) -> int:
        """Bytes of log, committed or not."""
        if self._size is None:
            self._size = self._context.disk.size(self.path)
        return self._size

    def mark_deleted(self) -> None:
        """Mark the segment as deleted: its files are about to be unlinked, and later reads raise
        PartitionDeleted. The writer stays open: the committer may still use it."""
        self.deleted = True
        self._context.indexes.remove(self)
        self._set_damage([])
        if self._read_file is not None:
            self._read_file.close()
            self._read_file = None

    def close_writer(self) -> None:
        """Close the writer, which the committer no longer needs."""
        if self.writer is not None:
            self.writer.close()
            self.writer = None

    def unlink(self) -> None:
        """Delete all files, the log last: if that fails, the segment is still whole. Idempotent. OSError."""
        for suffix in reversed(SUFFIXES):
            self._context.disk.unlink(self._stem + suffix)
        self.mark_deleted()

    # --- growing ------------------------------------------------------------------------------------------

    def extend(self, position: int, size: int) -> None:
        """Note that `size` bytes of valid batches were appended at `position`."""
        assert size > 0, "a batch is never empty"
        self._size = position + size
        self.last_batch_position = position
        start, end = self._verified_by_writes
        self._verified_by_writes = (start if end == position and end > start else position, position + size)

    def truncate(self, position: int, offset: int) -> None:
        """Note that the log file now ends at `position`, which is `offset`. The caller continues the index
        from its `resume_position`."""
        self._size = position
        self.truncation_count += 1
        self.last_batch_position = -1
        self.max_timestamp = None
        self._verified_by_writes = _clip_range(self._verified_by_writes, position)
        self._verified_by_reads = _clip_range(self._verified_by_reads, position)
        self._set_damage([damage for damage in self.damaged_ranges if damage.end_position <= position])
        relative = offset - self.base_offset
        if self.index is not None:
            self.index.truncate(relative)
            if self._saved_index_entries is not None and self._saved_index_entries > self.index.entries:
                self._saved_index_entries = None
        self.arrivals_below(offset)

    # --- verified and damaged ranges ----------------------------------------------------------------------

    def is_verified(self, start: int, end: int) -> bool:
        """Whether all batches in the range were checked against their CRCs since the start, when written or
        when read."""
        for low, high in (self._verified_by_reads, self._verified_by_writes, self._verified_by_reads):
            if low <= start < high:
                start = high
        return start >= end

    def mark_verified(self, start: int, end: int) -> None:
        """Note that the batches in the range have valid CRCs. Only one range of reads is remembered, because
        readers move forward."""
        low, high = self._verified_by_reads
        self._verified_by_reads = (low, max(high, end)) if low <= start <= high else (start, end)

    def damage_at_position(self, position: int) -> DamagedRange | None:
        """The damaged range that includes `position`; None if there is none."""
        for damage in self.damaged_ranges:
            if damage.position <= position < damage.end_position:
                return damage
        return None

    def damage_at_offset(self, offset: int) -> DamagedRange | None:
        """The damaged range in which `offset` is lost; None if there is none."""
        for damage in self.damaged_ranges:
            if damage.offset <= offset < damage.next_offset:
                return damage
        return None

    def add_damage(self, damage: DamagedRange) -> None:
        """Remember a damaged range."""
        assert damage.position <= damage.end_position, "damage never ends before it begins"
        if damage not in self.damaged_ranges:
            self.damaged_ranges.insert(bisect_right(self.damaged_ranges, damage), damage)
            self._set_damage(self.damaged_ranges)

    def _set_damage(self, damaged: list[DamagedRange]) -> None:
        self.damaged_ranges = damaged
        lost = [(damage.offset, damage.next_offset) for damage in damaged]
        self._context.set_lost_offsets(self._folder, self.base_offset, lost)

    # --- index and arrivals -------------------------------------------------------------------------------

    def index_bytes(self) -> int:
        """Bytes of memory that the index takes."""
        return self.index.memory_bytes() if self.index is not None else 0

    def evict(self) -> None:
        """Drop the index, if the segment is sealed and its files have all entries."""
        if self.writer is None and self.index is not None and self._saved_index_entries == self.index.entries:
            self.index = None

    def index_files(self) -> tuple[bytes, bytes]:
        """Contents of `.index` and `.timeindex`; empty if there is no such file. Blocks; the files are
        small."""
        disk = self._context.disk
        paths = (self._stem + ".index", self._stem + ".timeindex")
        first, second = (disk.read_all(path) if disk.exists(path) else b"" for path in paths)
        return first, second

    def set_index(self, index: SegmentIndex, in_files: tuple[int, int] | None) -> None:
        """Use `index`. `in_files`: how many of its entries (offsets, times) are in the files; None: rewrite
        the files."""
        self.index = index
        self._saved_index_entries = in_files
        if self.writer is None:
            self._context.indexes.mark_used(self)

    @property
    def saved_entries(self) -> tuple[int, int] | None:
        """Entries (offsets, times) that are in the files; None: the files must be rewritten."""
        return self._saved_index_entries

    @property
    def arrivals(self) -> ArrivalIndex:
        """The arrival index. The first use loads it from its small file, and blocks."""
        if self._arrivals is None:
            path = self._stem + ".arrivals"
            data = self._context.disk.read_all(path) if self._context.disk.exists(path) else b""
            self._arrivals = ArrivalIndex.parse(data)
            pairs = len(self._arrivals.times)
            self._saved_arrival_pairs = pairs if pairs * PAIR.size == len(data) else None
        return self._arrivals

    def arrivals_below(self, offset: int) -> ArrivalIndex:
        """The arrival index without pairs of batches at or after `offset`: a crash may lose batches and leave
        their pairs."""
        self.arrivals.truncate(offset - self.base_offset)
        if self._saved_arrival_pairs is not None and self._saved_arrival_pairs > len(self.arrivals.times):
            self._saved_arrival_pairs = None
        return self.arrivals

    def save_side_files(self, below: int) -> None:
        """Append new entries, of batches before offset `below`, to the three files, unsynced. OSError."""
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
        """Paths of those of the three files that exist."""
        paths = (self._stem + suffix for suffix in SUFFIXES[1:])
        return [path for path in paths if self._context.disk.exists(path)]


def _clip_range(span: tuple[int, int], end: int) -> tuple[int, int]:
    return min(span[0], end), min(span[1], end)
