"""The journal's bytes.

Owns: header block, group and record of a journal file (FORMAT.md, part "Journal"), both directions. Refuses:
to know what a record means (`recovery/partition_recovery.py`) and when a file is written (`journal.py`).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple
from uuid import UUID

from crc32c import crc32c

from mainstem.log.disk.contract import Buffer, File

BLOCK: Final = 4096
"""Groups begin on this edge and are padded to it, so that no write touches a block that is acknowledged."""
HEADER_MAGIC: Final = b"MSJRNL01"
GROUP_MAGIC: Final = b"MSGR"
APPEND, EPOCH, LOGSTART = 1, 2, 3

_HEADER = struct.Struct(">8sI16sQQQ")
GROUP = struct.Struct(">4sIQQII")
RECORD = struct.Struct(">B16siiqqqqqI")
RECORD_BYTES: Final = RECORD.size
_CHUNK_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class JournalFileHeader:
    """The first block of a journal file."""

    folder_id: UUID
    seq: int
    """Rises with each use of any file. A group of an earlier use never passes for one of this."""
    salt: int
    """Random, 64 bits: part of every group's CRC."""
    base_group: int
    """Number of the file's first group. Groups of earlier files with this number or a greater one are
    void."""


class JournalRecord(NamedTuple):
    """One journal record, without its bytes."""

    kind: int
    topic: bytes
    """16 bytes of topic id."""
    partition: int
    epoch: int
    base_offset: int
    """APPEND: of the first batch. EPOCH: where the epoch begins. LOGSTART: the new log start."""
    end_offset: int
    """APPEND: one past the last record. Else as `base_offset`."""
    segment: int
    """Base offset of the segment."""
    position: int
    """APPEND: of the bytes, in the segment. EPOCH: where the epoch begins."""
    arrival_ms: int
    length: int
    """Bytes that follow: the batches of an APPEND, as they are in the segment; else 0."""
    payload_position: int = 0
    """Where those bytes are in the journal file. Not stored."""


class JournalGroup(NamedTuple):
    """One group as it was read."""

    number: int
    records: list[JournalRecord]
    after_damage: bool
    """Bytes before it, which must have held groups, are damaged."""


def encode_header(header: JournalFileHeader) -> bytes:
    """The whole block."""
    body = header.folder_id.bytes + struct.pack(">QQQ", header.seq, header.salt, header.base_group)
    block = HEADER_MAGIC + struct.pack(">I", crc32c(body)) + body
    return block.ljust(BLOCK, b"\0")


def decode_header(block: bytes, folder_id: UUID) -> JournalFileHeader | None:
    """None: never used, torn, or of another data folder."""
    if len(block) < BLOCK:
        return None
    magic, crc, folder, seq, salt, base_group = _HEADER.unpack_from(block)
    if magic != HEADER_MAGIC or crc32c(block[12 : _HEADER.size]) != crc or folder != folder_id.bytes:
        return None
    return JournalFileHeader(folder_id, seq, salt, base_group)


def encode_record(record: JournalRecord) -> bytes:
    """Without the bytes that follow it."""
    return RECORD.pack(*record[:-1])


def crc_seed(salt: int) -> int:
    """Where the CRC of a group begins."""
    return int(crc32c(salt.to_bytes(8, "big")))


def encode_group(seed: int, seq: int, number: int, count: int, records: Iterable[Buffer]) -> list[Buffer]:
    """The pieces of a group, padding included; `records` are encoded records with their bytes, any pieces."""
    pieces = list(records)
    length = sum(map(len, pieces))
    fields = struct.pack(">QQII", seq, number, length, count)
    crc = crc32c(fields, seed)
    for piece in pieces:
        crc = crc32c(piece, crc)
    padding = -(GROUP.size + length) % BLOCK
    return [GROUP_MAGIC + struct.pack(">I", crc) + fields, *pieces, bytes(padding)]


def padded_group_bytes(payload: int) -> int:
    """Bytes of a group in the file, for so many bytes of records."""
    return -(-(GROUP.size + payload) // BLOCK) * BLOCK


def read_groups(file: File, header: JournalFileHeader) -> Iterator[JournalGroup]:
    """The good groups of a file in order. A bad one followed by a good one is damage: it is jumped over,
    which the next one tells. Blocks."""
    size = file.size()
    position, expected, damaged = BLOCK, header.base_group, False
    seed = crc_seed(header.salt)
    while position < size:
        found = _read_group(file, position, header, seed)
        if found is None or found[0] < expected:
            position, damaged = _find_group_magic(file, position + BLOCK, size), True
            continue
        number, records, length = found
        yield JournalGroup(number, records, damaged or number != expected)
        position, expected, damaged = position + length, number + 1, False


def _find_group_magic(file: File, position: int, size: int) -> int:
    """The next block from `position` that looks like a group; `size` if there is none."""
    while position < size:
        piece = file.pread(_CHUNK_BYTES, position)
        for at in range(0, len(piece), BLOCK):
            if piece[at : at + 4] == GROUP_MAGIC:
                return position + at
        position += _CHUNK_BYTES
    return size


def _read_group(
    file: File, position: int, header: JournalFileHeader, seed: int
) -> tuple[int, list[JournalRecord], int] | None:
    head = file.pread(GROUP.size, position)
    if len(head) < GROUP.size:
        return None
    magic, crc, seq, number, length, count = GROUP.unpack(head)
    if magic != GROUP_MAGIC or seq != header.seq or length > file.size() - position - GROUP.size:
        return None
    payload = file.pread(length, position + GROUP.size)
    if len(payload) != length or crc32c(payload, crc32c(head[8:], seed)) != crc:
        return None
    records = []
    at = 0
    while at < length:
        fields = RECORD.unpack_from(payload, at)
        at += RECORD_BYTES
        records.append(JournalRecord._make((*fields, position + GROUP.size + at)))
        at += fields[-1]
    assert (at, len(records)) == (length, count)
    return number, records, padded_group_bytes(length)
