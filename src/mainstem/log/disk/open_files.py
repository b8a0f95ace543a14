"""Descriptors of the real disk: few, and never none.

Owns: which files are open, in order of last use; which of them make room for others; the descriptors that are
kept for what may not fail. Refuses: to close a file with unsynced bytes, for a closed dirty file loses its
write error, and one of the journal, without which nothing is acknowledged. Called by `real_disk.py` only.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
from collections import OrderedDict
from typing import Protocol

from mainstem.log import paths

SLACK_DIVISOR = 32
"""A part of the limit: above it, files are looked through once for so many that are opened, for there may be
thousands of which none may be closed yet."""
UNSYNCED_FILES_MAX = 256
SPARE_DESCRIPTORS = 16
"""Kept for the journal and for what is open for a moment."""
_OUT_OF_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)


def raise_limit() -> int:
    """Raise this process's limit on open files to the most it may have; returns it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = hard if hard != resource.RLIM_INFINITY else 1 << 20
    if wanted > soft:
        # macOS refuses more than OPEN_MAX (10,240) even where the hard limit says "infinity".
        for target in (wanted, 10_240):
            with contextlib.suppress(ValueError, OSError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))
                return target
    return soft


class EvictableFile(Protocol):
    """A file whose descriptor comes and goes."""

    path: str
    written: int
    synced: int

    def close(self) -> None:
        """Let the descriptor go."""


class OpenFiles:
    """The open files of one data folder."""

    def __init__(self, most: int) -> None:
        limit = raise_limit()
        self._limit = max(16, min(most, limit // 2))  # the other half is for connections
        self.max_unsynced_files = min(UNSYNCED_FILES_MAX, self._limit // 4)
        self._slack = self._limit // SLACK_DIVISOR
        self._scan_threshold = self._limit
        """So many are open before those that may be closed are looked for."""
        self._open: OrderedDict[EvictableFile, None] = OrderedDict()
        self._spare_descriptors: list[int] = []
        self.collecting = False
        """While descriptors of a request are collected: none may be closed before it is sent."""

    def open(self, full_path: str, flags: int, *, essential: bool = True) -> int:
        """A new descriptor. If the process may have no more: in place of a clean file's, or, if this one is
        `essential`, of one that was kept for it. OSError."""
        flags |= os.O_CLOEXEC
        if len(self._spare_descriptors) < SPARE_DESCRIPTORS:
            self._reserve_spares()
        try:
            return os.open(full_path, flags, 0o600)
        except OSError as error:
            if error.errno not in _OUT_OF_DESCRIPTORS or not self._free_descriptor(essential):
                raise
        return os.open(full_path, flags, 0o600)

    def _reserve_spares(self) -> None:
        with contextlib.suppress(OSError):
            while len(self._spare_descriptors) < SPARE_DESCRIPTORS:
                self._spare_descriptors.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))

    def _free_descriptor(self, essential: bool) -> bool:
        for file in () if self.collecting else self._open:
            if _can_close(file):
                file.close()
                return True
        if essential and self._spare_descriptors:
            os.close(self._spare_descriptors.pop())
            return True
        return False

    def release_spares(self) -> None:
        """Let go what was kept, for the next call. It is kept again with the next file that is opened."""
        for descriptor in self._spare_descriptors:
            os.close(descriptor)
        self._spare_descriptors = []

    def on_opened(self, file: EvictableFile) -> None:
        """It holds a descriptor. Closes clean files, last used first, above the limit."""
        self._open[file] = None
        if len(self._open) > self._scan_threshold and not self.collecting:
            for other in list(self._open):
                if other is not file and _can_close(other):
                    other.close()
                    if len(self._open) <= self._limit - self._slack:
                        break
            self._scan_threshold = max(self._limit, len(self._open) + self._slack)

    def on_used(self, file: EvictableFile) -> None:
        """It was used just now."""
        self._open.move_to_end(file)

    def on_closed(self, file: EvictableFile) -> None:
        """It holds no descriptor any more."""
        self._open.pop(file, None)
        self._scan_threshold = max(self._limit, min(self._scan_threshold, len(self._open) + self._slack))

    def close(self) -> None:
        """Close all, clean or not."""
        for file in list(self._open):
            file.close()
        self.release_spares()


def is_essential(path: str) -> bool:
    """Nothing can be acknowledged without this file of the data folder."""
    return path.startswith(paths.JOURNAL)


def _can_close(file: EvictableFile) -> bool:
    return file.synced == file.written and not is_essential(file.path)
