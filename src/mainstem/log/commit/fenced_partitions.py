"""Partitions under which a segment sync failed, and how far their repair is (R10).

Owns: for each such partition whether it was written again, and whether the checkpoint in progress covers it.
Refuses: to write anything: `segment_repair.py` does.

Rule numbers are those of FORMAT.md.
"""

from __future__ import annotations

from mainstem.log.commit.contract import PartitionKey


class FencedPartitions:
    """The fenced (read-only) partitions. A partition is fenced, then repaired, then covered by a checkpoint
    that began after the repair; when that checkpoint is durable, the partition leaves this set. Until it is
    covered, journal files with records of it are not reused."""

    def __init__(self) -> None:
        self._fenced: set[PartitionKey] = set()
        self._repaired: set[PartitionKey] = set()
        self._covered: set[PartitionKey] = set()

    def __contains__(self, key: PartitionKey) -> bool:
        return key in self._fenced

    def fence(self, key: PartitionKey) -> None:
        """Add a partition of which a segment sync failed. If it failed before, its earlier repair no longer
        counts."""
        self._fenced.add(key)
        self._repaired.discard(key)
        self._covered.discard(key)

    def mark_repaired(self, key: PartitionKey) -> None:
        """Note that everything committed of a partition was written again and synced, or that the partition
        is deleted."""
        self._repaired.add(key)

    def is_trusted(self, key: PartitionKey) -> bool:
        """Whether a successful sync of the partition's files proves that they are durable."""
        return key not in self._fenced or key in self._repaired

    def checkpoint_begins(self) -> None:
        """Note that a checkpoint begins: its rows include all partitions that are repaired now."""
        self._covered = set(self._repaired)

    def checkpoint_stored(self) -> None:
        """Remove the partitions that the last checkpoint covers: it is durable."""
        self._fenced -= self._covered
        self._repaired -= self._covered
        self._covered = set()

    @property
    def pinning(self) -> set[PartitionKey]:
        """Partitions whose journal records must be kept: the fenced ones, without those that the checkpoint
        in progress covers."""
        return self._fenced - self._covered
