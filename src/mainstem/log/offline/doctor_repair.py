"""The repair of a data folder that no server uses, after `doctor` has examined it.

Owns: making a checkpoint where none can be read, replacing lost offsets in partitions, building derived files
again. Refuses: a folder in use; to remove a byte that no `*.quarantine` file keeps; to invent an event: lost
offsets stay lost, and no event gets one of them.

Lost offsets are replaced as every removed range is (FORMAT.md, part "Removed ranges"): a batch without
records spans them. Clients skip it, so the log is whole again: readers continue after the lost offsets by
themselves, and a partition that was read-only for them accepts events.

The order allows a repair that was interrupted anywhere to be done again. First the journal is settled, as by
a start and a clean stop. Then a checkpoint is stored whose rows promise more than any file holds for all
partitions that will change, so that a start in between leaves them read-only. Then the segments are written
beside the old ones and renamed over them. Last, the right checkpoint is stored.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

from mainstem.clock import LoopClock
from mainstem.log import paths
from mainstem.log.commit import checkpoint as checkpoints
from mainstem.log.commit.checkpoint import Checkpoint, CheckpointRow
from mainstem.log.config import LogConfig, PartitionConfig
from mainstem.log.disk.contract import Disk
from mainstem.log.disk.real_disk import RealDisk
from mainstem.log.log import Log
from mainstem.log.offline.doctor import FolderExamination, Key
from mainstem.log.offline.doctor_scan import Finding
from mainstem.log.offline.inspect import InspectedBatch, inspect
from mainstem.log.storage import leader_epochs, producer_snapshot, record_batch
from mainstem.log.storage.arrival_index import ArrivalIndex
from mainstem.log.storage.index import SegmentIndex
from mainstem.log.storage.record_batch import BatchHeader

_COPY_BYTES = 1 << 20
_BEYOND_ANY_FILE = 1 << 62


@dataclass(frozen=True, slots=True)
class KeptBatch:
    """A valid batch of the segment. Its offset and its leader epoch are corrected if they are wrong: only
    they are not covered by its CRC."""

    position: int
    size: int
    header: BatchHeader
    base_offset: int
    epoch: int

    @property
    def is_changed(self) -> bool:
        return (self.header.base_offset, self.header.leader_epoch) != (self.base_offset, self.epoch)


@dataclass(frozen=True, slots=True)
class LostRange:
    """A range of offsets that no valid batch has."""

    first_offset: int
    last_offset: int
    epoch: int


@dataclass(slots=True)
class SegmentPlan:
    """The content of one segment after the repair."""

    base: int
    parts: list[KeptBatch | LostRange] = field(default_factory=list)
    removed: list[tuple[int, int]] = field(default_factory=list)
    """(start, end) of bytes that are in no part: the repair moves them to a `*.quarantine` file."""

    @property
    def is_changed(self) -> bool:
        return bool(self.removed) or any(
            isinstance(part, LostRange) or part.is_changed for part in self.parts
        )

    def lost_ranges(self) -> Iterator[LostRange]:
        return (part for part in self.parts if isinstance(part, LostRange))


class FolderRepair:
    """One repair of a data folder. `run` yields what it did, as findings of what was wrong."""

    def __init__(
        self,
        root: str,
        rng: random.Random,
        may_give_up: Callable[[Key, LostRange], bool] = lambda key, gap: True,
        needless_files: Sequence[str] = (),
    ) -> None:
        """`may_give_up` returns whether the partition can do without these offsets; if not, it is left as it
        is. `needless_files`: damaged files of the coordinator that it does not need."""
        self._root = os.path.abspath(root)
        self._rng = rng
        self._needless_files = needless_files
        self._may_give_up = may_give_up

    def run(self) -> Iterator[Finding]:
        """Repair the folder, and yield what was done. LogFolderError, LogFolderLocked: as
        `FolderExamination`; OSError."""
        with FolderExamination(self._root) as examination:
            checkpoint, clean, keys = examination.checkpoint, examination.clean, examination.partition_keys()
            damaged = checkpoints.damaged_files(cast(Disk, examination.disk))
        if checkpoint is None or damaged:
            self._rebuild_checkpoint(checkpoint or Checkpoint(0, 1, 1, clean=False, rows=()), keys)
            for name in damaged or checkpoints.NAMES:
                yield Finding("derived", name, "could not be read", "rebuilt from the segments")
        if checkpoint is None or damaged or not clean:
            asyncio.run(self._settle_journal())
            yield Finding(
                "note",
                "",
                "the server was not stopped cleanly",
                "the journal is settled, as by a start and a clean stop",
            )
        with FolderExamination(self._root) as examination:
            checkpoint = examination.checkpoint
            assert checkpoint is not None, "a checkpoint was made above"
        yield from self._repair_partitions(checkpoint)
        yield from self._rebuild_derived_files()
        for path in self._needless_files:
            os.replace(f"{self._root}/{path}", f"{self._root}/{path}.quarantine")
            yield Finding("derived", path, "is damaged, and not needed", f"kept as {path}.quarantine")

    def _rebuild_checkpoint(self, older: Checkpoint, keys: list[Key]) -> None:
        """Store a checkpoint with the ends of all partitions, beyond any damage. A start would only know the
        ends in the older checkpoint, and continue after them until a leader epoch seems to fall."""
        rows = {(row.topic_id, row.index): row for row in older.rows}
        for key in keys:
            known, scanned = rows.get(key), self._row_from_segments(key)
            if known is None:
                rows[key] = scanned
            elif scanned.end_offset > known.end_offset:
                epoch = max(known.epoch, scanned.epoch)
                rows[key] = replace(scanned, epoch=epoch, log_start=known.log_start)
        self._store(replace(older, number=older.number + 1, clean=False, rows=tuple(rows.values())))

    def _row_from_segments(self, key: Key) -> CheckpointRow:
        """A row that ends where the last valid batch ends, whatever lies before it. Syncs the segments."""
        folder = f"{self._root}/{paths.partition_folder(*key)}"
        bases = _bases(folder)
        segment, position, end, epoch = (bases[-1] if bases else 0), 0, (bases[-1] if bases else 0), 0
        for base in bases:
            for item in inspect(f"{folder}/{paths.segment_name(base)}"):
                if isinstance(item, InspectedBatch) and item.crc_ok:
                    epoch = max(epoch, item.header.leader_epoch)
                    if base == segment:
                        position = item.position + item.header.total_bytes
                        end = max(end, item.header.next_offset)
            _sync(f"{folder}/{paths.segment_name(base)}")
        return CheckpointRow(*key, epoch, bases[0] if bases else 0, segment, position, end)

    async def _settle_journal(self) -> None:
        """Apply the journal to the segments: start the log alone, without the coordinator, and stop it
        cleanly."""
        loop = asyncio.get_running_loop()
        disk = RealDisk(self._root, loop)
        log = Log.open(disk, LoopClock(loop), self._rng, LogConfig())
        log.recover(lambda _: "live")
        await log.close()

    def _store(self, checkpoint: Checkpoint) -> None:
        path = f"{self._root}/{checkpoints.NAMES[checkpoint.number % 2]}"
        _replace(path, checkpoints.encode(checkpoint))

    # --- partitions ---------------------------------------------------------------------------------------

    def _repair_partitions(self, checkpoint: Checkpoint) -> Iterator[Finding]:
        changes: dict[Key, list[SegmentPlan]] = {}
        for row in checkpoint.rows:
            key = row.topic_id, row.index
            plans = self._plans(row)
            lost = [lost_range for plan in plans for lost_range in plan.lost_ranges()]
            if not all(self._may_give_up(key, lost_range) for lost_range in lost):
                problem = "lost offsets that the server cannot do without"
                consequence = "not repaired: restore the folder from a backup"
                path = paths.partition_folder(*key)
                yield Finding(
                    "damage", path, problem, consequence, *key, lost[0].first_offset, lost[-1].last_offset
                )
            elif any(plan.is_changed for plan in plans) or self._was_interrupted(row):
                changes[key] = plans
        if not changes:
            return
        rows = {(row.topic_id, row.index): row for row in checkpoint.rows}
        for key in changes:
            rows[key] = replace(rows[key], position=_BEYOND_ANY_FILE)
        self._store(replace(checkpoint, number=checkpoint.number + 1, rows=tuple(rows.values())))
        for key, plans in changes.items():
            yield from self._apply(key, plans)
            last = plans[-1]
            size = os.path.getsize(
                f"{self._root}/{paths.partition_folder(*key)}/{paths.segment_name(last.base)}"
            )
            rows[key] = replace(rows[key], segment=last.base, position=size)
        self._store(replace(checkpoint, number=checkpoint.number + 2, rows=tuple(rows.values())))

    @staticmethod
    def _was_interrupted(row: CheckpointRow) -> bool:
        """Whether an earlier repair of the partition was interrupted."""
        return row.position == _BEYOND_ANY_FILE

    def _plans(self, row: CheckpointRow) -> list[SegmentPlan]:
        """Plans of all segments, which together have every offset from the log start to the committed end."""
        folder = f"{self._root}/{paths.partition_folder(row.topic_id, row.index)}"
        bases = [base for base in _bases(folder) if base < row.end_offset or base == row.segment]
        plans, epoch = [], 0
        first = bases[0] if bases else row.end_offset
        if row.log_start < first:
            plans.append(SegmentPlan(row.log_start, [*_lost_ranges(row.log_start, first, 0)]))
        for base, after in zip(bases, [*bases[1:], row.end_offset], strict=False):
            plan = SegmentPlan(base)
            epoch = _plan_segment(f"{folder}/{paths.segment_name(base)}", plan, after, (epoch, row.epoch))
            plans.append(plan)
        return plans

    def _apply(self, key: Key, plans: list[SegmentPlan]) -> Iterator[Finding]:
        folder = paths.partition_folder(*key)
        os.makedirs(f"{self._root}/{folder}", mode=0o700, exist_ok=True)
        stems = {f"{plan.base:020}" for plan in plans}
        for name in os.listdir(f"{self._root}/{folder}"):
            if name.partition(".")[0] not in stems and name.endswith((".index", ".timeindex", ".arrivals")):
                os.replace(f"{self._root}/{folder}/{name}", f"{self._root}/{folder}/{name}.quarantine")
        for plan in plans:
            if not plan.is_changed:
                continue
            path = f"{folder}/{paths.segment_name(plan.base)}"
            for start, end in plan.removed:
                kept_in = _quarantine(self._root, path, start, end)
                problem = f"bytes {start:,} to {end:,} are kept in {os.path.basename(kept_in)}"
                yield Finding("note", path, problem, "delete the file if you do not need it", *key)
            _write(f"{self._root}/{path}", plan)
            _sync(f"{self._root}/{folder}")
            for lost_range in plan.lost_ranges():
                problem = f"{lost_range.last_offset - lost_range.first_offset + 1:,} offsets are given up"
                yield Finding(
                    "damage",
                    path,
                    problem,
                    "an empty batch replaces them",
                    *key,
                    lost_range.first_offset,
                    lost_range.last_offset,
                )
            for part in plan.parts:
                if isinstance(part, KeptBatch) and part.is_changed:
                    last = part.base_offset + part.header.last_offset_delta
                    problem = "the offset or the leader epoch of a batch was wrong"
                    yield Finding("damage", path, problem, "set right", *key, part.base_offset, last)
            _build_index(f"{self._root}/{path}", plan.base)
        shutil.rmtree(f"{self._root}/search/{paths.partition_name(*key)}", ignore_errors=True)  # made again
        _sync(f"{self._root}/{paths.PARTITIONS}")

    # --- derived files ------------------------------------------------------------------------------------

    def _rebuild_derived_files(self) -> Iterator[Finding]:
        with FolderExamination(self._root) as examination:
            findings = [
                finding
                for finding in examination.run()
                if finding.severity == "derived" and finding.topic_id is not None
            ]
        done: set[str] = set()
        for finding in findings:
            path = f"{self._root}/{finding.path}"
            stem, name = path.rpartition(".")[0], os.path.basename(path)
            if name in (leader_epochs.NAME, producer_snapshot.NAME) or path.endswith(".arrivals"):
                content = _arrivals(path) if path.endswith(".arrivals") else None
                os.replace(path, f"{path}.quarantine")
                if content is not None:
                    _replace(path, content)
                if name == leader_epochs.NAME:
                    _replace(path, _epochs(os.path.dirname(path)))
            elif stem not in done:
                done.add(stem)
                _build_index(f"{stem}.log", int(os.path.basename(stem)))
            yield replace(finding, consequence="rebuilt")


# --- one segment ------------------------------------------------------------------------------------------


def _plan_segment(path: str, plan: SegmentPlan, after: int, epochs_from_to: tuple[int, int]) -> int:
    """Fill the plan of one segment, whose offsets end before `after`. `epochs_from_to`: the epochs that its
    batches may have. Returns the leader epoch at its end."""
    epoch, most = epochs_from_to
    offset, position = plan.base, 0
    batches = [item for item in inspect(path) if isinstance(item, InspectedBatch) and item.crc_ok]
    for number, item in enumerate(batches):
        header = item.header
        following = batches[number + 1].header.base_offset if number + 1 < len(batches) else after
        base = header.base_offset
        if (
            base != offset
            and offset + header.last_offset_delta + 1 == following
            and position == item.position
        ):
            base = offset  # the batches before and after it show that its own offset is damaged
        if base < offset or base + header.last_offset_delta >= after:
            continue  # the batch does not belong here
        if item.position > position:
            plan.removed.append((position, item.position))
        position = item.position + header.total_bytes
        plan.parts += _lost_ranges(offset, base, epoch)
        epoch = header.leader_epoch if epoch <= header.leader_epoch <= most else epoch
        plan.parts.append(KeptBatch(item.position, header.total_bytes, header, base, epoch))
        offset = base + header.last_offset_delta + 1
    size = os.path.getsize(path)
    if size > position:
        plan.removed.append((position, size))
    plan.parts += _lost_ranges(offset, after, epoch)
    return epoch


def _lost_ranges(first: int, end: int, epoch: int) -> list[LostRange]:
    """Split the lost offsets from `first` to before `end` into ranges that one batch each can span."""
    span = record_batch.SPAN_MAX
    return [LostRange(start, min(start + span, end) - 1, epoch) for start in range(first, end, span)]


def _bases(folder: str) -> list[int]:
    try:
        names = sorted(os.listdir(folder))
    except FileNotFoundError:
        return []
    return [base for name in names if (base := paths.parse_segment(name)) is not None]


def _pieces(path: str, start: int, end: int) -> Iterator[bytes]:
    with open(path, "rb") as file:
        file.seek(start)
        while start < end and (piece := file.read(min(_COPY_BYTES, end - start))):
            start += len(piece)
            yield piece


def _quarantine(root: str, path: str, start: int, end: int) -> str:
    """Keep bytes that will be removed from a segment in a `*.quarantine` file. Returns its name."""
    name = f"{path}.{start}.quarantine"
    _write_file(f"{root}/{name}", _pieces(f"{root}/{path}", start, end))
    return name


def _write(path: str, plan: SegmentPlan) -> None:
    def content() -> Iterator[bytes]:
        for part in plan.parts:
            if isinstance(part, LostRange):
                yield record_batch.build_empty(part.first_offset, part.last_offset, part.epoch)
            elif part.is_changed:
                batch = bytearray(b"".join(_pieces(path, part.position, part.position + part.size)))
                record_batch.assign_offsets(memoryview(batch), part.base_offset, part.epoch, None)
                yield bytes(batch)
            else:
                yield from _pieces(path, part.position, part.position + part.size)

    _write_file(f"{path}.tmp", content())
    os.replace(f"{path}.tmp", path)


def _write_file(path: str, pieces: Iterator[bytes]) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        file.writelines(pieces)
        file.flush()
        os.fsync(file.fileno())


def _replace(path: str, data: bytes) -> None:
    _write_file(f"{path}.tmp", iter([data]))
    os.replace(f"{path}.tmp", path)
    _sync(os.path.dirname(path))


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _build_index(path: str, base: int) -> None:
    """Build both indexes of a segment from its batches."""
    index = SegmentIndex()
    interval = PartitionConfig().index_interval_bytes
    for item in inspect(path):
        if isinstance(item, InspectedBatch) and item.crc_ok:
            header = item.header
            last = header.last_offset - base
            index.append(last, item.position, header.total_bytes, header.max_timestamp, interval)
    index.add_time_entry()
    entries, times = index.entries_below(1 << 62)
    stem = path.removesuffix(".log")
    for suffix, data in (
        (".index", index.offset_bytes(0, entries)),
        (".timeindex", index.time_bytes(0, times)),
    ):
        if os.path.exists(stem + suffix):
            os.replace(stem + suffix, f"{stem}{suffix}.quarantine")
        _replace(stem + suffix, data)


def _arrivals(path: str) -> bytes:
    """The valid pairs of an arrival index."""
    with open(path, "rb") as file:
        return ArrivalIndex.parse(file.read()).to_bytes()


def _epochs(folder: str) -> bytes:
    epochs = leader_epochs.LeaderEpochs()
    for base in _bases(folder):
        for item in inspect(f"{folder}/{paths.segment_name(base)}"):
            if isinstance(item, InspectedBatch) and item.crc_ok:
                epochs.begin(item.header.leader_epoch, item.header.base_offset)
    return epochs.encode()
