"""Queries that say which events a read or a redrive is to have.

Owns: what a query that is wrong raises. Refuses: to search; each event is looked at as it comes.
"""

from __future__ import annotations

from collections.abc import Callable

from mainstem.contract import Event, InvalidArgument


def event_filter(where: str, now_ms: int) -> Callable[[Event], bool]:
    """Whether an event matches a query; an empty one matches all. `now_ms` is the time for ages in it.
    InvalidArgument: the query is wrong, and where."""
    if not where:
        return lambda _: True
    from mainstem.search.match.matcher import Matcher  # only with a query: it is slow to import
    from mainstem.search.query.errors import QueryError

    try:
        return Matcher.of(where, now_ms=now_ms).matches_event
    except QueryError as error:
        raise InvalidArgument(f"where: {error}") from None
