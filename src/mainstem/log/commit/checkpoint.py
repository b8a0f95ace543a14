"""The checkpoint file: how far each partition is durable without the journal.

Owns: the two files `checkpoint-0` and `checkpoint-1` (FORMAT.md, part "Checkpoint"); the newest whole one
counts. Refuses: to decide when a checkpoint is due (`checkpointer.py`) and what to do with a row
(`recovery/`).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from uuid import UUID

from crc32c import crc32c

from mainstem.log.disk.contract import Disk
from mainstem.promise import Promise

MAGIC = b"MSCHKPT1"
CLEAN = 1
_HEADER = struct.Struct(">8sIHHQQQI")
_ROW = struct.Struct(">16siiqqqqIQ")
ROW_BYTES = _ROW.size
_ROW_1 = struct.Struct(">16siiqqqq")
_VERSION = 2
"""1, written by 0.1.0, has rows without the number and bytes of the sealed segments."""
_UNKNOWN = (1 << 32) - 1
NAMES = ("checkpoint-0", "checkpoint-1")


@dataclass(frozen=True, slots=True)
class CheckpointRow:
    """The row of one partition: all bytes below `position` of the segment with base offset `segment` are
    durable in it."""

    topic_id: UUID
    index: int
    epoch: int
    """partitionLeaderEpoch of the next batch."""
    log_start: int
    segment: int
    """Base offset of the segment that contains the committed end."""
    position: int
    """The committed end, in bytes from the beginning of that segment."""
    end_offset: int
    """The committed end as an offset: the high watermark."""
    sealed: tuple[int, int] | None = None
    """Number and bytes of the segments before `segment` that end after `log_start`. With other ones, files
    were removed, emptied or cut, and a start looks where. None: not known, so that a start looks."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The contents of one checkpoint file."""

    number: int
    """Rises by one with each checkpoint; its parity decides the file."""
    first_seq: int
    """Journal files with a lower seq are no longer needed."""
    next_group: int
    """Number of the first group of file `first_seq`, if there is one."""
    clean: bool
    """The server stopped cleanly right after this checkpoint. Void as soon as a journal file with seq >=
    `first_seq` exists."""
    rows: tuple[CheckpointRow, ...]


def _pack(row: CheckpointRow) -> bytes:
    place = (row.log_start, row.segment, row.position, row.end_offset)
    assert min(place) >= 0, f"offsets and positions of a checkpoint row are never negative: {row}"
    return _ROW.pack(row.topic_id.bytes, row.index, row.epoch, *place, *(row.sealed or (_UNKNOWN, 0)))


def encode(checkpoint: Checkpoint) -> bytes:
    """The bytes of the checkpoint's file."""
    rows = b"".join(map(_pack, checkpoint.rows))
    flags = CLEAN if checkpoint.clean else 0
    fields = (
        _VERSION,
        flags,
        checkpoint.number,
        checkpoint.first_seq,
        checkpoint.next_group,
        len(checkpoint.rows),
    )
    body = _HEADER.pack(MAGIC, 0, *fields)[12:] + rows
    return MAGIC + struct.pack(">I", crc32c(body)) + body


def decode(data: bytes) -> Checkpoint | None:
    """The checkpoint, or None if the bytes are not exactly one whole checkpoint."""
    if len(data) < _HEADER.size:
        return None
    magic, crc, version, flags, number, first_seq, next_group, count = _HEADER.unpack_from(data)
    layout = _ROW if version == _VERSION else _ROW_1
    if (
        magic != MAGIC
        or version not in (1, _VERSION)
        or len(data) != _HEADER.size + count * layout.size
        or crc32c(data[12:]) != crc
    ):
        return None
    rows = tuple(_unpack(*fields) for fields in layout.iter_unpack(data[_HEADER.size :]))
    return Checkpoint(number, first_seq, next_group, bool(flags & CLEAN), rows)


def _unpack(topic_id: bytes, *fields: int) -> CheckpointRow:
    index, epoch, log_start, segment, position, end_offset, *sealed = fields
    known = (sealed[0], sealed[1]) if sealed and sealed[0] != _UNKNOWN else None
    return CheckpointRow(UUID(bytes=topic_id), index, epoch, log_start, segment, position, end_offset, known)


def load(disk: Disk) -> Checkpoint | None:
    """The newest whole checkpoint of the folder; None if there is none. Blocks."""
    decoded = [decode(disk.read_all(name)) for name in NAMES if disk.exists(name)]
    whole = [checkpoint for checkpoint in decoded if checkpoint is not None]
    return max(whole, key=lambda checkpoint: checkpoint.number, default=None)


def damaged_files(disk: Disk) -> list[str]:
    """Names of the files that exist and are damaged: the newest whole checkpoint may then be an old one.
    Blocks."""
    return [name for name in NAMES if disk.exists(name) and decode(disk.read_all(name)) is None]


def store(disk: Disk, checkpoint: Checkpoint) -> Promise[None]:
    """Write `checkpoint` durably to the file of its number; the previous checkpoint, in the other file, stays
    as it is."""
    return disk.replace(NAMES[checkpoint.number % 2], encode(checkpoint))


def store_now(disk: Disk, checkpoint: Checkpoint) -> None:
    """As `store`. Blocks until it is durable."""
    disk.replace_now(NAMES[checkpoint.number % 2], encode(checkpoint))
