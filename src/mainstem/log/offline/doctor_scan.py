"""The examination of one partition's folder, without changing it.

Owns: what is read of a partition and how severe a finding is. Damage is what was acknowledged and cannot be
read any more; what the next start restores by itself is not damage. Refuses: to write, to open a record, to
trust a length.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from typing import Literal
from uuid import UUID

from mainstem.log import paths
from mainstem.log.commit.checkpoint import CheckpointRow
from mainstem.log.commit.journal_format import APPEND, JournalRecord
from mainstem.log.offline.inspect import InspectedBatch, InspectedDamage, inspect
from mainstem.log.storage import arrival_index, leader_epochs, producer_snapshot
from mainstem.log.storage.index import OFFSET_ENTRY_BYTES, TIME_ENTRY_BYTES
from mainstem.log.storage.record_batch import BatchHeader

Severity = Literal["damage", "derived", "note"]
_OFFSET_ENTRY = struct.Struct(">II")
_TIME_ENTRY = struct.Struct(">qI")
SIDE_FILE_SUFFIXES = (".index", ".timeindex", ".arrivals")
REBUILT = "the server builds it again when it is needed, or --repair does"
SERVED_AROUND = (
    "reading these offsets fails with CORRUPT_MESSAGE; the batches before and after them are served;"
    " --repair corrects what it can and puts empty batches in place of the rest"
)


@dataclass(frozen=True, slots=True)
class Finding:
    """A finding: one line of `doctor`'s report, about something in the folder that is not as a clean stop
    leaves it."""

    severity: Severity
    """damage: something that was acknowledged cannot be read; derived: only a file is wrong that is built
    again from the log; note: nothing is wrong, but an operator should know it."""
    path: str
    """Path in the data folder; empty for the folder itself."""
    problem: str
    consequence: str
    """What the server will do about it, or what the operator can do."""
    topic_id: UUID | None = None
    partition: int = -1
    first_offset: int = -1
    """First offset concerned; -1: none or not known."""
    last_offset: int = -1


@dataclass(slots=True)
class DurableExtent:
    """How far a partition is known to be durable, from checkpoint and journal."""

    row: CheckpointRow | None = None
    """The row in the newest checkpoint; None: no checkpoint can be read."""
    clean: bool = False
    """True: the last stop was clean, so the segments hold everything."""
    journal: list[JournalRecord] = field(default_factory=list)
    """The partition's records in the journal."""

    @property
    def end_offset(self) -> int:
        """The offset after the last one that was committed; -1: not known."""
        ends = [record.end_offset for record in self.journal if record.kind == APPEND]
        return max([*ends, -1 if self.row is None else self.row.end_offset])

    def severity_of(self, segment: int, position: int, end: int) -> Severity:
        """The severity of damaged bytes. Bytes after the checkpoint are in the journal, or were never
        acknowledged."""
        row = self.row
        if row is None or segment < row.segment or (segment == row.segment and position < row.position):
            return "damage"
        covered = any(
            record.kind == APPEND
            and record.segment == segment
            and record.position < end
            and record.position + record.length > position
            for record in self.journal
        )
        return "derived" if covered else "note"


class PartitionExamination:
    """The examination of one partition. `run` yields the findings; the counts are right afterwards."""

    def __init__(
        self,
        root: str,
        topic_id: UUID,
        index: int,
        promise: DurableExtent,
        read_bytes: Callable[[int], None],
        folder: str | None = None,
    ) -> None:
        """`read_bytes` is called with the number of bytes read since the last call."""
        self.batches = 0
        self.events = 0
        self._root = root
        self._topic = topic_id
        self._index = index
        self.extent = promise
        self.index_entries: dict[int, int] = {}
        """Position -> last relative offset: the entries in the index file of the present segment."""
        self._read_bytes = read_bytes
        self._folder = folder or paths.partition_folder(topic_id, index)
        self._epoch = -1

    def run(self) -> Iterator[Finding]:
        """Read the whole partition. A segment that cannot be read is a finding."""
        names = sorted(os.listdir(f"{self._root}/{self._folder}"))
        bases = [base for name in names if (base := paths.parse_segment(name)) is not None]
        yield from self._unknown_files(names, bases)
        yield from self._beginning(bases)
        row = self.extent.row
        offset = bases[0] if bases else 0 if row is None else row.log_start
        for base, after in zip(bases, [*bases[1:], None], strict=False):
            if base != offset:
                yield self.missing_offsets(offset, base - 1, f"{self._folder}/{paths.segment_name(base)}")
            try:
                offset = yield from self._segment(base, after)
            except OSError as error:
                path = f"{self._folder}/{paths.segment_name(base)}"
                problem = f"cannot be read: {error.strerror}"
                yield self._finding("damage", path, problem, "what the disk can read is served", base)
                offset = after if after is not None else self.extent.end_offset
            offset = after if after is not None and offset > after else offset
        end = self.extent.end_offset
        journaled = self.extent.journal and not self.extent.clean
        if offset < end and not journaled:
            yield self.missing_offsets(offset, end - 1, self._folder)
        yield from self._derived_files(names)

    def _finding(
        self, severity: Severity, path: str, problem: str, consequence: str, first: int = -1, last: int = -1
    ) -> Finding:
        return Finding(severity, path, problem, consequence, self._topic, self._index, first, last)

    def missing_offsets(self, first: int, last: int, path: str) -> Finding:
        """The `Finding` that says that no batch has the offsets from `first` to `last`."""
        problem = "no batch has these offsets"
        consequence = (
            "the partition is read-only from the next start on; restore the file from a backup,"
            " or --repair gives these offsets up"
        )
        return self._finding("damage", path, problem, consequence, first, last)

    def _beginning(self, bases: list[int]) -> Iterator[Finding]:
        row = self.extent.row
        if row is not None and row.end_offset > row.log_start and (not bases or bases[0] > row.log_start):
            last = min(bases[0], row.end_offset) - 1 if bases else row.end_offset - 1
            if bases:
                yield self.missing_offsets(row.log_start, last, self._folder)

    # --- segments -----------------------------------------------------------------------------------------

    def _segment(self, base: int, after: int | None) -> Generator[Finding, None, int]:
        """Yield the findings of one segment, and return the offset after it. `after`: base offset of the next
        segment."""
        path = f"{self._folder}/{paths.segment_name(base)}"
        walk = _SegmentWalk(self, base, after, path)
        size = os.stat(f"{self._root}/{path}").st_size
        row = self.extent.row
        self.index_entries = self._index_entries(base)
        read = 0
        for item in inspect(f"{self._root}/{path}"):
            end = (
                item.position + item.header.total_bytes
                if isinstance(item, InspectedBatch)
                else item.end_position
            )
            self._read_bytes(end - read)
            read = end
            yield from walk.visit(item)
        yield from walk.finish()
        if row is not None and row.segment == base and size < row.position:
            problem = f"is {size:,} bytes long, {row.position:,} were durable"
            yield self._finding(
                "damage",
                path,
                problem,
                "what is left is served; --repair gives these offsets up",
                walk.offset,
                row.end_offset - 1,
            )
            walk.offset = row.end_offset
        if after is not None or self.extent.clean:
            yield from self._index_of(base, walk)
        return walk.offset

    def count_batch(self, header: BatchHeader) -> str | None:
        """Count a valid batch. Returns what is wrong with its place in the log, if anything is."""
        self.batches += 1
        self.events += header.count
        before, epoch = self._epoch, header.leader_epoch
        row = self.extent.row
        if row is not None and self.extent.clean and epoch > row.epoch:
            return f"a batch has the leader epoch {epoch}, which has not begun"
        if epoch < before:
            return f"the leader epoch falls from {before} to {epoch}"
        self._epoch = epoch
        return None

    def damaged_bytes(self, base: int, path: str, start: int, end: int, first: int, last: int) -> Finding:
        """The `Finding` that says that bytes `start` to `end` of the segment file `path` are no valid
        batches, and which offsets are lost with them."""
        severity = self.extent.severity_of(base, start, end)
        if last < first:
            first = last = -1  # which offsets the bytes held is not known
        problem = f"bytes {start:,} to {end:,} are damaged"
        consequence = {
            "damage": SERVED_AROUND,
            "derived": "the journal has them: the next start writes them again",
            "note": "they were written after the last known commit: the next start keeps valid batches and"
            " moves the rest to a file *.quarantine",
        }[severity]
        return self._finding(severity, path, problem, consequence, first, last)

    def misplaced_batch(self, path: str, position: int, problem: str, first: int, last: int) -> Finding:
        """The `Finding` that says that a valid batch does not belong where it is in the segment file."""
        return self._finding("damage", path, f"at byte {position:,} {problem}", SERVED_AROUND, first, last)

    # --- derived files ------------------------------------------------------------------------------------

    def _index_entries(self, base: int) -> dict[int, int]:
        try:
            with open(f"{self._root}/{self._folder}/{base:020}.index", "rb") as file:
                data = file.read()
        except OSError:
            return {}
        whole = data[: len(data) // OFFSET_ENTRY_BYTES * OFFSET_ENTRY_BYTES]
        return {position: last for last, position in _OFFSET_ENTRY.iter_unpack(whole)}

    def _index_of(self, base: int, walk: _SegmentWalk) -> Iterator[Finding]:
        stem = f"{self._folder}/{base:020}"
        for kind, entry_bytes in ((".index", OFFSET_ENTRY_BYTES), (".timeindex", TIME_ENTRY_BYTES)):
            path = f"{self._root}/{stem}{kind}"
            if not os.path.exists(path):
                yield self._finding("derived", stem + kind, "is missing", REBUILT)
            elif os.path.getsize(path) % entry_bytes:
                yield self._finding("derived", stem + kind, "ends within an entry", REBUILT)
        stray = [
            position
            for position, last in self.index_entries.items()
            if walk.indexed_positions.get(position) != last and not walk.is_damaged
        ]
        if stray:
            problem = f"{len(stray):,} entries name no batch of the segment"
            yield self._finding("derived", stem + ".index", problem, REBUILT)
        if self._times_wrong(f"{self._root}/{stem}.timeindex", walk):
            problem = "its entries do not rise, or are later than every event"
            yield self._finding("derived", stem + ".timeindex", problem, REBUILT)

    @staticmethod
    def _times_wrong(path: str, walk: _SegmentWalk) -> bool:
        try:
            with open(path, "rb") as file:
                data = file.read()
        except OSError:
            return False
        last = -1, -1
        for entry in _TIME_ENTRY.iter_unpack(data[: len(data) // TIME_ENTRY_BYTES * TIME_ENTRY_BYTES]):
            if (
                entry[0] <= last[0]
                or entry[1] <= last[1]
                or (entry[0] > walk.max_timestamp and not walk.is_damaged)
            ):
                return True
            last = entry
        return False

    def _derived_files(self, names: list[str]) -> Iterator[Finding]:
        for name in names:
            path = f"{self._folder}/{name}"
            try:
                with open(f"{self._root}/{path}", "rb") as file:
                    problem = _problem_in(name, file.read()) if name.endswith(CHECKED_FILES) else None
            except OSError as error:
                problem = f"cannot be read: {error.strerror}"
            if problem is not None:
                young = (
                    "; its events then count as young as they can be" if name.endswith(".arrivals") else ""
                )
                yield self._finding("derived", path, problem, REBUILT + young)

    def _unknown_files(self, names: list[str], bases: list[int]) -> Iterator[Finding]:
        stems = {f"{base:020}" for base in bases}
        for name in names:
            path = f"{self._folder}/{name}"
            stem, dot, kind = name.partition(".")
            if ".quarantine" in name:
                size = os.path.getsize(f"{self._root}/{path}")
                problem = f"{size:,} bytes that an earlier start cut off after the end of the log"
                yield self._finding("note", path, problem, "delete the file if you do not need it")
            elif dot + kind in SIDE_FILE_SUFFIXES and stem not in stems:
                yield self._finding("note", path, "belongs to no segment", "no server reads it")
            elif not (
                dot + kind in (".log", *SIDE_FILE_SUFFIXES)
                or name in (leader_epochs.NAME, producer_snapshot.NAME)
            ):
                yield self._finding("note", path, "is no file of mainstem", "it is left alone")


CHECKED_FILES = (".arrivals", leader_epochs.NAME, producer_snapshot.NAME)


def _problem_in(name: str, data: bytes) -> str | None:
    """What is wrong with a derived file; None: nothing."""
    if name == leader_epochs.NAME:
        return None if leader_epochs.LeaderEpochs.parse(data) is not None else "is damaged"
    if name == producer_snapshot.NAME:
        return None if producer_snapshot.decode(data) is not None else "is damaged"
    pairs = len(data) // arrival_index.PAIR.size
    valid = len(arrival_index.ArrivalIndex.parse(data).times)
    return None if valid == pairs else f"{pairs - valid:,} of {pairs:,} pairs are damaged"


class _SegmentWalk:
    """The offsets along one segment: which follow each other, and which are missing."""

    def __init__(self, examination: PartitionExamination, base: int, after: int | None, path: str) -> None:
        self.offset = base
        """The offset with which the next batch should begin."""
        self.indexed_positions: dict[int, int] = {}
        """Position -> last relative offset of the batches that the index has entries for."""
        self.max_timestamp = -1
        self.is_damaged = False
        """True: the segment is damaged somewhere, so that its index cannot be judged."""
        self._exam = examination
        self._base = base
        self._after = after
        self._path = path
        self._damage: tuple[int, int] | None = None
        self._suspect: tuple[int, BatchHeader] | None = None

    def visit(self, item: InspectedBatch | InspectedDamage) -> Iterator[Finding]:
        """Judge the next batch or damage in the file."""
        if isinstance(item, InspectedDamage):
            yield from self._add_damage(item.position, item.end_position)
            return
        header = item.header
        if not item.crc_ok:
            yield from self._add_damage(item.position, item.position + header.total_bytes)
            return
        yield from self._settle(header.base_offset)
        yield from self._batch(item.position, header)

    def _add_damage(self, start: int, end: int) -> Iterator[Finding]:
        yield from self._settle(None)
        self.is_damaged = True
        self._damage = (start if self._damage is None else self._damage[0]), end

    def _batch(self, position: int, header: BatchHeader) -> Iterator[Finding]:
        if header.base_offset != self.offset:
            self._suspect = position, header  # the batch after it shows whether an offset is wrong or missing
            return
        yield from self._good(position, header)

    def _good(self, position: int, header: BatchHeader) -> Iterator[Finding]:
        problem = self._exam.count_batch(header)
        if problem is not None:
            yield self._exam.misplaced_batch(
                self._path, position, problem, header.base_offset, header.last_offset
            )
        self.offset = header.next_offset
        self.max_timestamp = max(self.max_timestamp, header.max_timestamp)
        if position in self._exam.index_entries:
            self.indexed_positions[position] = header.last_offset - self._base

    def _settle(self, base_offset: int | None) -> Iterator[Finding]:
        """Judge what was in doubt by the base offset of the batch after it (None: not known)."""
        if self._suspect is not None:
            position, header = self._suspect
            self._suspect = None
            next_offset = self.offset + header.last_offset_delta + 1
            if base_offset == next_offset:
                self.is_damaged = True
                problem = f"a batch says it begins with offset {header.base_offset:,}, not {self.offset:,}"
                yield self._exam.misplaced_batch(self._path, position, problem, self.offset, next_offset - 1)
                self.offset = next_offset
            else:
                if header.base_offset > self.offset:
                    yield self._exam.missing_offsets(self.offset, header.base_offset - 1, self._path)
                else:
                    problem = f"offsets go back to {header.base_offset:,}"
                    last = header.last_offset
                    yield self._exam.misplaced_batch(self._path, position, problem, header.base_offset, last)
                yield from self._good(position, header)
        if self._damage is not None and base_offset is not None:
            start, end = self._damage
            self._damage = None
            last = max(base_offset, self.offset) - 1
            yield self._exam.damaged_bytes(self._base, self._path, start, end, self.offset, last)
            self.offset = max(base_offset, self.offset)

    def finish(self) -> Iterator[Finding]:
        """Judge what is still in doubt at the end of the file."""
        promised = self._exam.extent.end_offset
        end = self._after if self._after is not None else max(promised, self.offset)
        if self._damage is not None:
            yield from self._settle(end)
        else:
            yield from self._settle(end if self._after is not None else None)
