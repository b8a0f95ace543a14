"""A set of numbers whose lowest is known: which page is next.

Owns: the numbers as bits, 64 to an integer, and a heap of these. Numbers that are near each other, as those
of pages are, take 3 bytes each.
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heappop, heappush

_SHIFT = 6
_MASK = (1 << _SHIFT) - 1


class LowestFirst:
    """Numbers, the lowest first. A group of numbers that was removed stays in the heap until it is the
    lowest, or until the heap is twice as large as needed."""

    __slots__ = ("_groups", "_heap")

    def __init__(self, numbers: Iterable[int] = ()) -> None:
        self._groups: dict[int, int] = {}
        """Number >> 6 -> the bits of its numbers, never 0."""
        self._heap: list[int] = []
        for number in numbers:
            self.add(number)

    def __len__(self) -> int:
        return sum(bits.bit_count() for bits in self._groups.values())

    def __contains__(self, number: int) -> bool:
        return bool(self._groups.get(number >> _SHIFT, 0) >> (number & _MASK) & 1)

    @property
    def lowest(self) -> int | None:
        """The lowest number, or None."""
        heap = self._heap
        while heap:
            group = heap[0]
            if bits := self._groups.get(group):
                return (group << _SHIFT) + (bits & -bits).bit_length() - 1
            heappop(heap)
        return None

    def add(self, number: int) -> None:
        """Adds a number that may be in it."""
        group = number >> _SHIFT
        bits = self._groups.get(group)
        if bits is not None:
            self._groups[group] = bits | 1 << (number & _MASK)
            return
        self._groups[group] = 1 << (number & _MASK)
        heappush(self._heap, group)
        if len(self._heap) > 2 * len(self._groups) + 64:
            self._heap = sorted(self._groups)  # a sorted list is a heap

    def discard(self, number: int) -> None:
        """Removes a number that may not be in it."""
        group = number >> _SHIFT
        bits = self._groups.get(group, 0) & ~(1 << (number & _MASK))
        if bits:
            self._groups[group] = bits
        else:
            self._groups.pop(group, None)
