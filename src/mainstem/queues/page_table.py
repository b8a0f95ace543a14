"""The positions of a view: which are in pages, which need none, and how many are in each state.

A position without a page is ahead from `scanned` on; below that it is ready if `ready` has it, else done. So
a backlog costs a run, and what is done costs nothing. Open pages are few: the one that was opened longest ago
is frozen when there are more than `OPEN_PAGES_MAX` in a view, or `OPEN_PAGES_ALL`, whatever the states in it.

Owns: opening, freezing and dropping pages, and the counters. Refuses: leases and transitions (`view.py`).
"""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterator
from typing import Final
from weakref import ref

from mainstem.queues.frozen_pages import FrozenPages
from mainstem.queues.lowest_first import LowestFirst
from mainstem.queues.pages import (
    AHEAD,
    ALL_DONE,
    DONE,
    FILL,
    PAGE_MASK,
    PAGE_POSITIONS,
    PAGE_SHIFT,
    READY,
    OpenPage,
    freeze,
    thaw,
)
from mainstem.queues.ready_runs import ReadyRuns
from mainstem.queues.runs import Run

OPEN_PAGES_MAX: Final = 256
"""Open pages of a view: 5.4 MB at the most."""
OPEN_PAGES_ALL: Final = 8_192
"""Open pages of all views: 180 MB at the most."""


class OpenedPages:
    """The pages that were opened last, of all views: when there are too many, the one that was opened longest
    ago is frozen. Otherwise views of sparse positions, as of routed queues, take 22 KB for each event in
    flight."""

    def __init__(self) -> None:
        self._opened: OrderedDict[tuple[int, int], ref[PageTable]] = OrderedDict()
        """(view, page) in the order of opening; some are frozen or dropped since."""

    def note(self, table: PageTable, index: int) -> None:
        """A page was opened, which may freeze one of another view."""
        key = id(table), index
        self._opened.pop(key, None)
        self._opened[key] = ref(table)
        while len(self._opened) > OPEN_PAGES_ALL:
            (_, oldest), opened = self._opened.popitem(last=False)
            other = opened()
            if other is not None and other is not table:
                other.freeze_page(oldest)


_opened = OpenedPages()


class PageTable:
    """The pages of a view, and its positions without one. A caller with an open page must not ask for other
    pages before it is done with it: that may freeze it."""

    __slots__ = (
        "__weakref__", "_lowest", "counts", "frozen", "open_pages", "ready", "ready_pages", "scanned",
        "start",
    )  # fmt: skip

    def __init__(self, start: int) -> None:
        self.start = start
        """Positions below are done and unknown."""
        self.scanned = start
        """Positions from here on are ahead, but for those in pages that say otherwise."""
        self.ready = ReadyRuns()
        """Ready positions without a page; they were never leased in this life of the server."""
        self.open_pages: dict[int, OpenPage] = {}
        self.frozen = FrozenPages()
        self.ready_pages = LowestFirst()
        """The pages that may have ready positions."""
        self.counts = [0] * (DONE + 1)
        """Positions by state; ahead and done are not counted."""
        self._lowest = LowestFirst()

    @property
    def oldest(self) -> int:
        """The lowest position that is not done, or the end of the scan."""
        oldest = self.scanned
        if (lowest := self.ready.lowest) is not None:
            oldest = min(oldest, lowest)
        if (index := self._lowest.lowest) is not None and index << PAGE_SHIFT < oldest:
            page = self.open_pages.get(index)
            # A frozen page stays frozen: who only looks, as statistics do, opens no page of an idle view.
            states = page.states if page is not None else thaw(self.frozen.get(index) or b"").states
            first = PAGE_POSITIONS - len(states.lstrip(FILL[DONE][:1]))
            oldest = min(oldest, max(self.start, (index << PAGE_SHIFT) + first))
        return oldest

    def ahead_in(self, first: int, end: int) -> tuple[int, int]:
        """Of the positions from `first` on, which is not below `scanned`, to `end`: how many are ahead, and
        the lowest that is not done, or `end`. Records give positions a state before the scan comes to them,
        mostly at a start. Frozen pages stay frozen."""
        ahead, lowest = 0, end
        indexes = self.indexes() if first < end else []
        for index in indexes[bisect_left(indexes, first >> PAGE_SHIFT) :]:
            base = index << PAGE_SHIFT
            low, high = max(first, base), min(base + PAGE_POSITIONS, end)
            if low >= high:
                break
            if first < low:
                ahead, lowest = ahead + low - first, min(lowest, first)
            page, data = self.open_pages.get(index), self.frozen.get(index)
            if page is not None or data != ALL_DONE:
                whole = page.states if page is not None else thaw(data or b"").states
                states = whole[low - base : high - base]
                ahead += states.count(AHEAD)
                if undone := len(states.lstrip(FILL[DONE][:1])):
                    lowest = min(lowest, high - undone)
            first = high
        if first < end:
            ahead, lowest = ahead + end - first, min(lowest, first)
        return ahead, lowest

    def page(self, index: int) -> OpenPage | None:
        """The page with this number, open, or None if its positions need none."""
        page = self.open_pages.get(index)
        if page is None and (data := self.frozen.pop(index)) is not None:
            page = thaw(data)
            self._insert(index, page)
        return page

    def open(self, index: int) -> OpenPage:
        """The page with this number, open; made of what its positions are if it has none."""
        page = self.page(index)
        if page is not None:
            return page
        base = index << PAGE_SHIFT
        end = base + PAGE_POSITIONS
        ready = self.ready.within(base, end)
        if ready == [(base, end)]:
            states = bytearray(FILL[READY])
        else:
            states = bytearray(FILL[DONE])
            for first, stop in ready:
                states[first - base : stop - base] = FILL[READY][: stop - first]
            ahead = max(self.scanned, base)
            if ahead < end:
                states[ahead - base :] = FILL[AHEAD][: end - ahead]
        if ready:
            self.ready.remove(base, end)
            self.ready_pages.add(index)
        page = OpenPage(states)
        self._lowest.add(index)
        self._insert(index, page)
        return page

    def freeze_all(self) -> None:
        """Freezes all open pages, and drops the last if it has nothing that the end of the scan does not
        say."""
        last = self.scanned >> PAGE_SHIFT
        ahead = self.scanned & PAGE_MASK
        page = self.open_pages.get(last)
        if page is not None and page.states.count(AHEAD, ahead) == page.undone == PAGE_POSITIONS - ahead:
            self.drop(last)
        for index, page in self.open_pages.items():
            self.frozen[index] = freeze(page)
        self.open_pages.clear()

    def _insert(self, index: int, page: OpenPage) -> None:
        if len(self.open_pages) >= OPEN_PAGES_MAX:
            oldest = next(iter(self.open_pages))
            self.freeze_page(oldest)
        self.open_pages[index] = page
        _opened.note(self, index)

    def freeze_page(self, index: int) -> None:
        """Freezes a page if it is open, whatever the states in it."""
        page = self.open_pages.pop(index, None)
        if page is not None:
            self.frozen[index] = freeze(page)

    def add_frozen(self, index: int, data: bytes, may_be_ready: bool) -> None:
        """A page of a snapshot. Pages come in ascending order, before anything else happens."""
        self.frozen[index] = data
        self._lowest.add(index)
        if may_be_ready:
            self.ready_pages.add(index)

    def drop_if_done(self, index: int) -> None:
        """Drops a page that is all done, unless the scan has to learn from it that it is."""
        page = self.open_pages.get(index)
        if page is not None and not page.undone and (index + 1) << PAGE_SHIFT <= self.scanned:
            del self.open_pages[index]
            self._forget(index)

    def drop(self, index: int) -> None:
        """Drops a page whose positions are done or ahead."""
        self.open_pages.pop(index, None)
        self.frozen.pop(index)
        self._forget(index)

    def _forget(self, index: int) -> None:
        self._lowest.discard(index)
        self.ready_pages.discard(index)

    def indexes(self) -> list[int]:
        """The numbers of all pages, ascending."""
        return sorted([*self.open_pages, *self.frozen])

    def pieces(self, first: int, end: int) -> Iterator[Run]:
        """The range from `start` on, cut: each piece is in a single page, or consists of whole pages that are
        not there, below `scanned`. So a range costs what its pages do, however long it is. While it is read,
        only pages of pieces that were returned may change."""
        first = max(first, self.start)
        whole_end = min(end, self.scanned) & ~PAGE_MASK
        pages: list[int] | None = None
        if whole_end - first > 16 * PAGE_POSITIONS:
            pages = [index << PAGE_SHIFT for index in self.indexes()]
        while first < end:
            stop = min(end, (first | PAGE_MASK) + 1)
            if pages is not None and not first & PAGE_MASK and first < whole_end:
                place = bisect_left(pages, first)
                next_page = pages[place] if place < len(pages) else whole_end
                if next_page > first:
                    stop = min(whole_end, next_page)
            yield first, stop
            first = stop

    def state(self, position: int) -> int:
        """The state of a position."""
        if position < self.start:
            return DONE
        page = self.page(position >> PAGE_SHIFT)
        if page is not None:
            return page.states[position & PAGE_MASK]
        if position >= self.scanned:
            return AHEAD
        return READY if position in self.ready else DONE

    def runs_in(self, state: int, first: int, end: int) -> Iterator[Run]:
        """The runs of positions below `scanned` or in pages that have a state, ascending; done positions are
        those from `start` on. What changes while they are read may be missed. Frozen pages stay frozen."""
        first, needle = max(first, self.start), bytes([state])
        indexes = [i for i in self.indexes() if first >> PAGE_SHIFT <= i and i << PAGE_SHIFT < end]
        previous = first
        for index in [*indexes, None]:
            base = min(end, max(self.scanned, previous)) if index is None else index << PAGE_SHIFT
            if previous < base:
                yield from self._runs_without_page(state, previous, base)
            if index is None:
                continue
            page = self.open_pages.get(index)
            data = self.frozen.get(index)
            if page is None and data is None:
                continue
            states = bytes(page.states if page is not None else thaw(data or b"").states)
            low, high = max(first - base, 0), min(end - base, PAGE_POSITIONS)
            place = states.find(needle, low, high)
            while place >= 0:
                length = high - place - len(states[place:high].lstrip(needle))
                yield base + place, base + place + length
                place = states.find(needle, place + length, high)
            previous = base + PAGE_POSITIONS

    def _runs_without_page(self, state: int, first: int, end: int) -> Iterator[Run]:
        end = min(end, self.scanned)
        if first >= end or state not in (READY, DONE):
            return
        ready = self.ready.within(first, end)
        if state == READY:
            yield from ready
            return
        for low, high in ready:
            if first < low:
                yield first, low
            first = high
        if first < end:
            yield first, end
