"""The commit with durability "disk": one journal for all partitions.

Owns: the appends that are not durable yet, the group in flight, direct syncs, and what happens when a sync
fails. Refuses: to read the journal (`journal_reader.py`), to sync segments in the background
(`checkpointer.py`), and to have two groups in flight.

Rule numbers are those of FORMAT.md. Appends collect per partition. Appends that arrive during a commit form
the next group; there is no linger time. The appends of one partition go to the journal with their bytes or,
from `direct_sync_bytes` on, are synced in their segment without the journal; never both at once (R7).
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterable
from uuid import UUID

from mainstem.clock import Clock
from mainstem.log import paths
from mainstem.log.commit import journal_format
from mainstem.log.commit.checkpointer import Checkpointer
from mainstem.log.commit.commit_group import (
    CommitGroup,
    ControlRecord,
    PendingWrites,
    complete,
    control_record,
    drop_control_records,
    notify_committed,
    write_group,
)
from mainstem.log.commit.contract import CommittedPartition, PartitionKey, PendingWrite, partition_key
from mainstem.log.commit.direct_sync import DirectSyncs
from mainstem.log.commit.journal_files import JournalFile, JournalFilePool
from mainstem.log.commit.journal_format import APPEND, BLOCK, EPOCH, LOGSTART, RECORD, RECORD_BYTES
from mainstem.log.commit.partition_repair import PartitionRepair
from mainstem.log.config import LogConfig
from mainstem.log.disk.contract import Disk, File
from mainstem.log.errors import StorageError
from mainstem.promise import Promise

log = logging.getLogger(__name__)
SINGLE_WRITER_GROUPS = 16
"""Groups of one batch in a row after which a producer counts as the only one. Fewer happen by chance, also
with many producers."""
RESUME_RETRY_S = 1.0
RESUME_RETRY_S_MAX = 8.0


class Journal:
    """The `Committer` with a journal, and the `CommitBarrier` of its checkpoints."""

    def __init__(
        self,
        disk: Disk,
        clock: Clock,
        rng: random.Random,
        config: LogConfig,
        folder_id: UUID,
        checkpointer: Checkpointer,
        partitions: Callable[[], Iterable[CommittedPartition]],
    ) -> None:
        self._disk = disk
        self._clock = clock
        self._rng = rng
        self._config = config
        self._folder_id = folder_id
        self._checkpointer = checkpointer
        self._partitions = partitions
        self._file_pool = JournalFilePool(disk, clock, config, self._schedule)
        smallest_file = min(config.first_journal_file_bytes, config.journal_file_bytes)
        self._payload_max = smallest_file - 2 * BLOCK - config.direct_sync_bytes
        self._group_bytes = min(config.group_bytes_max, self._payload_max)
        self._pending: dict[CommittedPartition, PendingWrites] = {}
        self._control_records: list[ControlRecord] = []
        self._group_in_flight: CommitGroup | None = None
        self._direct_syncs = DirectSyncs()
        self._direct_blocked = self._direct_syncs.blocked
        self._current_file: JournalFile | None = None
        self._next_seq = 1
        self._next_group = 1
        self._scheduled = False
        self._single_writer_groups = 0
        """Number of consecutive groups of one batch during which no other append arrived."""
        self._idle_callbacks: list[Callable[[int, int], None]] = []
        self._drain_requests: list[Promise[None]] = []
        self._awaiting_epoch: dict[CommittedPartition, None] = {}
        """Partitions rolled back after a failed sync; their EPOCH records are written first, alone, in this
        order: that of a set of them would depend on their addresses in memory."""
        self._last_sync_failed = False
        self._repair = PartitionRepair(
            disk, clock, checkpointer, self._file_pool, self._record_epoch, lambda: self.read_only
        )
        self._fenced = self._repair.states
        self._resume_wait_s = RESUME_RETRY_S
        self._stopped = False
        self.read_only: str | None = None
        """Why the whole log rejects writes at the moment; None if it accepts them."""
        self.pending_bytes = 0
        """Bytes of appends that are neither durable nor failed yet."""
        checkpointer.barrier = self

    def start(self, next_seq: int, next_group: int) -> None:
        """Begin after recovery. The first file used gets `next_seq`, the first group `next_group`."""
        self._next_seq, self._next_group = next_seq, next_group
        self._file_pool.start()

    def stop(self) -> None:
        """Create no more journal files, repair nothing. Called when the log closes and nothing is in
        flight."""
        self._stopped = True
        self._file_pool.stop()
        self._repair.stop()

    # What partitions ask for (Committer).

    def append(self, write: PendingWrite) -> None:
        partition = write.partition
        pending = self._pending.get(partition)
        if pending is None:
            pending = self._pending[partition] = self._new_pending(partition)
        data, segment, position = write.data, write.segment, write.position
        size = len(data)
        self.pending_bytes += size
        pending.byte_count += size
        pending.files[segment] = write.file
        pending.end_offset, pending.segment, pending.position = write.end_offset, segment, position + size
        if not pending.sync_directly:
            limit = self._payload_max if partition in self._direct_blocked else pending.direct_sync_bytes
            payload_bytes = pending.payload_bytes + size
            if payload_bytes >= limit:
                pending.sync_directly = True
                pending.pieces, pending.payload_bytes, pending.record_count = [], 0, 0
            else:
                pending.payload_bytes = payload_bytes + RECORD_BYTES
                pending.record_count += 1
                head = RECORD.pack(
                    APPEND, pending.topic_id, partition.index, partition.epoch, write.base_offset,
                    write.end_offset, segment, position, write.arrival_ms, size,
                )  # fmt: skip
                pending.pieces += (head, bytes(data))
        if not self._scheduled:
            self._schedule()

    def _new_pending(self, partition: CommittedPartition) -> PendingWrites:
        is_state = partition.topic_id in paths.STATE_FOLDERS
        return PendingWrites(partition, self._payload_max if is_state else self._config.direct_sync_bytes)

    def segment_rolled(self, partition: CommittedPartition, old: File | None, new: File) -> None:
        if old is not None:
            self._checkpointer.close_after_sync(old)

    def record_log_start(self, partition: CommittedPartition, offset: int) -> Promise[None]:
        recorded = self._add_control_record(partition, LOGSTART, offset, offset, 0)
        return recorded.chain(lambda _: self._checkpointer.when_past(partition, offset))

    def repair(self, partition: CommittedPartition) -> None:
        self._awaiting_epoch.pop(partition, None)
        self._repair.fence(partition)
        self._roll_back(partition)

    def forget_partition(self, partition: CommittedPartition) -> Promise[None]:
        self._drop_pending(partition)
        self._awaiting_epoch.pop(partition, None)
        self._repair.forget(partition)
        self._control_records = drop_control_records(self._control_records, partition)
        self._schedule()
        return self._checkpointer.forget_partition(partition)

    # What the log asks for.

    def commit_now_if_idle(self) -> None:
        """A request has been appended. Start its commit now, not at the end of this turn of the loop, if no
        other append is likely to join it: the disk then works while the rest of the request is handled."""
        is_single_writer = self._single_writer_groups >= SINGLE_WRITER_GROUPS
        if is_single_writer and self._scheduled and self._group_in_flight is None:
            self._start_commits()

    def drain(self) -> Promise[None]:
        """A promise that is done when no append is in flight or pending."""
        promise: Promise[None] = Promise()
        self._drain_requests.append(promise)
        self._schedule()
        return promise

    def _add_control_record(
        self, partition: CommittedPartition, kind: int, offset: int, segment: int, position: int
    ) -> Promise[None]:
        if self.read_only is not None:
            return Promise.failed(StorageError(self.read_only))
        record = control_record(partition, kind, offset, segment, position)
        self._control_records.append(record)
        self._schedule()
        return record.promise

    def _drop_pending(self, partition: CommittedPartition) -> None:
        """Forget the partition's pending writes; ignore the result of those in flight."""
        pending = self._pending.pop(partition, None)
        if pending is not None:
            self.pending_bytes -= pending.byte_count
        group = self._group_in_flight
        for writes in (*self._direct_syncs.in_flight.values(), *(group.writes if group else ())):
            if writes.partition is partition:
                writes.dropped = True

    # Starting groups and direct syncs.

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._clock.call_soon(self._start_commits)

    def _start_commits(self) -> None:
        self._scheduled = False
        if self.read_only is None:
            self._start_direct_syncs()
        if self._group_in_flight is None:
            self._run_idle_callbacks()
            if self.read_only is None:
                self._start_group()
        in_flight = self._direct_syncs.in_flight or self._group_in_flight
        if self._drain_requests and not (self._pending or self._control_records or in_flight):
            requests, self._drain_requests = self._drain_requests, []
            for promise in requests:
                promise.resolve(None)

    def _start_direct_syncs(self) -> None:
        group = self._group_in_flight
        journaled = {writes.partition for writes in group.writes} if group else set()
        ready = [
            writes
            for partition, writes in self._pending.items()
            if writes.sync_directly and partition not in journaled and self._direct_syncs.may_start(partition)
        ]
        for writes in ready:
            partition = writes.partition
            files = list(writes.files.values())
            del self._pending[partition]
            self._direct_syncs.begin(writes)
            self._checkpointer.mark_dirty(partition, writes.files, writes.byte_count)
            folders = self._checkpointer.folders_to_sync(partition, files)
            self._disk.sync(files, folders).then(
                lambda synced, writes=writes: self._direct_sync_done(writes, synced.error)  # type: ignore[misc]
            )

    def _direct_sync_done(self, writes: PendingWrites, error: BaseException | None) -> None:
        partition = writes.partition
        del self._direct_syncs.in_flight[partition]
        self.pending_bytes -= writes.byte_count
        assert self.pending_bytes >= 0, "no byte is committed twice"
        if error is not None and not partition.deleted and partition not in self._fenced:
            self.segment_failed(partition, error)  # also if it was dropped: no later sync will show the error
        elif error is None and not writes.dropped:
            self._checkpointer.mark_names_durable(partition, writes.files.values())
            # Again: a checkpoint may have begun in the meantime.
            self._checkpointer.mark_dirty(partition, writes.files)
            notify_committed(writes)
        self._direct_syncs.end(partition)
        self._schedule()

    def _run_idle_callbacks(self) -> None:
        """Called when no group is in flight: let the checkpoints that wait for this begin."""
        callbacks, self._idle_callbacks = self._idle_callbacks, []
        for begin in callbacks:
            self._seal_file()
            begin(self._next_seq, self._next_group)

    def _seal_file(self) -> None:
        """Stop writing to the current file: later groups are written to another one."""
        if self._current_file is not None:
            self._current_file = None
            self._next_seq += 1

    def _next_writes(self) -> list[PendingWrites]:
        if self._awaiting_epoch:
            return []
        chosen: list[PendingWrites] = []
        payload_bytes = 0
        for partition, writes in self._pending.items():
            if not writes.sync_directly and partition not in self._direct_syncs.in_flight:
                payload_bytes += writes.payload_bytes
                if chosen and payload_bytes > self._group_bytes:
                    break
                chosen.append(writes)
        return chosen

    def _start_group(self) -> None:
        all_writes, control_records = self._next_writes(), self._control_records
        if not all_writes and not control_records:
            return
        payload_bytes = sum(writes.payload_bytes for writes in all_writes)
        payload_bytes += RECORD_BYTES * len(control_records)
        journal_file = self._file_for(journal_format.padded_group_bytes(payload_bytes))
        if journal_file is None:
            return
        for writes in all_writes:
            del self._pending[writes.partition]
            # Now, not at the append: a checkpoint that began before this group does not cover it.
            self._checkpointer.mark_dirty(writes.partition, writes.files)
        self._control_records = []
        group = CommitGroup(self._next_group, journal_file, all_writes, control_records)
        self._group_in_flight = group
        self._next_group += 1
        journal_file.records += sum(writes.record_count for writes in all_writes) + len(control_records)
        journal_file.keys.update(partition_key(writes.partition) for writes in all_writes)
        journal_file.keys.update(partition_key(record.partition) for record in control_records)
        try:
            write_group(group)
        except OSError as error:
            self._clock.call_soon(lambda error=error: self._group_done(group, error))  # type: ignore[misc]
            return
        self._disk.sync([journal_file.file]).then(lambda synced: self._group_done(group, synced.error))

    def _file_for(self, size: int) -> JournalFile | None:
        """The file for a group of `size` bytes; None: wait until one is free."""
        journal_file = self._current_file
        if journal_file is not None:
            is_full = journal_file.records >= self._config.journal_file_records_max
            if not is_full and journal_file.position + size <= journal_file.size:
                return journal_file
            self._seal_file()
            self._checkpointer.schedule(needed=True)
        salt = self._rng.getrandbits(64)
        header = journal_format.JournalFileHeader(self._folder_id, self._next_seq, salt, self._next_group)
        self._current_file = self._file_pool.acquire(header)
        if self._current_file is None:
            if reason := self._file_pool.why_exhausted():
                self._stop_writing(reason)
            elif self._file_pool.live:
                self._checkpointer.schedule(needed=True)
        return self._current_file

    # The sync of a group has ended.

    def _group_done(self, group: CommitGroup, error: BaseException | None) -> None:
        assert self._group_in_flight is group, "one group is in flight at a time (R4)"
        self._group_in_flight = None
        is_single = not self._pending and [writes.record_count for writes in group.writes] == [1]
        self._single_writer_groups = self._single_writer_groups + 1 if is_single else 0
        self.pending_bytes -= sum(writes.byte_count for writes in group.writes)
        assert self.pending_bytes >= 0, "no byte is committed twice"
        if error is not None:
            self._group_failed(group, error)
            return
        self._last_sync_failed, self._resume_wait_s = False, RESUME_RETRY_S
        for writes in group.writes:
            if not writes.dropped:
                notify_committed(writes)
        for record in group.control_records:
            self._checkpointer.mark_dirty(record.partition, {})
            complete(record.promise, None)
        self._schedule()

    def _group_failed(self, group: CommitGroup, error: BaseException) -> None:
        """The outcome is unknown, which counts as failed: the appends fail, and a fresh file, whose first
        group records the new epochs, annuls the group (R5, R8). If that fails too, all writes stop for a
        while."""
        log.error("journal file %s failed; appends in flight fail: %s", group.journal_file.file.path, error)
        group.journal_file.failed = True
        self._seal_file()
        self._next_group = group.number
        failed_before, self._last_sync_failed = self._last_sync_failed, True
        direct = self._direct_syncs.in_flight
        failed = [writes.partition for writes in group.writes if not writes.dropped]
        failed += [
            partition for partition in self._pending if partition not in direct and partition not in failed
        ]
        failure = StorageError(f"the journal failed: {error}")
        control_records, self._control_records = [*group.control_records, *self._control_records], []
        for record in control_records:
            complete(record.promise, failure)
        for partition in failed:
            self._roll_back(partition)
        self._awaiting_epoch |= dict.fromkeys(key for key in failed if key not in self._fenced)
        if failed_before:
            self._stop_writing(f"the journal failed twice in a row: {error}")
            return
        for partition in list(self._awaiting_epoch):
            self._begin_epoch(partition)
        self._checkpointer.schedule()
        self._schedule()

    def _roll_back(self, partition: CommittedPartition) -> None:
        """Fail what the partition has not committed. If its files cannot be cut, they are repaired."""
        self._drop_pending(partition)  # first: what fails in one partition may make others append
        partition.roll_back()
        if partition.fence_reason not in (None, self.read_only) and partition not in self._fenced:
            self._repair.fence(partition)

    def _begin_epoch(self, partition: CommittedPartition) -> None:
        """The partition was rolled back: make its new epoch durable, then resume it. If that fails, all
        writes stop, and a checkpoint makes it durable."""

        def durable(promise: Promise[None]) -> None:
            if promise.error is None:
                self._awaiting_epoch.pop(partition, None)
                partition.resume()

        self._record_epoch(partition).then(durable)

    def _record_epoch(self, partition: CommittedPartition) -> Promise[None]:
        row = partition.checkpoint_row()
        return self._add_control_record(partition, EPOCH, row.end_offset, row.segment, row.position)

    # All writes stop for a while.

    def _stop_writing(self, reason: str) -> None:
        """Reject all writes until a checkpoint is durable and a journal file is free."""
        assert self.read_only is None, "a group is in flight only while writes are accepted"
        self.read_only = reason
        wait_s = self._resume_wait_s
        log.critical("the whole log is read-only: %s; next attempt in %g s; check the disk", reason, wait_s)
        control_records, self._control_records = self._control_records, []
        for record in control_records:
            complete(record.promise, StorageError(reason))
        for partition in self._partitions():
            # Asked here: what failed in an earlier partition may have made this one append.
            if partition in self._pending or partition in self._direct_syncs.in_flight:
                self._roll_back(partition)
                self._awaiting_epoch[partition] = None
            if partition.fence_reason is None:
                partition.fence(reason)
        self._try_to_resume_later()
        self._schedule()

    def _try_to_resume_later(self) -> None:
        self._clock.call_later(self._resume_wait_s, self._try_to_resume)
        self._resume_wait_s = min(2 * self._resume_wait_s, RESUME_RETRY_S_MAX)

    def _try_to_resume(self) -> None:
        """A checkpoint with the new epochs takes the place of their records (R8)."""
        if self._stopped:
            return
        if self._direct_syncs.in_flight or not self._file_pool.has_free:
            self._try_to_resume_later()
            return
        for partition in self._awaiting_epoch:
            self._checkpointer.mark_dirty(partition, {})
        self._checkpointer.request(needed=True).then(self._resume_after)

    def _resume_after(self, checkpoint: Promise[None]) -> None:
        if self._stopped:
            return
        if checkpoint.error is not None or not self._file_pool.has_free:
            self._try_to_resume_later()
            return
        reason, self.read_only = self.read_only, None
        self._awaiting_epoch.clear()
        for partition in self._partitions():
            if partition.fence_reason == reason:
                self._repair.unfence(partition)
        log.warning("the log accepts events again")
        self._schedule()

    # What checkpoints ask for (CommitBarrier).

    def when_idle(self, begin: Callable[[int, int], None]) -> None:
        self._idle_callbacks.append(begin)
        self._schedule()

    def first_seq_needed(self, first_seq: int) -> int:
        needed = self._file_pool.needed(self._fenced.pinning, first_seq)
        return min((file.seq for file in needed), default=first_seq)

    def checkpoint_begins(self) -> bool:
        self._fenced.checkpoint_begins()
        return self._file_pool.is_half_used()

    def block_direct_sync(self, partition: CommittedPartition) -> bool:
        return self._direct_syncs.block(partition)

    def when_direct_sync_blocked(self, partition: CommittedPartition, callback: Callable[[], None]) -> None:
        self._direct_syncs.when_blocked(partition, callback)

    def unblock_direct_sync(self, partition: CommittedPartition) -> None:
        self._direct_syncs.unblock(partition)
        self._schedule()

    def defers_checkpoints(self) -> bool:
        return self._repair.first_attempt_pending

    def is_trusted(self, key: PartitionKey) -> bool:
        return self._fenced.is_trusted(key)

    def checkpoint_stored(self, first_seq: int) -> None:
        repaired = self._fenced.checkpoint_stored()
        self._file_pool.release(first_seq, self._fenced.pinning)
        for partition in repaired:
            self._repair.end(partition)
        self._schedule()

    def refers_to(self, key: PartitionKey) -> bool:
        return any(key in file.keys for file in self._file_pool.live)

    def segment_failed(self, partition: CommittedPartition, error: BaseException) -> None:
        reason = f"the disk failed under it: {error}"
        log.error("partition %s-%d: read-only, appends fail: %s", *partition_key(partition), reason)
        self.repair(partition)
        partition.fence(reason)
