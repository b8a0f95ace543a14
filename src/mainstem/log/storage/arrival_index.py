"""When events arrived: one segment's sparse list of (wall ms, offset), `.arrivals`.

Owns: the list, its bytes and its look-ups. One pair at the segment's first batch, then at most one pair a
second, and one for the last batch when the segment is sealed. Times never fall, also when the clock goes
back. Refuses: record timestamps (`index.py`). Called by `segment.py`, `partition.py` and `offset_lookup.py`.

Layout: FORMAT.md, part "Arrivals".
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_left, bisect_right

from crc32c import crc32c

PAIR = struct.Struct(">qII")
"""Wall ms, relative offset, CRC32C of both: a power cut may leave half of a pair, which must not pass for an
early time, for retention believes it. 16 bytes, so that none lies across two sectors of the disk."""
_BODY = struct.Struct(">qI")
SPACING_MS = 1000
PLAUSIBLE_MS = 1_262_304_000_000
"""2010. Machines without a battery start with the clock at 1970, 1980 or 2000, until the network sets it."""


def age_ms(then_ms: int, now_ms: int) -> int:
    """How long ago it was by the wall clock; 0 if it was noted before the clock was set, for then nobody
    knows."""
    return 0 if then_ms < PLAUSIBLE_MS <= now_ms else now_ms - then_ms


class ArrivalIndex:
    """Pairs of one segment; offsets are relative to its base. Pair n says: the batch at this offset arrived
    then, and what came before the next pair arrived less than a second after it."""

    __slots__ = ("last_ms", "offsets", "times")

    def __init__(self) -> None:
        self.times = array("q")
        self.offsets = array("I")
        self.last_ms = -1
        """Of the newest batch, also when it has no pair."""

    def add(self, wall_ms: int, offset: int) -> None:
        """A batch at relative `offset` arrived. `wall_ms` is not before the last one's."""
        self.last_ms = wall_ms
        if not self.times or wall_ms - self.times[-1] >= SPACING_MS:
            self.times.append(wall_ms)
            self.offsets.append(offset)

    def seal(self, offset: int) -> None:
        """The batch at relative `offset` was the last one: note it too."""
        if self.times and self.last_ms > self.times[-1] and offset > self.offsets[-1]:
            self.times.append(self.last_ms)
            self.offsets.append(offset)

    def truncate(self, offset: int) -> None:
        """Forget what is at or after relative `offset`."""
        keep = bisect_left(self.offsets, offset)
        del self.times[keep:], self.offsets[keep:]

    def arrival_of(self, offset: int) -> int | None:
        """Wall ms of the pair at or before relative `offset`; None before the first."""
        at = bisect_right(self.offsets, offset) - 1
        return self.times[at] if at >= 0 else None

    def first_at_or_after(self, wall_ms: int) -> int | None:
        """Relative offset of the first batch that arrived at `wall_ms` or later, up to a second early; None
        if all that is noted arrived earlier."""
        at = bisect_left(self.times, wall_ms)
        if at and self.times[at - 1] + SPACING_MS > wall_ms:
            return self.offsets[at - 1]
        return self.offsets[at] if at < len(self.times) else None

    def first_plausible(self) -> int | None:
        """Wall ms of the first pair that was noted when the clock was set; None if none was."""
        at = bisect_left(self.times, PLAUSIBLE_MS)
        return self.times[at] if at < len(self.times) else None

    def pairs_below(self, offset: int) -> int:
        """Number of pairs before relative `offset`."""
        return bisect_left(self.offsets, offset)

    def to_bytes(self, first: int = 0, end: int | None = None) -> bytes:
        """The file from pair `first` to before `end`."""
        bodies = map(_BODY.pack, self.times[first:end], self.offsets[first:end])
        return b"".join(body + crc32c(body).to_bytes(4, "big") for body in bodies)

    @classmethod
    def parse(cls, data: bytes) -> ArrivalIndex:
        """From the file; what is damaged or does not rise, and all after it, is left out."""
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
