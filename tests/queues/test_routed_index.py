"""The routed index beside a naive model, and rebuilt from the same events (I18)."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from mainstem.queues.index_lane import PageRow
from mainstem.queues.index_page import PAGE_ENTRIES, Arrival, DamagedIndexPage
from mainstem.queues.routed_index import IndexPage, RoutedIndex
from mainstem.queues.routes import QueueSet
from mainstem.queues.runs import Run, runs_of

NAMESPACE = 2


class MemoryPages:
    """A store of pages in memory."""

    def __init__(self) -> None:
        self.pages: dict[int, IndexPage] = {}
        self.reads = 0

    def read(self, place: int) -> bytes:
        self.reads += 1
        return self.pages[place].data

    def store(self, index: RoutedIndex) -> None:
        pages = index.pages_to_store()
        places = range(len(self.pages) + 1, len(self.pages) + 1 + len(pages))
        self.pages.update(zip(places, pages, strict=True))
        index.pages_stored(pages, places)

    def rows(self) -> list[PageRow]:
        return [page.row._replace(place=place) for place, page in self.pages.items()]


def contents(index: RoutedIndex) -> tuple[list[Arrival], dict[int, list[Run]]]:
    queues = {}
    for queue in index.queues():
        runs, following = index.runs(queue, 0, 1 << 60)
        assert following is None
        if runs:
            queues[queue] = runs
    return list(index.arrivals()), queues


def loaded(store: MemoryPages, start: int = 0) -> RoutedIndex:
    index = RoutedIndex(NAMESPACE, store)
    index.load(store.rows())
    index.trim(start)
    return index


class Life:
    """Random events of a few routes."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.events: list[tuple[Arrival, int, QueueSet]] = []
        self.routes: dict[int, QueueSet] = {
            number: tuple(sorted(self.rng.sample(range(1, 8), self.rng.randint(1, 5))))
            for number in range(50, 55)
        }
        self.sequence = self.rng.choice([0, 5_000_000_000])

    def add(self, index: RoutedIndex, count: int) -> None:
        for _ in range(count):
            route = self.rng.choice(list(self.routes))
            arrival = Arrival(
                self.sequence, self.rng.randrange(3), len(self.events), self.rng.randrange(5000)
            )
            self.sequence += self.rng.choice([1, 1, 1, 1, 40])
            self.events.append((arrival, route, self.routes[route]))
            index.add(arrival, route, self.routes[route])

    def drop_queue(self, queue: int) -> None:
        self.routes = {
            route: rest
            for route, queues in self.routes.items()
            if (rest := tuple(number for number in queues if number != queue))
        }
        self.events = [
            (arrival, route, tuple(number for number in queues if number != queue))
            for arrival, route, queues in self.events
        ]

    def sequences(self, queue: int, start: int) -> list[int]:
        return [
            arrival.sequence
            for arrival, _, queues in self.events
            if queue in queues and arrival.sequence >= start
        ]

    def rebuilt(self, after: RoutedIndex) -> RoutedIndex:
        """The index with the events that are after what it has, as a start derives them from the log."""
        for arrival, route, queues in self.events:
            if arrival.sequence >= max(after.end, after.start) and queues:
                after.add(arrival, route, queues)
        return after


@pytest.mark.parametrize("seed", range(4))
def test_the_index_is_that_of_a_naive_model_and_the_one_rebuilt_from_the_log(seed: int) -> None:
    life, store = Life(seed), MemoryPages()
    index = RoutedIndex(NAMESPACE, store)
    rng = random.Random(seed)
    for _ in range(12):
        life.add(index, rng.choice([1, 30, 700, 1500]))
        if rng.random() < 0.5:
            store.store(index)
        if rng.random() < 0.2:
            index.trim(rng.choice(life.events)[0].sequence)
        for queue in range(1, 8):
            sequences = life.sequences(queue, index.start)
            assert index.runs(queue, 0, 1 << 60)[0] == runs_of(sequences)
            first = rng.choice(sequences) + rng.randint(-1, 1) if sequences else 7
            assert index.count(queue, first) == sum(sequence >= first for sequence in sequences)
        for arrival, *_ in rng.sample(life.events, min(20, len(life.events))):
            assert index.arrival(arrival.sequence) == (arrival if arrival.sequence >= index.start else None)
    # What was stored, with the events after it; and all events, with nothing stored.
    assert contents(life.rebuilt(loaded(store, index.start))) == contents(index)
    empty = RoutedIndex(NAMESPACE, MemoryPages())
    empty.trim(index.start)
    assert contents(life.rebuilt(empty)) == contents(index)
    assert list(index.arrivals_backwards()) == list(reversed(contents(index)[0]))


@pytest.mark.parametrize("seed", range(4))
def test_a_cut_index_and_the_events_after_it_are_the_same_index(seed: int) -> None:
    life, store = Life(seed), MemoryPages()
    index = RoutedIndex(NAMESPACE, store)
    for _ in range(5):
        life.add(index, 900)
        store.store(index)
    again = loaded(store)
    end = life.events[random.Random(seed).randrange(len(life.events))][0].sequence
    again.cut(end)
    assert again.end <= end
    expected = [arrival for arrival, *_ in life.events if arrival.sequence < end]
    assert list(again.arrivals()) == expected
    before = contents(again)
    pages = len(store.pages)
    store.store(again)  # the cut is stored, too: what follows it takes the place of the old pages
    again_loaded = RoutedIndex(NAMESPACE, store)
    rows = store.rows()
    again_loaded.load(rows[:pages])
    again_loaded.cut(end)
    again_loaded.load(rows[pages:])
    assert contents(again_loaded) == before
    assert contents(life.rebuilt(again_loaded)) == contents(index)


def test_a_queue_is_read_in_parts() -> None:
    life, store = Life(1), MemoryPages()
    index = RoutedIndex(NAMESPACE, store)
    life.add(index, 6 * PAGE_ENTRIES)
    store.store(index)
    for queue in range(1, 8):
        runs: list[Run] = []
        first: int | None = 0
        parts = 0
        while first is not None:
            part, following = index.runs(queue, first, 500)
            runs += part
            first, parts = following, parts + 1
        assert runs_of(position for low, high in runs for position in range(low, high)) == runs_of(
            life.sequences(queue, 0)
        )
        assert parts > 1 or len(life.sequences(queue, 0)) < PAGE_ENTRIES


def test_a_queue_that_gets_all_events_needs_no_page_to_be_read() -> None:
    store = MemoryPages()
    index = RoutedIndex(NAMESPACE, store)
    for number in range(3 * PAGE_ENTRIES):
        index.add(Arrival(number, 0, number, 10), 1, (4, 5))
    store.store(index)
    assert index.runs(4, 100, 1 << 60) == ([(100, 3 * PAGE_ENTRIES)], None)
    assert index.count(5, 100) == 3 * PAGE_ENTRIES - 100
    assert store.reads == 0


def test_a_dropped_queue_has_nothing_and_the_others_keep_theirs() -> None:
    life, store = Life(3), MemoryPages()
    index = RoutedIndex(NAMESPACE, store)
    life.add(index, 2500)
    queue = life.events[0][2][0]
    index.drop_queue(queue)
    life.drop_queue(queue)
    life.add(index, 2500)
    assert index.runs(queue, 0, 10) == ([], None)
    assert index.count(queue, 0) == 0
    for other in set(range(1, 8)) - {queue}:
        assert index.runs(other, 0, 1 << 60)[0] == runs_of(life.sequences(other, 0))
    store.store(index)
    assert contents(index) == contents(life.rebuilt(loaded(store)))


def stored_pages() -> tuple[MemoryPages, RoutedIndex]:
    store = MemoryPages()
    index = RoutedIndex(NAMESPACE, store)
    for number in range(0, 6 * PAGE_ENTRIES, 2):
        index.add(Arrival(number, 0, number, 10), 1, (4,))
    store.store(index)
    return store, loaded(store)


def test_a_page_that_is_not_what_its_row_says_is_damage() -> None:
    store, index = stored_pages()
    queue_pages = [place for place, page in store.pages.items() if page.row.queue == 4]
    store.pages[queue_pages[0]] = store.pages[queue_pages[1]]
    with pytest.raises(DamagedIndexPage, match="1,024 sequences from"):
        index.runs(4, 0, 10)


def test_rows_that_contradict_each_other_are_refused() -> None:
    store, _ = stored_pages()
    rows: Sequence[PageRow] = store.rows()
    for wrong in (
        [rows[1], rows[0]],
        [rows[0], rows[0]._replace(first=rows[0].first + 2, place=9)],
        [rows[0]._replace(last=rows[0].first - 2)],
    ):
        with pytest.raises(ValueError, match="do not follow"):
            RoutedIndex(NAMESPACE, store).load(wrong)
