"""When events are due that no consumer has: what waits is woken early, what is redriven waits for its turn.

Owns: this change of a view, which is neither a delivery nor a failure. Refuses: decisions of who may ask for
it, and records.
"""

from __future__ import annotations

from collections.abc import Sequence

from mainstem.queues.pages import AHEAD, PAGE_SHIFT, READY, WAITING, PositionState
from mainstem.queues.range_leases import RangeLeases
from mainstem.queues.runs import Run, merge_runs


class ScheduledView(RangeLeases):
    """A view whose positions can be given another due time."""

    def apply_scheduled(self, runs: Sequence[Run], due_ms: int | None) -> None:
        """T8: those of these positions that are ready or wait are ready now, or wait until they are due. What
        is known of their deliveries stays as it is. The others stay as they are; on replay they may be
        ahead."""
        table = self.table
        target = READY if due_ms is None else WAITING
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
                if due_ms is not None:
                    self.waits.add(due_ms, base + offset)
                page.states[offset] = target
                changed += 1
            table.counts[target] += changed
            if changed and target == READY:
                table.ready_pages.add(index)
            table.drop_if_done(index)

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
