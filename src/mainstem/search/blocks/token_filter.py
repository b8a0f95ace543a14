"""Token filters: which search blocks cannot match, without reading them.

Owns: the `.tokens` file of a block: a Bloom filter of all tokens of its events, their exact times, and what
proves that it belongs to these bytes. Refuses: to be needed: a missing or damaged file only means that its
block is read. Built and asked by the workers.

    page 0     | "MSTOKEN1" | segment base, start, end, first offset, next offset  5 x int64 |
               | least, largest time  2 x int64 | events, pages  2 x uint32 |
               | position of the last batch  int64 | header of that batch  61 bytes | CRC32C of all before |
    page 1...  | 4,092 bytes of filter | CRC32C of them, begun with the page's number  uint32 |

A token's hash chooses a page and PROBES bits in it, so that asking for a token reads 4 KB. 12 bits a token:
about 1 block in 250 is read in vain. The batch header proves that nothing before it was cut and written
again after a power cut: a later batch at the same place would have a later leader epoch.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import re2
from crc32c import crc32c

from mainstem.log.errors import CorruptBatch
from mainstem.log.paths import parse_partition, parse_segment, segment_name
from mainstem.log.storage.record_batch import HEADER_BYTES, Record, decode
from mainstem.search.blocks.batches import MappedRange, locate_batches
from mainstem.search.ipc import FilterInfo, Unit
from mainstem.search.text.tokens import EXPONENT_TOKEN, filter_tokens

MAGIC = b"MSTOKEN1"
SUFFIX = ".tokens"
PARTIAL = ".partial"
_NAME = re.compile(r"[0-9]{20}(-[0-9]+-[0-9]+)?\.tokens(\.partial)?")
"""`cluster/worker.py` has the longer one."""
PAGE_BYTES = 4096
_FILTER_BYTES = PAGE_BYTES - 4
_FILTER_BITS = _FILTER_BYTES * 8
_MASKS = tuple(1 << bit for bit in range(8))
BITS_PER_TOKEN = 12
PROBES = 7
BLOCK_BYTES_MAX = 256 << 20
"""A block that is larger when decompressed gets no filter: it would take too much memory to make."""
MAY_MATCH, CANNOT_MATCH, UNUSABLE = 0, 1, 2

_HEAD = struct.Struct(f">8s5q2q2Iq{HEADER_BYTES}s")
_CRC = struct.Struct(">I")
_LETTERS_AND_DIGITS = bytes(byte if chr(byte).isalnum() and byte < 128 else 32 for byte in range(256)).lower()
_EXPONENT = re2.compile(rb"(?:^|[\s:,\[])-?[0-9]+(?:\.[0-9]+)?[eE][+-]?[0-9]+(?:$|[\s,\]}])")


class UnusableFilter(Exception):
    """The file is damaged, of another block, or not there."""


class ProbeBits(NamedTuple):
    """Where a token is in a filter."""

    page: int
    bits: tuple[int, ...]


def probe_bits(token: bytes, pages: int) -> ProbeBits:
    """The same at all times and everywhere."""
    hashed = int.from_bytes(blake2b(token, digest_size=8).digest(), "big")
    first, step = hashed & 0xFFFFFF, (hashed >> 24 & 0xFFFF) | 1
    return ProbeBits(
        (hashed >> 40) % pages, tuple((first + step * number) % _FILTER_BITS for number in range(PROBES))
    )


# ----------------------------------------------------------------------------------------------------------
# building


def batch_tokens(records: Sequence[Record]) -> set[bytes]:
    """All tokens of these events: what `tokens.filter_tokens` gives; the plain ones (ASCII without a
    backslash) all together, which is faster."""
    plain: list[bytes] = []
    found: set[bytes] = set()
    for record in records:
        parts = [part for _, part in record.headers if part is not None]
        if record.key is not None:
            parts.append(record.key)
        if record.value is not None:
            parts.append(record.value)
        if all(part.isascii() and b"\\" not in part for part in parts):
            plain += parts
        else:
            found.update(token.encode() for token in filter_tokens(record))
    joined = b"\n".join(plain)
    found.update(joined.translate(_LETTERS_AND_DIGITS).split())
    if _EXPONENT.search(joined) is not None:
        found.add(EXPONENT_TOKEN.encode())
    return found


class FilterBuilder:
    """The tokens and the times of a block's events, until they become a filter."""

    def __init__(self) -> None:
        self.tokens: set[bytes] = set()
        self.min_ms, self.max_ms = 1 << 62, -(1 << 62)
        self.events = 0
        self._size = 0

    def add(self, records: Sequence[Record]) -> bool:
        """Take in the events of a batch; False: the block is too large for a filter."""
        for record in records:
            self._size += len(record.value or b"")
            self.min_ms = min(self.min_ms, record.timestamp_ms)
            self.max_ms = max(self.max_ms, record.timestamp_ms)
        if self._size > BLOCK_BYTES_MAX:
            return False
        self.events += len(records)
        self.tokens |= batch_tokens(records)
        return True


def build_filter(unit: Unit, target: str) -> FilterInfo | None:
    """Make the filter of a block. None: a batch of it cannot be decoded, or it is too large: then it has to
    be read each time. DataDeleted, OSError."""
    gathered = FilterBuilder()
    last = -1
    with MappedRange(unit.path, unit.start, unit.end) as file:
        for batch in locate_batches(file.view):
            if batch.header is None:
                return None
            last = batch.position
            if batch.header.is_control:
                continue
            try:
                records = decode(file.view[batch.position : batch.end])
            except CorruptBatch:
                return None
            if not gathered.add(records):
                return None
        if last < 0:
            return None
        last_header = bytes(file.view[last : last + HEADER_BYTES])
    base = parse_segment(Path(unit.path).name) or 0
    return write_filter(unit, target, gathered, base, unit.start + last, last_header)


def write_filter(
    unit: Unit, target: str, gathered: FilterBuilder, base: int, last: int, last_header: bytes
) -> FilterInfo:
    """Write a filter. `last`: position of the batch with this header, which proves what it is of. OSError."""
    pages = max(1, -(-len(gathered.tokens) * BITS_PER_TOKEN // _FILTER_BITS))
    head = _HEAD.pack(
        MAGIC, base, unit.start, unit.end, unit.low, unit.high, gathered.min_ms, gathered.max_ms,
        gathered.events, pages, last, last_header,
    )  # fmt: skip
    _write(target, head, _filled(gathered.tokens, pages))
    return FilterInfo(
        target, unit.path, unit.start, unit.end, unit.low, unit.high, gathered.min_ms, gathered.max_ms,
        gathered.events,
    )  # fmt: skip


def _filled(found: Iterable[bytes], pages: int) -> list[bytearray]:
    filters = [bytearray(_FILTER_BYTES) for _ in range(pages)]
    for token in found:  # `probe_bits`, in line: it takes a third of the time of a build otherwise
        hashed = int.from_bytes(blake2b(token, digest_size=8).digest(), "big")
        filled = filters[(hashed >> 40) % pages]
        bit, step = hashed & 0xFFFFFF, (hashed >> 24 & 0xFFFF) | 1
        for _ in range(PROBES):
            filled[bit % _FILTER_BITS >> 3] |= _MASKS[bit % _FILTER_BITS & 7]
            bit += step
    return filters


def _write(target: str, head: bytes, filters: Sequence[bytearray]) -> None:
    """Under its name only when whole. Not synced: the CRCs tell what a power cut left."""
    os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
    parts: list[bytes | bytearray] = [(head + _CRC.pack(crc32c(head))).ljust(PAGE_BYTES, b"\0")]
    for number, page in enumerate(filters):
        parts += (page, _CRC.pack(crc32c(page, number)))
    partial = target + PARTIAL
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        file.writelines(parts)
    os.rename(partial, target)


# ----------------------------------------------------------------------------------------------------------
# asking


def _read_head(descriptor: int) -> tuple[Any, ...]:
    data = os.pread(descriptor, _HEAD.size + _CRC.size, 0)
    if len(data) < _HEAD.size + _CRC.size:
        raise UnusableFilter
    if data[:8] != MAGIC or _CRC.unpack_from(data, _HEAD.size)[0] != crc32c(data[: _HEAD.size]):
        raise UnusableFilter
    return _HEAD.unpack_from(data)


def _has(descriptor: int, token: bytes, pages: int) -> bool:
    number, bits = probe_bits(token, pages)
    data = os.pread(descriptor, PAGE_BYTES, PAGE_BYTES * (number + 1))
    if len(data) < PAGE_BYTES:
        raise UnusableFilter
    if _CRC.unpack_from(data, _FILTER_BYTES)[0] != crc32c(data[:_FILTER_BYTES], number):
        raise UnusableFilter
    return all(data[bit >> 3] >> (bit & 7) & 1 for bit in bits)


def test(path: str, start: int, end: int, clauses: Sequence[Sequence[bytes]]) -> int:
    """CANNOT_MATCH: no event of the block at these positions has a token of each clause. UNUSABLE: it must be
    made anew."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return UNUSABLE
    try:
        head = _read_head(descriptor)
        if head[2:4] != (start, end):
            return UNUSABLE
        for clause in clauses:
            if not any(_has(descriptor, token, head[9]) for token in clause):
                return CANNOT_MATCH
        return MAY_MATCH
    except (UnusableFilter, OSError):
        return UNUSABLE
    finally:
        os.close(descriptor)


def is_filter_path(path: Path) -> bool:
    """It has a filter's name, finished or not, in a folder with a partition's name. Nothing else is ever
    removed, whatever folder is given."""
    return _NAME.fullmatch(path.name) is not None and parse_partition(path.parent.name) is not None


def find_filters(root: str, partitions: str) -> list[FilterInfo]:
    """All filters below `root` that belong to the log below `partitions` as it is now. Other filters are
    removed."""
    heads = []
    for folder in _names(root):
        for name in _names(os.path.join(root, folder)):
            path = os.path.join(root, folder, name)
            head = _restored(path, os.path.join(partitions, folder)) if name.endswith(SUFFIX) else None
            if head is not None:
                heads.append(head)
            elif is_filter_path(Path(path)):
                Path(path).unlink(missing_ok=True)
    return heads


def _names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []


def read_filter_info(path: Path) -> tuple[FilterInfo, bytes] | None:
    """A filter's head, without a segment, and the header of its last batch; None: it is damaged."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _, _, start, end, first, after, least, most, events, _, _, header = _read_head(descriptor)
        finally:
            os.close(descriptor)
    except (UnusableFilter, OSError):
        return None
    return FilterInfo(str(path), "", start, end, first, after, least, most, events), header


def _restored(path: str, partition: str) -> FilterInfo | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            found = _read_head(descriptor)
        finally:
            os.close(descriptor)
        _, base, start, end, first, after, least, most, events, _, last, header = found
        segment = f"{partition}/{segment_name(base)}"
        descriptor = os.open(segment, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if os.pread(descriptor, HEADER_BYTES, last) != header or os.fstat(descriptor).st_size < end:
                return None
        finally:
            os.close(descriptor)
    except (UnusableFilter, OSError):
        return None
    return FilterInfo(path, segment, start, end, first, after, least, most, events)


def remove_filters(paths: Iterable[str]) -> None:
    """Filters whose data is gone, and folders that hold none any more."""
    for path in filter(is_filter_path, map(Path, paths)):
        path.unlink(missing_ok=True)
        try:
            path.parent.rmdir()
        except OSError:
            continue  # others are in it
