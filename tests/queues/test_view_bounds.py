"""What a view costs: memory for any pattern of acknowledgements (I15), and nothing for a lease that is never
settled (I14)."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from types import FrameType

import pytest
from bench import queue_scan
from bench import queues as bench

from mainstem.queues import page_table
from mainstem.queues.frozen_pages import FrozenPages
from mainstem.queues.pages import PAGE_POSITIONS, PositionState
from mainstem.queues.rules import DeliveryRules
from mainstem.queues.runs import complement
from mainstem.queues.view import SequenceView

OPEN_PAGES = 2
PAGES = 6
EVENTS = PAGES * PAGE_POSITIONS
RULES = DeliveryRules(in_flight_max=EVENTS, accepts_late_acks=True)


def settled(view: SequenceView, is_left: Callable[[int], bool], nacks: bool, releases: bool) -> None:
    """Leases everything, and acknowledges what is not to be left; the rest stays leased, or is given back."""
    while (lease := view.acquire("worker", 5000, 0)) is not None:
        positions = [p for first, end in lease.runs for p in range(first, end)]
        acks = [(p, p + 1) for p in positions if not is_left(p)]
        view.apply_acked(view.ackable(lease.id, acks))
        if releases:
            rest = view.releasable(lease.id, [(p, p + 1) for p in positions if is_left(p)])
            view.apply_released(rest, nacks, 10**12)  # waits, so that it is not acquired again


def bound(view: SequenceView) -> int:
    """The bytes of docs/QUEUES.md: open pages, frozen pages and their groups, positions, leases, what
    waits."""
    counts = view.counts()
    pages = len(list(view.table.frozen))
    return (
        OPEN_PAGES * 38_000
        + pages * 560
        + counts.outstanding * 13
        + counts.leased * 2
        + len(view.leases) * 900
        + counts.waiting * 140
        + 16 * len(view.table.ready)
        + 12_000
    )


PATTERNS: dict[str, Callable[[int], bool]] = {
    "all": lambda position: True,
    "none": lambda position: False,
    "every second": lambda position: position % 2 == 0,
    "every 33rd": lambda position: position % 33 == 0,
    "a single position a page": lambda position: position % PAGE_POSITIONS == 77,
    "a single position": lambda position: position == 5,
    "at random": random.Random(1).choices([True, False], k=EVENTS).__getitem__,
}


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("rest", ["leased", "released", "failed"])
def test_memory_is_bounded_for_any_pattern(pattern: str, rest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_table, "OPEN_PAGES_MAX", OPEN_PAGES)
    view = SequenceView(RULES, 0)
    view.scan(EVENTS)
    settled(view, PATTERNS[pattern], rest == "failed", rest != "leased")
    assert bench.size_of(view) <= bound(view)
    view.freeze()
    assert bench.size_of(view) <= bound(view)
    left = sum(map(PATTERNS[pattern], range(EVENTS)))
    assert view.counts().outstanding == left


@pytest.mark.parametrize("sparse", [2, 40, 5000])
def test_memory_of_a_filter_is_bounded(sparse: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_table, "OPEN_PAGES_MAX", OPEN_PAGES)
    view = SequenceView(RULES, 0)
    for first in range(0, EVENTS, 1000):
        matches = range(first - first % sparse, first + 1000, sparse)
        view.scan(first + 1000, [(p + 1, min(p + sparse, first + 1000)) for p in matches])
    assert bench.size_of(view) <= bound(view)
    assert bench.size_of(view) <= 90_000 + 40 * view.counts().ready + OPEN_PAGES * 22_000


def test_a_backlog_and_what_is_done_take_no_memory() -> None:
    view = SequenceView(RULES, 0)
    view.scan(10**12)
    backlog = bench.size_of(view)
    view.apply_trimmed(10**12 - 10**6)
    while (lease := view.acquire("worker", 100_000, 0)) is not None:
        view.apply_acked(lease.runs)
    assert view.counts().outstanding == 0
    assert max(backlog, bench.size_of(view)) < 10_000


def calls_of(work: Callable[[], object]) -> int:
    """How many functions work calls, of Python and of C: its steps, whatever the machine does besides."""
    calls = 0

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    return calls


def test_a_lease_that_is_never_settled_costs_others_nothing() -> None:
    """I14: 5 % of the steps at most; and the span between the two has no limit."""
    free = calls_of(lambda: bench.held_lease(60_000, False))
    assert calls_of(lambda: bench.held_lease(60_000, True)) == pytest.approx(free, rel=0.05)


def test_a_lease_that_is_never_settled_keeps_its_position() -> None:
    view = SequenceView(RULES, 0)
    view.scan(50_000)
    eternal = view.acquire("slow", 1, 0, lock_ms=0)
    assert eternal is not None
    while (lease := view.acquire("worker", 500, 0)) is not None:
        view.apply_acked(lease.runs)
    assert (view.oldest, view.cursor, view.counts().outstanding) == (0, 50_000, 1)
    assert view.expired(10**15) == []
    assert view.ackable(eternal.id, [(0, 50_000)]) == [(0, 1)]


def test_frozen_pages_are_a_dict() -> None:
    chance = random.Random(4)
    pages, naive = FrozenPages(), dict[int, bytes]()
    for _ in range(3000):
        index = chance.choice((chance.randrange(60), 10**12 + chance.randrange(5)))
        if chance.random() < 0.5:
            pages[index] = naive[index] = bytes([chance.randrange(256)])
        else:
            assert pages.pop(index) == naive.pop(index, None)
        assert (index in pages) == (index in naive)
        assert pages.get(index) == naive.get(index)
    assert dict(pages.items()) == naive
    assert set(pages) == set(naive)


@pytest.mark.slow
def test_the_benchmark_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "RUNS", 1)
    for part in (bench.speeds, bench.undisturbed, bench.sizes):
        assert all(figure > 0 for _, _, figure, _ in part(0.003))


@pytest.mark.slow
def test_the_benchmark_of_the_scan_runs() -> None:
    assert all(figure >= 0 for _, _, figure, bar in queue_scan.scans(0.002) if bar)


def test_waking_opens_few_frozen_pages_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening a page costs as much as waking 200 positions, so what is due in 60 pages is woken in parts."""
    monkeypatch.setattr(page_table, "OPEN_PAGES_MAX", OPEN_PAGES)
    view = SequenceView(RULES, 0)
    view.scan(60 * PAGE_POSITIONS, due_ms={page * PAGE_POSITIONS: 5 for page in range(60)})
    view.freeze()
    woken = []
    while part := view.wake_due(10, 2_000):
        woken.append(part)
    assert sum(woken) == 60
    assert max(woken) <= 16


def test_open_pages_of_all_views_are_bounded_and_sparse_views_work_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As routed queues that get one event in thousands, each with events in flight."""
    monkeypatch.setattr(page_table, "OPEN_PAGES_ALL", 40)
    monkeypatch.setattr(page_table, "_opened", page_table.OpenedPages())
    rng = random.Random(7)
    views, flight = [SequenceView(RULES, 0) for _ in range(30)], 20
    positions = [
        [(n + 1) * PAGE_POSITIONS + rng.randrange(PAGE_POSITIONS) for n in range(flight)] for _ in views
    ]
    for view, own in zip(views, positions, strict=True):
        view.scan((flight + 2) * PAGE_POSITIONS, complement(0, 1 << 40, [(p, p + 1) for p in own]))
    leases = [[] for _ in views]  # type: list[list[tuple[int, int]]]
    for _ in range(flight):
        for number, view in enumerate(views):
            lease = view.acquire("worker", 1, 0)
            assert lease is not None
            leases[number].append((lease.id, lease.runs[0][0]))
    assert sum(len(view.table.open_pages) for view in views) <= 40 + OPEN_PAGES
    for number, view in enumerate(views):
        assert [position for _, position in leases[number]] == positions[number]
        assert view.counts().leased == flight
        rng.shuffle(leases[number])
        for lease_id, position in leases[number][: flight // 2]:
            runs = view.ackable(lease_id, [(position, position + 1)])
            assert runs == [(position, position + 1)]
            view.apply_acked(runs)
        for lease_id, position in leases[number][flight // 2 :]:
            view.apply_released(view.releasable(lease_id, [(position, position + 1)]), True, None)
        assert (view.counts().ready, view.counts().leased) == (flight // 2, 0)
        left = sorted(position for _, position in leases[number][flight // 2 :])
        assert [first for first, _ in view.runs_in(PositionState.READY)] == left
        assert [view.failures(position) for position in left] == [1] * (flight // 2)
    assert sum(len(view.table.open_pages) for view in views) <= 40 + flight
