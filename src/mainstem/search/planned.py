"""Searches, facets and comparisons, of whatever log the searches are planned on.

Owns: which executions a call of `contract.Search` needs, and passing on their updates. Refuses: to plan them,
which the search of each kind of log does (`local/search.py`, `cluster/search.py`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from mainstem.clock import Clock
from mainstem.search.compare import ComparedSearches, searches_of
from mainstem.search.contract import Comparison, Facets, SearchRequest, Update
from mainstem.search.execution import SearchExecution
from mainstem.search.match.own_terms import OwnTerms
from mainstem.search.workers.pool import WorkerJob
from mainstem.search.workers.schedule import JobGroup


class PlannedSearch(ABC):
    """The part of `contract.Search` that runs searches once they are planned."""

    _clock: Clock

    @abstractmethod
    async def _start(
        self,
        request: SearchRequest,
        *,
        output: str,
        fields: Sequence[str] = (),
        baseline: str | None = None,
        group: JobGroup[WorkerJob] | None = None,
    ) -> SearchExecution:
        """Plan a search. Returns it, ready to run. `output` and `baseline`: as in ScanRequest. `group`: the
        search that it is part of; None: it is one of its own."""

    async def search(self, request: SearchRequest) -> AsyncGenerator[Update, None]:
        """Implements `Search.search`."""
        execution = await self._start(request, output="count" if request.only_count else "events")
        async with aclosing(execution.updates()) as updates:
            async for update in updates:
                yield update

    async def facets(
        self, request: SearchRequest, fields: Sequence[str], top: int
    ) -> AsyncGenerator[Update | Facets, None]:
        """Implements `Search.facets`."""
        execution = await self._start(request, output="fields", fields=fields)
        async with aclosing(execution.facets(top)) as updates:
            async for update in updates:
                yield update

    async def compare(
        self, selection: SearchRequest, baseline: SearchRequest, fields: Sequence[str] = (), top: int = 20
    ) -> AsyncGenerator[Update | Comparison, None]:
        """Implements `Search.compare`."""
        own_terms = None if fields else OwnTerms(selection.query, baseline.query)
        group: JobGroup[WorkerJob] = JobGroup()
        executions = [
            await self._start(request, output="fields", fields=fields, baseline=other, group=group)
            for request, other in searches_of(selection, baseline)
        ]
        compared = ComparedSearches(executions, own_terms, top)
        async with aclosing(compared.updates(self._clock)) as updates:
            async for update in updates:
                yield update
