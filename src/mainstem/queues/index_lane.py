"""The pages of one kind in the index of a namespace: those of its arrivals, or those of one queue.

Owns: which pages there are, by their sequences, and what is not in a page yet. Refuses: the bytes of pages
(`index_page.py`) and where they are stored (the caller's numbers).
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")


class PageRow(NamedTuple):
    """What an index knows of one page without reading it."""

    queue: int
    """0: a page of arrivals."""
    first: int
    last: int
    entries: int
    place: int
    """Where the store has it, a number from 1; 0: it is not stored yet."""

    @property
    def is_contiguous(self) -> bool:
        """Whether the page has every sequence from its first to its last."""
        return self.last - self.first + 1 == self.entries


class IndexLane(Generic[T]):
    """Pages in the order of their sequences, then the entries that follow them."""

    __slots__ = ("_counts", "_firsts", "_lasts", "_places", "entries_written", "open", "queue", "unstored")

    def __init__(self, queue: int) -> None:
        self.queue = queue
        self.open: list[T] = []
        """Entries after the last page. The list stays the same object."""
        self.entries_written = 0
        """How many of them the store has already, in small pages that the full one replaces."""
        self.unstored: dict[int, bytes] = {}
        """First sequence -> the bytes of a page that the store has not."""
        self._firsts = array("Q")
        self._lasts = array("Q")
        self._counts = array("H")
        self._places = array("Q")

    def __len__(self) -> int:
        return len(self._firsts)

    def row(self, number: int) -> PageRow:
        """The page with this number, from 0."""
        return PageRow(
            self.queue, self._firsts[number], self._lasts[number], self._counts[number], self._places[number]
        )

    def page_after(self, sequence: int) -> int:
        """The number of the first page that has sequences from this one on; `len` if none has."""
        return bisect_left(self._lasts, sequence)

    @property
    def last(self) -> int:
        """The last sequence of the pages; -1: there is none."""
        return self._lasts[-1] if self._lasts else -1

    def entries_from(self, number: int) -> int:
        """Entries of the pages from this number on."""
        return sum(self._counts[number:])

    def close(self, first: int, last: int, data: bytes, entries: int) -> None:
        """The first `entries` of `open` are a page now, with these bytes."""
        self._append(PageRow(self.queue, first, last, entries, 0))
        self.unstored[first] = data
        del self.open[:entries]
        self.entries_written = max(0, self.entries_written - entries)

    def load(self, row: PageRow) -> None:
        """A stored page. It replaces those whose sequences it has, and the entries that a cut has left.
        ValueError: it does not follow the pages before it."""
        self.open.clear()
        while self._firsts and self._firsts[-1] >= row.first and row.last >= self._lasts[-1]:
            for column in (self._firsts, self._lasts, self._counts, self._places):
                column.pop()
        if row.last < row.first or row.first <= self.last:
            raise ValueError(f"the sequences {row.first} to {row.last} do not follow {self.last}")
        self._append(row)

    def _append(self, row: PageRow) -> None:
        self._firsts.append(row.first)
        self._lasts.append(row.last)
        self._counts.append(row.entries)
        self._places.append(row.place)

    def stored(self, first: int, place: int) -> None:
        """The store has the page that begins with this sequence."""
        number = bisect_left(self._firsts, first)
        if number < len(self) and self._firsts[number] == first and self.unstored.pop(first, b""):
            self._places[number] = place

    def trim(self, start: int) -> None:
        """Forget the pages whose sequences are all below `start`."""
        number = self.page_after(start)
        for first in self._firsts[:number]:
            self.unstored.pop(first, b"")
        for column in (self._firsts, self._lasts, self._counts, self._places):
            del column[:number]

    def cut(self, end: int) -> PageRow | None:
        """Forget the pages that have a sequence of `end` or above. Returns the one that has lower ones, too:
        its caller reads it, and these entries are `open` again. For a start: nothing is open."""
        assert not self.open, "only stored pages are cut"
        number = self.page_after(end)
        row = self.row(number) if number < len(self) and self._firsts[number] < end else None
        for column in (self._firsts, self._lasts, self._counts, self._places):
            del column[number:]
        return row
