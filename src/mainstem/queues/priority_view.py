"""A view whose positions are offered by their priority: of what is ready, always the highest.

`levels.py` selects what is leased; the rest is as in any view. Levels are in no record: after a scan, a
restart and a redrive the view asks for those of its outstanding positions (`unlevelled`, `learn_levels`), and
offers these then.

Owns: the connection of the two. Refuses: to find out levels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

from mainstem.queues.learning_view import LearningView
from mainstem.queues.leases import DeliveryLease
from mainstem.queues.levels import PriorityLevels
from mainstem.queues.pages import LEASED, READY
from mainstem.queues.rules import DeliveryRules
from mainstem.queues.runs import Run, runs_of
from mainstem.queues.waits import WaitingPositions


class PriorityView(LearningView):
    """A view by priority. `rules.priority_max` is fixed for its life."""

    def __init__(self, rules: DeliveryRules, start: int, waits: WaitingPositions | None = None) -> None:
        super().__init__(rules, start, waits)
        self._levels = PriorityLevels()

    # ------------------------------------------------------------------------------------------------------
    # levels

    def unlevelled(self, max_positions: int) -> list[Run]:
        """Outstanding positions whose levels are not known, the lowest first, at most this number. There are
        none if none is returned."""
        runs = runs_of(islice(self._unknown_positions(), max_positions))
        if not runs:
            self._unknown = []
        return runs

    def learn_levels(self, end: int, levels: Mapping[int, int]) -> None:
        """The levels of all outstanding positions below `end` whose levels were not known, if they are not 0.
        A level above the highest of the rules counts as that."""
        highest = self.rules.priority_max
        for first, stop in self._take_unknown(end):
            for position, waits in self._outstanding(first, stop):
                level = min(levels.get(position, 0), highest)
                if waits:
                    self._levels.remember(position, level)
                else:
                    self._levels.add(position, level)

    def _forget_learned(self) -> None:
        super()._forget_learned()
        self._levels = PriorityLevels()

    # ------------------------------------------------------------------------------------------------------
    # transitions

    def scan(self, end: int, skipped: Iterable[Run] = (), due_ms: Mapping[int, int] | None = None) -> None:
        """See `SequenceView.scan`. What becomes ready is offered when its level is known."""
        first = self.scanned
        super().scan(end, skipped, due_ms)
        self._add_unknown([(first, end)])

    def acquire(
        self, consumer: str, max_events: int, now_ms: int, lock_ms: int | None = None
    ) -> DeliveryLease | None:
        """See `SequenceView.acquire`: positions of the highest level that has some, and of no other."""
        room = min(max_events, self.rules.in_flight_max - self.table.counts[LEASED])
        positions = self._levels.take(room, lambda position: self.table.state(position) == READY)
        return self._lease_positions(positions, consumer, now_ms, lock_ms) if positions else None

    def restarted(self, end: int | None = None, now_ms: int = 0) -> None:
        """See `ScheduledView.restarted`. What replay gave back has no levels."""
        super().restarted(end, now_ms)
        self._forget_learned()

    def apply_acked(self, runs: Sequence[Run]) -> None:
        """See `AppliedView.apply_acked`."""
        super().apply_acked(runs)
        self._levels.forget(runs)

    def apply_released(self, runs: Sequence[Run], counts: bool, due_ms: int | None) -> None:
        """See `AppliedView.apply_released`. What is ready again is in its old place among its level."""
        super().apply_released(runs, counts, due_ms)
        if due_ms is None:
            self._give_back(runs)

    def _give_back(self, runs: Iterable[Run]) -> None:
        positions = (position for first, end in runs for position in range(first, end))
        self._levels.give_back(p for p in positions if self.table.state(p) == READY)

    def _void(self, positions: Iterable[int], *, delivered: bool = True) -> None:
        returned = list(positions)
        super()._void(returned, delivered=delivered)
        self._levels.give_back(returned)

    def _wake_due(self, now_ms: int, max_entries: int | None) -> list[int]:
        woken = super()._wake_due(now_ms, max_entries)
        self._levels.give_back(woken)
        return woken

    def apply_scheduled(self, runs: Sequence[Run], due_ms: int | None) -> None:
        """See `ScheduledView.apply_scheduled`. What is made to wait has a level that is not known."""
        super().apply_scheduled(runs, due_ms)
        if due_ms is None:
            self._give_back(runs)
        else:
            self._add_unknown(runs)

    def apply_delayed(self, due_ms: Mapping[int, int]) -> None:
        """See `ScheduledView.apply_delayed`."""
        super().apply_delayed(due_ms)
        self._add_unknown(runs_of(due_ms))

    def apply_rejecting(self, runs: Sequence[Run], reason: int, delivered: bool = True) -> None:
        """See `AppliedView.apply_rejecting`."""
        super().apply_rejecting(runs, reason, delivered)
        self._levels.forget(runs)
