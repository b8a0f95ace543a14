"""From a failed segment sync to a partition that accepts events again (R10).

Owns: `PartitionRepair`, the steps of that for all partitions: fenced, written again, covered by a durable
checkpoint, its new epoch in the journal, unfenced. Refuses: to write segments (`segment_repair.py`) and to
choose which journal files are kept (`journal_files.py`; it asks `FencedPartitions`).

Rule numbers are those of FORMAT.md.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from mainstem.clock import Clock
from mainstem.log.commit.checkpointer import Checkpointer
from mainstem.log.commit.contract import CommittedPartition, partition_key
from mainstem.log.commit.fenced_partitions import FencedPartitions
from mainstem.log.commit.journal_files import JournalFilePool
from mainstem.log.commit.segment_repair import SegmentRepairs
from mainstem.log.disk.contract import Disk
from mainstem.promise import Promise

log = logging.getLogger(__name__)


class PartitionRepair:
    """Fences partitions and repairs them in the background."""

    def __init__(
        self,
        disk: Disk,
        clock: Clock,
        checkpointer: Checkpointer,
        file_pool: JournalFilePool,
        record_epoch: Callable[[CommittedPartition], Promise[None]],
        read_only: Callable[[], str | None],
    ) -> None:
        """`record_epoch` records the partition's epoch in the journal; `read_only` says why the whole log
        rejects writes at the moment."""
        self._checkpointer = checkpointer
        self._record_epoch = record_epoch
        self._read_only = read_only
        self.states = FencedPartitions()
        self._repairs = SegmentRepairs(
            disk, clock, file_pool, checkpointer.durable_row, self._repaired, checkpointer.resume_deferred
        )

    def stop(self) -> None:
        """Repair nothing any more: the log closes."""
        self._repairs.stop()

    def fence(self, partition: CommittedPartition) -> None:
        """Trust nothing of the partition's files but what the last checkpoint covers, and repair them."""
        self.states.fence(partition)
        self._repairs.add(partition)

    def forget(self, partition: CommittedPartition) -> None:
        """The partition is deleted."""
        self.states.remove(partition)
        self._repairs.forget(partition)

    @property
    def first_attempt_pending(self) -> bool:
        """Whether the first repair of a partition is not done yet."""
        return self._repairs.first_attempt_pending

    def _repaired(self, partition: CommittedPartition) -> None:
        """Everything committed is in the segments again: a checkpoint has to say so."""
        self.states.mark_repaired(partition)
        self._checkpointer.mark_dirty(partition, {})
        self._checkpointer.schedule(needed=True)

    def end(self, partition: CommittedPartition) -> None:
        """The checkpoint that covers the repair is durable, with the new epoch. That is recorded in the
        journal too, for a start that cannot read this checkpoint; then the partition accepts events."""
        epoch = partition.epoch

        def durable(promise: Promise[None]) -> None:
            read_only = self._read_only()
            if partition.deleted or partition.epoch != epoch:  # another sync failed meanwhile
                return
            if read_only is not None:
                self.states.remove(partition)
                partition.fence(read_only)  # until the whole log accepts writes
            elif promise.error is not None:
                self.end(partition)
            else:
                self.states.remove(partition)
                self.unfence(partition)
                log.warning("partition %s-%d accepts events again", *partition_key(partition))

        self._record_epoch(partition).then(durable)

    def unfence(self, partition: CommittedPartition) -> None:
        """The partition's epoch is durable: let it accept events, unless its files cannot be cut."""
        partition.unfence()
        partition.resume()
        if partition.fence_reason is not None:
            self.fence(partition)
