"""Descriptors of the real disk: few, and never none.

Owns: which files are open, in order of last use; which of them make room for others; the descriptors that are
kept for what may not fail. Refuses: to close a file with unsynced bytes, for a closed dirty file loses its
write error, and one of the journal, without which nothing is acknowledged. Called by `realdisk.py` only.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
from collections import OrderedDict
from typing import Protocol

from mainstem.log import paths

SLACK = 32
"""A part of the limit: above it, files are looked through once for so many that are opened, for there may be
thousands of which none may be closed yet."""
MOST_UNSYNCED = 256
SPARE = 16
"""Kept for the journal and for what is open for a moment."""
_NONE_LEFT = (errno.EMFILE, errno.ENFILE)


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


class Closable(Protocol):
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
        self._most = max(16, min(most, limit // 2))  # the other half is for connections
        self.most_unsynced = min(MOST_UNSYNCED, self._most // 4)
        self._slack = self._most // SLACK
        self._look_above = self._most
        """So many are open before those that may be closed are looked for."""
        self._open: OrderedDict[Closable, None] = OrderedDict()
        self._spare: list[int] = []
        self.gathering = False
        """While descriptors of a request are collected: none may be closed before it is sent."""

    def open(self, full_path: str, flags: int, *, needed: bool = True) -> int:
        """A new descriptor. If the process may have no more: in place of a clean file's, or, if this one is
        `needed`, of one that was kept for it. OSError."""
        flags |= os.O_CLOEXEC
        if len(self._spare) < SPARE:
            self._keep_some()
        try:
            return os.open(full_path, flags, 0o600)
        except OSError as error:
            if error.errno not in _NONE_LEFT or not self._make_room(needed):
                raise
        return os.open(full_path, flags, 0o600)

    def _keep_some(self) -> None:
        with contextlib.suppress(OSError):
            while len(self._spare) < SPARE:
                self._spare.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))

    def _make_room(self, needed: bool) -> bool:
        for file in () if self.gathering else self._open:
            if _may_go(file):
                file.close()
                return True
        if needed and self._spare:
            os.close(self._spare.pop())
            return True
        return False

    def give_spare(self) -> None:
        """Let go what was kept, for the next call. It is kept again with the next file that is opened."""
        for descriptor in self._spare:
            os.close(descriptor)
        self._spare = []

    def opened(self, file: Closable) -> None:
        """It holds a descriptor. Closes clean files, last used first, above the limit."""
        self._open[file] = None
        if len(self._open) > self._look_above and not self.gathering:
            for other in list(self._open):
                if other is not file and _may_go(other):
                    other.close()
                    if len(self._open) <= self._most - self._slack:
                        break
            self._look_above = max(self._most, len(self._open) + self._slack)

    def used(self, file: Closable) -> None:
        """It was used just now."""
        self._open.move_to_end(file)

    def closed(self, file: Closable) -> None:
        """It holds no descriptor any more."""
        self._open.pop(file, None)
        self._look_above = max(self._most, min(self._look_above, len(self._open) + self._slack))

    def close(self) -> None:
        """Close all, clean or not."""
        for file in list(self._open):
            file.close()
        self.give_spare()


def is_needed(path: str) -> bool:
    """Nothing can be acknowledged without this file of the data folder."""
    return path.startswith(paths.JOURNAL)


def _may_go(file: Closable) -> bool:
    return file.synced == file.written and not is_needed(file.path)
