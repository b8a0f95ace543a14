"""Reading a partition: by offset or by time, bounded by count and bytes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType
from starlette.responses import Response

from mainstem.contract import Event, Position, PositionOutOfRange
from mainstem.doors.http.endpoint import JSON, Call, Endpoint, StreamedResponse
from mainstem.doors.http.events_json import EventJson, event_to_json_in_slices, parse_time
from mainstem.doors.http.field_types import SignedOffset
from mainstem.doors.http.problem import Problem

SLICE_EVENTS = 100
"""Events read in one turn of the loop."""
SLICE_BYTES = 64 << 10
"""Of JSON that is made in one."""
PATIENCE_S = 10.0
"""So long a cluster may take to give the first of events that it says it has."""


class ReadQuery(msgspec.Struct):
    """Where to begin, and how much."""

    offset: Annotated[
        SignedOffset | None,
        Meta(
            description="The first offset; a negative one counts from the end: -10.",
        ),
    ] = None
    time: Annotated[
        str | None, Meta(description="Begin at the first event of this time or later, ISO 8601.")
    ] = None
    limit: Annotated[int, Meta(ge=1, le=10_000, description="Events at most.")] = 100
    max_bytes: Annotated[
        int, Meta(ge=1, le=64 << 20, description="Stop after so many bytes of keys, values and headers.")
    ] = 4 << 20
    encoding: Annotated[
        Literal["base64"] | UnsetType,
        Meta(description="base64: key and value byte for byte, whatever they are."),
    ] = UNSET


class ReadJson(msgspec.Struct):
    """Events of one partition, oldest first."""

    events: list[EventJson]
    unreadable: Annotated[list[int], Meta(description="Where stretches begin that are damaged.")]
    next: Annotated[int, Meta(description="The `offset` to go on with.")]
    begin: Annotated[int, Meta(description="The first offset that is kept.")]
    end: Annotated[int, Meta(description="The offset of the next event to come.")]


@dataclass(slots=True)
class EventPage:
    """What a bounded read gave."""

    begin: int
    end: int
    next_offset: int
    events: list[Event] = field(default_factory=list)
    unreadable: list[int] = field(default_factory=list)


async def read_events(call: Call) -> Response:
    """Read events of a partition, by offset or by time."""
    query: ReadQuery = call.query
    topic, partition = call.path_parameter("topic"), call.path_partition()
    if query.offset is not None and query.time is not None:
        raise Problem("unfit", "offset and time are both given; one of them says where to begin")
    bounds = await call.engine.bounds(topic, partition)
    offset = bounds.begin
    if query.time is not None:
        found_offset = await call.engine.offset_for_time(topic, partition, parse_time(query.time))
        offset = bounds.end if found_offset is None else found_offset
    elif query.offset is not None:
        offset = query.offset if query.offset >= 0 else max(bounds.begin, bounds.end + query.offset)
    if not bounds.begin <= offset <= bounds.end:
        detail = (
            f"topic {topic}, partition {partition}: {offset} is not within {bounds.begin} to {bounds.end}"
        )
        raise Problem("out-of-range", detail, begin=bounds.begin, end=bounds.end)
    found = await read_page(call, topic, partition, offset, limit=query.limit, max_bytes=query.max_bytes)
    return StreamedResponse(_json(call, found, exact=query.encoding == "base64"), JSON)


async def _json(call: Call, found: EventPage, *, exact: bool) -> AsyncIterator[bytes]:
    """ReadJson, in slices: nobody has to wait until many MiB are encoded."""
    yield b'{"events":['
    waiting = bytearray()
    for at, event in enumerate(found.events):
        if at:
            waiting += b","
        waiting += msgspec.json.encode(
            await event_to_json_in_slices(event, call.context.yield_to_loop, exact=exact)
        )
        if len(waiting) >= SLICE_BYTES:
            yield bytes(waiting)
            waiting.clear()
            await call.context.yield_to_loop()
    rest = ReadJson([], found.unreadable, found.next_offset, found.begin, found.end)
    yield bytes(waiting) + b"]" + msgspec.json.encode(rest).removeprefix(b'{"events":[]')


async def read_page(
    call: Call, topic: str, partition: int, offset: int, *, limit: int, max_bytes: int
) -> EventPage:
    """Events from `offset` on up to the end as it is now: `limit` at most, and none after `max_bytes` are
    reached (one there always is, if there is one)."""
    bounds = await call.engine.bounds(topic, partition)
    found = EventPage(bounds.begin, bounds.end, offset)
    if offset >= bounds.end:
        return found
    reader = await call.engine.reader([Position(topic, partition, offset)])
    deadline = call.context.clock.monotonic() + PATIENCE_S
    left_bytes = max_bytes
    try:
        while found.next_offset < bounds.end and len(found.events) < limit and left_bytes > 0:
            most = min(SLICE_EVENTS, limit - len(found.events))
            got = await reader.read(max_events=most, wait_ms=250)
            found.unreadable += [each.offset for each in got.unreadable]
            found.next_offset = max(found.next_offset, reader.positions()[0].offset)
            for event in got.events:
                if left_bytes <= 0:
                    found.next_offset = event.offset
                    break
                found.events.append(event)
                left_bytes -= len(event.value or b"") + len(event.key or b"")
                left_bytes -= sum(len(name) + len(content or b"") for name, content in event.headers)
            if not got and call.context.clock.monotonic() > deadline:
                break
            await call.context.yield_to_loop()
    except PositionOutOfRange:
        if not found.events:  # else: retention went by; what was read is given
            raise
    finally:
        await reader.close()
    return found


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/api/v1/topics/{topic}/partitions/{partition}/events",
        handle=read_events,
        tag="events",
        query=ReadQuery,
        reply=ReadJson,
        problems=("unknown-topic", "out-of-range", "bad-path"),
    ),
)
