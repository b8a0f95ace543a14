"""Resolves a start point (`latest`, an offset, a time) to an offset of a partition, with any engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mainstem.contract import EventLog
    from mainstem.timespec import StartPoint


async def resolve_offset(events: EventLog, topic: str, partition: int, start_point: StartPoint) -> int:
    """The offset in a partition: for a time, that of the first event of this time or later. An offset that
    the partition does not have becomes its first or its end. Raises UnknownTopic."""
    bounds = await events.bounds(topic, partition)
    if start_point.kind == "earliest":
        return bounds.begin
    if start_point.kind == "offset":
        return max(bounds.begin, min(start_point.value, bounds.end))
    if start_point.kind == "time":
        offset = await events.offset_for_time(topic, partition, max(0, start_point.value))
        return bounds.end if offset is None else offset
    return bounds.end
