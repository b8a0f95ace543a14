"""Random lives of a view, beside a naive one: the invariants I1 to I5, I9, I12 and I13 of docs/QUEUES.md."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from mainstem.queues import page_table, tries
from mainstem.queues.delay_run import pack_entry
from mainstem.queues.pages import PositionState
from mainstem.queues.rules import DeliveryRules
from mainstem.queues.runs import Run, encode_runs, merge_runs, runs_of
from mainstem.queues.view import SequenceView
from mainstem.queues.view_types import PageState, ViewHead
from tests.queues.naive_view import NaiveView

REASONS = (1, 7, 2**32 - 1)
Record = tuple[str, tuple[object, ...]]


def is_skipped(position: int) -> bool:
    """The filter of these views: it excludes scattered positions, and most of a whole page."""
    return position % 7 == 3 or (8192 <= position < 12000 and position % 5 != 0)


def due_of(position: int) -> int | None:
    """When an event is due, by its content: few have a time."""
    return 1_000_000 + position % 97 * 50 if position % 11 == 5 else None


class ViewLife:
    """A view under random operations, the naive one beside it, and the records of all that was applied."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.rules = DeliveryRules(
            lock_ms=self.random.choice((0, 1000)),
            failures_max=self.random.choice((0, 3)),
            backoff_min_ms=self.random.choice((0, 100)),
            backoff_max_ms=1500,
            in_flight_max=self.random.choice((300, 100_000)),
            accepts_late_acks=self.random.random() < 0.5,
        )
        self.start = self.random.choice((0, 4096 - 90, 8192 - 30))
        self.now_ms = 1_000_000
        self.view = SequenceView(self.rules, self.start)
        self.naive = NaiveView(self.rules, self.start)
        self.origin = SequenceView(self.rules, self.start)
        """What the view was when `records` began."""
        self.records: list[Record] = []
        self.lease_ids = [0, 99]
        self.restarts = 0

    def steps(self, count: int) -> None:
        often: list[Callable[[], None]] = [
            self.scan,
            self.acquire,
            self.acquire,
            self.ack,
            self.ack,
            self.nack,
        ]
        seldom = [self.reject, self.expire, self.detach, self.wake, self.extend, self.redrive, self.mark]
        seldom.append(self.schedule)
        rarely = [self.trim, self.seek, self.restart, self.purge, self.check_replay, self.browse, self.freeze]
        for step in range(count):
            kind = self.random.random()
            self.random.choice(often if kind < 0.75 else seldom if kind < 0.96 else rarely)()
            self.now_ms += self.random.randrange(120)
            if step % 40 == 0:
                self.naive.check(self.view)
        self.naive.check(self.view)
        self.check_replay()

    def apply(self, name: str, *arguments: object) -> None:
        self.records.append((name, arguments))
        getattr(self.view, f"apply_{name}")(*arguments)
        if name == "dead_lettered":
            assert isinstance(arguments[0], int)
            self.naive.acked([(arguments[0], arguments[0] + 1)])
        elif name == "cursor":
            assert isinstance(arguments[0], int)
            self.naive.marked = max(self.naive.marked, arguments[0])
        else:
            getattr(self.naive, name)(*arguments)

    def scan(self) -> None:
        end = self.view.scanned + self.random.choice((1, 5, 40, 150))
        if self.random.random() < 0.02:
            end += 5000
        positions = range(self.view.scanned, end)
        skipped = {p for p in positions if is_skipped(p)}
        dues = {p: due for p in positions if p not in skipped and (due := due_of(p)) is not None}
        self.view.scan(end, runs_of(skipped), due_ms=dues)
        self.naive.scan(end, skipped, dues)

    def acquire(self) -> None:
        consumer = self.random.choice("abc")
        wanted = self.random.choice((1, 3, 30, 700))
        lease = self.view.acquire(consumer, wanted, self.now_ms)
        next_id = lease.id if lease is not None else -1
        positions = self.naive.acquire(next_id, consumer, wanted, self.now_ms + self.rules.lock_ms)
        assert (list(lease.runs) if lease is not None else []) == runs_of(positions)
        if lease is not None:
            assert lease.left == len(positions)
            self.lease_ids.append(lease.id)

    def chosen(self) -> tuple[int, list[Run]]:
        """A lease, live or not, and a part of its positions, or others."""
        lease_id = self.random.choice(self.lease_ids[-8:] if self.random.random() < 0.8 else self.lease_ids)
        positions = list(self.naive.leases.get(lease_id, ("", [], 0))[1])
        kind = self.random.random()
        if kind < 0.4:
            positions = [p for p in positions if self.random.random() < 0.5]
        elif kind < 0.5 or not positions:
            first = self.random.randrange(self.naive.start, self.naive.scanned + 20)
            positions = list(range(first, first + self.random.randrange(1, 60)))
        return lease_id, runs_of(positions)

    def ack(self) -> None:
        lease_id, runs = self.chosen()
        ackable = self.view.ackable(lease_id, runs)
        assert ackable == runs_of(self.naive.ackable(lease_id, runs))
        if self.random.random() < 0.5:  # as singles, which have a path of their own
            singles = [(p, p + 1) for first, end in ackable for p in range(first, end)]
            assert self.view.ackable(lease_id, singles) == ackable
            self.apply("acked", singles)
        else:
            self.apply("acked", ackable)

    def release(self, lease_id: int, runs: list[Run], counts: bool, delay_ms: int | None = None) -> None:
        releasable = self.view.releasable(lease_id, runs)
        assert releasable == runs_of(self.naive.releasable(lease_id, runs))
        before = {p: self.naive.failures(p) for p in self.naive.each_of(releasable)}
        plan = self.view.plan_release(releasable, counts, self.now_ms, delay_ms=delay_ms)
        planned = [run for group, _ in plan.released for run in group]
        assert merge_runs([*planned, *plan.exhausted]) == releasable
        for group, due_ms in plan.released:
            for position in self.naive.each_of(group):
                wait_ms = delay_ms
                if delay_ms is None:
                    wait_ms = self.rules.backoff_ms(before[position] + 1) if counts else 0
                assert due_ms == (self.now_ms + wait_ms if wait_ms else None)
            self.apply("released", group, counts, due_ms)
        for position in self.naive.each_of(plan.exhausted):
            assert before[position] + 1 == self.rules.failures_max
        if plan.exhausted:
            self.apply("rejecting", plan.exhausted, 2)

    def nack(self) -> None:
        delay_ms = self.random.choice((None, None, 0, 700))
        self.release(*self.chosen(), self.random.random() < 0.6, delay_ms)

    def reject(self) -> None:
        lease_id, runs = self.chosen()
        runs = self.view.releasable(lease_id, runs)
        self.apply("rejecting", runs, self.random.choice(REASONS))
        if self.random.random() < 0.2:  # what expires while it is ready
            expired = self.naive.in_state(PositionState.READY)[:3]
            self.apply("rejecting", runs_of(expired), 1, False)
        for position, _ in self.view.dying(self.random.randrange(5)):
            self.apply("dead_lettered", position)

    def expire(self) -> None:
        self.now_ms += self.random.choice((0, 500, 1500))
        expired = self.view.expired(self.now_ms)
        due = [n for n in self.naive.live() if self.rules.lock_ms and self.naive.leases[n][2] <= self.now_ms]
        assert [lease.id for lease in expired] == due
        assert self.view.expired(self.now_ms) == expired
        for lease in expired:
            self.release(lease.id, list(lease.runs), True)
        assert self.view.expired(self.now_ms) == []

    def detach(self) -> None:
        consumer = self.random.choice("abc")
        leases = self.view.detach(consumer)
        assert [lease.id for lease in leases] == [
            n for n in self.naive.live() if self.naive.leases[n][0] == consumer
        ]
        for lease in leases:
            self.release(lease.id, list(lease.runs), False)
        assert self.view.detach(consumer) == []

    def extend(self) -> None:
        lease_id = self.random.choice(self.lease_ids[-5:])
        is_live = lease_id in self.naive.live()
        assert self.view.extend(lease_id, self.now_ms) == is_live
        if is_live and self.rules.lock_ms:
            consumer, positions, _ = self.naive.leases[lease_id]
            self.naive.leases[lease_id] = (consumer, positions, self.now_ms + self.rules.lock_ms)

    def wake(self) -> None:
        assert self.view.wake_due(self.now_ms) == self.naive.wake_due(self.now_ms)
        due_ms = self.view.next_due_ms()
        assert due_ms is None or due_ms > self.now_ms

    def redrive(self) -> None:
        first = self.random.randrange(self.naive.start, self.naive.scanned + 1)
        size = 6000 if self.random.random() < 0.05 else self.random.randrange(1, 40)
        runs = self.view.redrivable([(first, first + size), (first + size // 2, first + size)])
        below = range(first, min(first + size, self.naive.scanned))
        assert runs == runs_of(p for p in below if self.naive.state(p) == PositionState.DONE)
        self.apply("redriven", runs)

    def schedule(self) -> None:
        first = self.random.randrange(self.naive.start, self.naive.scanned + 1)
        runs = [(first, first + self.random.randrange(1, 60))]
        waiting, unleased = self.view.waiting_among(runs), self.view.unleased_among(runs)
        positions = [p for p in range(*runs[0]) if p < self.naive.scanned]
        assert waiting == runs_of(p for p in positions if self.naive.state(p) == PositionState.WAITING)
        states = (PositionState.READY, PositionState.WAITING, PositionState.DYING)
        assert unleased == runs_of(p for p in positions if self.naive.state(p) in states)
        self.apply("scheduled", waiting, None)
        ready = self.naive.in_state(PositionState.READY)[:20]
        self.apply("scheduled", runs_of(ready), self.now_ms + self.random.choice((1, 300, 3_000)))
        ready = [p for p in self.naive.in_state(PositionState.READY) if self.view.may_be_delayed(p)]
        self.apply("delayed", {p: self.now_ms + self.random.choice((1, 2_000)) for p in ready[-9:]})
        if self.random.random() < 0.1:
            self.apply("acked", self.view.unleased_among(runs))

    def purge(self) -> None:
        ready = merge_runs(self.view.runs_in(PositionState.READY))
        assert ready == runs_of(self.naive.in_state(PositionState.READY))
        if self.random.random() < 0.3:
            self.apply("acked", ready)
        else:
            self.apply("acked", [(self.naive.start, (self.naive.start + self.naive.scanned) // 2)])

    def mark(self) -> None:
        self.apply("cursor", self.view.cursor + self.random.randrange(30))

    def trim(self) -> None:
        span = self.naive.scanned - self.naive.start
        start = self.naive.start + self.random.choice((span // 4, span // 2, span + 10))
        undone = [p for p in range(self.naive.start, start) if self.naive.state(p) != PositionState.DONE]
        carried = sorted(self.random.sample(undone, min(len(undone), self.random.choice((0, 0, 1, 5)))))
        if carried:
            self.apply("carried", carried)
        self.apply("trimmed", start, carried)

    def seek(self) -> None:
        if self.random.random() < 0.3:
            self.apply("sought", self.random.randrange(self.start, self.naive.scanned + 1))

    def restored(self) -> SequenceView:
        snapshot = self.view.snapshot()
        pages, waiting = list(snapshot.pages), list(snapshot.waiting)
        self.random.shuffle(pages)
        return SequenceView.restore(self.rules, snapshot.head, pages, waiting)

    def restart(self) -> None:
        """I5: a snapshot and what it becomes are the same state, without the leases."""
        self.view = self.restored()
        self.view.restarted(now_ms=self.now_ms)
        self.naive.restart(self.now_ms)
        self.lease_ids = [0, 99]
        if self.random.random() < 0.3:
            end = self.random.randrange(self.naive.start, self.naive.scanned + 30)
            assert self.view.forget_from(end) == self.naive.forget_from(end)
        self.naive.check(self.view)
        self.origin, self.records = self.restored(), []
        self.restarts += 1

    def check_replay(self) -> None:
        """I5: what the records make of the state at their beginning is what serving has made of it."""
        snapshot = self.origin.snapshot()
        view = SequenceView.restore(self.rules, snapshot.head, list(snapshot.pages), list(snapshot.waiting))
        for name, arguments in self.records:
            getattr(view, f"apply_{name}")(*arguments)
        positions = range(view.scanned, self.view.scanned)
        ahead = view.table.ahead_in(positions.start, positions.stop)
        states = [view.state(p) for p in positions]
        undone = [p for p, state in zip(positions, states, strict=True) if state != PositionState.DONE]
        assert ahead == (states.count(PositionState.AHEAD), min(undone, default=positions.stop))
        skipped = {p for p in positions if is_skipped(p)}
        view.scan(
            max(view.scanned, self.view.scanned),
            runs_of(skipped),
            {p: due for p in positions if p not in skipped and (due := due_of(p)) is not None},
        )
        view.wake_due(self.now_ms)
        self.wake()
        assert view.start == self.view.start
        soft = {PositionState.LEASED: PositionState.READY}
        for position in range(max(0, view.start - 5), view.scanned + 5):
            state = self.view.state(position)
            assert view.state(position) == soft.get(state, state), position
            assert view.failures(position) == self.view.failures(position), position
            if not self.restarts:  # each restart may count an acquisition twice, or not at all
                acquisitions = self.view.acquisitions(position) - (state == PositionState.LEASED)
                assert view.acquisitions(position) == acquisitions, position
        assert view.dying(50) == self.view.dying(50)
        assert sorted(view.waits.entries()) == sorted(self.view.waits.entries())

    def freeze(self) -> None:
        self.view.freeze()
        assert not self.view.table.open_pages

    def browse(self) -> None:
        """I12: reading, by runs or by position, leaves the state as it is."""
        before = self.durable()
        for state in PositionState:
            runs = merge_runs(self.view.runs_in(state, self.view.start))
            positions = [p for first, end in runs for p in range(first, end)]
            if state not in (PositionState.DONE, PositionState.AHEAD):
                assert positions == self.naive.in_state(state)
        assert self.durable() == before

    def durable(self) -> tuple[object, ...]:
        snapshot = self.view.snapshot()
        pages = sorted(snapshot.pages, key=lambda page: page.index)
        return snapshot.head, pages, sorted(snapshot.waiting), self.view.counts()


@pytest.mark.parametrize("seed", range(8))
def test_a_view_is_what_a_dict_of_positions_is(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_table, "OPEN_PAGES_MAX", 2)  # so that pages are frozen all the time
    monkeypatch.setattr(tries, "SPARSE_MAX", 12)
    ViewLife(seed).steps(400)


@pytest.mark.parametrize("seed", range(4))
def test_long_ranges_are_sets_of_positions(seed: int) -> None:
    """Scans, purges and redrives of many pages at a time, which are not walked a page at a time."""
    chance = random.Random(seed)
    view = SequenceView(DeliveryRules(), 50)
    ready: set[int] = set()
    leased: set[int] = set()
    for _ in range(14):
        low, high = sorted(chance.choices(range(50, view.scanned + 50), k=2))
        low, high = (low & ~4095, high & ~4095) if chance.random() < 0.5 else (low, high)
        low, high = max(low, 50), min(high, view.scanned)
        kind = chance.random()
        if kind < 0.4:
            end = view.scanned + chance.choice((100, 5000, 90_000))
            bounds = sorted(chance.choices(range(view.scanned, end + 1), k=4))
            skips = [(bounds[0], bounds[1]), (bounds[2], bounds[3])]
            scanned = set(range(view.scanned, end))
            view.scan(end, skips)
            ready |= scanned.difference(*(range(first, stop) for first, stop in skips))
        elif kind < 0.6:
            view.apply_acked([(low, high)])
            ready -= set(range(low, high))
            leased -= set(range(low, high))
        elif kind < 0.8:
            view.apply_redriven([(low, high)])
            ready |= set(range(low, high)) - leased
        elif (lease := view.acquire("worker", chance.choice((3, 9000)), 0)) is not None:
            leased |= {p for first, end in lease.runs for p in range(first, end)}
            ready -= leased
        assert merge_runs(view.runs_in(PositionState.READY)) == runs_of(ready)
        assert (view.counts().ready, view.counts().leased) == (len(ready), len(leased))
        assert view.oldest == min([*ready, *leased, view.scanned])


@pytest.mark.parametrize("seed", range(6))
def test_a_poisoned_event_is_delivered_its_limit_and_once_more_a_crash(seed: int) -> None:
    """I9: failures are durable, deliveries are not; a crash forgets at most the one that was under way."""
    chance = random.Random(seed)
    rules = DeliveryRules(failures_max=5, lock_ms=100)
    snapshot, records = SequenceView(rules, 0).snapshot(), list[Record]()
    deliveries = crashes = failures = now_ms = 0
    view = SequenceView(rules, 0)
    view.scan(3)
    while view.state(1) not in (PositionState.DYING, PositionState.DONE):
        lease = view.acquire("worker", 3, now_ms)
        assert lease is not None
        deliveries += 1
        if chance.random() < 0.4:
            crashes += 1
            view = SequenceView.restore(rules, snapshot.head, [], [])
            for name, arguments in records:
                getattr(view, f"apply_{name}")(*arguments)
            view.restarted()
            view.scan(3)
        else:
            now_ms += 100
            (expired,) = view.expired(now_ms)
            plan = view.plan_release(view.releasable(expired.id, expired.runs), True, now_ms)
            made: list[Record] = [("released", (runs, True, due_ms)) for runs, due_ms in plan.released]
            made += [("rejecting", (plan.exhausted, 1))] if plan.exhausted else []
            for name, arguments in made:
                getattr(view, f"apply_{name}")(*arguments)
            records += made
        assert view.failures(1) >= failures
        failures = view.failures(1)
    assert deliveries <= rules.failures_max + crashes
    assert [reason for _, reason in view.dying(5)] == [1, 1, 1]


def test_a_number_that_no_lease_had_acknowledges_nothing() -> None:
    """I4: a lease 2³² numbers away has the same word in the pages, and is another."""
    view = SequenceView(DeliveryRules(accepts_late_acks=True), 0)
    view.scan(10)
    lease = view.acquire("worker", 10, 0)
    assert lease is not None
    for lease_id in (lease.id + 2**32, lease.id - 2**32, lease.id + 1, 0, -1):
        assert view.ackable(lease_id, [(0, 10)]) == []
        assert view.releasable(lease_id, [(0, 10)]) == []
    assert view.ackable(lease.id, [(0, 10)]) == [(0, 10)]


def test_what_was_released_remembers_its_lease_only_for_late_acknowledgements() -> None:
    sizes = []
    for accepts in (False, True):
        view = SequenceView(DeliveryRules(accepts_late_acks=accepts), 0)
        view.scan(10)
        view.acquire("worker", 10, 0)
        view.apply_released([(0, 10)], True, None)
        view.freeze()
        sizes.append(len(dict(view.table.frozen.items())[0]))
    assert sizes[1] - sizes[0] == 4 * 10


def test_a_scan_cannot_go_back() -> None:
    view = SequenceView(DeliveryRules(), 0)
    view.scan(10)
    with pytest.raises(ValueError):
        view.scan(9)


def test_a_snapshot_that_contradicts_itself_is_refused() -> None:
    view = SequenceView(DeliveryRules(), 100)
    view.scan(9000)
    view.acquire("worker", 50, 0)
    snapshot = view.snapshot()
    head, pages = snapshot.head, list(snapshot.pages)
    restored = SequenceView.restore(DeliveryRules(), head, pages)
    assert restored.counts().ready == 8900

    def damaged(
        changed: ViewHead = head, also: Sequence[PageState] = (), waiting: Sequence[bytes] = ()
    ) -> None:
        with pytest.raises(ValueError):
            SequenceView.restore(DeliveryRules(), changed, [*pages, *also], waiting)

    damaged(replace(head, scanned=99))
    damaged(replace(head, ready=encode_runs(100, [(8000, 9001)])))
    damaged(replace(head, ready=b"\x80"))
    damaged(also=pages)
    damaged(also=[PageState(1, bytes.fromhex("00010001"))])  # ready without a page already
    damaged(also=[PageState(9, bytes.fromhex("020100 0102"))])  # leased
    damaged(also=[PageState(9, b"")])
    damaged(waiting=[pack_entry(5, 0, 200)])
    damaged(waiting=[pack_entry(5, 0, 200)[1:]])
