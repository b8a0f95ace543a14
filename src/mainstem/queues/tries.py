"""How often the positions of a page were acquired and failed, where that is not the usual count.

Owns: two counters a position, sparse while few have them, an array of 4 bytes a position otherwise. Counters
stop at 65,535. Refuses: to know which count is the usual one.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator
from itertools import compress

SPARSE_MAX = 96
"""With more entries a dict takes more memory than the array."""
COUNT_MAX = 0xFFFF
_POSITIONS = 4096
_ENTRY = struct.Struct(">HHH")
_COUNT = struct.Struct(">H")


class TryCounts:
    """Position in the page -> (acquisitions, failures), for those that have an entry: no entry is (0, 0)."""

    __slots__ = ("_array", "_sparse", "used")

    def __init__(self) -> None:
        self.used = False
        """Whether there may be entries: to ask before anything else, where speed counts."""
        self._sparse: dict[int, int] | None = None
        self._array: array[int] | None = None

    def __bool__(self) -> bool:
        return self.used

    def copied(self) -> TryCounts:
        """A copy, which changes of this one do not change."""
        copy = TryCounts()
        copy.used = self.used
        copy._sparse = None if self._sparse is None else dict(self._sparse)
        copy._array = None if self._array is None else self._array[:]
        return copy

    def get(self, offset: int) -> tuple[int, int] | None:
        """(acquisitions, failures), or None without an entry."""
        entry = 0
        if self._array is not None:
            entry = self._array[offset]
        elif self._sparse is not None:
            entry = self._sparse.get(offset, 0)
        return (entry >> 16, entry & COUNT_MAX) if entry else None

    def put(self, offset: int, acquisitions: int, failures: int) -> None:
        """Sets an entry; not both counters are 0."""
        entry = min(acquisitions, COUNT_MAX) << 16 | min(failures, COUNT_MAX)
        self.used = True
        if self._array is not None:
            self._array[offset] = entry
            return
        if self._sparse is None:
            self._sparse = {}
        self._sparse[offset] = entry
        if len(self._sparse) > SPARSE_MAX:
            self._array = array("I", bytes(4 * _POSITIONS))
            for place, value in self._sparse.items():
                self._array[place] = value
            self._sparse = None

    def within(self, first: int, end: int) -> list[int]:
        """The positions of a range that have an entry, ascending."""
        if self._array is not None:
            part = self._array[first:end]
            return [first + index for index, entry in enumerate(part) if entry]
        if self._sparse is None:
            return []
        if end - first == 1:
            return [first] if first in self._sparse else []
        return sorted(offset for offset in self._sparse if first <= offset < end)

    def clear(self, first: int, end: int) -> None:
        """Removes the entries of a range."""
        if self._array is not None:
            self._array[first:end] = array("I", bytes(4 * (end - first)))
            return
        if self._sparse is None:
            return
        if end - first == 1:
            self._sparse.pop(first, None)
        else:
            for offset in self.within(first, end):
                del self._sparse[offset]
        if not self._sparse:
            self._sparse = None
            self.used = False

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        """(position, acquisitions, failures), ascending."""
        for offset in self.within(0, _POSITIONS):
            entry = self._array[offset] if self._array is not None else (self._sparse or {})[offset]
            yield offset, entry >> 16, entry & COUNT_MAX

    def column(self, chosen: bytes) -> array[int] | None:
        """The entries of the positions whose byte in `chosen` is 1, ascending, as acquisitions << 16 |
        failures, 0 without one. None: they are so few that `encode` takes less."""
        counts = self._array
        if counts is None or _POSITIONS - counts.count(0) <= SPARSE_MAX:
            return None
        return array("I", compress(counts, chosen))

    @classmethod
    def of_column(cls, offsets: list[int], column: array[int]) -> TryCounts:
        """The entries of what `column` returned, of these positions. ValueError if they are damaged."""
        tries = cls()
        counts = tries._array = array("I", bytes(4 * _POSITIONS))
        for offset, entry in zip(offsets, column, strict=True):
            counts[offset] = entry
        tries.used = counts.count(0) < _POSITIONS - SPARSE_MAX
        if not tries.used:
            raise ValueError("damaged tries: they are few, and not in a list")
        return tries

    def encode(self) -> bytes:
        """The entries as bytes: their number, and 6 bytes each."""
        entries = list(self)
        return _COUNT.pack(len(entries)) + b"".join(_ENTRY.pack(*entry) for entry in entries)

    @staticmethod
    def behind(data: bytes) -> bytes:
        """What follows the entries of bytes. ValueError if they are cut off."""
        end = _COUNT.size
        if len(data) >= end:
            end += _ENTRY.size * _COUNT.unpack_from(data)[0]
        if len(data) < end:
            raise ValueError("damaged tries: they are cut off")
        return data[end:]

    @classmethod
    def decode(cls, data: bytes) -> tuple[TryCounts, bytes]:
        """The entries of bytes, and what follows them. ValueError if they are damaged."""
        tries, rest = cls(), cls.behind(data)
        previous = -1
        for offset, acquisitions, failures in _ENTRY.iter_unpack(data[_COUNT.size : len(data) - len(rest)]):
            if not previous < offset < _POSITIONS or not acquisitions | failures:
                raise ValueError("damaged tries: their positions do not ascend, or an entry is empty")
            tries.put(offset, acquisitions, failures)
            previous = offset
        return tries, rest
