"""Leases by ranges of positions, beside a dict of owners."""

from __future__ import annotations

import random

import pytest

from mainstem.queues import page_table
from mainstem.queues.pages import PositionState
from mainstem.queues.rules import DeliveryRules
from mainstem.queues.runs import merge_runs, runs_of
from mainstem.queues.view import SequenceView

BASE = 4096 * 3 - 150
"""The positions of these tests are on both sides of the end of a page."""


def view_of(count: int, in_flight_max: int = 100_000) -> SequenceView:
    view = SequenceView(DeliveryRules(lock_ms=1000, in_flight_max=in_flight_max), BASE)
    view.scan(BASE + count)
    return view


def test_what_is_ready_of_the_runs_is_leased_and_no_more_than_may_be_in_flight() -> None:
    view = view_of(300, in_flight_max=120)
    lease = view.acquire_runs("a", [(BASE + 10, BASE + 20), (BASE + 140, BASE + 160)], 0)
    assert lease is not None
    assert lease.runs == ((BASE + 10, BASE + 20), (BASE + 140, BASE + 160))
    assert view.first_ready() == BASE
    more = view.acquire_runs("b", [(BASE, BASE + 300)], 0)
    assert more is not None
    assert more.runs == ((BASE, BASE + 10), (BASE + 20, BASE + 100))
    assert view.acquire_runs("b", [(BASE + 200, BASE + 210)], 0) is None
    assert view.first_ready() == BASE + 100
    assert view.counts().leased == 120


def test_a_consumer_has_what_its_leases_have_together() -> None:
    view = view_of(300)
    view.acquire("a", 100, 0)
    view.acquire("a", 100, 0)
    view.acquire("b", 50, 0)
    assert view.has_leased("a", [(BASE + 50, BASE + 200)])
    assert not view.has_leased("a", [(BASE + 150, BASE + 201)])
    assert not view.has_leased("b", [(BASE + 150, BASE + 201)])
    assert not view.has_leased("b", [(BASE + 240, BASE + 260)])
    assert not view.has_leased("a", [(0, 2**62)]), "more than is leased at all"


def test_renewing_a_part_of_a_lease_leaves_the_deadline_of_the_others() -> None:
    view = view_of(300)
    lease = view.acquire("a", 200, 0)
    assert lease is not None
    view.renew([(BASE + 100, BASE + 180)], 600)
    view.apply_acked([(BASE, BASE + 50)])
    assert view.next_deadline_ms() == 1000
    assert sum(lease.left for lease in view.expired(1100)) == 70
    expired = view.expired(1100)[0]
    released = view.releasable(expired.id, expired.runs)
    assert released == [(BASE + 50, BASE + 100), (BASE + 180, BASE + 200)]
    view.apply_released(released, True, None)
    assert view.next_deadline_ms() == 1600
    view.renew([(BASE + 100, BASE + 180)], 1500)
    assert view.next_deadline_ms() == 2500
    assert len(view.leases) == 1, "all that a lease has: it goes on"


def test_runs_are_cut_where_the_failures_change() -> None:
    view = view_of(300)
    assert view.failure_runs([(BASE, BASE + 300)]) == [(BASE, BASE + 300, 0)]
    for run in ((BASE + 10, BASE + 12), (BASE + 11, BASE + 12), (BASE + 149, BASE + 152)):
        view.acquire_runs("a", [run], 0)
        view.apply_released([run], True, None)
    assert view.failure_runs([(BASE, BASE + 160)]) == [
        (BASE, BASE + 10, 0),
        (BASE + 10, BASE + 11, 1),
        (BASE + 11, BASE + 12, 2),
        (BASE + 12, BASE + 149, 0),
        (BASE + 149, BASE + 152, 1),
        (BASE + 152, BASE + 160, 0),
    ]


class RangeLife:
    """A view under random operations by range, and who has which position."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.view = view_of(600)
        self.owners: dict[int, str] = {}
        self.done: set[int] = set()

    def run(self) -> list[int]:
        first = BASE + self.random.randrange(600)
        return list(range(first, min(BASE + 600, first + self.random.choice((1, 3, 40, 200)))))

    def step(self) -> None:
        consumer, positions = self.random.choice("abc"), self.run()
        runs = runs_of(positions)
        owned = all(self.owners.get(position) == consumer for position in positions)
        assert self.view.has_leased(consumer, runs) == owned
        match self.random.randrange(5):
            case 0 | 1:
                free = [p for p in positions if p not in self.owners and p not in self.done]
                lease = self.view.acquire_runs(consumer, runs, 0)
                assert (list(lease.runs) if lease is not None else []) == runs_of(free)
                self.owners.update(dict.fromkeys(free, consumer))
            case 2:
                mine = [p for p in positions if self.owners.get(p) == consumer]
                self.view.apply_acked(runs_of(mine))
                self.forget(mine)
                self.done.update(mine)
            case 3:
                mine = [p for p in positions if self.owners.get(p) == consumer]
                self.view.apply_released(runs_of(mine), True, None)
                self.forget(mine)
            case _ if owned:
                self.view.renew(runs, self.random.randrange(1000))

    def forget(self, positions: list[int]) -> None:
        for position in positions:
            del self.owners[position]

    def check(self) -> None:
        leased = merge_runs(self.view.runs_in(PositionState.LEASED))
        assert leased == runs_of(self.owners)
        free = [p for p in range(BASE, BASE + 600) if p not in self.owners and p not in self.done]
        assert self.view.first_ready() == min(free, default=None)
        assert sum(lease.left for lease in self.view.leases.by_word.values()) == len(self.owners)


@pytest.mark.parametrize("seed", range(3))
def test_leases_are_what_a_dict_of_owners_is(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_table, "OPEN_PAGES_MAX", 1)  # so pages freeze all the time
    life = RangeLife(seed)
    for step in range(150):
        life.step()
        if step % 10 == 0:
            life.check()
