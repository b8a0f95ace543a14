"""Loads the index of a segment, and finds batches with it.

Owns: when an index file is trusted, building an index from the log when it is not, and the position of a
batch near an offset. Refuses: to trust a file that the log contradicts, and to build the same index twice.

Rules: FORMAT.md, part "Indexes".
"""

from __future__ import annotations

import logging

from mainstem.log.disk.nonblocking_read import ReadSteps
from mainstem.log.errors import LogError, PartitionDeleted
from mainstem.log.partition.batch_scan import ScanInvalidated, header_fits, scan_batches
from mainstem.log.partition.segments import Segments
from mainstem.log.partition.snapshot_file import SnapshotFile
from mainstem.log.storage.index import SegmentIndex
from mainstem.log.storage.record_batch import HEADER_BYTES, BatchHeader, read_header
from mainstem.log.storage.segment import Segment
from mainstem.promise import Promise

BUILD_CHUNK_BYTES = 256 << 10

log = logging.getLogger(__name__)


class IndexLoader:
    """Loads the segment indexes of one partition."""

    __slots__ = ("_segments", "_snapshot_file")

    def __init__(self, segments: Segments, snapshot_file: SnapshotFile) -> None:
        self._segments = segments
        self._snapshot_file = snapshot_file

    def load(self, segment: Segment) -> ReadSteps[SegmentIndex]:
        """The index of `segment`, complete up to the segment's end."""
        if segment.index is not None:
            if segment is not self._segments.active:
                self._segments.context.indexes.mark_used(segment)
            return segment.index
        index = None
        saved_entries: tuple[int, int] | None = None
        if not segment.index_rebuilt:
            index = self._read_files(segment)
            saved_entries = index.entries if index is not None else None
        if index is not None and not (yield from self._last_entry_holds(segment, index)):
            index = None
        if index is None:
            return (yield from self.rebuild(segment))
        return (yield from self._catch_up(segment, index, saved_entries))

    def load_in_background(self, segment: Segment) -> None:
        """Begin to load the index of `segment`; appends continue meanwhile. A failure is logged."""
        if segment.index is None:
            self._segments.context.run_later(self.load(segment)).then(_log_failure)

    def rebuild(self, segment: Segment) -> ReadSteps[SegmentIndex]:
        """Build the index from the log alone. Its files are written anew when it is saved next."""
        segment.index_rebuilt = True
        segment.index = None
        return (yield from self._catch_up(segment, SegmentIndex(), None))

    def catch_up_after_truncation(self, segment: Segment) -> None:
        """Scan `segment`, which was cut, from the last entry of its index again: what the index knew of the
        batches behind that entry is void. Blocks."""
        index, segment.index = segment.index, None
        if index is not None:
            try:
                self._segments.context.run_blocking(self._catch_up(segment, index, segment.saved_entries))
            except LogError as error:
                log.warning(
                    "%s: its index will be rebuilt from the log when it is needed: %s", segment.path, error
                )

    def batch_before(self, segment: Segment, offset: int) -> ReadSteps[tuple[int, int]]:
        """(position, base offset) of a batch of `segment` at or before the one that holds `offset`, close to
        it."""
        index = yield from self.load(segment)
        position, last_relative = index.position_before(offset - segment.base_offset)
        if last_relative is not None:
            limit = self._segments.log_limit(segment)
            header = yield from header_at_entry(segment, position, last_relative, limit)
            if header is None and not segment.index_rebuilt:
                yield from self.rebuild(segment)
                return (yield from self.batch_before(segment, offset))
            if header is not None:
                return position, header.base_offset
        return 0, segment.base_offset

    def last_batch(
        self, segment: Segment, index: SegmentIndex, end: tuple[int, int]
    ) -> tuple[int, BatchHeader] | None:
        """(position, header) of the batch of `segment` that ends at `end` (position, offset); None if it
        cannot be found. A short scan from the last entry of `index`. Blocks."""
        run_blocking = self._segments.context.run_blocking
        position, last_relative = index.position_before(end[1] - 1 - segment.base_offset)
        base_offset = segment.base_offset
        if last_relative is not None:
            header = run_blocking(header_at_entry(segment, position, last_relative, end))
            if header is None:
                return None
            base_offset = header.base_offset
        last: list[tuple[int, BatchHeader]] = []

        def visit(position: int, header: BatchHeader) -> None:
            last[:] = [(position, header)]

        try:
            run_blocking(scan_batches(segment, position, base_offset, end, visit))
        except ScanInvalidated:
            return None
        return last[0] if last else None

    def _read_files(self, segment: Segment) -> SegmentIndex | None:
        """The index as its files have it; None: they cannot be trusted."""
        end_position, end_offset = self._segments.log_limit(segment)
        index = SegmentIndex.parse(*segment.index_files(), end_offset - segment.base_offset, end_position)
        if index is None:
            log.warning("%s: its index files are damaged; the index is built from the log", segment.path)
            return None
        if self._segments.has_complete_side_files(segment):
            return index
        # The files were written from time to time and not synced: only the entries that the snapshot counts
        # are trusted.
        snapshot = self._snapshot_file.latest
        if snapshot is None or snapshot.segment != segment.base_offset or snapshot.index_entries is None:
            return None
        return index if index.truncate_to_entries(snapshot.index_entries) else None

    def _last_entry_holds(self, segment: Segment, index: SegmentIndex) -> ReadSteps[bool]:
        """Whether the last entry of `.index` agrees with the batch header at its position."""
        limit = self._segments.log_limit(segment)
        position, last_relative = index.position_before(limit[1] - segment.base_offset)
        if last_relative is None:
            return True
        return (yield from header_at_entry(segment, position, last_relative, limit)) is not None

    def _catch_up(
        self, segment: Segment, index: SegmentIndex, saved_entries: tuple[int, int] | None
    ) -> ReadSteps[SegmentIndex]:
        """Scan the log from where `index` ends to where `segment` ends, also what is appended meanwhile, and
        install the index. Begins again when the log is cut meanwhile or a batch turns out to be damaged."""
        segments = self._segments
        while True:
            truncation_count = segments.truncation_count
            start = index.resume_position(), segment.base_offset
            limit = segments.log_limit(segment)
            if start[0]:
                _, last_relative = index.position_before(limit[1] - segment.base_offset)
                header = yield from header_at_entry(segment, start[0], last_relative or 0, limit)
                if header is None:
                    index, saved_entries = SegmentIndex(), None
                    continue
                start = start[0], header.base_offset

            def visit(position: int, header: BatchHeader, index: SegmentIndex = index) -> None:
                index.add_header(segment.base_offset, position, header, segments.config.index_interval_bytes)

            try:
                while segments.truncation_count == truncation_count and start[0] < limit[0]:
                    yield from scan_batches(segment, *start, limit, visit, chunk_bytes=BUILD_CHUNK_BYTES)
                    start, limit = limit, segments.log_limit(segment)
            except ScanInvalidated:
                index, saved_entries = SegmentIndex(), None
                continue
            if segments.truncation_count == truncation_count:
                break
            index, saved_entries = SegmentIndex(), None
        if segment.index is None:
            segment.set_index(index, saved_entries)
            if segment is not segments.active:
                index.add_time_entry()
                self._save_sealed(segment)
            return index
        return segment.index

    def _save_sealed(self, segment: Segment) -> None:
        """Write the index files of a sealed segment, if all of it is committed. If that fails, the index in
        memory serves all the same."""
        end_offset = self._segments.end_of(segment)
        if segment.deleted or end_offset > self._segments.high_watermark:
            return
        try:
            segment.save_side_files(end_offset)
            self._segments.mark_side_files_complete(segment)
        except OSError as error:
            log.warning("%s: its index was not saved; it is rebuilt from the log: %s", segment.path, error)


def header_at_entry(
    segment: Segment, position: int, last_relative: int, end: tuple[int, int]
) -> ReadSteps[BatchHeader | None]:
    """The header at `position`, to which an entry of `.index` points; None if no batch that ends with the
    entry's relative offset `last_relative` can begin there. `end`: the segment's (position, offset)."""
    data = yield segment, HEADER_BYTES, position
    if len(data) < HEADER_BYTES:
        return None
    header = read_header(data)
    if header.last_offset - segment.base_offset != last_relative:
        return None
    return header if header_fits(header, position, header.base_offset, end) else None


def _log_failure(promise: Promise[SegmentIndex]) -> None:
    if promise.error is not None and not isinstance(promise.error, PartitionDeleted):
        log.warning(
            "the index of a segment could not be loaded; the next read tries again: %s", promise.error
        )
