"""Repairs a partition whose segment could not be synced, while the server runs.

Owns: `SegmentRepair`: it writes what the journal still has of the partition to its segments again, through
new descriptors, and syncs them. Refuses: to trust the page cache (after a failed sync it shows what the disk
does not have) and bytes that were not committed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from uuid import UUID

from mainstem.clock import Clock
from mainstem.log import paths
from mainstem.log.commit.contract import CommittedPartition, PartitionKey, partition_key
from mainstem.log.commit.journal_files import JournalFile, JournalFilePool
from mainstem.log.commit.journal_format import APPEND, EPOCH, JournalRecord, read_groups
from mainstem.log.disk.contract import Disk, File
from mainstem.promise import Promise

_FIRST_RETRY_S = 1.0
_RETRY_S_MAX = 60.0
_RECORDS_PER_TURN = 64

log = logging.getLogger(__name__)


class SegmentRepair:
    """The repair of one partition. Retries until it succeeds, the partition is deleted, or the log stops."""

    def __init__(
        self,
        disk: Disk,
        clock: Clock,
        partition: CommittedPartition,
        file_pool: JournalFilePool,
        is_needed: Callable[[CommittedPartition], bool],
        on_done: Callable[[CommittedPartition], None],
    ) -> None:
        self._disk = disk
        self._clock = clock
        self._partition = partition
        self._file_pool = file_pool
        self._is_needed = is_needed
        self._on_done = on_done
        self._retry_s = _FIRST_RETRY_S
        self._files: dict[int, File] = {}
        """Segment files opened for the repair, by base offset."""
        self._unread: Iterator[tuple[File, JournalRecord]] = iter(())
        self._records: list[tuple[File, JournalRecord]] = []

    def start(self) -> None:
        """Begin after a while: a disk that has just failed may need a moment."""
        self._clock.call_later(self._retry_s, self._try)

    def _try(self) -> None:
        if not self._is_needed(self._partition):
            return
        self._records = []
        self._unread = _records_of(self._file_pool.live, partition_key(self._partition))
        self._collect()

    def _collect(self) -> None:
        """Collect the valid records, some in each turn of the loop. Records of an older epoch at or after the
        offset where a newer one begins are void: bytes that the journal never had may have replaced them."""
        try:
            batch = list(islice(self._unread, _RECORDS_PER_TURN))
        except OSError as error:
            self._failed(error)
            return
        for file, record in batch:
            if record.kind == EPOCH:
                self._records = [pair for pair in self._records if pair[1].end_offset <= record.base_offset]
            elif record.kind == APPEND:
                self._records.append((file, record))
        if batch:
            self._clock.call_soon(self._collect)
        else:
            self._write_from(0)

    def _write_from(self, start: int) -> None:
        """Write records from index `start` on, some in each turn of the loop; then sync."""
        if not self._is_needed(self._partition):
            self._close()
            return
        row = self._partition.checkpoint_row()
        end = start + _RECORDS_PER_TURN
        try:
            for journal, record in self._records[start:end]:
                # The journal also has records of failed groups: they are beyond the committed end. What is
                # below the log start is read at the next start, for producer windows, if its file still
                # exists.
                is_needed = record.end_offset > row.log_start or self._exists(record.segment)
                if record.end_offset <= row.end_offset and is_needed:
                    data = journal.pread(record.length, record.payload_position)
                    assert len(data) == record.length, "a live journal file is never truncated"
                    self._file(record.segment).pwrite(data, record.position)
            if end < len(self._records):
                self._clock.call_soon(lambda: self._write_from(end))
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
        row = self._partition.checkpoint_row()
        if row.position:
            self._file(row.segment).truncate(row.position)

    def _synced(self, promise: Promise[None]) -> None:
        if promise.error is not None:
            self._failed(promise.error)
            return
        self._close()
        if self._is_needed(self._partition):
            key = partition_key(self._partition)
            log.warning("partition %s-%d was written again and synced; it accepts events again", *key)
            self._on_done(self._partition)

    def _failed(self, error: BaseException) -> None:
        self._close()
        self._retry_s = min(2 * self._retry_s, _RETRY_S_MAX)
        key = partition_key(self._partition)
        log.warning(
            "partition %s-%d is still read-only, next attempt in %g s: %s", *key, self._retry_s, error
        )
        self.start()

    def _close(self) -> None:
        for file in self._files.values():
            file.close()
        self._files, self._records = {}, []


def _records_of(files: Sequence[JournalFile], key: PartitionKey) -> Iterator[tuple[File, JournalRecord]]:
    """A partition's records in the live files, oldest first, without those of annulled groups."""
    live = list(files)
    for file, following in zip(live, [*live[1:], None], strict=False):
        header = file.header
        if header is None or key not in file.keys:
            continue
        annulled_from = None
        if following is not None and following.header is not None:
            annulled_from = following.header.base_group
        for group in read_groups(file.file, header):
            if annulled_from is not None and group.number >= annulled_from:
                break
            for record in group.records:
                if (UUID(bytes=record.topic), record.partition) == key:
                    yield file.file, record
