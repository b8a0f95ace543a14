"""A file system for real processes that loses at a power cut what was not synced: `SimDisk` through FUSE.

    python -m tests.support.lazyfs FOLDER SEED      # then a line on its standard input is a power cut

Owns: `LazySyncFileSystem`, which gives the simulated disk's files and names to the kernel, and the program
around it. It keeps everything in memory. A cut stops all writing at once, unmounts, lets the seed choose what
of the unsynced bytes and names the disk has, and mounts that. It prints a line each time it is mounted.
Nothing but a sync of the file makes its bytes safe, and nothing but a sync of its folder makes its name safe:
POSIX promises no more.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import random
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.support.clock import SimClock
from tests.support.simdisk import SimDisk
from tests.support.siminode import SimFolder, SimInode

try:
    import mfusepy
except (ImportError, OSError):  # it looks for libfuse when it is imported
    mfusepy = None

SIZE = 8 << 30
BLOCK = 4096


class LazySyncFileSystem(mfusepy.Operations if mfusepy else object):  # type: ignore[misc]  # the library has no types
    """The kernel's calls on a simulated disk."""

    use_ns = True

    def __init__(self, disk: SimDisk) -> None:
        self.disk = disk
        self.off = False
        """The power is off: every write fails."""
        self._open: dict[int, SimInode] = {}
        self._numbers = itertools.count(1)
        self._known = 0.0

    def _alive(self) -> None:
        if self.off:
            raise mfusepy.FuseOSError(errno.EIO)

    def _node(self, path: str) -> SimInode | SimFolder:
        node = self.disk.find(path.strip("/"))
        if node is None:
            raise mfusepy.FuseOSError(errno.ENOENT)
        return node

    def _file(self, path: str, handle: int | None) -> SimInode:
        node = self._open.get(handle or 0) or self._node(path)
        if not isinstance(node, SimInode):
            raise mfusepy.FuseOSError(errno.EISDIR)
        return node

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        node = self._open.get(fh or 0) or self._node(path)
        owner = {"st_uid": os.getuid(), "st_gid": os.getgid(), "st_ino": id(node) >> 4}
        if isinstance(node, SimFolder):
            return {**owner, "st_mode": stat.S_IFDIR | 0o700, "st_nlink": 2}
        return {**owner, "st_mode": stat.S_IFREG | 0o600, "st_nlink": 1, "st_size": len(node.seen)}

    def readdir(self, path: str, fh: int) -> list[str]:
        node = self._node(path)
        assert isinstance(node, SimFolder)
        return [".", "..", *node.seen]

    def create(self, path: str, mode: int, fi: object = None) -> int:
        self._alive()
        self.disk.open(path.strip("/"), create=True)
        return self.open(path, 0)

    def open(self, path: str, flags: int) -> int:
        number = next(self._numbers)
        self._open[number] = self._file(path, None)
        return number

    def release(self, path: str, fh: int) -> int:
        self._open.pop(fh, None)
        return 0

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        return bytes(memoryview(self._file(path, fh).seen)[offset : offset + size])

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        self._alive()
        self._file(path, fh).write(offset, data)
        return len(data)

    def truncate(self, path: str, length: int, fh: int | None = None) -> int:
        self._alive()
        self._file(path, fh).truncate(length)
        return 0

    def fsync(self, path: str, datasync: int, fh: int) -> int:
        self._alive()
        inode = self._file(path, fh)
        inode.flush(inode.number)
        return 0

    def fsyncdir(self, path: str, datasync: int, fh: int) -> int:
        self._alive()
        self.disk.sync_now([], [path.strip("/")])
        return 0

    def mkdir(self, path: str, mode: int) -> int:
        self._alive()
        self.disk.make_folder(path.strip("/"))
        return 0

    def rmdir(self, path: str) -> int:
        self._alive()
        node = self._node(path)
        if isinstance(node, SimFolder) and node.seen:
            raise mfusepy.FuseOSError(errno.ENOTEMPTY)
        self.disk.remove_folder(path.strip("/"))
        return 0

    def unlink(self, path: str) -> int:
        self._alive()
        self.disk.unlink(path.strip("/"))
        return 0

    def rename(self, old: str, new: str) -> int:
        self._alive()
        self.disk.rename(old.strip("/"), new.strip("/"))
        return 0

    def chmod(self, path: str, mode: int) -> int:
        return 0

    def chown(self, path: str, uid: int, gid: int) -> int:
        return 0

    def utimens(self, path: str, times: object = None) -> int:
        return 0

    def statfs(self, path: str) -> dict[str, int]:
        blocks = SIZE // BLOCK
        return {
            "f_bsize": BLOCK,
            "f_frsize": BLOCK,
            "f_blocks": blocks,
            "f_bfree": blocks,
            "f_bavail": blocks,
        }


def serve(folder: Path, seed: int) -> None:
    """Mount, and mount again after each power cut, until standard input ends."""
    disk = SimDisk(SimClock(), random.Random(seed))
    ended = threading.Event()

    def cut_on_input() -> None:
        for _ in sys.stdin:
            lazy.off = True
            _unmount(folder)
        ended.set()
        lazy.off = True
        _unmount(folder)

    lazy = LazySyncFileSystem(disk)
    threading.Thread(target=_when_mounted, args=(folder,), daemon=True).start()
    threading.Thread(target=cut_on_input, daemon=True).start()
    while not ended.is_set():
        mfusepy.FUSE(
            lazy,
            str(folder),
            foreground=True,
            nothreads=True,
            attr_timeout=0,
            entry_timeout=0,
            fsname="lazyfs",
        )
        if not ended.is_set():
            lazy = LazySyncFileSystem(lazy.disk.power_cut(SimClock()))
            threading.Thread(target=_when_mounted, args=(folder,), daemon=True).start()


def _when_mounted(folder: Path) -> None:
    while not folder.is_mount():
        time.sleep(0.005)
    print("mounted", flush=True)


def _unmount(folder: Path) -> None:
    subprocess.run(["umount", "--lazy", str(folder)], check=False, capture_output=True)


def why_not() -> str | None:
    """What is missing on this machine for it; None if it can be used."""
    if mfusepy is None:
        return "mfusepy (PyPI) or libfuse (Debian's libfuse2)"
    return None if os.access("/dev/fuse", os.R_OK | os.W_OK) else "/dev/fuse may not be used"


@contextlib.contextmanager
def mounted(folder: Path, seed: int) -> Iterator[Callable[[], None]]:
    """Mount it at `folder`. Yields a function that cuts the power and returns when the disk is mounted again.
    No process may have a file open then."""
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "tests.support.lazyfs", str(folder), str(seed)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def until_mounted() -> None:
            assert process.stdout is not None
            assert process.stdout.readline() == "mounted\n", "FUSE did not mount"

        def cut() -> None:
            assert process.stdin is not None
            process.stdin.write("cut\n")
            process.stdin.flush()
            until_mounted()

        until_mounted()
        try:
            yield cut
        finally:
            process.stdin.close()
            process.wait(20)


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]))
