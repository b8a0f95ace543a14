"""Repairs partitions whose segments could not be synced, while the server runs.

Owns: when a repair is tried, and `SegmentRepairs`: it writes what the journal still has of the partitions to
their segments again, through new descriptors, and syncs them. Refuses: to trust the page cache (after a
failed sync it shows what the disk does not have), bytes that were not committed, and to keep the event loop
for the whole of a journal: it reads some groups in each turn, once for many partitions.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from mainstem.clock import Clock, Timer
from mainstem.log import paths
from mainstem.log.commit.checkpoint import CheckpointRow
from mainstem.log.commit.contract import CommittedPartition, PartitionKey, partition_key
from mainstem.log.commit.journal_files import JournalFile, JournalFilePool
from mainstem.log.commit.journal_format import APPEND, JournalGroup, JournalRecord, read_groups
from mainstem.log.disk.contract import Disk, File, SyncResults
from mainstem.promise import Promise

FIRST_RETRY_S = 1.0
"""A disk that has just failed may need a moment."""
RETRY_S_MAX = 8.0
PARTITIONS_PER_PASS = 128
"""Partitions that are repaired together: their files stay open until they are synced."""
BYTES_PER_TURN = 256 << 10
"""Of the journal, in one turn of the event loop; at least one group."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Attempt:
    """The next attempt to repair one partition."""

    due_s: float
    """Monotonic time."""
    wait_s: float = FIRST_RETRY_S
    """How long it waits since the last attempt."""


@dataclass(slots=True)
class _RepairPass:
    """One pass over the journal, for some partitions."""

    partitions: dict[PartitionKey, CommittedPartition]
    waited_s: dict[CommittedPartition, float]
    rows: dict[PartitionKey, CheckpointRow]
    """What is committed: it does not change while a partition is read-only."""
    groups: Iterator[tuple[File, JournalGroup]]
    files: dict[PartitionKey, dict[int, File]] = field(default_factory=dict)
    """Segment files opened for the repair, by base offset."""
    errors: dict[PartitionKey, BaseException] = field(default_factory=dict)


class SegmentRepairs:
    """The repairs of all partitions of a log. Each is tried until it succeeds or the partition is
    deleted."""

    def __init__(
        self,
        disk: Disk,
        clock: Clock,
        file_pool: JournalFilePool,
        durable_row: Callable[[PartitionKey], CheckpointRow | None],
        on_repaired: Callable[[CommittedPartition], None],
        on_attempt_ended: Callable[[], None],
    ) -> None:
        """`durable_row`: the partition's row in the last durable checkpoint. `on_attempt_ended` is called
        after each pass, whether it succeeded or not."""
        self._disk = disk
        self._clock = clock
        self._file_pool = file_pool
        self._durable_row = durable_row
        self._on_repaired = on_repaired
        self._on_attempt_ended = on_attempt_ended
        self._waiting: dict[CommittedPartition, _Attempt] = {}
        self._pass: _RepairPass | None = None
        self._timer: Timer | None = None
        self._stopped = False

    def add(self, partition: CommittedPartition) -> None:
        """Repair the partition after a while. If it is being repaired, it is repaired once more."""
        self._waiting[partition] = _Attempt(self._clock.monotonic() + FIRST_RETRY_S)
        self._set_timer()

    def forget(self, partition: CommittedPartition) -> None:
        """The partition is deleted."""
        self._waiting.pop(partition, None)
        if self._pass is not None:
            self._pass.partitions.pop(partition_key(partition), None)

    def stop(self) -> None:
        """Begin no more repairs: the log closes."""
        self._stopped = True

    @property
    def first_attempt_pending(self) -> bool:
        """Whether the first repair of a partition is not done yet."""
        running = self._pass.waited_s.values() if self._pass is not None else ()
        waiting = (attempt.wait_s for attempt in self._waiting.values())
        return FIRST_RETRY_S in running or FIRST_RETRY_S in waiting

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._waiting and self._pass is None and not self._stopped:
            due_s = min(attempt.due_s for attempt in self._waiting.values())
            self._timer = self._clock.call_later(max(0.0, due_s - self._clock.monotonic()), self._begin_pass)

    def _begin_pass(self) -> None:
        self._timer = None
        if self._stopped:
            return
        # Those that are due soon are part of it: it costs as much for one partition as for many.
        soon_s = self._clock.monotonic() + FIRST_RETRY_S / 4
        due = [partition for partition, attempt in self._waiting.items() if attempt.due_s <= soon_s]
        due = due[:PARTITIONS_PER_PASS]
        waited_s = {partition: self._waiting.pop(partition).wait_s for partition in due}
        partitions = {partition_key(partition): partition for partition in due}
        rows = {key: partition.checkpoint_row() for key, partition in partitions.items()}
        run = _RepairPass(partitions, waited_s, rows, _groups_of(self._file_pool.live, set(partitions)))
        self._pass = run
        self._write_some(run)

    def _write_some(self, run: _RepairPass) -> None:
        """Write the records of some groups again; then sync."""
        if self._stopped:
            self._close_files(run)
            return
        size = 0
        try:
            for journal, group in run.groups:
                for record in group.records:
                    size += record.length
                    key = (UUID(bytes=record.topic), record.partition)
                    if key in run.partitions and key not in run.errors and record.kind == APPEND:
                        self._write_again(run, key, journal, record)
                if size >= BYTES_PER_TURN:
                    self._clock.call_soon(lambda: self._write_some(run))
                    return
        except OSError as error:  # the journal cannot be read
            run.errors |= dict.fromkeys(run.partitions, error)
        self._truncate_and_sync(run)

    def _write_again(self, run: _RepairPass, key: PartitionKey, journal: File, record: JournalRecord) -> None:
        """Write one record to its segment, if it is committed and not durable there. Records of an epoch
        before the durable row's were rolled back: bytes that the journal never had may have replaced them."""
        durable, row = self._durable_row(key), run.rows[key]
        if durable is not None and (record.end_offset <= durable.end_offset or record.epoch < durable.epoch):
            return
        if record.end_offset > row.end_offset:  # of a group that failed, or that was not acknowledged
            return
        data = journal.pread(record.length, record.payload_position)
        assert len(data) == record.length, "a live journal file is never truncated"
        try:
            # What is below the log start is read at the next start, for producer windows, if its file still
            # exists.
            if record.end_offset > row.log_start or self._exists(run, key, record.segment):
                self._file(run, key, record.segment).pwrite(data, record.position)
        except OSError as error:
            run.errors[key] = error

    def _file(self, run: _RepairPass, key: PartitionKey, segment: int) -> File:
        files = run.files.setdefault(key, {})
        if segment not in files:
            files[segment] = self._disk.open(_segment_path(key, segment))
        return files[segment]

    def _exists(self, run: _RepairPass, key: PartitionKey, segment: int) -> bool:
        return segment in run.files.get(key, {}) or self._disk.exists(_segment_path(key, segment))

    def _truncate_and_sync(self, run: _RepairPass) -> None:
        for key in run.partitions:
            row = run.rows[key]
            try:
                # No file: all of that segment was deleted, and nothing is committed in the one after it.
                if key not in run.errors and row.position and self._exists(run, key, row.segment):
                    self._file(run, key, row.segment).truncate(row.position)
            except OSError as error:
                run.errors[key] = error
        keys = [key for key in run.partitions if key not in run.errors]
        files = [(key, file) for key in keys for file in run.files.get(key, {}).values()]
        written = [key for key in keys if run.files.get(key)]
        folders = [paths.partition_folder(*key) for key in written]

        def synced(promise: Promise[SyncResults]) -> None:
            *results, parent_error = promise.result()
            owners = [*(key for key, _ in files), *written]
            for key, error in zip(owners, results, strict=True):
                if failure := error or parent_error:
                    run.errors.setdefault(key, failure)
            self._end_pass(run)

        self._disk.sync_each([file for _, file in files], [*folders, paths.PARTITIONS]).then(synced)

    @staticmethod
    def _close_files(run: _RepairPass) -> None:
        for opened in run.files.values():
            for file in opened.values():
                file.close()

    def _end_pass(self, run: _RepairPass) -> None:
        self._pass = None
        self._close_files(run)
        for key, partition in run.partitions.items():
            if partition in self._waiting:
                continue  # it failed once more meanwhile
            error = run.errors.get(key)
            if error is None:
                log.warning("partition %s-%d was written again and synced", *key)
                self._on_repaired(partition)
                continue
            wait_s = min(2 * run.waited_s[partition], RETRY_S_MAX)
            log.warning("partition %s-%d is still read-only, next attempt in %g s: %s", *key, wait_s, error)
            self._waiting[partition] = _Attempt(self._clock.monotonic() + wait_s, wait_s)
        self._set_timer()
        self._on_attempt_ended()


def _segment_path(key: PartitionKey, segment: int) -> str:
    return f"{paths.partition_folder(*key)}/{paths.segment_name(segment)}"


def _groups_of(files: Sequence[JournalFile], keys: set[PartitionKey]) -> Iterator[tuple[File, JournalGroup]]:
    """The groups of the live files that have records of these partitions, oldest first, without annulled
    ones."""
    live = list(files)
    for file, following in zip(live, [*live[1:], None], strict=False):
        header = file.header
        if header is None or keys.isdisjoint(file.keys):
            continue
        annulled_from = None
        if following is not None and following.header is not None:
            annulled_from = following.header.base_group
        for group in read_groups(file.file, header, file.position):
            if annulled_from is not None and group.number >= annulled_from:
                break
            yield file.file, group
