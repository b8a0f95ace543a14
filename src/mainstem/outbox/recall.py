"""Reads from the log which events of an outbox it has already: those behind the mark of their topic.

The relay writes a mark before it publishes to a topic, and moves it in the transaction that deletes the rows.
So an event whose row is still in the table, because a relay ended between publishing and deleting, is at or
after the mark, however much others have published there since.
"""

from __future__ import annotations

import logging

from mainstem.api.reading import seek_begin, topic_bounds
from mainstem.contract import EventLog, Position, PositionOutOfRange, Reader
from mainstem.outbox.contract import TopicMark
from mainstem.outbox.row_format import row_id

QUIET_MS = 10_000
"""A reader that gives nothing for this time before the end of a partition has no more events there: the last
offsets are those of a transaction's markers, or compaction has removed their events."""
READ_EVENTS = 5_000

_log = logging.getLogger("mainstem.outbox")


async def recall(log: EventLog, source: str, mark: TopicMark) -> tuple[set[int], list[int]]:
    """The ids of the source's rows whose events are behind the mark, and the ends that were read to.
    UnknownTopic."""
    bounds = await topic_bounds(log, mark.topic)
    topic_id = await log.topic_id(mark.topic)
    is_same = not mark.topic_id or not topic_id or topic_id == mark.topic_id
    ends = {}
    starts = []
    for partition, known in enumerate(bounds):
        marked = mark.offsets[partition] if is_same and partition < len(mark.offsets) else 0
        start = max(marked, known.begin)
        if start < known.end:
            starts.append(Position(mark.topic, partition, start))
            ends[partition] = known.end
    ids: set[int] = set()
    if starts:
        reader = await log.reader(starts)
        try:
            await _read_to(log, reader, ends, f"{source}/".encode(), ids)
        finally:
            await reader.close()
    return ids, [known.end for known in bounds]


async def _read_to(log: EventLog, reader: Reader, ends: dict[int, int], prefix: bytes, ids: set[int]) -> None:
    while any(position.offset < ends[position.partition] for position in reader.positions()):
        try:
            result = await reader.read(max_events=READ_EVENTS, wait_ms=QUIET_MS)
        except PositionOutOfRange:  # retention was faster
            await seek_begin(log, reader)
            continue
        if not result:
            return
        for lost in result.unreadable:
            _log.warning(
                "%s/%d cannot be read from offset %d on: events of the outbox there may be published again",
                lost.topic,
                lost.partition,
                lost.offset,
            )
        for event in result.events:
            if event.headers and (number := row_id(event.headers, prefix)) is not None:
                ids.add(number)
