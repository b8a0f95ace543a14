"""Giving up positions whose time is over, and those that are exempt from it.

Owns: which positions of a view may expire: those that no consumer has, and that are not done or dying; and
which were redriven: these are exempt, for they would expire again at once otherwise, and their dead letters
are of the past. Refuses: clocks; the caller says below which position the time is over.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from heapq import merge

from mainstem.queues.pages import READY, WAITING, PositionState
from mainstem.queues.rules import DeliveryRules
from mainstem.queues.runs import Run, add_run, complement, has_position, merge_runs, runs_of
from mainstem.queues.schedules import ScheduledView
from mainstem.queues.waits import WaitingPositions


class ExpiringView(ScheduledView):
    """A view whose positions may expire."""

    def __init__(self, rules: DeliveryRules, start: int, waits: WaitingPositions | None = None) -> None:
        super().__init__(rules, start, waits)
        self.exempt: list[Run] = []
        """Positions that were redriven and not given up since, for which no time to live counts: disjoint,
        ascending. Not changed in place: snapshots copy it by reference."""
        self.reopenings = 0
        """How often positions that were done have been made outstanding again."""

    def is_exempt(self, position: int) -> bool:
        """Whether no time to live counts for a position."""
        return has_position(self.exempt, position)

    def counts_delay(self, position: int) -> bool:
        """Whether a delay of its publisher counts for a position: it was not redriven or woken early."""
        return not (has_position(self.exempt, position) or has_position(self.woken, position))

    def may_be_delayed(self, position: int) -> bool:
        """Whether a position is ready, and a delay of its publisher counts for it."""
        return self.table.state(position) == READY and self.counts_delay(position)

    def was_redriven(self, position: int) -> bool:
        """Whether a position was redriven, and has not been given up since; not after a seek."""
        return self.is_exempt(position)

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
        self.reopenings += 1
        self.exempt = merge_runs([*self.exempt, *runs])

    def apply_rejecting(self, runs: Sequence[Run], reason: int, delivered: bool = True) -> None:
        """See `AppliedView.apply_rejecting`."""
        super().apply_rejecting(runs, reason, delivered)
        if self.exempt:
            among = self._exempt_among(runs)
            self._end_exemption(
                runs_of(position for position in among if self.state(position) is PositionState.DYING)
            )

    def apply_dropped(self, runs: Sequence[Run]) -> None:
        """These positions were given up, and are done without dead letters."""
        self.apply_acked(runs)
        if self.exempt:
            self._end_exemption(runs_of(self._exempt_among(runs)))

    def _exempt_among(self, runs: Sequence[Run]) -> Iterator[int]:
        for first, end in runs:
            for low, high in self._exempt_within(first, end):
                yield from range(max(first, low), min(end, high))

    def _end_exemption(self, runs: Sequence[Run]) -> None:
        if not runs:
            return
        exempt = list(self.exempt)
        for first, end in runs:
            low = bisect_right(exempt, first, key=lambda run: run[1])
            high = low
            while high < len(exempt) and exempt[high][0] < end:
                high += 1
            parts = [(begin, first) for begin, _ in exempt[low : low + 1] if begin < first]
            if high > low:
                last_end = exempt[high - 1][1]
                exempt[low:high] = [*parts, *([(end, last_end)] if last_end > end else [])]
        self.exempt = exempt

    def apply_exempt(self, runs: Sequence[Run]) -> None:
        """These positions of a snapshot are exempt, too: later ones than those before."""
        self.exempt = [*self.exempt, *runs]

    def apply_trimmed(self, start: int, carried: Sequence[int] = ()) -> None:
        """See `AppliedView.apply_trimmed`."""
        super().apply_trimmed(start, carried)
        if self.exempt and self.exempt[0][1] <= self.start:
            self.exempt = self.exempt[bisect_right(self.exempt, self.start, key=lambda run: run[1]) :]

    def apply_sought(self, position: int) -> None:
        """See `AppliedView.apply_sought`."""
        super().apply_sought(position)
        self.reopenings += 1
        self.exempt = []

    def forget_from(self, end: int) -> int:
        """See `AppliedView.forget_from`."""
        self.exempt = [(first, min(stop, end)) for first, stop in self.exempt if first < end]
        return super().forget_from(end)
