"""The contract of the disk: the protocols `Disk` and `File` that the log is written against.

Owns: what each call promises. Refuses: paths outside the data folder: all paths are relative to it, with `/`.
Implementations: `real_disk.py`, `memory_disk.py`, and the simulated disk of the tests, which forgets what was
not synced.

Two kinds of calls. Page-cache calls return at once and run on the event loop: `pwrite`, `pread_nowait`,
`truncate`, `open`, `rename`, `unlink`. Calls that wait for the device return a `Promise` and run in the sync
process: `sync`, `prefetch`, `zero_file`. `pread` and the calls that end in `_now` may block: only start-up,
shutdown and worker processes use them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeAlias

from mainstem.promise import Promise

Buffer: TypeAlias = bytes | bytearray | memoryview
SyncResults: TypeAlias = list[OSError | None]
"""For each file and folder, in order: its error, or None if it is durable."""


class File(Protocol):
    """One open file. It is not closed while it has unsynced bytes: a closed dirty file loses its write
    error."""

    @property
    def path(self) -> str:
        """Path of the file, relative to the data folder."""

    def pwrite(self, data: Buffer, position: int) -> None:
        """Write all of `data`, also when the system writes only a part at a time. OSError: a part of it may
        be in the file; the caller truncates."""

    def pread(self, length: int, position: int) -> bytes:
        """Up to `length` bytes, fewer only at the end of the file. May block."""

    def pread_nowait(self, length: int, position: int) -> bytes | bytearray | None:
        """As `pread` but from the page cache alone; None if any of it would have to come from the device."""

    def truncate(self, size: int) -> None:
        """Shorten the file to `size` bytes, or extend it with zeros."""

    def size(self) -> int:
        """Bytes in the file."""

    def close(self) -> None:
        """Close the descriptor. Idempotent. A later call opens the path again, with a new descriptor: one
        that was opened before a failed sync would keep its own copy of the error (STORAGE part 8)."""


class Disk(Protocol):
    """The data folder. Raises OSError as the system does."""

    max_unsynced_files: int
    """Files that a start may write to before it syncs them: each keeps its descriptor until then."""

    def lock(self, path: str) -> None:
        """Lock this file for the life of the Disk. BlockingIOError: another process holds the lock."""

    def identity(self, path: str) -> str:
        """An identifier no copy of the file shares; stable over restarts, without spaces."""

    def unshare(self, path: str) -> bool:
        """Give the file an inode of its own if it shares one with other names (the hard links of a backup),
        so that they do not change with it. True if that was needed: the caller closes open Files of it and
        syncs its folder. Blocks."""

    def open(self, path: str, *, create: bool = False) -> File:
        """Open for reading and writing; `create` makes the file. FileExistsError: it exists already."""

    def exists(self, path: str) -> bool:
        """Whether there is a file or folder of this name."""

    def size(self, path: str) -> int:
        """Bytes in a file. FileNotFoundError."""

    def list(self, folder: str) -> list[str]:
        """Names in a folder, sorted; empty if there is no such folder."""

    def make_folder(self, folder: str) -> None:
        """Create the folder and its parents, with mode 0700. It may exist already."""

    def remove_folder(self, folder: str) -> None:
        """Remove the folder and all its contents. It may be missing."""

    def rename(self, source: str, target: str) -> None:
        """Rename a file or folder atomically. A file `target` is replaced."""

    def unlink(self, path: str) -> None:
        """Delete the file. It may be missing. An open File of it still works until it is closed. The room it
        takes on the disk is free a little later."""

    def read_all(self, path: str) -> bytes:
        """The whole contents of a small file. May block."""

    def write_all(self, path: str, data: Buffer) -> None:
        """Write a small disposable file as a whole. Neither synced nor atomic."""

    def append(self, path: str, data: Buffer, position: int) -> None:
        """Write `data` at `position` of a small disposable file (index entries). Creates it if missing. Not
        synced."""

    def replace_now(self, path: str, data: Buffer) -> None:
        """Replace a file atomically and durably: write, fsync, rename, fsync the folder. Blocks."""

    def replace(self, path: str, data: Buffer) -> Promise[None]:
        """As `replace_now`, in the sync process."""

    def sync(
        self, files: Sequence[File], folders: Sequence[str] = (), *, background: bool = False
    ) -> Promise[None]:
        """fdatasync the files, then fsync the folders. Fails with the first OSError. `background` yields to
        commits."""

    def sync_each(self, files: Sequence[File], folders: Sequence[str] = ()) -> Promise[SyncResults]:
        """As `sync` in the background, with one result for each file and folder."""

    def sync_now(self, files: Sequence[File], folders: Sequence[str] = ()) -> None:
        """As `sync`. Blocks."""

    def sync_each_now(self, files: Sequence[File], folders: Sequence[str]) -> SyncResults:
        """Sync the files in parallel, then the folders, with one result for each. Needs a descriptor for
        each. Blocks. OSError: one of them could not be opened."""

    def sync_stalled_s(self) -> float:
        """Seconds since the disk last completed a sync of a commit, while one is in flight; otherwise 0."""

    def prefetch(self, file: File, position: int, length: int) -> Promise[None]:
        """Read a range into the page cache, so that `pread_nowait` finds it there."""

    def zero_file(self, path: str, size: int) -> Promise[None]:
        """Make a file of `size` written (not just allocated) zeros, synced, with its folder. It gets its name
        only when it is whole."""

    def free_bytes(self) -> int:
        """Bytes of the file system that this user may still write."""

    def capacity_bytes(self) -> int:
        """Used and free bytes of the file system; 0 if it does not report its size."""

    def close(self) -> None:
        """Stop the sync process, close all files and release the lock."""
