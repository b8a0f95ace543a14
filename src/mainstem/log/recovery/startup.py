"""The start of a log: from a data folder in any state to partitions that are whole and durable.

Owns: the order of recovery (FORMAT.md, part "Recover"): lock, meta.properties, checkpoint, journal; then the
state logs; then, once the caller knows which topics live, all others; then a sync and a new checkpoint.
Refuses: to let anything be served before that. `partition_recovery.py` recovers a single partition.
"""

from __future__ import annotations

import errno
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Literal
from uuid import UUID

from mainstem.log import paths
from mainstem.log.commit import checkpoint as checkpoints
from mainstem.log.commit import journal_reader
from mainstem.log.commit.checkpoint import Checkpoint, CheckpointRow
from mainstem.log.commit.contract import PartitionKey
from mainstem.log.config import LogConfig
from mainstem.log.disk.contract import Disk
from mainstem.log.errors import LogFolderError, LogFolderLocked
from mainstem.log.partition.recovered_state import RecoveredState
from mainstem.log.recovery import meta
from mainstem.log.recovery.partition_recovery import recover_partition
from mainstem.log.recovery.recovered_partition import RecoveredPartition
from mainstem.log.recovery.report import RecoveryReport

STATE_LOGS: tuple[PartitionKey, ...] = tuple((topic_id, 0) for topic_id in paths.STATE_FOLDERS)
"""The partitions that are recovered first: the coordinator's state is in them."""


class Startup:
    """One start of a log: construct it, then call `recover_state_logs`, `recover_partitions` and `finish`, in
    this order. Everything blocks."""

    def __init__(self, disk: Disk, rng: random.Random, config: LogConfig, wall_ms: int) -> None:
        """LogFolderError: the folder cannot be used; LogFolderLocked: another server uses it."""
        self._disk = disk
        self._config = config
        try:
            disk.make_folder("")
            disk.lock(paths.LOCK)
            if disk.exists(paths.BALLAST) and disk.free_bytes() < paths.BALLAST_BYTES:
                disk.unlink(paths.BALLAST)
            self.meta = meta.upgrade(disk, meta.load(disk, rng))
            self._make_folders()
            newest = checkpoints.load(disk)
            damaged = checkpoints.damaged_files(disk)
            self.checkpoint = newest or Checkpoint(0, 1, 1, clean=True, rows=())
            self._detect_copy(wall_ms)
            self._journal = journal_reader.read_journal(
                disk,
                self.meta.folder_id,
                self.checkpoint.first_seq,
                self.checkpoint.next_group,
                is_newest=newest is not None and not damaged,
            )
        except BlockingIOError:
            raise LogFolderLocked("another server uses the data folder") from None
        except OSError as error:
            raise _unusable(error) from error
        self._rows = {(row.topic_id, row.index): row for row in self.checkpoint.rows}
        has_data = any(paths.parse_partition(name) for name in disk.list(paths.PARTITIONS))
        self._complete = not damaged and (newest is not None or not has_data)
        """True: the newest checkpoint is known, so a partition without a row was made after it."""
        self.clean = (
            self.checkpoint.clean and not self._journal.live_paths and (newest is not None or not has_data)
        )
        """True: the last stop was clean."""
        # With durability os, a power cut leaves holes after the end that a checkpoint knows: none may stay.
        # Where both checkpoints are gone, damage is the likelier reason for a hole, and nothing is cut.
        is_os = config.durability == "os" and newest is not None
        is_known = self._complete and not self._journal.notes
        self._end_is_known = is_known or self._journal.is_complete or is_os
        is_new = newest is None and not has_data
        self.report = RecoveryReport(self.clean, is_new, self._is_copy)
        if self._is_copy:
            self.report.notes.append(
                "the data folder is a copy of another: leader epochs continue from"
                f" {self.meta.epoch_floor}, so that clients notice the events it lacks"
            )
        self.report.journal_damage = len(self._journal.notes)
        self.report.notes += [
            f"{note}: events of the last moments before the stop may be lost; run `mainstem doctor`"
            for note in self._journal.notes
        ]
        self.report.notes += [f"{name} is damaged" for name in damaged]
        if newest is None and has_data:
            self.report.notes.append(
                "no checkpoint can be read: every partition is scanned from its beginning"
            )
        self._unsynced: dict[PartitionKey, RecoveredPartition] = {}
        self._unsynced_names = 0
        """Number of files and folders in `_unsynced`."""
        self._new_rows: dict[PartitionKey, CheckpointRow] = {}
        self._states: dict[PartitionKey, RecoveredState] = {}

    def _detect_copy(self, wall_ms: int) -> None:
        self._is_copy = meta.is_copy(self._disk, self.meta)
        if self._is_copy:
            epoch = max((row.epoch for row in self.checkpoint.rows), default=0)
            self.meta = meta.begin_copy(self._disk, self.meta, epoch, wall_ms)
        elif not self.meta.lock:
            self.meta = meta.adopt(self._disk, self.meta)

    def _make_folders(self) -> None:
        missing = [name for name in (paths.JOURNAL, paths.PARTITIONS) if not self._disk.exists(name)]
        for name in missing:
            self._disk.make_folder(name)
        if missing:
            self._disk.sync_now([], [""])
        for name in self._disk.list(paths.JOURNAL):
            if name.endswith(".tmp"):
                self._disk.unlink(f"{paths.JOURNAL}/{name}")

    def recover_state_logs(self) -> dict[PartitionKey, RecoveredState]:
        """Recover the state logs. One that the folder does not have yet is empty; its first append makes its
        folder. LogFolderError."""
        for key in STATE_LOGS:
            self._recover(key)
        self._sync()
        return {key: self._states.pop(key) for key in STATE_LOGS}

    def recover_partitions(
        self, status: Callable[[UUID], Literal["live", "deleted", "unknown"]]
    ) -> dict[PartitionKey, RecoveredState]:
        """Recover the other partitions. `status` returns what the state log says of a topic id. Partitions of
        live topics are returned, those of deleted topics are removed, and those that no topic has are moved
        to `quarantine/`. LogFolderError."""
        names = [paths.parse_partition(name) for name in self._disk.list(paths.PARTITIONS)]
        keys = {name[:2] for name in names if name is not None and not name[2]}
        deleted_keys = {name[:2] for name in names if name is not None and name[2]}
        try:
            for key in sorted(keys | set(self._rows) | set(self._journal.records)):
                if key in STATE_LOGS:
                    continue
                if status(key[0]) == "live":
                    self._recover(key)
                elif status(key[0]) == "unknown":
                    if key in keys or not self._was_purged(key):
                        self._quarantine(key)
                elif key in keys:
                    self._remove(key, "")
            for key in sorted(deleted_keys):
                if status(key[0]) == "deleted":
                    self._remove(key, paths.DELETED_SUFFIX)
            self._sync()
        except OSError as error:
            raise _unusable(error) from error
        return self._states

    def _remove(self, key: PartitionKey, suffix: str) -> None:
        self._disk.remove_folder(paths.partition_folder(*key) + suffix)
        self.report.removed.append(key)

    def _was_purged(self, key: PartitionKey) -> bool:
        """Whether nothing of the partition, which has no folder, is left but journal records from before the
        newest checkpoint, without a row in it: its topic was deleted, and the tombstone dropped. Their files
        are free, but they are read if the checkpoint needs an older one for a fenced partition (R10)."""
        return self._complete and key not in self._rows and key not in self._journal.keys_after

    def _quarantine(self, key: PartitionKey) -> None:
        folder = paths.partition_folder(*key)
        self._recover(key)
        self._sync()  # before the folder gets another name
        del self._new_rows[key], self._states[key]
        if self._disk.exists(folder):
            self._disk.make_folder(paths.QUARANTINE)
            target = f"{paths.QUARANTINE}/{paths.partition_name(*key)}"
            number = 0
            while self._disk.exists(target + (f".{number}" if number else "")):
                number += 1
            target += f".{number}" if number else ""
            self._disk.rename(folder, target)
            self.report.quarantined.append(key)
            self.report.notes.append(f"{folder}: no topic has this id; put aside as {target}")

    def _recover(self, key: PartitionKey) -> None:
        """Recover one partition. Only `_sync` makes the result durable and adds it to the report."""
        records, payload = self._journal.records_of(key)
        try:
            recovered = recover_partition(
                self._disk,
                *key,
                self._rows.get(key),
                records,
                payload,
                clean=self.clean,
                complete=self._complete,
                end_is_known=self._end_is_known,
                durability=self._config.durability,
            )
        except OSError as error:
            recovered = self._fenced_by_disk(key, error)
        self._unsynced[key] = recovered
        self._unsynced_names += len(recovered.files) + (recovered.folder is not None)
        if self._unsynced_names >= self._disk.max_unsynced_files:
            self._sync()

    def _sync(self) -> None:
        """Sync everything recovered so far, many partitions at once: a thousand one after the other take some
        disks several seconds."""
        unsynced, self._unsynced, self._unsynced_names = self._unsynced, {}, 0
        files = [(key, file) for key, recovered in unsynced.items() for file in recovered.files]
        folders = [
            (key, recovered.folder) for key, recovered in unsynced.items() if recovered.folder is not None
        ]
        try:
            results = self._disk.sync_each_now([file for _, file in files], [name for _, name in folders])
        except OSError as error:
            raise _unusable(error) from error
        for (key, _), failure in zip([*files, *folders], results, strict=True):
            if failure is not None:
                unsynced[key] = self._fenced_by_disk(key, failure)
        for _, file in files:
            file.close()
        for key, recovered in unsynced.items():
            self._add(key, recovered)

    def _fenced_by_disk(self, key: PartitionKey, error: OSError) -> RecoveredPartition:
        """The result of a partition whose files the disk cannot read or write: read-only. LogFolderError if
        the journal has records of it: they hold events, or a log start or an epoch without which deleted or
        rolled-back events would be there again, and the journal will be written over."""
        row, (records, _) = self._rows.get(key), self._journal.records_of(key)
        if error.errno != errno.EIO or row is None or records:
            raise _unusable(error) from error
        folder = paths.partition_folder(row.topic_id, row.index)
        reason = f"the disk fails: {error}"
        state = RecoveredState(
            segments=(row.segment,),
            epoch=row.epoch,
            log_start=row.log_start,
            end_offset=row.end_offset,
            end_position=row.position,
            clean=False,
            replayed_segment=row.segment,
            fence_reason=reason,
        )
        return RecoveredPartition(state, row, notes=[f"{folder}: read-only: {reason}"])

    def _add(self, key: PartitionKey, recovered: RecoveredPartition) -> None:
        """Add a partition that is durable to the report and to the next checkpoint."""
        floor = self.meta.epoch_floor
        # The row of a read-only partition is kept, and may have another epoch than what is there.
        if recovered.checkpoint_row.epoch < floor:
            recovered.checkpoint_row = replace(recovered.checkpoint_row, epoch=floor)
        if recovered.state.epoch < floor:
            recovered.state = replace(recovered.state, epoch=floor)
        assert recovered.state.epoch >= floor, "no partition has an epoch below the folder's floor"
        self.report.add(recovered)
        self._new_rows[key] = recovered.checkpoint_row
        self._states[key] = recovered.state

    def finish(self) -> tuple[Checkpoint, dict[PartitionKey, CheckpointRow], int, int]:
        """Make the recovery durable: (the new checkpoint, its rows, the journal's next seq, its next group).
        The log may serve only after that (R6). LogFolderError."""
        assert not self._unsynced, "a checkpoint is stored after everything that it promises is synced"
        seq, group = self._journal.next_seq, self._journal.next_group
        assert seq >= self.checkpoint.first_seq, "the journal's seq never falls"
        new = Checkpoint(self.checkpoint.number + 1, seq, group, False, tuple(self._new_rows.values()))
        try:
            self._disk.sync_now([], [paths.JOURNAL])  # the name of a new file may not be durable yet
            if not self.clean:
                folders = [paths.PARTITIONS, ""]
                if self._disk.exists(paths.QUARANTINE):
                    folders.append(paths.QUARANTINE)
                self._disk.sync_now([], folders)
            checkpoints.store_now(self._disk, new)
        except OSError as error:
            raise _unusable(error) from error
        return new, self._new_rows, seq, group


def _unusable(error: OSError) -> LogFolderError:
    where = f" ({error.filename})" if error.filename else ""
    return LogFolderError(f"the data folder cannot be used: {error.strerror or error}{where}")
