"""Positions that may expire, beside very many that are exempt."""

from __future__ import annotations

from collections.abc import Iterator
from typing import SupportsIndex

from mainstem.queues.rules import DeliveryRules
from mainstem.queues.runs import Run
from mainstem.queues.view import SequenceView

EVENTS = 1_000


class CountedRuns(list[Run]):
    """Counts how many of its runs were looked at."""

    looked = 0

    def __getitem__(self, index: SupportsIndex) -> Run:  # type: ignore[override]
        self.looked += 1
        return super().__getitem__(index)

    def __iter__(self) -> Iterator[Run]:
        for run in super().__iter__():
            self.looked += 1
            yield run


def redriven_view(*runs: Run) -> SequenceView:
    view = SequenceView(DeliveryRules(), 0)
    view.scan(20)
    view.apply_acked([(0, 20)])
    view.apply_redriven(runs)
    return view


def test_what_was_redriven_is_known_until_it_is_given_up_or_trimmed() -> None:
    view = redriven_view((0, 4), (6, 8), (10, 14))
    view.apply_acked([(0, 20)])
    assert [position for position in range(20) if view.was_redriven(position)] == [
        *range(4),
        6,
        7,
        *range(10, 14),
    ]
    view.apply_rejecting([(2, 3), (5, 12)], 1)
    assert view.exempt == [(0, 4), (6, 8), (10, 14)], "what is done is not given up"


def test_what_is_given_up_again_was_not_redriven_since() -> None:
    view = redriven_view((0, 4), (6, 8), (10, 14))
    copied = view.exempt
    view.apply_rejecting([(2, 3), (5, 12)], 1)
    assert view.exempt == [(0, 2), (3, 4), (12, 14)]
    assert copied == [(0, 4), (6, 8), (10, 14)], "a snapshot has it"
    view.apply_dropped([(13, 14)])
    assert view.exempt == [(0, 2), (3, 4), (12, 13)]
    view.apply_trimmed(4)
    assert view.exempt == [(12, 13)]
    view.apply_redriven([(13, 14)])
    assert view.exempt == [(12, 14)]


def test_scattered_positions_that_were_redriven_are_looked_at_once() -> None:
    view = SequenceView(DeliveryRules(), 0)
    view.scan(EVENTS)
    view.apply_acked([(0, EVENTS)])
    view.apply_redriven([(position, position + 1) for position in range(0, EVENTS - 2, 2)])
    view.scan(EVENTS + 1)
    exempt = view.exempt = CountedRuns(view.exempt)
    assert view.expirable(EVENTS + 1, 10) == [(EVENTS, EVENTS + 1)]
    assert view.is_exempt(0)
    assert not view.is_exempt(1)
    assert view.is_exempt(EVENTS - 4)
    assert not view.is_exempt(EVENTS)
    assert exempt.looked < 20 * EVENTS
