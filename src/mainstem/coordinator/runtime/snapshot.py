"""The snapshot files: the coordinator's whole state at one offset of the state log.

Owns: the format of `state/snapshot-<20-digit offset>`, the reading and listing of these files. A snapshot
replaces all records of the state log below its offset. Two snapshots are kept, and the state log from the
older one on, so that one damaged file loses nothing. Refuses: a file with a wrong size, checksum or version.

    magic    8 bytes   "MSTSNAP\\n"
    version  u16       1
    offset   i64       offset of the first record of the state log that is not in the snapshot
    records  u32
    length   u64       bytes of the body
    crc32c   u32       of the fields above and the body
    body     records × ( length u32, record as in the state log )                   all numbers big-endian
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

import crc32c

from mainstem.coordinator.runtime.records import StateDamaged, StateTooNew
from mainstem.log.disk.contract import Disk

FOLDER = "state"
PREFIX = "snapshot-"
MAGIC = b"MSTSNAP\n"
VERSION = 1
SNAPSHOTS_KEPT = 2

_FIELDS = struct.Struct(">8sHqIQ")
_CRC = struct.Struct(">I")
_LENGTH = struct.Struct(">I")
HEADER_BYTES = _FIELDS.size + _CRC.size


def path_of(offset: int) -> str:
    """The path of the snapshot at `offset`, relative to the data folder."""
    return f"{FOLDER}/{PREFIX}{offset:020d}"


def offsets(disk: Disk) -> list[int]:
    """The offsets of all snapshot files, newest first. Files of an interrupted write are not among them."""
    all_offsets = []
    for name in disk.list(FOLDER):
        digits = name.removeprefix(PREFIX)
        if name.startswith(PREFIX) and len(digits) == 20 and digits.isdigit():
            all_offsets.append(int(digits))
    return sorted(all_offsets, reverse=True)


def remove_leftovers(disk: Disk) -> None:
    """Unlink the files of snapshots whose writing a crash interrupted."""
    for name in disk.list(FOLDER):
        if name.startswith(PREFIX) and name.endswith(".tmp"):
            disk.unlink(f"{FOLDER}/{name}")


def frame(records: Sequence[bytes]) -> bytes:
    """Encode records to a part of the body."""
    return b"".join([part for record in records for part in (_LENGTH.pack(len(record)), record)])


def pack(offset: int, records: int, parts: Sequence[bytes]) -> bytes:
    """Build the file from the parts of its body."""
    assert offset >= 0, "a snapshot is at an offset of the state log"
    fields = _FIELDS.pack(MAGIC, VERSION, offset, records, sum(map(len, parts)))
    crc = crc32c.crc32c(fields)
    for part in parts:
        crc = crc32c.crc32c(part, crc)
    return b"".join([fields, _CRC.pack(crc), *parts])


def unpack(data: bytes, offset: int, path: str) -> Iterator[memoryview]:
    """The records of a snapshot file. The whole file is checked before the first record is returned.
    StateDamaged, StateTooNew."""
    if len(data) < HEADER_BYTES:
        raise StateDamaged(f"the snapshot {path} is cut: {len(data)} bytes")
    magic, version, stored_offset, count, length = _FIELDS.unpack_from(data)
    if magic != MAGIC:
        raise StateDamaged(f"{path} is no snapshot")
    if version != VERSION:
        raise StateTooNew(
            f"the snapshot {path} has format version {version}: start the newer mainstem that wrote it"
        )
    (crc,) = _CRC.unpack_from(data, _FIELDS.size)
    body = memoryview(data)[HEADER_BYTES:]
    if len(body) != length:
        raise StateDamaged(f"the snapshot {path} is cut: {len(body)} of {length} bytes")
    if crc32c.crc32c(body, crc32c.crc32c(data[: _FIELDS.size])) != crc:
        raise StateDamaged(f"the checksum of the snapshot {path} is wrong")
    if stored_offset != offset:
        raise StateDamaged(f"the snapshot {path} is of offset {stored_offset}: it was renamed")
    return _iter_records(body, count, path)


def _iter_records(body: memoryview, count: int, path: str) -> Iterator[memoryview]:
    position = 0
    for _ in range(count):
        if position + 4 > len(body):
            raise StateDamaged(f"the snapshot {path} holds fewer records than it says")
        (length,) = _LENGTH.unpack_from(body, position)
        if position + 4 + length > len(body):
            raise StateDamaged(f"the snapshot {path} holds fewer records than it says")
        yield body[position + 4 : position + 4 + length]
        position += 4 + length
