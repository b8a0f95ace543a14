"""The bytes of one page of the index of a namespace: up to 1,024 arrivals, or events of a queue.

Two kinds of pages. A page of *arrivals* says of each event where it is: partition and offset, how large it
is, when it arrived, its priority and deadline; an event has one entry, however many queues get it. A page of
a *queue* has the arrival sequences of its events. All fields are columns: the smallest value, and what each
entry has above it in 0, 1, 2, 4 or 8 bytes. So an arrival takes 4 to 12 bytes, an entry of a queue 0 to 4.

    0  magic "MSROUT", 6 bytes       then the columns, and at the end
    6  version, u16                  the CRC-32 of all bytes before, u32.
    8  namespace, u64
   16  queue, u64; 0: arrivals       column: width, u8 (bytes of an entry) | base, u64 | entries - base
   24  entries, u16                  columns of a queue: sequence
   26  partitions, u16; 0 for a      columns of arrivals: sequence, partition: number in the table, offset
       queue. Then for each of          (above the base in the table), size in bytes, priority, deadline: ms
       them: ordinal, u32 | base        since 1970, 0: none; arrival: ms since 1970
       of its offsets, u64           sequence: what is above base + number of the entry, so that sequences
                                        without a gap take no byte. All big-endian.

Owns: the layout, its checksum and its version. Refuses: to be the truth: a page is derived from the log, and
one that does not fit is damaged.
"""

from __future__ import annotations

import struct
import sys
from array import array
from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise
from operator import add
from typing import Final, NamedTuple
from zlib import crc32

MAGIC: Final = b"MSROUT"
VERSION: Final = 1
PAGE_ENTRIES: Final = 1024
"""How many entries a page has at most."""

_HEADER = struct.Struct(">6sHQQHH")
_PARTITION = struct.Struct(">IQ")
_COLUMN = struct.Struct(">BQ")
_CRC = struct.Struct(">I")
_TYPES: Final = {1: "B", 2: "H", 4: "I", 8: "Q"}
_LITTLE: Final = sys.byteorder == "little"


class DamagedIndexPage(Exception):
    """A stored page is not what was written. The index that read it must be built anew."""


class ColdIndexPage(Exception):
    """A stored page has to come from the disk, which takes time: its caller lets it be fetched, and asks
    again."""

    def __init__(self, place: int) -> None:
        super().__init__(f"the index page at {place} is not in memory")
        self.place = place


class Arrival(NamedTuple):
    """An event of a namespace: where it is, and what decides its delivery."""

    sequence: int
    partition: int
    """The ordinal of the partition in the namespace, below 2^32."""
    offset: int
    size: int
    """Bytes of the value; of events that an earlier version has published, with key and headers."""
    priority: int = 0
    deadline_ms: int = 0
    """When it expires by its own header, ms since 1970; 0: never."""
    arrived_ms: int = 0
    """When it arrived, ms since 1970: not before the one before it."""


class ArrivalsPage(NamedTuple):
    """A page of arrivals, decoded: columns of the same length."""

    sequences: Sequence[int]
    partitions: Sequence[int]
    offsets: Sequence[int]
    sizes: Sequence[int]
    priorities: Sequence[int]
    deadlines: Sequence[int]
    arrived: Sequence[int]

    def entry(self, number: int) -> Arrival:
        """The entry with this number, from 0."""
        return Arrival(*[column[number] for column in self])

    def find(self, sequence: int) -> Arrival | None:
        """The arrival with this sequence."""
        number = bisect_left(self.sequences, sequence)
        if number == len(self.sequences) or self.sequences[number] != sequence:
            return None
        return self.entry(number)


# ----------------------------------------------------------------------------------------------------------
# encoding


def _pack_column(values: Sequence[int]) -> bytes:
    base = min(values)
    span = max(values) - base
    if not span:
        return _COLUMN.pack(0, base)
    width = 1 if span < 1 << 8 else 2 if span < 1 << 16 else 4 if span < 1 << 32 else 8
    data = array(_TYPES[width], [value - base for value in values] if base else values)
    if _LITTLE:
        data.byteswap()
    return _COLUMN.pack(width, base) + data.tobytes()


def _pack_sequences(sequences: Sequence[int]) -> bytes:
    if sequences[-1] - sequences[0] == len(sequences) - 1:
        return _COLUMN.pack(0, sequences[0])
    return _pack_column([sequence - number for number, sequence in enumerate(sequences)])


def _page(namespace: int, queue: int, entries: int, partitions: int, body: Sequence[bytes]) -> bytes:
    data = b"".join((_HEADER.pack(MAGIC, VERSION, namespace, queue, entries, partitions), *body))
    return data + _CRC.pack(crc32(data))


def encode_arrivals(namespace: int, arrivals: Sequence[Arrival]) -> bytes:
    """The page of these arrivals, 1 to 1,024 with ascending sequences. ValueError: it is not so."""
    sequences, partitions, offsets, sizes, priorities, deadlines, arrived = zip(*arrivals, strict=True)
    _check_sequences(sequences)
    bases: dict[int, int] = {}
    for partition, offset in zip(partitions, offsets, strict=True):
        bases[partition] = min(offset, bases.get(partition, offset))
    numbers = {partition: number for number, partition in enumerate(bases)}
    body = [_PARTITION.pack(partition, base) for partition, base in bases.items()]
    body += (
        _pack_sequences(sequences),
        _pack_column([numbers[partition] for partition in partitions]),
        _pack_column([offset - bases[part] for part, offset in zip(partitions, offsets, strict=True)]),
        _pack_column(sizes),
        _pack_column(priorities),
        _pack_column(deadlines),
        _pack_column(arrived),
    )
    return _page(namespace, 0, len(arrivals), len(bases), body)


def encode_queue(namespace: int, queue: int, sequences: Sequence[int]) -> bytes:
    """The page of a queue with these sequences, 1 to 1,024, ascending. ValueError: it is not so,
    or `queue` is 0."""
    if not queue:
        raise ValueError("no queue has the number 0")
    _check_sequences(sequences)
    return _page(namespace, queue, len(sequences), 0, [_pack_sequences(sequences)])


def _check_sequences(sequences: Sequence[int]) -> None:
    if not 1 <= len(sequences) <= PAGE_ENTRIES:
        raise ValueError(f"a page has 1 to {PAGE_ENTRIES:,} entries, not {len(sequences):,}")
    span, count = sequences[-1] - sequences[0], len(sequences)
    if span == count - 1:
        return  # the usual case; that they ascend is the caller's promise
    if span < count or any(first >= second for first, second in pairwise(sequences)):
        raise ValueError("the sequences of a page ascend")


# ----------------------------------------------------------------------------------------------------------
# decoding


class _ColumnReader:
    """Reads the columns of a page whose checksum is right."""

    def __init__(self, data: bytes, entries: int) -> None:
        self.position = _HEADER.size
        self._data = data
        self._end = len(data) - _CRC.size
        self._entries = entries

    def take(self, size: int) -> bytes:
        """The next bytes. DamagedIndexPage: there are fewer."""
        start = self.position
        self.position += size
        if self.position > self._end:
            raise DamagedIndexPage("a column is cut off")
        return self._data[start : self.position]

    def column(self) -> Sequence[int]:
        """The next column."""
        width, base = _COLUMN.unpack(self.take(_COLUMN.size))
        if not width:
            return [base] * self._entries
        if width not in _TYPES:
            raise DamagedIndexPage(f"a column of {width} bytes an entry")
        values = array(_TYPES[width])
        values.frombytes(self.take(width * self._entries))
        if _LITTLE:
            values.byteswap()
        return [base + value for value in values] if base else values

    def sequences(self) -> Sequence[int]:
        """The next column, which has sequences."""
        above = self.column()
        first, last = above[0], above[-1] + self._entries - 1
        if last - first == self._entries - 1:
            return range(first, last + 1)
        return list(map(add, above, range(self._entries)))

    def finish(self) -> None:
        """Check that nothing follows. DamagedIndexPage."""
        if self.position != self._end:
            raise DamagedIndexPage(f"{self._end - self.position} bytes after the columns")


def _open(data: bytes, namespace: int, queue: int) -> tuple[_ColumnReader, int]:
    """Check header and checksum. Returns the reader, and the number of partitions."""
    if len(data) < _HEADER.size + _CRC.size:
        raise DamagedIndexPage(f"{len(data)} bytes are no page")
    magic, version, page_namespace, page_queue, entries, partitions = _HEADER.unpack_from(data)
    if magic != MAGIC:
        raise DamagedIndexPage("it does not begin as a page")
    if version != VERSION:
        raise DamagedIndexPage(f"its version is {version}, not {VERSION}")
    if crc32(memoryview(data)[: -_CRC.size]) != _CRC.unpack_from(data, len(data) - _CRC.size)[0]:
        raise DamagedIndexPage("its checksum is wrong")
    if (page_namespace, page_queue) != (namespace, queue):
        raise DamagedIndexPage(
            f"it is of queue {page_queue} of namespace {page_namespace}, not of queue {queue} of {namespace}"
        )
    if not 1 <= entries <= PAGE_ENTRIES:
        raise DamagedIndexPage(f"it has {entries:,} entries")
    return _ColumnReader(data, entries), partitions


def decode_arrivals(data: bytes, namespace: int) -> ArrivalsPage:
    """The arrivals of a page. DamagedIndexPage: the bytes are no page of arrivals of this namespace."""
    reader, count = _open(data, namespace, 0)
    table = [_PARTITION.unpack(reader.take(_PARTITION.size)) for _ in range(count)]
    sequences, numbers, above = reader.sequences(), reader.column(), reader.column()
    sizes, priorities, deadlines, arrived = (reader.column() for _ in range(4))
    reader.finish()
    if max(numbers) >= count:
        raise DamagedIndexPage(f"a partition has the number {max(numbers)}, of {count}")
    partitions = [table[number][0] for number in numbers]
    offsets = [table[number][1] + offset for number, offset in zip(numbers, above, strict=True)]
    return ArrivalsPage(sequences, partitions, offsets, sizes, priorities, deadlines, arrived)


def decode_queue(data: bytes, namespace: int, queue: int) -> Sequence[int]:
    """The sequences of a page of this queue, ascending. DamagedIndexPage: the bytes are no such page."""
    reader, partitions = _open(data, namespace, queue)
    if partitions:
        raise DamagedIndexPage("a page of a queue has partitions")
    sequences = reader.sequences()
    reader.finish()
    return sequences
