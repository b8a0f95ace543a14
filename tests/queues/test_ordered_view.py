"""Random lives of a view in key order with an index of waiting events that stores runs: I8, I17, I18.

The model beside it is a few dicts that are searched whole.
"""

from __future__ import annotations

import contextlib
import random
from collections import Counter
from collections.abc import Iterable

import pytest

from mainstem.queues import delay_run, delays, stored_run
from mainstem.queues.delay_run import DamagedDelayRun, unpack_entries
from mainstem.queues.delays import DelayIndex
from mainstem.queues.ordered_view import OrderedView
from mainstem.queues.pages import PositionState
from mainstem.queues.rules import DeliveryRules
from mainstem.queues.runs import Run, runs_of
from tests.queues.run_stores import MemoryRuns

CONSUMERS = "abcd"


def positions_of(runs: Iterable[Run]) -> list[int]:
    """All positions of runs."""
    return [position for first, end in runs for position in range(first, end)]


class OrderedLife:
    """A view in key order under random operations."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        is_bounded = self.random.random() < 0.3
        self.rules = DeliveryRules(
            lock_ms=1000,
            backoff_min_ms=self.random.choice((0, 200)),
            failures_max=self.random.choice((0, 4)),
            parked_max=self.random.choice((1, 5, 50)) if is_bounded else 100_000,
            in_flight_max=self.random.choice((40, 100_000)),
            in_key_order=True,
            accepts_late_acks=self.random.random() < 0.5,
        )
        self.keys = self.random.choice((1, 3, 20))
        self.start = self.random.choice((0, 4096 - 30))
        self.now_ms = 1_000_000
        self.store = MemoryRuns()
        self.view = OrderedView(self.rules, self.start, DelayIndex(self.store))
        self.is_bounded = is_bounded
        self.outstanding: set[int] = set()
        """What the scan has reached and is not done, with a key that the view knows."""
        self.unkeyed: set[int] = set()
        """What is outstanding, but redriven, or from before a restart."""
        self.leased: dict[int, tuple[int, str, int]] = {}
        """Position -> lease, consumer, number of the offer."""
        self.waiting: dict[int, int] = {}
        self.dying: set[int] = set()
        self.done: set[int] = set()
        self.offers = 0
        self.lease_ids: list[int] = []

    # the log

    def key(self, position: int) -> int | None:
        """The hash of the key of an event, by its position."""
        return None if position % 13 == 7 else position * 2654435761 % 1009 % self.keys

    def keys_of(self, positions: Iterable[int]) -> dict[int, int]:
        """As a scan gives them."""
        return {p: key for p in positions if (key := self.key(p)) is not None}

    def line(self, position: int) -> list[int]:
        """The events of the position's key that the view may offer, or has offered."""
        key = self.key(position)
        return [position] if key is None else sorted(p for p in self.outstanding if self.key(p) == key)

    # operations

    def steps(self, count: int) -> None:
        """A life."""
        often = [self.scan, self.acquire, self.acquire, self.ack, self.ack, self.nack, self.wake]
        seldom = [
            self.expire,
            self.detach,
            self.reject,
            self.expire_ready,
            self.redrive,
            self.learn,
            self.purge,
        ]
        rarely = [self.restart, self.seek, self.trim, self.damage]
        for step in range(count):
            kind = self.random.random()
            self.random.choice(often if kind < 0.8 else seldom if kind < 0.98 else rarely)()
            self.now_ms += self.random.randrange(100)
            if step % 20 == 0:
                self.check()
        self.check()
        self.drain()

    def scan(self) -> None:
        self.learn()
        first = self.view.scanned
        end = first + self.random.choice((1, 5, 30))
        skipped = {p for p in range(first, end) if p % 17 == 3}
        events = set(range(first, end)) - skipped
        dues = {p: self.now_ms + p % 29 * 40 for p in events if p % 11 == 5}
        self.view.scan(end, runs_of(skipped), dues, self.keys_of(events))
        self.outstanding |= events
        self.waiting |= dues
        self.done |= skipped

    def acquire(self) -> None:
        consumer = self.random.choice(CONSUMERS)
        wanted = self.random.choice((1, 4, 300))
        room = min(wanted, self.rules.in_flight_max - len(self.leased))
        allowed = [
            position
            for position in sorted(self.outstanding - set(self.leased))
            if self.may_have(consumer, position)
        ]
        lease = self.view.acquire(consumer, wanted, self.now_ms)
        offered = positions_of(lease.runs) if lease is not None else []
        if self.is_bounded:
            assert set(offered) <= set(allowed)
        else:
            assert offered == allowed[: max(room, 0)]
        for position in offered:
            assert lease is not None
            assert all(p in self.leased or p >= position for p in self.line(position))
            assert self.view.acquisitions(position) >= 1
            self.leased[position] = (lease.id, consumer, self.offers)
            self.offers += 1
        if lease is not None:
            self.lease_ids.append(lease.id)

    def may_have(self, consumer: str, position: int) -> bool:
        """Whether nothing of the key is in the way."""
        line = self.line(position)
        others = {self.leased[p][1] for p in line if p in self.leased} - {consumer}
        return not others and not any(p in self.waiting for p in line if p <= position)

    def some(self, places: Iterable[int]) -> list[int]:
        """A few of them."""
        ordered = sorted(places)
        return sorted(self.random.sample(ordered, min(len(ordered), self.random.choice((1, 1, 3, 20)))))

    def lease_parts(self, positions: Iterable[int]) -> dict[int, list[Run]]:
        """Positions that are leased, by lease."""
        parts: dict[int, list[int]] = {}
        for position in positions:
            parts.setdefault(self.leased[position][0], []).append(position)
        return {lease_id: runs_of(part) for lease_id, part in parts.items()}

    def ack(self) -> None:
        for lease_id, runs in self.lease_parts(self.some(self.leased)).items():
            assert self.view.ackable(lease_id, runs) == runs
            self.view.apply_acked(runs)
            self.finish(positions_of(runs))
        if self.lease_ids and self.random.random() < 0.3:
            self.ack_late()

    def ack_late(self) -> None:
        """What was taken back or has expired; sometimes it counts."""
        lease_id = self.random.choice(self.lease_ids)
        idle = self.some(self.outstanding - set(self.leased))
        runs = self.view.ackable(lease_id, runs_of(idle))
        assert self.rules.accepts_late_acks or not runs
        self.view.apply_acked(runs)
        self.finish(positions_of(runs))

    def finish(self, positions: Iterable[int]) -> None:
        for position in positions:
            for places in (self.outstanding, self.unkeyed, self.dying):
                places.discard(position)
            self.leased.pop(position, None)
            self.waiting.pop(position, None)
            self.done.add(position)

    def nack(self) -> None:
        delay_ms = self.random.choice((None, 0, 700))
        for lease_id, runs in self.lease_parts(self.some(self.leased)).items():
            self.release(lease_id, runs, self.random.random() < 0.7, delay_ms)

    def release(self, lease_id: int, runs: list[Run], counts: bool, delay_ms: int | None = None) -> None:
        runs = self.view.releasable(lease_id, runs)
        plan = self.view.plan_release(runs, counts, self.now_ms, delay_ms=delay_ms)
        for group, due_ms in plan.released:
            # What the release of an earlier group has taken back is not leased any more.
            group = self.view.releasable(lease_id, group)
            positions = positions_of(group)
            returned = self.later_leases(positions) - set(positions)
            failures = {p: self.view.failures(p) for p in returned}
            self.view.apply_released(group, counts, due_ms)
            assert {p: self.view.failures(p) for p in returned} == failures
            for position in [*positions, *returned]:
                del self.leased[position]
            if due_ms is not None:
                self.waiting |= dict.fromkeys(positions, due_ms)
        if exhausted := self.view.releasable(lease_id, plan.exhausted):
            self.view.apply_rejecting(exhausted, 2)
            self.die(positions_of(exhausted))

    def later_leases(self, positions: list[int]) -> set[int]:
        """What is leased of the same keys and was offered later."""
        return {
            later
            for position in positions
            for later in self.line(position)
            if later in self.leased and self.leased[later][2] > self.leased[position][2]
        }

    def die(self, positions: list[int]) -> None:
        self.outstanding.difference_update(positions)
        self.dying.update(positions)
        for position in positions:
            self.leased.pop(position, None)

    def expire(self) -> None:
        self.now_ms += self.random.choice((0, 600, 1100))
        for lease in self.view.expired(self.now_ms):
            self.release(lease.id, list(lease.runs), True)
        assert self.view.expired(self.now_ms) == []

    def detach(self) -> None:
        consumer = self.random.choice(CONSUMERS)
        for lease in self.view.detach(consumer):
            self.release(lease.id, list(lease.runs), False)
        assert consumer not in {owner for _, owner, _ in self.leased.values()}

    def reject(self) -> None:
        positions = self.some(self.leased)
        self.view.apply_rejecting(runs_of(positions), 7)
        self.die(positions)
        for position in self.some(self.dying):
            self.view.apply_dead_lettered(position)
            self.finish([position])

    def expire_ready(self) -> None:
        """As a time to live does: what is not leased is rejected without a delivery."""
        positions = self.some(self.outstanding - set(self.leased) - set(self.waiting))
        self.view.apply_rejecting(runs_of(positions), 9, delivered=False)
        self.die(positions)

    def wake(self) -> None:
        due = {position for position, due_ms in self.waiting.items() if due_ms <= self.now_ms}
        assert self.view.wake_due(self.now_ms) == len(due)
        for position in due:
            del self.waiting[position]
        next_ms = self.view.next_due_ms()
        assert next_ms is None or next_ms > self.now_ms

    def redrive(self) -> None:
        positions = self.some(p for p in self.done if p >= self.view.start)
        self.view.apply_redriven(runs_of(positions))
        self.done.difference_update(positions)
        self.unkeyed.update(positions)

    def learn(self) -> None:
        """Keys, the lowest first, as a service reads them."""
        while runs := self.view.unkeyed(self.random.choice((1, 10, 1000))):
            positions = positions_of(runs)
            assert positions == sorted(self.unkeyed)[: len(positions)]
            self.view.learn_keys(runs[-1][1], self.keys_of(positions))
            self.outstanding.update(positions)
            self.unkeyed.difference_update(positions)
        assert not self.unkeyed

    def purge(self) -> None:
        if self.random.random() < 0.2:
            end = self.view.scanned
            first = max(self.view.start, end - self.random.choice((10, 2000)))
            self.view.apply_acked([(first, end)])
            self.finish(range(first, end))

    def trim(self) -> None:
        start = self.random.randrange(self.view.start, self.view.scanned + 1)
        undone = sorted(p for p in self.outstanding | self.unkeyed | self.dying if p < start)
        carried = sorted(self.random.sample(undone, min(len(undone), self.random.choice((0, 0, 1, 5)))))
        self.view.apply_carried(carried)
        self.view.apply_trimmed(start, carried)
        self.finish(set(undone) - set(carried))
        self.finish(set(range(self.view.start, start)) - set(carried))
        self.done = {position for position in self.done if position >= self.view.start}

    def seek(self) -> None:
        first = self.random.randrange(self.start, self.view.scanned + 1)
        self.view.apply_sought(first)
        for places in (self.outstanding, self.unkeyed, self.dying, self.done, self.leased, self.waiting):
            places.clear()

    def restart(self) -> None:
        snapshot = self.view.snapshot()
        waiting = list(snapshot.waiting)
        entries = [(due_ms, position) for part in waiting for due_ms, _, position in unpack_entries(part)]
        assert sorted(entries) == sorted((due_ms, position) for position, due_ms in self.waiting.items())
        self.store = MemoryRuns()
        waits = DelayIndex(self.store)
        self.view = OrderedView.restore(self.rules, snapshot.head, snapshot.pages, waiting, waits)
        self.view.restarted()
        self.unkeyed |= self.outstanding
        self.outstanding.clear()
        self.leased.clear()
        assert self.view.acquire("a", 10, self.now_ms) is None, "offered before its key is known"

    def damage(self) -> None:
        """A stored run is lost: it is reported, and the index is built anew of what waits."""
        if not self.store.runs:
            return
        self.store.runs[min(self.store.runs)] = b""
        with contextlib.suppress(DamagedDelayRun):  # unless all of it that waits is in memory
            assert len(list(self.view.waits.entries())) == len(self.waiting)
        self.view.waits.clear()
        for position, due_ms in self.waiting.items():
            self.view.waits.add(due_ms, position)

    # what holds at any time

    def check(self) -> None:
        view = self.view
        states = {p: view.state(p) for p in range(view.start, view.scanned)}
        recount = Counter(states.values())
        counts = view.counts()
        assert (counts.ready, counts.parked) == (recount[PositionState.READY], recount[PositionState.PARKED])
        for state, number, expected in (
            (PositionState.LEASED, counts.leased, self.leased),
            (PositionState.WAITING, counts.waiting, self.waiting),
            (PositionState.DYING, counts.dying, self.dying),
        ):
            assert {p for p, s in states.items() if s == state} == set(expected)
            assert number == len(expected)
        for state in (PositionState.READY, PositionState.PARKED, PositionState.WAITING):
            in_state = [p for p, s in states.items() if s == state]
            assert positions_of(view.runs_in(state)) == in_state
        assert counts.outstanding == len(self.outstanding | self.unkeyed | self.dying)
        assert sorted(view.waits.entries()) == sorted((due, p) for p, due in self.waiting.items())
        for position, state in states.items():
            if state == PositionState.PARKED and (blocker := view.blocker(position)) is not None:
                assert blocker < position
                assert blocker in self.line(position)

    def drain(self) -> None:
        """Everything that is not done is offered, in order, and then nothing is outstanding."""
        for live in [live for consumer in CONSUMERS for live in self.view.detach(consumer)]:
            self.release(live.id, list(live.runs), False)
        self.now_ms += 100_000
        self.wake()
        self.learn()
        last: dict[int | None, int] = {}
        expected = set(self.outstanding)
        while (lease := self.view.acquire("last", 30, self.now_ms)) is not None:
            for position in positions_of(lease.runs):
                key = self.key(position)
                assert key is None or last.get(key, -1) < position
                last[key] = position
            self.view.apply_acked(lease.runs)
            expected -= set(positions_of(lease.runs))
        assert expected == set()
        assert self.view.counts().outstanding == self.view.counts().dying


@pytest.fixture
def _small_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Delay runs and blocks of a few entries."""
    for module in (delay_run, delays):
        monkeypatch.setattr(module, "RUN_ENTRIES", 8)
    for module in (delay_run, delays, stored_run):
        monkeypatch.setattr(module, "BLOCK_ENTRIES", 3)


@pytest.mark.usefixtures("_small_runs")
@pytest.mark.parametrize("seed", range(16))
def test_a_view_in_key_order_is_the_naive_one(seed: int) -> None:
    OrderedLife(seed).steps(400)


@pytest.mark.slow
@pytest.mark.usefixtures("_small_runs")
def test_many_views_in_key_order_are_the_naive_ones() -> None:
    for seed in range(100, 200):
        OrderedLife(seed).steps(400)


def test_a_hot_key_does_not_stop_others() -> None:
    view = OrderedView(DeliveryRules(in_key_order=True), 0)
    view.scan(5000, keys={position: 0 if position % 5 else position for position in range(5000)})
    slow = view.acquire("slow", 2, 0)
    assert slow is not None
    assert slow.runs == ((0, 2),)
    lease = view.acquire("x", 5000, 0)
    assert lease is not None
    assert positions_of(lease.runs) == list(range(5, 5000, 5))
    assert view.counts().parked == 3999
    assert view.state(2) == PositionState.PARKED
    assert view.blocker(2) == 0


def test_the_scan_stops_when_only_parked_events_follow_and_goes_on_when_the_key_is_free() -> None:
    view = OrderedView(DeliveryRules(in_key_order=True), 0)
    view.scan(12_000, keys=dict.fromkeys(range(12_000), 1))
    first = view.acquire("slow", 1, 0)
    assert first is not None
    assert view.acquire("x", 10, 0) is None
    assert view.is_full
    assert (view.counts().parked, view.counts().ready) == (10_000, 1999)
    view.apply_acked(first.runs)
    assert not view.is_full
    lease = view.acquire("x", 12_000, 0)
    assert lease is not None
    assert lease.runs == ((1, 12_000),)


def test_a_late_ack_of_a_lease_that_was_taken_back_counts_where_it_may() -> None:
    view = OrderedView(DeliveryRules(in_key_order=True, accepts_late_acks=True), 0)
    view.scan(3, keys=dict.fromkeys(range(3), 1))
    lease = view.acquire("x", 3, 0)
    assert lease is not None
    view.apply_released([(0, 1)], True, 500)
    assert view.releasable(lease.id, [(1, 3)]) == []
    assert view.ackable(lease.id, [(1, 2)]) == [(1, 2)]
    view.apply_acked([(1, 2)])
    assert view.acquire("y", 3, 400) is None
    assert view.wake_due(500) == 1
    offered = view.acquire("y", 3, 500)
    assert offered is not None
    assert positions_of(offered.runs) == [0, 2]
    assert (view.failures(0), view.failures(2)) == (1, 0)


def test_a_scan_waits_for_the_keys_of_what_is_outstanding() -> None:
    view = OrderedView(DeliveryRules(in_key_order=True), 0)
    view.scan(6, keys=dict.fromkeys(range(6), 1))
    lease = view.acquire("x", 2, 0)
    assert lease is not None
    view.apply_acked([(0, 1)])
    snapshot = view.snapshot()
    view = OrderedView.restore(view.rules, snapshot.head, snapshot.pages)
    with pytest.raises(ValueError, match="not known yet"):
        view.scan(7)
    assert view.unkeyed(3) == [(1, 4)]
    view.learn_keys(4, dict.fromkeys(range(1, 4), 1))
    assert view.unkeyed(99) == [(4, 6)]
    first = view.acquire("x", 9, 0)
    assert first is not None
    assert first.runs == ((1, 4),)
    view.learn_keys(6, dict.fromkeys(range(4, 6), 1))
    assert view.acquire("y", 9, 0) is None
    view.scan(7)
    other = view.acquire("y", 9, 0)
    assert other is not None
    assert other.runs == ((6, 7),)
