"""From what a cluster holds to spans: the units in which it is searched.

Owns: where spans begin and end, and about when their events were. Refuses: to ask anybody. Spans lie on a
grid of powers of two of offsets, so that those that were cut when events were larger nest in those cut later,
and a filter that was made for one stays of use. Used by `cluster/search.py` and `cluster/filters.py`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence

from mainstem.search.blocks.blocks import Block
from mainstem.search.contract import Remaining
from mainstem.search.execution import WorkItem
from mainstem.search.ipc import ClusterPartition, Unit

SPAN_BYTES = 8 << 20
FIRST_BYTES = 512 << 10
"""Of the newest span of a partition, which is read first: somebody waits for it."""
EVENT_BYTES = 512
"""Of an event, where the brokers do not tell how large a partition is."""
SPAN_EVENTS_MIN, SPAN_EVENTS_MAX = 64, 1 << 22


def mean_bytes(held: ClusterPartition) -> float:
    """Of an event as it is stored."""
    count = held.end - held.begin
    return max(1.0, held.bytes / count) if held.bytes and count > 0 else float(EVENT_BYTES)


def span_events(held: ClusterPartition, span_bytes: int = SPAN_BYTES) -> int:
    """How many offsets a span has: a power of two of about so many bytes."""
    wanted = int(span_bytes / mean_bytes(held))
    return max(SPAN_EVENTS_MIN, min(SPAN_EVENTS_MAX, 1 << max(0, wanted.bit_length() - 1)))


def folder_of(held: ClusterPartition) -> str:
    """The partition's name among filters; empty: without an id nothing is kept of it."""
    return f"{held.topic_id}-{held.partition}" if held.topic_id else ""


def uncovered_ranges(blocks: Sequence[Block], low: int, high: int) -> Iterator[tuple[int, int]]:
    """The offsets that no block has. `blocks` lie one after the other."""
    for block in blocks:
        if block.next_offset <= low:
            continue
        if block.first_offset >= high:
            break
        if low < block.first_offset:
            yield low, block.first_offset
        low = block.next_offset
    if low < high:
        yield low, high


def cut_spans(
    held: ClusterPartition, low: int, high: int, span_bytes: int = SPAN_BYTES
) -> Iterator[tuple[int, int]]:
    """A gap in spans, oldest first."""
    step = span_events(held, span_bytes)
    while low < high:
        after = min(high, (low // step + 1) * step)
        yield low, after
        low = after


def closed_spans(
    held: ClusterPartition, blocks: Sequence[Block], span_bytes: int = SPAN_BYTES
) -> Iterator[tuple[int, int]]:
    """The spans without a filter that will not grow any more, oldest first."""
    step = span_events(held, span_bytes)
    for low, high in uncovered_ranges(blocks, held.begin, held.end):
        for span in cut_spans(held, low, high, span_bytes):
            if span[1] < held.end or span[1] % step == 0:
                yield span


class TimeEstimate:
    """About when the events of a partition were: by a few of their times."""

    def __init__(self, held: ClusterPartition, now_ms: int) -> None:
        self._offsets = [held.begin, held.end]
        self._times = [0, now_ms]

    def next_lookup_ms(self) -> int | None:
        """The time to look up next: in the middle of the largest stretch of which the least is known."""
        widest = max(range(1, len(self._offsets)), key=lambda at: self._width(at))
        if not self._width(widest):
            return None
        return 1 if self._times[0] == 0 else (self._times[widest - 1] + self._times[widest]) // 2

    def _width(self, at: int) -> int:
        if self._times[at] - self._times[at - 1] <= 1:
            return 0
        return self._offsets[at] - self._offsets[at - 1]

    def add_lookup(self, asked_ms: int, found_ms: int, offset: int) -> None:
        """The first event at that time or later, -1: there is none."""
        at = bisect_left(self._offsets, offset)
        if not 0 <= offset < self._offsets[-1]:
            self._times[-1] = max(self._times[-2], min(self._times[-1], asked_ms))
        elif self._offsets[at] != offset:
            self._offsets.insert(at, offset)
            self._times.insert(at, found_ms)
        elif at == 0:
            self._times[0] = found_ms
        elif offset - 1 > self._offsets[at - 1]:
            # No event of the stretch before it is as late.
            self._offsets.insert(at, offset - 1)
            self._times.insert(at, asked_ms)

    def time_at(self, offset: int) -> int:
        """About the time of this offset, ms."""
        at = min(max(1, bisect_left(self._offsets, offset)), len(self._offsets) - 1)
        low, high = self._offsets[at - 1], self._offsets[at]
        share = (offset - low) / (high - low) if high > low else 1.0
        return int(self._times[at - 1] + share * (self._times[at] - self._times[at - 1]))


def work_items(
    held: ClusterPartition,
    left: Remaining,
    blocks: Sequence[Block],
    times: TimeEstimate,
    *,
    newest_first: bool,
    span_bytes: int = SPAN_BYTES,
) -> list[WorkItem]:
    """What is left of a partition as units of work, oldest first."""
    mean = mean_bytes(held)
    covered = [each for each in blocks if each.first_offset < left.high and left.low < each.next_offset]
    spans = [
        span
        for gap in uncovered_ranges(covered, left.low, left.high)
        for span in cut_spans(held, *gap, span_bytes)
    ]
    if newest_first and spans and spans[-1][1] == left.high:
        low, high = spans.pop()
        middle = max(low, high - max(1, int(FIRST_BYTES / mean)))
        spans += [(low, middle), (middle, high)] if low < middle else [(low, high)]
    found = [_piece(left, each) for each in covered]
    for low, high in spans:
        size = max(1, int((high - low) * mean))
        found.append(
            _piece(left, Block(held.topic_id, 0, size, low, high, times.time_at(high), closed=False))
        )
    for item in found:
        item.unit = _of_topic(item.unit, held)
    return sorted(found, key=lambda each: each.unit.low)


def _piece(left: Remaining, block: Block) -> WorkItem:
    low, high = max(left.low, block.first_offset), min(left.high, block.next_offset)
    unit = Unit(left.topic, left.partition, block.path, block.start, block.end, low, high)
    return WorkItem(unit, block.time_ms, block)


def _of_topic(unit: Unit, held: ClusterPartition) -> Unit:
    return Unit(unit.topic, unit.partition, held.topic_id, unit.start, unit.end, unit.low, unit.high)
