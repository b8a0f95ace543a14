"""A consistent copy of a data folder, also while a server writes to it; and bringing it back.

Owns: what is copied, in which order, and why the result is whole. Refuses: to change or lock the folder
that is copied, to link a file that may still change, to overwrite anything. Called by the commands
`mainstem backup` and `mainstem restore`, and by tests, which run it on the simulated disk between any two
operations of a server.

The copy is what a power cut leaves: recovery makes it whole at its first start. With t0 the moment at which
the copy begins, all that was acknowledged before t0 is in it, because of the order:

1. The journal. Each file is read after t0, so what it then holds covers every commit before t0 that is not
   yet in a checkpoint: a file is used again only after a durable checkpoint that does not need it (R3).
2. The checkpoint. It is not older than any because of which a journal file was used again meanwhile: what the
   copied files lack, its rows say to be in the segments. (The other way round, a file that was used again
   between the two would be missed.)
3. The state: snapshots, then the state log. What it says of topics, groups and positions was true before any
   byte of 4 was read: so no position is ahead of the events that are copied, and no topic lacks those that
   it had.
4. The partitions that the copied state knows. A batch is in the segment before it is in the journal, so every
   journal record finds the bytes before it in the segment. What came after t0 and is whole is kept by
   recovery.

Segments before the one in which the checkpoint's row of their partition ends never change (nothing there
can be rolled back): they are cloned, or hard-linked, where the file system can do it. Everything else is
copied. A server never changes a file that has a second name: recovery gives it an inode of its own first
(`Disk.unshare`).

Segments are taken from the newest to the oldest: when one is missing, retention has removed it and all
before it, and the log start in the copied checkpoint moves up. When a partition vanishes, its topic was
deleted after the state was copied: all begins again, without copying a second time what cannot have
changed.

When a commit fails, events are taken back and others come in their place, with a greater leader epoch: a
copy that was under way may have some of both. So it is looked at last whether an epoch has risen beyond
those that the copy knows of; then all begins again too. Nothing of a new epoch is in a segment before the
journal or a checkpoint has that epoch (R8), so what is not seen there then is not in the copy either.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol, cast
from uuid import UUID

from mainstem.log import paths
from mainstem.log.commit import checkpoint as checkpoints
from mainstem.log.commit import journal_format as form
from mainstem.log.commit.checkpoint import Checkpoint, CheckpointRow
from mainstem.log.commit.journal_format import EPOCH
from mainstem.log.disk.contract import Disk, File
from mainstem.log.errors import LogFolderError
from mainstem.log.recovery import meta
from mainstem.log.storage import leader_epochs, producer_snapshot

Key = tuple[UUID, int]
STATE: Key = (paths.STATE_TOPIC, 0)
STATE_FOLDER = "state"
PIECE_BYTES = 1 << 20
ATTEMPTS = 20
SNAPSHOT = re.compile(r"snapshot-[0-9]{20}")
_DERIVED = (".index", ".timeindex", ".arrivals")


class BackupSource(Protocol):
    """What is copied: reading alone. OSError."""

    def exists(self, path: str) -> bool: ...
    def list(self, folder: str) -> list[str]: ...
    def size(self, path: str) -> int: ...
    def read_all(self, path: str) -> bytes: ...
    def open(self, path: str) -> BackupSourceFile: ...


class BackupSourceFile(Protocol):
    """One open file of a Source."""

    def pread(self, length: int, position: int) -> bytes: ...
    def size(self) -> int: ...
    def close(self) -> None: ...


class BackupSink(Protocol):
    """One file that is being written."""

    def write(self, data: bytes) -> None:
        """More of it."""

    def close(self) -> None:
        """It is whole: synced."""


class BackupTarget(Protocol):
    """Where it goes: a folder of its own. OSError."""

    def make_folder(self, folder: str) -> None: ...
    def share(self, path: str) -> bool:
        """Have the source's file there without copying it: as a clone, or under a second name. False:
        copy."""

    def clone(self, path: str) -> bool:
        """As `share`, but only as a clone, which later changes of the source do not reach."""

    def create(self, path: str) -> BackupSink:
        """A new file, or a new content."""

    def write_small(self, path: str, data: bytes) -> None:
        """A file that is built again when it is lost: not synced."""

    def keep_only(self, wanted_paths: set[str]) -> None:
        """Remove every other file."""

    def sync_folders(self) -> None:
        """Make all names durable."""


class SourceChanged(Exception):
    """Something vanished that the copy needs: begin again."""


@dataclass(slots=True)
class BackupSummary:
    """What was done."""

    partitions: int = 0
    shared_bytes: int = 0
    """In files that were linked or cloned."""
    copied_bytes: int = 0
    attempts: int = 0


class Backup:
    """One backup. `run`, then `summary` is right."""

    def __init__(
        self, source: BackupSource, target: BackupTarget, read_state: Callable[[], Callable[[Key], bool]]
    ) -> None:
        """`read_state` is called when the state is copied; what it gives says which partitions are
        topics'."""
        self.summary = BackupSummary()
        self._source = source
        self._target = target
        self._read_state = read_state
        self._shared: set[str] = set()
        """Files that cannot change and are there from an earlier attempt."""
        self._epochs: dict[Key, int] = {}
        """The leader epochs that the copy knows of."""
        self._placed: set[str] = set()
        self._disk = cast(Disk, source)
        """For those who only read of it."""

    def total_bytes(self) -> int:
        """Of all segments now: about what `run` will tell."""
        total = 0
        for name in self._source.list(paths.PARTITIONS):
            if paths.parse_partition(name) is not None:
                for file in self._source.list(f"{paths.PARTITIONS}/{name}"):
                    if paths.parse_segment(file) is not None:
                        with contextlib.suppress(FileNotFoundError):
                            total += self._source.size(f"{paths.PARTITIONS}/{name}/{file}")
        return total

    def run(self) -> Iterator[int]:
        """Copy; yields after each piece the bytes that were done. It is a copy once this has ended: only
        then it has a `meta.properties`. LogFolderError: there is nothing that can be copied; OSError."""
        made = meta.read(self._disk)
        self._folder_id, self._epoch_floor = made.folder_id, made.epoch_floor
        while self.summary.attempts < ATTEMPTS:
            self.summary = BackupSummary(attempts=self.summary.attempts + 1)
            self._placed = set()
            try:
                yield from self._attempt()
            except (SourceChanged, FileNotFoundError):
                continue
            self._target.keep_only(self._placed)
            self._target.sync_folders()
            self._write(paths.META, meta.encode(replace(made, lock=meta.COPY)))
            self._target.sync_folders()
            return
        raise LogFolderError(
            f"topics were deleted, or commits failed, in each of {ATTEMPTS} attempts: try again in a while"
        )

    def _attempt(self) -> Iterator[int]:
        for folder in ("", paths.JOURNAL, paths.PARTITIONS, STATE_FOLDER):
            self._target.make_folder(folder)
        self._epochs = {}
        yield from self._journal()
        found = checkpoints.load(self._disk)
        if found is None:
            raise LogFolderError("no checkpoint can be read: stop its server and run `mainstem doctor` on it")
        rows = {(row.topic_id, row.index): row for row in found.rows}
        _raise_to(self._epochs, rows.values())
        yield from self._state(rows)
        is_live = self._read_state()
        copied = {STATE}
        for name in self._source.list(paths.PARTITIONS):
            parsed = paths.parse_partition(name)
            key = (parsed[0], parsed[1]) if parsed is not None and not parsed[2] else STATE
            if key != STATE and is_live(key):
                yield from self._partition(key, rows)
                copied.add(key)
        for key, row in list(rows.items()):
            if key not in copied:
                if is_live(key) and row.end_offset > row.log_start:
                    raise SourceChanged
                del rows[key]
        self._checkpoint(found, rows)
        self._no_epoch_has_risen(found.first_seq)
        self.summary.partitions = len(copied)

    def _checkpoint(self, found: Checkpoint, rows: dict[Key, CheckpointRow]) -> None:
        after = checkpoints.load(self._disk)
        clean = found.clean and after is not None and after.number == found.number
        made = replace(found, rows=tuple(rows.values()), clean=clean)
        self._write(checkpoints.NAMES[made.number % 2], checkpoints.encode(made))

    def _no_epoch_has_risen(self, first_seq: int) -> None:
        """`first_seq`: of the copied checkpoint. The journal first, as when copying."""
        now: dict[Key, int] = {}
        for path in self._live(first_seq):
            self._used(path, now)
        newest = checkpoints.load(self._disk)
        _raise_to(now, newest.rows if newest is not None else ())
        if any(epoch > self._epochs.get(key, self._epoch_floor) for key, epoch in now.items()):
            raise SourceChanged

    # --- journal and state --------------------------------------------------------------------------------

    def _journal(self) -> Iterator[int]:
        newest = checkpoints.load(self._disk)
        for path in self._live(newest.first_seq if newest is not None else 1):
            yield from self._copy(path, self._used(path, self._epochs))

    def _live(self, first_seq: int) -> list[str]:
        """The journal files in use, oldest first."""
        live: list[tuple[int, str]] = []
        for name in self._source.list(paths.JOURNAL):
            path = f"{paths.JOURNAL}/{name}"
            if paths.parse_journal_file(name) is not None:
                with contextlib.closing(self._source.open(path)) as file:
                    header = form.decode_header(file.pread(form.BLOCK, 0), self._folder_id)
                if header is not None and header.seq >= first_seq:
                    live.append((header.seq, path))
        return [path for _, path in sorted(live)]

    def _used(self, path: str, found: dict[Key, int]) -> int:
        """The end of what a journal file now holds; the rest is of earlier uses. Epochs that begin in it go
        to `found`."""
        end = form.BLOCK
        with contextlib.closing(self._source.open(path)) as file:
            header = form.decode_header(file.pread(form.BLOCK, 0), self._folder_id)
            for group in form.read_groups(cast(File, file), header) if header is not None else ():
                last = group.records[-1].payload_position + group.records[-1].length
                end = -(-last // form.BLOCK) * form.BLOCK
                for record in group.records:
                    if record.kind == EPOCH:
                        key = UUID(bytes=record.topic), record.partition
                        found[key] = max(found.get(key, 0), record.epoch)
        return end

    def _state(self, rows: dict[Key, CheckpointRow]) -> Iterator[int]:
        """Snapshots first: one that is newer than the log's end is the better one; older than its beginning,
        it is none."""
        snapshots = [name for name in self._source.list(STATE_FOLDER) if SNAPSHOT.fullmatch(name)]
        for name in snapshots:
            self._write(f"{STATE_FOLDER}/{name}", self._source.read_all(f"{STATE_FOLDER}/{name}"))
        yield from self._partition(STATE, rows)
        begins = rows[STATE].log_start if STATE in rows else 0
        if begins and not any(int(name[-20:]) >= begins for name in snapshots):
            raise SourceChanged

    # --- partitions ---------------------------------------------------------------------------------------

    def _partition(self, key: Key, rows: dict[Key, CheckpointRow]) -> Iterator[int]:
        """Copy its segments, and make its row say what is there."""
        folder = paths.partition_folder(*key)
        row = rows.get(key)
        names, bases = self._source.list(folder), self._segments(folder)
        self._target.make_folder(folder)
        taken: list[int] = []
        for base in reversed(bases):
            path = f"{folder}/{paths.segment_name(base)}"
            try:
                yield from self._segment(path, final=row is not None and base < row.segment)
            except FileNotFoundError:
                if any(earlier < base for earlier in self._segments(folder)):
                    raise SourceChanged from None  # not retention: a commit failed and was rolled back
                break
            taken.append(base)
        if not taken and (bases or (row is not None and row.end_offset > row.log_start)):
            raise SourceChanged
        if taken and (row is not None or taken[-1]):
            rows[key] = _from(taken[-1], row, key)
        stems = {f"{base:020}" for base in taken}
        for name in names:
            stem, dot, kind = name.partition(".")
            if name in (leader_epochs.NAME, producer_snapshot.NAME) or (
                dot + kind in _DERIVED and stem in stems
            ):
                self._derived(f"{folder}/{name}")
                yield 0

    def _segments(self, folder: str) -> list[int]:
        parsed = map(paths.parse_segment, self._source.list(folder))
        return [base for base in parsed if base is not None]

    def _segment(self, path: str, *, final: bool) -> Iterator[int]:
        if final and (path in self._shared or self._target.share(path)):
            size = self._source.size(path)
            self._shared.add(path)
            self._placed.add(path)
            self.summary.shared_bytes += size
            yield size
        elif self._target.clone(path):
            self._placed.add(path)
            self.summary.shared_bytes += self._source.size(path)
            yield self._source.size(path)
        else:
            yield from self._copy(path)
            if final:
                self._shared.add(path)

    def _derived(self, path: str) -> None:
        try:
            data = self._source.read_all(path)
        except FileNotFoundError:
            return
        self._target.write_small(path, data)
        self._placed.add(path)

    # --- files --------------------------------------------------------------------------------------------

    def _copy(self, path: str, end: int | None = None) -> Iterator[int]:
        """What the file holds now, up to `end`."""
        file = self._source.open(path)
        try:
            sink = self._target.create(path)
            self._placed.add(path)
            position, end = 0, file.size() if end is None else end
            while position < end:
                piece = file.pread(min(PIECE_BYTES, end - position), position)
                if not piece:
                    break  # cut meanwhile: what is beyond was never committed
                sink.write(piece)
                position += len(piece)
                self.summary.copied_bytes += len(piece)
                yield len(piece)
            sink.close()
        finally:
            file.close()

    def _write(self, path: str, data: bytes) -> None:
        sink = self._target.create(path)
        sink.write(data)
        sink.close()
        self._placed.add(path)


def _raise_to(epochs: dict[Key, int], rows: Iterable[CheckpointRow]) -> None:
    for row in rows:
        key = row.topic_id, row.index
        epochs[key] = max(epochs.get(key, 0), row.epoch)


def _from(first: int, row: CheckpointRow | None, key: Key) -> CheckpointRow:
    """The row of a partition of which the segments from `first` on were copied: what was before has gone."""
    if row is None:
        return CheckpointRow(*key, 0, first, first, 0, first)
    if row.segment < first:
        return replace(row, log_start=first, segment=first, position=0, end_offset=first)
    return replace(row, log_start=max(row.log_start, first))
