"""The snapshot files: the whole state of one state log at one of its offsets.

Owns: the format of `snapshot-<20-digit offset>` in the folder of a state log, the writing, reading and
listing of these files, piece by piece: no more than READ_BYTES of a file are in memory. A snapshot replaces
all records of the state log below its offset. Two snapshots are kept, and the state log from the older one
on, so that one damaged file loses nothing. Refuses: a file with a wrong size, checksum or version.

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
from mainstem.log import paths
from mainstem.log.disk.contract import Disk, File

FOLDER = paths.STATE_FOLDERS[paths.STATE_TOPIC]
"""The folder of the coordinator's state log. `state_log.py` has those of all state logs."""
PREFIX = "snapshot-"
MAGIC = b"MSTSNAP\n"
VERSION = 1
SNAPSHOTS_KEPT = 2

_FIELDS = struct.Struct(">8sHqIQ")
_CRC = struct.Struct(">I")
_LENGTH = struct.Struct(">I")
HEADER_BYTES = _FIELDS.size + _CRC.size
READ_BYTES = 1 << 20
_CRC_POLYNOMIAL = 0x82F63B78
"""CRC-32C (Castagnoli), its bits reversed."""


def path_of(offset: int, folder: str = FOLDER) -> str:
    """The path of the snapshot at `offset`, relative to the data folder."""
    return f"{folder}/{PREFIX}{offset:020d}"


def offsets(disk: Disk, folder: str = FOLDER) -> list[int]:
    """The offsets of all snapshot files, newest first. Files of an interrupted write are not among them."""
    all_offsets = []
    for name in disk.list(folder):
        digits = name.removeprefix(PREFIX)
        if name.startswith(PREFIX) and len(digits) == 20 and digits.isdigit():
            all_offsets.append(int(digits))
    return sorted(all_offsets, reverse=True)


def remove_leftovers(disk: Disk, folder: str = FOLDER) -> None:
    """Unlink the files of snapshots whose writing a crash interrupted."""
    for name in disk.list(folder):
        if name.startswith(PREFIX) and name.endswith(".tmp"):
            disk.unlink(f"{folder}/{name}")


class SnapshotWriter:
    """Writes one snapshot file in pieces, under a temporary name until `publish`. Its caller syncs `file`
    before that, and the folder after. OSError."""

    def __init__(self, disk: Disk, offset: int, folder: str = FOLDER) -> None:
        assert offset >= 0, "a snapshot is at an offset of the state log"
        self.offset = offset
        self.bytes = 0
        """Bytes of the body."""
        self._disk = disk
        self._path = path_of(offset, folder)
        self._temporary = self._path + ".tmp"
        self._records = 0
        self._crc = 0
        disk.unlink(self._temporary)
        self.file: File = disk.open(self._temporary, create=True)

    def add(self, records: Sequence[bytes]) -> None:
        """Write some records."""
        data = b"".join([part for record in records for part in (_LENGTH.pack(len(record)), record)])
        self.file.pwrite(data, HEADER_BYTES + self.bytes)
        self._crc = crc32c.crc32c(data, self._crc)
        self._records += len(records)
        self.bytes += len(data)

    def finish(self) -> None:
        """Write the header: the file is whole, but not durable yet."""
        fields = _FIELDS.pack(MAGIC, VERSION, self.offset, self._records, self.bytes)
        crc = _combine(crc32c.crc32c(fields), self._crc, self.bytes)
        self.file.pwrite(fields + _CRC.pack(crc), 0)

    def publish(self) -> None:
        """Give the file, which is synced, its name."""
        self.file.close()
        self._disk.rename(self._temporary, self._path)

    def discard(self) -> None:
        """Remove the file. It may be unlinked already."""
        self.file.close()
        self._disk.unlink(self._temporary)


def read(disk: Disk, path: str, offset: int) -> Iterator[memoryview]:
    """The records of a snapshot file. The whole file is checked before the first record is returned. Blocks.
    StateDamaged, StateTooNew, OSError."""
    file = disk.open(path)
    try:
        yield from _records(file, offset, path)
    finally:
        file.close()


def _records(file: File, offset: int, path: str) -> Iterator[memoryview]:
    size, head = file.size(), file.pread(HEADER_BYTES, 0)
    if len(head) < HEADER_BYTES:
        raise StateDamaged(f"the snapshot {path} is cut: {size} bytes")
    magic, version, stored_offset, count, length = _FIELDS.unpack_from(head)
    if magic != MAGIC:
        raise StateDamaged(f"{path} is no snapshot")
    if version != VERSION:
        raise StateTooNew(
            f"the snapshot {path} has format version {version}: start the newer mainstem that wrote it"
        )
    if size - HEADER_BYTES != length:
        raise StateDamaged(f"the snapshot {path} is cut: {size - HEADER_BYTES} of {length} bytes")
    crc = crc32c.crc32c(head[: _FIELDS.size])
    for position in range(HEADER_BYTES, size, READ_BYTES):
        crc = crc32c.crc32c(file.pread(READ_BYTES, position), crc)
    if crc != _CRC.unpack_from(head, _FIELDS.size)[0]:
        raise StateDamaged(f"the checksum of the snapshot {path} is wrong")
    if stored_offset != offset:
        raise StateDamaged(f"the snapshot {path} is of offset {stored_offset}: it was renamed")
    yield from _iter_records(file, size, count, path)


def _iter_records(file: File, size: int, count: int, path: str) -> Iterator[memoryview]:
    chunk, chunk_begin, position = memoryview(b""), HEADER_BYTES, 0
    """The piece of the file in memory, its place in the file, and the next record's place in it."""

    def require(needed: int) -> None:
        nonlocal chunk, chunk_begin, position
        if position + needed <= len(chunk):
            return
        chunk_begin, position = chunk_begin + position, 0
        if chunk_begin + needed > size:
            raise StateDamaged(f"the snapshot {path} holds fewer records than it says")
        chunk = memoryview(file.pread(max(needed, READ_BYTES), chunk_begin))

    for _ in range(count):
        require(_LENGTH.size)
        end = _LENGTH.size + int(_LENGTH.unpack_from(chunk, position)[0])
        require(end)
        yield chunk[position + _LENGTH.size : position + end]
        position += end


def _combine(first: int, second: int, second_bytes: int) -> int:
    """The CRC-32C of two pieces in a row, of their CRCs and the length of the second (as zlib's
    crc32_combine)."""
    power, shift = 1 << 23, 1 << 31  # x to the power of 8, and of 0, modulo the polynomial
    while second_bytes:
        if second_bytes & 1:
            shift = _multiply(power, shift)
        power = _multiply(power, power)
        second_bytes >>= 1
    return _multiply(shift, first) ^ second


def _multiply(left: int, right: int) -> int:
    """The product of two polynomials modulo the CRC's; the highest bit of a number is its constant term."""
    product = 0
    while left:
        if left & 0x8000_0000:
            product ^= right
        left = left << 1 & 0xFFFF_FFFF
        right = right >> 1 ^ (_CRC_POLYNOMIAL if right & 1 else 0)
    return product
