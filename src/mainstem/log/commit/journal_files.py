"""The journal's files: a ring of slots, zero-written once and then written over.

Owns: which slot is free, live, failed or needed by a fenced partition, and making new ones. Refuses: to write
groups (`journal.py`). Rule numbers are those of FORMAT.md.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from mainstem.clock import Clock
from mainstem.log import paths
from mainstem.log.commit.checkpointer import PartitionKey
from mainstem.log.commit.journal_format import BLOCK, JournalFileHeader
from mainstem.log.config import LogConfig
from mainstem.log.disk.contract import Disk, File
from mainstem.promise import Promise

_RETRY_S = 1.0
PINNED_FILES_MAX = 2

log = logging.getLogger(__name__)


@dataclass(slots=True)
class JournalFile:
    """One file."""

    number: int
    file: File
    size: int
    header: JournalFileHeader | None = None
    """Of its present use; None: free."""
    position: int = BLOCK
    """Where the next group goes."""
    records: int = 0
    failed: bool = False
    """A sync of it failed: it is never written again, and deleted once it is not needed (R5)."""
    keys: set[PartitionKey] = field(default_factory=set)
    """Partitions that have records in it."""


class JournalFilePool:
    """All slots. `changed` is called when a slot has become free."""

    def __init__(self, disk: Disk, clock: Clock, config: LogConfig, changed: Callable[[], None]) -> None:
        self._disk = disk
        self._clock = clock
        self._config = config
        self._on_freed = changed
        self._free: list[JournalFile] = []
        self.live: list[JournalFile] = []
        """In use, by seq."""
        self._creating = False
        self._creation_failed = False
        self._stopped = False
        self._next_number = 0

    def start(self) -> None:
        """The log has recovered: what is there is free. Makes what is missing, in the background."""
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
        """The log closes."""
        self._stopped = True

    def _create_missing(self) -> None:
        count = len(self._free) + sum(not slot.failed for slot in self.live)
        if self._stopped or self._creating or count >= self._config.journal_files:
            return
        self._creating = True
        number, self._next_number = self._next_number, self._next_number + 1
        size = self._config.journal_file_bytes if count else self._config.first_journal_file_bytes
        path = paths.journal_file_path(number)

        def made(later: Promise[None]) -> None:
            self._creating = False
            if self._stopped:
                return
            try:
                later.result()
                self._free.append(JournalFile(number, self._disk.open(path), size))
            except OSError as error:
                if not self._creation_failed:
                    log.warning(
                        "a journal file of %d MB could not be made: %s; it is tried again every %g s",
                        size >> 20, error, _RETRY_S,
                    )  # fmt: skip
                self._creation_failed = True
                self._clock.call_later(_RETRY_S, self._create_missing)
                return
            self._creation_failed = False
            self._on_freed()
            self._create_missing()

        self._disk.zero_file(path, size).then(made)

    def acquire(self, header: JournalFileHeader) -> JournalFile | None:
        """A free slot for this use, or None: wait for `changed`."""
        if not self._free:
            self._create_missing()
            return None
        slot = self._free.pop(0)
        slot.header, slot.position, slot.records, slot.keys = header, BLOCK, 0, set()
        self.live.append(slot)
        return slot

    def is_half_used(self) -> bool:
        """Half of the ring is live."""
        return 2 * len(self.live) > self._config.journal_files

    def pinned(self, fenced: set[PartitionKey], below: int) -> list[JournalFile]:
        """Live slots with a seq below, that have records of a fenced partition (R10)."""
        return [slot for slot in self.live if _seq(slot) < below and not fenced.isdisjoint(slot.keys)]

    def release(self, first_seq: int, fenced: set[PartitionKey]) -> None:
        """A checkpoint is durable that needs no slot below `first_seq`, except for fenced partitions. A slot
        after a failed one stays as long as that: its base group is what annuls the failed group (R5)."""
        kept: list[JournalFile] = []
        for slot in self.live:
            if _seq(slot) >= first_seq or not fenced.isdisjoint(slot.keys) or (kept and kept[-1].failed):
                kept.append(slot)
            elif slot.failed:
                slot.file.close()
                try:
                    self._disk.unlink(slot.file.path)
                except OSError as error:
                    log.warning("%s, which failed, could not be deleted: %s", slot.file.path, error)
            else:
                slot.header = None
                self._free.append(slot)
        freed = len(kept) < len(self.live)
        self.live = kept
        if freed:
            self._create_missing()
            self._on_freed()


def _seq(slot: JournalFile) -> int:
    assert slot.header is not None
    return slot.header.seq
