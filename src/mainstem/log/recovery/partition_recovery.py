"""Bringing one partition back after whatever happened.

Owns: `recover_partition`: from the checkpoint's row, the journal's records and the segment files to a
`RecoveredState` all of which is durable. Refuses: to read the journal (`journal_reader.py`), to choose
partitions (`log.py`), and to delete bytes by guess: what it cuts lies beyond the durable end and is kept in a
`*.quarantine` file.

Rule numbers are those of FORMAT.md. Everything here blocks, changes nothing that a second run would not
change in the same way, and so may be cut off anywhere (R6, and "Recover" there).
"""

from __future__ import annotations

import logging
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from mainstem.log import paths
from mainstem.log.commit.checkpoint import CheckpointRow
from mainstem.log.commit.journal_format import APPEND, EPOCH, LOGSTART, JournalRecord
from mainstem.log.config import Durability
from mainstem.log.disk.contract import Disk, File
from mainstem.log.partition import batch_scan
from mainstem.log.partition.recovered_state import RecoveredState

_PIECE = 1 << 20

log = logging.getLogger(__name__)


@dataclass(slots=True)
class RecoveredPartition:
    """What came out. Nothing is durable before `files` and `folders` are synced."""

    state: RecoveredState
    checkpoint_row: CheckpointRow
    """For the next checkpoint. Of a fenced partition: the old one, so that it is found too short again."""
    files: list[File] = field(default_factory=list)
    folder: str | None = None
    """To be synced, if names in it changed."""
    notes: list[str] = field(default_factory=list)
    replayed_bytes: int = 0
    scanned_bytes: int = 0
    truncated_bytes: int = 0


def recover_partition(
    disk: Disk,
    topic_id: UUID,
    index: int,
    row: CheckpointRow | None,
    records: Sequence[JournalRecord],
    payload: Callable[[JournalRecord], bytes],
    *,
    clean: bool,
    complete: bool,
    end_is_known: bool,
    durability: Durability,
) -> RecoveredPartition:
    """Bring one partition back. `row` is None if it was made after the checkpoint, so that it begins at 0, or
    if that is not known (not `complete`); `records` are its journal records in order, all since the row if
    `end_is_known`; `clean` says that the last stop was. OSError: the disk fails; nothing was promised yet."""
    folder = paths.partition_folder(topic_id, index)
    segments = _segments(disk, folder)
    if row is not None and not records and _is_as_checkpointed(disk, folder, row, segments):
        row = _next_epoch(row, row.epoch if clean else row.epoch + 1)
        recovered = RecoveredPartition(_state(row, segments, clean, row), row)
    else:
        replay = _Replay(disk, folder, segments, row, records, complete, end_is_known)
        if row is not None and replay.is_short(row):
            recovered = replay.shorter_than_acknowledged(row, topic_id, index, payload, durability)
        else:
            recovered = replay.run(topic_id, index, payload)
    state = recovered.state
    if state.segments and state.log_start < state.segments[0]:
        recovered.notes.append(
            f"{folder}: offsets {state.log_start} to {state.segments[0] - 1} are missing: no segment has them"
        )
    return recovered


def _segments(disk: Disk, folder: str) -> list[int]:
    found = (paths.parse_segment(name) for name in disk.list(folder))
    return [base for base in found if base is not None]


def _is_as_checkpointed(disk: Disk, folder: str, row: CheckpointRow, segments: list[int]) -> bool:
    if not segments:
        return row.position == 0 and row.end_offset == row.segment
    path = f"{folder}/{paths.segment_name(row.segment)}"
    return segments[-1] == row.segment and disk.size(path) == row.position


def _next_epoch(row: CheckpointRow, epoch: int) -> CheckpointRow:
    return CheckpointRow(
        row.topic_id, row.index, epoch, row.log_start, row.segment, row.position, row.end_offset
    )


def _state(
    row: CheckpointRow,
    segments: Sequence[int],
    clean: bool,
    start: CheckpointRow,
    *,
    arrivals: Sequence[tuple[int, int]] = (),
    fence_reason: str | None = None,
) -> RecoveredState:
    return RecoveredState(
        segments=tuple(base for base in segments if base <= row.segment),
        epoch=row.epoch,
        log_start=row.log_start,
        end_offset=row.end_offset,
        end_position=row.position,
        clean=clean,
        replayed_segment=start.segment,
        replayed_position=start.position,
        arrivals=tuple(arrivals),
        fence_reason=fence_reason,
    )


def _in_force(records: Sequence[JournalRecord]) -> list[JournalRecord]:
    """Without what a later epoch made void: its group became durable, but its partition had been fenced
    meanwhile, so that it was never acknowledged. What took its place may be in the segment alone (direct
    lane): it must not be written over, not even to be taken back after that (R8)."""
    kept: list[JournalRecord] = []
    for record in records:
        if record.kind == EPOCH:
            kept = [
                one
                for one in kept
                if one.kind != APPEND or one.epoch >= record.epoch or one.end_offset <= record.base_offset
            ]
        kept.append(record)
    return kept


class _Replay:
    """One partition under way: its end so far, and what was written."""

    def __init__(
        self,
        disk: Disk,
        folder: str,
        segments: list[int],
        row: CheckpointRow | None,
        records: Sequence[JournalRecord],
        complete: bool,
        end_is_known: bool,
    ) -> None:
        self._disk = disk
        self._folder = folder
        self._segments = segments
        self._records = _in_force(records)
        self._end_is_known = end_is_known
        self._files: dict[int, File] = {}
        self._changed: dict[int, File] = {}
        self._names_changed = False
        self._out = RecoveredPartition(RecoveredState(), CheckpointRow(UUID(int=0), 0, 0, 0, 0, 0, 0))
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
            self._segment, self._position = (
                row.end_offset,
                0,
            )  # all of that segment was deleted, and then its file
        self._start = (self._segment, self._position)

    def is_short(self, row: CheckpointRow) -> bool:
        """Less is there than the checkpoint promises."""
        if row.segment not in self._segments:
            return row.position > 0 and row.end_offset > self._log_start
        return self._file(row.segment).size() < row.position

    def run(
        self, topic_id: UUID, index: int, payload: Callable[[JournalRecord], bytes]
    ) -> RecoveredPartition:
        """From the known end on: the journal, then what else fits; cut the rest."""
        for at, record in enumerate(self._records):
            problem = self._apply(record, payload)
            if problem:
                return self._fence(problem, topic_id, index, self._records[at:], payload)
        before = self._out.scanned_bytes
        self._scan()
        while not self._end_is_known and self._pass_damage():
            self._scan()
        if self._out.scanned_bytes > before:
            # After a sudden death that is so for each partition that was written to; the summary has the sum.
            kept = self._out.scanned_bytes - before
            log.debug("%s: kept %d bytes found after the end that was recorded", self._folder, kept)
        if self._offset < self._log_start:  # what is missing had been deleted
            self._leave(self._segment)
            self._segment, self._position, self._offset = self._log_start, 0, self._log_start
        self._cut_after_end()
        if self._segments and self._segments[-1] != self._segment:
            self._file(self._segment)  # rolled, but nothing committed in it yet
        row = self._row(topic_id, index, self._epoch + 1)
        self._finish(row)
        state = _state(row, self._listed(), False, self._start_row(row), arrivals=self._arrivals)
        self._out.state, self._out.checkpoint_row = state, row
        return self._out

    def shorter_than_acknowledged(
        self,
        row: CheckpointRow,
        topic_id: UUID,
        index: int,
        payload: Callable[[JournalRecord], bytes],
        durability: Durability,
    ) -> RecoveredPartition:
        """Durability disk: read-only with what is there, and nothing is filled in. Durability os, which
        promises nothing of a power cut: go on after what is there."""
        self._to_last_whole_batch(row)
        text = f"ends at offset {self._offset} of {row.end_offset} that were on disk"
        if durability == "os":
            self._note(f"{text}: cut to what is there (durability os)")
            self._epoch = max(self._epoch, row.epoch)
            return self.run(topic_id, index, payload)
        return self._fence(text, topic_id, index, self._records, payload, row)

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

    def _apply(self, record: JournalRecord, payload: Callable[[JournalRecord], bytes]) -> str | None:
        """One journal record; a text if it does not fit what is there."""
        if record.kind == LOGSTART:
            return None
        if record.kind == EPOCH:
            if record.epoch <= self._epoch:
                return None
            if self._reach(record, record.epoch - 1):
                self._enter(record)
            elif record.base_offset > self._log_start:
                return f"the journal's epoch {record.epoch} begins at {record.base_offset}"
            elif self._offset < record.base_offset:  # what is missing had been deleted
                self._segment, self._position, self._offset = (
                    record.segment, record.position, record.base_offset,
                )  # fmt: skip
            self._epoch = record.epoch
            return None
        assert record.kind == APPEND
        # Of an epoch that has ended: rolled back, and the file that annulled its group may be free again
        # (R8).
        if record.end_offset <= self._done_to or record.epoch < self._epoch:
            return None
        if not self._reach(record, record.epoch):
            if record.end_offset <= self._log_start:  # what is missing had been deleted, and so had this
                self._segment, self._position = record.segment, record.position + record.length
                self._offset, self._epoch = record.end_offset, max(self._epoch, record.epoch)
                return None
            return f"the journal goes on at offset {record.base_offset}"
        self._enter(record)
        self._write(payload(record))
        self._offset, self._epoch = record.end_offset, max(self._epoch, record.epoch)
        self._out.replayed_bytes += record.length
        if not self._arrivals or record.arrival_ms >= self._arrivals[-1][0] + 1000:
            self._arrivals.append((record.arrival_ms, record.base_offset))
        return None

    def _reach(self, record: JournalRecord, epoch_max: int) -> bool:
        """Move the end to where the record begins: synced past the journal, those bytes are in the segment
        (R2)."""
        if self._offset < record.base_offset:
            self._scan(record, epoch_max)
        return self._offset == record.base_offset and (
            (self._segment, self._position) == (record.segment, record.position)
            or (record.position == 0 and record.segment == record.base_offset >= self._segment)
        )

    def _scan(self, target: JournalRecord | None = None, epoch_max: int = (1 << 31) - 1) -> None:
        """Take the batches that fit, across segments, up to the target; write them again (R6)."""
        while target is None or self._offset < target.base_offset:
            run = self._take(self._segment, self._position, epoch_max, target)
            if run is None:
                following = self._offset
                if following <= self._segment or not self._has(following):
                    return
                run = self._take(following, 0, epoch_max, target)
                if run is None:
                    return
                self._leave(following)
                self._segment, self._position = following, 0
            self._write(run.data)
            self._offset, self._epoch = run.next_offset, run.epoch
            self._out.scanned_bytes += len(run.data)

    def _pass_damage(self) -> bool:
        """Go on behind what is no batch, if whole ones lie there. Only where the newest checkpoint cannot be
        read, nor all of the journal since the one before: how far the log was durable is not known then, so
        nothing that may have been is cut. Readers pass the damage."""
        found = None
        for segment in [base for base in self._segments if base >= self._segment]:
            file = self._file(segment)
            if segment == self._segment:
                found = batch_scan.next_valid_batch(file, self._position, self._offset, self._epoch)
            elif segment >= self._offset:
                is_whole = batch_scan.valid_run_at(file, 0, segment, self._epoch) is not None
                found = (
                    (0, segment) if is_whole else batch_scan.next_valid_batch(file, 0, segment, self._epoch)
                )
            if found is not None:
                self._note(
                    f"offsets {self._offset} to {found[1] - 1} are damaged; what is behind them is kept, for"
                    " without the newest checkpoint nobody knows how far it was durable"
                )
                self._segment, (self._position, self._offset) = segment, found
                return True
        return False

    def _take(
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
        """Go on in the record's segment."""
        if record.segment != self._segment:
            self._leave(record.segment)
            self._segment, self._position = record.segment, 0

    def _leave(self, following: int) -> None:
        """The segment ends here, whatever its file's size (R9), and what is between it and the following one
        is no part of the log: a backup may have the record of a group that failed and, in another segment,
        what came in its place."""
        if self._has(self._segment):
            self._cut(self._segment, self._position)
        first, last = bisect_right(self._segments, self._segment), bisect_left(self._segments, following)
        for segment in self._segments[first:last]:
            self._put_aside(segment)
        if len(self._changed) >= self._disk.max_unsynced_files:
            self._sync_some()

    def _sync_some(self) -> None:
        """Nothing is served before all is synced: what is written so far may be at any time."""
        self._disk.sync_now(list(self._changed.values()))
        for segment, file in self._changed.items():
            file.close()
            self._files.pop(segment, None)
        self._changed.clear()

    def _has(self, segment: int) -> bool:
        at = bisect_left(self._segments, segment)
        return at < len(self._segments) and self._segments[at] == segment

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
        """To be changed: not together with the copy that a backup holds of it by a hard link."""
        file = self._file(segment)
        if segment not in self._changed and self._disk.unshare(file.path):
            file.close()
            self._names_changed = True
        return file

    def _write(self, data: bytes | memoryview) -> None:
        file = self._own_file(self._segment)
        file.pwrite(data, self._position)
        self._changed[self._segment] = file
        self._position += len(data)
        # A name that an earlier process made may never have been synced either.
        self._names_changed = True

    def _cut(self, segment: int, position: int) -> None:
        size = self._file(segment).size()
        if size <= position:
            return
        file = self._own_file(segment)
        keep_as = f"{self._folder}/{paths.segment_name(segment)}.{position}.quarantine"
        at = position
        while at < size:
            piece = file.pread(min(_PIECE, size - at), at)
            if piece.strip(b"\0"):
                self._disk.append(keep_as, piece, at - position)
            at += len(piece)
        file.truncate(position)
        self._changed[segment] = file
        self._out.truncated_bytes += size - position
        self._note(f"cut {size - position} bytes after the end of segment {segment}")

    def _cut_after_end(self) -> None:
        if self._has(self._segment):
            self._cut(self._segment, self._position)
        for segment in self._segments[bisect_right(self._segments, self._segment) :]:
            self._put_aside(segment)

    def _put_aside(self, segment: int) -> None:
        path = f"{self._folder}/{paths.segment_name(segment)}"
        size = self._disk.size(path)
        if size:
            self._disk.rename(path, f"{path}.quarantine")
            self._note(f"put segment {segment} aside: nothing of its {size} bytes follows the end")
        else:
            self._disk.unlink(path)
        self._out.truncated_bytes += size
        for suffix in (".index", ".timeindex", ".arrivals"):
            self._disk.unlink(path.removesuffix(".log") + suffix)
        self._segments.remove(segment)
        self._names_changed = True

    def _fence(
        self,
        problem: str,
        topic_id: UUID,
        index: int,
        left: Sequence[JournalRecord],
        payload: Callable[[JournalRecord], bytes],
        row: CheckpointRow | None = None,
    ) -> RecoveredPartition:
        """Read-only, and what the journal has of it is kept beside it: the journal itself will be written
        over."""
        last = next((record for record in reversed(left) if record.kind != LOGSTART), None)
        left = [record for record in left if record.kind == APPEND]
        if left:
            path, position = f"{self._folder}/journal-{left[0].base_offset}.quarantine", 0
            self._disk.make_folder(self._folder)
            for record in left:
                self._disk.append(path, payload(record), position)
                position += record.length
            self._changed[-1] = self._disk.open(path)
            self._names_changed = True
        self._note(f"read-only: {problem}, but its files end at offset {self._offset}")
        now = self._row(topic_id, index, self._epoch + 1)
        self._finish(now)
        if row is None and last is not None:  # what was acknowledged: the next start finds it too short again
            end = (last.segment, last.position + last.length, last.end_offset)
            row = CheckpointRow(topic_id, index, now.epoch, now.log_start, *end)
        self._out.checkpoint_row = row or now
        self._out.state = _state(now, self._listed(), False, self._start_row(now), fence_reason=problem)
        return self._out

    def _row(self, topic_id: UUID, index: int, epoch: int) -> CheckpointRow:
        log_start = min(self._log_start, self._offset)
        return CheckpointRow(topic_id, index, epoch, log_start, self._segment, self._position, self._offset)

    def _start_row(self, row: CheckpointRow) -> CheckpointRow:
        segment, position = self._start
        return CheckpointRow(row.topic_id, row.index, row.epoch, row.log_start, segment, position, 0)

    def _listed(self) -> list[int]:
        return [base for base in self._segments if base <= self._segment]

    def _finish(self, row: CheckpointRow) -> None:
        assert 0 <= row.log_start <= row.end_offset
        assert row.segment <= row.end_offset
        self._out.files = list(self._changed.values())
        self._out.folder = self._folder if self._names_changed else None

    def _note(self, text: str) -> None:
        self._out.notes.append(f"{self._folder}: {text}")
