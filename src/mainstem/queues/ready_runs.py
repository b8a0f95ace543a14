"""The positions of a view that are ready and have no page: where a backlog costs nothing.

Owns: sorted, disjoint runs in two arrays, 16 bytes a run. Refuses: anything else about their positions.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator

from mainstem.queues.runs import Run

_COMPACTION_RUNS = 1024
"""Runs that were removed from the front stay in the arrays until there are this many, and half of them
are."""


class ReadyRuns:
    """Ascending, disjoint runs that do not touch. Taking from the front and appending at the end are cheap;
    what is between costs a copy of the arrays, and happens for whole pages only."""

    __slots__ = ("_ends", "_firsts", "_front")

    def __init__(self) -> None:
        self._firsts = array("Q")
        self._ends = array("Q")
        self._front = 0  # runs before this index are removed

    def __len__(self) -> int:
        return len(self._firsts) - self._front

    def __iter__(self) -> Iterator[Run]:
        return zip(self._firsts[self._front :], self._ends[self._front :], strict=True)

    def __contains__(self, position: int) -> bool:
        index = bisect_right(self._firsts, position, self._front) - 1
        return index >= self._front and position < self._ends[index]

    @property
    def bytes(self) -> int:
        """The memory of the arrays."""
        return self._firsts.itemsize * 2 * len(self._firsts)

    @property
    def lowest(self) -> int | None:
        """The lowest position, or None."""
        return self._firsts[self._front] if self._front < len(self._firsts) else None

    def append(self, first: int, end: int) -> None:
        """Adds a run above all others; merges it with the last if they touch."""
        if len(self) and self._ends[-1] == first:
            self._ends[-1] = end
        else:
            self._firsts.append(first)
            self._ends.append(end)

    def add(self, first: int, end: int) -> int:
        """Adds a range, parts of which may be there; returns how many positions it added."""
        missing = end - first - self.remove(first, end)
        index = bisect_left(self._firsts, first, self._front)
        joins_next = index < len(self._firsts) and self._firsts[index] == end
        joins_previous = index > self._front and self._ends[index - 1] == first
        if joins_next and joins_previous:
            self._ends[index - 1] = self._ends[index]
            del self._firsts[index], self._ends[index]
        elif joins_next:
            self._firsts[index] = first
        elif joins_previous:
            self._ends[index - 1] = end
        else:
            self._firsts.insert(index, first)
            self._ends.insert(index, end)
        return missing

    def within(self, first: int, end: int) -> list[Run]:
        """The parts of the runs that are in a range."""
        low = bisect_right(self._ends, first, self._front)
        high = bisect_left(self._firsts, end, low)
        return [(max(first, self._firsts[index]), min(end, self._ends[index])) for index in range(low, high)]

    def remove(self, first: int, end: int) -> int:
        """Removes a range; returns how many positions of it were there."""
        low = bisect_right(self._ends, first, self._front)
        high = bisect_left(self._firsts, end, low)
        if low == high:
            return 0
        removed = sum(b - a for a, b in self.within(first, end))
        rest = [(self._firsts[low], first), (end, self._ends[high - 1])]
        rest = [run for run in rest if run[0] < run[1]]
        if low == self._front and not (rest and rest[0][0] < first):
            # From the front: nothing is copied, the runs stay behind as long as they are few.
            if rest:
                high -= 1
                self._firsts[high], self._ends[high] = rest[0]
            self._front = high
            if self._front >= _COMPACTION_RUNS and self._front * 2 >= len(self._firsts):
                del self._firsts[: self._front], self._ends[: self._front]
                self._front = 0
        else:
            self._firsts[low:high] = array("Q", [run[0] for run in rest])
            self._ends[low:high] = array("Q", [run[1] for run in rest])
        return removed
