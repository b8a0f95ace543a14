"""A view that offers a position only when something is known of it that no record has: a key, a level.

After a scan, a restart and a redrive it has to be learned for what is outstanding.

Owns: of which positions it is not known. Refuses: what it is, and to find it out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from heapq import merge
from typing import Self

from mainstem.queues.pages import READY, WAITING
from mainstem.queues.rules import DeliveryRules
from mainstem.queues.runs import Run, merge_runs
from mainstem.queues.view import SequenceView
from mainstem.queues.view_types import PageState, ViewHead
from mainstem.queues.waits import WaitingPositions


class LearningView(SequenceView):
    """What views have in common that learn about their positions."""

    deals_by_position = False

    def __init__(self, rules: DeliveryRules, start: int, waits: WaitingPositions | None = None) -> None:
        super().__init__(rules, start, waits)
        self._unknown: list[Run] = []
        """Runs that have all outstanding positions below `scanned` of which it is not known."""

    @classmethod
    def restore(
        cls,
        rules: DeliveryRules,
        head: ViewHead,
        pages: Iterable[PageState],
        waiting: Iterable[bytes] = (),
        waits: WaitingPositions | None = None,
    ) -> Self:
        """See `AppliedView.restore`. Nothing is known."""
        view = super().restore(rules, head, pages, waiting, waits)
        view._forget_learned()
        return view

    def _unknown_positions(self) -> Iterator[int]:
        """The outstanding positions in the unknown runs, ascending."""
        return (position for first, end in self._unknown for position, _ in self._outstanding(first, end))

    def _take_unknown(self, end: int) -> list[Run]:
        """The unknown runs below `end`, which are known from now on."""
        taken = [(first, min(stop, end)) for first, stop in self._unknown if first < end]
        self._unknown = [(max(first, end), stop) for first, stop in self._unknown if end < stop]
        return taken

    def _add_unknown(self, runs: Iterable[Run]) -> None:
        self._unknown = merge_runs([*self._unknown, *runs])

    def _forget_learned(self) -> None:
        self._unknown = merge_runs([(self.start, self.scanned)])

    def _outstanding(self, first: int, end: int) -> Iterator[tuple[int, bool]]:
        """(position, whether it waits) of what is ready or waits between two positions, ascending."""
        ready = ((run, False) for run in self.table.runs_in(READY, first, end))
        waiting = ((run, True) for run in self.table.runs_in(WAITING, first, end))
        runs = merge(ready, waiting) if self.table.counts[WAITING] else ready
        yield from ((position, waits) for (low, high), waits in runs for position in range(low, high))

    # ------------------------------------------------------------------------------------------------------
    # transitions

    def apply_redriven(self, runs: Sequence[Run]) -> None:
        """See `AppliedView.apply_redriven`. The positions are offered when it is known of them."""
        super().apply_redriven(runs)
        self._add_unknown((first, min(end, self.scanned)) for first, end in runs if first < self.scanned)

    def apply_sought(self, position: int) -> None:
        """See `AppliedView.apply_sought`."""
        super().apply_sought(position)
        self._forget_learned()

    def apply_trimmed(self, start: int, carried: Sequence[int] = ()) -> None:
        """See `AppliedView.apply_trimmed`. It is not known of what is carried over unscanned."""
        scanned = self.scanned
        super().apply_trimmed(start, carried)
        self._add_unknown((position, position + 1) for position in carried if position >= scanned)

    def forget_from(self, end: int) -> int:
        """See `AppliedView.forget_from`. Nothing is known any more."""
        forgotten = super().forget_from(end)
        self._forget_learned()
        return forgotten
