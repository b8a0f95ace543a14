"""The real disk: the data folder on this machine.

Owns: `RealDisk` and `RealFile`, the only code of the log that calls the operating system. Refuses: paths
outside its root. `contract.py` says what each call promises.

Descriptors are few (`open_files.py`): a file that was not used for long is closed, and opened again when
needed.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path

from mainstem.log.disk import sync_process
from mainstem.log.disk.contract import Buffer, File, SyncResults
from mainstem.log.disk.deleted_files import DeletedFiles
from mainstem.log.disk.open_files import OpenFiles, is_essential
from mainstem.log.disk.sync_client import BACKGROUND, COMMIT, JOURNAL, READ, Descriptors, Errnos, SyncClient
from mainstem.promise import Promise

_DESCRIPTORS_PER_REQUEST = 32
"""With a few requests in flight this stays far below any limit on descriptors in sockets."""
_BLOCKING_SYNC_THREADS = 16
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NOWAIT_FLAG = getattr(os, "RWF_NOWAIT", 0)
_SUCCESS = [0]
_UNSUPPORTED_ERRNOS = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)


class RealFile:
    """One file. Its descriptor may be closed and opened again at any time."""

    __slots__ = ("_descriptor", "_disk", "_full_path", "path", "synced", "written")

    def __init__(self, disk: RealDisk, path: str) -> None:
        self.path = path
        self._disk = disk
        self._full_path = disk.full_path(path)
        self._descriptor = -1
        self.written = 0
        """Number of writes. Greater than `synced` while the file has bytes that no sync has covered."""
        self.synced = 0
        """Number of writes that a successful sync has covered."""

    def open(self, flags: int = 0, *, essential: bool = False) -> int:
        """The descriptor; opens the file if necessary. `essential`: see `OpenFiles.open`."""
        if self._descriptor < 0:
            essential = essential or is_essential(self.path)
            self._descriptor = self._disk.files.open(self._full_path, os.O_RDWR | flags, essential=essential)
            self._disk.files.on_opened(self)
        else:
            self._disk.files.on_used(self)
        return self._descriptor

    @property
    def is_open(self) -> bool:
        """Whether the file has a descriptor now."""
        return self._descriptor >= 0

    def pwrite(self, data: Buffer, position: int) -> None:
        descriptor = self.open()
        self.written += 1
        length = len(data)
        written = os.pwrite(descriptor, data, position)
        if written < length:
            view = memoryview(data)
            while written < length:
                count = os.pwrite(descriptor, view[written:], position + written)
                if not count:
                    raise OSError(errno.EIO, "the system wrote nothing", self._full_path)
                written += count
        assert written == length, "all bytes are written, and no more"

    def pread(self, length: int, position: int) -> bytes:
        descriptor = self.open()
        data = os.pread(descriptor, length, position)
        if 0 < len(data) < length:
            chunks = [data]
            count = len(data)
            while count < length and data:
                data = os.pread(descriptor, length - count, position + count)
                chunks.append(data)
                count += len(data)
            assert count <= length, "no more is read than was asked for"
            return b"".join(chunks)
        return data

    def pread_nowait(self, length: int, position: int) -> bytes | bytearray | None:
        descriptor = self.open()
        length = min(length, os.fstat(descriptor).st_size - position)
        if length <= 0:
            return b""
        if self._disk.has_nowait:
            buffer = bytearray(length)
            try:
                if os.preadv(descriptor, (buffer,), position, _NOWAIT_FLAG) == length:
                    return buffer
            except BlockingIOError:
                return None
            except OSError as error:
                if error.errno not in _UNSUPPORTED_ERRNOS:
                    raise
                self._disk.has_nowait = False
            else:
                return None
        return self.pread(length, position)

    def truncate(self, size: int) -> None:
        if self._descriptor < 0 and self.size() == size:
            return  # a write failed because no descriptor was left: there is nothing to truncate
        descriptor = self.open()
        self.written += 1
        os.ftruncate(descriptor, size)

    def size(self) -> int:
        if self._descriptor >= 0:
            return os.fstat(self._descriptor).st_size
        return os.stat(self._full_path).st_size

    def close(self) -> None:
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            self._disk.files.on_closed(self)
            self._disk.close_descriptor(descriptor)


class RealDisk:
    """The `Disk` of a folder of this machine. `make_folder("")` creates the folder."""

    def __init__(self, root: str | Path, loop: asyncio.AbstractEventLoop, *, open_files: int = 4096) -> None:
        self.root = os.path.abspath(root)
        self.files = OpenFiles(open_files)
        """The files with a descriptor. Used by `RealFile`."""
        self.max_unsynced_files = self.files.max_unsynced_files
        self._deleted_files = DeletedFiles(self.files)
        self._client = SyncClient(loop, self.files.release_spares)
        self._lock = -1
        self.has_nowait = bool(_NOWAIT_FLAG) and hasattr(os, "preadv")
        """False once the file system has refused RWF_NOWAIT: reads may then wait for the disk."""

    def start(self) -> None:
        """Start the sync process now, so that the first event does not wait for it. An error is raised by the
        calls that need the process."""
        with contextlib.suppress(OSError):
            self._client.start()

    def full_path(self, path: str) -> str:
        """The path on this machine. AssertionError for one that leaves the folder."""
        assert path[:1] != "/", f"{path} is not relative to the data folder"
        assert ".." not in path.split("/"), f"{path} leaves the data folder"
        return f"{self.root}/{path}" if path else self.root

    def lock(self, path: str) -> None:
        descriptor = os.open(self.full_path(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise
        self._lock = descriptor

    def identity(self, path: str) -> str:
        # No tool can set the time of change, so a copy has another one even if inode numbers repeat.
        status = os.stat(self.full_path(path))
        return f"{status.st_ino}-{status.st_ctime_ns}"

    def unshare(self, path: str) -> bool:
        full = self.full_path(path)
        if os.stat(full).st_nlink < 2:
            return False
        shutil.copyfile(full, f"{full}.tmp")
        descriptor = os.open(f"{full}.tmp", os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fchmod(descriptor, 0o600)
            sync_process.full_sync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(f"{full}.tmp", full)
        return True

    def open(self, path: str, *, create: bool = False) -> File:
        file = RealFile(self, path)
        file.open(os.O_CREAT | os.O_EXCL if create else 0)
        return file

    def exists(self, path: str) -> bool:
        return os.path.lexists(self.full_path(path))

    def size(self, path: str) -> int:
        return os.stat(self.full_path(path)).st_size

    def _names(self, full: str) -> list[str]:
        os.close(self.files.open(full, _FOLDER_FLAGS))  # makes sure that a descriptor is left for listdir
        return os.listdir(full)

    def list(self, folder: str) -> list[str]:
        try:
            return sorted(self._names(self.full_path(folder)))
        except FileNotFoundError:
            return []

    def make_folder(self, folder: str) -> None:
        full = self.full_path(folder)
        missing = []
        while not os.path.isdir(full):
            missing.append(full)
            full = os.path.dirname(full)
        for path in reversed(missing):
            os.mkdir(path, 0o700)
        if not folder:
            # The name of the data folder must be durable. The folder that holds it may belong to another
            # user.
            with contextlib.suppress(OSError):
                self._sync_folder(os.path.dirname(self.root))

    def remove_folder(self, folder: str) -> None:
        full = self.full_path(folder)
        with contextlib.suppress(FileNotFoundError):
            for name in self._names(full):
                path = f"{full}/{name}"
                if os.path.isdir(path) and not os.path.islink(path):
                    self.remove_folder(f"{folder}/{name}")
                else:
                    self._deleted_files.unlink(path)
            os.rmdir(full)

    def rename(self, source: str, target: str) -> None:
        os.replace(self.full_path(source), self.full_path(target))

    def unlink(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._deleted_files.unlink(self.full_path(path))

    def read_all(self, path: str) -> bytes:
        with open(self.files.open(self.full_path(path), os.O_RDONLY), "rb") as file:
            return file.read()

    def write_all(self, path: str, data: Buffer) -> None:
        self._write(path, data, os.O_TRUNC, 0, sync=False)

    def append(self, path: str, data: Buffer, position: int) -> None:
        self._write(path, data, 0, position, sync=False)

    def _write(self, path: str, data: Buffer, flags: int, position: int, *, sync: bool) -> None:
        descriptor = self.files.open(self.full_path(path), os.O_WRONLY | os.O_CREAT | flags)
        try:
            view = memoryview(data)
            while view:
                count = os.pwrite(descriptor, view, position)
                view, position = view[count:], position + count
            if sync:
                sync_process.full_sync(descriptor)
        finally:
            os.close(descriptor)

    def replace_now(self, path: str, data: Buffer) -> None:
        self._write(f"{path}.tmp", data, os.O_TRUNC, 0, sync=True)
        self.rename(f"{path}.tmp", path)
        self.sync_now([], [os.path.dirname(path)])

    def replace(self, path: str, data: Buffer) -> Promise[None]:
        temporary = f"{path}.tmp"
        try:
            self._write(temporary, data, os.O_TRUNC, 0, sync=False)
            file = RealFile(self, temporary)
            file.open()
        except OSError as error:
            return Promise.failed(error)
        out: Promise[None] = Promise()

        def synced(promise: Promise[None]) -> None:
            file.close()
            try:
                promise.result()
                self.rename(temporary, path)
            except OSError as error:
                out.fail(error)
            else:
                self.sync([], [os.path.dirname(path)]).then(out.copy_result)

        self.sync([file]).then(synced)
        return out

    def _sync_results(
        self, channel: int, files: Sequence[File], folders: Sequence[str]
    ) -> Promise[SyncResults]:
        """Sync in requests of a few descriptors, one after the other. One result for each file and folder."""
        targets: list[RealFile | str] = [*files, *folders]  # type: ignore[list-item]
        results: SyncResults = []
        out: Promise[SyncResults] = Promise()

        def next_chunk() -> None:
            chunk = targets[len(results) : len(results) + _DESCRIPTORS_PER_REQUEST]
            if not chunk:
                assert len(results) == len(targets), "each file and folder has one result"
                out.resolve(results)
                return
            written = [target.written for target in chunk if isinstance(target, RealFile)]

            def replied(promise: Promise[Errnos]) -> None:
                error = promise.error
                if error is not None:
                    failure = error if isinstance(error, OSError) else OSError(str(error))
                    results.extend(failure for _ in chunk)
                else:
                    for target, code in zip(chunk, promise.result(), strict=True):
                        results.append(_error(code, target))
                        if not code and isinstance(target, RealFile):
                            target.synced = max(target.synced, written[chunk.index(target)])
                next_chunk()

            request = self._client.submit(channel, sync_process.SYNC, lambda: self._descriptors(chunk))
            request.then(replied)

        next_chunk()
        return out

    def _descriptors(self, targets: Sequence[RealFile | str]) -> Descriptors:
        """The descriptors of one request. A target that was deleted in the meantime has nothing to sync: the
        root is synced in its place."""
        descriptors: list[int] = []
        to_close: list[int] = []
        files = 0
        self.files.collecting = True
        try:
            for target in targets:
                try:
                    if isinstance(target, RealFile):
                        files += 1
                        descriptors.append(target.open(essential=True))
                        continue
                    to_close.append(self.files.open(self.full_path(target), _FOLDER_FLAGS))
                except FileNotFoundError:
                    to_close.append(self.files.open(self.root, _FOLDER_FLAGS))
                descriptors.append(to_close[-1])
        except OSError:
            for descriptor in to_close:
                os.close(descriptor)
            raise
        finally:
            self.files.collecting = False
        return descriptors, files, to_close

    def sync(
        self, files: Sequence[File], folders: Sequence[str] = (), *, background: bool = False
    ) -> Promise[None]:
        if len(files) == 1 and not folders and not background and is_essential(files[0].path):
            return self._sync_journal(files[0])
        channel = BACKGROUND if background else COMMIT
        return self._sync_results(channel, files, folders).map(_raise_first)

    def _sync_journal(self, file: File) -> Promise[None]:
        """Sync the journal file. Every event waits for this sync, so it has a channel of its own, to which
        the descriptor is passed once."""
        assert isinstance(file, RealFile), "a disk syncs only its own files"
        written = file.written
        out: Promise[None] = Promise()

        def replied(promise: Promise[Errnos]) -> None:
            if promise.error is not None:
                out.fail(promise.error)
            elif promise.result() == _SUCCESS:
                file.synced = max(file.synced, written)
                out.resolve(None)
            else:
                code = (promise.result() or [errno.EBADF])[0]
                out.fail(OSError(code, os.strerror(code), file.path))

        self._client.submit(JOURNAL, sync_process.SYNC, lambda: ([file.open()], 1, [])).then(replied)
        return out

    def close_descriptor(self, descriptor: int) -> None:
        """Close the descriptor of a `RealFile`."""
        self._client.on_descriptor_closed(descriptor)
        self._deleted_files.close(descriptor)

    def sync_each(self, files: Sequence[File], folders: Sequence[str] = ()) -> Promise[SyncResults]:
        return self._sync_results(BACKGROUND, files, folders)

    def sync_now(self, files: Sequence[File], folders: Sequence[str] = ()) -> None:
        _raise_first(self.sync_each_now(files, folders))

    def sync_each_now(self, files: Sequence[File], folders: Sequence[str]) -> SyncResults:
        # In parallel, ten times as fast as one by one: the disk writes many at once, the file system commits
        # once.
        with ThreadPoolExecutor(_BLOCKING_SYNC_THREADS) as pool:
            return [*self._sync_together(pool, files), *self._sync_together(pool, folders)]

    def _sync_together(self, pool: ThreadPoolExecutor, targets: Sequence[File | str]) -> SyncResults:
        descriptors, files, to_close = self._descriptors(targets)  # type: ignore[arg-type]
        try:
            codes = list(pool.map(sync_process.sync_result, descriptors, repeat(not files)))
        finally:
            for descriptor in to_close:
                os.close(descriptor)
        for target, code in zip(targets, codes, strict=True):
            if not code and isinstance(target, RealFile):
                target.synced = target.written
        return [_error(code, target) for target, code in zip(targets, codes, strict=True)]

    def _sync_folder(self, path: str) -> None:
        descriptor = self.files.open(path, _FOLDER_FLAGS)
        try:
            sync_process.full_sync(descriptor, folder=True)
        finally:
            os.close(descriptor)

    def sync_stalled_s(self) -> float:
        return max(self._client.stalled_s(JOURNAL), self._client.stalled_s(COMMIT))

    def prefetch(self, file: File, position: int, length: int) -> Promise[None]:
        assert isinstance(file, RealFile), "a disk reads only its own files"
        request = self._client.submit(
            READ, sync_process.PREFETCH, lambda: ([file.open()], 1, []), (position, length)
        )
        return request.map(_raise_code)

    def zero_file(self, path: str, size: int) -> Promise[None]:
        temporary = f"{path}.tmp"
        out: Promise[None] = Promise()
        try:
            # A new file: a sync process that outlived a killed server may still be writing zeros to the old
            # one.
            self.unlink(temporary)
            if self.free_bytes() < size:  # fail before the zeros fill the disk
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.full_path(path))
            file = RealFile(self, temporary)
            file.open(os.O_CREAT | os.O_EXCL)
        except OSError as error:
            return Promise.failed(error)

        def zeroed(promise: Promise[Errnos]) -> None:
            file.close()
            try:
                _raise_code(promise.result())
                self.rename(temporary, path)
            except OSError as error:
                with contextlib.suppress(OSError):
                    self.unlink(temporary)  # it may have used the last free bytes
                out.fail(error)
            else:
                self.sync([], [os.path.dirname(path)]).then(out.copy_result)

        zeros = self._client.submit(BACKGROUND, sync_process.ZERO, lambda: ([file.open()], 1, []), (0, size))
        zeros.then(zeroed)
        return out

    def free_bytes(self) -> int:
        system = os.statvfs(self.root)
        return system.f_bavail * system.f_frsize

    def capacity_bytes(self) -> int:
        system = os.statvfs(self.root)
        return (system.f_blocks - system.f_bfree + system.f_bavail) * system.f_frsize

    def close(self) -> None:
        self._client.close()
        self.files.close()
        self._deleted_files.end()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def _error(code: int, target: File | str) -> OSError | None:
    path = target if isinstance(target, str) else target.path
    return OSError(code, os.strerror(code), path) if code else None


def _raise_first(results: Sequence[OSError | None]) -> None:
    for error in results:
        if error is not None:
            raise error


def _raise_code(errnos: Sequence[int]) -> None:
    if errnos[0]:
        raise OSError(errnos[0], os.strerror(errnos[0]))
