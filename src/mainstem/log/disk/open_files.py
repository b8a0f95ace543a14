"""The open files of the real disk: a bounded number of descriptors, with some in reserve.

Owns: which files are open, in order of last use; which of them are closed to make room for others; the
descriptors that are kept in reserve for what must not fail. Refuses: to close a file with unsynced bytes,
because a closed dirty file loses its write error; and to close a journal file, without which nothing can be
acknowledged.
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
"""Above the limit, closable files are searched for only once per `limit / SLACK_DIVISOR` files opened: there
may be thousands of files of which none may be closed yet."""
UNSYNCED_FILES_MAX = 256
SPARE_DESCRIPTORS = 16
"""Kept in reserve, for the journal and for files that are open only for a moment."""
_OUT_OF_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)


def raise_limit() -> int:
    """Raise this process's limit on open files as far as the system allows; returns the limit."""
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
    """A file whose descriptor may be closed and opened again."""

    path: str
    written: int
    synced: int

    def close(self) -> None:
        """Close the descriptor."""


class OpenFiles:
    """The open files of one data folder."""

    def __init__(self, limit: int) -> None:
        """`limit` is lowered to half of the process's limit: the other half is for connections."""
        process_limit = raise_limit()
        self._limit = max(16, min(limit, process_limit // 2))
        self.max_unsynced_files = min(UNSYNCED_FILES_MAX, self._limit // 4)
        self._slack = self._limit // SLACK_DIVISOR
        self._scan_threshold = self._limit
        """When more files than this are open, closable ones are searched for."""
        self._open: OrderedDict[EvictableFile, None] = OrderedDict()
        """Open files, the least recently used first."""
        self._spare_descriptors: list[int] = []
        self.collecting = False
        """The descriptors of a request are being collected: none may be closed before it is sent."""

    def open(self, full_path: str, flags: int, *, essential: bool = True) -> int:
        """A new descriptor. When the process may have no more, a clean file is closed for it or, if this file
        is `essential`, a descriptor of the reserve is. OSError."""
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
        """Close the reserved descriptors, so that the caller can open as many. They are reserved again when
        the next file is opened."""
        for descriptor in self._spare_descriptors:
            os.close(descriptor)
        self._spare_descriptors = []

    def on_opened(self, file: EvictableFile) -> None:
        """The file has a descriptor now. Above the limit, close clean files, the least recently used
        first."""
        self._open[file] = None
        if len(self._open) > self._scan_threshold and not self.collecting:
            for other in list(self._open):
                if other is not file and _can_close(other):
                    other.close()
                    if len(self._open) <= self._limit - self._slack:
                        break
            self._scan_threshold = max(self._limit, len(self._open) + self._slack)

    def on_used(self, file: EvictableFile) -> None:
        """Note that the file was just used."""
        self._open.move_to_end(file)

    def on_closed(self, file: EvictableFile) -> None:
        """The file has no descriptor any more."""
        self._open.pop(file, None)
        threshold = min(self._scan_threshold, len(self._open) + self._slack)
        self._scan_threshold = max(self._limit, threshold)

    def close(self) -> None:
        """Close all files, clean or not."""
        for file in list(self._open):
            file.close()
        self.release_spares()


def is_essential(path: str) -> bool:
    """Whether a file of the data folder belongs to the journal, without which nothing can be acknowledged."""
    return path.startswith(paths.JOURNAL)


def _can_close(file: EvictableFile) -> bool:
    return file.synced == file.written and not is_essential(file.path)
