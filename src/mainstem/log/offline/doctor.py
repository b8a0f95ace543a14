"""The examination of a data folder that no server uses, without changing it.

Owns: the order in which everything is read: lock, meta.properties, checkpoints, journal, then each partition
(`doctor_scan.py`). Refuses: a folder that a server uses, and writing: all files are opened read-only. The
content of the state logs is examined by `coordinator/doctor.py`.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from typing import NoReturn, cast
from uuid import UUID

from mainstem.log import paths
from mainstem.log.commit import checkpoint as checkpoints
from mainstem.log.commit import journal_reader
from mainstem.log.commit.checkpoint import Checkpoint, CheckpointRow
from mainstem.log.disk.contract import Disk
from mainstem.log.errors import LogFolderLocked
from mainstem.log.offline.doctor_scan import DurableExtent, Finding, PartitionExamination
from mainstem.log.recovery import meta

Key = tuple[UUID, int]
FOREIGN_FOLDERS = (
    *paths.STATE_FOLDERS.values(),
    paths.DELAYS,
    paths.ROUTED,
    paths.SECURE,
    paths.PUSH,
    *paths.SEARCH_CACHES,
)
"""Folders in the data folder that belong to the coordinator and to search, not to the log."""


class ReadOnlyFile:
    """The reading half of `disk.contract.File`."""

    def __init__(self, root: str, path: str) -> None:
        self.path = path
        self._descriptor = os.open(f"{root}/{path}", os.O_RDONLY | os.O_CLOEXEC)

    def pread(self, length: int, position: int) -> bytes:
        return os.pread(self._descriptor, length, position)

    def size(self) -> int:
        return os.fstat(self._descriptor).st_size

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class ReadOnlyDisk:
    """The reading half of `disk.contract.Disk`; every other call raises OSError (EROFS)."""

    def __init__(self, root: str) -> None:
        self.root = os.path.abspath(root)
        self.open_files: list[ReadOnlyFile] = []

    def exists(self, path: str) -> bool:
        return os.path.exists(f"{self.root}/{path}")

    def list(self, folder: str) -> list[str]:
        try:
            return sorted(os.listdir(f"{self.root}/{folder}"))
        except FileNotFoundError:
            return []

    def open(self, path: str) -> ReadOnlyFile:
        file = ReadOnlyFile(self.root, path)
        self.open_files.append(file)
        return file

    def size(self, path: str) -> int:
        return os.path.getsize(f"{self.root}/{path}")

    def read_all(self, path: str) -> bytes:
        with open(f"{self.root}/{path}", "rb") as file:
            return file.read()

    def __getattr__(self, name: str) -> NoReturn:
        raise OSError(errno.EROFS, f"{name}: the data folder is opened for reading only")


class FolderExamination:
    """One examination of a data folder. A context manager: it locks the folder, so that no server starts on
    it."""

    def __init__(self, root: str) -> None:
        """LogFolderLocked: a server uses the folder; LogFolderError: it is no data folder, or of a newer
        format."""
        self.disk = ReadOnlyDisk(root)
        self.partitions = 0
        """Partitions examined so far. `batches` and `events` count their batches and events."""
        self.batches = 0
        self.events = 0
        self.read_bytes: Callable[[int], None] = lambda _: None
        """Called with the number of segment bytes read since the last call."""
        self._lock = -1
        self._take_lock()
        try:
            plain = cast(Disk, self.disk)
            self.meta = meta.read(plain)
            self.checkpoint: Checkpoint | None = checkpoints.load(plain)
            self._damaged_checkpoints = checkpoints.damaged_files(plain)
            first = self.checkpoint.first_seq if self.checkpoint is not None else 1
            group = self.checkpoint.next_group if self.checkpoint is not None else 1
            self._journal = journal_reader.read_journal(
                plain,
                self.meta.folder_id,
                first,
                group,
                is_newest=self.checkpoint is not None and not self._damaged_checkpoints,
            )
        except BaseException:
            self.close()
            raise
        self.clean = self.checkpoint is not None and self.checkpoint.clean and not self._journal.live_paths

    def _take_lock(self) -> None:
        try:
            self._lock = os.open(f"{self.disk.root}/{paths.LOCK}", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return  # a copy without a lock file: no server uses it
        try:
            fcntl.flock(self._lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            raise LogFolderLocked("a server uses the data folder: stop it first, or examine a copy") from None

    def close(self) -> None:
        """Release the folder. Idempotent."""
        for file in self.disk.open_files:
            file.close()
        self.disk.open_files.clear()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> FolderExamination:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def partition_keys(self) -> list[Key]:
        """The partitions that have a folder, without those that are being deleted."""
        names = map(paths.parse_partition, self.disk.list(paths.PARTITIONS))
        return sorted(name[:2] for name in names if name is not None and not name[2])

    def total_bytes(self) -> int:
        """The size of all segments, which `run` will read."""
        return sum(
            self.disk.size(f"{folder}/{name}")
            for folder in (paths.partition_folder(*key) for key in self.partition_keys())
            for name in self.disk.list(folder)
            if paths.parse_segment(name) is not None
        )

    def run(self, is_live: Callable[[Key], bool] = lambda _: True) -> Iterator[Finding]:
        """Read everything and yield a finding for each thing that is not as a clean stop leaves it. `is_live`
        returns whether a topic has the partition."""
        yield from self._folder()
        keys = self.partition_keys()
        for key in keys:
            if not is_live(key):
                consequence = (
                    "the next start puts it into quarantine/, or removes it if its topic was deleted"
                )
                yield Finding("note", paths.partition_folder(*key), "no topic has this id", consequence, *key)
            examination = PartitionExamination(
                self.disk.root, *key, self._durable_extent(key), self.read_bytes
            )
            try:
                yield from examination.run()
            except OSError as error:
                problem = f"cannot be read: {error.strerror}"
                yield Finding("damage", paths.partition_folder(*key), problem, "", *key)
            self.partitions += 1
            self.batches += examination.batches
            self.events += examination.events
        yield from self._missing(keys)

    def _durable_extent(self, key: Key) -> DurableExtent:
        rows = self.checkpoint.rows if self.checkpoint is not None else ()
        row = next((row for row in rows if (row.topic_id, row.index) == key), None)
        if row is None and self.checkpoint is not None:
            row = CheckpointRow(*key, 0, 0, 0, 0, 0)
        return DurableExtent(row, self.clean, [record for _, record in self._journal.records.get(key, [])])

    def _folder(self) -> Iterator[Finding]:
        for name in self._damaged_checkpoints:
            consequence = "the next start uses the other checkpoint and what the journal still has"
            if self.checkpoint is None:
                consequence = (
                    "the next start reads every partition from its beginning, for no committed end is known"
                )
            yield Finding("derived", name, "is damaged", consequence)
        if self.checkpoint is None and not self._damaged_checkpoints and self.partition_keys():
            consequence = "the next start reads every partition from its beginning"
            yield Finding("derived", checkpoints.NAMES[0], "is missing, and so is the other one", consequence)
        for note in self._journal.notes:
            path, _, problem = note.partition(": ")
            consequence = (
                "groups of the journal are lost; their batches are there as far as the segments have them"
            )
            yield Finding("damage", path, problem, consequence)
        if not self.clean and self.checkpoint is not None:
            live = len(self._journal.live_paths)
            files = "1 journal file" if live == 1 else f"{live} journal files"
            consequence = (
                f"the next start replays {files} and scans the ends of the segments that were written"
            )
            yield Finding("note", "", "the server was not stopped cleanly", consequence)
        known = (
            paths.LOCK,
            paths.META,
            paths.JOURNAL,
            paths.PARTITIONS,
            paths.BALLAST,
            *checkpoints.NAMES,
            *FOREIGN_FOLDERS,
        )
        for name in self.disk.list(""):
            if name == paths.QUARANTINE:
                consequence = "it keeps partitions that no topic had; delete them if you do not need them"
                yield Finding("note", name, f"holds {len(self.disk.list(name))} folders", consequence)
            elif name not in known and not name.endswith(".tmp"):
                yield Finding("note", name, "is no file of mainstem", "it is left alone")

    def _missing(self, keys: list[Key]) -> Iterator[Finding]:
        present = set(keys)
        deleted = set(self.disk.list(paths.PARTITIONS)) - {
            f"{paths.partition_name(*key)}{paths.DELETED_SUFFIX}" for key in present
        }
        for row in self.checkpoint.rows if self.checkpoint is not None else ():
            key = row.topic_id, row.index
            name = paths.partition_name(*key)
            if (
                key not in present
                and row.end_offset > row.log_start
                and name + paths.DELETED_SUFFIX not in deleted
            ):
                problem = "the folder is missing"
                consequence = (
                    "the partition is read-only from the next start on; restore it from a backup,"
                    " or --repair gives it up"
                )
                path = paths.partition_folder(*key)
                yield Finding("damage", path, problem, consequence, *key, row.log_start, row.end_offset - 1)
