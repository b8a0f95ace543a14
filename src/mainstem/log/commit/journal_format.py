"""Encodes and decodes journal files.

Owns: header block, group and record of a journal file (FORMAT.md, part "Journal"), in both directions.
Refuses: to know what a record means (`recovery/partition_replay.py`) and when a file is written
(`journal.py`).
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
"""Groups begin at a multiple of this size and are padded to it, so that no write touches a block that is
already acknowledged."""
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
    """Number of this use of the file. It rises with each use of any journal file, so that a group of an
    earlier use is never taken for one of this."""
    salt: int
    """64 random bits, part of every group's CRC."""
    base_group: int
    """Number of the file's first group. Groups of earlier files with this number or a greater one are
    void."""


class JournalRecord(NamedTuple):
    """One journal record, without its batches."""

    kind: int
    topic: bytes
    """Topic id, 16 bytes."""
    partition: int
    epoch: int
    base_offset: int
    """APPEND: offset of the first record. EPOCH: where the epoch begins. LOGSTART: the new log start."""
    end_offset: int
    """APPEND: one past the offset of the last record. Otherwise the same as `base_offset`."""
    segment: int
    """Base offset of the segment."""
    position: int
    """APPEND: where the batches are in the segment. EPOCH: where the epoch begins."""
    arrival_ms: int
    """APPEND: wall-clock ms of the arrival; otherwise 0."""
    length: int
    """Bytes that follow: the batches of an APPEND, as they are in the segment; otherwise 0."""
    payload_position: int = 0
    """Where the batches are in the journal file. Not stored."""


class JournalGroup(NamedTuple):
    """One commit group that was read from a journal file."""

    number: int
    records: list[JournalRecord]
    after_damage: bool
    """True: the bytes before this group, which must have been groups, are damaged."""


def encode_header(header: JournalFileHeader) -> bytes:
    """Encode the header as a whole block."""
    body = header.folder_id.bytes + struct.pack(">QQQ", header.seq, header.salt, header.base_group)
    block = HEADER_MAGIC + struct.pack(">I", crc32c(body)) + body
    return block.ljust(BLOCK, b"\0")


def decode_header(block: bytes, folder_id: UUID) -> JournalFileHeader | None:
    """The header; None if the file was never used, the block is torn, or it is of another data folder."""
    if not is_whole_header(block):
        return None
    _, _, folder, seq, salt, base_group = _HEADER.unpack_from(block)
    return JournalFileHeader(folder_id, seq, salt, base_group) if folder == folder_id.bytes else None


def is_whole_header(block: bytes) -> bool:
    """Whether the block is a header, of whichever data folder, without damage."""
    if len(block) < BLOCK:
        return False
    magic, crc, *_ = _HEADER.unpack_from(block)
    return bool(magic == HEADER_MAGIC and crc32c(block[12 : _HEADER.size]) == crc)


def unchecked_groups(file: File) -> tuple[int, list[int]]:
    """(seq, numbers) of the groups that follow each other from the beginning of the file on, as far as their
    heads say: for a file whose header is damaged, without which no CRC can be checked. Blocks."""
    position, seq = BLOCK, -1
    numbers: list[int] = []
    while len(head := file.pread(GROUP.size, position)) == GROUP.size:
        magic, _, group_seq, number, length, _ = GROUP.unpack(head)
        if magic != GROUP_MAGIC or (numbers and (group_seq, number) != (seq, numbers[-1] + 1)):
            break
        position, seq = position + padded_group_bytes(length), group_seq
        numbers.append(number)
    return seq, numbers


def encode_record(record: JournalRecord) -> bytes:
    """Encode the record, without the batches that follow it in the file."""
    return RECORD.pack(*record[:-1])


def crc_seed(salt: int) -> int:
    """Initial value of the CRC of each group."""
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
    """Bytes that a group takes in the file, for `payload` bytes of records."""
    return -(-(GROUP.size + payload) // BLOCK) * BLOCK


def read_groups(
    file: File, header: JournalFileHeader, end_position: int | None = None
) -> Iterator[JournalGroup]:
    """The valid groups of a file, in order, up to `end_position` or its end. An invalid group before a valid
    one is damage: it is skipped, and the next group has `after_damage`. Blocks."""
    size = file.size() if end_position is None else end_position
    position, expected, damaged = BLOCK, header.base_group, False
    seed = crc_seed(header.salt)
    while position < size:
        group = _read_group(file, position, header, seed)
        if group is None or group[0] < expected:
            position, damaged = _find_group_magic(file, position + BLOCK, size), True
            continue
        number, records, length = group
        yield JournalGroup(number, records, damaged or number != expected)
        position, expected, damaged = position + length, number + 1, False


def _find_group_magic(file: File, position: int, size: int) -> int:
    """Position of the next block, from `position` on, that looks like a group; `size` if there is none."""
    while position < size:
        chunk = file.pread(_CHUNK_BYTES, position)
        for i in range(0, len(chunk), BLOCK):
            if chunk[i : i + 4] == GROUP_MAGIC:
                return position + i
        position += _CHUNK_BYTES
    return size


def _read_group(
    file: File, position: int, header: JournalFileHeader, seed: int
) -> tuple[int, list[JournalRecord], int] | None:
    """(number, records, bytes in the file) of the group at `position`; None if it is not a valid one."""
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
    i = 0
    while i < length:
        fields = RECORD.unpack_from(payload, i)
        i += RECORD_BYTES
        records.append(JournalRecord._make((*fields, position + GROUP.size + i)))
        i += fields[-1]
    assert (i, len(records)) == (length, count), "the records fill the group exactly"
    return number, records, padded_group_bytes(length)
