"""Token filters: files that show which search blocks cannot match, without reading the blocks.

The `.tokens` file of a block has a Bloom filter of all tokens of its events, the least and the largest of
their times, and a proof that it belongs to these bytes of the log. Filters are optional: if one is missing or
damaged, its block is read.

Owns: the file format, and building, testing, finding and removing the files, in the search workers. Refuses:
to decide which filters are built (`local/token_filter_store.py`, `cluster/filters.py`), and what a token is
(`text/tokens.py`).

    page 0     | "MSTOKEN2" | segment base, start, end, first offset, next offset  5 x int64 |
               | least, largest time  2 x int64 | events, pages  2 x uint32 |
               | position of the last batch  int64 | header of that batch  61 bytes | CRC32C of all before |
    page 1...  | 4,092 bytes of filter | CRC32C of them, begun with the page's number  uint32 |

A token's hash chooses a page and PROBES bits in it, so that testing for a token reads 4 KB. With 12 bits for
each token, about 1 block in 250 is read in vain. The header of the last batch is the proof: if the log was
truncated and written again, after a power cut for example, a batch at the same position has a later leader
epoch.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import re2
from crc32c import crc32c

from mainstem.log.errors import CorruptBatch
from mainstem.log.paths import parse_partition, parse_segment, segment_name
from mainstem.log.storage.record_batch import HEADER_BYTES, Record, decode
from mainstem.search.blocks.batches import MappedRange, locate_batches
from mainstem.search.ipc import FilterInfo, Unit
from mainstem.search.text.tokens import EXPONENT_TOKEN, filter_tokens

MAGIC = b"MSTOKEN2"
"""Must change when `tokens.filter_tokens` changes: filters of another version are built again."""
SUFFIX = ".tokens"
PARTIAL = ".partial"
_NAME = re.compile(r"[0-9]{20}(-[0-9]+-[0-9]+)?\.tokens(\.partial)?")
"""Name of a filter's file. Filters of a cluster's spans have the longer form, with end offset and epoch."""
PAGE_BYTES = 4096
_FILTER_BYTES = PAGE_BYTES - 4
_FILTER_BITS = _FILTER_BYTES * 8
_MASKS = tuple(1 << bit for bit in range(8))
BITS_PER_TOKEN = 12
PROBES = 7
BLOCK_BYTES_MAX = 256 << 20
"""A block that is larger when decompressed gets no filter, because building it would need too much memory."""
MAY_MATCH, CANNOT_MATCH, UNUSABLE = 0, 1, 2
"""Results of `test`."""

_HEAD = struct.Struct(f">8s5q2q2Iq{HEADER_BYTES}s")
_CRC = struct.Struct(">I")
_LETTERS_AND_DIGITS = bytes(byte if chr(byte).isalnum() and byte < 128 else 32 for byte in range(256)).lower()
_EXPONENT = re2.compile(rb"(?:^|[\s:,\[])-?[0-9]+(?:\.[0-9]+)?[eE][+-]?[0-9]+(?:$|[\s,\]}])")


class UnusableFilter(Exception):
    """Raised for a filter file that is too short or damaged; its block must be read."""


class ProbeBits(NamedTuple):
    """The bits that a filter must have set if it has a token: `bits` within one `page`."""

    page: int
    bits: tuple[int, ...]


def probe_bits(token: bytes, pages: int) -> ProbeBits:
    """The bits of a token in a filter of this many pages. Part of the file format: it must never change."""
    token_hash = int.from_bytes(blake2b(token, digest_size=8).digest(), "big")
    first, step = token_hash & 0xFFFFFF, (token_hash >> 24 & 0xFFFF) | 1
    return ProbeBits(
        (token_hash >> 40) % pages, tuple((first + step * i) % _FILTER_BITS for i in range(PROBES))
    )


# ----------------------------------------------------------------------------------------------------------
# building


def batch_tokens(records: Sequence[Record]) -> set[bytes]:
    """All tokens of these events, as `tokens.filter_tokens` gives them. Plain events (ASCII without a
    backslash) are processed together, which is faster."""
    plain: list[bytes] = []
    event_tokens: set[bytes] = set()
    for record in records:
        parts = [part for _, part in record.headers if part is not None]
        if record.key is not None:
            parts.append(record.key)
        if record.value is not None:
            parts.append(record.value)
        if all(part.isascii() and b"\\" not in part for part in parts):
            plain += parts
        else:
            event_tokens.update(token.encode() for token in filter_tokens(record))
    joined = b"\n".join(plain)
    event_tokens.update(joined.translate(_LETTERS_AND_DIGITS).split())
    if _EXPONENT.search(joined) is not None:
        event_tokens.add(EXPONENT_TOKEN.encode())
    return event_tokens


class FilterBuilder:
    """Collects the tokens and times of a block's events, from which the block's filter is written."""

    def __init__(self) -> None:
        self.tokens: set[bytes] = set()
        self.min_ms, self.max_ms = 1 << 62, -(1 << 62)
        self.events = 0
        self._size = 0

    def add(self, records: Sequence[Record]) -> bool:
        """Add the events of a batch. False: the block is too large for a filter."""
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
    """Build the filter of a block and write it to `target`. None: the block can have no filter, because it is
    too large or a batch cannot be decoded. Raises DataDeleted, OSError."""
    builder = FilterBuilder()
    last_position = -1
    with MappedRange(unit.path, unit.start, unit.end) as file:
        for batch in locate_batches(file.view, end_offset=unit.high):
            if batch.header is None:
                return None
            last_position = batch.position
            if batch.header.is_control:
                continue
            try:
                records = decode(file.view[batch.position : batch.end])
            except CorruptBatch:
                return None
            if not builder.add(records):
                return None
        if last_position < 0:
            return None
        last_header = bytes(file.view[last_position : last_position + HEADER_BYTES])
    base = parse_segment(Path(unit.path).name) or 0
    return write_filter(unit, target, builder, base, unit.start + last_position, last_header)


def write_filter(
    unit: Unit, target: str, builder: FilterBuilder, base: int, last_position: int, last_header: bytes
) -> FilterInfo:
    """Write a filter to `target`. The last batch, with its position and header, proves what the filter
    belongs to. Raises OSError."""
    assert len(last_header) == HEADER_BYTES, "a batch header has 61 bytes"
    pages = max(1, -(-len(builder.tokens) * BITS_PER_TOKEN // _FILTER_BITS))
    head = _HEAD.pack(
        MAGIC, base, unit.start, unit.end, unit.low, unit.high, builder.min_ms, builder.max_ms,
        builder.events, pages, last_position, last_header,
    )  # fmt: skip
    _write(target, head, _filter_pages(builder.tokens, pages))
    return FilterInfo(
        target, unit.path, unit.start, unit.end, unit.low, unit.high, builder.min_ms, builder.max_ms,
        builder.events,
    )  # fmt: skip


def _filter_pages(all_tokens: Iterable[bytes], page_count: int) -> list[bytearray]:
    pages = [bytearray(_FILTER_BYTES) for _ in range(page_count)]
    for token in all_tokens:  # `probe_bits` inlined: calling it takes a third of the time of a build
        token_hash = int.from_bytes(blake2b(token, digest_size=8).digest(), "big")
        page = pages[(token_hash >> 40) % page_count]
        bit, step = token_hash & 0xFFFFFF, (token_hash >> 24 & 0xFFFF) | 1
        for _ in range(PROBES):
            page[bit % _FILTER_BITS >> 3] |= _MASKS[bit % _FILTER_BITS & 7]
            bit += step
    return pages


def _write(target: str, head: bytes, pages: Sequence[bytearray]) -> None:
    """Write the file under a temporary name and rename it when it is whole. It is not synced, because the
    CRCs show what a power cut has left incomplete."""
    os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
    parts: list[bytes | bytearray] = [(head + _CRC.pack(crc32c(head))).ljust(PAGE_BYTES, b"\0")]
    for number, page in enumerate(pages):
        assert len(page) == _FILTER_BYTES, "a page of a filter is full"
        parts += (page, _CRC.pack(crc32c(page, number)))
    partial = target + PARTIAL
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        file.writelines(parts)
    os.rename(partial, target)


# ----------------------------------------------------------------------------------------------------------
# testing


class _FilterHead(NamedTuple):
    """The fields of page 0 of a filter's file, in the order of the file format."""

    magic: bytes
    base: int
    start: int
    end: int
    first_offset: int
    next_offset: int
    min_ms: int
    max_ms: int
    events: int
    pages: int
    last_position: int
    last_header: bytes

    def info(self, filter_path: str, segment_path: str) -> FilterInfo:
        return FilterInfo(
            filter_path, segment_path, self.start, self.end, self.first_offset, self.next_offset,
            self.min_ms, self.max_ms, self.events,
        )  # fmt: skip


def _read_head(descriptor: int) -> _FilterHead:
    data = os.pread(descriptor, _HEAD.size + _CRC.size, 0)
    if len(data) < _HEAD.size + _CRC.size:
        raise UnusableFilter
    if data[:8] != MAGIC or _CRC.unpack_from(data, _HEAD.size)[0] != crc32c(data[: _HEAD.size]):
        raise UnusableFilter
    return _FilterHead._make(_HEAD.unpack_from(data))


def _has(descriptor: int, token: bytes, pages: int) -> bool:
    number, bits = probe_bits(token, pages)
    data = os.pread(descriptor, PAGE_BYTES, PAGE_BYTES * (number + 1))
    if len(data) < PAGE_BYTES:
        raise UnusableFilter
    if _CRC.unpack_from(data, _FILTER_BYTES)[0] != crc32c(data[:_FILTER_BYTES], number):
        raise UnusableFilter
    return all(data[bit >> 3] >> (bit & 7) & 1 for bit in bits)


def test(path: str, start: int, end: int, clauses: Sequence[Sequence[bytes]]) -> int:
    """Test a filter for the block between these positions. CANNOT_MATCH: no event has a token of each clause.
    UNUSABLE: the filter must be built again."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return UNUSABLE
    try:
        head = _read_head(descriptor)
        if (head.start, head.end) != (start, end):
            return UNUSABLE
        for clause in clauses:
            if not any(_has(descriptor, token, head.pages) for token in clause):
                return CANNOT_MATCH
        return MAY_MATCH
    except (UnusableFilter, OSError):
        return UNUSABLE
    finally:
        os.close(descriptor)


def is_filter_path(path: Path) -> bool:
    """Whether the path has a filter's name, complete or partial, in a folder with a partition's name. Only
    such files are ever removed."""
    return _NAME.fullmatch(path.name) is not None and parse_partition(path.parent.name) is not None


def find_filters(root: str, partitions: str) -> list[FilterInfo]:
    """Find the filters below `root` that belong to the present log below `partitions`, and remove the other
    filters."""
    filters = []
    for folder in _entries(root):
        for name in _entries(os.path.join(root, folder)):
            path = os.path.join(root, folder, name)
            info = _verified(path, os.path.join(partitions, folder)) if name.endswith(SUFFIX) else None
            if info is not None:
                filters.append(info)
            elif is_filter_path(Path(path)):
                Path(path).unlink(missing_ok=True)
    return filters


def _entries(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []


def read_filter_info(path: Path) -> tuple[FilterInfo, bytes] | None:
    """The block that a filter's first page describes, without the path of a segment, and the header of the
    block's last batch. None: the file is damaged or missing."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            head = _read_head(descriptor)
        finally:
            os.close(descriptor)
    except (UnusableFilter, OSError):
        return None
    return head.info(str(path), ""), head.last_header


def _verified(path: str, partition: str) -> FilterInfo | None:
    """The block that a filter's first page describes. None: the file is damaged, or the segment does not have
    the filter's last batch at its position."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            head = _read_head(descriptor)
        finally:
            os.close(descriptor)
        segment = f"{partition}/{segment_name(head.base)}"
        descriptor = os.open(segment, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if os.pread(descriptor, HEADER_BYTES, head.last_position) != head.last_header:
                return None
            if os.fstat(descriptor).st_size < head.end:
                return None
        finally:
            os.close(descriptor)
    except (UnusableFilter, OSError):
        return None
    return head.info(path, segment)


def remove_filters(paths: Iterable[str]) -> None:
    """Remove the files of these filters, and folders that are empty afterwards. Other paths are ignored."""
    for path in filter(is_filter_path, map(Path, paths)):
        path.unlink(missing_ok=True)
        try:
            path.parent.rmdir()
        except OSError:
            continue  # The folder is not empty.
