"""When events are due that no consumer has: what its publisher delayed waits, as does what is redriven until
its turn, and what waits is woken early.

Owns: this change of a view, which is neither a delivery nor a failure. Refuses: decisions of who may ask for
it, records, and how a publisher says it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from mainstem.queues.pages import AHEAD, PAGE_MASK, PAGE_SHIFT, READY, WAITING, PositionState
from mainstem.queues.range_leases import RangeLeases
from mainstem.queues.rules import DeliveryRules
from mainstem.queues.runs import Run, merge_runs
from mainstem.queues.waits import WaitingPositions

UNDELIVERED_MIN = 1_000
"""Positions up to this number are remembered in any case."""


class ScheduledView(RangeLeases):
    """A view whose positions can be given another due time."""

    def __init__(self, rules: DeliveryRules, start: int, waits: WaitingPositions | None = None) -> None:
        super().__init__(rules, start, waits)
        self.woken: list[Run] = []
        """Positions that were woken early, for which no delay of a publisher counts any more: disjoint,
        ascending."""
        self._undelivered: set[int] = set()
        """Positions that an earlier life may have delivered, by the mark, but did not: they waited for their
        first delivery when it ended."""
        self._undelivered_max = UNDELIVERED_MIN
        self._began_ms = 0
        """When this life began, as long as positions may wait that were due before that: an earlier life may
        have woken and delivered these."""

    def restarted(self, end: int | None = None, now_ms: int = 0) -> None:
        """See `AppliedView.restarted`. `now_ms`: when."""
        super().restarted(end)
        self._began_ms = now_ms

    def _may_have_been_delivered(self, position: int) -> bool:
        return super()._may_have_been_delivered(position) and position not in self._undelivered

    def _note_undelivered(self, positions: Iterable[int]) -> None:
        """These positions waited, and are ready now."""
        for position in positions if not self._began_ms else ():
            if position >= self._delivered_below:
                continue
            page = self.table.page(position >> PAGE_SHIFT)
            if page is not None and page.tries.get(position & PAGE_MASK) is None:
                self._undelivered.add(position)
        if len(self._undelivered) > self._undelivered_max:
            oldest = self.oldest
            self._undelivered = {position for position in self._undelivered if position >= oldest}
            self._undelivered_max = UNDELIVERED_MIN + 2 * len(self._undelivered)

    def apply_delayed(self, due_ms: Mapping[int, int]) -> None:
        """T1: those of these positions that are ahead, ready, or wait already, wait until they are due. The
        others stay as they are."""
        table = self.table
        indexes: set[int] = set()
        for position, time_ms in due_ms.items():
            if position < table.start:
                continue
            index, offset = position >> PAGE_SHIFT, position & PAGE_MASK
            page = table.open(index)
            indexes.add(index)
            state = page.states[offset]
            if state not in (AHEAD, READY, WAITING):
                continue
            if state != AHEAD:
                table.counts[state] -= 1
            if state == WAITING:  # on replay: its time had come before it was delayed again
                self.waits.cancel(position)
            page.states[offset] = WAITING
            table.counts[WAITING] += 1
            self.waits.add(time_ms, position)
        for index in indexes:
            table.drop_if_done(index)

    def apply_woken(self, runs: Sequence[Run]) -> None:
        """These positions of a snapshot were woken early."""
        self.woken = list(runs)

    def apply_sought(self, position: int) -> None:
        """See `AppliedView.apply_sought`."""
        super().apply_sought(position)
        self.woken = []

    def forget_from(self, end: int) -> int:
        """See `AppliedView.forget_from`."""
        self.woken = [(first, min(stop, end)) for first, stop in self.woken if first < end]
        return super().forget_from(end)

    def apply_scheduled(self, runs: Sequence[Run], due_ms: int | None) -> None:
        """T8: those of these positions that are ready or wait are ready now, or wait until they are due. What
        is known of their deliveries stays as it is. The others stay as they are; on replay they may be
        ahead."""
        table = self.table
        target = READY if due_ms is None else WAITING
        woken: list[int] = []
        for index, low, high in self._pieces(runs):
            page, base = table.open(index), index << PAGE_SHIFT
            changed = 0
            for offset, state in enumerate(bytes(page.states[low:high]), low):
                if state not in (AHEAD, READY, WAITING):
                    continue
                if state != AHEAD:
                    table.counts[state] -= 1
                if state == WAITING:
                    self.waits.cancel(base + offset)
                    woken.append(base + offset)
                if due_ms is not None:
                    self.waits.add(due_ms, base + offset)
                page.states[offset] = target
                changed += 1
            table.counts[target] += changed
            if changed and target == READY:
                table.ready_pages.add(index)
            table.drop_if_done(index)
        if due_ms is None:
            self._note_undelivered(woken)
            oldest = self.oldest
            self.woken = merge_runs([run for run in [*self.woken, *runs] if run[1] > oldest])

    def waiting_among(self, runs: Sequence[Run]) -> list[Run]:
        """The parts of the runs that wait for a time."""
        waiting = PositionState.WAITING
        return merge_runs(part for run in merge_runs(runs) for part in self.runs_in(waiting, *run))

    def unleased_among(self, runs: Sequence[Run]) -> list[Run]:
        """The parts of the runs that are neither done nor leased, below the end of the scan: they may be
        cancelled."""
        states = (PositionState.READY, PositionState.WAITING, PositionState.PARKED, PositionState.DYING)
        below = [(first, min(end, self.scanned)) for first, end in merge_runs(runs)]
        return merge_runs(part for run in below for state in states for part in self.runs_in(state, *run))
