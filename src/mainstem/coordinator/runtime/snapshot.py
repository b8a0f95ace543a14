"""The snapshot files of the coordinator: all that it remembers, at one offset of the state log.

Owns: the format, writing, choosing and removing of `state/snapshot-<20-digit offset>`. A snapshot stands
for all records of the state log below its offset. Two are kept, and the state log is kept from the older
one on, so that one damaged file loses nothing. Refuses: a file whose size, checksum or version is not
right. Called by the runtime only.

    magic    8 bytes   "MSTSNAP\\n"
    version  u16       1
    offset   i64       state log offset from which the tail has to be applied
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
    """Where the snapshot at `offset` is, relative to the data folder."""
    return f"{FOLDER}/{PREFIX}{offset:020d}"


def offsets(disk: Disk) -> list[int]:
    """Offsets of the snapshot files there are, newest first. Leftovers of a cut write are not among them."""
    found = []
    for name in disk.list(FOLDER):
        digits = name.removeprefix(PREFIX)
        if name.startswith(PREFIX) and len(digits) == 20 and digits.isdigit():
            found.append(int(digits))
    return sorted(found, reverse=True)


def remove_leftovers(disk: Disk) -> None:
    """Unlink what a crash left of a snapshot that was being written."""
    for name in disk.list(FOLDER):
        if name.startswith(PREFIX) and name.endswith(".tmp"):
            disk.unlink(f"{FOLDER}/{name}")


def frame(records: Sequence[bytes]) -> bytes:
    """A part of the body."""
    return b"".join([part for record in records for part in (_LENGTH.pack(len(record)), record)])


def pack(offset: int, records: int, parts: Sequence[bytes]) -> bytes:
    """The whole file from the parts of its body."""
    fields = _FIELDS.pack(MAGIC, VERSION, offset, records, sum(map(len, parts)))
    crc = crc32c.crc32c(fields)
    for part in parts:
        crc = crc32c.crc32c(part, crc)
    return b"".join([fields, _CRC.pack(crc), *parts])


def unpack(data: bytes, offset: int, path: str) -> Iterator[memoryview]:
    """The records in a snapshot file, checked whole before the first is given. StateDamaged, StateTooNew."""
    if len(data) < HEADER_BYTES:
        raise StateDamaged(f"the snapshot {path} is cut: {len(data)} bytes")
    magic, version, said, count, length = _FIELDS.unpack_from(data)
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
    if said != offset:
        raise StateDamaged(f"the snapshot {path} is of offset {said}: it was renamed")
    return _walk(body, count, path)


def _walk(body: memoryview, count: int, path: str) -> Iterator[memoryview]:
    at = 0
    for _ in range(count):
        if at + 4 > len(body):
            raise StateDamaged(f"the snapshot {path} holds fewer records than it says")
        (length,) = _LENGTH.unpack_from(body, at)
        if at + 4 + length > len(body):
            raise StateDamaged(f"the snapshot {path} holds fewer records than it says")
        yield body[at + 4 : at + 4 + length]
        at += 4 + length
