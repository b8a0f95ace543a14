"""The contract between a partition and the commit.

Owns: the two protocols that `partition/` and `commit/` have of each other, so that each is tested without the
other, and `PendingWrite`, what passes between them. Refuses: any policy: when something is written and synced
is the committer's decision.

Rule numbers (R1..) are those of FORMAT.md, part "Rules".
"""

from __future__ import annotations

from typing import Protocol, TypeAlias
from uuid import UUID

from mainstem.log.commit.checkpoint import CheckpointRow
from mainstem.log.disk.contract import Buffer, File
from mainstem.promise import Promise

PartitionKey: TypeAlias = tuple[UUID, int]
"""(topic id, partition index)."""


class PendingWrite:
    """One append: batches that are in the page cache and not yet durable."""

    __slots__ = (
        "arrival_ms", "base_offset", "data", "end_offset", "file", "partition", "position", "segment",
    )  # fmt: skip

    def __init__(
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
        self.partition = partition
        self.data = data
        """The batches. The buffer is valid only during `Committer.append`."""
        self.base_offset = base_offset
        """Offset of the first record."""
        self.end_offset = end_offset
        """One past the offset of the last record."""
        self.segment = segment
        """Base offset of the segment."""
        self.position = position
        """Where the batches begin in the segment, in bytes."""
        self.file = file
        """The segment's file."""
        self.arrival_ms = arrival_ms
        """Wall-clock ms of the arrival. The journal stores it, so that recovery restores the arrival
        index."""


class CommittedPartition(Protocol):
    """What the commit needs of a partition."""

    topic_id: UUID
    index: int
    epoch: int
    """partitionLeaderEpoch of the next batch."""
    fence_reason: str | None
    """Why the partition is read-only; None if it accepts appends."""

    @property
    def deleted(self) -> bool:
        """Whether the partition's topic was deleted."""

    def on_committed(self, offset: int, segment: int, position: int) -> None:
        """All bytes below `position` of the segment with base offset `segment` are durable, so `offset` is
        the new high watermark. Called in order of offsets. Moves the watermark, resolves waiters, calls
        watchers."""

    def roll_back(self) -> None:
        """The commit failed: truncate the log to the committed end, fail waiters with StorageError, raise
        `epoch` by one, restore the producer windows. Appends are refused until `resume()`."""

    def resume(self) -> None:
        """Accept appends again: the EPOCH record of the new epoch is durable."""

    def fence(self, reason: str) -> None:
        """Make the partition read-only, because the disk failed under it. All pending appends fail."""

    def unfence(self) -> None:
        """End the read-only state that `fence` began: the partition's committed bytes were written again and
        synced."""

    def checkpoint_row(self) -> CheckpointRow:
        """The partition's row of a checkpoint that begins now."""

    def save_side_files(self) -> None:
        """Write the pending index entries and the producer snapshot, unsynced: they can be built again.
        Called when a checkpoint begins."""


def partition_key(partition: CommittedPartition) -> PartitionKey:
    """What identifies the partition in the log."""
    return partition.topic_id, partition.index


class Committer(Protocol):
    """The commit, as a partition sees it. One object serves all partitions."""

    def append(self, write: PendingWrite) -> None:
        """Make `write` durable, then call `partition.on_committed(end_offset, segment, position +
        len(data))`.

        Copies the data before it returns. With durability "os" it calls `on_committed` before it returns."""

    def segment_rolled(self, partition: CommittedPartition, old: File, new: File) -> None:
        """Note that `new` is the file of the active segment from now on. The committer closes `old`, the file
        of the sealed segment, once it is synced."""

    def repair(self, partition: CommittedPartition) -> None:
        """The partition is read-only because its files could not be cut: make them end at the committed end
        in the background, then let it accept appends again."""

    def record_log_start(self, partition: CommittedPartition, offset: int) -> Promise[None]:
        """Record a new log start offset durably. Files below it may be unlinked when the Promise is done."""

    def forget_partition(self, partition: CommittedPartition) -> Promise[None]:
        """The partition is deleted: drop its pending writes (the partition itself fails its waiters with
        PartitionDeleted). Done when neither journal nor checkpoint refers to it; its files may be unlinked
        before that."""
