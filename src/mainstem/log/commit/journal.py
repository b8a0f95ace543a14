"""The commit with durability "disk": one journal for all partitions.

Owns: what was appended and is not durable yet, the group under way, the direct lane, and what happens when a
sync fails. Refuses: to read the journal (`journal_image.py`), to sync segments in the background
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
from mainstem.log.commit.checkpointer import Checkpointer, Key, Rowed, key_of
from mainstem.log.commit.commit_group import Control, Gathered, Group, control_record, settle, tell, without
from mainstem.log.commit.contract import Committed
from mainstem.log.commit.journal_files import PINNED_MAX, Ring, Slot
from mainstem.log.commit.journal_format import APPEND, EPOCH, LOGSTART, Header
from mainstem.log.commit.segment_repair import Repair
from mainstem.log.config import LogConfig
from mainstem.log.disk.contract import Buffer, Disk, File
from mainstem.log.errors import StorageError
from mainstem.promise import Later

log = logging.getLogger(__name__)
LONELY = 16  # with many producers some groups are so small by chance


class Journal:
    """`commit.Committer` with a journal, and the `Gate` of its checkpoints."""

    def __init__(
        self,
        disk: Disk,
        clock: Clock,
        rng: random.Random,
        config: LogConfig,
        folder_id: UUID,
        checkpointer: Checkpointer,
        partitions: Callable[[], Iterable[Rowed]],
    ) -> None:
        self._disk = disk
        self._clock = clock
        self._rng = rng
        self._config = config
        self._folder_id = folder_id
        self._checkpointer = checkpointer
        self._partitions = partitions
        self._ring = Ring(disk, clock, config, self._schedule)
        smallest = min(config.first_journal_file_bytes, config.journal_file_bytes)
        self._payload_max = smallest - 2 * form.BLOCK - config.direct_bytes
        self._group_bytes = min(config.group_bytes, self._payload_max)
        self._gathering: dict[Rowed, Gathered] = {}
        self._control: list[Control] = []
        self._under_way: Group | None = None
        self._direct: dict[Rowed, Gathered] = {}
        self._held: set[Committed] = set()
        """Partitions that a checkpoint is syncing: no direct sync at the same time."""
        self._awaited: dict[Rowed, Callable[[], None]] = {}
        """What a checkpoint does once the direct sync of a partition has ended."""
        self._slot: Slot | None = None
        self._next_seq = 1
        self._next_group = 1
        self._scheduled = False
        self._lonely = 0
        """So many groups in a row were a single batch, and none came meanwhile."""
        self._quiet: list[Callable[[int, int], None]] = []
        self._idle: list[Later[None]] = []
        self._recovering: set[Rowed] = set()
        """Rolled back after a failed sync; their epoch records go first, alone."""
        self._doubtful = False
        """A sync has failed and none has worked since."""
        self._fenced: set[Key] = set()
        """Partitions of which a segment sync failed: their records pin journal files."""
        self._repaired: set[Key] = set()
        self._cleared: set[Key] = set()
        self.read_only: str | None = None
        """Why nothing is written any more."""
        self.pending_bytes = 0
        """Appended and neither durable nor failed."""
        checkpointer.gate = self

    def start(self, next_seq: int, next_group: int) -> None:
        """The log has recovered."""
        self._next_seq, self._next_group = next_seq, next_group
        self._ring.start()

    def stop(self) -> None:
        """The log closes: nothing is under way."""
        self._ring.stop()

    # What partitions ask for (commit.Committer).

    def written(
        self,
        partition: Committed,
        data: Buffer,
        base_offset: int,
        end_offset: int,
        segment: int,
        position: int,
        file: File,
        arrival_ms: int,
    ) -> None:
        gathered = self._gathering.get(partition)  # type: ignore[call-overload]
        if gathered is None:
            gathered = self._gathering[cast(Rowed, partition)] = Gathered(cast(Rowed, partition))
        size = len(data)
        self.pending_bytes += size
        gathered.bytes_written += size
        gathered.files[segment] = file
        gathered.end_offset, gathered.segment, gathered.position = end_offset, segment, position + size
        if not gathered.direct:
            topic = partition.topic_id
            large = topic == paths.STATE_TOPIC or partition in self._held
            most = self._payload_max if large else self._config.direct_bytes
            gathered.payload += form.RECORD_BYTES + size
            if gathered.payload - form.RECORD_BYTES >= most:
                gathered.direct = True
                gathered.pieces, gathered.payload, gathered.records = [], 0, 0
            else:
                gathered.records += 1
                fields = (base_offset, end_offset, segment, position, arrival_ms, size)
                head = form.RECORD.pack(APPEND, topic.bytes, partition.index, partition.epoch, *fields)
                gathered.pieces += (head, bytes(data))
        if not self._scheduled:
            self._schedule()

    def hurry(self) -> None:
        """A request has been appended. Its commit begins now, not at the end of the turn, if nothing is
        likely to join it: what is left to do for the request is done while the disk works."""
        if self._lonely >= LONELY and self._scheduled and self._under_way is None:
            self._turn()

    def rolled(self, partition: Committed, old: File | None, new: File) -> None:
        if old is not None:
            self._checkpointer.sealed(old)

    def log_start(self, partition: Committed, offset: int) -> Later[None]:
        one = cast(Rowed, partition)
        out: Later[None] = Later()

        def committed(later: Later[None]) -> None:
            if later.error is not None:
                out.fail(later.error)
                return
            row = self._checkpointer.rows.get(key_of(one))
            if row is not None and offset < row.end_offset:
                out.resolve(None)  # the segment that the checkpoint points to goes on after the new log start
                return
            # The checkpoint may point at or before what is going to be unlinked: a later one first (R11).
            self._checkpointer.touch(one, {}, 0)
            self._checkpointer.ask().then(lambda stored: passed(stored.error))

        def passed(error: BaseException | None) -> None:
            row = self._checkpointer.rows.get(key_of(one))
            if error is None and (row is None or row.end_offset < offset):
                error = StorageError(one.fenced or "the checkpoint did not come past it")
            settle(out, error)

        self._add_control(one, LOGSTART, offset, offset, 0).then(committed)
        return out

    def forget(self, partition: Committed) -> Later[None]:
        one = cast(Rowed, partition)
        self._drop(one)
        self._recovering.discard(one)
        self._repaired.add(key_of(one))
        self._control = without(self._control, one)
        self._schedule()
        return self._checkpointer.forget(one)

    def idle(self) -> Later[None]:
        """Done when nothing is under way or waits."""
        later: Later[None] = Later()
        self._idle.append(later)
        self._schedule()
        return later

    def _add_control(
        self, partition: Rowed, kind: int, offset: int, segment: int, position: int
    ) -> Later[None]:
        if self.read_only is not None:
            return Later.failed(StorageError(self.read_only))
        one = control_record(partition, kind, offset, segment, position)
        self._control.append(one)
        self._schedule()
        return one.later

    def _drop(self, partition: Rowed) -> None:
        """What it has pending is nobody's any more."""
        gathered = self._gathering.pop(partition, None)
        if gathered is not None:
            self.pending_bytes -= gathered.bytes_written
        units = [*self._direct.values(), *(self._under_way.gathered if self._under_way else ())]
        for unit in units:
            if unit.partition is partition:
                unit.dropped = True

    # Starting groups and direct syncs.

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._clock.call_soon(self._turn)

    def _turn(self) -> None:
        self._scheduled = False
        if self.read_only is None:
            self._start_direct()
            if self._under_way is None:
                self._be_quiet()
                self._start_group()
        if self._idle and not (self._gathering or self._control or self._direct or self._under_way):
            idle, self._idle = self._idle, []
            for later in idle:
                later.resolve(None)

    def _start_direct(self) -> None:
        under_way = {one.partition for one in self._under_way.gathered} if self._under_way else ()
        ready = [
            one
            for one in self._gathering.values()
            if one.direct
            and one.partition not in self._direct
            and one.partition not in self._held
            and one.partition not in under_way
        ]
        for one in ready:
            partition = one.partition
            del self._gathering[partition]
            self._direct[partition] = one
            self._checkpointer.touch(partition, one.files, one.bytes_written)
            folders = self._checkpointer.folders_of(partition, one.files.values())
            synced = self._disk.sync(list(one.files.values()), folders)
            synced.then(lambda later, one=one: self._direct_done(one, later.error))  # type: ignore[misc]

    def _direct_done(self, one: Gathered, error: BaseException | None) -> None:
        del self._direct[one.partition]
        self.pending_bytes -= one.bytes_written
        if not one.dropped:
            if error is None:
                self._checkpointer.linked(one.partition, one.files.values())
                self._checkpointer.touch(one.partition, one.files, 0)  # a checkpoint may have begun meanwhile
                tell(one)
            else:
                self.segment_failed(one.partition, error)
        call = self._awaited.pop(one.partition, None)
        if call is not None:
            self._held.add(one.partition)
            call()
        self._schedule()

    def _be_quiet(self) -> None:
        """No group is under way: the moment at which checkpoints begin."""
        quiet, self._quiet = self._quiet, []
        for begin in quiet:
            self._seal()
            begin(self._next_seq, self._next_group)

    def _seal(self) -> None:
        """Later groups go to another file."""
        if self._slot is not None:
            self._slot = None
            self._next_seq += 1

    def _next_units(self) -> list[Gathered]:
        if self._recovering:
            return []
        units: list[Gathered] = []
        payload = 0
        for one in self._gathering.values():
            if not one.direct and one.partition not in self._direct:
                payload += one.payload
                if units and payload > self._group_bytes:
                    break
                units.append(one)
        return units

    def _start_group(self) -> None:
        units, control = self._next_units(), self._control
        if not units and not control:
            return
        payload = sum(one.payload for one in units) + form.RECORD_BYTES * len(control)
        slot = self._slot_for(form.group_bytes(payload))
        if slot is None:
            return
        for one in units:
            del self._gathering[one.partition]
            # Now, not when written: a checkpoint that began before this group does not cover it.
            self._checkpointer.touch(one.partition, one.files, 0)
        self._control = []
        group = Group(self._next_group, slot, units, control)
        self._under_way = group
        self._next_group += 1
        slot.records += sum(one.records for one in units) + len(control)
        slot.keys.update(key_of(one.partition) for one in units)
        slot.keys.update(key_of(each.partition) for each in control)
        try:
            self._write(group)
        except OSError as error:
            self._clock.call_soon(lambda error=error: self._group_done(group, error))  # type: ignore[misc]
            return
        self._disk.sync([slot.file]).then(lambda later: self._group_done(group, later.error))

    def _slot_for(self, size: int) -> Slot | None:
        """The file that a group of this size goes to; None: wait for one."""
        slot = self._slot
        if slot is not None:
            full = slot.records >= self._config.journal_file_records
            if not full and slot.position + size <= slot.size:
                return slot
            self._seal()
            self._checkpointer.want()
        header = Header(self._folder_id, self._next_seq, self._rng.getrandbits(64), self._next_group)
        self._slot = self._ring.take(header)
        if self._slot is None and self._ring.live:
            self._checkpointer.want()
        return self._slot

    def _write(self, group: Group) -> None:
        slot = group.slot
        header = slot.header
        assert header is not None
        seed = form.seed_of(header.salt)
        records: list[Buffer] = [control.data for control in group.control]
        for one in group.gathered:
            records += one.pieces
        count = len(group.control) + sum(one.records for one in group.gathered)
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

    def _group_done(self, group: Group, error: BaseException | None) -> None:
        assert self._under_way is group
        self._under_way = None
        alone = not self._gathering and [one.records for one in group.gathered] == [1]
        self._lonely = self._lonely + 1 if alone else 0
        self.pending_bytes -= sum(one.bytes_written for one in group.gathered)
        if error is not None:
            self._group_failed(group, error)
            return
        self._doubtful = False
        for one in group.gathered:
            if not one.dropped:
                tell(one)
        for control in group.control:
            self._checkpointer.touch(control.partition, {}, 0)
            settle(control.later, None)
        self._schedule()

    def _group_failed(self, group: Group, error: BaseException) -> None:
        """The outcome is unknown, which counts as failed: the group is nacked and annulled by a fresh file
        whose first group tells the new epochs (R5, R8). If that fails too, nothing is written any more."""
        log.error("journal file %s failed: %s", group.slot.file.path, error)
        group.slot.failed = True
        self._seal()
        self._next_group = group.number
        second, self._doubtful = self._doubtful, True
        failed = [one.partition for one in group.gathered if not one.dropped]
        failed += [one for one in self._gathering if one not in self._direct and one not in failed]
        stopped = StorageError(f"the journal failed: {error}")
        control, self._control = [*group.control, *self._control], []
        for each in control:
            settle(each.later, stopped)
        if second or self.read_only is not None:
            self._stop_writing(f"the journal failed twice in a row: {error}")
            return
        for partition in failed:
            self._drop(partition)  # here: what fails in one partition may make others append
            partition.roll_back()
        self._recovering = {partition for partition in failed if partition.fenced is None}
        for partition in list(self._recovering):
            self._begin_epoch(partition)
        self._checkpointer.want()
        self._schedule()

    def _begin_epoch(self, partition: Rowed) -> None:
        """Rolled back: make its new epoch durable, then let it go on."""
        row = partition.row()

        def durable(later: Later[None]) -> None:
            self._recovering.discard(partition)
            if later.error is None:
                partition.resume()

        self._add_control(partition, EPOCH, row.end_offset, row.segment, row.position).then(durable)

    def _stop_writing(self, reason: str) -> None:
        if self.read_only is not None:
            return
        self.read_only = reason
        log.critical("the whole log is read-only: %s", reason)
        control, self._control = self._control, []
        for one in control:
            settle(one.later, StorageError(reason))
        for partition in self._partitions():
            self._drop(partition)
            partition.roll_back()
            partition.fence(reason)
        self._schedule()

    # Checkpoints (checkpointer.Gate).

    def when_quiet(self, begin: Callable[[int, int], None]) -> None:
        self._quiet.append(begin)
        self._schedule()

    def first_seq_needed(self, first_seq: int) -> int:
        # Of those that were repaired before it began, this checkpoint has the row: it needs no file for them.
        pinned = self._ring.pinned(self._fenced - self._cleared, first_seq)
        return min((slot.header.seq for slot in pinned if slot.header is not None), default=first_seq)

    def begins(self) -> bool:
        self._cleared = set(self._repaired)
        return self._ring.half_used()

    def hold(self, partition: Rowed) -> bool:
        if partition in self._direct:
            return False
        self._held.add(partition)
        return True

    def when_free(self, partition: Rowed, call: Callable[[], None]) -> None:
        if self.hold(partition):
            call()
        else:
            self._awaited[partition] = call

    def release(self, partition: Rowed) -> None:
        self._held.discard(partition)
        self._schedule()

    def is_trusted(self, key: Key) -> bool:
        return key not in self._fenced or key in self._repaired

    def checkpointed(self, first_seq: int) -> None:
        self._fenced -= self._cleared
        self._repaired -= self._cleared
        self._cleared = set()
        self._ring.release(first_seq, self._fenced)
        pinned = self._ring.pinned(self._fenced, first_seq)
        if sum(not slot.failed for slot in pinned) > PINNED_MAX:  # a failed one has left the ring anyway
            self._stop_writing("partitions that the disk failed under need more than two journal files")

    def refers_to(self, key: Key) -> bool:
        return any(key in slot.keys for slot in self._ring.live)

    def segment_failed(self, partition: Rowed, error: BaseException) -> None:
        """R10: nothing of it counts any more that was not committed; what was is written again from the
        journal."""
        key = key_of(partition)
        self._drop(partition)
        self._fenced.add(key)
        self._repaired.discard(key)
        self._cleared.discard(key)
        partition.roll_back()
        partition.fence(f"the disk failed under it: {error}")
        self._repair(partition)

    def _repair(self, partition: Rowed) -> None:
        Repair(self._disk, self._clock, partition, self._ring, self._is_alive, self._repair_done).start()

    def _is_alive(self, partition: Rowed) -> bool:
        return (
            self.read_only is None and key_of(partition) in self._fenced and partition in self._partitions()
        )

    def _repair_done(self, partition: Rowed) -> None:
        row = partition.row()

        def durable(later: Later[None]) -> None:
            if later.error is not None:
                self._repair(partition)
                return
            self._repaired.add(key_of(partition))
            partition.unfence()
            partition.resume()
            self._checkpointer.touch(partition, {}, 0)

        self._add_control(partition, EPOCH, row.end_offset, row.segment, row.position).then(durable)
