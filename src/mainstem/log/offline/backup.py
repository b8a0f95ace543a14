"""A consistent copy of a data folder, also while a server writes to it.

Owns: what is copied, in which order, and why the result is whole. Refuses: to change or lock the folder that
is copied, to link a file that may still change, to overwrite anything. `backup_folder.py` has the target on
this machine and the way back.

The copy is what a power cut could leave, and recovery makes it whole at its first start. Let t0 be the moment
at which the copy begins. The order makes sure that everything acknowledged before t0 is in the copy:

1. The journal. Each file is read after t0, so its content covers every commit before t0 that no checkpoint
has yet: a file is reused only after a durable checkpoint that does not need it (R3).
2. The checkpoint. It is not older than any checkpoint that let a journal file be reused meanwhile, so its
rows say that the segments have what the copied journal lacks. (In the other order, a file that was reused
between the two steps would be missed.)
3. The state, which is in two logs: of each the snapshots, then the log. What it says about topics, groups,
positions and acknowledgements was true before any byte of step 4 was read. So no position is ahead of the
copied events, and no topic lacks events that it had.
4. The partitions that the copied state knows. A batch is in its segment before it is in the journal, so every
journal record finds the bytes before it in the segment. Recovery keeps valid batches that came after t0.

Segments before the one in which the row of their partition ends never change, because nothing in them can be
rolled back. They are cloned or hard-linked where the file system can do it; everything else is copied. A
server never changes a file that has a second name: recovery first gives it an inode of its own
(`Disk.unshare`).

Segments are copied from the newest to the oldest. If one is missing, retention has removed it and all before
it, and the log start in the copied checkpoint rises. If a partition disappears, its topic was deleted after
the state was copied: the copy begins again, but keeps the files that cannot have changed.

When a commit fails, batches are rolled back and others replace them, with a larger leader epoch. A copy made
meanwhile may have some of both. So the last step checks that no epoch has risen above those in the copy; else
the copy begins again. Nothing of a new epoch is in a segment before the journal or a checkpoint has that
epoch (R8), so an epoch that this check does not see is not in the copy either.
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
from mainstem.log.commit.journal_format import EPOCH, LOGSTART, JournalGroup
from mainstem.log.disk.contract import Disk, File
from mainstem.log.errors import LogFolderError
from mainstem.log.recovery import meta
from mainstem.log.storage import leader_epochs, producer_snapshot

Key = tuple[UUID, int]
STATE_LOGS: dict[Key, str] = {(topic_id, 0): folder for topic_id, folder in paths.STATE_FOLDERS.items()}
"""The state logs and the folders of their snapshots, in the order in which they are copied."""
PIECE_BYTES = 1 << 20
ATTEMPTS = 20
SNAPSHOT = re.compile(r"snapshot-[0-9]{20}")
_SIDE_FILE_SUFFIXES = (".index", ".timeindex", ".arrivals")


class BackupSource(Protocol):
    """The folder that is copied, for reading only. All methods may raise OSError."""

    def exists(self, path: str) -> bool: ...
    def list(self, folder: str) -> list[str]: ...
    def size(self, path: str) -> int: ...
    def read_all(self, path: str) -> bytes: ...
    def open(self, path: str) -> BackupSourceFile: ...


class BackupSourceFile(Protocol):
    """An open file of a BackupSource."""

    def pread(self, length: int, position: int) -> bytes: ...
    def size(self) -> int: ...
    def close(self) -> None: ...


class BackupSink(Protocol):
    """A file of the target that is being written."""

    def write(self, data: bytes) -> None:
        """Append `data`."""

    def close(self) -> None:
        """Sync and close the file."""


class BackupTarget(Protocol):
    """The folder that the copy goes to. All methods may raise OSError."""

    def make_folder(self, folder: str) -> None: ...
    def share(self, path: str) -> bool:
        """Put the source's file into the target without copying it, as a clone or a hard link. False: this is
        not possible, copy it."""

    def clone(self, path: str) -> bool:
        """As `share`, but only as a clone, which later changes to the source do not affect."""

    def create(self, path: str) -> BackupSink:
        """Create a file, or replace its content."""

    def write_small(self, path: str, data: bytes) -> None:
        """Write a derived file, without syncing it."""

    def keep_only(self, wanted_paths: set[str]) -> None:
        """Remove all files of the target except these."""

    def sync_folders(self) -> None:
        """Make the names of all files of the target durable."""


class SourceChanged(Exception):
    """Raised when the source has changed so that the copy must begin again."""


@dataclass(slots=True)
class BackupSummary:
    """What a backup has copied."""

    partitions: int = 0
    shared_bytes: int = 0
    """Bytes in files that were linked or cloned."""
    copied_bytes: int = 0
    attempts: int = 0


class Backup:
    """One backup. `summary` is right once `run` has ended."""

    def __init__(
        self, source: BackupSource, target: BackupTarget, read_state: Callable[[], Callable[[Key], bool]]
    ) -> None:
        """`read_state` is called once the state is copied. It reads the copy and returns a function that says
        whether a topic has a partition; partitions that no topic has are left out of the backup."""
        self.summary = BackupSummary()
        self._source = source
        self._target = target
        self._read_state = read_state
        self._shared_paths: set[str] = set()
        """Files in the target that cannot have changed since an earlier attempt copied them."""
        self._epochs: dict[Key, int] = {}
        """The largest leader epoch of each partition in the copy."""
        self._trimmed: dict[Key, int] = {}
        """Partitions whose first segments are missing: the offset at which the copy of each begins."""
        self._written_paths: set[str] = set()
        self._disk = cast(Disk, source)
        """The source, for functions that only read from a `Disk`."""

    def total_bytes(self) -> int:
        """The size of all segments now: about the sum of what `run` yields."""
        total = 0
        for name in self._source.list(paths.PARTITIONS):
            if paths.parse_partition(name) is not None:
                for file in self._source.list(f"{paths.PARTITIONS}/{name}"):
                    if paths.parse_segment(file) is not None:
                        with contextlib.suppress(FileNotFoundError):
                            total += self._source.size(f"{paths.PARTITIONS}/{name}/{file}")
        return total

    def run(self) -> Iterator[int]:
        """Copy; yields the bytes done after each piece. Only a copy that has ended has a `meta.properties`.
        LogFolderError: the folder cannot be copied; OSError."""
        original = meta.read(self._disk)
        self._folder_id, self._epoch_floor = original.folder_id, original.epoch_floor
        while self.summary.attempts < ATTEMPTS:
            self.summary = BackupSummary(attempts=self.summary.attempts + 1)
            self._written_paths = set()
            try:
                yield from self._attempt()
            except (SourceChanged, FileNotFoundError):
                continue
            self._target.keep_only(self._written_paths)
            self._target.sync_folders()
            self._write(paths.META, meta.encode(replace(original, lock=meta.COPY)))
            self._target.sync_folders()
            return
        raise LogFolderError(
            f"topics were deleted or commits failed in each of {ATTEMPTS} attempts: try again later"
        )

    def _attempt(self) -> Iterator[int]:
        for folder in ("", paths.JOURNAL, paths.PARTITIONS, *STATE_LOGS.values()):
            self._target.make_folder(folder)
        self._epochs, self._trimmed = {}, {}
        yield from self._journal()
        checkpoint = checkpoints.load(self._disk)
        if checkpoint is None:
            raise LogFolderError("no checkpoint can be read: stop its server and run `mainstem doctor` on it")
        rows = {(row.topic_id, row.index): row for row in checkpoint.rows}
        _raise_epochs(self._epochs, rows.values())
        for key in STATE_LOGS:
            yield from self._state(key, rows)
        is_live = self._read_state()
        copied = set(STATE_LOGS)
        for key in self._partition_keys():
            if key not in STATE_LOGS and is_live(key):
                yield from self._partition(key, rows)
                copied.add(key)
        self._raise_log_starts(rows)
        for key, row in list(rows.items()):
            if key not in copied:
                if is_live(key) and row.end_offset > row.log_start:
                    raise SourceChanged
                del rows[key]
        self._checkpoint(checkpoint, rows)
        self._check_epochs(checkpoint.first_seq)
        self.summary.partitions = sum(self._source.exists(paths.partition_folder(*key)) for key in copied)

    def _partition_keys(self) -> Iterator[Key]:
        """The partitions to copy. That of carried events is the last one, and is looked for last: it has what
        was deleted from others while these were copied."""
        for name in self._source.list(paths.PARTITIONS):
            parsed = paths.parse_partition(name)
            if parsed is not None and not parsed[2] and parsed[0] != paths.CARRIED_TOPIC:
                yield parsed[0], parsed[1]
        carried = paths.CARRIED_TOPIC, 0
        if self._source.exists(paths.partition_folder(*carried)):
            yield carried

    def _checkpoint(self, checkpoint: Checkpoint, rows: dict[Key, CheckpointRow]) -> None:
        after = checkpoints.load(self._disk)
        clean = checkpoint.clean and after is not None and after.number == checkpoint.number
        copy = replace(checkpoint, rows=tuple(rows.values()), clean=clean)
        self._write(checkpoints.NAMES[copy.number % 2], checkpoints.encode(copy))

    def _check_epochs(self, first_seq: int) -> None:
        """Raise SourceChanged if an epoch began that the copy does not have. `first_seq`: that of the copied
        checkpoint. Reads the journal before the checkpoint, as the copy does."""
        now: dict[Key, int] = {}
        for path in self._live_files(first_seq):
            self._groups_end(path, now)
        newest = checkpoints.load(self._disk)
        _raise_epochs(now, newest.rows if newest is not None else ())
        if any(epoch > self._epochs.get(key, self._epoch_floor) for key, epoch in now.items()):
            raise SourceChanged

    # --- journal and state --------------------------------------------------------------------------------

    def _journal(self) -> Iterator[int]:
        newest = checkpoints.load(self._disk)
        for path in self._live_files(newest.first_seq if newest is not None else 1):
            yield from self._copy(path, self._groups_end(path, self._epochs))

    def _live_files(self, first_seq: int) -> list[str]:
        """The journal files in use, the oldest first."""
        live: list[tuple[int, str]] = []
        for name in self._source.list(paths.JOURNAL):
            path = f"{paths.JOURNAL}/{name}"
            if paths.parse_journal_file(name) is not None:
                with contextlib.closing(self._source.open(path)) as file:
                    header = form.decode_header(file.pread(form.BLOCK, 0), self._folder_id)
                if header is not None and header.seq >= first_seq:
                    live.append((header.seq, path))
        return [path for _, path in sorted(live)]

    def _groups_end(self, path: str, epochs: dict[Key, int]) -> int:
        """The end of the groups in a journal file; the bytes after it are of earlier uses. Epochs that begin
        in the file are added to `epochs`."""
        end = form.BLOCK
        for group in self._groups(path):
            last = group.records[-1].payload_position + group.records[-1].length
            end = -(-last // form.BLOCK) * form.BLOCK
            for record in group.records:
                if record.kind == EPOCH:
                    key = UUID(bytes=record.topic), record.partition
                    epochs[key] = max(epochs.get(key, 0), record.epoch)
        return end

    def _groups(self, path: str) -> Iterator[JournalGroup]:
        """The groups in a journal file; none if its header cannot be read."""
        with contextlib.closing(self._source.open(path)) as file:
            header = form.decode_header(file.pread(form.BLOCK, 0), self._folder_id)
            if header is not None:
                yield from form.read_groups(cast(File, file), header)

    def _state(self, key: Key, rows: dict[Key, CheckpointRow]) -> Iterator[int]:
        """Copy a state log: its snapshots first, because a snapshot may be newer than the log's end, but not
        older than its beginning."""
        folder = STATE_LOGS[key]
        snapshots = [name for name in self._source.list(folder) if SNAPSHOT.fullmatch(name)]
        for name in snapshots:
            self._write(f"{folder}/{name}", self._source.read_all(f"{folder}/{name}"))
        yield from self._partition(key, rows)
        self._raise_log_starts(rows)
        begins = rows[key].log_start if key in rows else 0
        if begins and not any(int(name[-20:]) >= begins for name in snapshots):
            raise SourceChanged

    # --- partitions ---------------------------------------------------------------------------------------

    def _partition(self, key: Key, rows: dict[Key, CheckpointRow]) -> Iterator[int]:
        """Copy the partition's segments, and change its row to what was copied: now, or if its first segments
        are missing, in `_raise_log_starts`."""
        folder = paths.partition_folder(*key)
        row = rows.get(key)
        names, bases = self._source.list(folder), self._segments(folder)
        self._target.make_folder(folder)
        copied: list[int] = []
        for base in reversed(bases):
            path = f"{folder}/{paths.segment_name(base)}"
            try:
                yield from self._segment(path, final=row is not None and base < row.segment)
            except FileNotFoundError:
                if any(earlier < base for earlier in self._segments(folder)):
                    raise SourceChanged from None  # not retention: a commit failed and was rolled back
                break
            copied.append(base)
        if not copied and (bases or (row is not None and row.end_offset > row.log_start)):
            raise SourceChanged
        if copied and (row is not None or copied[-1]):
            known = row.log_start if row is not None else 0
            if copied[-1] > known:
                self._trimmed[key] = copied[-1]
            else:
                rows[key] = _row_from(copied[-1], row, key, known)
        stems = {f"{base:020}" for base in copied}
        for name in names:
            stem, dot, kind = name.partition(".")
            if name in (leader_epochs.NAME, producer_snapshot.NAME) or (
                dot + kind in _SIDE_FILE_SUFFIXES and stem in stems
            ):
                self._derived_file(f"{folder}/{name}")
                yield 0

    def _raise_log_starts(self, rows: dict[Key, CheckpointRow]) -> None:
        """Change the rows of the trimmed partitions. Segments are deleted only after the log start offset is
        in a checkpoint or in the journal (R11), so one that is missing and not below it is damage, which the
        copy must not hide. Reads both once for all partitions: a retention pass may trim thousands."""
        trimmed, self._trimmed = self._trimmed, {}
        starts = self._log_starts_now() if trimmed else {}
        for key, first in trimmed.items():
            log_start = starts.get(key, 0)
            if log_start < first and not self._source.exists(paths.partition_folder(*key)):
                raise SourceChanged  # the topic was deleted
            rows[key] = _row_from(first, rows.get(key), key, log_start)

    def _log_starts_now(self) -> dict[Key, int]:
        """The log start offsets in the journal and in the newest checkpoint. Reads the journal before the
        checkpoint, as the copy does."""
        starts: dict[Key, int] = {}
        for path in self._live_files(0):
            for group in self._groups(path):
                for record in group.records:
                    if record.kind == LOGSTART:
                        key = UUID(bytes=record.topic), record.partition
                        starts[key] = max(starts.get(key, 0), record.base_offset)
        newest = checkpoints.load(self._disk)
        for row in newest.rows if newest is not None else ():
            key = row.topic_id, row.index
            starts[key] = max(starts.get(key, 0), row.log_start)
        return starts

    def _segments(self, folder: str) -> list[int]:
        parsed = map(paths.parse_segment, self._source.list(folder))
        return [base for base in parsed if base is not None]

    def _segment(self, path: str, *, final: bool) -> Iterator[int]:
        if final and (path in self._shared_paths or self._target.share(path)):
            size = self._source.size(path)
            self._shared_paths.add(path)
            self._written_paths.add(path)
            self.summary.shared_bytes += size
            yield size
        elif self._target.clone(path):
            self._written_paths.add(path)
            self.summary.shared_bytes += self._source.size(path)
            yield self._source.size(path)
        else:
            yield from self._copy(path)
            if final:
                self._shared_paths.add(path)

    def _derived_file(self, path: str) -> None:
        try:
            data = self._source.read_all(path)
        except FileNotFoundError:
            return
        self._target.write_small(path, data)
        self._written_paths.add(path)

    # --- files --------------------------------------------------------------------------------------------

    def _copy(self, path: str, end: int | None = None) -> Iterator[int]:
        """Copy the file up to `end`, or up to its present end."""
        file = self._source.open(path)
        try:
            sink = self._target.create(path)
            self._written_paths.add(path)
            position, end = 0, file.size() if end is None else end
            while position < end:
                piece = file.pread(min(PIECE_BYTES, end - position), position)
                if not piece:
                    break  # truncated meanwhile: the bytes after this were never committed
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
        self._written_paths.add(path)


def _raise_epochs(epochs: dict[Key, int], rows: Iterable[CheckpointRow]) -> None:
    for row in rows:
        key = row.topic_id, row.index
        epochs[key] = max(epochs.get(key, 0), row.epoch)


def _row_from(first: int, row: CheckpointRow | None, key: Key, log_start: int) -> CheckpointRow:
    """The row of a partition whose segments from `first` on were copied. `log_start`: its log start offset
    now; retention removed the segments before it."""
    if row is None:
        return CheckpointRow(*key, 0, first, first, 0, first)
    if row.segment < first <= log_start:
        return replace(row, log_start=first, segment=first, position=0, end_offset=first)
    return replace(row, log_start=max(row.log_start, min(first, log_start)))
