"""A set of numbers whose lowest is known: which page is next.

Owns: a heap with a set beside it, so that a number is in it once and can be removed from the middle.
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heappop, heappush


class LowestFirst:
    """Numbers, the lowest first. What was removed stays in the heap until it is the lowest, or until the heap
    is twice as large as the set."""

    __slots__ = ("_heap", "_numbers")

    def __init__(self, numbers: Iterable[int] = ()) -> None:
        self._numbers = set(numbers)
        self._heap = sorted(self._numbers)  # a sorted list is a heap

    def __len__(self) -> int:
        return len(self._numbers)

    def __contains__(self, number: int) -> bool:
        return number in self._numbers

    @property
    def lowest(self) -> int | None:
        """The lowest number, or None."""
        heap = self._heap
        while heap:
            if heap[0] in self._numbers:
                return heap[0]
            heappop(heap)
        return None

    def add(self, number: int) -> None:
        """Adds a number that may be in it."""
        if number in self._numbers:
            return
        self._numbers.add(number)
        heappush(self._heap, number)
        if len(self._heap) > 2 * len(self._numbers) + 64:
            self._heap = sorted(self._numbers)

    def discard(self, number: int) -> None:
        """Removes a number that may not be in it."""
        self._numbers.discard(number)
