"""Examining a data folder that no server uses, without changing it.

Owns: the order in which everything is read: lock, meta.properties, checkpoints, journal, then each
partition (`doctor_scan.py`). Refuses: a folder that a server uses, and to write: the folder is opened
for reading alone. What the state log says is `coordinator/doctor.py`'s. Called by the command `mainstem
doctor` and by tests.
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
FOREIGN_FOLDERS = ("state", "search", "search-index")
"""Folders in the data folder that are not the log's."""


class ReadOnlyFile:
    """What is needed of `disk.File` to read."""

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
    """What is needed of `disk.Disk` to read; every other call is an error."""

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
        raise OSError(errno.EROFS, f"doctor changes nothing, but was asked to {name}")


class FolderExamination:
    """One examination of a data folder. A context manager: no server starts on the folder meanwhile."""

    def __init__(self, root: str) -> None:
        """LogFolderLocked: a server uses it; LogFolderError: it is no data folder, or of a newer format."""
        self.disk = ReadOnlyDisk(root)
        self.partitions = 0
        self.batches = 0
        self.events = 0
        self.read_bytes: Callable[[int], None] = lambda _: None
        """Called with the bytes of segments read since the last call."""
        self._lock = -1
        self._take_lock()
        try:
            plain = cast(Disk, self.disk)
            self.meta = meta.read(plain)
            self.checkpoint: Checkpoint | None = checkpoints.load(plain)
            self._damaged_checkpoints = checkpoints.damaged_files(plain)
            first = self.checkpoint.first_seq if self.checkpoint is not None else 1
            group = self.checkpoint.next_group if self.checkpoint is not None else 1
            self._image = journal_reader.read_journal(plain, self.meta.folder_id, first, group)
        except BaseException:
            self.close()
            raise
        self.clean = self.checkpoint is not None and self.checkpoint.clean and not self._image.live_paths

    def _take_lock(self) -> None:
        try:
            self._lock = os.open(f"{self.disk.root}/{paths.LOCK}", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return  # a copy without it: nobody uses that
        try:
            fcntl.flock(self._lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            raise LogFolderLocked("a server uses the data folder: stop it first, or examine a copy") from None

    def close(self) -> None:
        """Let the folder go."""
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
        """The partitions that have a folder, those that are being deleted left out."""
        parsed = map(paths.parse_partition, self.disk.list(paths.PARTITIONS))
        return sorted((one[0], one[1]) for one in parsed if one is not None and not one[2])

    def total_bytes(self) -> int:
        """Of all segments: what `run` will read."""
        return sum(
            self.disk.size(f"{folder}/{name}")
            for folder in (paths.partition_folder(*key) for key in self.partition_keys())
            for name in self.disk.list(folder)
            if paths.parse_segment(name) is not None
        )

    def run(self, is_live: Callable[[Key], bool] = lambda _: True) -> Iterator[Finding]:
        """Read everything. `is_live`: whether the state log knows the partition; of others only the folder is
        told."""
        yield from self._folder()
        keys = self.partition_keys()
        for key in keys:
            if not is_live(key):
                then = "the next start puts it into quarantine/, or removes it if its topic was deleted"
                yield Finding("note", paths.partition_folder(*key), "no topic has this id", then, *key)
            exam = PartitionExamination(self.disk.root, *key, self._promise(key), self.read_bytes)
            try:
                yield from exam.run()
            except OSError as error:
                what = f"cannot be read: {error.strerror}"
                yield Finding("damage", paths.partition_folder(*key), what, "", *key)
            self.partitions += 1
            self.batches += exam.batches
            self.events += exam.events
        yield from self._missing(keys)

    def _promise(self, key: Key) -> DurableExtent:
        rows = self.checkpoint.rows if self.checkpoint is not None else ()
        row = next((one for one in rows if (one.topic_id, one.index) == key), None)
        if row is None and self.checkpoint is not None:
            row = CheckpointRow(*key, 0, 0, 0, 0, 0)
        return DurableExtent(row, self.clean, [record for _, record in self._image.records.get(key, [])])

    def _folder(self) -> Iterator[Finding]:
        for name in self._damaged_checkpoints:
            then = "the next start uses the other one, and what the journal still has"
            if self.checkpoint is None:
                then = "the next start reads every partition from its beginning; committed ends are not known"
            yield Finding("derived", name, "is damaged", then)
        if self.checkpoint is None and not self._damaged_checkpoints and self.partition_keys():
            then = "the next start reads every partition from its beginning"
            yield Finding("derived", checkpoints.NAMES[0], "is missing, and so is the other one", then)
        for note in self._image.notes:
            path, _, what = note.partition(": ")
            then = "groups of the journal are lost; what they held is there as far as its segments have it"
            yield Finding("damage", path, what, then)
        if not self.clean and self.checkpoint is not None:
            live = len(self._image.live_paths)
            files = "1 journal file" if live == 1 else f"{live} journal files"
            then = f"the next start goes through {files} and the ends of what was written"
            yield Finding("note", "", "the server was not stopped cleanly", then)
        known = (
            paths.LOCK,
            paths.META,
            paths.JOURNAL,
            paths.PARTITIONS,
            *checkpoints.NAMES,
            *FOREIGN_FOLDERS,
        )
        for name in self.disk.list(""):
            if name == paths.QUARANTINE:
                then = "partitions that no topic had are kept there for you"
                yield Finding("note", name, f"holds {len(self.disk.list(name))} folders", then)
            elif name not in known and not name.endswith(".tmp"):
                yield Finding("note", name, "is no file of mainstem", "it is left alone")

    def _missing(self, keys: list[Key]) -> Iterator[Finding]:
        there = set(keys)
        gone = {f"{paths.partition_name(*key)}{paths.DELETED_SUFFIX}" for key in there}
        deleted = set(self.disk.list(paths.PARTITIONS)) - gone
        for row in self.checkpoint.rows if self.checkpoint is not None else ():
            key = row.topic_id, row.index
            name = paths.partition_name(*key)
            if (
                key not in there
                and row.end_offset > row.log_start
                and name + paths.DELETED_SUFFIX not in deleted
            ):
                what = "the folder is missing"
                then = (
                    "the partition is read-only from the next start on; restore it, or --repair gives it up"
                )
                path = paths.partition_folder(*key)
                yield Finding("damage", path, what, then, *key, row.log_start, row.end_offset - 1)
