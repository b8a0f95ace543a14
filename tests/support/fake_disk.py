"""A memory disk for tests that counts calls, can have a cold page cache, and fails when a test wants it to.

It does not model power cuts: `simdisk.py` does.
"""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable, Sequence

from mainstem.log.disk.contract import Buffer, File, SyncResults
from mainstem.log.disk.memory_disk import MemoryDisk, MemoryFile
from mainstem.promise import Promise
from tests.support.clock import SimClock


class FakeFile(MemoryFile):
    """A memory file that counts calls, and that must not be used once it is closed."""

    def __init__(self, disk: FakeDisk, path: str) -> None:
        super().__init__(disk, path)
        self._fake = disk
        self._closed = False

    def _count(self, call: str) -> None:
        assert not self._closed, f"{call} on the closed {self.path}"
        self._fake.count(call, self.path)

    def pwrite(self, data: Buffer, position: int) -> None:
        try:
            self._count("pwrite")
        except OSError:
            super().pwrite(bytes(data)[: len(data) // 2], position)
            raise
        super().pwrite(data, position)

    def pread(self, length: int, position: int) -> bytes:
        self._count("pread")
        return super().pread(length, position)

    def pread_nowait(self, length: int, position: int) -> bytes | None:
        self._count("pread_nowait")
        if self._fake.cold and (self.path, position, length) not in self._fake.prefetched:
            return None
        return super().pread(length, position)

    def truncate(self, size: int) -> None:
        self._count("truncate")
        super().truncate(size)

    def close(self) -> None:
        self._closed = True


class FakeDisk(MemoryDisk):
    """A memory disk that a test controls."""

    def __init__(self, clock: SimClock | None = None) -> None:
        """With a clock, a prefetch takes one turn of the loop."""
        super().__init__()
        self.clock = clock
        self.max_unsynced_files = 256
        self.calls: Counter[str] = Counter()
        self.cold = False
        """Nothing is in the page cache until it is prefetched."""
        self.prefetched: set[tuple[str, int, int]] = set()
        self.fail: Callable[[str, str], bool] = lambda call, path: False
        """(call, path) -> the call fails with ENOSPC."""
        self.slow_syncs: list[Promise[None]] | None = None
        """Syncs that the test ends, see `end_syncs`; None: each ends at once."""
        self.stalled_s = 0.0
        self.free = 1 << 40
        self.capacity = 1 << 41

    def count(self, call: str, path: str) -> None:
        """Count a call and fail it if the test says so."""
        self.calls[call] += 1
        if self.fail(call, path):
            raise OSError(errno.ENOSPC, f"{call} {path}")

    def lock(self, path: str) -> None:
        """Any number of logs may use it, one after the other: a test lets them die without a close."""
        self.count("lock", path)

    def identity(self, path: str) -> str:
        return path

    def open(self, path: str, *, create: bool = False) -> File:
        self.count("open", path)
        super().open(path, create=create)
        return FakeFile(self, path)

    def make_folder(self, folder: str) -> None:
        self.count("make_folder", folder)
        super().make_folder(folder)

    def rename(self, source: str, target: str) -> None:
        self.count("rename", source)
        super().rename(source, target)

    def unlink(self, path: str) -> None:
        self.count("unlink", path)
        super().unlink(path)

    def read_all(self, path: str) -> bytes:
        self.count("read_all", path)
        return super().read_all(path)

    def write_all(self, path: str, data: Buffer) -> None:
        self.count("write_all", path)
        super().write_all(path, data)

    def append(self, path: str, data: Buffer, position: int) -> None:
        self.count("append", path)
        assert position <= len(self.files.get(path, b"")), f"a gap in {path}"
        super().append(path, data, position)

    def replace_now(self, path: str, data: Buffer) -> None:
        self.count("write_all", path)
        super().replace_now(path, data)

    def sync(
        self, files: Sequence[File], folders: Sequence[str] = (), *, background: bool = False
    ) -> Promise[None]:
        try:
            self.count("sync", "")
        except OSError as error:
            return Promise.failed(error)
        if self.slow_syncs is not None:
            sync: Promise[None] = Promise()
            self.slow_syncs.append(sync)
            return sync
        return super().sync(files, folders, background=background)

    def end_syncs(self, error: OSError | None = None) -> None:
        """End the syncs in `slow_syncs`, and let those after them end at once."""
        syncs, self.slow_syncs = self.slow_syncs or [], None
        for sync in syncs:
            sync.resolve(None) if error is None else sync.fail(error)

    def sync_now(self, files: Sequence[File], folders: Sequence[str] = ()) -> None:
        self.count("sync_now", "")

    def sync_each_now(self, files: Sequence[File], folders: Sequence[str]) -> SyncResults:
        self.count("sync_now", "")
        return super().sync_each_now(files, folders)

    def sync_stalled_s(self) -> float:
        return self.stalled_s

    def prefetch(self, file: File, position: int, length: int) -> Promise[None]:
        self.count("prefetch", file.path)
        promise: Promise[None] = Promise()

        def done() -> None:
            self.prefetched.add((file.path, position, length))
            promise.resolve(None)

        if self.clock is None:
            done()
        else:
            self.clock.call_soon(done)
        return promise

    def free_bytes(self) -> int:
        self.count("free_bytes", "")
        return self.free

    def capacity_bytes(self) -> int:
        return self.capacity
