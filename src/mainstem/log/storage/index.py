"""The offset index and time index of a segment (`.index` and `.timeindex`), by Apache Kafka's rules.

Owns: the two lists in memory, their bytes, when an entry is added (Kafka: LogSegment.append, OffsetIndex,
TimeIndex) and the lookups. Refuses: files and the log; `partition/index_loading.py` reads and verifies them.
An index is never trusted: an entry is a hint where to begin to read, and the batch header there decides.

Layout: FORMAT.md, part "Indexes".
"""

from __future__ import annotations

import struct
import sys
from array import array
from bisect import bisect_left, bisect_right

from mainstem.log.storage.record_batch import BatchHeader

OFFSET_ENTRY_BYTES = 8
TIME_ENTRY_BYTES = 12
_OFFSET_ENTRY = struct.Struct(">II")
MAX_RELATIVE_OFFSET = (1 << 31) - 1


def last_offset_entry(data: bytes, end_position: int) -> tuple[int, int] | None:
    """(claimed last offset, position) of the last entry in the bytes of an `.index` file that begins before
    `end_position`; None if there is none."""
    for start in range(len(data) // OFFSET_ENTRY_BYTES * OFFSET_ENTRY_BYTES - 8, -1, -OFFSET_ENTRY_BYTES):
        last_offset, position = _OFFSET_ENTRY.unpack_from(data, start)
        if position < end_position:
            return last_offset, position
    return None


class SegmentIndex:
    """Both indexes of one segment. Offsets are relative to the segment's base."""

    __slots__ = (
        "_offsets", "_positions", "_time_offsets", "_times", "bytes_since_entry", "max_timestamp",
        "max_timestamp_offset",
    )  # fmt: skip

    def __init__(self) -> None:
        self._offsets = array("I")
        self._positions = array("I")
        self._times = array("q")
        self._time_offsets = array("I")
        self.bytes_since_entry = 0
        """Bytes of log from the beginning of the batch with the last `.index` entry."""
        self.max_timestamp = -1
        """The largest timestamp of all batches so far, ms; -1: none has one."""
        self.max_timestamp_offset = 0
        """Relative last offset of the first batch with the largest timestamp."""

    # --- growing ------------------------------------------------------------------------------------------

    def append(
        self, last_offset: int, position: int, size: int, max_timestamp: int, interval_bytes: int
    ) -> None:
        """Note that a batch was appended at `position`. Adds an entry if more than `interval_bytes` were
        appended since the last one."""
        if max_timestamp > self.max_timestamp:
            self.max_timestamp = max_timestamp
            self.max_timestamp_offset = last_offset
        if self.bytes_since_entry > interval_bytes:
            assert not self._positions or position > self._positions[-1], "index entries rise strictly"
            self._offsets.append(last_offset)
            self._positions.append(position)
            self.add_time_entry()
            self.bytes_since_entry = 0
        self.bytes_since_entry += size

    def add_header(self, base: int, position: int, header: BatchHeader, interval_bytes: int) -> None:
        """As `append`, for a batch that was read from the log. A batch at or before the last entry adds
        none."""
        last = header.last_offset - base
        if not self._positions or position > self._positions[-1]:
            self.append(last, position, header.total_bytes, header.max_timestamp, interval_bytes)
            return
        if header.max_timestamp > self.max_timestamp:
            self.max_timestamp = header.max_timestamp
            self.max_timestamp_offset = last
        self.bytes_since_entry += header.total_bytes

    def add_time_entry(self) -> None:
        """Add the largest timestamp so far, if it is larger than the one of the last entry. Also called when
        the segment is sealed or closed."""
        if self.max_timestamp > (self._times[-1] if self._times else -1):
            self._times.append(self.max_timestamp)
            self._time_offsets.append(self.max_timestamp_offset)

    def is_full(self, index_bytes: int) -> bool:
        """Whether one more entry would not fit into index files of `index_bytes`. One time entry is reserved
        for the seal."""
        return (
            len(self._offsets) >= index_bytes // OFFSET_ENTRY_BYTES
            or len(self._times) >= index_bytes // TIME_ENTRY_BYTES - 1
        )

    def truncate(self, offset: int) -> None:
        """Remove entries of batches that end at or after relative `offset`. To continue the index, read the
        log from `resume_position()`."""
        keep = bisect_left(self._offsets, offset)
        del self._offsets[keep:], self._positions[keep:]
        keep = bisect_left(self._time_offsets, offset)
        del self._times[keep:], self._time_offsets[keep:]

    def resume_position(self) -> int:
        """Reset the counters to the last entries. Return the position from which batches must be added with
        `add_header`, so that the index is as if it had never been interrupted."""
        self.bytes_since_entry = 0
        self.max_timestamp = self._times[-1] if self._times else -1
        self.max_timestamp_offset = self._time_offsets[-1] if self._times else 0
        return self._positions[-1] if self._positions else 0

    # --- lookups ---------------------------------------------------------------------------------------

    def position_before(self, offset: int) -> tuple[int, int | None]:
        """(position of a batch at or before the one with relative `offset`, the last offset that the entry
        claims for that batch); (0, None) if there is no such entry."""
        i = bisect_right(self._offsets, offset) - 1
        return (self._positions[i], self._offsets[i]) if i >= 0 else (0, None)

    def position_after(self, offset: int) -> int | None:
        """Position of the first batch with an entry that begins after relative `offset`; None if there is
        none."""
        i = bisect_right(self._offsets, offset)
        # The batch of the first entry with a larger last offset may contain `offset`; the next one cannot.
        return self._positions[i + 1] if i + 1 < len(self._positions) else None

    def last_between(self, start: int, end: int) -> tuple[int, int] | None:
        """(position, claimed last offset) of the last batch with an entry that begins after position `start`
        and before position `end`."""
        i = bisect_left(self._positions, end) - 1
        if i < 0 or self._positions[i] <= start:
            return None
        return self._positions[i], self._offsets[i]

    def offset_before_time(self, timestamp_ms: int) -> int:
        """A relative offset: all records up to it are older than `timestamp_ms`. -1 if no entry says so."""
        i = bisect_left(self._times, timestamp_ms) - 1
        return self._time_offsets[i] if i >= 0 else -1

    # --- bytes --------------------------------------------------------------------------------------------

    @property
    def entries(self) -> tuple[int, int]:
        """Number of entries: offsets, times."""
        return len(self._offsets), len(self._times)

    def entries_below(self, offset: int) -> tuple[int, int]:
        """Number of entries of batches that end before relative `offset`."""
        return bisect_left(self._offsets, offset), bisect_left(self._time_offsets, offset)

    def memory_bytes(self) -> int:
        """Bytes of memory that the two indexes use."""
        return len(self._offsets) * 8 + len(self._times) * 12

    def offset_bytes(self, first: int = 0, end: int | None = None) -> bytes:
        """Bytes of the `.index` file, from entry `first` to before `end`."""
        return _interleave(self._offsets[first:end], self._positions[first:end])

    def time_bytes(self, first: int = 0, end: int | None = None) -> bytes:
        """Bytes of the `.timeindex` file, from entry `first` to before `end`."""
        times = _big_endian(self._times[first:end])
        offsets = _big_endian(self._time_offsets[first:end])
        out = bytearray(len(times) // 8 * TIME_ENTRY_BYTES)
        for byte in range(8):
            out[byte::TIME_ENTRY_BYTES] = times[byte::8]
        for byte in range(4):
            out[8 + byte :: TIME_ENTRY_BYTES] = offsets[byte::4]
        return bytes(out)

    def truncate_to_entries(self, entries: tuple[int, int]) -> bool:
        """Keep only the first `entries` (of offsets, of times). False if there are fewer; nothing is changed
        then."""
        offsets, times = entries
        if len(self._offsets) < offsets or len(self._times) < times:
            return False
        del self._offsets[offsets:], self._positions[offsets:]
        del self._times[times:], self._time_offsets[times:]
        return True

    @classmethod
    def parse(
        cls, offset_data: bytes, time_data: bytes, end_offset: int, end_position: int
    ) -> SegmentIndex | None:
        """The index in the bytes of the two files; None if they cannot be valid. Entries beyond the end of
        the log (relative offset, position) are left out: a power cut may keep entries and lose their
        batches."""
        index = cls()
        index._offsets, index._positions = _split(offset_data)
        index._times, index._time_offsets = _split_times(time_data)
        lists = (index._offsets, index._positions, index._times, index._time_offsets)
        if not all(map(_strictly_rising, lists)):
            return None
        if index._offsets and not index._times:
            return None  # the first entry adds a time too, unless no record has one: the file was lost
        index.truncate(end_offset)
        if index._positions and not 0 < index._positions[0] <= index._positions[-1] < end_position:
            return None
        return index


def _strictly_rising(values: array[int]) -> bool:
    previous = -1
    for value in values:
        if value <= previous:
            return False
        previous = value
    return True


def _big_endian(values: array[int]) -> bytes:
    if sys.byteorder == "little":
        values = values[:]
        values.byteswap()
    return values.tobytes()


def _interleave(left: array[int], right: array[int]) -> bytes:
    pairs = array("I", bytes(8 * len(left)))
    pairs[0::2] = left
    pairs[1::2] = right
    return _big_endian(pairs)


def _split(data: bytes) -> tuple[array[int], array[int]]:
    pairs = array("I", data[: len(data) // OFFSET_ENTRY_BYTES * OFFSET_ENTRY_BYTES])
    if sys.byteorder == "little":
        pairs.byteswap()
    return pairs[0::2], pairs[1::2]


def _split_times(data: bytes) -> tuple[array[int], array[int]]:
    count = len(data) // TIME_ENTRY_BYTES
    whole = data[: count * TIME_ENTRY_BYTES]
    times, offsets = bytearray(count * 8), bytearray(count * 4)
    for byte in range(8):
        times[byte::8] = whole[byte::TIME_ENTRY_BYTES]
    for byte in range(4):
        offsets[byte::4] = whole[8 + byte :: TIME_ENTRY_BYTES]
    out = array("q", bytes(times)), array("I", bytes(offsets))
    if sys.byteorder == "little":
        for values in out:
            values.byteswap()
    return out
