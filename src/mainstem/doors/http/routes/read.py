"""Reading a partition by offset or by time, bounded by count and bytes."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
from starlette.responses import Response

from mainstem.doors.http.endpoint import JSON, Call, Endpoint, StreamedResponse
from mainstem.doors.http.events_json import event_to_json_in_slices, parse_time
from mainstem.doors.http.page_reader import EventPage, read_page
from mainstem.doors.http.problem import Problem
from mainstem.http_api.events import EventPageJson, ReadQuery

SLICE_BYTES = 64 << 10
"""A slice of the reply is sent when it has this many bytes of JSON; then other tasks may run."""


async def read_events(call: Call) -> Response:
    """Read events of a partition, by offset or by time."""
    query: ReadQuery = call.query
    topic, partition = call.path_parameter("topic"), call.path_partition()
    if query.offset is not None and query.time is not None:
        raise Problem("unfit", "give offset or time, not both: each says where to start")
    bounds = await call.engine.bounds(topic, partition)
    offset = bounds.begin
    if query.time is not None:
        offset_of_time = await call.engine.offset_for_time(topic, partition, parse_time(query.time))
        offset = bounds.end if offset_of_time is None else offset_of_time
    elif query.offset is not None:
        offset = query.offset if query.offset >= 0 else max(bounds.begin, bounds.end + query.offset)
    if not bounds.begin <= offset <= bounds.end:
        detail = (
            f"topic {topic}, partition {partition}: {offset} is not within {bounds.begin} to {bounds.end}"
        )
        raise Problem("out-of-range", detail, begin=bounds.begin, end=bounds.end)
    page = await read_page(call, topic, partition, offset, limit=query.limit, max_bytes=query.max_bytes)
    return StreamedResponse(_json_slices(call, page, exact=query.encoding == "base64"), JSON)


async def _json_slices(call: Call, page: EventPage, *, exact: bool) -> AsyncIterator[bytes]:
    """An EventPageJson, encoded in slices so that other tasks can run in between."""
    yield b'{"events":['
    part = bytearray()
    for index, event in enumerate(page.events):
        if index:
            part += b","
        event_json = await event_to_json_in_slices(event, call.context.yield_to_loop, exact=exact)
        part += msgspec.json.encode(event_json)
        if len(part) >= SLICE_BYTES:
            yield bytes(part)
            part.clear()
            await call.context.yield_to_loop()
    other_fields = EventPageJson([], page.unreadable, page.next_offset, page.begin, page.end)
    yield bytes(part) + b"]" + msgspec.json.encode(other_fields).removeprefix(b'{"events":[]')


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/api/v1/topics/{topic}/partitions/{partition}/events",
        handle=read_events,
        tag="events",
        query=ReadQuery,
        reply=EventPageJson,
        problems=("unknown-topic", "out-of-range", "bad-path"),
    ),
)
