"""The memory disk: a data folder in memory, for a log that need not outlive its process.

Owns: `MemoryDisk` and `MemoryFile`, which behave as the real ones do, but are never slow, never fail and sync
nothing. It reports no free space and no capacity, so that no ballast is made, which would be most of what
opening a log costs. Refuses: to limit memory (`data_max_bytes` does) and to be shared by two logs.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence

from mainstem.log.disk.contract import Buffer, File, SyncResults
from mainstem.promise import Promise


class MemoryFile:
    """One open file. As on Unix, it can still be used after an unlink or a rename, until it is closed."""

    def __init__(self, disk: MemoryDisk, path: str) -> None:
        self._disk = disk
        self._contents: bytearray | None = disk.contents(path)
        self.path = path

    def _open(self) -> bytearray:
        if self._contents is None:
            self._contents = self._disk.contents(self.path)
        return self._contents

    def pwrite(self, data: Buffer, position: int) -> None:
        write_at(self._open(), data, position)

    def pread(self, length: int, position: int) -> bytes:
        return bytes(memoryview(self._open())[position : position + length])

    def pread_nowait(self, length: int, position: int) -> bytes | bytearray | None:
        return self.pread(length, position)

    def truncate(self, size: int) -> None:
        contents = self._open()
        del contents[size:]
        contents.extend(bytes(size - len(contents)))

    def size(self) -> int:
        return len(self._open())

    def close(self) -> None:
        self._contents = None


class MemoryDisk:
    """The `Disk` of a data folder in memory. A copy of it does not survive the process; the object survives
    `close`, so that another log can be opened on it."""

    def __init__(self) -> None:
        self.max_unsynced_files = 1 << 20
        self.files: dict[str, bytearray] = {}
        """Contents by path."""
        self.folders: set[str] = {""}
        self._is_locked = False

    def contents(self, path: str) -> bytearray:
        """The contents of a file. FileNotFoundError."""
        contents = self.files.get(path)
        if contents is None:
            raise _not_found(path)
        return contents

    def _check_folder(self, path: str) -> None:
        """FileNotFoundError if the folder in which `path` would be created does not exist."""
        folder = path.rpartition("/")[0]
        if folder not in self.folders:
            raise _not_found(folder)

    def _create(self, path: str) -> bytearray:
        self._check_folder(path)
        return self.files.setdefault(path, bytearray())

    def lock(self, path: str) -> None:
        if self._is_locked:
            raise BlockingIOError(errno.EAGAIN, "another log uses this disk", path)
        self._create(path)
        self._is_locked = True

    def identity(self, path: str) -> str:
        return f"memory-{id(self)}"

    def unshare(self, path: str) -> bool:
        return False  # there are no hard links

    def open(self, path: str, *, create: bool = False) -> File:
        if create:
            if self.exists(path):
                raise FileExistsError(errno.EEXIST, "the file exists", path)
            self._create(path)
        return MemoryFile(self, path)

    def exists(self, path: str) -> bool:
        return path in self.files or path in self.folders

    def size(self, path: str) -> int:
        return len(self.contents(path))

    def list(self, folder: str) -> list[str]:
        prefix = f"{folder}/" if folder else ""
        inside = [path[len(prefix) :] for path in (*self.files, *self.folders) if path.startswith(prefix)]
        return sorted(name for name in inside if name and "/" not in name)

    def make_folder(self, folder: str) -> None:
        names = folder.split("/")
        self.folders.update("/".join(names[:count]) for count in range(1, len(names) + 1))

    def remove_folder(self, folder: str) -> None:
        prefix = f"{folder}/"
        self.folders = {path for path in self.folders if path != folder and not path.startswith(prefix)}
        for path in [path for path in self.files if path.startswith(prefix)]:
            del self.files[path]

    def rename(self, source: str, target: str) -> None:
        self._check_folder(target)
        if source in self.files:
            self.files[target] = self.files.pop(source)
            return
        if source not in self.folders:
            raise _not_found(source)
        if target != source and self.list(target):
            raise OSError(errno.ENOTEMPTY, "the folder is not empty", target)
        prefix = f"{source}/"
        moved = {path for path in self.folders if path == source or path.startswith(prefix)}
        self.folders = self.folders - moved | {target + path[len(source) :] for path in moved}
        for path in [path for path in self.files if path.startswith(prefix)]:
            self.files[target + path[len(source) :]] = self.files.pop(path)

    def unlink(self, path: str) -> None:
        self.files.pop(path, None)

    def read_all(self, path: str) -> bytes:
        return bytes(self.contents(path))

    def write_all(self, path: str, data: Buffer) -> None:
        self._create(path)[:] = data

    def append(self, path: str, data: Buffer, position: int) -> None:
        write_at(self._create(path), data, position)

    def replace_now(self, path: str, data: Buffer) -> None:
        self._check_folder(path)
        self.files[path] = bytearray(data)

    def replace(self, path: str, data: Buffer) -> Promise[None]:
        self.replace_now(path, data)
        return Promise.resolved(None)

    def sync(
        self, files: Sequence[File], folders: Sequence[str] = (), *, background: bool = False
    ) -> Promise[None]:
        return Promise.resolved(None)

    def sync_each(self, files: Sequence[File], folders: Sequence[str] = ()) -> Promise[SyncResults]:
        return Promise.resolved([None for _ in (*files, *folders)])

    def sync_now(self, files: Sequence[File], folders: Sequence[str] = ()) -> None:
        """Does nothing: there is nothing to sync."""

    def sync_each_now(self, files: Sequence[File], folders: Sequence[str]) -> SyncResults:
        return [None for _ in (*files, *folders)]

    def sync_stalled_s(self) -> float:
        return 0.0

    def prefetch(self, file: File, position: int, length: int) -> Promise[None]:
        return Promise.resolved(None)

    def zero_file(self, path: str, size: int) -> Promise[None]:
        self.write_all(path, bytes(size))
        return Promise.resolved(None)

    def free_bytes(self) -> int:
        return 0

    def capacity_bytes(self) -> int:
        return 0

    def close(self) -> None:
        self._is_locked = False


def write_at(contents: bytearray, data: Buffer, position: int) -> None:
    """Write `data` at `position`; a gap before it is filled with zeros. No data: nothing changes."""
    if data and position > len(contents):
        contents.extend(bytes(position - len(contents)))
    contents[position : position + len(data)] = data


def _not_found(path: str) -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, "no such file or folder", path)
