"""The disk, as an argument.

Owns: the `Disk` and `File` that the log is written against, and the real ones. Refuses: paths outside its
root. Called by the log only. All paths are relative to the data folder, with `/`. Tests run the same log on a
simulated disk that forgets what was not synced (`tests/support/simdisk.py`).

Two kinds of calls. Page-cache calls return at once and run on the event loop: `pwrite`, `pread_nowait`,
`truncate`, `open`, `rename`, `unlink`. What waits for the device returns a `Promise` and runs in the helper
process: `sync`, `prefetch`, `zero_file`. `pread` and `sync_now` may block: only start-up, shutdown and worker
processes call them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeAlias

from mainstem.promise import Promise

Buffer: TypeAlias = bytes | bytearray | memoryview
SyncResults: TypeAlias = list[OSError | None]


class File(Protocol):
    """One open file. Not closed while it has unsynced bytes: a closed dirty file loses its write error."""

    @property
    def path(self) -> str:
        """Relative to the data folder."""

    def pwrite(self, data: Buffer, position: int) -> None:
        """Write all of `data` (loops on short writes). OSError: some of it may be there; the caller
        truncates."""

    def pread(self, length: int, position: int) -> bytes:
        """Up to `length` bytes, fewer only at the end of the file. May block."""

    def pread_nowait(self, length: int, position: int) -> bytes | bytearray | None:
        """As `pread` but from the page cache alone; None when any of it would have to come from the
        device."""

    def truncate(self, size: int) -> None:
        """Cut (or extend with zeros) to `size` bytes."""

    def size(self) -> int:
        """Bytes in the file."""

    def close(self) -> None:
        """Let the descriptor go. Idempotent; a later use opens the path again (also after a failed sync: a
        descriptor opened before it would keep its own error, STORAGE part 8)."""


class Disk(Protocol):
    """The data folder. Raises OSError as the system does."""

    max_unsynced_files: int
    """Files that a start may write to before it syncs them: each keeps its descriptor until then."""

    def lock(self, path: str) -> None:
        """Take this file's lock for the life of the Disk. BlockingIOError: another process holds it."""

    def identity(self, path: str) -> str:
        """Tells this file from every copy of it, also after restarts; no spaces."""

    def unshare(self, path: str) -> bool:
        """Give the file an inode of its own if it has one in common with others (hard links of a backup), so
        that they do not change with it. True: it got one; who has it open closes it, and its folder is to be
        synced. Blocks."""

    def open(self, path: str, *, create: bool = False) -> File:
        """Open for reading and writing; `create` makes it (and it must not exist: FileExistsError)."""

    def exists(self, path: str) -> bool: ...

    def size(self, path: str) -> int: ...

    def list(self, folder: str) -> list[str]:
        """Names in a folder, sorted; empty if there is no such folder."""

    def make_folder(self, folder: str) -> None:
        """With parents; fine if it exists. Mode 0700."""

    def remove_folder(self, folder: str) -> None:
        """With what is in it; fine if it is not there."""

    def rename(self, source: str, target: str) -> None:
        """Atomic; replaces `target`."""

    def unlink(self, path: str) -> None:
        """Fine if it is not there. An open File of it still works until it is closed."""

    def read_all(self, path: str) -> bytes:
        """A small file, whole. May block."""

    def write_all(self, path: str, data: Buffer) -> None:
        """A small disposable file, whole, not synced, not atomic."""

    def append(self, path: str, data: Buffer, position: int) -> None:
        """Write `data` at `position` of a small disposable file, made if missing, not synced (index
        entries)."""

    def replace_now(self, path: str, data: Buffer) -> None:
        """Write, fsync, rename, fsync the folder. Blocks."""

    def replace(self, path: str, data: Buffer) -> Promise[None]:
        """As `replace_now`, in the helper."""

    def sync(
        self, files: Sequence[File], folders: Sequence[str] = (), *, background: bool = False
    ) -> Promise[None]:
        """fdatasync the files, then fsync the folders. Fails with the first OSError. `background` yields to
        commits."""

    def sync_each(self, files: Sequence[File], folders: Sequence[str] = ()) -> Promise[SyncResults]:
        """As `sync` in the background, but one verdict each, in order."""

    def sync_now(self, files: Sequence[File], folders: Sequence[str] = ()) -> None:
        """As `sync`, at once. Blocks."""

    def sync_each_now(self, files: Sequence[File], folders: Sequence[str]) -> SyncResults:
        """As `sync_now`, the files beside each other, then the folders: one verdict each, in order. Takes a
        descriptor for each. Blocks. OSError: one of them could not be opened."""

    def sync_stalled_s(self) -> float:
        """Seconds since the disk last answered the sync of a commit, while it owes an answer; else 0."""

    def prefetch(self, file: File, position: int, length: int) -> Promise[None]:
        """Bring a range into the page cache, so that `pread_nowait` finds it."""

    def zero_file(self, path: str, size: int) -> Promise[None]:
        """Make a file of written (not just allocated) zeros, synced, with its folder. Under its name only
        when whole."""

    def free_bytes(self) -> int:
        """Free for this user on the file system."""

    def capacity_bytes(self) -> int:
        """Used and free for this user on the file system; 0: it does not tell."""

    def close(self) -> None:
        """End the helper."""
