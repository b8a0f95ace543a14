"""Writes the side files of one partition: index files, arrivals, producer snapshot, leader epochs.

Owns: when they are written, and that those of the active segment hold nothing that is not committed; adding
the arrivals that only the journal has to the files. Refuses: to fail: what could not be written is made again
from the log when it is needed.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from mainstem.log.errors import LogError
from mainstem.log.partition.derived_state import DerivedState
from mainstem.log.partition.index_loading import IndexLoader
from mainstem.log.partition.segments import Segments
from mainstem.log.partition.snapshot_file import SnapshotFile
from mainstem.log.storage.producer_snapshot import ProducerSnapshot
from mainstem.log.storage.segment import Segment
from mainstem.promise import Promise

log = logging.getLogger(__name__)


class SideFiles:
    """The side files of one partition."""

    __slots__ = ("_derived", "_index_loader", "_segments", "_snapshot_file", "_was_clean")

    def __init__(
        self,
        segments: Segments,
        index_loader: IndexLoader,
        derived: DerivedState,
        snapshot_file: SnapshotFile,
        *,
        was_clean: bool,
    ) -> None:
        """`was_clean`: the last stop was clean."""
        self._segments = segments
        self._index_loader = index_loader
        self._derived = derived
        self._snapshot_file = snapshot_file
        self._was_clean = was_clean

    def save_at_checkpoint(self) -> None:
        """Write the new entries of the active segment, the snapshot and the epochs, unsynced."""
        segments = self._segments
        if segments.active is None:
            return
        try:
            self._derived.save_epochs()  # also without appends: a crash may have left an older file
            if not segments.accepts_appends:
                return
            segments.active.save_side_files(segments.high_watermark)
            self._save_snapshot()
        except (OSError, LogError) as error:
            log.warning(
                "%s: side files were not saved; they are rebuilt from the log: %s", segments.folder, error
            )

    def save_sealed(self, segment: Segment) -> None:
        """Write the files of `segment`, which was just sealed, and sync them in the background. If its index
        is not in memory, they are written when it is loaded."""
        if segment.index is None:
            return
        segments, disk = self._segments, self._segments.context.disk
        try:
            segment.save_side_files(segments.end_of(segment))
            files = [disk.open(path) for path in segment.side_files()]
            self._save_snapshot()
            self._derived.save_epochs()
        except (OSError, LogError) as error:
            log.warning(
                "%s: its side files were not saved; they are rebuilt from the log: %s", segment.path, error
            )
            return

        def on_synced(promise: Promise[None]) -> None:
            for file in files:
                file.close()
            if promise.error is not None:
                log.warning(
                    "%s: its side files were not synced; a power cut may damage them, but no events: %s",
                    segment.path,
                    promise.error,
                )

        segments.mark_side_files_complete(segment)
        segments.context.indexes.mark_used(segment)
        disk.sync(files, background=True).then(on_synced)

    def save_at_stop(self) -> None:
        """Write all side files at a clean stop, when everything is committed. The last checkpoint syncs them.
        Blocks."""
        segments, active = self._segments, self._segments.active
        if active is None:
            return
        try:
            if not self._was_clean:
                _ = self._derived.epochs  # loaded so that they are saved: the next start trusts the file
            self._derived.save_epochs()
            if not segments.accepts_appends:
                return
            index = segments.context.run_blocking(self._index_loader.load(active))
            index.add_time_entry()
            active.save_side_files(segments.high_watermark)
            self._save_snapshot(is_stop=True)
        except (OSError, LogError) as error:
            log.warning(
                "%s: side files were not saved; they are rebuilt from the log: %s", segments.folder, error
            )

    def _save_snapshot(self, *, is_stop: bool = False) -> None:
        """Write the snapshot of the committed end, unless the file has it already; at a stop before this
        returns. OSError, LogError."""
        segments = self._segments
        offset = segments.high_watermark
        base_offset, position = segments.committed_end
        segment = segments.with_base(base_offset)
        latest = self._snapshot_file.latest
        if segment is None or (
            latest is not None and latest.offset == offset and latest.segment == base_offset
        ):
            return
        index, last = segment.index, None
        if index is not None and position:
            last = self._index_loader.last_batch(segment, index, (position, offset))
        if last is None and position:
            return
        windows = self._derived.windows
        snapshot = ProducerSnapshot(
            segment=base_offset,
            position=position,
            offset=offset,
            last_batch_position=last[0] if last else -1,
            last_batch_crc=last[1].crc if last else 0,
            last_arrival_ms=segments.last_arrival_ms,
            index_entries=index.entries_below(offset - base_offset) if index is not None else None,
            windows=windows.committed_windows(),
        )
        if is_stop:
            self._snapshot_file.save_now(snapshot)
        else:
            self._snapshot_file.save(snapshot, windows)


def restore_arrivals(segments: Segments, journaled: Sequence[tuple[int, int]]) -> None:
    """Add the arrivals that the journal kept to those in the files, after an unclean stop, and save them: the
    journal will not have them again. `journaled`: (wall ms, offset), rising, at most one pair a second for
    all segments together; but each segment needs a pair at its beginning."""
    first_offset = journaled[0][1]
    complete = [segment for segment in segments if segments.end_of(segment) <= first_offset]
    last_ms = complete[-1].arrivals.last_ms if complete else -1
    for segment in segments[len(complete) :]:
        arrivals = segment.arrivals
        base_offset, end_offset = segment.base_offset, segments.end_of(segment)
        last_ms = max([last_ms, *(wall_ms for wall_ms, offset in journaled if offset <= base_offset)])
        if not arrivals.times and last_ms >= 0:
            arrivals.add(last_ms, 0)
        for wall_ms, offset in journaled:
            last_offset = base_offset + (arrivals.offsets[-1] if arrivals.times else -1)
            if base_offset <= offset < end_offset and offset > last_offset and wall_ms >= arrivals.last_ms:
                # Also less than a second after the last pair: the journal has none of its own for what
                # follows this one.
                arrivals.times.append(wall_ms)
                arrivals.offsets.append(offset - base_offset)
                arrivals.last_ms = wall_ms
        last_ms = max(last_ms, arrivals.last_ms)
        try:
            segment.save_side_files(min(end_offset, segments.high_watermark))
        except OSError as error:
            log.warning(
                "%s: arrival times were not saved and may be lost at the next start: %s", segment.path, error
            )
