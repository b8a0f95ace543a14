"""The pool of journal files: written full of zeros once, then overwritten again and again.

Owns: which file is free, live, failed or needed by a fenced partition, and creating new ones. Refuses: to
write groups (`journal.py`).

Rule numbers are those of FORMAT.md.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from mainstem.clock import Clock
from mainstem.log import paths
from mainstem.log.commit.contract import PartitionKey
from mainstem.log.commit.journal_format import BLOCK, JournalFileHeader
from mainstem.log.config import LogConfig
from mainstem.log.disk.contract import Disk, File
from mainstem.promise import Promise

_RETRY_S = 1.0
FILES_MAX_FACTOR = 2
"""The pool has at most this many times the configured number of files: files that fenced partitions need are
replaced by others, which are deleted afterwards (R10)."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class JournalFile:
    """One file of the pool."""

    number: int
    """Number in the file's name. It says nothing about the contents: the header's seq does."""
    file: File
    size: int
    header: JournalFileHeader | None = None
    """Header of its present use; None: free."""
    position: int = BLOCK
    """Position at which the next group is written."""
    records: int = 0
    """Records written in its present use."""
    failed: bool = False
    """True: a sync of the file failed. It is never written again, and deleted once it is not needed (R5)."""
    pinned: bool = False
    """True: a checkpoint no longer needs the file, but a fenced partition does (R10), or the annulment of a
    failed group that one needs."""
    keys: set[PartitionKey] = field(default_factory=set)
    """Partitions that have records in it."""

    @property
    def seq(self) -> int:
        """The seq of the file's present use."""
        assert self.header is not None, "a free file has no seq"
        return self.header.seq

    @property
    def is_in_ring(self) -> bool:
        """Whether the file, if it is live, is free again after a checkpoint."""
        return not (self.failed or self.pinned)


class JournalFilePool:
    """All journal files. `on_changed` is called when a file has become free, and when none can be created."""

    def __init__(self, disk: Disk, clock: Clock, config: LogConfig, on_changed: Callable[[], None]) -> None:
        self._disk = disk
        self._clock = clock
        self._config = config
        self._on_changed = on_changed
        self._free: list[JournalFile] = []
        self.live: list[JournalFile] = []
        """Files that hold records still needed, by seq."""
        self._creating = False
        self._creation_error: OSError | None = None
        """Why the last attempt to create a file failed."""
        self._stopped = False
        self._next_number = 0

    def start(self) -> None:
        """Called after recovery. Existing files are opened and can be overwritten; if there are fewer than
        configured, more are created in the background."""
        for name in self._disk.list(paths.JOURNAL):
            number = paths.parse_journal_file(name)
            if number is None:
                continue
            self._next_number = max(self._next_number, number + 1)
            path = paths.journal_file_path(number)
            size = self._disk.size(path)
            if size < min(self._config.first_journal_file_bytes, self._config.journal_file_bytes):
                self._disk.unlink(path)
            else:
                self._free.append(JournalFile(number, self._disk.open(path), size))
        self._create_missing()

    def stop(self) -> None:
        """Create no more files: the log closes."""
        self._stopped = True

    def _usable_count(self) -> int:
        """How many files are in the ring: free, or free again after a checkpoint."""
        return len(self._free) + sum(file.is_in_ring for file in self.live)

    def _is_at_limit(self) -> bool:
        count = len(self._free) + sum(not file.failed for file in self.live)
        return count >= FILES_MAX_FACTOR * self._config.journal_files

    def _create_missing(self) -> None:
        count = self._usable_count()
        if self._stopped or self._creating or count >= self._config.journal_files or self._is_at_limit():
            return
        self._creating = True
        number, self._next_number = self._next_number, self._next_number + 1
        size = self._config.journal_file_bytes if count else self._config.first_journal_file_bytes
        path = paths.journal_file_path(number)

        def created(promise: Promise[None]) -> None:
            self._creating = False
            if self._stopped:
                return
            try:
                promise.result()
                self._free.append(JournalFile(number, self._disk.open(path), size))
            except OSError as error:
                if self._creation_error is None:
                    log.warning(
                        "a journal file of %d MB could not be created: %s; next attempt every %g s",
                        size >> 20, error, _RETRY_S,
                    )  # fmt: skip
                self._creation_error = error
                self._clock.call_later(_RETRY_S, self._create_missing)
                self._on_changed()
                return
            self._creation_error = None
            self._on_changed()
            self._create_missing()

        self._disk.zero_file(path, size).then(created)

    def acquire(self, header: JournalFileHeader) -> JournalFile | None:
        """Take a free file for the use of `header`. None: all are in use, and `on_changed` will be called."""
        if not self._free:
            self._create_missing()
            return None
        assert not self.live or self.live[-1].seq < header.seq, "seq rises with each use of a file"
        file = self._free.pop(0)
        assert not file.failed, "a file whose sync failed is never used again (R5)"
        file.header, file.position, file.records, file.keys, file.pinned = header, BLOCK, 0, set(), False
        self.live.append(file)
        return file

    @property
    def has_free(self) -> bool:
        """Whether a file is free."""
        return bool(self._free)

    def why_exhausted(self) -> str | None:
        """Why no file is free, none can be created now and no checkpoint would free one; None while a file
        can be had."""
        if self._free or any(file.is_in_ring for file in self.live):
            return None
        if self._creation_error is not None:
            return f"no journal file can be created: {self._creation_error}"
        if self._is_at_limit():
            return "partitions that the disk failed under need all journal files"
        return None

    def is_half_used(self) -> bool:
        """Whether more than half of the ring is live."""
        return 2 * sum(file.is_in_ring for file in self.live) > self._config.journal_files

    def needed(self, fenced: set[PartitionKey], below: int) -> list[JournalFile]:
        """Live files with a seq less than `below` that have records of a fenced partition (R10)."""
        return [file for file in self.live if file.seq < below and not fenced.isdisjoint(file.keys)]

    def release(self, first_seq: int, fenced: set[PartitionKey]) -> None:
        """Free the files with a seq less than `first_seq`, which a durable checkpoint no longer needs, except
        those with records of `fenced` partitions. A file after a failed one is kept until that one is
        released: its base group annuls the failed group (R5)."""
        still_live: list[JournalFile] = []
        released: list[JournalFile] = []
        for file in self.live:
            file.pinned = file.seq < first_seq
            if not file.pinned or not fenced.isdisjoint(file.keys) or (still_live and still_live[-1].failed):
                still_live.append(file)
            else:
                released.append(file)
        self.live = still_live
        for file in released:
            file.header, file.pinned = None, False
            if file.failed or self._usable_count() >= self._config.journal_files:
                self._delete(file)
            else:
                self._free.append(file)
        self._create_missing()
        if released:
            self._on_changed()

    def _delete(self, file: JournalFile) -> None:
        file.file.close()
        try:
            self._disk.unlink(file.file.path)
        except OSError as error:
            log.warning("journal file %s could not be deleted; it is not reused: %s", file.file.path, error)
