"""Examining one partition's folder, without changing it.

Owns: what is read of a partition and how it is judged: damage is what was promised and cannot be read any
more; what the next start brings back by itself is none. Refuses: to write, to open a record, to trust a
length. Called by `doctor.py` alone.
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
REBUILT = "the server builds it again by itself, or --repair does"
SERVED_AROUND = (
    "these offsets answer CORRUPT_MESSAGE, and what is before and behind them is served;"
    " --repair sets right what can be, gives up the others, and closes the gap"
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as a clean stop leaves it."""

    severity: Severity
    """damage: something that was promised cannot be read; derived: only a file that is built again from the
    log; note: nothing is wrong, but it should be known."""
    path: str
    """In the data folder."""
    problem: str
    consequence: str
    """What follows from it."""
    topic_id: UUID | None = None
    partition: int = -1
    first_offset: int = -1
    """First offset concerned; -1: none."""
    last_offset: int = -1


@dataclass(slots=True)
class DurableExtent:
    """What is known of a partition from checkpoint and journal."""

    row: CheckpointRow | None = None
    clean: bool = False
    """The last stop was: all is in the segments."""
    journal: list[JournalRecord] = field(default_factory=list)

    @property
    def end_offset(self) -> int:
        """One past the last offset that is promised; -1: nobody knows."""
        ends = [record.end_offset for record in self.journal if record.kind == APPEND]
        return max([*ends, -1 if self.row is None else self.row.end_offset])

    def severity_of(self, segment: int, position: int, end: int) -> Severity:
        """Of damaged bytes. Those after the checkpoint the journal has, or nobody was promised them."""
        row = self.row
        if row is None or segment < row.segment or (segment == row.segment and position < row.position):
            return "damage"
        held = any(
            record.kind == APPEND
            and record.segment == segment
            and record.position < end
            and record.position + record.length > position
            for record in self.journal
        )
        return "derived" if held else "note"


class PartitionExamination:
    """One partition. `run` yields what it finds; the counts are right afterwards."""

    def __init__(
        self,
        root: str,
        topic_id: UUID,
        index: int,
        promise: DurableExtent,
        read_bytes: Callable[[int], None],
        folder: str | None = None,
    ) -> None:
        """`read_bytes` is called with the bytes read since the last call."""
        self.batches = 0
        self.events = 0
        self._root = root
        self._topic = topic_id
        self._index = index
        self.extent = promise
        self.index_entries: dict[int, int] = {}
        """Position -> last relative offset, as the index of the present segment says."""
        self._read_bytes = read_bytes
        self._folder = folder or paths.partition_folder(topic_id, index)
        self._epoch = -1

    def run(self) -> Iterator[Finding]:
        """Read all of it. OSError for a file that cannot be read is a finding too."""
        names = sorted(os.listdir(f"{self._root}/{self._folder}"))
        bases = [base for name in names if (base := paths.parse_segment(name)) is not None]
        yield from self._strangers(names, bases)
        yield from self._beginning(bases)
        offset = bases[0] if bases else 0
        for base, after in zip(bases, [*bases[1:], None], strict=True):
            if base != offset:
                yield self.missing_offsets(offset, base - 1, f"{self._folder}/{paths.segment_name(base)}")
            try:
                offset = yield from self._segment(base, after)
            except OSError as error:
                path = f"{self._folder}/{paths.segment_name(base)}"
                told = f"cannot be read: {error.strerror}"
                yield self._finding("damage", path, told, "what the disk gives is served", base)
                offset = after if after is not None else self.extent.end_offset
            offset = after if after is not None and offset > after else offset
        end = self.extent.end_offset
        covered = self.extent.journal and not self.extent.clean
        if offset < end and not covered:
            yield self.missing_offsets(offset, end - 1, self._folder)
        yield from self._derived_files(names)

    def _finding(
        self, verdict: Severity, path: str, what: str, then: str, first: int = -1, last: int = -1
    ) -> Finding:
        return Finding(verdict, path, what, then, self._topic, self._index, first, last)

    def missing_offsets(self, first: int, last: int, path: str) -> Finding:
        """The finding of offsets that no file has."""
        what = "offsets are missing that were promised"
        then = (
            "the partition is read-only from the next start on; restore the file from a backup,"
            " or --repair gives these offsets up"
        )
        return self._finding("damage", path, what, then, first, last)

    def _beginning(self, bases: list[int]) -> Iterator[Finding]:
        row = self.extent.row
        if row is not None and row.end_offset > row.log_start and (not bases or bases[0] > row.log_start):
            last = min(bases[0], row.end_offset) - 1 if bases else row.end_offset - 1
            if bases:
                yield self.missing_offsets(row.log_start, last, self._folder)

    # Segments.

    def _segment(self, base: int, after: int | None) -> Generator[Finding, None, int]:
        """Findings of one segment; returns the offset after it."""
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
            what = f"is {size:,} bytes long, {row.position:,} were promised"
            yield self._finding(
                "damage",
                path,
                what,
                "what is left is served; --repair gives these offsets up",
                walk.offset,
                row.end_offset - 1,
            )
            walk.offset = row.end_offset
        if after is not None or self.extent.clean:
            yield from self._index_of(base, walk)
        return walk.offset

    def count_batch(self, header: BatchHeader) -> str | None:
        """Count a whole batch; what is wrong with its place in the log, if anything."""
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
        """The finding of damaged bytes, by what was promised of them."""
        verdict = self.extent.severity_of(base, start, end)
        if last < first:
            first = last = -1  # what it held is not known
        what = f"bytes {start:,} to {end:,} are damaged"
        then = {
            "damage": SERVED_AROUND,
            "derived": "the journal has them: the next start writes them again",
            "note": "they came after the last commit that is known: the next start keeps whole batches and"
            " moves the rest to a file *.quarantine",
        }[verdict]
        return self._finding(verdict, path, what, then, first, last)

    def misplaced_batch(self, path: str, position: int, what: str, first: int, last: int) -> Finding:
        """The finding of a batch that is whole but cannot stand where it does."""
        return self._finding("damage", path, f"at byte {position:,} {what}", SERVED_AROUND, first, last)

    # What is derived.

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
        wrong = [
            at
            for at, last in self.index_entries.items()
            if walk.indexed_positions.get(at) != last and not walk.is_damaged
        ]
        if wrong:
            what = f"{len(wrong):,} entries name no batch of the segment"
            yield self._finding("derived", stem + ".index", what, REBUILT)
        if self._times_wrong(f"{self._root}/{stem}.timeindex", walk):
            what = "its entries do not rise, or are later than any event"
            yield self._finding("derived", stem + ".timeindex", what, REBUILT)

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
                    wrong = _problem_in(name, file.read()) if name.endswith(CHECKED_FILES) else None
            except OSError as error:
                wrong = f"cannot be read: {error.strerror}"
            if wrong is not None:
                young = (
                    "; its events then count as young as they can be" if name.endswith(".arrivals") else ""
                )
                yield self._finding("derived", path, wrong, REBUILT + young)

    def _strangers(self, names: list[str], bases: list[int]) -> Iterator[Finding]:
        stems = {f"{base:020}" for base in bases}
        for name in names:
            path = f"{self._folder}/{name}"
            stem, dot, kind = name.partition(".")
            if ".quarantine" in name:
                size = os.path.getsize(f"{self._root}/{path}")
                what = f"{size:,} bytes that an earlier start found behind the log's end"
                yield self._finding(
                    "note", path, what, "they are kept for you; delete the file if you do not need it"
                )
            elif dot + kind in SIDE_FILE_SUFFIXES and stem not in stems:
                yield self._finding("note", path, "belongs to no segment", "it is not read")
            elif not (
                dot + kind in (".log", *SIDE_FILE_SUFFIXES)
                or name in (leader_epochs.NAME, producer_snapshot.NAME)
            ):
                yield self._finding("note", path, "is no file of mainstem", "it is left alone")


CHECKED_FILES = (".arrivals", leader_epochs.NAME, producer_snapshot.NAME)


def _problem_in(name: str, data: bytes) -> str | None:
    """What is wrong with a derived file."""
    if name == leader_epochs.NAME:
        return None if leader_epochs.LeaderEpochs.parse(data) is not None else "is damaged"
    if name == producer_snapshot.NAME:
        return None if producer_snapshot.decode(data) is not None else "is damaged"
    pairs = len(data) // arrival_index.PAIR.size
    held = len(arrival_index.ArrivalIndex.parse(data).times)
    return None if held == pairs else f"{pairs - held:,} of {pairs:,} pairs are damaged"


class _SegmentWalk:
    """Offsets along one segment: which ones follow, which ones are missing."""

    def __init__(self, exam: PartitionExamination, base: int, after: int | None, path: str) -> None:
        self.offset = base
        """The next one that is due."""
        self.indexed_positions: dict[int, int] = {}
        """Position -> last relative offset, of the batches that the index names."""
        self.max_timestamp = -1
        self.is_damaged = False
        """Something was damaged: what the index says of it cannot be judged."""
        self._exam = exam
        self._base = base
        self._after = after
        self._path = path
        self._damage: tuple[int, int] | None = None
        self._suspect: tuple[int, BatchHeader] | None = None

    def visit(self, item: InspectedBatch | InspectedDamage) -> Iterator[Finding]:
        """The next thing in the file."""
        if isinstance(item, InspectedDamage):
            yield from self._hurt(item.position, item.end_position)
            return
        header = item.header
        if not item.crc_ok:
            yield from self._hurt(item.position, item.position + header.total_bytes)
            return
        yield from self._settle(header.base_offset)
        yield from self._batch(item.position, header)

    def _hurt(self, start: int, end: int) -> Iterator[Finding]:
        yield from self._settle(None)
        self.is_damaged = True
        self._damage = (start if self._damage is None else self._damage[0]), end

    def _batch(self, position: int, header: BatchHeader) -> Iterator[Finding]:
        if header.base_offset != self.offset:
            self._suspect = position, header  # the next one says which of the two is wrong
            return
        yield from self._good(position, header)

    def _good(self, position: int, header: BatchHeader) -> Iterator[Finding]:
        wrong = self._exam.count_batch(header)
        if wrong is not None:
            yield self._exam.misplaced_batch(
                self._path, position, wrong, header.base_offset, header.last_offset
            )
        self.offset = header.next_offset
        self.max_timestamp = max(self.max_timestamp, header.max_timestamp)
        if position in self._exam.index_entries:
            self.indexed_positions[position] = header.last_offset - self._base

    def _settle(self, base_offset: int | None) -> Iterator[Finding]:
        """What was in doubt is decided by the base offset of the batch after it (None: unknown)."""
        if self._suspect is not None:
            position, header = self._suspect
            self._suspect = None
            due = self.offset + header.last_offset_delta + 1
            if base_offset == due:
                self.is_damaged = True
                what = f"a batch says it begins with offset {header.base_offset:,}, not {self.offset:,}"
                yield self._exam.misplaced_batch(self._path, position, what, self.offset, due - 1)
                self.offset = due
            else:
                if header.base_offset > self.offset:
                    yield self._exam.missing_offsets(self.offset, header.base_offset - 1, self._path)
                else:
                    what = f"offsets go back to {header.base_offset:,}"
                    last = header.last_offset
                    yield self._exam.misplaced_batch(self._path, position, what, header.base_offset, last)
                yield from self._good(position, header)
        if self._damage is not None and base_offset is not None:
            start, end = self._damage
            self._damage = None
            last = max(base_offset, self.offset) - 1
            yield self._exam.damaged_bytes(self._base, self._path, start, end, self.offset, last)
            self.offset = max(base_offset, self.offset)

    def finish(self) -> Iterator[Finding]:
        """The file is at its end."""
        promised = self._exam.extent.end_offset
        end = self._after if self._after is not None else max(promised, self.offset)
        if self._damage is not None:
            yield from self._settle(end)
        else:
            yield from self._settle(end if self._after is not None else None)
