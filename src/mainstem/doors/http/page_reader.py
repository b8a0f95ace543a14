"""Reads a bounded number of events of one partition, without blocking the event loop for long."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mainstem.contract import Event, Position, PositionOutOfRange

if TYPE_CHECKING:
    from mainstem.doors.http.endpoint import Call

SLICE_EVENTS = 100
"""Maximum number of events that are read at once; then other tasks may run."""
FIRST_READ_TIMEOUT_S = 10.0
"""How long a cluster may take to return the first of the events that it says it has."""


@dataclass(slots=True)
class EventPage:
    """The result of a bounded read: the events, the offsets that could not be read, where to read on, and
    the bounds of the partition when the read began."""

    begin: int
    end: int
    next_offset: int
    events: list[Event] = field(default_factory=list)
    unreadable: list[int] = field(default_factory=list)


async def read_page(
    call: Call, topic: str, partition: int, offset: int, *, limit: int, max_bytes: int
) -> EventPage:
    """Events from `offset` to the present end of the partition: at most `limit`, and none once `max_bytes` of
    keys, values and headers are reached. The first event is always returned, however large it is."""
    bounds = await call.engine.bounds(topic, partition)
    page = EventPage(bounds.begin, bounds.end, offset)
    if offset >= bounds.end:
        return page
    reader = await call.engine.reader([Position(topic, partition, offset)])
    deadline = call.context.clock.monotonic() + FIRST_READ_TIMEOUT_S
    left_bytes = max_bytes
    try:
        while page.next_offset < bounds.end and len(page.events) < limit and left_bytes > 0:
            max_events = min(SLICE_EVENTS, limit - len(page.events))
            batch = await reader.read(max_events=max_events, wait_ms=250)
            page.unreadable += [position.offset for position in batch.unreadable]
            page.next_offset = max(page.next_offset, reader.positions()[0].offset)
            for event in batch.events:
                if left_bytes <= 0:
                    page.next_offset = event.offset
                    break
                page.events.append(event)
                left_bytes -= len(event.value or b"") + len(event.key or b"")
                left_bytes -= sum(len(name) + len(content or b"") for name, content in event.headers)
            if not batch and call.context.clock.monotonic() > deadline:
                break
            await call.context.yield_to_loop()
    except PositionOutOfRange:
        # Retention may delete events during the read; those that were read are returned.
        if not page.events:
            raise
    finally:
        await reader.close()
    assert page.next_offset >= offset, "a page never goes backwards"
    return page
