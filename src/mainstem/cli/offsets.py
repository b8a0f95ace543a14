"""Converts a place in a topic, as it was typed (`latest`, an offset, a time), to an offset of a partition."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mainstem.timespec import StartPoint

if TYPE_CHECKING:
    from mainstem.contract import Engine


async def resolve_offset(engine: Engine, topic: str, partition: int, start_point: StartPoint) -> int:
    """The offset in a partition. An offset that the partition does not have becomes its first or its end."""
    bounds = await engine.bounds(topic, partition)
    if start_point.kind == "earliest":
        return bounds.begin
    if start_point.kind == "offset":
        return max(bounds.begin, min(start_point.value, bounds.end))
    if start_point.kind == "time":
        offset = await engine.offset_for_time(topic, partition, start_point.value)
        return bounds.end if offset is None else offset
    return bounds.end
