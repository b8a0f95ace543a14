"""Checkpoints: making segments durable in the background, so that the journal may forget.

Owns: which segment files have bytes that only the journal (or nothing) keeps, when they are synced, the rows,
and the checkpoint file. Refuses: to hold up a commit. Called by `journal.py`, or by `commit_os.py` where
there is no journal.

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
from mainstem.log.commit.contract import Committed
from mainstem.log.config import LogConfig
from mainstem.log.disk.contract import Disk, File, Verdicts
from mainstem.promise import Later, gather

Key: TypeAlias = tuple[UUID, int]
_RETRY_S = 1.0
MANY_ROLLS = 1000
_MANY_THREADS = 8
_PARTITIONS_A_TURN = 8

log = logging.getLogger(__name__)


class Rowed(Committed, Protocol):
    """A partition, as a checkpoint sees it."""

    fenced: str | None
    deleted: bool

    def row(self) -> CheckpointRow:
        """Where it is committed to, now."""


class Gate(Protocol):
    """The journal, as a checkpoint sees it."""

    def when_quiet(self, begin: Callable[[int, int], None]) -> None:
        """Call `begin(first seq, next group)` once no group is under way, with all later groups in a new
        file."""

    def first_seq_needed(self, first_seq: int) -> int:
        """Seq of the oldest file that a fenced partition still needs; `first_seq` if there is none."""

    def begins(self) -> bool:
        """A checkpoint begins. True: hurry, half of the journal is in use."""

    def is_trusted(self, key: Key) -> bool:
        """No sync of one of its files failed, or all was written again since: a good sync means something."""

    def hold(self, partition: Rowed) -> bool:
        """Start no direct sync of it until `release`; False if one is under way. Of two syncs of one file at
        the same time only one is told of a failure: the other would be believed (R10)."""

    def when_free(self, partition: Rowed, call: Callable[[], None]) -> None:
        """Call it, with the partition held, as soon as it has no direct sync under way."""

    def release(self, partition: Rowed) -> None:
        """Direct syncs may start again."""

    def segment_failed(self, partition: Rowed, error: BaseException) -> None:
        """A sync of one of its files failed (R10)."""

    def checkpointed(self, first_seq: int) -> None:
        """The checkpoint that began with this seq is durable."""

    def refers_to(self, key: Key) -> bool:
        """A live file has records of this partition."""


def key_of(partition: Committed) -> Key:
    """What names a partition."""
    return partition.topic_id, partition.index


@dataclass(slots=True)
class _Touched:
    """What one partition wrote since the last checkpoint began."""

    files: dict[int, File] = field(default_factory=dict)
    """By base offset of the segment, oldest first."""


@dataclass(slots=True)
class _Run:
    """One checkpoint under way."""

    first_seq: int
    next_group: int
    touched: dict[Rowed, _Touched]
    rows: dict[Rowed, CheckpointRow]
    clean: bool
    waiting: list[Later[None]]
    hurry: bool


class Checkpointer:
    """One for all partitions."""

    def __init__(self, disk: Disk, clock: Clock, config: LogConfig) -> None:
        self._disk = disk
        self._clock = clock
        self._config = config
        self._last = Checkpoint(0, 1, 1, clean=False, rows=())
        self.rows: dict[Key, CheckpointRow] = {}
        """As in the last durable checkpoint."""
        self._linked: dict[Key, frozenset[File]] = {}
        """Newest files whose names are durable."""
        self._linked_at_start: dict[Key, str] = {}
        self._kept: frozenset[Key] = frozenset()
        self._touched: dict[Rowed, _Touched] = {}
        self._touched_bytes = 0
        self._sealed: set[File] = set()
        self._rolls = 0
        self._run: _Run | None = None
        self._waiting: list[Later[None]] = []
        self._wanted = False
        self._clean = False
        self._timer: Timer | None = None
        self._forgotten: list[tuple[Key, Later[None]]] = []
        self.gate: Gate

    def start(self, last: Checkpoint, rows: Mapping[Key, CheckpointRow], kept: Collection[Key]) -> None:
        """The log has recovered: this is the durable checkpoint, and its rows. Those in `kept` stay as they
        are: they tell the next start that these partitions are shorter than what was acknowledged."""
        self._last = last
        self._kept = frozenset(kept)
        self.rows = dict(rows)
        for key, row in rows.items():
            if row.position:
                self._linked[key] = frozenset()
                name = paths.segment_name(row.segment)
                self._linked_at_start[key] = f"{paths.partition_folder(*key)}/{name}"

    # What is to be done.

    def touch(self, partition: Rowed, wrote: Mapping[int, File], size: int) -> None:
        """`size` bytes were written to these files (by segment), or its row changed. A checkpoint is due
        within `checkpoint_interval_s`, or at once when much is."""
        touched = self._touched.get(partition)
        if partition.deleted:
            return
        if touched is None:
            touched = self._touched[partition] = _Touched()
        touched.files.update(wrote)
        self._touched_bytes += size
        if self._touched_bytes >= self._config.journal_file_bytes:
            self.want()
        elif self._timer is None and not self._wanted:
            self._timer = self._clock.call_later(self._config.checkpoint_interval_s, self._due)

    def sealed(self, file: File) -> None:
        """Nothing more is written to it: close it once it is synced. Until then it keeps its descriptor, so
        after many a checkpoint is due."""
        self._sealed.add(file)
        self._rolls += 1
        if self._rolls >= MANY_ROLLS:
            self.want()

    def ask(self) -> Later[None]:
        """A checkpoint that begins from now on; done when it is durable."""
        later: Later[None] = Later()
        self._waiting.append(later)
        self.want()
        return later

    def ask_clean(self) -> Later[None]:
        """The last one: nothing is written after it."""
        self._clean = True
        return self.ask()

    def forget(self, partition: Rowed) -> Later[None]:
        """The partition is deleted. Done when neither a row nor a live journal file is about it."""
        later: Later[None] = Later()
        touched = self._touched.pop(partition, None)
        if touched is not None:
            self._sealed.difference_update(touched.files.values())
        if self._run is not None:
            self._run.rows.pop(partition, None)
        key = key_of(partition)
        self.rows.pop(key, None)
        self._linked.pop(key, None)
        self._linked_at_start.pop(key, None)
        self._forgotten.append((key, later))
        self.want()
        return later

    def folders_of(self, partition: Committed, wrote: Iterable[File]) -> list[str]:
        """Folders to be synced before bytes in these files count as durable: none once their names are
        (R1)."""
        key = key_of(partition)
        linked = self._linked.get(key)
        if linked is None:
            return [paths.partition_folder(*key), paths.PARTITIONS]
        old = self._linked_at_start.get(key)
        if all(file in linked or file.path == old for file in wrote):
            return []
        return [paths.partition_folder(*key)]

    def linked(self, partition: Committed, wrote: Iterable[File]) -> None:
        """The folders are synced. Of files, not of their names: a segment that was rolled back is made
        again."""
        self._linked[key_of(partition)] = frozenset(wrote)

    def _due(self) -> None:
        self._timer = None
        self.want()

    def want(self) -> None:
        """A checkpoint, as soon as it may be."""
        if not self._wanted:
            self._wanted = True
            if self._run is None:
                self._clock.call_soon(self._next)

    def _next(self) -> None:
        if self._wanted and self._run is None:
            self.gate.when_quiet(self._begin)

    # One checkpoint.

    def _begin(self, first_seq: int, next_group: int) -> None:
        if self._run is not None or not self._wanted:
            return
        self._wanted = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        touched, self._touched, self._touched_bytes, self._rolls = self._touched, {}, 0, 0
        rows = {}
        for partition in touched:
            key = key_of(partition)
            if key not in self._kept and self.gate.is_trusted(key):
                rows[partition] = partition.row()
        waiting, self._waiting = self._waiting, []
        run = _Run(first_seq, next_group, touched, rows, self._clean, waiting, self.gate.begins())
        self._run = run
        # A closed partition has written all that already.
        self._write_disposables(run, [] if self._clean else list(rows))

    def _write_disposables(self, run: _Run, left: Sequence[Rowed]) -> None:
        """Indexes and snapshots, some partitions in each turn of the loop: making a file takes a while. They
        come after the rows, for they have to cover what lies before those."""
        for partition in left[:_PARTITIONS_A_TURN]:
            if partition.fenced is None and partition in run.rows:  # else: deleted meanwhile
                _write_disposable(partition)
        left = left[_PARTITIONS_A_TURN:]
        if left:
            self._clock.call_soon(lambda: self._write_disposables(run, left))
        else:
            self._sync_files(run)

    def _sync_files(self, run: _Run) -> None:
        for partition in [one for one in run.rows if not self.gate.is_trusted(key_of(one))]:
            del run.rows[partition]
        ready = [partition for partition in run.rows if self.gate.hold(partition)]
        deferred = [partition for partition in run.rows if partition not in set(ready)]
        owners = [partition for partition in ready for _ in run.touched[partition].files]
        targets = [file for partition in ready for file in run.touched[partition].files.values()]
        slices = _MANY_THREADS if run.hurry else 1
        shares = [(owners[at::slices], targets[at::slices]) for at in range(min(slices, len(targets)))]
        syncs = [self._disk.sync_each(share) for _, share in shares]

        def synced(laters: Later[list[Later[Verdicts]]]) -> None:
            for (share_owners, share_files), later in zip(shares, laters.result(), strict=True):
                self._judge(run, share_owners, share_files, later)
            for partition in ready:
                self.gate.release(partition)
            self._sync_deferred(run, deferred)

        gather(syncs).then(synced)

    def _sync_deferred(self, run: _Run, left: list[Rowed]) -> None:
        """Those that had a direct sync under way, one by one, between two of those."""
        if not left:
            self._sync_folders(run)
            return
        partition = left.pop()

        def held() -> None:
            if partition in run.rows and not self.gate.is_trusted(key_of(partition)):
                del run.rows[partition]
            wrote = list(run.touched[partition].files.values()) if partition in run.rows else []
            self._disk.sync_each(wrote).then(lambda later: synced(wrote, later))

        def synced(wrote: list[File], later: Later[Verdicts]) -> None:
            self._judge(run, [partition] * len(wrote), wrote, later)
            self.gate.release(partition)
            self._sync_deferred(run, left)

        self.gate.when_free(partition, held)

    def _judge(
        self, run: _Run, owners: Sequence[Rowed], share: Sequence[File], later: Later[Verdicts]
    ) -> None:
        verdicts = later.result()
        for partition, file, error in zip(owners, share, verdicts, strict=True):
            if error is not None:
                self._failed(run, partition, error)
            elif file in self._sealed:
                self._sealed.discard(file)
                file.close()

    def _failed(self, run: _Run, partition: Rowed, error: BaseException) -> None:
        if run.rows.pop(partition, None) is not None:  # else: deleted meanwhile, or another file of it failed
            self.gate.segment_failed(partition, error)

    def _sync_folders(self, run: _Run) -> None:
        new: list[tuple[Rowed, list[File], list[str]]] = []
        for partition, one in run.touched.items():
            wrote = list(one.files.values())
            if partition in run.rows and (names := self.folders_of(partition, wrote)) and wrote:
                new.append((partition, wrote, names))
        folders = list(dict.fromkeys(name for _, _, names in new for name in names))
        shares = [folders[at::_MANY_THREADS] for at in range(min(_MANY_THREADS, len(folders)))]
        syncs = [self._disk.sync_each([], share) for share in shares]

        def synced(laters: Later[list[Later[Verdicts]]]) -> None:
            verdicts: dict[str, OSError | None] = {}
            for share, later in zip(shares, laters.result(), strict=True):
                verdicts |= zip(share, later.result(), strict=True)
            for partition, wrote, names in new:
                error = next((verdicts[name] for name in names if verdicts[name] is not None), None)
                if error is not None:
                    self._failed(run, partition, error)
                elif partition in run.rows:
                    self.linked(partition, wrote)
            self._store(run)

        gather(syncs).then(synced)

    def _store(self, run: _Run) -> None:
        rows = self.rows | {key_of(partition): row for partition, row in run.rows.items()}
        first_seq = self.gate.first_seq_needed(run.first_seq)
        clean = run.clean and first_seq == run.first_seq
        new = Checkpoint(self._last.number + 1, first_seq, run.next_group, clean, tuple(rows.values()))

        def stored(later: Later[None]) -> None:
            self._run = None
            if later.error is not None:
                self._not_stored(run, later.error)
                return
            self._last = new
            for partition, row in run.rows.items():  # what was forgotten meanwhile is no longer in run.rows
                self.rows[key_of(partition)] = row
            self.gate.checkpointed(run.first_seq)
            self._settle_forgotten(new)
            self._end(run)

        files.store(self._disk, new).then(stored)

    def _not_stored(self, run: _Run, error: BaseException) -> None:
        """The checkpoint before still counts; try again in a while."""
        log.warning("the checkpoint could not be written: %s; it is tried again in %g s", error, _RETRY_S)
        for partition, one in run.touched.items():
            if partition in run.rows:
                one.files.update(self._touched[partition].files if partition in self._touched else {})
                self._touched[partition] = one
        self._wanted = True  # so that nothing else starts one before the timer does
        self._clock.call_later(_RETRY_S, self._next)
        failed = OSError(f"checkpoint: {error}")
        for later in run.waiting:
            later.fail(failed)

    def _end(self, run: _Run) -> None:
        for later in run.waiting:
            later.resolve(None)
        if self._wanted or self._waiting:
            self._wanted = True
            self._clock.call_soon(self._next)

    def _settle_forgotten(self, stored: Checkpoint) -> None:
        names = {(row.topic_id, row.index) for row in stored.rows}
        left, self._forgotten = self._forgotten, []
        for key, later in left:
            if key in names or self.gate.refers_to(key):
                self._forgotten.append((key, later))
            else:
                later.resolve(None)
        if any(key in names for key, _ in self._forgotten):
            self._wanted = True


def _write_disposable(partition: Rowed) -> None:
    try:
        partition.checkpointed()
    except OSError as error:  # indexes and snapshot can be made anew from the log
        log.warning("indexes of %s-%d could not be written: %s", *key_of(partition), error)
