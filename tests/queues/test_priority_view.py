"""A view by priority offers the highest of what is ready, whatever happened to its positions before."""

from __future__ import annotations

import random

import pytest

from mainstem.queues import levels as levels_module
from mainstem.queues import page_table
from mainstem.queues.pages import PositionState
from mainstem.queues.priority_view import PriorityView
from mainstem.queues.rules import DeliveryRules
from mainstem.queues.runs import runs_of

RULES = DeliveryRules(priority_max=5)


def given(position: int) -> int:
    """What the publisher of an event says: some say nothing, some more than the highest."""
    return (0, 0, 0, 3, 5, 200)[position * 7 % 6]


class PriorityLife:
    """Random operations on a view, beside what it should offer."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.view = PriorityView(RULES, 10)
        self.now_ms = 1_000
        self.taken: list[tuple[int, int]] = []
        """(lease, position) that were taken, and not answered."""

    def learn(self) -> None:
        """Learn all levels, in parts."""
        while runs := self.view.unlevelled(self.random.choice((1, 7, 500))):
            positions = [position for run in runs for position in range(*run)]
            self.view.learn_levels(positions[-1] + 1, {p: given(p) for p in positions if given(p)})

    def ready(self) -> list[int]:
        return [p for run in self.view.runs_in(PositionState.READY) for p in range(*run)]

    def acquire(self) -> None:
        self.learn()
        ranked = sorted(self.ready(), key=lambda position: (-min(given(position), 5), position))
        wanted = self.random.choice((1, 4, 60))
        lease = self.view.acquire("c", wanted, self.now_ms)
        positions = [p for run in lease.runs for p in range(*run)] if lease is not None else []
        top = [p for p in ranked if min(given(p), 5) == min(given(ranked[0]), 5)]
        assert positions == top[:wanted]
        if lease is not None:
            self.taken += [(lease.id, position) for position in positions]

    def answer(self) -> None:
        self.random.shuffle(self.taken)
        chosen, self.taken = self.taken[:9], self.taken[9:]
        for lease, position in chosen:
            runs = self.view.releasable(lease, [(position, position + 1)])
            match self.random.randrange(6) if runs else -1:
                case 0 | 1:
                    self.view.apply_acked(runs)
                case 2:
                    self.view.apply_released(runs, True, None)
                case 3:
                    self.view.apply_released(runs, True, self.now_ms + self.random.randrange(1, 400))
                case 4:
                    self.view.apply_rejecting(runs, 1)
                case 5:
                    self.view.withdraw(lease, runs)

    def change(self) -> None:
        view, low = self.view, self.random.randrange(self.view.start, self.view.scanned + 1)
        runs = [(low, low + self.random.randrange(1, 40))]
        match self.random.randrange(7):
            case 0:
                view.apply_redriven(view.redrivable(runs))
            case 1:
                view.apply_scheduled(view.waiting_among(runs), None)
            case 2:
                due_ms = self.now_ms + self.random.randrange(1, 400)
                view.apply_delayed({p: due_ms for p in self.ready()[-5:] if view.may_be_delayed(p)})
            case 3:
                view.apply_acked(runs_of(self.ready()[: self.random.choice((0, 2, 50))]))
            case 4 if self.random.random() < 0.3:
                view.apply_sought(low)
            case 5 if self.random.random() < 0.3:
                view.apply_trimmed(low, self.ready()[:1] if self.ready()[:1] < [low] else ())
            case 6:
                view.freeze()

    def restart(self) -> None:
        snapshot = self.view.snapshot()
        self.view = PriorityView.restore(RULES, snapshot.head, snapshot.pages, snapshot.waiting)
        self.view.restarted(now_ms=self.now_ms)

    def steps(self, count: int) -> None:
        for _ in range(count):
            self.now_ms += self.random.randrange(60)
            kind = self.random.random()
            if kind < 0.2:
                end = self.view.scanned + self.random.choice((1, 30, 300))
                skipped = [p for p in range(self.view.scanned, end) if p % 5 == 2]
                self.view.scan(end, runs_of(skipped))
            elif kind < 0.85:
                self.random.choice((self.acquire, self.answer))()
            elif kind < 0.98:
                self.view.wake_due(self.now_ms)
                self.change()
            else:
                self.restart()


@pytest.mark.parametrize("seed", range(4))
def test_the_highest_that_is_ready_comes_first(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_table, "OPEN_PAGES_MAX", 2)
    monkeypatch.setattr(levels_module, "_COMPACTION", 4)
    PriorityLife(seed).steps(160)


def test_what_is_behind_a_backlog_passes_it() -> None:
    view = PriorityView(RULES, 0)
    view.scan(20_000)
    view.learn_levels(20_000, {19_999: 1})
    leases = [view.acquire("c", 1_000, 0) for _ in range(2)]
    assert [lease and lease.runs for lease in leases] == [((19_999, 20_000),), ((0, 1_000),)]
    assert view.counts().ready == 20_000 - 1_001
