"""Reading a partition by offset or by time, bounded by count and bytes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator

import msgspec
from starlette.responses import Response

from mainstem.access_contract import Operation
from mainstem.contract import Event
from mainstem.doors.http.endpoint import JSON, Call, Endpoint, StreamedResponse, start_stream
from mainstem.doors.http.events_json import parse_time
from mainstem.doors.http.page_reader import EventPage, open_page, page_slices
from mainstem.doors.http.problem import Problem
from mainstem.doors.http.rights import on_topic
from mainstem.http_api.event_encoding import event_to_json_in_slices
from mainstem.http_api.events import EventPageJson, ReadQuery

SLICE_BYTES = 64 << 10
"""A slice of the reply is sent when it has this many bytes of JSON; then other tasks may run."""


async def read_events(call: Call) -> Response:
    """Read events of a partition, by offset or by time, in pages."""
    query: ReadQuery = call.query
    topic, partition = call.path_parameter("topic"), call.path_partition()
    if [query.offset, query.time, query.after].count(None) < 2:
        raise Problem("unfit", "give only one of offset, time and after: each says where to start")
    topic_id = await call.engine.topic_id(topic)  # first, so that the bounds are not those of an older topic
    page = await open_page(call, topic, partition, 0)
    offset = page.begin
    if query.time is not None:
        offset_of_time = await call.engine.offset_for_time(topic, partition, parse_time(query.time))
        offset = page.end if offset_of_time is None else offset_of_time
    elif query.after is not None:
        page_topic_id, _, digits = query.after.rpartition(".")
        if page_topic_id and topic_id and page_topic_id != topic_id:
            detail = f"after: topic {topic} was deleted and created again since that page; read from `begin`"
            raise Problem("unfit", detail, begin=page.begin, end=page.end)
        offset = int(digits)
    elif query.offset is not None:
        offset = query.offset if query.offset >= 0 else max(page.begin, page.end + query.offset)
    if not page.begin <= offset <= page.end:
        detail = f"topic {topic}, partition {partition}: {offset} is not within {page.begin} to {page.end}"
        raise Problem("out-of-range", detail, begin=page.begin, end=page.end)
    page.next_offset = offset
    slices = page_slices(call, topic, partition, page, limit=query.limit, max_bytes=query.max_bytes)
    parts, end = await start_stream(
        call, _json_slices(call, topic_id, page, slices, exact=query.encoding == "base64"), slices.aclose
    )
    return StreamedResponse(parts, JSON, end)


async def _json_slices(
    call: Call, topic_id: str, page: EventPage, slices: AsyncIterator[list[Event]], *, exact: bool
) -> AsyncGenerator[bytes, None]:
    """An EventPageJson, read and encoded in slices: other tasks run in between, and what the client has not
    received yet is not in memory."""
    part = bytearray(b'{"events":[')
    separator = b""
    async for events in slices:
        for event in events:
            event_json = await event_to_json_in_slices(event, call.context.yield_to_loop, exact=exact)
            part += separator + msgspec.json.encode(event_json)
            separator = b","
            if len(part) >= SLICE_BYTES:
                yield bytes(part)
                part.clear()
                await call.context.yield_to_loop()
    following = f"{topic_id}.{page.next_offset}"
    other_fields = EventPageJson([], page.unreadable, following, page.begin, page.end)
    yield bytes(part) + b"]" + msgspec.json.encode(other_fields).removeprefix(b'{"events":[]')


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/api/v1/topics/{topic}/partitions/{partition}/events",
        handle=read_events,
        rights=on_topic(Operation.READ),
        tag="events",
        query=ReadQuery,
        reply=EventPageJson,
        problems=("unknown-topic", "out-of-range", "bad-path"),
    ),
)
