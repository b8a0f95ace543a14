"""A simulated disk that loses what was not synced, and fails when a test wants it to.

Owns: `SimDisk`, an implementation of `mainstem.log.disk.contract.Disk` in memory on a `SimClock`, with one
seed. It is harsher than a real one. At a power cut any subset of unsynced page pieces, truncations and names
survives, some pieces torn, some replaced by zeros. A sync takes a random virtual time, so syncs overtake each
other. After a failed sync the page cache still shows what the disk does not have, and the next sync succeeds
(STORAGE part 8).
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import random
import re
from collections.abc import Callable, Sequence

from mainstem.log.disk.contract import Buffer, File, SyncResults
from mainstem.promise import Promise
from tests.support.clock import SimClock
from tests.support.siminode import NameChange, SimFolder, SimInode

TORN_HEADER = re.compile(r"its header is damaged; groups (\d+) to \1 of the journal")
"""Note of a start after a power cut that tore the header of the journal file that was being begun, but not
its first group. It tears even the first bytes of a block, which a real disk writes together."""


class PowerCut(BaseException):
    """The power of the simulated machine fails here. Nothing in the product catches it."""


class SimFile:
    """One open file."""

    def __init__(self, disk: SimDisk, path: str, inode: SimInode) -> None:
        self._disk = disk
        self.path = path
        self.inode: SimInode | None = inode
        self.failures_seen = inode.failures

    def get(self) -> SimInode:
        """The inode; opens the file again if it was closed."""
        if self.inode is None:
            self.inode = self._disk.inode(self.path)
            self.failures_seen = self.inode.failures
        return self.inode

    def pwrite(self, data: Buffer, position: int) -> None:
        inode = self.get()
        content = bytes(data)
        try:
            self._disk.step("pwrite")
        except OSError:
            if content:
                inode.write(position, content[: self._disk.rng.randrange(len(content))])
            raise
        self._disk.history.update(f"{self.path} {position}\n".encode() + content)
        inode.write(position, content)

    def pread(self, length: int, position: int) -> bytes:
        self._disk.step("pread", changes=False)
        return bytes(self.get().seen[position : position + length])

    def pread_nowait(self, length: int, position: int) -> bytes | bytearray | None:
        self._disk.step("pread", changes=False)
        if self._disk.rng.random() < self._disk.cold:
            return None
        return self.get().seen[position : position + length]

    def truncate(self, size: int) -> None:
        self._disk.step("truncate")
        self.get().truncate(size)

    def size(self) -> int:
        return len(self.get().seen)

    def close(self) -> None:
        self.inode = None


class SimDisk:
    """`Disk` in memory. `fail` maps the number of a call to an errno; `cut_at` is the call before which the
    power fails. Calls that only read are not counted, unless `count_reads`."""

    def __init__(self, clock: SimClock, rng: random.Random, root: SimFolder | None = None) -> None:
        self.clock = clock
        self.rng = rng
        self.max_unsynced_files = 256
        self.root = root or SimFolder()
        self.names: list[NameChange] = []
        """Unsynced changes of names, in order."""
        self.names_made = 0
        self.calls = 0
        self.fail: dict[int, int] = {}
        self.cut_at = -1
        self.count_reads = False
        self.cold = 0.0
        """Probability that a read finds the page cache empty."""
        self.sync_fails = 0.0
        """Probability that the sync of one file or folder fails."""
        self.sync_fails_in: str | tuple[str, ...] = ""
        """Only syncs of paths that begin with this, or with one of these, fail."""
        self.failed: list[str] = []
        """Paths whose sync failed."""
        self._in_flight: dict[Promise[SyncResults], tuple[Callable[[], SyncResults], int | None]] = {}
        """Work of the sync process that is not done, and how many results it has; None: it is no sync."""
        self.slow_s = 0.002
        self.trace: list[str] = []
        self.history = hashlib.blake2b(digest_size=16)
        """Of each call that changes something: its virtual time and what it wrote. Continues over crashes."""
        self.dead = False
        self.name = "disk"  # a copy on another disk has another

    # Faults.

    def step(self, name: str, changes: bool = True) -> None:
        """Count and trace a call; fail it or cut the power if that is due."""
        assert not self.dead, "the machine is off"
        if not changes and not self.count_reads:
            return
        self.calls += 1
        self.trace.append(name)
        self.history.update(f"{name} {self.clock.monotonic():.9f}\n".encode())
        if self.calls == self.cut_at:
            raise PowerCut
        code = self.fail.get(self.calls)
        if code is not None:
            raise OSError(code, f"injected at call {self.calls} ({name})")

    def power_cut(self, clock: SimClock) -> SimDisk:
        """The disk that the next start finds after a power cut, on a new clock."""
        self.dead = True
        for change in self.names:
            if self.rng.random() < 0.5:
                self._apply(change)
        after = SimDisk(clock, self.rng, self._survivor(self.root, {}))
        after.name, after.history = self.name, self.history
        return after

    def kill(self, clock: SimClock) -> SimDisk:
        """The disk after kill -9: everything that was written is there, synced or not."""
        self.dead = True
        after = SimDisk(clock, self.rng, self.root)
        after.names, after.names_made, after.name = self.names, self.names_made, self.name
        after.history = self.history
        return after

    def _survivor(self, folder: SimFolder, done: dict[int, SimInode]) -> SimFolder:
        new = SimFolder()
        for name, node in folder.disk.items():
            if isinstance(node, SimFolder):
                new.disk[name] = self._survivor(node, done)
                continue
            if id(node) not in done:
                node.lose(self.rng)
                done[id(node)] = inode = SimInode()
                inode.seen, inode.disk = bytearray(node.disk), node.disk
            new.disk[name] = done[id(node)]
        new.seen = dict(new.disk)
        return new

    @staticmethod
    def _apply(change: NameChange) -> None:
        for folder, name, node in change.parts:
            if node is None:
                folder.disk.pop(name, None)
            else:
                folder.disk[name] = node

    def _rename(self, parts: list[tuple[SimFolder, str, SimInode | SimFolder | None]]) -> None:
        for folder, name, node in parts:
            if node is None:
                folder.seen.pop(name, None)
            else:
                folder.seen[name] = node
        self.names_made += 1
        self.names.append(NameChange(self.names_made, parts))

    # Finding files and folders.

    def find(self, path: str) -> SimInode | SimFolder | None:
        """The file or folder of this name; None if there is none."""
        node: SimInode | SimFolder | None = self.root
        for name in path.split("/") if path else ():
            if not isinstance(node, SimFolder):
                return None
            node = node.seen.get(name)
        return node

    def _parent(self, path: str) -> tuple[SimFolder, str]:
        head, _, name = path.rpartition("/")
        folder = self.find(head)
        if not isinstance(folder, SimFolder):
            raise FileNotFoundError(errno.ENOENT, "no such folder", head)
        return folder, name

    def inode(self, path: str) -> SimInode:
        """FileNotFoundError if there is no such file."""
        if isinstance(node := self.find(path), SimInode):
            return node
        raise FileNotFoundError(errno.ENOENT, "no such file", path)

    # Disk.

    def lock(self, path: str) -> None:
        if self.find(path) is None:
            self.open(path, create=True)

    def open(self, path: str, *, create: bool = False) -> File:
        if create:
            self.step(f"create {path}")
            folder, name = self._parent(path)
            if name in folder.seen:
                raise FileExistsError(errno.EEXIST, "it exists", path)
            self._rename([(folder, name, SimInode())])
        else:
            self.step("open", changes=False)
        return SimFile(self, path, self.inode(path))

    def exists(self, path: str) -> bool:
        return self.find(path) is not None

    def size(self, path: str) -> int:
        return len(self.inode(path).seen)

    def identity(self, path: str) -> str:
        return self.name

    def unshare(self, path: str) -> bool:
        inode = self.inode(path)
        if inode.links > 1:
            inode.links -= 1
            self.replace_now(path, inode.seen)
            return True
        return False

    def list(self, folder: str) -> list[str]:
        node = self.find(folder)
        return sorted(node.seen) if isinstance(node, SimFolder) else []

    def make_folder(self, folder: str) -> None:
        done = ""
        for name in folder.split("/") if folder else ():
            parent, done = done, f"{done}/{name}" if done else name
            if self.find(done) is None:
                self.step(f"mkdir {done}")
                node = self.find(parent)
                assert isinstance(node, SimFolder)
                self._rename([(node, name, SimFolder())])

    def remove_folder(self, folder: str) -> None:
        if not isinstance(self.find(folder), SimFolder):
            return
        for name in self.list(folder):
            path = f"{folder}/{name}"
            if isinstance(self.find(path), SimFolder):
                self.remove_folder(path)
            else:
                self.unlink(path)
        self.step(f"rmdir {folder}")
        parent, name = self._parent(folder)
        self._rename([(parent, name, None)])

    def rename(self, source: str, target: str) -> None:
        self.step(f"rename {source} {target}")
        node = self.find(source)
        if node is None:
            raise FileNotFoundError(errno.ENOENT, "no such file", source)
        self._rename([(*self._parent(source), None), (*self._parent(target), node)])

    def unlink(self, path: str) -> None:
        if self.find(path) is not None:
            self.step(f"unlink {path}")
            self._rename([(*self._parent(path), None)])

    def read_all(self, path: str) -> bytes:
        self.step("read", changes=False)
        return bytes(self.inode(path).seen)

    def write_all(self, path: str, data: Buffer) -> None:
        file = self._open_or_make(path)
        file.truncate(0)
        file.pwrite(data, 0)

    def append(self, path: str, data: Buffer, position: int) -> None:
        self._open_or_make(path).pwrite(data, position)

    def _open_or_make(self, path: str) -> File:
        return self.open(path, create=self.find(path) is None)

    def replace_now(self, path: str, data: Buffer) -> None:
        self.write_all(f"{path}.tmp", data)
        self.sync_now([self.open(f"{path}.tmp")])
        self.rename(f"{path}.tmp", path)
        self.sync_now([], [path.rpartition("/")[0]])

    def replace(self, path: str, data: Buffer) -> Promise[None]:
        out: Promise[None] = Promise()

        def synced(promise: Promise[None]) -> None:
            try:
                promise.result()
                self.rename(f"{path}.tmp", path)
            except OSError as error:
                out.fail(error)
            else:
                self.sync([], [path.rpartition("/")[0]]).then(out.copy_result)

        try:
            self.write_all(f"{path}.tmp", data)
        except OSError as error:
            return Promise.failed(error)
        self.sync([self.open(f"{path}.tmp")]).then(synced)
        return out

    # Syncs.

    def _fails(self, path: str) -> bool:
        if self.rng.random() < self.sync_fails and path.startswith(self.sync_fails_in):
            self.failed.append(path)
            return True
        return False

    def _sync_file(self, file: File, number: int) -> None:
        assert isinstance(file, SimFile)
        self.step("sync file")
        try:
            inode = file.get()
        except FileNotFoundError:
            return
        if self._fails(file.path):
            inode.lose(self.rng)
            inode.failures += 1
        if file.failures_seen < inode.failures:
            file.failures_seen = inode.failures
            raise OSError(errno.EIO, "injected: the device lost it", file.path)
        inode.flush(number)

    def _sync_folder(self, folder: str, known: int) -> None:
        self.step(f"sync folder {folder}")
        node = self.find(folder)
        if node is None:
            return
        if self._fails(folder):
            raise OSError(errno.EIO, "injected: folder", folder)
        remaining = []
        for change in self.names:
            if change.number <= known and any(folder_node is node for folder_node, _, _ in change.parts):
                self._apply(change)
            else:
                remaining.append(change)
        self.names = remaining

    def _later(self, work: Callable[[], SyncResults], count: int | None = None) -> Promise[SyncResults]:
        out: Promise[SyncResults] = Promise()

        def run() -> None:
            if self._in_flight.pop(out, None) is None:
                return
            try:
                results = work()
            except OSError as error:
                out.fail(error)
            else:
                out.resolve(results)

        self._in_flight[out] = work, count
        self.clock.call_later(self.rng.random() * self.slow_s, run)
        return out

    def kill_sync_process(self) -> None:
        """Everything that the sync process has in flight fails, whether it was done or not: its result
        is lost."""
        lost, self._in_flight = self._in_flight, {}
        for out, (work, count) in lost.items():
            error = OSError(errno.EIO, "injected: the sync process died")
            if self.rng.random() < 0.5:
                with contextlib.suppress(OSError):
                    work()
            if count is not None:
                out.resolve([error] * count)
            else:
                out.fail(error)

    def _sync_all(self, files: Sequence[File], folders: Sequence[str]) -> Promise[SyncResults]:
        if error := _try(self.step, "ask sync"):
            return Promise.resolved([error] * (len(files) + len(folders)))
        requested = [(file, self._inode_of(file).number) for file in files]
        known = self.names_made

        def work() -> SyncResults:
            results: SyncResults = []
            for file, number in requested:
                results.append(_try(self._sync_file, file, number))
            results += [_try(self._sync_folder, name, known) for name in folders]
            return results

        return self._later(work, len(files) + len(folders))

    def _inode_of(self, file: File) -> SimInode:
        assert isinstance(file, SimFile)
        try:
            return file.get()
        except FileNotFoundError:
            return SimInode()

    def sync(
        self, files: Sequence[File], folders: Sequence[str] = (), *, background: bool = False
    ) -> Promise[None]:
        return self._sync_all(files, folders).map(_raise_first)

    def sync_each(self, files: Sequence[File], folders: Sequence[str] = ()) -> Promise[SyncResults]:
        return self._sync_all(files, folders)

    def sync_now(self, files: Sequence[File], folders: Sequence[str] = ()) -> None:
        _raise_first(self.sync_each_now(files, folders))

    def sync_each_now(self, files: Sequence[File], folders: Sequence[str]) -> SyncResults:
        results: SyncResults = [_try(self._sync_file, file, self._inode_of(file).number) for file in files]
        return results + [_try(self._sync_folder, folder, self.names_made) for folder in folders]

    def sync_stalled_s(self) -> float:
        return 0.0

    def prefetch(self, file: File, position: int, length: int) -> Promise[None]:
        self.cold, before = 0.0, self.cold

        def prefetched() -> SyncResults:
            self.cold = before
            return []

        return self._later(prefetched).map(lambda _: None)

    def zero_file(self, path: str, size: int) -> Promise[None]:
        if error := _try(self.step, f"zero {path}"):
            return Promise.failed(error)

        def work() -> SyncResults:
            self.write_all(f"{path}.tmp", bytes(size))
            self.sync_now([self.open(f"{path}.tmp")])
            self.rename(f"{path}.tmp", path)
            self.sync_now([], [path.rpartition("/")[0]])
            return []

        return self._later(work).map(lambda _: None)

    def free_bytes(self) -> int:
        return 1 << 40

    def capacity_bytes(self) -> int:
        return 1 << 41

    def close(self) -> None:
        """Nothing to stop."""


def _try(work: Callable[..., None], *arguments: object) -> OSError | None:
    try:
        work(*arguments)
    except OSError as error:
        return error
    return None


def _raise_first(results: SyncResults) -> None:
    for error in results:
        if error is not None:
            raise error
