"""Runs the searches of the HTTP door: at most SEARCHES_MAX at once, counted for the metrics.

Owns: the limit, and turning errors of queries into problems. What a query means, and how a search is
executed, is in `mainstem.search`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import TypeAlias

from mainstem.doors.http.endpoint import Call, unless_client_leaves
from mainstem.doors.http.problem import Problem
from mainstem.search.contract import Comparison, Done, Facets, Progress, Totals, Update
from mainstem.search.query.errors import QueryError

AnyUpdate: TypeAlias = Update | Facets | Comparison
Updates: TypeAlias = AsyncGenerator[AnyUpdate, None]

SEARCHES_MAX = 16
"""Maximum number of searches that run at the same time, over all clients."""


def query_problem(error: QueryError) -> Problem:
    """The problem of a query that cannot be parsed, with the position of the error."""
    return Problem("query", error.message, column=error.column, length=error.length)


@asynccontextmanager
async def search_slot(call: Call) -> AsyncIterator[None]:
    """Occupy one of the SEARCHES_MAX slots in this context. Raises the problem `busy` if all are occupied; a
    QueryError raised inside becomes the problem `query`."""
    if call.context.search_slots.locked():
        raise Problem("busy", f"{SEARCHES_MAX} searches are running already", headers={"retry-after": "2"})
    stats = call.context.search_stats
    async with call.context.search_slots:
        stats.running += 1
        stats.total += 1
        try:
            yield
        except QueryError as error:
            raise query_problem(error) from None
        finally:
            stats.running -= 1
            assert stats.running >= 0, "a search ends once"


async def start_search(call: Call, unstarted: Updates) -> tuple[Updates, Callable[[], Awaitable[None]]]:
    """Start a search in a slot and wait for its first update, so that an error in the request is raised here.

    Returns all its updates, and a function that ends the search and frees the slot; it must be awaited."""
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(search_slot(call))
        updates = await stack.enter_async_context(aclosing(unstarted))
        first = await unless_client_leaves(call, anext(updates))
        release = stack.pop_all().aclose

    async def all_updates() -> Updates:
        totals = Totals()
        try:
            yield first
            async for update in updates:
                if isinstance(update, (Progress, Done)):
                    totals = update.totals
                yield update
        finally:
            call.context.search_stats.scanned_bytes += totals.scanned_bytes
            call.context.search_stats.skipped_bytes += totals.skipped_bytes

    return all_updates(), release
