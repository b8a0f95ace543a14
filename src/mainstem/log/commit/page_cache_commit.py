"""The commit with durability "os": what is in the page cache counts.

Owns: `OsCommitter`, which moves the watermark at the append. There is no journal: a killed server loses
nothing, a power cut may lose what came after the last checkpoint. Refuses: to wait for anything. Made by
`log.py`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import cast

from mainstem.log.commit.checkpointer import Checkpointer, Key, Rowed, key_of
from mainstem.log.commit.contract import Committed
from mainstem.log.disk.contract import Buffer, File
from mainstem.promise import Later

log = logging.getLogger(__name__)


class OsCommitter:
    """`commit.Committer` without a journal, and the `Gate` of its checkpoints."""

    read_only: str | None = None
    """Never: each partition is fenced for itself."""
    pending_bytes = 0

    def __init__(self, checkpointer: Checkpointer) -> None:
        self._checkpointer = checkpointer
        self._next = (1, 1)
        self._failed: set[Key] = set()
        checkpointer.gate = self

    def start(self, next_seq: int, next_group: int) -> None:
        """The log has recovered."""
        self._next = (next_seq, next_group)

    def stop(self) -> None:
        """Nothing is ever under way."""

    def written(
        self,
        partition: Committed,
        data: Buffer,
        base_offset: int,
        end_offset: int,
        segment: int,
        position: int,
        file: File,
        arrival_ms: int,
    ) -> None:
        size = len(data)
        self._checkpointer.touch(cast(Rowed, partition), {segment: file}, size)
        partition.committed_to(end_offset, segment, position + size)

    def hurry(self) -> None:
        """Nothing waits."""

    def rolled(self, partition: Committed, old: File | None, new: File) -> None:
        if old is not None:
            self._checkpointer.sealed(old)

    def log_start(self, partition: Committed, offset: int) -> Later[None]:
        self._checkpointer.touch(cast(Rowed, partition), {}, 0)
        return self._checkpointer.ask()

    def forget(self, partition: Committed) -> Later[None]:
        return self._checkpointer.forget(cast(Rowed, partition))

    def idle(self) -> Later[None]:
        """Nothing is ever under way."""
        return Later.of(None)

    def when_quiet(self, begin: Callable[[int, int], None]) -> None:
        begin(*self._next)

    def first_seq_needed(self, first_seq: int) -> int:
        return first_seq

    def begins(self) -> bool:
        return False

    def is_trusted(self, key: Key) -> bool:
        return key not in self._failed

    def hold(self, partition: Rowed) -> bool:
        return True

    def when_free(self, partition: Rowed, call: Callable[[], None]) -> None:
        call()

    def release(self, partition: Rowed) -> None:
        """There is no direct lane."""

    def segment_failed(self, partition: Rowed, error: BaseException) -> None:
        self._failed.add(key_of(partition))
        reason = f"the disk failed: {error}"
        log.error("%s-%d is read-only: %s", *key_of(partition), reason)
        partition.fence(reason)

    def checkpointed(self, first_seq: int) -> None:
        """There is no journal file to free."""

    def refers_to(self, key: Key) -> bool:
        return False
