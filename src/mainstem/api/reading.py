"""Reads a topic without a group: a range of time, to its end or on and on; or its newest events.

Owns: where reading begins and ends in each partition. Refuses: an order between partitions, which a topic
does not have; `newest` alone sorts, by time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace

from mainstem.api.backend import Backend
from mainstem.api.event_filter import event_filter
from mainstem.contract import (
    Bounds,
    Engine,
    Event,
    EventLog,
    InvalidArgument,
    NotReachable,
    Position,
    PositionOutOfRange,
    Reader,
)

log = logging.getLogger(__name__)

NO_END = 1 << 63
READ_EVENTS = 1_000
WAIT_MS = 1_000
NEWEST_MAX = 100_000
"""Events that `last` returns at most: they are all in memory."""


@dataclass(frozen=True, slots=True)
class ReadPlan:
    """What to read."""

    topic: str
    since_ms: int | None = None
    """None: from the beginning."""
    until_ms: int | None = None
    """Exclusive; None: to the end, as it is when reading begins."""
    follow: bool = False
    """Whether to go on with new events, without an end."""
    where: str = ""
    """A query that events have to match."""


async def read_lists(backend: Backend, plan: ReadPlan) -> AsyncGenerator[list[Event], None]:
    """The events of a plan, in lists as they come; those that retention deletes meanwhile are left out.
    UnknownTopic, InvalidArgument."""
    if plan.follow and plan.until_ms is not None:
        raise InvalidArgument("reading that follows has no end: leave out until, or follow")
    wanted = _filter(plan, backend.clock.wall_ms())
    starts, ends = await _ranges(backend.engine, plan)
    if plan.follow or ends:
        async with aclosing(_read_ranges(backend.engine, starts, None if plan.follow else ends)) as lists:
            async for events in lists:
                if matching := [event for event in events if wanted(event)]:
                    yield matching


async def newest(backend: Backend, topic: str, count: int) -> list[Event]:
    """The newest events of a topic, in the order of their times, at most `count`. UnknownTopic,
    InvalidArgument."""
    if not 0 <= count <= NEWEST_MAX:
        raise InvalidArgument(f"last: {count} is not 0 to {NEWEST_MAX:,}")
    engine, window = backend.engine, count
    bounds = await topic_bounds(engine, topic)
    while count:
        ends = {
            (topic, partition): bound.end for partition, bound in enumerate(bounds) if bound.begin < bound.end
        }
        starts = [
            Position(topic, partition, max(bounds[partition].begin, end - window))
            for (_, partition), end in ends.items()
        ]
        events: list[Event] = []
        async with aclosing(_read_ranges(engine, starts, ends)) as lists:
            async for part in lists:
                events += part
        is_whole = all(start.offset == bounds[start.partition].begin for start in starts)
        if len(events) >= count or is_whole:
            events.sort(key=lambda event: (event.timestamp_ms, event.partition, event.offset))
            return events[-count:]
        window *= 4  # offsets without events: transactions, or compaction
    return []


async def _read_ranges(
    engine: Engine, starts: Sequence[Position], ends: Mapping[tuple[str, int], int] | None
) -> AsyncGenerator[list[Event], None]:
    """The events from the starts, up to the ends, which are exclusive; None: without an end."""
    open_ends = None if ends is None else dict(ends)
    if open_ends is not None and not open_ends:
        return
    reader = await engine.reader(starts)
    try:
        while open_ends is None or open_ends:
            try:
                result = await reader.read(max_events=READ_EVENTS, wait_ms=WAIT_MS)
            except PositionOutOfRange:
                await seek_begin(engine, reader)
                continue
            for damaged in result.unreadable:
                log.warning("%s/%d/%d: damaged, not read", damaged.topic, damaged.partition, damaged.offset)
            if open_ends is None:
                if result.events:
                    yield list(result.events)
                continue
            left = open_ends
            if events := [
                event for event in result.events if event.offset < left.get((event.topic, event.partition), 0)
            ]:
                yield events
            for position in reader.positions():
                if position.offset >= left.get((position.topic, position.partition), NO_END):
                    del left[position.topic, position.partition]
    finally:
        with suppress(NotReachable):  # the place was closed before the iteration
            await reader.close()


async def seek_begin(engine: EventLog, reader: Reader) -> None:
    """Go on at the first event of each partition whose events at the position were deleted."""
    for position in reader.positions():
        begin = (await engine.bounds(position.topic, position.partition)).begin
        if position.offset < begin:
            reader.seek(replace(position, offset=begin))


async def topic_bounds(engine: EventLog, topic: str) -> list[Bounds]:
    """The bounds of each partition of a topic. UnknownTopic."""
    count = await engine.partitions(topic)
    return list(await asyncio.gather(*(engine.bounds(topic, partition) for partition in range(count))))


async def _ranges(engine: Engine, plan: ReadPlan) -> tuple[list[Position], dict[tuple[str, int], int]]:
    """Where to begin in each partition, and where to end in those that have something to read."""
    bounds = await topic_bounds(engine, plan.topic)
    offsets = [bound.begin for bound in bounds]
    if plan.since_ms is not None:
        since_ms = max(0, plan.since_ms)
        looked_up = await asyncio.gather(
            *(engine.offset_for_time(plan.topic, partition, since_ms) for partition in range(len(bounds)))
        )
        offsets = [
            bound.end if offset is None else offset for bound, offset in zip(bounds, looked_up, strict=True)
        ]
    starts = [Position(plan.topic, partition, offset) for partition, offset in enumerate(offsets)]
    ends = {
        (plan.topic, partition): bound.end
        for partition, bound in enumerate(bounds)
        if offsets[partition] < bound.end
    }
    if not plan.follow:
        starts = [start for start in starts if (start.topic, start.partition) in ends]
    return starts, ends


def _filter(plan: ReadPlan, now_ms: int) -> Callable[[Event], bool]:
    """Whether an event is wanted. InvalidArgument: the query is wrong. Times are looked at here again: in a
    partition, an earlier event may come after a later one."""
    since_ms = -1 if plan.since_ms is None else max(0, plan.since_ms)
    until_ms = NO_END if plan.until_ms is None else plan.until_ms
    if not plan.where:
        return lambda event: since_ms <= event.timestamp_ms < until_ms
    matches = event_filter(plan.where, now_ms)
    return lambda event: since_ms <= event.timestamp_ms < until_ms and matches(event)
