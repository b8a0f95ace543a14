"""Checkpoints: making segments durable in the background, so that the journal may forget.

Owns: which segment files have bytes that only the journal (or nothing) keeps, when they are synced, the rows,
and the checkpoint file. Refuses: to hold up a commit. Called by `journal.py`, or by
`page_cache_commit.py` where there is no journal.

Rule numbers are those of FORMAT.md. A journal file is free again only after all segments that it names were
synced without error, new names too, and a checkpoint that does not need it is durable (R3).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias
from uuid import UUID

from mainstem.clock import Clock, Timer
from mainstem.log import paths
from mainstem.log.commit import checkpoint as files
from mainstem.log.commit.checkpoint import Checkpoint, CheckpointRow
from mainstem.log.commit.contract import CommittedPartition
from mainstem.log.config import LogConfig
from mainstem.log.disk.contract import Disk, File, SyncResults
from mainstem.promise import Promise, gather

PartitionKey: TypeAlias = tuple[UUID, int]
_RETRY_S = 1.0
ROLLS_PER_CHECKPOINT_MAX = 1000
_SYNC_SHARES = 8
_PARTITIONS_PER_TURN = 8

log = logging.getLogger(__name__)


class CheckpointedPartition(CommittedPartition, Protocol):
    """A partition, as a checkpoint sees it."""

    fenced: str | None

    @property
    def deleted(self) -> bool:
        """Its topic was deleted."""

    def checkpoint_row(self) -> CheckpointRow:
        """Where it is committed to, now."""


class CommitBarrier(Protocol):
    """The journal, as a checkpoint sees it."""

    def when_idle(self, begin: Callable[[int, int], None]) -> None:
        """Call `begin(first seq, next group)` once no group is under way, with all later groups in a new
        file."""

    def first_seq_needed(self, first_seq: int) -> int:
        """Seq of the oldest file that a fenced partition still needs; `first_seq` if there is none."""

    def checkpoint_begins(self) -> bool:
        """A checkpoint begins. True: hurry, half of the journal is in use."""

    def is_trusted(self, key: PartitionKey) -> bool:
        """No sync of one of its files failed, or all was written again since: a good sync means something."""

    def block_direct_sync(self, partition: CheckpointedPartition) -> bool:
        """Start no direct sync of it until `release`; False if one is under way. Of two syncs of one file at
        the same time only one is told of a failure: the other would be believed (R10)."""

    def when_direct_sync_blocked(self, partition: CheckpointedPartition, call: Callable[[], None]) -> None:
        """Call it, with the partition held, as soon as it has no direct sync under way."""

    def unblock_direct_sync(self, partition: CheckpointedPartition) -> None:
        """Direct syncs may start again."""

    def segment_failed(self, partition: CheckpointedPartition, error: BaseException) -> None:
        """A sync of one of its files failed (R10)."""

    def checkpoint_stored(self, first_seq: int) -> None:
        """The checkpoint that began with this seq is durable."""

    def refers_to(self, key: PartitionKey) -> bool:
        """A live file has records of this partition."""


def partition_key(partition: CommittedPartition) -> PartitionKey:
    """What names a partition."""
    return partition.topic_id, partition.index


@dataclass(slots=True)
class _DirtyFiles:
    """What one partition wrote since the last checkpoint began."""

    files: dict[int, File] = field(default_factory=dict)
    """By base offset of the segment, oldest first."""


@dataclass(slots=True)
class _CheckpointRun:
    """One checkpoint under way."""

    first_seq: int
    next_group: int
    dirty: dict[CheckpointedPartition, _DirtyFiles]
    rows: dict[CheckpointedPartition, CheckpointRow]
    clean: bool
    waiting: list[Promise[None]]
    urgent: bool


class Checkpointer:
    """One for all partitions."""

    def __init__(self, disk: Disk, clock: Clock, config: LogConfig) -> None:
        self._disk = disk
        self._clock = clock
        self._config = config
        self._last = Checkpoint(0, 1, 1, clean=False, rows=())
        self.rows: dict[PartitionKey, CheckpointRow] = {}
        """As in the last durable checkpoint."""
        self._durable_names: dict[PartitionKey, frozenset[File]] = {}
        """Newest files whose names are durable."""
        self._durable_names_at_start: dict[PartitionKey, str] = {}
        self._frozen_keys: frozenset[PartitionKey] = frozenset()
        self._dirty: dict[CheckpointedPartition, _DirtyFiles] = {}
        self._dirty_bytes = 0
        self._sealed: set[File] = set()
        self._rolls = 0
        self._run: _CheckpointRun | None = None
        self._requests: list[Promise[None]] = []
        self._scheduled = False
        self._is_final = False
        self._timer: Timer | None = None
        self._forgotten: list[tuple[PartitionKey, Promise[None]]] = []
        self.barrier: CommitBarrier

    def start(
        self, last: Checkpoint, rows: Mapping[PartitionKey, CheckpointRow], kept: Collection[PartitionKey]
    ) -> None:
        """The log has recovered: this is the durable checkpoint, and its rows. Those in `kept` stay as they
        are: they tell the next start that these partitions are shorter than what was acknowledged."""
        self._last = last
        self._frozen_keys = frozenset(kept)
        self.rows = dict(rows)
        for key, row in rows.items():
            if row.position:
                self._durable_names[key] = frozenset()
                name = paths.segment_name(row.segment)
                self._durable_names_at_start[key] = f"{paths.partition_folder(*key)}/{name}"

    # What is to be done.

    def mark_dirty(self, partition: CheckpointedPartition, wrote: Mapping[int, File], size: int) -> None:
        """`size` bytes were written to these files (by segment), or its row changed. A checkpoint is due
        within `checkpoint_interval_s`, or at once when much is."""
        touched = self._dirty.get(partition)
        if partition.deleted:
            return
        if touched is None:
            touched = self._dirty[partition] = _DirtyFiles()
        touched.files.update(wrote)
        self._dirty_bytes += size
        if self._dirty_bytes >= self._config.journal_file_bytes:
            self.schedule()
        elif self._timer is None and not self._scheduled:
            self._timer = self._clock.call_later(self._config.checkpoint_interval_s, self._due)

    def close_after_sync(self, file: File) -> None:
        """Nothing more is written to it: close it once it is synced. Until then it keeps its descriptor, so
        after many a checkpoint is due."""
        self._sealed.add(file)
        self._rolls += 1
        if self._rolls >= ROLLS_PER_CHECKPOINT_MAX:
            self.schedule()

    def request(self) -> Promise[None]:
        """A checkpoint that begins from now on; done when it is durable."""
        later: Promise[None] = Promise()
        self._requests.append(later)
        self.schedule()
        return later

    def request_final(self) -> Promise[None]:
        """The last one: nothing is written after it."""
        self._is_final = True
        return self.request()

    def forget_partition(self, partition: CheckpointedPartition) -> Promise[None]:
        """The partition is deleted. Done when neither a row nor a live journal file is about it."""
        later: Promise[None] = Promise()
        touched = self._dirty.pop(partition, None)
        if touched is not None:
            self._sealed.difference_update(touched.files.values())
        if self._run is not None:
            self._run.rows.pop(partition, None)
        key = partition_key(partition)
        self.rows.pop(key, None)
        self._durable_names.pop(key, None)
        self._durable_names_at_start.pop(key, None)
        self._forgotten.append((key, later))
        self.schedule()
        return later

    def folders_to_sync(self, partition: CommittedPartition, wrote: Iterable[File]) -> list[str]:
        """Folders to be synced before bytes in these files count as durable: none once their names are
        (R1)."""
        key = partition_key(partition)
        linked = self._durable_names.get(key)
        if linked is None:
            return [paths.partition_folder(*key), paths.PARTITIONS]
        old = self._durable_names_at_start.get(key)
        if all(file in linked or file.path == old for file in wrote):
            return []
        return [paths.partition_folder(*key)]

    def mark_names_durable(self, partition: CommittedPartition, wrote: Iterable[File]) -> None:
        """The folders are synced. Of files, not of their names: a segment that was rolled back is made
        again."""
        self._durable_names[partition_key(partition)] = frozenset(wrote)

    def _due(self) -> None:
        self._timer = None
        self.schedule()

    def schedule(self) -> None:
        """A checkpoint, as soon as it may be."""
        if not self._scheduled:
            self._scheduled = True
            if self._run is None:
                self._clock.call_soon(self._next)

    def _next(self) -> None:
        if self._scheduled and self._run is None:
            self.barrier.when_idle(self._begin)

    # One checkpoint.

    def _begin(self, first_seq: int, next_group: int) -> None:
        if self._run is not None or not self._scheduled:
            return
        self._scheduled = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        touched, self._dirty, self._dirty_bytes, self._rolls = self._dirty, {}, 0, 0
        rows = {}
        for partition in touched:
            key = partition_key(partition)
            if key not in self._frozen_keys and self.barrier.is_trusted(key):
                rows[partition] = partition.checkpoint_row()
        waiting, self._requests = self._requests, []
        run = _CheckpointRun(
            first_seq, next_group, touched, rows, self._is_final, waiting, self.barrier.checkpoint_begins()
        )
        self._run = run
        # A closed partition has written all that already.
        self._save_side_files(run, [] if self._is_final else list(rows))

    def _save_side_files(self, run: _CheckpointRun, left: Sequence[CheckpointedPartition]) -> None:
        """Indexes and snapshots, some partitions in each turn of the loop: making a file takes a while. They
        come after the rows, for they have to cover what lies before those."""
        for partition in left[:_PARTITIONS_PER_TURN]:
            if partition.fenced is None and partition in run.rows:  # else: deleted meanwhile
                _save_side_files(partition)
        left = left[_PARTITIONS_PER_TURN:]
        if left:
            self._clock.call_soon(lambda: self._save_side_files(run, left))
        else:
            self._sync_files(run)

    def _sync_files(self, run: _CheckpointRun) -> None:
        for partition in [one for one in run.rows if not self.barrier.is_trusted(partition_key(one))]:
            del run.rows[partition]
        ready = [partition for partition in run.rows if self.barrier.block_direct_sync(partition)]
        deferred = [partition for partition in run.rows if partition not in set(ready)]
        owners = [partition for partition in ready for _ in run.dirty[partition].files]
        targets = [file for partition in ready for file in run.dirty[partition].files.values()]
        slices = _SYNC_SHARES if run.urgent else 1
        shares = [(owners[at::slices], targets[at::slices]) for at in range(min(slices, len(targets)))]
        syncs = [self._disk.sync_each(share) for _, share in shares]

        def synced(laters: Promise[list[Promise[SyncResults]]]) -> None:
            for (share_owners, share_files), later in zip(shares, laters.result(), strict=True):
                self._process_results(run, share_owners, share_files, later)
            for partition in ready:
                self.barrier.unblock_direct_sync(partition)
            self._sync_deferred(run, deferred)

        gather(syncs).then(synced)

    def _sync_deferred(self, run: _CheckpointRun, left: list[CheckpointedPartition]) -> None:
        """Those that had a direct sync under way, one by one, between two of those."""
        if not left:
            self._sync_folders(run)
            return
        partition = left.pop()

        def held() -> None:
            if partition in run.rows and not self.barrier.is_trusted(partition_key(partition)):
                del run.rows[partition]
            wrote = list(run.dirty[partition].files.values()) if partition in run.rows else []
            self._disk.sync_each(wrote).then(lambda later: synced(wrote, later))

        def synced(wrote: list[File], later: Promise[SyncResults]) -> None:
            self._process_results(run, [partition] * len(wrote), wrote, later)
            self.barrier.unblock_direct_sync(partition)
            self._sync_deferred(run, left)

        self.barrier.when_direct_sync_blocked(partition, held)

    def _process_results(
        self,
        run: _CheckpointRun,
        owners: Sequence[CheckpointedPartition],
        share: Sequence[File],
        later: Promise[SyncResults],
    ) -> None:
        verdicts = later.result()
        for partition, file, error in zip(owners, share, verdicts, strict=True):
            if error is not None:
                self._failed(run, partition, error)
            elif file in self._sealed:
                self._sealed.discard(file)
                file.close()

    def _failed(self, run: _CheckpointRun, partition: CheckpointedPartition, error: BaseException) -> None:
        if run.rows.pop(partition, None) is not None:  # else: deleted meanwhile, or another file of it failed
            self.barrier.segment_failed(partition, error)

    def _sync_folders(self, run: _CheckpointRun) -> None:
        new: list[tuple[CheckpointedPartition, list[File], list[str]]] = []
        for partition, one in run.dirty.items():
            wrote = list(one.files.values())
            if partition in run.rows and (names := self.folders_to_sync(partition, wrote)) and wrote:
                new.append((partition, wrote, names))
        folders = list(dict.fromkeys(name for _, _, names in new for name in names))
        shares = [folders[at::_SYNC_SHARES] for at in range(min(_SYNC_SHARES, len(folders)))]
        syncs = [self._disk.sync_each([], share) for share in shares]

        def synced(laters: Promise[list[Promise[SyncResults]]]) -> None:
            verdicts: dict[str, OSError | None] = {}
            for share, later in zip(shares, laters.result(), strict=True):
                verdicts |= zip(share, later.result(), strict=True)
            for partition, wrote, names in new:
                error = next((verdicts[name] for name in names if verdicts[name] is not None), None)
                if error is not None:
                    self._failed(run, partition, error)
                elif partition in run.rows:
                    self.mark_names_durable(partition, wrote)
            self._store(run)

        gather(syncs).then(synced)

    def _store(self, run: _CheckpointRun) -> None:
        rows = self.rows | {partition_key(partition): row for partition, row in run.rows.items()}
        first_seq = self.barrier.first_seq_needed(run.first_seq)
        clean = run.clean and first_seq == run.first_seq
        new = Checkpoint(self._last.number + 1, first_seq, run.next_group, clean, tuple(rows.values()))

        def stored(later: Promise[None]) -> None:
            self._run = None
            if later.error is not None:
                self._not_stored(run, later.error)
                return
            self._last = new
            for partition, row in run.rows.items():  # what was forgotten meanwhile is no longer in run.rows
                self.rows[partition_key(partition)] = row
            self.barrier.checkpoint_stored(run.first_seq)
            self._complete_forgotten(new)
            self._end(run)

        files.store(self._disk, new).then(stored)

    def _not_stored(self, run: _CheckpointRun, error: BaseException) -> None:
        """The checkpoint before still counts; try again in a while."""
        log.warning("the checkpoint could not be written: %s; it is tried again in %g s", error, _RETRY_S)
        for partition, one in run.dirty.items():
            if partition in run.rows:
                one.files.update(self._dirty[partition].files if partition in self._dirty else {})
                self._dirty[partition] = one
        self._scheduled = True  # so that nothing else starts one before the timer does
        self._clock.call_later(_RETRY_S, self._next)
        failed = OSError(f"checkpoint: {error}")
        for later in run.waiting:
            later.fail(failed)

    def _end(self, run: _CheckpointRun) -> None:
        for later in run.waiting:
            later.resolve(None)
        if self._scheduled or self._requests:
            self._scheduled = True
            self._clock.call_soon(self._next)

    def _complete_forgotten(self, stored: Checkpoint) -> None:
        names = {(row.topic_id, row.index) for row in stored.rows}
        left, self._forgotten = self._forgotten, []
        for key, later in left:
            if key in names or self.barrier.refers_to(key):
                self._forgotten.append((key, later))
            else:
                later.resolve(None)
        if any(key in names for key, _ in self._forgotten):
            self._scheduled = True


def _save_side_files(partition: CheckpointedPartition) -> None:
    try:
        partition.save_side_files()
    except OSError as error:  # indexes and snapshot can be made anew from the log
        log.warning("indexes of %s-%d could not be written: %s", *partition_key(partition), error)
