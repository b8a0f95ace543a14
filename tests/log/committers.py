"""Committers for tests of a partition: one commits when the test says so, one at once."""

from __future__ import annotations

from mainstem.log.commit.contract import CommittedPartition, PendingWrite
from mainstem.log.disk.contract import File
from mainstem.promise import Promise


class ManualCommitter:
    """Commits, or rolls back, when the test says so."""

    def __init__(self) -> None:
        self.pending: list[PendingWrite] = []
        self.log_starts: list[tuple[CommittedPartition, int, Promise[None]]] = []
        self.to_repair: list[CommittedPartition] = []
        self.rolls = 0
        self.last_arrival_ms = 0
        self.arrivals: list[tuple[int, int]] = []
        """(arrival ms, base offset) that the journal would return after a crash. A test that checkpoints
        clears it."""

    def append(self, write: PendingWrite) -> None:
        assert write.file.size() == write.position + len(write.data)
        assert write.arrival_ms >= self.last_arrival_ms
        self.last_arrival_ms = write.arrival_ms
        write.data = bytes(write.data)
        self.pending.append(write)

    def segment_rolled(self, partition: CommittedPartition, old: File, new: File) -> None:
        self.rolls += 1
        old.close()

    def repair(self, partition: CommittedPartition) -> None:
        self.to_repair.append(partition)

    def record_log_start(self, partition: CommittedPartition, offset: int) -> Promise[None]:
        promise: Promise[None] = Promise()
        self.log_starts.append((partition, offset, promise))
        return promise

    def forget_partition(self, partition: CommittedPartition) -> Promise[None]:
        self.pending = [write for write in self.pending if write.partition is not partition]
        return Promise.resolved(None)

    def commit(self, count: int | None = None) -> None:
        """Commit the first `count` appends, or all."""
        now = self.pending[:count]
        del self.pending[:count]
        for write in now:
            if not self.arrivals or write.arrival_ms >= self.arrivals[-1][0] + 1000:
                self.arrivals.append((write.arrival_ms, write.base_offset))
            write.partition.on_committed(write.end_offset, write.segment, write.position + len(write.data))
        starts, self.log_starts = self.log_starts, []
        for _, _, promise in starts:
            promise.resolve(None)

    def fail(self) -> None:
        """Roll back all partitions with pending appends, and resume them in the new epoch."""
        partitions = {id(write.partition): write.partition for write in self.pending}
        self.pending.clear()
        for partition in partitions.values():
            partition.roll_back()
        for partition in partitions.values():
            partition.resume()


class ImmediateCommitter(ManualCommitter):
    """Commits before `append` returns, as with durability "os"."""

    def append(self, write: PendingWrite) -> None:
        super().append(write)
        self.commit()

    def record_log_start(self, partition: CommittedPartition, offset: int) -> Promise[None]:
        return Promise.resolved(None)
