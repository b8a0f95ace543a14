"""What a partition needs of the commit, and what the commit needs of a partition.

Owns: the two protocols between `partition.py` and `journal.py`, so that each can be tested without the other.
Rule numbers (R1..) are those of FORMAT.md, part "Rules".
"""

from __future__ import annotations

from typing import Protocol
from uuid import UUID

from mainstem.log.disk.contract import Buffer, File
from mainstem.promise import Promise


class CommittedPartition(Protocol):
    """A partition, as the commit sees it."""

    topic_id: UUID
    index: int
    epoch: int
    """partitionLeaderEpoch that the next batch will carry."""

    def on_committed(self, offset: int, segment: int, position: int) -> None:
        """All bytes below `position` of the segment with base offset `segment` are durable: `offset` is the
        new high watermark. Called in order. Moves the watermark, resolves waiters, calls watchers."""

    def roll_back(self) -> None:
        """The commit failed: cut the log to the committed end, fail waiters with StorageError, raise `epoch`
        by one, restore the producer windows. Appends are refused until `resume()`."""

    def resume(self) -> None:
        """The EPOCH record of the new epoch is durable: accept appends again."""

    def fence(self, reason: str) -> None:
        """The disk failed under this partition: read-only from now on; what was not committed fails."""

    def unfence(self) -> None:
        """Its bytes were written again and synced."""

    def save_side_files(self) -> None:
        """A checkpoint begins: write the pending index entries and the producer snapshot (disposable,
        unsynced)."""


class Committer(Protocol):
    """The commit, as a partition sees it. One for all partitions."""

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
        """`data` was written to the page cache at `position` of `file`, the segment with base offset
        `segment`. Make it durable, then call `partition.on_committed(end_offset, segment, position +
        len(data))`. Copies `data` before it returns; with durability "os" calls `on_committed` before it
        returns: be ready for it. `end_offset` is one past the last record's offset. `arrival_ms` is kept with
        it, so that recovery restores the arrival index."""

    def segment_rolled(self, partition: CommittedPartition, old: File, new: File) -> None:
        """A new segment was made. The commit closes `old` once it is synced."""

    def record_log_start(self, partition: CommittedPartition, offset: int) -> Promise[None]:
        """Record a new log start offset durably. Files below it may be unlinked when the Promise is done."""

    def forget_partition(self, partition: CommittedPartition) -> Promise[None]:
        """The partition is deleted: drop what is pending for it (its waiters fail with PartitionDeleted by
        the partition itself). Done when neither journal nor checkpoint refers to it."""
