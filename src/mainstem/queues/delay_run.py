"""The bytes of one sorted run of waiting events, as the index of waiting events stores it.

Owns: the layout, its checksums and its version. Refuses: to be the truth. A run is derived from the log; one
that does not fit is damaged, and the index is built anew.

    0  magic "MSWAIT", 6 bytes         32  block 0: up to 1,024 entries, then the block's CRC-32, 4 bytes
    6  version, u16                     +  block 1, and so on; all but the last are full
    8  run, u64                        entry, 16 bytes: due time in ms since 1970, 44 bits
   16  place, u64: what the caller        | sequence, 20 bits | position, u64
       derived the entries from        All big-endian, so entries are in the order of their bytes.
   24  entries, u32                    The CRC of a block begins with run and block number (u64, u32):
   28  CRC-32 of the 28 bytes before   a block of another run or place does not fit.
"""

from __future__ import annotations

import struct
from typing import NamedTuple
from zlib import crc32

MAGIC = b"MSWAIT"
VERSION = 1
RUN_ENTRIES = 65_536
"""How many entries a run has at most."""
BLOCK_ENTRIES = 1024
ENTRY_BYTES = 16
DUE_END_MS = 1 << 44
"""Due times are below this: in the year 2527."""
SEQUENCE_END = 1 << 20
POSITION_END = 1 << 63

_HEADER = struct.Struct(">6sHQQI")
_CRC = struct.Struct(">I")
_BLOCK_NAME = struct.Struct(">QI")
_ENTRY = struct.Struct(">QQ")
HEADER_BYTES = _HEADER.size + _CRC.size


class DamagedDelayRun(Exception):
    """A stored run is not what was written. The index that read it must be built anew."""

    def __init__(self, run_id: int, reason: str) -> None:
        super().__init__(f"run {run_id} of waiting events: {reason}")
        self.run_id = run_id
        self.reason = reason


class WaitingEntry(NamedTuple):
    """An event that waits."""

    due_ms: int
    sequence: int
    """The number of the view's sequence."""
    position: int


class RunHeader(NamedTuple):
    """What a run says of itself."""

    run_id: int
    place: int
    entries: int


def pack_entry(due_ms: int, sequence: int, position: int) -> bytes:
    """The bytes of an entry; their order is that of due time, sequence, position.

    Raises:
        ValueError: a number is out of its range.
    """
    if not (0 <= due_ms < DUE_END_MS and 0 <= sequence < SEQUENCE_END and 0 <= position < POSITION_END):
        raise ValueError(f"not an entry: due {due_ms}, sequence {sequence}, position {position}")
    return _ENTRY.pack(due_ms << 20 | sequence, position)


def due_bound(due_ms: int) -> bytes:
    """All entries that are due before this time, and no others, are less than these bytes."""
    return _ENTRY.pack(min(max(due_ms, 0), DUE_END_MS - 1) << 20, 0)


def unpack_entries(data: bytes) -> list[WaitingEntry]:
    """The entries of bytes whose length is a multiple of ENTRY_BYTES."""
    return [
        WaitingEntry(due >> 20, due & SEQUENCE_END - 1, position)
        for due, position in _ENTRY.iter_unpack(data)
    ]


def encode_run(run_id: int, place: int, data: bytes) -> bytes:
    """The run's bytes. `data`: its entries, packed, ascending, at most RUN_ENTRIES."""
    entries = len(data) // ENTRY_BYTES
    assert 0 < entries <= RUN_ENTRIES, "a run has between one and RUN_ENTRIES entries"
    header = _HEADER.pack(MAGIC, VERSION, run_id, place, entries)
    parts = [header, _CRC.pack(crc32(header))]
    block_bytes = BLOCK_ENTRIES * ENTRY_BYTES
    for number, start in enumerate(range(0, len(data), block_bytes)):
        block = data[start : start + block_bytes]
        parts += (block, _CRC.pack(_block_crc(run_id, number, block)))
    return b"".join(parts)


def decode_header(run_id: int, data: bytes) -> RunHeader:
    """The header of the run that is stored under this number.

    Raises:
        DamagedDelayRun: it is short, of another version or run, or its checksum is wrong.
    """
    if len(data) < HEADER_BYTES:
        raise DamagedDelayRun(run_id, f"the header has {len(data)} of {HEADER_BYTES} bytes")
    magic, version, own_id, place, entries = _HEADER.unpack_from(data)
    if magic != MAGIC or version != VERSION:
        raise DamagedDelayRun(
            run_id, f"begins with {magic!r} version {version}, not {MAGIC!r} version {VERSION}"
        )
    if _CRC.unpack_from(data, _HEADER.size) != (crc32(data[: _HEADER.size]),):
        raise DamagedDelayRun(run_id, "the checksum of the header is wrong")
    if own_id != run_id:
        raise DamagedDelayRun(run_id, f"holds run {own_id}")
    return RunHeader(own_id, place, entries)


def block_range(entries: int, number: int) -> tuple[int, int]:
    """(start, size): where a block of a run with this number of entries is, with its checksum, in bytes."""
    start = number * BLOCK_ENTRIES
    size = min(BLOCK_ENTRIES, entries - start) * ENTRY_BYTES + _CRC.size
    return HEADER_BYTES + number * (BLOCK_ENTRIES * ENTRY_BYTES + _CRC.size), size


def decode_block(run_id: int, entries: int, number: int, data: bytes) -> bytes:
    """The packed entries of a block, read where `block_range` says.

    Raises:
        DamagedDelayRun: it is short, or its checksum is wrong.
    """
    _, size = block_range(entries, number)
    if len(data) != size:
        raise DamagedDelayRun(run_id, f"block {number} has {len(data)} of {size} bytes")
    block = data[: -_CRC.size]
    if _CRC.unpack_from(data, len(block)) != (_block_crc(run_id, number, block),):
        raise DamagedDelayRun(run_id, f"the checksum of block {number} is wrong")
    return block


def _block_crc(run_id: int, number: int, block: bytes) -> int:
    return crc32(block, crc32(_BLOCK_NAME.pack(run_id, number)))
