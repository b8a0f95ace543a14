"""Reads a bounded number of events of one partition, without blocking the event loop for long."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mainstem.contract import Event, Position, StreamError

if TYPE_CHECKING:
    from mainstem.doors.http.endpoint import Call

SLICE_EVENTS = 100
"""Maximum number of events that are read at once; then other tasks may run."""
FIRST_READ_TIMEOUT_S = 10.0
"""How long a cluster may take to return the first of the events that it says it has."""


@dataclass(slots=True)
class EventPage:
    """A bounded read of one partition: its bounds when the read began, and what is known once the events have
    been read: where to read on, and the offsets that could not be read."""

    begin: int
    end: int
    next_offset: int
    unreadable: list[int] = field(default_factory=list)


async def open_page(call: Call, topic: str, partition: int, offset: int) -> EventPage:
    """The page that begins at `offset`. Nothing is read yet."""
    bounds = await call.engine.bounds(topic, partition)
    return EventPage(bounds.begin, bounds.end, offset)


async def page_slices(
    call: Call, topic: str, partition: int, page: EventPage, *, limit: int, max_bytes: int
) -> AsyncGenerator[list[Event], None]:
    """The events of the page, from its offset to the end that the partition had: at most `limit`, and none
    once `max_bytes` of keys, values and headers are reached. The first event is always returned, however
    large it is. Only one slice is in memory at a time."""
    if page.next_offset >= page.end:
        return
    offset = page.next_offset
    reader = await call.engine.reader([Position(topic, partition, offset)])
    deadline = call.context.clock.monotonic() + FIRST_READ_TIMEOUT_S
    count, left_bytes = 0, max_bytes
    try:
        while page.next_offset < page.end and count < limit and left_bytes > 0:
            batch = await reader.read(max_events=min(SLICE_EVENTS, limit - count), wait_ms=250)
            page.unreadable += [position.offset for position in batch.unreadable]
            page.next_offset = max(page.next_offset, reader.positions()[0].offset)
            events = []
            for event in batch.events:
                if left_bytes <= 0:
                    page.next_offset = event.offset
                    break
                events.append(event)
                left_bytes -= len(event.value or b"") + len(event.key or b"")
                left_bytes -= sum(len(name) + len(content or b"") for name, content in event.headers)
            count += len(events)
            if events:
                yield events
            elif not batch and call.context.clock.monotonic() > deadline:
                break
            await call.context.yield_to_loop()
    except StreamError:
        # Retention may delete events during the read. The page then ends after those that were read; the
        # next one gets the error.
        if not count:
            raise
    finally:
        await reader.close()
    assert page.next_offset >= offset, "a page never goes backwards"


async def read_page(
    call: Call, topic: str, partition: int, offset: int, *, limit: int, max_bytes: int
) -> list[Event]:
    """The events of a page, for pages that are small: see `page_slices`."""
    page = await open_page(call, topic, partition, offset)
    slices = page_slices(call, topic, partition, page, limit=limit, max_bytes=max_bytes)
    return [event async for events in slices for event in events]
