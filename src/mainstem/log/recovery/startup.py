"""Starting: from a data folder to partitions that are whole and durable.

Owns: the order of it (FORMAT.md, part "Recover"): lock, meta.properties, checkpoint, journal; then the state
partition; then, told which topics live, all others; then one sync and a new checkpoint. Refuses: to serve
before that. Called by `log.py`; `recovery.py` does the single partition.
"""

from __future__ import annotations

import errno
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Literal
from uuid import UUID

from mainstem.log import paths
from mainstem.log.commit import checkpoint as files
from mainstem.log.commit import journal_reader
from mainstem.log.commit.checkpoint import Checkpoint, CheckpointRow
from mainstem.log.commit.contract import PartitionKey
from mainstem.log.config import LogConfig
from mainstem.log.disk.contract import Disk
from mainstem.log.errors import LogFolderError, LogFolderLocked
from mainstem.log.partition.recovered_state import RecoveredState
from mainstem.log.recovery import meta
from mainstem.log.recovery.partition_recovery import RecoveredPartition, recover_partition
from mainstem.log.recovery.report import RecoveryReport

STATE: PartitionKey = (paths.STATE_TOPIC, 0)


class Startup:
    """One start. Made, then `state`, then `others`, then `finish`. All of it blocks."""

    def __init__(self, disk: Disk, rng: random.Random, config: LogConfig, wall_ms: int) -> None:
        """LogFolderError: the folder cannot be used; LogFolderLocked: another server uses it."""
        self._disk = disk
        self._config = config
        try:
            disk.make_folder("")
            disk.lock(paths.LOCK)
            self.meta = meta.upgrade(disk, meta.load(disk, rng))
            self._make_folders()
            last = files.load(disk)
            damaged = files.damaged_files(disk)
            self.checkpoint = last or Checkpoint(0, 1, 1, clean=True, rows=())
            self._notice_copy(wall_ms)
            self._image = journal_reader.read_journal(
                disk, self.meta.folder_id, self.checkpoint.first_seq, self.checkpoint.next_group
            )
        except BlockingIOError:
            raise LogFolderLocked("another server uses the data folder") from None
        except OSError as error:
            raise _unusable(error) from error
        self._rows = {(row.topic_id, row.index): row for row in self.checkpoint.rows}
        found = any(paths.parse_partition(name) for name in disk.list(paths.PARTITIONS))
        self.clean = self.checkpoint.clean and not self._image.live_paths and (last is not None or not found)
        self.report = RecoveryReport(self.clean, last is None and not found, self.copied)
        if self.copied:
            self.report.notes.append(
                "the data folder is a copy of another: leader epochs go on from"
                f" {self.meta.epoch_floor}, so that clients notice"
            )
        self.report.notes += self._image.notes
        self._complete = not damaged and (last is not None or not found)
        # Durability os: behind the end that a checkpoint knows a power cut leaves holes, and none may stay.
        self._end_is_known = self._complete or self._image.is_complete or config.durability == "os"
        self.report.notes += [f"{name} is damaged" for name in damaged]
        if last is None and found:
            self.report.notes.append(
                "no checkpoint can be read: every partition is scanned from its beginning"
            )
        self._unsynced: dict[PartitionKey, RecoveredPartition] = {}
        self._unsynced_names = 0
        self._new_rows: dict[PartitionKey, CheckpointRow] = {}
        self._states: dict[PartitionKey, RecoveredState] = {}

    def _notice_copy(self, wall_ms: int) -> None:
        self.copied = meta.is_copy(self._disk, self.meta)
        if self.copied:
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

    def recover_state(self) -> RecoveredState:
        """Bring the state partition back."""
        self._recover(STATE)
        self._sync()
        return self._states.pop(STATE)

    def recover_partitions(
        self, status: Callable[[UUID], Literal["live", "deleted", "unknown"]]
    ) -> dict[PartitionKey, RecoveredState]:
        """Bring the others back: those of live topics are returned, those of deleted ones are gone, unknown
        ones lie in `quarantine/`."""
        parsed = [paths.parse_partition(name) for name in self._disk.list(paths.PARTITIONS)]
        keys = {(one[0], one[1]) for one in parsed if one is not None and not one[2]}
        going = {(one[0], one[1]) for one in parsed if one is not None and one[2]}
        try:
            for key in sorted(keys | set(self._rows) | set(self._image.records)):
                if key != STATE and status(key[0]) == "live":
                    self._recover(key)
                elif key != STATE and status(key[0]) == "unknown":
                    self._put_aside(key)
                elif key != STATE and key in keys:
                    self._remove(key, "")
            for key in sorted(going):
                if status(key[0]) == "deleted":
                    self._remove(key, paths.DELETED_SUFFIX)
            self._sync()
        except OSError as error:
            raise _unusable(error) from error
        return self._states

    def _remove(self, key: PartitionKey, suffix: str) -> None:
        self._disk.remove_folder(paths.partition_folder(*key) + suffix)
        self.report.removed.append(key)

    def _put_aside(self, key: PartitionKey) -> None:
        folder = paths.partition_folder(*key)
        self._recover(key)
        self._sync()  # while its folder has this name
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
        """Bring one back; `_sync` makes it durable, and known."""
        records, payload = self._image.records_of(key)
        try:
            found = recover_partition(
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
            found = self._without(key, error)
        self._unsynced[key] = found
        self._unsynced_names += len(found.files) + (found.folder is not None)
        if self._unsynced_names >= self._disk.max_unsynced_files:
            self._sync()

    def _sync(self) -> None:
        """Of many partitions at once: one after the other, a thousand take a disk some seconds."""
        unsynced, self._unsynced, self._unsynced_names = self._unsynced, {}, 0
        files = [(key, file) for key, found in unsynced.items() for file in found.files]
        folders = [(key, found.folder) for key, found in unsynced.items() if found.folder is not None]
        try:
            verdicts = self._disk.sync_each_now([file for _, file in files], [name for _, name in folders])
        except OSError as error:
            raise _unusable(error) from error
        for (key, _), failed in zip([*files, *folders], verdicts, strict=True):
            if failed is not None:
                unsynced[key] = self._without(key, failed)
        for _, file in files:
            file.close()
        for key, found in unsynced.items():
            self._recovered(key, found)

    def _without(self, key: PartitionKey, error: OSError) -> RecoveredPartition:
        """The disk failed under this one. LogFolderError if the start cannot do without."""
        row, (records, _) = self._rows.get(key), self._image.records_of(key)
        if error.errno != errno.EIO or row is None or records:
            # What the journal has may not be given up: events, or a log start or an epoch, without which
            # what was deleted or taken back would be there again.
            raise _unusable(error) from error
        return self._unreadable(row, error)

    def _recovered(self, key: PartitionKey, found: RecoveredPartition) -> None:
        floor = self.meta.epoch_floor
        if found.checkpoint_row.epoch < floor:
            found.checkpoint_row, found.state = (
                replace(found.checkpoint_row, epoch=floor),
                replace(found.state, epoch=floor),
            )
        self.report.add(found)
        self._new_rows[key] = found.checkpoint_row
        self._states[key] = found.state

    def _unreadable(self, row: CheckpointRow, error: OSError) -> RecoveredPartition:
        folder = paths.partition_folder(row.topic_id, row.index)
        problem = f"the disk fails: {error}"
        state = RecoveredState(
            segments=(row.segment,),
            epoch=row.epoch,
            log_start=row.log_start,
            end_offset=row.end_offset,
            end_position=row.position,
            clean=False,
            replayed_segment=row.segment,
            fence_reason=problem,
        )
        return RecoveredPartition(state, row, notes=[f"{folder}: read-only: {problem}"])

    def finish(self) -> tuple[Checkpoint, dict[PartitionKey, CheckpointRow], int, int]:
        """Make it durable: the new checkpoint, its rows, and the journal's next seq and group. Only then may
        the log serve (R6)."""
        seq, group = self._image.next_seq, self._image.next_group
        new = Checkpoint(self.checkpoint.number + 1, seq, group, False, tuple(self._new_rows.values()))
        try:
            self._disk.sync_now([], [paths.JOURNAL])  # a file that was made may not have a durable name yet
            if not self.clean:
                folders = [paths.PARTITIONS, ""]
                if self._disk.exists(paths.QUARANTINE):
                    folders.append(paths.QUARANTINE)
                self._disk.sync_now([], folders)
            files.store_now(self._disk, new)
        except OSError as error:
            raise _unusable(error) from error
        return new, self._new_rows, seq, group


def _unusable(error: OSError) -> LogFolderError:
    where = f" ({error.filename})" if error.filename else ""
    return LogFolderError(f"the data folder cannot be used: {error.strerror or error}{where}")
