"""Deletes large files without keeping the event loop: the file system frees the blocks in another thread.

Owns: the thread that closes the last descriptors of deleted files. The blocks of a file are freed when its
last name and its last descriptor are gone. The call that removes the last one waits for that: tens of
milliseconds on a busy disk, longer for a larger file. Refuses: to return before the name is gone.
"""

from __future__ import annotations

import contextlib
import os
import stat
from concurrent.futures import Future, ThreadPoolExecutor

from mainstem.log.disk.open_files import OpenFiles

LARGE_BYTES = 1 << 20
"""A smaller file is deleted at once."""
WAITING_MAX = 64
"""Descriptors that wait for the thread; the files after that are deleted at once."""


class DeletedFiles:
    """Closes descriptors of deleted files."""

    def __init__(self, files: OpenFiles) -> None:
        self._files = files
        self._thread = ThreadPoolExecutor(1, "deleted-files")
        self._waiting_max = min(WAITING_MAX, files.max_unsynced_files)
        self._waiting: set[Future[None]] = set()

    def unlink(self, full_path: str) -> None:
        """Delete the file. FileNotFoundError. OSError."""
        descriptor = -1
        status = os.lstat(full_path)
        if stat.S_ISREG(status.st_mode) and status.st_size >= LARGE_BYTES and self._has_room():
            with contextlib.suppress(OSError):  # no descriptor is left: delete it all the same
                descriptor = self._files.open(full_path, os.O_RDONLY, essential=False)
        try:
            os.unlink(full_path)
        finally:
            if descriptor >= 0:
                self.close(descriptor)

    def close(self, descriptor: int) -> None:
        """Close the descriptor: in the thread, if its file is deleted."""
        if self._has_room() and _is_deleted(descriptor):
            self._waiting.add(self._thread.submit(os.close, descriptor))
        else:
            os.close(descriptor)

    def _has_room(self) -> bool:
        self._waiting = {closing for closing in self._waiting if not closing.done()}
        return len(self._waiting) < self._waiting_max

    def end(self) -> None:
        """Wait until all are closed. Later calls need no thread."""
        self._waiting_max = 0
        self._thread.shutdown()


def _is_deleted(descriptor: int) -> bool:
    """Whether the file has no name any more. A disk that is gone cannot say it; to close must still work."""
    try:
        return not os.fstat(descriptor).st_nlink
    except OSError:
        return False
