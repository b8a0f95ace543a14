"""Giving up positions whose time is over, and those that are exempt from it.

Owns: which positions of a view may expire: those that no consumer has, and that are not done or dying; and
the exemption of redriven positions, which would expire again at once otherwise. Refuses: clocks; the caller
says below which position the time is over.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from heapq import merge

from mainstem.queues.pages import READY, WAITING
from mainstem.queues.rules import DeliveryRules
from mainstem.queues.runs import Run, add_run, complement, merge_runs
from mainstem.queues.schedules import ScheduledView
from mainstem.queues.waits import WaitingPositions


class ExpiringView(ScheduledView):
    """A view whose positions may expire."""

    def __init__(self, rules: DeliveryRules, start: int, waits: WaitingPositions | None = None) -> None:
        super().__init__(rules, start, waits)
        self.exempt: list[Run] = []
        """Redriven positions, for which no time to live counts: disjoint, ascending."""

    def is_exempt(self, position: int) -> bool:
        """Whether no time to live counts for a position."""
        return any(True for _ in self._exempt_within(position, position + 1))

    def _exempt_within(self, first: int, end: int) -> Iterator[Run]:
        """The exempt runs that have positions from `first` to `end`: there may be very many others."""
        exempt = self.exempt
        index = bisect_right(exempt, first, key=lambda run: run[1])
        while index < len(exempt) and exempt[index][0] < end:
            yield exempt[index]
            index += 1

    def expirable(self, end: int, limit: int) -> list[Run]:
        """Positions below `end` that may expire, the lowest first, at most `limit`. Those that are parked in
        key order count as ready here."""
        oldest = self.oldest
        if oldest >= end:
            return []
        table = self.table
        parts = [table.runs_in(state, oldest, end) for state in (READY, WAITING)]
        runs: list[Run] = []
        for first, stop in merge(*parts):
            for low, high in complement(first, stop, self._exempt_within(first, stop)):
                high = min(high, low + limit)
                if low < high:
                    add_run(runs, low, high)
                    limit -= high - low
            if not limit:
                break
        return runs

    def apply_redriven(self, runs: Sequence[Run]) -> None:
        """See `AppliedView.apply_redriven`. The positions are exempt from any time to live."""
        super().apply_redriven(runs)
        oldest = self.oldest
        self.exempt = merge_runs([run for run in [*self.exempt, *runs] if run[1] > oldest])

    def apply_exempt(self, runs: Sequence[Run]) -> None:
        """These positions of a snapshot are exempt."""
        self.exempt = list(runs)

    def apply_sought(self, position: int) -> None:
        """See `AppliedView.apply_sought`."""
        super().apply_sought(position)
        self.exempt = []

    def forget_from(self, end: int) -> int:
        """See `AppliedView.forget_from`."""
        self.exempt = [(first, min(stop, end)) for first, stop in self.exempt if first < end]
        return super().forget_from(end)
