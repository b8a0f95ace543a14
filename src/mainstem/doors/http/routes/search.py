"""Searching: a stream of updates, histograms, facets, comparisons and traces.

Owns: the form of the replies. Refuses: replies without a bound: each has a limit and a time budget.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import asdict

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
    unless_client_leaves,
)
from mainstem.doors.http.events_json import parse_time
from mainstem.doors.http.rights import SEARCHED
from mainstem.doors.http.search_slots import AnyUpdate, Updates, search_slot, start_search
from mainstem.http_api.event_encoding import event_to_json, event_to_json_in_slices
from mainstem.http_api.events import EventJson
from mainstem.http_api.search import (
    BucketJson,
    CompareRequestJson,
    ComparisonJson,
    DifferenceJson,
    DoneJson,
    FacetsJson,
    FacetsRequestJson,
    HistogramJson,
    HistogramQuery,
    ProgressJson,
    SearchJson,
    TotalsJson,
    TraceJson,
    TraceQuery,
    UnreadableJson,
    UpdateJson,
    ValueJson,
)
from mainstem.search.contract import (
    Comparison,
    Done,
    Facets,
    Hit,
    Progress,
    SearchRequest,
    Totals,
    Unreadable,
)

FACETS_BUDGET_S = 60.0


def _totals(totals: Totals) -> TotalsJson:
    return TotalsJson(**asdict(totals))


def _update_to_json(update: AnyUpdate) -> UpdateJson:
    match update:
        case Hit(event):
            return UpdateJson(hit=event_to_json(event))
        case Progress(totals, resume):
            return UpdateJson(progress=ProgressJson(_totals(totals), resume))
        case Unreadable(position, reason):
            unreadable = UnreadableJson(position.topic, position.partition, position.offset, reason)
            return UpdateJson(unreadable=unreadable)
        case Facets(events, values):
            fields = {
                name: [ValueJson(value, count) for value, count in counts] for name, counts in values.items()
            }
            return UpdateJson(facets=FacetsJson(events, fields))
        case Comparison(selected, baseline, differences):
            rows = [DifferenceJson(**asdict(difference)) for difference in differences]
            return UpdateJson(comparison=ComparisonJson(selected, baseline, rows))
        case Done(reason, totals, resume):
            return UpdateJson(done=DoneJson(reason, _totals(totals), resume))


async def search(call: Call) -> Response:
    """Search: matches as they are found, with progress, one JSON object per line.

    Closing the connection cancels the search."""
    request = await call.json_body(SearchJson)
    updates, release = await start_search(call, call.search().search(request.request()))
    return StreamedResponse(_lines(call, updates, exact=request.encoding == "base64"), NDJSON, release)


async def _lines(call: Call, updates: Updates, *, exact: bool) -> AsyncIterator[bytes]:
    try:
        async for update in updates:
            if isinstance(update, Hit):
                hit = await event_to_json_in_slices(update.event, call.context.yield_to_loop, exact=exact)
                yield json_line(UpdateJson(hit=hit)) + b"\n"
            else:
                yield json_line(_update_to_json(update)) + b"\n"
            if call.context.closing.is_set():
                break
    except StreamError as error:
        yield json_line(UpdateJson(problem=problem.from_error(error).members())) + b"\n"


async def histogram(call: Call) -> Response:
    """Count events by time, whatever their content. Reads only the headers of batches."""
    query: HistogramQuery = call.query
    since_ms = parse_time(query.since) if query.since else None
    until_ms = parse_time(query.until) if query.until else None
    async with search_slot(call):
        counting = call.search().histogram(query.topics, since_ms, until_ms, query.buckets)
        buckets = await unless_client_leaves(call, counting)
    return json_response(
        HistogramJson([BucketJson(bucket.from_ms, bucket.to_ms, bucket.count) for bucket in buckets])
    )


async def facets(call: Call) -> Response:
    """Count the values of fields over all matches: with progress, one JSON object per line.

    Closing the connection cancels it."""
    body = await call.json_body(FacetsRequestJson)
    request = body.request(budget_s=FACETS_BUDGET_S)
    updates, release = await start_search(call, call.search().facets(request, body.fields, body.top))
    return StreamedResponse(_lines(call, updates, exact=False), NDJSON, release)


async def compare(call: Call) -> Response:
    """List the values that distinguish the events of one search from those of another: with progress, one
    JSON object per line.

    Closing the connection cancels it."""
    body = await call.json_body(CompareRequestJson)
    comparison = call.search().compare(
        body.selection.request(budget_s=FACETS_BUDGET_S),
        body.baseline.request(budget_s=FACETS_BUDGET_S),
        body.fields,
        body.top,
    )
    updates, release = await start_search(call, comparison)
    return StreamedResponse(_lines(call, updates, exact=False), NDJSON, release)


async def _traced(updates: Updates) -> list[UpdateJson]:
    return [_update_to_json(update) async for update in updates if not isinstance(update, Progress)]


def _by_time(event: EventJson) -> tuple[int, str, int, int]:
    """Events without a time come first."""
    time_ms = -1 if event.timestamp_ms is None else event.timestamp_ms
    return time_ms, event.topic, event.partition, event.offset


async def trace(call: Call) -> Response:
    """Follow a value through all topics: the events that contain it, sorted by time."""
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
    updates, release = await start_search(call, call.search().search(request))
    try:
        lines = await unless_client_leaves(call, _traced(updates))
    finally:
        await release()
    events = [line.hit for line in lines if line.hit is not None]
    events.sort(key=_by_time)
    unreadable = [line.unreadable for line in lines if line.unreadable is not None]
    done = lines[-1].done
    assert done is not None, "a search ends with Done"
    return json_response(TraceJson(events, unreadable, done))


_PROBLEMS = ("query", "busy")

ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/api/v1/search",
        handle=search,
        rights=SEARCHED,
        tag="search",
        bodies={JSON: SearchJson},
        reply=UpdateJson,
        media=NDJSON,
        problems=_PROBLEMS,
    ),
    Endpoint(
        method="GET",
        path="/api/v1/histogram",
        handle=histogram,
        rights=SEARCHED,
        tag="search",
        query=HistogramQuery,
        reply=HistogramJson,
        problems=_PROBLEMS,
    ),
    Endpoint(
        method="POST",
        path="/api/v1/facets",
        handle=facets,
        rights=SEARCHED,
        tag="search",
        bodies={JSON: FacetsRequestJson},
        reply=UpdateJson,
        media=NDJSON,
        problems=_PROBLEMS,
    ),
    Endpoint(
        method="POST",
        path="/api/v1/compare",
        handle=compare,
        rights=SEARCHED,
        tag="search",
        bodies={JSON: CompareRequestJson},
        reply=UpdateJson,
        media=NDJSON,
        problems=_PROBLEMS,
    ),
    Endpoint(
        method="GET",
        path="/api/v1/trace",
        handle=trace,
        rights=SEARCHED,
        tag="search",
        query=TraceQuery,
        reply=TraceJson,
        problems=_PROBLEMS,
    ),
)
