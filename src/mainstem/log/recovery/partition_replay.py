"""The replay of one partition's journal records over its segment files.

Owns: `PartitionReplay`: where the log has come to, which bytes are written again, and what is cut or put
aside. Refuses: to delete bytes by guess: it cuts only beyond the durable end, and a `*.quarantine` file keeps
what it cut.

Rule numbers are those of FORMAT.md. Everything blocks.
"""

from __future__ import annotations

import logging
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Sequence
from uuid import UUID

from mainstem.log import paths
from mainstem.log.commit.checkpoint import CheckpointRow
from mainstem.log.commit.contract import PartitionKey
from mainstem.log.commit.journal_format import APPEND, EPOCH, LOGSTART, JournalRecord
from mainstem.log.config import Durability
from mainstem.log.disk.contract import Disk, File
from mainstem.log.partition import batch_scan
from mainstem.log.partition.recovered_state import RecoveredState
from mainstem.log.recovery.recovered_partition import RecoveredPartition, state_of

_COPY_BYTES = 1 << 20
_QUARANTINE_FILE = -1
"""Key of a file to be synced that is no segment; segments have their base offset as key."""

log = logging.getLogger(__name__)


def _in_force(records: Sequence[JournalRecord]) -> list[JournalRecord]:
    """The records without those that a later epoch made void. Their group became durable, but the partition
    was fenced meanwhile, so that they were never acknowledged. The batches that replaced them may be in the
    segment alone, synced directly, and must never be written over (R8)."""
    in_force: list[JournalRecord] = []
    for record in records:
        if record.kind == EPOCH:
            in_force = [
                earlier
                for earlier in in_force
                if earlier.kind != APPEND
                or earlier.epoch >= record.epoch
                or earlier.end_offset <= record.base_offset
            ]
        in_force.append(record)
    return in_force


class PartitionReplay:
    """The replay of one partition: where it has come to (segment, position, offset, epoch), and which files
    it has changed."""

    def __init__(
        self,
        disk: Disk,
        key: PartitionKey,
        segments: list[int],
        row: CheckpointRow | None,
        records: Sequence[JournalRecord],
        payload: Callable[[JournalRecord], bytes],
        complete: bool,
        end_is_known: bool,
    ) -> None:
        """The arguments of `recover_partition`; `segments`: base offsets of the segment files."""
        self._disk = disk
        self._key = key
        self._payload = payload
        self._folder = paths.partition_folder(*key)
        self._segments = segments
        self._records = _in_force(records)
        self._end_is_known = end_is_known
        self._files: dict[int, File] = {}
        self._changed: dict[int, File] = {}
        self._names_changed = False
        self._result = RecoveredPartition(RecoveredState(), CheckpointRow(UUID(int=0), 0, 0, 0, 0, 0, 0))
        self._arrivals: list[tuple[int, int]] = []
        if row is not None:
            self._segment, self._position = row.segment, row.position
            self._offset, self._epoch, self._log_start = row.end_offset, row.epoch, row.log_start
            self._done_to = row.end_offset
        else:
            first = 0 if complete or not segments else segments[0]
            self._segment, self._position = first, 0
            self._offset, self._epoch, self._log_start = first, 0, first
            self._done_to = -1
        starts = (record.base_offset for record in records if record.kind == LOGSTART)
        self._log_start = max(self._log_start, *starts, 0)
        if row is not None and row.segment not in segments and row.end_offset <= self._log_start:
            # All batches of that segment were deleted, and then its file.
            self._segment, self._position = row.end_offset, 0
        self._start = (self._segment, self._position)

    def is_short(self, row: CheckpointRow) -> bool:
        """The files hold less than the checkpoint promises."""
        if row.segment not in self._segments:
            return row.position > 0 and row.end_offset > self._log_start
        return self._file(row.segment).size() < row.position

    def run(self) -> RecoveredPartition:
        """Replay the journal from the known end on, keep the valid batches that follow, and cut the rest."""
        for number, record in enumerate(self._records):
            problem = self._apply(record)
            if problem:
                return self._fence(problem, self._records[number:])
        before = self._result.scanned_bytes
        self._scan()
        while not self._end_is_known and self._pass_damage():
            self._scan()
        if self._result.scanned_bytes > before:
            # Normal after a sudden death, for every partition that was being written; the report has the sum.
            kept_bytes = self._result.scanned_bytes - before
            log.debug("%s: kept %d bytes found after the end that was recorded", self._folder, kept_bytes)
        if self._offset < self._log_start:  # the missing offsets had been deleted
            self._leave(self._segment)
            self._segment, self._position, self._offset = self._log_start, 0, self._log_start
        self._truncate_after_end()
        if self._segments and self._segments[-1] != self._segment:
            self._file(self._segment)  # the log was rolled, but nothing was committed in the new segment
        row = self._row(self._epoch + 1)
        self._finish(row)
        state = state_of(row, self._listed(), False, self._start, arrivals=self._arrivals)
        self._result.state, self._result.checkpoint_row = state, row
        return self._result

    def shorter_than_acknowledged(self, row: CheckpointRow, durability: Durability) -> RecoveredPartition:
        """Recover a partition whose files end before the end offset in `row`, its row in the checkpoint. With
        durability disk, acknowledged events are lost: it becomes read-only with the batches that are there.
        Durability os promises nothing about power cuts: the partition continues after those batches."""
        self._to_last_whole_batch(row)
        text = f"ends at offset {self._offset}, but {row.end_offset} was on disk"
        if durability == "os":
            self._note(f"{text}: the log continues from there (durability os)")
            self._epoch = max(self._epoch, row.epoch)
            return self.run()
        return self._fence(text, self._records, row)

    def _to_last_whole_batch(self, row: CheckpointRow) -> None:
        below = [base for base in self._segments if base <= row.segment]
        self._segment = below[-1] if below else row.segment
        self._position, self._offset, self._epoch = 0, self._segment, 0
        self._start = (self._segment, 0)
        if below:
            while run := batch_scan.valid_run_at(
                self._file(self._segment), self._position, self._offset, self._epoch
            ):
                self._position += len(run.data)
                self._offset, self._epoch = run.next_offset, run.epoch
        self._done_to = self._offset

    def _apply(self, record: JournalRecord) -> str | None:
        """Apply one journal record. Returns what is wrong if the files do not reach to it."""
        if record.kind == LOGSTART:
            return None
        if record.kind == EPOCH:
            if record.epoch <= self._epoch:
                return None
            if self._reach(record, record.epoch - 1):
                self._enter(record)
            elif record.base_offset > self._log_start:
                return f"the journal's epoch {record.epoch} begins at {record.base_offset}"
            elif self._offset < record.base_offset:  # the missing offsets had been deleted
                self._segment, self._position, self._offset = (
                    record.segment, record.position, record.base_offset,
                )  # fmt: skip
            self._epoch = record.epoch
            return None
        assert record.kind == APPEND
        # A record of an epoch that has ended was rolled back: the journal file that annulled its group may
        # have been freed (R8).
        if record.end_offset <= self._done_to or record.epoch < self._epoch:
            return None
        if not self._reach(record, record.epoch):
            if record.end_offset <= self._log_start:  # the missing offsets and the record's had been deleted
                self._segment, self._position = record.segment, record.position + record.length
                self._offset, self._epoch = record.end_offset, max(self._epoch, record.epoch)
                return None
            return f"the journal continues at offset {record.base_offset}"
        if not self._end_is_known and self._is_replaced(record):
            self._epoch = record.epoch + 1
            return None
        self._enter(record)
        data = self._payload(record)
        assert len(data) == record.length, "the journal has all bytes of its record"
        self._write(data)
        self._offset, self._epoch = record.end_offset, max(self._epoch, record.epoch)
        self._result.replayed_bytes += record.length
        if not self._arrivals or record.arrival_ms >= self._arrivals[-1][0] + 1000:
            self._arrivals.append((record.arrival_ms, record.base_offset))
        return None

    def _is_replaced(self, record: JournalRecord) -> bool:
        """Whether a batch of a later epoch is where the record's belong: they were rolled back, and the
        journal file that said so may have been written over, while its own file is there again (R5, R8)."""
        places = ((self._segment, self._position), (self._offset, 0))
        return any(
            self._has(segment)
            and batch_scan.valid_run_at(self._file(segment), position, self._offset, record.epoch + 1)
            for segment, position in places
        )

    def _reach(self, record: JournalRecord, epoch_max: int) -> bool:
        """Scan up to where the record begins; False if the segments do not reach there. Bytes before it that
        the journal does not have were synced directly in a segment (R2)."""
        if self._offset < record.base_offset:
            self._scan(record, epoch_max)
        return self._offset == record.base_offset and (
            (self._segment, self._position) == (record.segment, record.position)
            or (record.position == 0 and record.segment == record.base_offset >= self._segment)
        )

    def _scan(self, target: JournalRecord | None = None, epoch_max: int = (1 << 31) - 1) -> None:
        """Accept the valid batches that follow, across segments, up to the target; write them again (R6)."""
        while target is None or self._offset < target.base_offset:
            run = self._valid_run(self._segment, self._position, epoch_max, target)
            if run is None:
                following = self._offset
                if following <= self._segment or not self._has(following):
                    return
                run = self._valid_run(following, 0, epoch_max, target)
                if run is None:
                    return
                self._leave(following)
                self._segment, self._position = following, 0
            self._write(run.data)
            self._offset, self._epoch = run.next_offset, run.epoch
            self._result.scanned_bytes += len(run.data)

    def _pass_damage(self) -> bool:
        """Continue after bytes that are no valid batch, if a valid one follows; False if none does. Only used
        where neither the newest checkpoint nor the whole journal since the older one can be read: how far the
        log was durable is not known then, so nothing is cut that may have been durable. Readers skip the
        damage."""
        following = None
        for segment in [base for base in self._segments if base >= self._segment]:
            file = self._file(segment)
            if segment == self._segment:
                following = batch_scan.next_valid_batch(file, self._position, self._offset, self._epoch)
            elif segment >= self._offset:
                following = (0, segment)
                if batch_scan.valid_run_at(file, 0, segment, self._epoch) is None:
                    following = batch_scan.next_valid_batch(file, 0, segment, self._epoch)
            if following is not None:
                self._note(
                    f"offsets {self._offset} to {following[1] - 1} are damaged; the batches after them are"
                    " kept, for without the newest checkpoint it is not known how far the log was durable"
                )
                self._segment, (self._position, self._offset) = segment, following
                return True
        return False

    def _valid_run(
        self, segment: int, position: int, epoch_max: int, target: JournalRecord | None
    ) -> batch_scan.BatchRun | None:
        if not self._has(segment):
            return None
        file = self._file(segment)
        limit = target.position if target is not None and target.segment == segment else None
        return batch_scan.valid_run_at(
            file, position, self._offset, self._epoch, end_position=limit, epoch_max=epoch_max
        )

    def _enter(self, record: JournalRecord) -> None:
        """Continue in the record's segment."""
        if record.segment != self._segment:
            self._leave(record.segment)
            self._segment, self._position = record.segment, 0

    def _leave(self, following: int) -> None:
        """End the present segment here, whatever its file's size (R9); the next one is `following`. Segments
        between the two are no part of the log: a backup may hold the record of a group that failed and, in
        another segment, the batches that replaced it."""
        if self._has(self._segment):
            self._truncate(self._segment, self._position)
        first, last = bisect_right(self._segments, self._segment), bisect_left(self._segments, following)
        for segment in self._segments[first:last]:
            self._put_aside(segment)
        if len(self._changed) >= self._disk.max_unsynced_files:
            self._sync_some()

    def _sync_some(self) -> None:
        """Sync what is written so far, to close its files; nothing is served before everything is synced."""
        self._disk.sync_now(list(self._changed.values()))
        for segment, file in self._changed.items():
            file.close()
            self._files.pop(segment, None)
        self._changed.clear()

    def _has(self, segment: int) -> bool:
        place = bisect_left(self._segments, segment)
        return place < len(self._segments) and self._segments[place] == segment

    def _file(self, segment: int) -> File:
        file = self._files.get(segment)
        if file is None:
            path = f"{self._folder}/{paths.segment_name(segment)}"
            if not self._has(segment):
                self._disk.make_folder(self._folder)
                insort(self._segments, segment)
                self._names_changed = True
            file = self._disk.open(path, create=not self._disk.exists(path))
            self._files[segment] = file
        return file

    def _own_file(self, segment: int) -> File:
        """The segment's file, to be changed. It gets an inode of its own first if a backup has a hard link to
        it."""
        file = self._file(segment)
        if segment not in self._changed and self._disk.unshare(file.path):
            file.close()
            self._names_changed = True
        return file

    def _write(self, data: bytes | memoryview) -> None:
        file = self._own_file(self._segment)
        assert self._position <= file.size(), "a write leaves no hole in the segment"
        file.pwrite(data, self._position)
        self._changed[self._segment] = file
        self._position += len(data)
        # The file may have been made by an earlier process that never synced its name.
        self._names_changed = True

    def _truncate(self, segment: int, position: int) -> None:
        """Cut the segment's file at `position`; a `*.quarantine` file keeps the bytes, unless all are
        zero."""
        size = self._file(segment).size()
        if size <= position:
            return
        file = self._own_file(segment)
        keep_as = f"{self._folder}/{paths.segment_name(segment)}.{position}.quarantine"
        copied = position
        while copied < size:
            piece = file.pread(min(_COPY_BYTES, size - copied), copied)
            assert piece, "a file is readable up to its size"
            if piece.strip(b"\0"):
                self._disk.append(keep_as, piece, copied - position)
            copied += len(piece)
        file.truncate(position)
        self._changed[segment] = file
        self._result.truncated_bytes += size - position
        self._note(f"cut {size - position} bytes after the end of segment {segment}")

    def _truncate_after_end(self) -> None:
        if self._has(self._segment):
            self._truncate(self._segment, self._position)
        for segment in self._segments[bisect_right(self._segments, self._segment) :]:
            self._put_aside(segment)

    def _put_aside(self, segment: int) -> None:
        path = f"{self._folder}/{paths.segment_name(segment)}"
        size = self._disk.size(path)
        if size:
            self._disk.rename(path, f"{path}.quarantine")
            self._note(
                f"renamed segment {segment} to *.quarantine: none of its {size} bytes continues the log"
            )
        else:
            self._disk.unlink(path)
        self._result.truncated_bytes += size
        for suffix in (".index", ".timeindex", ".arrivals"):
            self._disk.unlink(path.removesuffix(".log") + suffix)
        self._segments.remove(segment)
        self._names_changed = True

    def _fence(
        self, problem: str, unapplied: Sequence[JournalRecord], row: CheckpointRow | None = None
    ) -> RecoveredPartition:
        """Make the partition read-only. The bytes of the records that could not be applied are kept in a
        `*.quarantine` file, for the journal will be written over."""
        last = next((record for record in reversed(unapplied) if record.kind != LOGSTART), None)
        appends = [record for record in unapplied if record.kind == APPEND]
        if appends:
            path, position = f"{self._folder}/journal-{appends[0].base_offset}.quarantine", 0
            self._disk.make_folder(self._folder)
            for record in appends:
                self._disk.append(path, self._payload(record), position)
                position += record.length
            self._changed[_QUARANTINE_FILE] = self._disk.open(path)
            self._names_changed = True
        self._note(f"read-only: {problem}, but its files end at offset {self._offset}; run `mainstem doctor`")
        present = self._row(self._epoch + 1)
        self._finish(present)
        if row is None and last is not None:
            # What was acknowledged, so that the next start finds the partition too short again.
            end = (last.segment, last.position + last.length, last.end_offset)
            row = CheckpointRow(*self._key, present.epoch, present.log_start, *end)
        self._result.checkpoint_row = row or present
        self._result.state = state_of(present, self._listed(), False, self._start, fence_reason=problem)
        return self._result

    def _row(self, epoch: int) -> CheckpointRow:
        log_start = min(self._log_start, self._offset)
        return CheckpointRow(*self._key, epoch, log_start, self._segment, self._position, self._offset)

    def _listed(self) -> list[int]:
        return [base for base in self._segments if base <= self._segment]

    def _finish(self, row: CheckpointRow) -> None:
        assert 0 <= row.log_start <= row.end_offset, "0 <= log start <= log end"
        assert row.segment <= row.end_offset, "the last segment begins at or before the log end"
        self._result.files = list(self._changed.values())
        self._result.folder = self._folder if self._names_changed else None

    def _note(self, text: str) -> None:
        self._result.notes.append(f"{self._folder}: {text}")
