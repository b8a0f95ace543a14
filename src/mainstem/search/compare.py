"""Compares how frequent field values are in the matches of two searches.

Owns: running both searches as one that reads each event once, if they search the same topics and times, and
otherwise side by side, so that they are compared over about the same events at any time; and the ranking of
the differences. Refuses: to count values (`facets.py`).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace
from heapq import nsmallest
from itertools import islice

from mainstem.clock import Clock
from mainstem.search.contract import (
    PARTIAL_INTERVAL_S,
    Comparison,
    Difference,
    Done,
    Progress,
    SearchRequest,
    Totals,
    Unreadable,
    Update,
)
from mainstem.search.execution import SearchExecution
from mainstem.search.facets import FieldCounts
from mainstem.search.match.own_terms import OwnTerms
from mainstem.turns import next_turn

NO_COUNTS = FieldCounts({}, {}, {})
VALUES_A_TURN = 500
"""Values that are compared without letting other tasks of the event loop run: about 0.5 ms."""


def searches_of(selection: SearchRequest, baseline: SearchRequest) -> list[tuple[SearchRequest, str | None]]:
    """The searches to run for a comparison, each with the query of its baseline, if it has one."""
    if selection.limit is None and replace(selection, query=baseline.query) == baseline:
        return [(selection, baseline.query)]
    return [(selection, None), (baseline, None)]


class ComparedSearches:
    """One or two searches that count the values of the selection and of the baseline, and their comparison so
    far."""

    def __init__(
        self,
        executions: Sequence[SearchExecution],
        own_terms: OwnTerms | None,
        top: int,
    ) -> None:
        """`executions`: of `searches_of` the two requests. `own_terms`: those of both queries, which are
        left out; None: of fields that were asked for by name, nothing is left out."""
        self._executions = executions
        self._own_terms, self._top = own_terms, top
        self._unreadable: set[Unreadable] = set()

    async def updates(self, clock: Clock) -> AsyncGenerator[Update | Comparison, None]:
        """As `Search.compare`."""
        ends: dict[int, Done] = {}
        partial_due = clock.monotonic() + PARTIAL_INTERVAL_S
        async with AsyncExitStack() as stack:
            running = [
                await stack.enter_async_context(aclosing(execution.updates()))
                for execution in self._executions
            ]
            while len(ends) < len(running):
                number = self._behind(ends)
                update = await anext(running[number])
                if isinstance(update, Done):
                    ends[number] = update
                elif isinstance(update, Progress):
                    yield Progress(self._totals(), None)
                    if clock.monotonic() >= partial_due:
                        yield await self._comparison(clock)
                        partial_due = clock.monotonic() + PARTIAL_INTERVAL_S
                elif isinstance(update, Unreadable) and update not in self._unreadable:
                    self._unreadable.add(update)
                    yield update
        yield await self._comparison(clock)
        reasons = [end.reason for end in ends.values()]
        yield Done(
            next((reason for reason in reasons if reason != "complete"), "complete"), self._totals(), None
        )

    def _behind(self, ends: dict[int, Done]) -> int:
        """The number of the search that is further from its end."""
        unfinished = [number for number in range(len(self._executions)) if number not in ends]
        return min(unfinished, key=lambda number: self._executions[number].totals_so_far().share)

    def _totals(self) -> Totals:
        selection, *others = (execution.totals_so_far() for execution in self._executions)
        if not others:
            return replace(selection, matches=selection.matches + self._executions[0].baseline_matches)
        (baseline,) = others
        total_bytes = None
        if selection.total_bytes is not None and baseline.total_bytes is not None:
            total_bytes = selection.total_bytes + baseline.total_bytes
        return Totals(
            scanned_bytes=selection.scanned_bytes + baseline.scanned_bytes,
            skipped_bytes=selection.skipped_bytes + baseline.skipped_bytes,
            indexed_bytes=selection.indexed_bytes + baseline.indexed_bytes,
            removed_bytes=selection.removed_bytes + baseline.removed_bytes,
            total_bytes=total_bytes,
            events=selection.events + baseline.events,
            matches=selection.matches + baseline.matches,
            undecodable=len(self._unreadable),
            share=(selection.share + baseline.share) / 2,
            elapsed_s=max(selection.elapsed_s, baseline.elapsed_s),
            partitions=max(selection.partitions, baseline.partitions),
            index_note=selection.index_note or baseline.index_note,
        )

    async def _comparison(self, clock: Clock) -> Comparison:
        """The values counted so far, compared."""
        selection, baseline = self._executions[0], self._executions[-1]
        selected, fields = selection.totals.matches, selection.facet_counts.fields
        if selection is baseline:
            others, baseline_fields = baseline.baseline_matches, baseline.baseline_counts.fields
        else:
            others, baseline_fields = baseline.totals.matches, baseline.facet_counts.fields
        ranked: list[Difference] = []
        for name in {**fields, **baseline_fields}:
            rows = differences(
                name,
                fields.get(name, NO_COUNTS),
                selected,
                baseline_fields.get(name, NO_COUNTS),
                others,
            )
            while part := list(islice(rows, VALUES_A_TURN)):
                if self._own_terms is not None:
                    part = [row for row in part if not self._is_trivial(row)]
                ranked = nsmallest(self._top, ranked + part, key=_rank)
                await next_turn(clock)
        return Comparison(selected, others, ranked)

    def _is_trivial(self, difference: Difference) -> bool:
        """Whether a difference follows from the queries alone: one of them asks for the value, or excludes
        it."""
        own_terms, field = self._own_terms, difference.field
        assert own_terms is not None
        if field in own_terms.fields and not (difference.selected and difference.baseline):
            return True
        return own_terms.tests(field, difference.value)


def differences(
    name: str, selection: FieldCounts, selected_events: int, baseline: FieldCounts, baseline_events: int
) -> Iterator[Difference]:
    """The values of a field with their shares of the selected and of the baseline events."""
    spellings = {**baseline.spellings, **selection.spellings}  # the same for both, to find equal numbers
    selected_counts, baseline_counts = selection.shown(spellings), baseline.shown(spellings)
    for value in {**selected_counts, **baseline_counts}:
        selected, others = selected_counts.get(value, 0), baseline_counts.get(value, 0)
        yield Difference(
            name,
            value,
            selected,
            selected / selected_events if selected_events else 0.0,
            others,
            others / baseline_events if baseline_events else 0.0,
        )


def _rank(difference: Difference) -> tuple[float, str, str]:
    """The largest difference of the shares first."""
    return (
        -abs(difference.selected_share - difference.baseline_share),
        difference.field,
        difference.value,
    )
