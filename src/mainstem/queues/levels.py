"""Priorities: which of the ready positions of a view is delivered next, the highest level first.

Owns: for each level, the ready positions that are known to be of it, and the levels of positions that are
with consumers or wait. Refuses: to know states (the view has them): a position that is not ready any more
stays here until it is the next, and is passed then; and to survive a restart: levels are those of the index.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable
from heapq import heappop, heappush

from mainstem.queues.runs import Run

_COMPACTION = 1_024
"""Positions that were taken from the front stay until there are this many, and half of them are."""


class LevelPositions:
    """The positions of one level, the lowest first: 8 bytes each, if they come in their order."""

    __slots__ = ("_ascending", "_front", "_others")

    def __init__(self) -> None:
        self._ascending = array("Q")
        self._front = 0
        self._others: list[int] = []
        """A heap of those that came after a higher one."""

    def add(self, position: int) -> None:
        """Add a position. It may be there already, as one that was passed over."""
        if not self._ascending or position > self._ascending[-1]:
            self._ascending.append(position)
        else:
            heappush(self._others, position)

    def pop(self) -> int | None:
        """Take the lowest position out; None: there is none."""
        has_ascending = self._front < len(self._ascending)
        if self._others and not (has_ascending and self._ascending[self._front] < self._others[0]):
            return heappop(self._others)
        if not has_ascending:
            return None
        position = self._ascending[self._front]
        self._front += 1
        if self._front >= _COMPACTION and self._front * 2 >= len(self._ascending):
            del self._ascending[: self._front]
            self._front = 0
        return position


class PriorityLevels:
    """The ready positions of a view by their levels."""

    def __init__(self) -> None:
        self._ready: dict[int, LevelPositions] = {}
        self._levels: dict[int, int] = {}
        """Position -> its level, if it is not 0, of those that are with consumers or wait."""

    def add(self, position: int, level: int) -> None:
        """A position of this level is ready."""
        ready = self._ready.get(level)
        if ready is None:
            ready = self._ready[level] = LevelPositions()
        ready.add(position)

    def remember(self, position: int, level: int) -> None:
        """A position of this level waits."""
        if level:
            self._levels[position] = level

    def give_back(self, positions: Iterable[int]) -> None:
        """Positions that were taken, or waited, are ready again."""
        for position in positions:
            self.add(position, self._levels.pop(position, 0))

    def forget(self, runs: Iterable[Run]) -> None:
        """These positions are done."""
        levels = self._levels
        if not levels:
            return
        for first, end in runs:
            if end - first <= len(levels):
                for position in range(first, end):
                    levels.pop(position, None)
            else:
                for position in [position for position in levels if first <= position < end]:
                    del levels[position]

    def take(self, max_events: int, is_ready: Callable[[int], bool]) -> list[int]:
        """Take the lowest ready positions of the highest level that has some, ascending."""
        while self._ready:
            level = max(self._ready)
            ready = self._ready[level]
            taken: list[int] = []
            last = -1
            while len(taken) < max_events:
                position = ready.pop()
                if position is None:
                    del self._ready[level]
                    break
                if position != last and is_ready(position):
                    taken.append(position)
                    last = position
            if taken:
                if level:
                    self._levels.update(dict.fromkeys(taken, level))
                return taken
            if max_events <= 0:
                return []
        return []
