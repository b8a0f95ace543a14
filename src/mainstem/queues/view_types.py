"""The values that a view returns: counters, and the parts of a snapshot.

Owns: these types. Refuses: everything else.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StateCounts:
    """How many positions of a view are in each state, without those ahead and those done."""

    ready: int
    leased: int
    waiting: int
    parked: int
    dying: int

    @property
    def outstanding(self) -> int:
        """All that the scan has reached and that is not done."""
        return self.ready + self.leased + self.waiting + self.parked + self.dying


@dataclass(frozen=True, slots=True)
class ViewHead:
    """A snapshot's small part."""

    start: int
    scanned: int
    marked: int
    ready: bytes
    """The ready positions without a page: runs, encoded from `start`."""


@dataclass(frozen=True, slots=True)
class PageState:
    """A page of a snapshot, in the frozen form of `pages.py`."""

    index: int
    """The page has the positions from 4,096 · index on."""
    data: bytes


@dataclass(frozen=True, slots=True)
class ViewSnapshot:
    """A view at a moment. The pages can be read once, later too."""

    head: ViewHead
    pages: Iterable[PageState]
    waiting: Iterable[bytes]
    """What waits, as `WaitingPositions.packed` returns it."""
