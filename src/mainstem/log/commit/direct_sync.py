"""Direct syncs: large appends are synced in their segments, without the journal.

Owns: which partitions have one in flight, and which may not start one because a checkpoint syncs their files:
of two syncs of one file at the same time only one returns a write error, and the other would be believed
(R10). Refuses: to call the disk (`journal.py` does).
"""

from __future__ import annotations

from collections.abc import Callable

from mainstem.log.commit.commit_group import PendingWrites
from mainstem.log.commit.contract import CommittedPartition


class DirectSyncs:
    """At most one sync of a partition's segments at a time: a direct sync or a checkpoint's."""

    def __init__(self) -> None:
        self.in_flight: dict[CommittedPartition, PendingWrites] = {}
        self.blocked: set[CommittedPartition] = set()
        """Partitions that a checkpoint is syncing."""
        self._on_blocked: dict[CommittedPartition, Callable[[], None]] = {}
        """What to call once the direct sync of a partition has ended."""

    def may_start(self, partition: CommittedPartition) -> bool:
        """Whether no other sync of the partition's segments is in flight."""
        return partition not in self.in_flight and partition not in self.blocked

    def begin(self, writes: PendingWrites) -> None:
        """Note that a direct sync of `writes` has been submitted."""
        assert self.may_start(writes.partition), "two syncs of one file at the same time hide an error (R10)"
        self.in_flight[writes.partition] = writes

    def end(self, partition: CommittedPartition) -> None:
        """Note that the direct sync has ended and its result is handled. A checkpoint that waited for it
        continues."""
        callback = self._on_blocked.pop(partition, None)
        if callback is not None:
            self.blocked.add(partition)
            callback()

    def block(self, partition: CommittedPartition) -> bool:
        """Start no direct sync of the partition until `unblock`; False if one is in flight."""
        if partition in self.in_flight:
            return False
        self.blocked.add(partition)
        return True

    def when_blocked(self, partition: CommittedPartition, callback: Callable[[], None]) -> None:
        """Block the partition and call `callback`: now, or when its direct sync has ended."""
        if self.block(partition):
            callback()
        else:
            self._on_blocked[partition] = callback

    def unblock(self, partition: CommittedPartition) -> None:
        """Allow direct syncs of the partition again."""
        self.blocked.discard(partition)
