"""The commit with durability "disk": one journal for all partitions.

Owns: what was appended and is not durable yet, the group under way, the direct lane, and what happens when a
sync fails. Refuses: to read the journal (`journal_reader.py`), to sync segments in the background
(`checkpointer.py`), and to have two groups under way. Made by `log.py`; partitions see it as
`commit.Committer`.

Rule numbers are those of FORMAT.md. Appends gather per partition. A group is what has gathered when the one
before is durable; nothing lingers. What one partition gathered goes to the journal with its bytes, or, from
`direct_bytes` on, is synced in its segment without them; never both at once (R7).
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterable
from typing import cast
from uuid import UUID

from mainstem.clock import Clock
from mainstem.log import paths
from mainstem.log.commit import journal_format as form
from mainstem.log.commit.checkpointer import CheckpointedPartition, Checkpointer, PartitionKey, partition_key
from mainstem.log.commit.commit_group import (
    CommitGroup,
    ControlRecord,
    PendingWrites,
    complete,
    control_record,
    drop_control_records,
    notify_committed,
)
from mainstem.log.commit.contract import CommittedPartition
from mainstem.log.commit.journal_files import PINNED_FILES_MAX, JournalFile, JournalFilePool
from mainstem.log.commit.journal_format import APPEND, EPOCH, LOGSTART, JournalFileHeader
from mainstem.log.commit.segment_repair import SegmentRepair
from mainstem.log.config import LogConfig
from mainstem.log.disk.contract import Buffer, Disk, File
from mainstem.log.errors import StorageError
from mainstem.promise import Promise

log = logging.getLogger(__name__)
SINGLE_WRITER_GROUPS = 16  # with many producers some groups are so small by chance


class Journal:
    """`commit.Committer` with a journal, and the `CommitBarrier` of its checkpoints."""

    def __init__(
        self,
        disk: Disk,
        clock: Clock,
        rng: random.Random,
        config: LogConfig,
        folder_id: UUID,
        checkpointer: Checkpointer,
        partitions: Callable[[], Iterable[CheckpointedPartition]],
    ) -> None:
        self._disk = disk
        self._clock = clock
        self._rng = rng
        self._config = config
        self._folder_id = folder_id
        self._checkpointer = checkpointer
        self._partitions = partitions
        self._file_pool = JournalFilePool(disk, clock, config, self._schedule)
        smallest = min(config.first_journal_file_bytes, config.journal_file_bytes)
        self._payload_max = smallest - 2 * form.BLOCK - config.direct_bytes
        self._group_bytes = min(config.group_bytes, self._payload_max)
        self._pending: dict[CheckpointedPartition, PendingWrites] = {}
        self._control_records: list[ControlRecord] = []
        self._group_in_flight: CommitGroup | None = None
        self._direct_in_flight: dict[CheckpointedPartition, PendingWrites] = {}
        self._direct_blocked: set[CommittedPartition] = set()
        """Partitions that a checkpoint is syncing: no direct sync at the same time."""
        self._on_direct_blocked: dict[CheckpointedPartition, Callable[[], None]] = {}
        """What a checkpoint does once the direct sync of a partition has ended."""
        self._current_file: JournalFile | None = None
        self._next_seq = 1
        self._next_group = 1
        self._scheduled = False
        self._single_writer_groups = 0
        """So many groups in a row were a single batch, and none came meanwhile."""
        self._idle_callbacks: list[Callable[[int, int], None]] = []
        self._drain_requests: list[Promise[None]] = []
        self._awaiting_epoch: set[CheckpointedPartition] = set()
        """Rolled back after a failed sync; their epoch records go first, alone."""
        self._last_sync_failed = False
        """A sync has failed and none has worked since."""
        self._fenced_keys: set[PartitionKey] = set()
        """Partitions of which a segment sync failed: their records pin journal files."""
        self._repaired_keys: set[PartitionKey] = set()
        self._covered_keys: set[PartitionKey] = set()
        self.read_only: str | None = None
        """Why nothing is written any more."""
        self.pending_bytes = 0
        """Appended and neither durable nor failed."""
        checkpointer.barrier = self

    def start(self, next_seq: int, next_group: int) -> None:
        """The log has recovered."""
        self._next_seq, self._next_group = next_seq, next_group
        self._file_pool.start()

    def stop(self) -> None:
        """The log closes: nothing is under way."""
        self._file_pool.stop()

    # What partitions ask for (commit.Committer).

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
        gathered = self._pending.get(partition)  # type: ignore[call-overload]
        if gathered is None:
            gathered = self._pending[cast(CheckpointedPartition, partition)] = PendingWrites(
                cast(CheckpointedPartition, partition)
            )
        size = len(data)
        self.pending_bytes += size
        gathered.bytes_written += size
        gathered.files[segment] = file
        gathered.end_offset, gathered.segment, gathered.position = end_offset, segment, position + size
        if not gathered.sync_directly:
            topic = partition.topic_id
            large = topic == paths.STATE_TOPIC or partition in self._direct_blocked
            most = self._payload_max if large else self._config.direct_bytes
            gathered.payload_bytes += form.RECORD_BYTES + size
            if gathered.payload_bytes - form.RECORD_BYTES >= most:
                gathered.sync_directly = True
                gathered.pieces, gathered.payload_bytes, gathered.record_count = [], 0, 0
            else:
                gathered.record_count += 1
                fields = (base_offset, end_offset, segment, position, arrival_ms, size)
                head = form.RECORD.pack(APPEND, topic.bytes, partition.index, partition.epoch, *fields)
                gathered.pieces += (head, bytes(data))
        if not self._scheduled:
            self._schedule()

    def commit_now_if_idle(self) -> None:
        """A request has been appended. Its commit begins now, not at the end of the turn, if nothing is
        likely to join it: what is left to do for the request is done while the disk works."""
        if (
            self._single_writer_groups >= SINGLE_WRITER_GROUPS
            and self._scheduled
            and self._group_in_flight is None
        ):
            self._start_commits()

    def segment_rolled(self, partition: CommittedPartition, old: File | None, new: File) -> None:
        if old is not None:
            self._checkpointer.close_after_sync(old)

    def record_log_start(self, partition: CommittedPartition, offset: int) -> Promise[None]:
        one = cast(CheckpointedPartition, partition)
        out: Promise[None] = Promise()

        def committed(later: Promise[None]) -> None:
            if later.error is not None:
                out.fail(later.error)
                return
            row = self._checkpointer.rows.get(partition_key(one))
            if row is not None and offset < row.end_offset:
                out.resolve(None)  # the segment that the checkpoint points to goes on after the new log start
                return
            # The checkpoint may point at or before what is going to be unlinked: a later one first (R11).
            self._checkpointer.mark_dirty(one, {}, 0)
            self._checkpointer.request().then(lambda stored: passed(stored.error))

        def passed(error: BaseException | None) -> None:
            row = self._checkpointer.rows.get(partition_key(one))
            if error is None and (row is None or row.end_offset < offset):
                error = StorageError(one.fenced or "the checkpoint did not come past it")
            complete(out, error)

        self._add_control_record(one, LOGSTART, offset, offset, 0).then(committed)
        return out

    def forget_partition(self, partition: CommittedPartition) -> Promise[None]:
        one = cast(CheckpointedPartition, partition)
        self._drop_pending(one)
        self._awaiting_epoch.discard(one)
        self._repaired_keys.add(partition_key(one))
        self._control_records = drop_control_records(self._control_records, one)
        self._schedule()
        return self._checkpointer.forget_partition(one)

    def drain(self) -> Promise[None]:
        """Done when nothing is under way or waits."""
        later: Promise[None] = Promise()
        self._drain_requests.append(later)
        self._schedule()
        return later

    def _add_control_record(
        self, partition: CheckpointedPartition, kind: int, offset: int, segment: int, position: int
    ) -> Promise[None]:
        if self.read_only is not None:
            return Promise.failed(StorageError(self.read_only))
        one = control_record(partition, kind, offset, segment, position)
        self._control_records.append(one)
        self._schedule()
        return one.later

    def _drop_pending(self, partition: CheckpointedPartition) -> None:
        """What it has pending is nobody's any more."""
        gathered = self._pending.pop(partition, None)
        if gathered is not None:
            self.pending_bytes -= gathered.bytes_written
        units = [
            *self._direct_in_flight.values(),
            *(self._group_in_flight.writes if self._group_in_flight else ()),
        ]
        for unit in units:
            if unit.partition is partition:
                unit.dropped = True

    # Starting groups and direct syncs.

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._clock.call_soon(self._start_commits)

    def _start_commits(self) -> None:
        self._scheduled = False
        if self.read_only is None:
            self._start_direct()
            if self._group_in_flight is None:
                self._run_idle_callbacks()
                self._start_group()
        if self._drain_requests and not (
            self._pending or self._control_records or self._direct_in_flight or self._group_in_flight
        ):
            idle, self._drain_requests = self._drain_requests, []
            for later in idle:
                later.resolve(None)

    def _start_direct(self) -> None:
        under_way = {one.partition for one in self._group_in_flight.writes} if self._group_in_flight else ()
        ready = [
            one
            for one in self._pending.values()
            if one.sync_directly
            and one.partition not in self._direct_in_flight
            and one.partition not in self._direct_blocked
            and one.partition not in under_way
        ]
        for one in ready:
            partition = one.partition
            del self._pending[partition]
            self._direct_in_flight[partition] = one
            self._checkpointer.mark_dirty(partition, one.files, one.bytes_written)
            folders = self._checkpointer.folders_to_sync(partition, one.files.values())
            synced = self._disk.sync(list(one.files.values()), folders)
            synced.then(lambda later, one=one: self._direct_done(one, later.error))  # type: ignore[misc]

    def _direct_done(self, one: PendingWrites, error: BaseException | None) -> None:
        del self._direct_in_flight[one.partition]
        self.pending_bytes -= one.bytes_written
        if not one.dropped:
            if error is None:
                self._checkpointer.mark_names_durable(one.partition, one.files.values())
                self._checkpointer.mark_dirty(
                    one.partition, one.files, 0
                )  # a checkpoint may have begun meanwhile
                notify_committed(one)
            else:
                self.segment_failed(one.partition, error)
        call = self._on_direct_blocked.pop(one.partition, None)
        if call is not None:
            self._direct_blocked.add(one.partition)
            call()
        self._schedule()

    def _run_idle_callbacks(self) -> None:
        """No group is under way: the moment at which checkpoints begin."""
        quiet, self._idle_callbacks = self._idle_callbacks, []
        for begin in quiet:
            self._seal_file()
            begin(self._next_seq, self._next_group)

    def _seal_file(self) -> None:
        """Later groups go to another file."""
        if self._current_file is not None:
            self._current_file = None
            self._next_seq += 1

    def _next_writes(self) -> list[PendingWrites]:
        if self._awaiting_epoch:
            return []
        units: list[PendingWrites] = []
        payload = 0
        for one in self._pending.values():
            if not one.sync_directly and one.partition not in self._direct_in_flight:
                payload += one.payload_bytes
                if units and payload > self._group_bytes:
                    break
                units.append(one)
        return units

    def _start_group(self) -> None:
        units, control = self._next_writes(), self._control_records
        if not units and not control:
            return
        payload = sum(one.payload_bytes for one in units) + form.RECORD_BYTES * len(control)
        slot = self._file_for(form.padded_group_bytes(payload))
        if slot is None:
            return
        for one in units:
            del self._pending[one.partition]
            # Now, not when written: a checkpoint that began before this group does not cover it.
            self._checkpointer.mark_dirty(one.partition, one.files, 0)
        self._control_records = []
        group = CommitGroup(self._next_group, slot, units, control)
        self._group_in_flight = group
        self._next_group += 1
        slot.records += sum(one.record_count for one in units) + len(control)
        slot.keys.update(partition_key(one.partition) for one in units)
        slot.keys.update(partition_key(each.partition) for each in control)
        try:
            self._write(group)
        except OSError as error:
            self._clock.call_soon(lambda error=error: self._group_done(group, error))  # type: ignore[misc]
            return
        self._disk.sync([slot.file]).then(lambda later: self._group_done(group, later.error))

    def _file_for(self, size: int) -> JournalFile | None:
        """The file that a group of this size goes to; None: wait for one."""
        slot = self._current_file
        if slot is not None:
            full = slot.records >= self._config.journal_file_records
            if not full and slot.position + size <= slot.size:
                return slot
            self._seal_file()
            self._checkpointer.schedule()
        header = JournalFileHeader(
            self._folder_id, self._next_seq, self._rng.getrandbits(64), self._next_group
        )
        self._current_file = self._file_pool.acquire(header)
        if self._current_file is None and self._file_pool.live:
            self._checkpointer.schedule()
        return self._current_file

    def _write(self, group: CommitGroup) -> None:
        slot = group.journal_file
        header = slot.header
        assert header is not None
        seed = form.crc_seed(header.salt)
        records: list[Buffer] = [control.data for control in group.control_records]
        for one in group.writes:
            records += one.pieces
        count = len(group.control_records) + sum(one.record_count for one in group.writes)
        pieces = form.encode_group(seed, header.seq, group.number, count, records)
        position = slot.position
        if position == form.BLOCK:
            pieces.insert(0, form.encode_header(header))
            position = 0
        data = b"".join(pieces)
        assert not len(data) % form.BLOCK
        slot.position = position + len(data)
        slot.file.pwrite(data, position)

    # A group is durable, or not.

    def _group_done(self, group: CommitGroup, error: BaseException | None) -> None:
        assert self._group_in_flight is group
        self._group_in_flight = None
        alone = not self._pending and [one.record_count for one in group.writes] == [1]
        self._single_writer_groups = self._single_writer_groups + 1 if alone else 0
        self.pending_bytes -= sum(one.bytes_written for one in group.writes)
        if error is not None:
            self._group_failed(group, error)
            return
        self._last_sync_failed = False
        for one in group.writes:
            if not one.dropped:
                notify_committed(one)
        for control in group.control_records:
            self._checkpointer.mark_dirty(control.partition, {}, 0)
            complete(control.later, None)
        self._schedule()

    def _group_failed(self, group: CommitGroup, error: BaseException) -> None:
        """The outcome is unknown, which counts as failed: the group is nacked and annulled by a fresh file
        whose first group tells the new epochs (R5, R8). If that fails too, nothing is written any more."""
        log.error("journal file %s failed: %s", group.journal_file.file.path, error)
        group.journal_file.failed = True
        self._seal_file()
        self._next_group = group.number
        second, self._last_sync_failed = self._last_sync_failed, True
        failed = [one.partition for one in group.writes if not one.dropped]
        failed += [one for one in self._pending if one not in self._direct_in_flight and one not in failed]
        stopped = StorageError(f"the journal failed: {error}")
        control, self._control_records = [*group.control_records, *self._control_records], []
        for each in control:
            complete(each.later, stopped)
        if second or self.read_only is not None:
            self._stop_writing(f"the journal failed twice in a row: {error}")
            return
        for partition in failed:
            self._drop_pending(partition)  # here: what fails in one partition may make others append
            partition.roll_back()
        self._awaiting_epoch = {partition for partition in failed if partition.fenced is None}
        for partition in list(self._awaiting_epoch):
            self._begin_epoch(partition)
        self._checkpointer.schedule()
        self._schedule()

    def _begin_epoch(self, partition: CheckpointedPartition) -> None:
        """Rolled back: make its new epoch durable, then let it go on."""
        row = partition.checkpoint_row()

        def durable(later: Promise[None]) -> None:
            self._awaiting_epoch.discard(partition)
            if later.error is None:
                partition.resume()

        self._add_control_record(partition, EPOCH, row.end_offset, row.segment, row.position).then(durable)

    def _stop_writing(self, reason: str) -> None:
        if self.read_only is not None:
            return
        self.read_only = reason
        log.critical("the whole log is read-only: %s", reason)
        control, self._control_records = self._control_records, []
        for one in control:
            complete(one.later, StorageError(reason))
        for partition in self._partitions():
            self._drop_pending(partition)
            partition.roll_back()
            partition.fence(reason)
        self._schedule()

    # Checkpoints (CommitBarrier).

    def when_idle(self, begin: Callable[[int, int], None]) -> None:
        self._idle_callbacks.append(begin)
        self._schedule()

    def first_seq_needed(self, first_seq: int) -> int:
        # Of those that were repaired before it began, this checkpoint has the row: it needs no file for them.
        pinned = self._file_pool.pinned(self._fenced_keys - self._covered_keys, first_seq)
        return min((slot.header.seq for slot in pinned if slot.header is not None), default=first_seq)

    def checkpoint_begins(self) -> bool:
        self._covered_keys = set(self._repaired_keys)
        return self._file_pool.is_half_used()

    def block_direct_sync(self, partition: CheckpointedPartition) -> bool:
        if partition in self._direct_in_flight:
            return False
        self._direct_blocked.add(partition)
        return True

    def when_direct_sync_blocked(self, partition: CheckpointedPartition, call: Callable[[], None]) -> None:
        if self.block_direct_sync(partition):
            call()
        else:
            self._on_direct_blocked[partition] = call

    def unblock_direct_sync(self, partition: CheckpointedPartition) -> None:
        self._direct_blocked.discard(partition)
        self._schedule()

    def is_trusted(self, key: PartitionKey) -> bool:
        return key not in self._fenced_keys or key in self._repaired_keys

    def checkpoint_stored(self, first_seq: int) -> None:
        self._fenced_keys -= self._covered_keys
        self._repaired_keys -= self._covered_keys
        self._covered_keys = set()
        self._file_pool.release(first_seq, self._fenced_keys)
        pinned = self._file_pool.pinned(self._fenced_keys, first_seq)
        if (
            sum(not slot.failed for slot in pinned) > PINNED_FILES_MAX
        ):  # a failed one has left the ring anyway
            self._stop_writing("partitions that the disk failed under need more than two journal files")

    def refers_to(self, key: PartitionKey) -> bool:
        return any(key in slot.keys for slot in self._file_pool.live)

    def segment_failed(self, partition: CheckpointedPartition, error: BaseException) -> None:
        """R10: nothing of it counts any more that was not committed; what was is written again from the
        journal."""
        key = partition_key(partition)
        self._drop_pending(partition)
        self._fenced_keys.add(key)
        self._repaired_keys.discard(key)
        self._covered_keys.discard(key)
        partition.roll_back()
        partition.fence(f"the disk failed under it: {error}")
        self._repair(partition)

    def _repair(self, partition: CheckpointedPartition) -> None:
        SegmentRepair(
            self._disk, self._clock, partition, self._file_pool, self._needs_repair, self._repair_done
        ).start()

    def _needs_repair(self, partition: CheckpointedPartition) -> bool:
        return (
            self.read_only is None
            and partition_key(partition) in self._fenced_keys
            and partition in self._partitions()
        )

    def _repair_done(self, partition: CheckpointedPartition) -> None:
        row = partition.checkpoint_row()

        def durable(later: Promise[None]) -> None:
            if later.error is not None:
                self._repair(partition)
                return
            self._repaired_keys.add(partition_key(partition))
            partition.unfence()
            partition.resume()
            self._checkpointer.mark_dirty(partition, {}, 0)

        self._add_control_record(partition, EPOCH, row.end_offset, row.segment, row.position).then(durable)
