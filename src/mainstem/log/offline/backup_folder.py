"""The target folder of a backup, and the restore from it.

Owns: `FolderTarget` (links, clones, copies and syncs on this machine) and `FolderRestore`, which copies a
backup; `doctor` then reads what was written. Refuses: a target that is not empty, and one inside the folder
that is copied.

The cluster id stays the same: a client takes another id for another cluster, but a restored folder has the
same topics, groups and positions. A client learns from the leader epochs that the events after the backup
are lost (`meta.py`).
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from dataclasses import replace
from typing import cast

from mainstem.log import paths
from mainstem.log.disk import sync_process
from mainstem.log.disk.contract import Disk
from mainstem.log.errors import LogFolderError
from mainstem.log.offline.backup import PIECE_BYTES
from mainstem.log.offline.doctor import ReadOnlyDisk
from mainstem.log.recovery import meta

_FICLONE = 0x40049409
"""ioctl(2): share the blocks of another file (Btrfs, XFS) until one of the two is written."""
_NO_LINK = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS)


class FolderSink:
    """A file of a `FolderTarget` that is being written."""

    def __init__(self, path: str) -> None:
        if os.path.lexists(path):
            os.unlink(path)  # it may be a hard link to a file that must not change
        self.descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self.descriptor, view) :]

    def close(self) -> None:
        sync_process.full_sync(self.descriptor)
        os.close(self.descriptor)


class FolderTarget:
    """The `BackupTarget` on this machine: a new folder."""

    def __init__(self, source: str, root: str) -> None:
        """LogFolderError: `root` is not empty, or lies in the folder that is copied."""
        self._source = os.path.realpath(source)
        self.root = os.path.realpath(root)
        if os.path.commonpath([self._source, self.root]) == self._source:
            raise LogFolderError("the target lies in the folder that is copied; give another one")
        if os.path.exists(self.root) and (not os.path.isdir(self.root) or os.listdir(self.root)):
            raise LogFolderError("the target exists already and is not empty; nothing is overwritten")
        self._may_clone = True
        self._may_link = True

    def make_folder(self, folder: str) -> None:
        os.makedirs(self._path(folder), mode=0o700, exist_ok=True)

    def _path(self, path: str) -> str:
        return f"{self.root}/{path}" if path else self.root

    def share(self, path: str) -> bool:
        if self.clone(path):
            return True
        if not self._may_link:
            return False
        target = self._path(path)
        if os.path.lexists(target):
            os.unlink(target)
        try:
            os.link(f"{self._source}/{path}", target)
        except OSError as error:
            if error.errno not in _NO_LINK:
                raise
            self._may_link = error.errno == errno.EMLINK
            return False
        return True

    def clone(self, path: str) -> bool:
        if not self._may_clone:
            return False
        sink = FolderSink(self._path(path))
        try:
            source = os.open(f"{self._source}/{path}", os.O_RDONLY | os.O_CLOEXEC)
            try:
                fcntl.ioctl(sink.descriptor, _FICLONE, source)
            finally:
                os.close(source)
        except FileNotFoundError:
            raise
        except OSError:
            self._may_clone = False
            return False
        finally:
            sink.close()
        return True

    def create(self, path: str) -> FolderSink:
        return FolderSink(self._path(path))

    def write_small(self, path: str, data: bytes) -> None:
        with open(self._path(path), "wb", opener=_private) as file:
            file.write(data)

    def keep_only(self, wanted_paths: set[str]) -> None:
        for folder, _, names in os.walk(self.root, topdown=False):
            within = os.path.relpath(folder, self.root)
            for name in names:
                if (name if within == "." else f"{within}/{name}") not in wanted_paths:
                    os.unlink(f"{folder}/{name}")
            if not os.listdir(folder) and within.startswith(f"{paths.PARTITIONS}/"):
                os.rmdir(folder)

    def sync_folders(self) -> None:
        for folder, _, _ in os.walk(self.root):
            _sync_folder(folder)
        _sync_folder(os.path.dirname(self.root))


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def _sync_folder(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync_process.full_sync(descriptor, folder=True)
    finally:
        os.close(descriptor)


class FolderRestore:
    """The copy of a backup, or of any data folder that no server uses, to where a server will use it."""

    def __init__(self, source: ReadOnlyDisk, root: str) -> None:
        """`source`: a folder that no process writes to. LogFolderError: see `FolderTarget`."""
        self._source = source
        self._target = FolderTarget(source.root, root)
        self._meta = meta.read(cast(Disk, source))

    def total_bytes(self) -> int:
        """The size of all files, which is the sum of what `run` yields."""
        return sum(self._source.size(path) for path in self._files())

    def _files(self) -> Iterator[str]:
        for folder, _, names in os.walk(self._source.root):
            within = os.path.relpath(folder, self._source.root)
            if within.split("/")[0] in paths.SEARCH_CACHES:
                continue  # the server builds it again
            for name in names:
                path = name if within == "." else f"{within}/{name}"
                if path not in (paths.LOCK, paths.META) and not name.endswith(".tmp"):
                    yield path

    def run(self) -> Iterator[int]:
        """Copy; yields the bytes done after each piece. A server can start on the copy once this has ended.
        OSError."""
        for folder in ("", paths.JOURNAL, paths.PARTITIONS):
            self._target.make_folder(folder)
        for path in self._files():
            self._target.make_folder(os.path.dirname(path))
            if self._target.clone(path):
                yield self._source.size(path)
                continue
            file = self._source.open(path)
            sink = self._target.create(path)
            position = 0
            while piece := file.pread(PIECE_BYTES, position):
                sink.write(piece)
                position += len(piece)
                yield len(piece)
            sink.close()
            file.close()
        self._target.sync_folders()
        sink = self._target.create(paths.META)
        sink.write(meta.encode(replace(self._meta, lock=meta.COPY)))
        sink.close()
        self._target.sync_folders()
