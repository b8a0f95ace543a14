"""The index of a namespace: which events each queue has, in the order of their arrival, and where they are.

An event has one entry among the arrivals, and its sequence, nothing more, in each queue: 25 ns a queue in
memory, 0 to 4 bytes in a page. Entries are never changed, and not removed when an event is processed, for a
queue may go back to it: they go with the event, when the log deletes it.

Owns: this mapping, what of it is in pages, and reading pages from a store. Refuses: what is processed (a
view knows that), the log, files, and to be the truth: all of it can be derived from the log again.
DamagedIndexPage from any reading method: the index has to be built anew. ColdIndexPage: it has to wait for
the disk; nothing has changed, and the same call succeeds later.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, NamedTuple, Protocol

from mainstem.queues.index_lane import IndexLane, PageRow
from mainstem.queues.index_page import (
    PAGE_ENTRIES,
    Arrival,
    ArrivalsPage,
    ColdIndexPage,
    DamagedIndexPage,
    decode_arrivals,
    decode_queue,
    encode_arrivals,
    encode_queue,
)
from mainstem.queues.routes import QueueSet
from mainstem.queues.runs import Run, add_run

DECODED_PAGES: Final = 64
"""Decoded pages that are kept, the last used ones: 3 MB at most."""


class PageStore(Protocol):
    """Where the pages of an index are."""

    def read(self, place: int) -> bytes:
        """The bytes of a page. DamagedIndexPage: they cannot be read; ColdIndexPage: not now."""


class IndexPage(NamedTuple):
    """A page to be stored."""

    row: PageRow
    data: bytes


class RoutedIndex:
    """The index of a namespace."""

    def __init__(self, namespace: int, store: PageStore) -> None:
        self.namespace = namespace
        self.start = 0
        """The events below are deleted."""
        self.arrived_ms = 0
        """When the last event arrived, ms since 1970; 0: that is not known."""
        self._store = store
        self._arrivals: IndexLane[Arrival] = IndexLane(0)
        self._queues: dict[int, IndexLane[int]] = {}
        self._appends: dict[int, list[Callable[[int], None]]] = {}
        """Route -> `append` of the open entries of each of its queues; only of touched routes."""
        self._touched: dict[int, QueueSet] = {}
        """The routes that got entries since pages were last stored."""
        self._reopened: set[int] = set()
        """The queues that lost the rest of a page."""
        self._decoded: OrderedDict[int | tuple[int, int], ArrivalsPage | Sequence[int]] = OrderedDict()
        """By their place in the store, or by the queue and the first sequence of a page that it has not."""

    # --- writing ------------------------------------------------------------------------------------------

    @property
    def end(self) -> int:
        """The sequence after the last arrival; 0: there is none."""
        opened = self._arrivals.open
        return (opened[-1].sequence if opened else self._arrivals.last) + 1

    def add(self, arrival: Arrival, route: int, queues: QueueSet) -> None:
        """Add an event, which is after all others. `queues`: those of the route."""
        assert arrival.sequence >= self.end, "arrivals ascend"
        if arrival.arrived_ms < self.arrived_ms:  # the clock was set back
            arrival = arrival._replace(arrived_ms=self.arrived_ms)
        self.arrived_ms = arrival.arrived_ms
        appends = self._appends.get(route)
        if appends is None:
            appends = self._appends[route] = [self._lane(queue).open.append for queue in queues]
            self._touched[route] = queues
        sequence = arrival.sequence
        for append in appends:
            append(sequence)
        opened = self._arrivals.open
        opened.append(arrival)
        if len(opened) >= PAGE_ENTRIES:
            self._close_pages()

    def _lane(self, queue: int) -> IndexLane[int]:
        lane = self._queues.get(queue)
        if lane is None:
            lane = self._queues[queue] = IndexLane(queue)
        return lane

    def _touched_lanes(self) -> list[IndexLane[int]]:
        numbers = self._reopened.union(*self._touched.values())
        return [lane for number in sorted(numbers) if (lane := self._queues.get(number)) is not None]

    def _close_pages(self) -> None:
        while len(opened := self._arrivals.open) >= PAGE_ENTRIES:
            part = opened[:PAGE_ENTRIES]
            data = encode_arrivals(self.namespace, part)
            self._arrivals.close(part[0].sequence, part[-1].sequence, data, len(part))
        for lane in self._touched_lanes():
            while len(lane.open) >= PAGE_ENTRIES:
                sequences = lane.open[:PAGE_ENTRIES]
                data = encode_queue(self.namespace, lane.queue, sequences)
                lane.close(sequences[0], sequences[-1], data, len(sequences))

    def drop_queue(self, queue: int) -> None:
        """The queue exists no more."""
        if self._queues.pop(queue, None) is not None:
            self._appends.clear()

    def trim(self, start: int) -> None:
        """The events below `start` are deleted."""
        if start > self.start:
            self.start = start
            self._arrivals.trim(start)
            for lane in self._queues.values():
                lane.trim(start)

    # --- storing ------------------------------------------------------------------------------------------

    def pages_to_store(self) -> list[IndexPage]:
        """All that the store does not have: full pages, and the entries after them, as small pages that the
        full one replaces later: an entry is stored twice at most. Call `pages_stored` with the same list
        before anything is added."""
        self._close_pages()
        pages: list[IndexPage] = []
        lanes: list[IndexLane[Arrival] | IndexLane[int]] = [self._arrivals, *self._touched_lanes()]
        for lane in lanes:
            for first, data in lane.unstored.items():
                row = lane.row(lane.page_after(first))
                pages.append(IndexPage(row, data))
        if opened := self._arrivals.open[self._arrivals.entries_written :]:
            row = PageRow(0, opened[0].sequence, opened[-1].sequence, len(opened), 0)
            pages.append(IndexPage(row, encode_arrivals(self.namespace, opened)))
        for queue_lane in self._touched_lanes():
            if sequences := queue_lane.open[queue_lane.entries_written :]:
                row = PageRow(queue_lane.queue, sequences[0], sequences[-1], len(sequences), 0)
                data = encode_queue(self.namespace, queue_lane.queue, sequences)
                pages.append(IndexPage(row, data))
        return pages

    def pages_stored(self, pages: Iterable[IndexPage], places: Iterable[int]) -> None:
        """The store has these pages now, at these places."""
        for page, place in zip(pages, places, strict=True):
            row = page.row
            lane = self._arrivals if not row.queue else self._queues.get(row.queue)
            if lane is None:
                continue
            if row.first in lane.unstored:
                lane.stored(row.first, place)
            else:
                lane.entries_written += row.entries
        self._touched.clear()
        self._appends.clear()
        self._reopened.clear()

    def load(self, rows: Iterable[PageRow]) -> None:
        """The store has these pages, in the order in which they were stored. For a start. ValueError: they
        contradict each other."""
        for row in rows:
            lane = self._arrivals if not row.queue else self._lane(row.queue)
            lane.load(row)

    def cut(self, end: int) -> None:
        """Forget the entries from the sequence `end` on: the log has not all of their events. For a start,
        before anything is added. What is left of a page is to be stored again."""
        row = self._arrivals.cut(end)
        if row is not None:
            page = self._page_of_arrivals(row)
            self._arrivals.open += [page.entry(number) for number in range(bisect_left(page.sequences, end))]
            self._decoded.pop(row.place, None)
        for lane in self._queues.values():
            row = lane.cut(end)
            if row is not None:
                sequences = self._sequences(lane, row)
                lane.open += sequences[: bisect_left(sequences, end)]
                self._reopened.add(lane.queue)

    # --- reading ------------------------------------------------------------------------------------------

    def runs(self, queue: int, first: int, events_max: int) -> tuple[list[Run], int | None]:
        """The sequences of the queue's events from `first` on, as runs, about `events_max` or fewer; and the
        sequence up to which these are all, None: they are all that there are."""
        lane = self._queues.get(queue)
        if lane is None:
            return [], None
        first = max(first, self.start)
        runs: list[Run] = []
        count = 0
        for number in range(lane.page_after(first), len(lane)):
            row = lane.row(number)
            if row.is_contiguous:
                low = max(first, row.first)
                add_run(runs, low, row.last + 1)
                count += row.last + 1 - low
            else:
                try:
                    sequences = self._sequences(lane, row)
                except ColdIndexPage:
                    if not count:
                        raise
                    return runs, row.first  # there may be more cold pages than are kept decoded
                count += _add_sequences(runs, sequences, bisect_left(sequences, first))
            if count >= events_max:
                return runs, row.last + 1
        _add_sequences(runs, lane.open, bisect_left(lane.open, first))
        return runs, None

    def count(self, queue: int, first: int) -> int:
        """How many events the queue has from this sequence on, processed or not."""
        return self._count(queue, first, self._entries_before)

    def estimated_count(self, queue: int, first: int) -> int:
        """As `count`, without reading a page: an estimate of what of one page is below `first`."""
        return self._count(queue, first, _estimated_entries_before)

    def _entries_before(self, lane: IndexLane[int], row: PageRow, first: int) -> int:
        return first - row.first if row.is_contiguous else bisect_left(self._sequences(lane, row), first)

    def _count(
        self, queue: int, first: int, entries_before: Callable[[IndexLane[int], PageRow, int], int]
    ) -> int:
        lane = self._queues.get(queue)
        if lane is None:
            return 0
        first = max(first, self.start)
        total = len(lane.open) - bisect_left(lane.open, first)
        number = lane.page_after(first)
        if number < len(lane):
            row = lane.row(number)
            total += lane.entries_from(number)
            if first > row.first:
                total -= entries_before(lane, row, first)
        return total

    def arrival(self, sequence: int) -> Arrival | None:
        """Where the event with this sequence is; None: there is none, or it is deleted."""
        if sequence < self.start:
            return None
        opened = self._arrivals.open
        if opened and sequence >= opened[0].sequence:
            number = sequence - opened[0].sequence
            if number < len(opened) and opened[number].sequence == sequence:
                return opened[number]
            number = bisect_left(opened, sequence, key=lambda arrival: arrival.sequence)
            known = number < len(opened) and opened[number].sequence == sequence
            return opened[number] if known else None
        number = self._arrivals.page_after(sequence)
        if number == len(self._arrivals):
            return None
        return self._page_of_arrivals(self._arrivals.row(number)).find(sequence)

    def arrivals_at(self, positions: Sequence[int]) -> list[Arrival | None]:
        """As `arrival`, for sequences that ascend; of the first ones only, if others have to wait for the
        disk."""
        arrivals: list[Arrival | None] = []
        opened = self._arrivals.open
        first_open = opened[0].sequence if opened else self.end
        page: ArrivalsPage | None = None
        sequences: tuple[int, ...] = ()
        index = 0
        for position in positions:
            if position < self.start or position >= first_open:
                arrivals.append(self.arrival(position))
                continue
            index += 1
            if index >= len(sequences) or sequences[index] != position:
                if page is None or not page.sequences[0] <= position <= page.sequences[-1]:
                    number = self._arrivals.page_after(position)
                    try:
                        page = self._page_of_arrivals(self._arrivals.row(number))
                    except ColdIndexPage:
                        if not arrivals:
                            raise
                        return arrivals
                    sequences = tuple(page.sequences)
                index = bisect_left(sequences, position)
            known = index < len(sequences) and sequences[index] == position
            arrivals.append(page.entry(index) if known and page is not None else None)
        return arrivals

    def levels(self, positions: Sequence[int]) -> tuple[dict[int, int], int]:
        """The priorities that are not 0 of the events with these sequences, which ascend; and the sequence up
        to which these are all."""
        levels: dict[int, int] = {}
        opened = self._arrivals.open
        first_open = opened[0].sequence if opened else self.end
        number, page = -1, None
        for position in positions:
            if position < self.start:
                continue
            if position >= first_open:
                arrival = self.arrival(position)
            else:
                if (next_number := self._arrivals.page_after(position)) != number:
                    number = next_number
                    try:
                        page = self._page_of_arrivals(self._arrivals.row(number))
                    except ColdIndexPage:
                        if position == positions[0]:
                            raise
                        return levels, position  # there may be more cold pages than are kept decoded
                arrival = page.find(position) if page is not None else None
            if arrival is not None and arrival.priority:
                levels[position] = arrival.priority
        return levels, positions[-1] + 1

    def arrived_after(self, first: int, time_ms: int) -> int | None:
        """The first sequence from this one on of an event that arrived after a time; None: none did. Events
        arrive in the order of their sequences."""
        first = max(first, self.start)
        opened = self._arrivals.open
        if not opened or opened[0].sequence > first:
            low, high = self._arrivals.page_after(first), len(self._arrivals)
            while low < high:
                middle = (low + high) // 2
                if self._page_of_arrivals(self._arrivals.row(middle)).arrived[-1] > time_ms:
                    high = middle
                else:
                    low = middle + 1
            if low < len(self._arrivals):
                page = self._page_of_arrivals(self._arrivals.row(low))
                number = max(bisect_right(page.arrived, time_ms), bisect_left(page.sequences, first))
                return page.sequences[number]
        number = bisect_right(opened, time_ms, key=lambda arrival: arrival.arrived_ms)
        number = max(number, bisect_left(opened, first, key=lambda arrival: arrival.sequence))
        return opened[number].sequence if number < len(opened) else None

    def arrivals(self, first: int = 0) -> Iterator[Arrival]:
        """All arrivals from this sequence on, in order. Nothing is added or trimmed meanwhile."""
        first = max(first, self.start)
        number = self._arrivals.page_after(first)
        while number < len(self._arrivals):
            page = self._page_of_arrivals(self._arrivals.row(number))
            for index in range(bisect_left(page.sequences, first), len(page.sequences)):
                yield page.entry(index)
            number += 1
        for arrival in self._arrivals.open:
            if arrival.sequence >= first:
                yield arrival

    def arrivals_backwards(self) -> Iterator[Arrival]:
        """All arrivals, the last first."""
        yield from reversed(self._arrivals.open)
        for number in reversed(range(len(self._arrivals))):
            page = self._page_of_arrivals(self._arrivals.row(number))
            for index in reversed(range(len(page.sequences))):
                if page.sequences[index] >= self.start:
                    yield page.entry(index)

    def queues(self) -> set[int]:
        """The queues that have entries, or had."""
        return set(self._queues)

    def _sequences(self, lane: IndexLane[int], row: PageRow) -> Sequence[int]:
        place = row.place or (row.queue, row.first)
        page = self._cached(place)
        if page is None:
            data = self._store.read(row.place) if row.place else lane.unstored[row.first]
            page = decode_queue(data, self.namespace, lane.queue)
            _check_row(row, page)
            self._keep(place, page)
        assert not isinstance(page, ArrivalsPage), "a place has one page"
        return page

    def _page_of_arrivals(self, row: PageRow) -> ArrivalsPage:
        place = row.place or (row.queue, row.first)
        page = self._cached(place)
        if page is None:
            data = self._store.read(row.place) if row.place else self._arrivals.unstored[row.first]
            page = decode_arrivals(data, self.namespace)
            _check_row(row, page.sequences)
            self._keep(place, page)
        assert isinstance(page, ArrivalsPage), "a place has one page"
        return page

    def _cached(self, place: int | tuple[int, int]) -> ArrivalsPage | Sequence[int] | None:
        page = self._decoded.get(place)
        if page is not None:
            self._decoded.move_to_end(place)
        return page

    def _keep(self, place: int | tuple[int, int], page: ArrivalsPage | Sequence[int]) -> None:
        self._decoded[place] = page
        while len(self._decoded) > DECODED_PAGES:
            self._decoded.popitem(last=False)


def _check_row(row: PageRow, sequences: Sequence[int]) -> None:
    if (sequences[0], sequences[-1], len(sequences)) != (row.first, row.last, row.entries):
        raise DamagedIndexPage(
            f"it has {len(sequences):,} sequences from {sequences[0]} to {sequences[-1]}, not {row.entries:,}"
            f" from {row.first} to {row.last}"
        )


def _estimated_entries_before(lane: IndexLane[int], row: PageRow, first: int) -> int:
    return row.entries * (first - row.first) // (row.last + 1 - row.first)


def _add_sequences(runs: list[Run], sequences: Sequence[int], number: int) -> int:
    """Add the sequences from this number on. Returns how many."""
    for index in range(number, len(sequences)):
        add_run(runs, sequences[index], sequences[index] + 1)
    return len(sequences) - number
