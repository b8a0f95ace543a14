"""The arrival index of a segment: a sparse list of (wall-clock ms, offset), the `.arrivals` file.

Owns: the list, its bytes and its lookups. It has one pair for the segment's first batch, then at most one
pair a second, and one for the last batch when the segment is sealed. Times never decrease, even when the
clock is set back. Refuses: record timestamps (`index.py`).

Layout: FORMAT.md, part "Arrivals".
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_left, bisect_right

from crc32c import crc32c

PAIR = struct.Struct(">qII")
"""Wall-clock ms, relative offset, CRC32C of both. A power cut may leave half of a pair: without the CRC,
retention would take it for an early time. 16 bytes, so that no pair spans two sectors of the disk."""
_BODY = struct.Struct(">qI")
SPACING_MS = 1000
PLAUSIBLE_MS = 1_262_304_000_000
"""The year 2010. Machines without a battery start with the clock at 1970, 1980 or 2000, until the network
sets it."""


def age_ms(then_ms: int, now_ms: int) -> int:
    """Milliseconds between the two by the wall clock; 0 if `then_ms` was noted before the clock was set,
    because the age is unknown then."""
    return 0 if then_ms < PLAUSIBLE_MS <= now_ms else now_ms - then_ms


class ArrivalIndex:
    """The pairs of one segment. Offsets are relative to its base. The batch at the offset of a pair arrived
    at the time of that pair, and batches up to the next pair arrived less than a second later."""

    __slots__ = ("last_ms", "offsets", "times")

    def __init__(self) -> None:
        self.times = array("q")
        self.offsets = array("I")
        self.last_ms = -1
        """When the newest batch arrived, even if it has no pair; -1: there is none."""

    def add(self, wall_ms: int, offset: int) -> None:
        """Note that a batch at relative `offset` arrived at `wall_ms`, not before the previous one."""
        assert wall_ms >= self.last_ms, "arrival times never decrease"
        self.last_ms = wall_ms
        if not self.times or wall_ms - self.times[-1] >= SPACING_MS:
            self.times.append(wall_ms)
            self.offsets.append(offset)

    def seal(self, offset: int) -> None:
        """Add a pair for the batch at relative `offset`, which is the last one: the segment ends."""
        if self.times and self.last_ms > self.times[-1] and offset > self.offsets[-1]:
            self.times.append(self.last_ms)
            self.offsets.append(offset)

    def truncate(self, offset: int) -> None:
        """Remove pairs at or after relative `offset`."""
        keep = bisect_left(self.offsets, offset)
        del self.times[keep:], self.offsets[keep:]

    def arrival_of(self, offset: int) -> int | None:
        """Wall-clock ms of the pair at or before relative `offset`; None before the first pair."""
        i = bisect_right(self.offsets, offset) - 1
        return self.times[i] if i >= 0 else None

    def first_at_or_after(self, wall_ms: int) -> int | None:
        """Relative offset of the first batch that arrived at `wall_ms` or later. May be the offset of a batch
        that arrived up to a second earlier. None if all pairs are earlier."""
        i = bisect_left(self.times, wall_ms)
        if i and self.times[i - 1] + SPACING_MS > wall_ms:
            return self.offsets[i - 1]
        return self.offsets[i] if i < len(self.times) else None

    def first_plausible(self) -> int | None:
        """Wall-clock ms of the first pair that was noted with the clock set; None if there is none."""
        i = bisect_left(self.times, PLAUSIBLE_MS)
        return self.times[i] if i < len(self.times) else None

    def pairs_below(self, offset: int) -> int:
        """Number of pairs before relative `offset`."""
        return bisect_left(self.offsets, offset)

    def to_bytes(self, first: int = 0, end: int | None = None) -> bytes:
        """Bytes of the file, from pair `first` to before pair `end`."""
        bodies = map(_BODY.pack, self.times[first:end], self.offsets[first:end])
        return b"".join(body + crc32c(body).to_bytes(4, "big") for body in bodies)

    @classmethod
    def parse(cls, data: bytes) -> ArrivalIndex:
        """The index in the bytes of a file, up to the first pair that is damaged or out of order."""
        arrivals = cls()
        whole = memoryview(data)[: len(data) // PAIR.size * PAIR.size]
        for wall_ms, offset, crc in PAIR.iter_unpack(whole):
            if crc != crc32c(_BODY.pack(wall_ms, offset)) or wall_ms < 0:
                break
            if arrivals.times and (wall_ms < arrivals.times[-1] or offset <= arrivals.offsets[-1]):
                break
            arrivals.times.append(wall_ms)
            arrivals.offsets.append(offset)
        arrivals.last_ms = arrivals.times[-1] if arrivals.times else -1
        return arrivals
