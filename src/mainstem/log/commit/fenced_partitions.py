"""Partitions under which a segment sync failed, and how far their repair is (R10).

Owns: for each such partition whether it was written again, and whether a checkpoint covers it. Refuses: to
write anything: `segment_repair.py` does.

Rule numbers are those of FORMAT.md.
"""

from __future__ import annotations

from enum import IntEnum

from mainstem.log.commit.contract import CommittedPartition, PartitionKey, partition_key


class RepairState(IntEnum):
    """How far the repair of a partition is, in order."""

    FENCED = 0
    """A sync of its files failed: only the journal certainly has what was committed since the last
    checkpoint."""
    REPAIRED = 1
    """All of that was written again and synced."""
    COVERED = 2
    """The checkpoint in progress began after the repair, so that its row includes it."""
    DURABLE = 3
    """That checkpoint is durable."""


class FencedPartitions:
    """The fenced (read-only) partitions. A partition accepts no events until a checkpoint that covers its
    repair is durable. So it has no records in journal files that were begun after its sync failed, and the
    files that it pins do not become more while it is fenced."""

    def __init__(self) -> None:
        self._states: dict[PartitionKey, RepairState] = {}
        self._partitions: dict[PartitionKey, CommittedPartition] = {}

    def __contains__(self, partition: CommittedPartition) -> bool:
        return partition_key(partition) in self._states

    def fence(self, partition: CommittedPartition) -> None:
        """Add a partition of which a segment sync failed. If it failed before, its earlier repair no longer
        counts."""
        key = partition_key(partition)
        self._states[key], self._partitions[key] = RepairState.FENCED, partition

    def mark_repaired(self, partition: CommittedPartition) -> None:
        """Note that everything committed of a fenced partition was written again and synced."""
        self._states[partition_key(partition)] = RepairState.REPAIRED

    def remove(self, partition: CommittedPartition) -> None:
        """Forget the partition: it accepts events again, or is deleted. It need not be fenced."""
        key = partition_key(partition)
        self._states.pop(key, None)
        self._partitions.pop(key, None)

    def is_trusted(self, key: PartitionKey) -> bool:
        """Whether a successful sync of the partition's files proves that they are durable."""
        return self._states.get(key, RepairState.DURABLE) >= RepairState.REPAIRED

    def checkpoint_begins(self) -> None:
        """Note that a checkpoint begins: its rows include all partitions that are repaired now."""
        self._advance(RepairState.REPAIRED, RepairState.COVERED)

    def checkpoint_stored(self) -> list[CommittedPartition]:
        """The partitions that the checkpoint covers, which is durable now: they may accept events again."""
        return [self._partitions[key] for key in self._advance(RepairState.COVERED, RepairState.DURABLE)]

    def _advance(self, state: RepairState, following: RepairState) -> list[PartitionKey]:
        keys = [key for key, present in self._states.items() if present is state]
        self._states.update(dict.fromkeys(keys, following))
        return keys

    @property
    def pinning(self) -> set[PartitionKey]:
        """Partitions whose journal records must be kept: those that no checkpoint covers, neither a durable
        one nor the one in progress."""
        return {key for key, state in self._states.items() if state < RepairState.COVERED}
