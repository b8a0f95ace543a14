"""The commit with durability "os": what is in the page cache counts.

Owns: `PageCacheCommitter`, which moves the watermark
at the append. There is no journal: a killed server loses
nothing, a power cut may lose what came after the last checkpoint. Refuses: to wait for anything. Made by
`log.py`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import cast

from mainstem.log.commit.checkpointer import CheckpointedPartition, Checkpointer, PartitionKey, partition_key
from mainstem.log.commit.contract import CommittedPartition
from mainstem.log.disk.contract import Buffer, File
from mainstem.promise import Promise

log = logging.getLogger(__name__)


class PageCacheCommitter:
    """`commit.Committer` without a journal, and the `CommitBarrier` of its checkpoints."""

    read_only: str | None = None
    """Never: each partition is fenced for itself."""
    pending_bytes = 0

    def __init__(self, checkpointer: Checkpointer) -> None:
        self._checkpointer = checkpointer
        self._next = (1, 1)
        self._failed: set[PartitionKey] = set()
        checkpointer.barrier = self

    def start(self, next_seq: int, next_group: int) -> None:
        """The log has recovered."""
        self._next = (next_seq, next_group)

    def stop(self) -> None:
        """Nothing is ever under way."""

    def written(
        self,
        partition: CommittedPartition,
        data: Buffer,
        base_offset: int,
        end_offset: int,
        segment: int,
        position: int,
        file: File,
        arrival_ms: int,
    ) -> None:
        size = len(data)
        self._checkpointer.mark_dirty(cast(CheckpointedPartition, partition), {segment: file}, size)
        partition.on_committed(end_offset, segment, position + size)

    def commit_now_if_idle(self) -> None:
        """Nothing waits."""

    def segment_rolled(self, partition: CommittedPartition, old: File | None, new: File) -> None:
        if old is not None:
            self._checkpointer.close_after_sync(old)

    def record_log_start(self, partition: CommittedPartition, offset: int) -> Promise[None]:
        self._checkpointer.mark_dirty(cast(CheckpointedPartition, partition), {}, 0)
        return self._checkpointer.request()

    def forget_partition(self, partition: CommittedPartition) -> Promise[None]:
        return self._checkpointer.forget_partition(cast(CheckpointedPartition, partition))

    def drain(self) -> Promise[None]:
        """Nothing is ever under way."""
        return Promise.resolved(None)

    def when_idle(self, begin: Callable[[int, int], None]) -> None:
        begin(*self._next)

    def first_seq_needed(self, first_seq: int) -> int:
        return first_seq

    def checkpoint_begins(self) -> bool:
        return False

    def is_trusted(self, key: PartitionKey) -> bool:
        return key not in self._failed

    def block_direct_sync(self, partition: CheckpointedPartition) -> bool:
        return True

    def when_direct_sync_blocked(self, partition: CheckpointedPartition, call: Callable[[], None]) -> None:
        call()

    def unblock_direct_sync(self, partition: CheckpointedPartition) -> None:
        """There is no direct lane."""

    def segment_failed(self, partition: CheckpointedPartition, error: BaseException) -> None:
        self._failed.add(partition_key(partition))
        reason = f"the disk failed: {error}"
        log.error("%s-%d is read-only: %s", *partition_key(partition), reason)
        partition.fence(reason)

    def checkpoint_stored(self, first_seq: int) -> None:
        """There is no journal file to free."""

    def refers_to(self, key: PartitionKey) -> bool:
        return False
