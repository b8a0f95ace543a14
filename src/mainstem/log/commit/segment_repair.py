"""Bringing back a partition whose segment could not be synced, while the server runs.

Owns: `SegmentRepair`: write what the journal still has of the partition to its segments again, through new
descriptors, sync them, and tell. Refuses: to trust the page cache (after a failed sync it shows what the disk
does not have) and bytes that were not committed. Started by `journal.py`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from uuid import UUID

from mainstem.clock import Clock
from mainstem.log import paths
from mainstem.log.commit.checkpointer import CheckpointedPartition, PartitionKey, partition_key
from mainstem.log.commit.journal_files import JournalFile, JournalFilePool
from mainstem.log.commit.journal_format import APPEND, EPOCH, JournalRecord, read_groups
from mainstem.log.disk.contract import Disk, File
from mainstem.promise import Promise

_FIRST_RETRY_S = 1.0
_RETRY_S_MAX = 60.0
_RECORDS_PER_TURN = 64

log = logging.getLogger(__name__)


class SegmentRepair:
    """One partition's; tries until it works, the partition is deleted, or the log stops."""

    def __init__(
        self,
        disk: Disk,
        clock: Clock,
        partition: CheckpointedPartition,
        ring: JournalFilePool,
        is_wanted: Callable[[CheckpointedPartition], bool],
        done: Callable[[CheckpointedPartition], None],
    ) -> None:
        self._disk = disk
        self._clock = clock
        self._partition = partition
        self._files_pool = ring
        self._is_wanted = is_wanted
        self._done = done
        self._retry_s = _FIRST_RETRY_S
        self._files: dict[int, File] = {}
        self._records: Iterator[tuple[File, JournalRecord]] = iter(())
        self._committed_records: list[tuple[File, JournalRecord]] = []

    def start(self) -> None:
        """Begin after a while: a disk that has just failed gets a moment."""
        self._clock.call_later(self._retry_s, self._try)

    def _try(self) -> None:
        if not self._is_wanted(self._partition):
            return
        self._committed_records = []
        self._records = _records_of(self._files_pool.live, partition_key(self._partition))
        self._collect()

    def _collect(self) -> None:
        """Find what counts, some records a turn: what an older epoch has at or after the begin of a newer one
        is void, and may have been replaced by bytes that the journal never had."""
        try:
            some = list(islice(self._records, _RECORDS_PER_TURN))
        except OSError as error:
            self._failed(error)
            return
        for file, record in some:
            if record.kind == EPOCH:
                self._committed_records = [
                    one for one in self._committed_records if one[1].end_offset <= record.base_offset
                ]
            elif record.kind == APPEND:
                self._committed_records.append((file, record))
        if some:
            self._clock.call_soon(self._collect)
        else:
            self._write_some(0)

    def _write_some(self, at: int) -> None:
        if not self._is_wanted(self._partition):
            self._close()
            return
        row = self._partition.checkpoint_row()
        try:
            for journal, record in self._committed_records[at : at + _RECORDS_PER_TURN]:
                # Records of groups that were nacked are in the journal too, beyond the committed end. What
                # lies below the log start is read after a start, for windows, as long as its file is there.
                if record.end_offset <= row.end_offset and (
                    record.end_offset > row.log_start or self._exists(record.segment)
                ):
                    data = journal.pread(record.length, record.payload_position)
                    self._file(record.segment).pwrite(data, record.position)
            if at + _RECORDS_PER_TURN < len(self._committed_records):
                self._clock.call_soon(lambda: self._write_some(at + _RECORDS_PER_TURN))
                return
            self._truncate_to_committed_end()
        except OSError as error:
            self._failed(error)
            return
        folders = [paths.partition_folder(*partition_key(self._partition)), paths.PARTITIONS]
        self._disk.sync(list(self._files.values()), folders, background=True).then(self._synced)

    def _file(self, segment: int) -> File:
        file = self._files.get(segment)
        if file is None:
            file = self._files[segment] = self._disk.open(self._path(segment))
        return file

    def _exists(self, segment: int) -> bool:
        return segment in self._files or self._disk.exists(self._path(segment))

    def _path(self, segment: int) -> str:
        return f"{paths.partition_folder(*partition_key(self._partition))}/{paths.segment_name(segment)}"

    def _truncate_to_committed_end(self) -> None:
        """The committed end is the end, on disk too."""
        row = self._partition.checkpoint_row()
        if row.position:
            self._file(row.segment).truncate(row.position)

    def _synced(self, later: Promise[None]) -> None:
        if later.error is not None:
            self._failed(later.error)
            return
        self._close()
        if self._is_wanted(self._partition):
            log.warning(
                "%s-%d: written again and synced; it takes events again", *partition_key(self._partition)
            )
            self._done(self._partition)

    def _failed(self, error: BaseException) -> None:
        self._close()
        self._retry_s = min(2 * self._retry_s, _RETRY_S_MAX)
        log.warning(
            "%s-%d is still read-only: %s; tried again in %g s",
            *partition_key(self._partition),
            error,
            self._retry_s,
        )
        self.start()

    def _close(self) -> None:
        for file in self._files.values():
            file.close()
        self._files, self._committed_records = {}, []


def _records_of(slots: Sequence[JournalFile], key: PartitionKey) -> Iterator[tuple[File, JournalRecord]]:
    """A partition's records in the live files, oldest first, without those of annulled groups."""
    live = list(slots)
    for slot, after in zip(live, [*live[1:], None], strict=False):
        header = slot.header
        if header is None or key not in slot.keys:
            continue
        void_from = after.header.base_group if after is not None and after.header is not None else None
        for group in read_groups(slot.file, header):
            if void_from is not None and group.number >= void_from:
                break
            for record in group.records:
                if (UUID(bytes=record.topic), record.partition) == key:
                    yield slot.file, record
