"""Checkpoints: syncing segments in the background, so that journal files can be reused.

Owns: which segment files have bytes that only the journal (or nothing) keeps, when they are synced, the rows,
and the checkpoint file. Refuses: to delay a commit. The committers drive it: `journal.py`, or
`page_cache_commit.py` where there is no journal.

Rule numbers are those of FORMAT.md. A journal file is free again only after all segments that it names were
synced without error, new names too, and a checkpoint that does not need it is durable (R3).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from mainstem.clock import Clock, Timer
from mainstem.log import paths
from mainstem.log.commit import checkpoint as checkpoint_files
from mainstem.log.commit.checkpoint import Checkpoint, CheckpointRow
from mainstem.log.commit.contract import CommittedPartition, PartitionKey, partition_key
from mainstem.log.config import LogConfig
from mainstem.log.disk.contract import Disk, File, SyncResults
from mainstem.log.errors import StorageError
from mainstem.promise import Promise, gather

_RETRY_S = 1.0
ROLLS_PER_CHECKPOINT_MAX = 1000
"""A sealed file keeps its descriptor until it is synced: after this many rolls a checkpoint is due."""
_SYNC_SHARES = 8
"""Sync requests in parallel when a checkpoint is urgent."""

log = logging.getLogger(__name__)


class CommitBarrier(Protocol):
    """What a checkpoint needs of the committer: to begin between two groups, and to pass on failed syncs."""

    def when_idle(self, begin: Callable[[int, int], None]) -> None:
        """Call `begin(first seq, next group)` once no group is in flight, with all later groups in a new
        file."""

    def first_seq_needed(self, first_seq: int) -> int:
        """Seq of the oldest file that a fenced partition still needs; `first_seq` if there is none."""

    def checkpoint_begins(self) -> bool:
        """Called when a checkpoint begins. True if it is urgent, because half of the journal is in use."""

    def defers_checkpoints(self) -> bool:
        """Whether a checkpoint that the journal does not need has to wait, because a disk that has just
        failed under a partition may need a moment (R10). `resume_deferred` ends it."""

    def is_trusted(self, key: PartitionKey) -> bool:
        """Whether a successful sync of this partition's files proves that they are durable: no sync of them
        failed, or everything was written again since (R10)."""

    def block_direct_sync(self, partition: CommittedPartition) -> bool:
        """Start no direct sync of the partition until `unblock_direct_sync`; False if one is in flight. Of
        two syncs of one file at the same time only one returns a write error, and the other would be believed
        (R10)."""

    def when_direct_sync_blocked(self, partition: CommittedPartition, callback: Callable[[], None]) -> None:
        """Call `callback` once no direct sync of the partition is in flight; new ones are blocked from then
        on."""

    def unblock_direct_sync(self, partition: CommittedPartition) -> None:
        """Allow direct syncs of the partition again."""

    def segment_failed(self, partition: CommittedPartition, error: BaseException) -> None:
        """Called when the checkpoint's sync of one of the partition's files failed. The committer makes the
        partition read-only and, if the journal has its bytes, repairs it (R10)."""

    def checkpoint_stored(self, first_seq: int) -> None:
        """Called when the checkpoint that began with journal seq `first_seq` is durable."""

    def refers_to(self, key: PartitionKey) -> bool:
        """Whether a live journal file has records of this partition."""


@dataclass(slots=True)
class _DirtyFiles:
    """Files that one partition wrote since the last checkpoint began."""

    files: dict[int, File] = field(default_factory=dict)
    """By base offset of the segment, oldest first."""


@dataclass(slots=True)
class _CheckpointRun:
    """One checkpoint in progress."""

    first_seq: int
    next_group: int
    dirty: dict[CommittedPartition, _DirtyFiles]
    rows: dict[CommittedPartition, CheckpointRow]
    """Rows to store. A partition's row is removed if the partition is deleted or a sync of it fails."""
    is_final: bool
    requests: list[Promise[None]]
    urgent: bool


class Checkpointer:
    """Makes the checkpoints of all partitions, one at a time."""

    def __init__(self, disk: Disk, clock: Clock, config: LogConfig) -> None:
        self._disk = disk
        self._clock = clock
        self._config = config
        self._last = Checkpoint(0, 1, 1, clean=False, rows=())
        self.rows: dict[PartitionKey, CheckpointRow] = {}
        """Rows of the last durable checkpoint."""
        self._durable_names: dict[PartitionKey, frozenset[File]] = {}
        """The newest segment files of each partition whose names in the folder are durable."""
        self._durable_names_at_start: dict[PartitionKey, str] = {}
        """For each partition, path of the segment that its row named after recovery: its name is durable."""
        self._frozen_keys: frozenset[PartitionKey] = frozenset()
        self._dirty: dict[CommittedPartition, _DirtyFiles] = {}
        self._dirty_bytes = 0
        self._sealed: set[File] = set()
        self._rolls = 0
        self._run: _CheckpointRun | None = None
        self._requests: list[Promise[None]] = []
        self._scheduled = False
        self._is_needed = False
        """Whether the scheduled checkpoint may not be deferred."""
        self._is_final = False
        self._timer: Timer | None = None
        self._forgotten: list[tuple[PartitionKey, Promise[None]]] = []
        self.barrier: CommitBarrier

    def start(
        self,
        last: Checkpoint,
        rows: Mapping[PartitionKey, CheckpointRow],
        frozen: Collection[PartitionKey],
    ) -> None:
        """The log has recovered: `last` is the durable checkpoint, `rows` are its rows. Rows of `frozen` are
        never replaced: they show the next start that these partitions are shorter than what was
        acknowledged."""
        self._last = last
        self._frozen_keys = frozenset(frozen)
        self.rows = dict(rows)
        for key, row in rows.items():
            if row.position:
                self._durable_names[key] = frozenset()
                name = paths.segment_name(row.segment)
                self._durable_names_at_start[key] = f"{paths.partition_folder(*key)}/{name}"

    # Collecting work.

    def mark_dirty(
        self, partition: CommittedPartition, files: Mapping[int, File], unjournaled_bytes: int = 0
    ) -> None:
        """These files (by base offset of the segment) were written to, or the partition's row changed. A
        checkpoint is due within `checkpoint_interval_s`, or at once when as many bytes are not in the journal
        as one of its files holds."""
        if partition.deleted:
            return
        dirty = self._dirty.get(partition)
        if dirty is None:
            dirty = self._dirty[partition] = _DirtyFiles()
        dirty.files.update(files)
        self._dirty_bytes += unjournaled_bytes
        self._schedule_when_due()

    def mark_file_dirty(
        self, partition: CommittedPartition, segment: int, file: File, unjournaled_bytes: int
    ) -> None:
        """As `mark_dirty` for one file. With durability "os" it is called at each append."""
        dirty = self._dirty.get(partition)
        if dirty is None:
            self.mark_dirty(partition, {segment: file}, unjournaled_bytes)
            return
        dirty.files[segment] = file
        self._dirty_bytes += unjournaled_bytes
        if self._timer is None or self._dirty_bytes >= self._config.journal_file_bytes:
            self._schedule_when_due()

    def _schedule_when_due(self) -> None:
        if self._dirty_bytes >= self._config.journal_file_bytes:
            self.schedule()
        elif self._timer is None and not self._scheduled:
            self._timer = self._clock.call_later(self._config.checkpoint_interval_s, self._due)

    def close_after_sync(self, file: File) -> None:
        """Close the file of a sealed segment once it is synced."""
        self._sealed.add(file)
        self._rolls += 1
        if self._rolls >= ROLLS_PER_CHECKPOINT_MAX:
            self.schedule()

    def request(self, *, needed: bool = False) -> Promise[None]:
        """Request a checkpoint that begins after this call. Done when it is durable. `needed`: see
        `schedule`."""
        promise: Promise[None] = Promise()
        self._requests.append(promise)
        self.schedule(needed=needed)
        return promise

    def request_final(self) -> Promise[None]:
        """As `request`, at a clean stop: nothing is written after it."""
        self._is_final = True
        return self.request(needed=True)

    def forget_partition(self, partition: CommittedPartition) -> Promise[None]:
        """Drop the row of a deleted partition. Done when neither a row nor a live journal file refers to
        it."""
        promise: Promise[None] = Promise()
        dirty = self._dirty.pop(partition, None)
        if dirty is not None:
            self._sealed.difference_update(dirty.files.values())
        if self._run is not None:
            self._run.rows.pop(partition, None)
        key = partition_key(partition)
        self.rows.pop(key, None)
        self._durable_names.pop(key, None)
        self._durable_names_at_start.pop(key, None)
        self._forgotten.append((key, promise))
        self.schedule()
        return promise

    def durable_row(self, key: PartitionKey) -> CheckpointRow | None:
        """The partition's row in the last durable checkpoint."""
        return self.rows.get(key)

    def when_past(self, partition: CommittedPartition, offset: int) -> Promise[None]:
        """Done when no start will look for what is below `offset`: the durable row is at it or after it, or
        points into the segment with it, which is kept (R11). StorageError: the row cannot get there."""
        row = self.durable_row(partition_key(partition))
        if row is not None and offset < row.end_offset:
            return Promise.resolved(None)

        def check(_: None) -> None:
            row = self.durable_row(partition_key(partition))
            if row is None or row.end_offset < offset:
                raise StorageError(partition.fence_reason or f"the checkpoint does not reach offset {offset}")

        self.mark_dirty(partition, {})
        return self.request().map(check)

    def folders_to_sync(self, partition: CommittedPartition, files: Iterable[File]) -> list[str]:
        """Folders to sync before bytes in these files count as durable; none once their names are durable
        (R1)."""
        key = partition_key(partition)
        durable = self._durable_names.get(key)
        if durable is None:
            return [paths.partition_folder(*key), paths.PARTITIONS]
        path_at_start = self._durable_names_at_start.get(key)
        if all(file in durable or file.path == path_at_start for file in files):
            return []
        return [paths.partition_folder(*key)]

    def mark_names_durable(self, partition: CommittedPartition, files: Iterable[File]) -> None:
        """Note that the folders of these files are synced, so that their names are durable. Noted by file,
        not by path: a segment that was rolled back is created again under the same name."""
        self._durable_names[partition_key(partition)] = frozenset(files)

    def _due(self) -> None:
        self._timer = None
        self.schedule()

    def schedule(self, *, needed: bool = False) -> None:
        """Make a checkpoint as soon as possible. `needed`: also while others are deferred, because the
        journal, or the repair of a partition, waits for it."""
        if not self._scheduled or (needed and not self._is_needed):
            self._scheduled = True
            self._is_needed |= needed
            if self._run is None:
                self._clock.call_soon(self._next)

    def resume_deferred(self) -> None:
        """Begin the checkpoint that was deferred, if there is one."""
        if self._scheduled and self._run is None:
            self._clock.call_soon(self._next)

    def _next(self) -> None:
        is_due = self._is_needed or not self.barrier.defers_checkpoints()
        if self._scheduled and self._run is None and is_due:
            self.barrier.when_idle(self._begin)

    # One checkpoint: rows, side files, segment files, folders, the checkpoint file.

    def _begin(self, first_seq: int, next_group: int) -> None:
        if self._run is not None or not self._scheduled:
            return
        self._scheduled = self._is_needed = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        dirty, self._dirty, self._dirty_bytes, self._rolls = self._dirty, {}, 0, 0
        rows = {}
        for partition in dirty:
            key = partition_key(partition)
            if key not in self._frozen_keys and self.barrier.is_trusted(key):
                rows[partition] = partition.checkpoint_row()
        requests, self._requests = self._requests, []
        urgent = self.barrier.checkpoint_begins()
        run = _CheckpointRun(first_seq, next_group, dirty, rows, self._is_final, requests, urgent)
        self._run = run
        # At a clean stop the partitions are closed: they have written their side files already.
        self._save_side_files(run, iter([] if self._is_final else list(rows)))

    def _save_side_files(self, run: _CheckpointRun, partitions: Iterator[CommittedPartition]) -> None:
        """Write indexes and snapshots, those of one partition in each turn of the loop: opening and closing
        some files takes tens of milliseconds on a busy disk. They are written after the rows were read,
        because they must cover what is below those."""
        partition = next(partitions, None)
        if partition is None:
            self._sync_files(run)
            return
        if partition.fence_reason is None and partition in run.rows:  # else: deleted in the meantime
            _save_side_files(partition)
        self._clock.call_soon(lambda: self._save_side_files(run, partitions))

    def _sync_files(self, run: _CheckpointRun) -> None:
        self._drop_untrusted(run)
        ready = [partition for partition in run.rows if self.barrier.block_direct_sync(partition)]
        deferred = [partition for partition in run.rows if partition not in set(ready)]
        owners = [partition for partition in ready for _ in run.dirty[partition].files]
        files = [file for partition in ready for file in run.dirty[partition].files.values()]
        count = min(_SYNC_SHARES if run.urgent else 1, len(files))
        shares = [(owners[share::count], files[share::count]) for share in range(count)]
        syncs = [self._disk.sync_each(share_files) for _, share_files in shares]

        def synced(promises: Promise[list[Promise[SyncResults]]]) -> None:
            for (share_owners, share_files), results in zip(shares, promises.result(), strict=True):
                self._process_results(run, share_owners, share_files, results)
            for partition in ready:
                self.barrier.unblock_direct_sync(partition)
            self._sync_deferred(run, deferred)

        gather(syncs).then(synced)

    def _drop_untrusted(self, run: _CheckpointRun) -> None:
        for partition in list(run.rows):
            if not self.barrier.is_trusted(partition_key(partition)):
                del run.rows[partition]

    def _sync_deferred(self, run: _CheckpointRun, partitions: list[CommittedPartition]) -> None:
        """Sync the partitions that had a direct sync in flight, one by one, between two of those."""
        if not partitions:
            self._sync_folders(run)
            return
        partition = partitions.pop()

        def blocked() -> None:
            if partition in run.rows and not self.barrier.is_trusted(partition_key(partition)):
                del run.rows[partition]
            files = list(run.dirty[partition].files.values()) if partition in run.rows else []
            self._disk.sync_each(files).then(lambda results: synced(files, results))

        def synced(files: list[File], results: Promise[SyncResults]) -> None:
            self._process_results(run, [partition] * len(files), files, results)
            self.barrier.unblock_direct_sync(partition)
            self._sync_deferred(run, partitions)

        self.barrier.when_direct_sync_blocked(partition, blocked)

    def _process_results(
        self,
        run: _CheckpointRun,
        owners: Sequence[CommittedPartition],
        files: Sequence[File],
        results: Promise[SyncResults],
    ) -> None:
        for partition, file, error in zip(owners, files, results.result(), strict=True):
            if error is not None:
                self._failed(run, partition, error)
            elif file in self._sealed:
                self._sealed.discard(file)
                file.close()

    def _failed(self, run: _CheckpointRun, partition: CommittedPartition, error: BaseException) -> None:
        # Not in rows: it was deleted in the meantime, or another file of it has failed.
        if run.rows.pop(partition, None) is not None:
            self.barrier.segment_failed(partition, error)

    def _sync_folders(self, run: _CheckpointRun) -> None:
        new: list[tuple[CommittedPartition, list[File], list[str]]] = []
        for partition, dirty in run.dirty.items():
            files = list(dirty.files.values())
            if partition in run.rows and (names := self.folders_to_sync(partition, files)) and files:
                new.append((partition, files, names))
        folders = list(dict.fromkeys(name for _, _, names in new for name in names))
        count = min(_SYNC_SHARES, len(folders))
        shares = [folders[share::count] for share in range(count)]
        syncs = [self._disk.sync_each([], share) for share in shares]

        def synced(promises: Promise[list[Promise[SyncResults]]]) -> None:
            errors: dict[str, OSError | None] = {}
            for share, results in zip(shares, promises.result(), strict=True):
                errors |= zip(share, results.result(), strict=True)
            for partition, files, names in new:
                error = next((errors[name] for name in names if errors[name] is not None), None)
                if error is not None:
                    self._failed(run, partition, error)
                elif partition in run.rows:
                    self.mark_names_durable(partition, files)
            self._store(run)

        gather(syncs).then(synced)

    def _store(self, run: _CheckpointRun) -> None:
        rows = self.rows | {partition_key(partition): row for partition, row in run.rows.items()}
        first_seq = self.barrier.first_seq_needed(run.first_seq)
        assert first_seq <= run.first_seq, "fenced partitions can only keep older journal files alive"
        clean = run.is_final and first_seq == run.first_seq
        new = Checkpoint(self._last.number + 1, first_seq, run.next_group, clean, tuple(rows.values()))

        def stored(promise: Promise[None]) -> None:
            assert self._run is run, "one checkpoint is in progress at a time"
            self._run = None
            if promise.error is not None:
                self._not_stored(run, promise.error)
                return
            self._last = new
            for partition, row in run.rows.items():  # a partition that was forgotten is no longer in run.rows
                self.rows[partition_key(partition)] = row
            self.barrier.checkpoint_stored(run.first_seq)
            self._complete_forgotten(new)
            self._finish(run)

        checkpoint_files.store(self._disk, new).then(stored)

    def _not_stored(self, run: _CheckpointRun, error: BaseException) -> None:
        """The previous checkpoint still counts; try again after a while."""
        log.warning("the checkpoint could not be written: %s; next attempt in %g s", error, _RETRY_S)
        for partition, dirty in run.dirty.items():
            if partition in run.rows:
                dirty.files.update(self._dirty[partition].files if partition in self._dirty else {})
                self._dirty[partition] = dirty
        self._scheduled = self._is_needed = True  # so that nothing else starts one before the timer does
        self._clock.call_later(_RETRY_S, self._next)
        failed = OSError(f"checkpoint: {error}")
        for promise in run.requests:
            promise.fail(failed)

    def _finish(self, run: _CheckpointRun) -> None:
        for promise in run.requests:
            promise.resolve(None)
        if self._scheduled or self._requests:
            self._scheduled = True
            self._clock.call_soon(self._next)

    def _complete_forgotten(self, stored: Checkpoint) -> None:
        stored_keys = {(row.topic_id, row.index) for row in stored.rows}
        forgotten, self._forgotten = self._forgotten, []
        for key, promise in forgotten:
            if key in stored_keys or self.barrier.refers_to(key):
                self._forgotten.append((key, promise))
            else:
                promise.resolve(None)
        if any(key in stored_keys for key, _ in self._forgotten):
            self._scheduled = True


def _save_side_files(partition: CommittedPartition) -> None:
    try:
        partition.save_side_files()
    except OSError as error:  # not fatal: indexes and snapshot can be built again from the log
        log.warning(
            "the indexes of partition %s-%d could not be written; they can be rebuilt from the log: %s",
            *partition_key(partition), error,
        )  # fmt: skip
