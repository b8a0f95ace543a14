"""Searching: a stream of what is found, the histogram, facets, comparing, tracing.

Owns: the form of requests and answers. Refuses: unbounded answers (each has a limit and a budget of time) and
more searches at once than SEARCHES. What a query means, and how it is answered, is `mainstem.search`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta
from starlette.responses import Response

from mainstem.contract import StreamError
from mainstem.doors.http import problem
from mainstem.doors.http.endpoint import (
    JSON,
    NDJSON,
    Call,
    Endpoint,
    StreamedResponse,
    json_line,
    json_response,
)
from mainstem.doors.http.events_json import EventJson, event_to_json, event_to_json_in_slices, parse_time
from mainstem.doors.http.field_types import Millis, PartitionNumber
from mainstem.doors.http.problem import Problem
from mainstem.search.contract import Done, Facets, Hit, Progress, SearchRequest, Totals, Unreadable, Update
from mainstem.search.query.errors import QueryError

Updates: TypeAlias = AsyncGenerator[Update | Facets, None]

SEARCHES_MAX = 16
"""At once, over all clients."""
LIMIT_MAX = 100_000
BUDGET_MAX_S = 3_600.0
FACETS_BUDGET_S = 60.0
TRACED_MAX = 10_000

Seconds = Annotated[float, Meta(gt=0, le=BUDGET_MAX_S)]
Glob = Annotated[str, Meta(min_length=1, max_length=300)]


class SearchJson(msgspec.Struct, forbid_unknown_fields=True):
    """What to look for, and where."""

    query: Annotated[str, Meta(max_length=10_000, description="See docs/SEARCH.md; empty: every event.")] = ""
    topics: Annotated[list[Glob], Meta(description="Globs; none: all but internal ones.")] = []
    partitions: list[PartitionNumber] | None = None
    since_ms: Annotated[Millis | None, Meta(description="Events of this time or later, ms since 1970.")] = (
        None
    )
    until_ms: Annotated[Millis | None, Meta(description="Events before this time, ms since 1970.")] = None
    limit: Annotated[
        Annotated[int, Meta(ge=1, le=LIMIT_MAX)] | None, Meta(description="Matches at most; null: all.")
    ] = 100
    newest_first: bool = True
    resume: Annotated[str | None, Meta(description="`resume` of an earlier search of this query.")] = None
    budget_s: Annotated[Seconds | None, Meta(description="Stop after so many seconds.")] = None
    only_count: Annotated[bool, Meta(description="No hits, the numbers alone.")] = False
    encoding: Annotated[
        Literal["plain", "base64"], Meta(description="base64: keys and payloads byte for byte.")
    ] = "plain"

    def request(self, *, budget_s: float | None = None) -> SearchRequest:
        """As the search takes it."""
        return SearchRequest(
            query=self.query,
            topics=self.topics,
            partitions=self.partitions,
            since_ms=self.since_ms,
            until_ms=self.until_ms,
            limit=None if self.only_count else self.limit,
            newest_first=self.newest_first,
            resume=self.resume,
            budget_s=self.budget_s or budget_s,
            only_count=self.only_count,
        )


class UnreadableJson(msgspec.Struct):
    """A stretch that could not be searched."""

    topic: str
    partition: int
    offset: int
    reason: str


class TotalsJson(msgspec.Struct):
    """How far a search has come."""

    scanned_bytes: int
    skipped_bytes: Annotated[int, Meta(description="Not read: nothing there can match.")]
    indexed_bytes: Annotated[int, Meta(description="Of the skipped ones: answered by a full-text index.")]
    removed_bytes: int
    total_bytes: Annotated[int | None, Meta(description="To search in all; null: not known of a cluster.")]
    events: Annotated[int, Meta(description="Decoded and compared.")]
    matches: int
    undecodable: Annotated[int, Meta(description="Stretches that could not be read.")]
    share: Annotated[float, Meta(description="0 to 1.")]
    reached_ms: int | None
    elapsed_s: float
    partitions: int
    index_note: Annotated[
        str | None, Meta(description="Why topics set mainstem.search=indexed were searched without an index.")
    ]


class ProgressJson(msgspec.Struct):
    """Told while it runs."""

    totals: TotalsJson
    resume: Annotated[
        str | None, Meta(description="To go on from this line. null: the last one that was told holds.")
    ]


class DoneJson(msgspec.Struct):
    """The end."""

    reason: Annotated[Literal["complete", "limit", "budget"], Meta(description="Why it ended.")]
    totals: TotalsJson
    resume: Annotated[str | None, Meta(description="To go on with; null after `complete`.")]


class ValueJson(msgspec.Struct):
    """A value of a field."""

    value: str
    count: int


class FacetsJson(msgspec.Struct):
    """The most frequent values of fields over the matches."""

    events: Annotated[int, Meta(description="Matches that were counted.")]
    fields: dict[str, list[ValueJson]]


class UpdateJson(msgspec.Struct, omit_defaults=True):
    """A line of the answer: one of these."""

    hit: EventJson | None = None
    facets: Annotated[FacetsJson | None, Meta(description="What was counted: the line before `done`.")] = None
    progress: ProgressJson | None = None
    unreadable: UnreadableJson | None = None
    done: Annotated[DoneJson | None, Meta(description="The last line of a search that was not cut off.")] = (
        None
    )
    problem: Annotated[
        dict[str, Any] | None, Meta(description="The last line of a search that failed on its way.")
    ] = None


def _totals(totals: Totals) -> TotalsJson:
    return TotalsJson(**{name: getattr(totals, name) for name in TotalsJson.__struct_fields__})


def update_json(update: Update | Facets) -> UpdateJson:
    """An update, for the outside."""
    match update:
        case Hit(event):
            return UpdateJson(hit=event_to_json(event))
        case Progress(totals, resume):
            return UpdateJson(progress=ProgressJson(_totals(totals), resume))
        case Unreadable(at, reason):
            return UpdateJson(unreadable=UnreadableJson(at.topic, at.partition, at.offset, reason))
        case Facets(events, values):
            fields = {name: [ValueJson(*each) for each in rows] for name, rows in values.items()}
            return UpdateJson(facets=FacetsJson(events, fields))
        case Done(reason, totals, resume):
            return UpdateJson(done=DoneJson(reason, _totals(totals), resume))


def query_problem(error: QueryError) -> Problem:
    """The problem of a query that cannot be read: with its place."""
    return Problem("query", error.message, column=error.column, length=error.length)


@asynccontextmanager
async def search_slot(call: Call) -> AsyncIterator[None]:
    """One of SEARCHES; errors of queries become problems."""
    if call.context.search_slots.locked():
        raise Problem("busy", f"{SEARCHES_MAX} searches run already")
    searched = call.context.search_stats
    async with call.context.search_slots:
        searched.running += 1
        searched.total += 1
        try:
            yield
        except QueryError as error:
            raise query_problem(error) from None
        finally:
            searched.running -= 1


async def start_search(call: Call, asked: Updates) -> tuple[Updates, Callable[[], Awaitable[None]]]:
    """A search, begun here, and what must be awaited when nobody wants more of it. What is wrong with the
    request is raised here."""
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(search_slot(call))
        updates = await stack.enter_async_context(aclosing(asked))
        first = await anext(updates)
        release = stack.pop_all().aclose

    async def all_of_them() -> Updates:
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

    return all_of_them(), release


async def search(call: Call) -> Response:
    """Search: what is found as it is found, with progress, one JSON object a line.

    Closing the connection cancels the search."""
    wanted = await call.json_body(SearchJson)
    updates, release = await start_search(call, call.context.search().search(wanted.request()))
    return StreamedResponse(_lines(call, updates, exact=wanted.encoding == "base64"), NDJSON, release)


async def _lines(call: Call, updates: Updates, *, exact: bool) -> AsyncIterator[bytes]:
    try:
        async for update in updates:
            if isinstance(update, Hit):
                hit = await event_to_json_in_slices(update.event, call.context.yield_to_loop, exact=exact)
                yield json_line(UpdateJson(hit=hit)) + b"\n"
            else:
                yield json_line(update_json(update)) + b"\n"
            if call.context.closing.is_set():
                break
    except StreamError as error:
        yield json_line(UpdateJson(problem=problem.from_error(error).members())) + b"\n"


# ----------------------------------------------------------------------------------------------------------


class HistogramQuery(msgspec.Struct):
    """Of what."""

    topics: Annotated[list[str], Meta(description="Globs, with commas; none: all but internal ones.")] = []
    since: Annotated[str, Meta(description="Events of this time or later, ISO 8601.")] = ""
    until: Annotated[str, Meta(description="Events before this time, ISO 8601.")] = ""
    buckets: Annotated[int, Meta(ge=1, le=1_000)] = 60


class BucketJson(msgspec.Struct):
    """Events by time."""

    from_ms: int
    to_ms: Annotated[int, Meta(description="Exclusive.")]
    count: int


class HistogramJson(msgspec.Struct):
    """Equal spans of time; none: no events."""

    buckets: list[BucketJson]


async def histogram(call: Call) -> Response:
    """Count events by time, whatever is in them: from the headers of batches, without opening them."""
    query: HistogramQuery = call.query
    since_ms = parse_time(query.since) if query.since else None
    until_ms = parse_time(query.until) if query.until else None
    async with search_slot(call):
        found = await call.context.search().histogram(query.topics, since_ms, until_ms, query.buckets)
    return json_response(HistogramJson([BucketJson(each.from_ms, each.to_ms, each.count) for each in found]))


class FacetsRequestJson(SearchJson, forbid_unknown_fields=True):
    """The matches of what to count."""

    limit: Annotated[int, Meta(ge=1, le=LIMIT_MAX)] | None = None
    fields: Annotated[
        list[str],
        Meta(description="topic, partition, key, header.NAME or a path into JSON; none: all, up to 200."),
    ] = []
    top: Annotated[int, Meta(ge=1, le=1_000, description="Values of each.")] = 10


async def facets(call: Call) -> Response:
    """Count the values of fields over all matches: with progress, one JSON object a line.

    Closing the connection cancels it."""
    wanted = await call.json_body(FacetsRequestJson)
    request = wanted.request(budget_s=FACETS_BUDGET_S)
    updates, release = await start_search(
        call, call.context.search().facets(request, wanted.fields, wanted.top)
    )
    return StreamedResponse(_lines(call, updates, exact=False), NDJSON, release)


class CompareRequestJson(msgspec.Struct, forbid_unknown_fields=True):
    """Two searches."""

    selection: FacetsRequestJson
    baseline: FacetsRequestJson
    fields: list[str] = []
    top: Annotated[int, Meta(ge=1, le=1_000)] = 20


class DifferenceJson(msgspec.Struct):
    """A value that is more, or less, frequent in the selection than in the baseline."""

    field: str
    value: str
    selected: int
    selected_share: float
    baseline: int
    baseline_share: float


class CompareJson(msgspec.Struct):
    """The largest differences first."""

    differences: list[DifferenceJson]


async def compare(call: Call) -> Response:
    """Tell which values set the events of one search apart from those of another."""
    wanted = await call.json_body(CompareRequestJson)
    async with search_slot(call):
        found = await call.context.search().compare(
            wanted.selection.request(budget_s=FACETS_BUDGET_S),
            wanted.baseline.request(budget_s=FACETS_BUDGET_S),
            wanted.fields,
            wanted.top,
        )
    names = DifferenceJson.__struct_fields__
    rows = [DifferenceJson(*(getattr(each, name) for name in names)) for each in found]
    return json_response(CompareJson(rows))


class TraceQuery(msgspec.Struct):
    """What to follow."""

    value: Annotated[str, Meta(min_length=1, max_length=1_000, description="An id, as it stands in events.")]
    topics: Annotated[list[str], Meta(description="Globs, with commas; none: all but internal ones.")] = []
    since: Annotated[str, Meta(description="Events of this time or later, ISO 8601.")] = ""
    until: Annotated[str, Meta(description="Events before this time, ISO 8601.")] = ""
    limit: Annotated[int, Meta(ge=1, le=TRACED_MAX, description="Events at most, the newest.")] = 1_000


class TraceJson(msgspec.Struct):
    """Events with the value, by time."""

    events: list[EventJson]
    unreadable: list[UnreadableJson]
    done: DoneJson


async def trace(call: Call) -> Response:
    """Follow a value through all topics: the events that have it, by time."""
    query: TraceQuery = call.query
    escaped = query.value.replace("\\", "\\\\").replace('"', '\\"')
    request = SearchRequest(
        query=f'"{escaped}"',
        topics=query.topics,
        since_ms=parse_time(query.since) if query.since else None,
        until_ms=parse_time(query.until) if query.until else None,
        limit=query.limit,
        budget_s=FACETS_BUDGET_S,
    )
    updates, release = await start_search(call, call.context.search().search(request))
    try:
        found = [update_json(each) async for each in updates if not isinstance(each, Progress)]
    finally:
        await release()
    events = [each.hit for each in found if each.hit is not None]
    events.sort(key=lambda each: (each.timestamp_ms or -1, each.topic, each.partition, each.offset))
    unreadable = [each.unreadable for each in found if each.unreadable is not None]
    done = found[-1].done
    assert done is not None, "a search ends with Done"
    return json_response(TraceJson(events, unreadable, done))


_BAD = ("query", "busy")

ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/api/v1/search",
        handle=search,
        tag="search",
        bodies={JSON: SearchJson},
        reply=UpdateJson,
        media=NDJSON,
        problems=_BAD,
    ),
    Endpoint(
        method="GET",
        path="/api/v1/histogram",
        handle=histogram,
        tag="search",
        query=HistogramQuery,
        reply=HistogramJson,
        problems=_BAD,
    ),
    Endpoint(
        method="POST",
        path="/api/v1/facets",
        handle=facets,
        tag="search",
        bodies={JSON: FacetsRequestJson},
        reply=UpdateJson,
        media=NDJSON,
        problems=_BAD,
    ),
    Endpoint(
        method="POST",
        path="/api/v1/compare",
        handle=compare,
        tag="search",
        bodies={JSON: CompareRequestJson},
        reply=CompareJson,
        problems=_BAD,
    ),
    Endpoint(
        method="GET",
        path="/api/v1/trace",
        handle=trace,
        tag="search",
        query=TraceQuery,
        reply=TraceJson,
        problems=_BAD,
    ),
)
