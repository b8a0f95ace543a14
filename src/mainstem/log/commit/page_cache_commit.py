"""The commit with durability "os": a write counts as committed once it is in the page cache.

Owns: `PageCacheCommitter`, which moves the watermark at the append. There is no journal: a killed server
loses nothing; a power cut may lose what was written after the last checkpoint. Refuses: to wait for the disk.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from mainstem.clock import Clock
from mainstem.log.commit.checkpointer import Checkpointer
from mainstem.log.commit.contract import CommittedPartition, PartitionKey, PendingWrite, partition_key
from mainstem.log.disk.contract import File
from mainstem.promise import Promise

_RETRY_S = 1.0

log = logging.getLogger(__name__)


class PageCacheCommitter:
    """The `Committer` without a journal. Also the `CommitBarrier` of its checkpoints: no group is ever in
    flight, and there is no direct sync to block."""

    read_only: str | None = None
    """Always None: the log as a whole stays writable, each partition is fenced by itself."""
    pending_bytes = 0
    """Always 0: nothing waits for the disk."""

    def __init__(self, clock: Clock, checkpointer: Checkpointer) -> None:
        self._clock = clock
        self._checkpointer = checkpointer
        self._next = (1, 1)
        """(seq, group) with which a journal would continue; checkpoints store them."""
        self._failed: set[PartitionKey] = set()
        self._stopped = False
        checkpointer.barrier = self

    def start(self, next_seq: int, next_group: int) -> None:
        """Begin after recovery. Checkpoints store `next_seq` and `next_group` for a later start with a
        journal."""
        self._next = (next_seq, next_group)

    def stop(self) -> None:
        """Repair nothing any more. Called when the log closes."""
        self._stopped = True

    # What partitions ask for (Committer).

    def append(self, write: PendingWrite) -> None:
        size = len(write.data)
        partition, segment = write.partition, write.segment
        self._checkpointer.mark_file_dirty(partition, segment, write.file, size)
        partition.on_committed(write.end_offset, segment, write.position + size)

    def segment_rolled(self, partition: CommittedPartition, old: File | None, new: File) -> None:
        if old is not None:
            self._checkpointer.close_after_sync(old)

    def repair(self, partition: CommittedPartition) -> None:
        def cut() -> None:
            if self._stopped or partition.deleted:
                return
            if partition_key(partition) not in self._failed:
                partition.unfence()
                if partition.fence_reason is not None:
                    self.repair(partition)

        self._clock.call_later(_RETRY_S, cut)

    def record_log_start(self, partition: CommittedPartition, offset: int) -> Promise[None]:
        self._checkpointer.mark_dirty(partition, {})
        return self._checkpointer.request()

    def forget_partition(self, partition: CommittedPartition) -> Promise[None]:
        return self._checkpointer.forget_partition(partition)

    # What the log asks for.

    def commit_now_if_idle(self) -> None:
        """Does nothing: every append is committed already."""

    def drain(self) -> Promise[None]:
        """A promise that is already done: every append is committed already."""
        return Promise.resolved(None)

    # What checkpoints ask for (CommitBarrier).

    def when_idle(self, begin: Callable[[int, int], None]) -> None:
        begin(*self._next)

    def first_seq_needed(self, first_seq: int) -> int:
        return first_seq

    def checkpoint_begins(self) -> bool:
        return False

    def defers_checkpoints(self) -> bool:
        return False

    def is_trusted(self, key: PartitionKey) -> bool:
        return key not in self._failed

    def block_direct_sync(self, partition: CommittedPartition) -> bool:
        return True

    def when_direct_sync_blocked(self, partition: CommittedPartition, callback: Callable[[], None]) -> None:
        callback()

    def unblock_direct_sync(self, partition: CommittedPartition) -> None:
        """Does nothing: there are no direct syncs."""

    def segment_failed(self, partition: CommittedPartition, error: BaseException) -> None:
        self._failed.add(partition_key(partition))
        reason = f"the disk failed: {error}"
        log.error("partition %s-%d is read-only until a restart: %s", *partition_key(partition), reason)
        partition.fence(reason)

    def checkpoint_stored(self, first_seq: int) -> None:
        """Does nothing: there is no journal file to free."""

    def refers_to(self, key: PartitionKey) -> bool:
        return False
