"""Divides the partitions of a cluster into spans, the units in which it is searched.

Owns: where spans begin and end, and estimates of when their events were written. Refuses: to send requests.
Spans lie on a grid whose step is a power of two of offsets: if the step changes with the size of events, the
smaller spans still nest in the larger ones, so that a token filter of an old span remains usable.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence

from mainstem.search.blocks.blocks import Block
from mainstem.search.cluster.messages import ClusterPartition
from mainstem.search.contract import Remaining
from mainstem.search.execution import WorkItem
from mainstem.search.ipc import Unit

SPAN_BYTES = 8 << 20
FIRST_BYTES = 512 << 10
"""Size of the newest span of a partition. It is smaller, because the user waits for the first matches."""
EVENT_BYTES = 512
"""Assumed size of an event if the brokers do not report the size of a partition."""
SPAN_EVENTS_MIN, SPAN_EVENTS_MAX = 64, 1 << 22


def mean_bytes(partition: ClusterPartition) -> float:
    """The mean size of a partition's events as they are stored, at least 1."""
    count = partition.end - partition.begin
    return max(1.0, partition.bytes / count) if partition.bytes and count > 0 else float(EVENT_BYTES)


def span_events(partition: ClusterPartition, span_bytes: int = SPAN_BYTES) -> int:
    """The number of offsets of a span: the power of two that gives about `span_bytes`."""
    wanted = int(span_bytes / mean_bytes(partition))
    return max(SPAN_EVENTS_MIN, min(SPAN_EVENTS_MAX, 1 << max(0, wanted.bit_length() - 1)))


def filter_folder(partition: ClusterPartition) -> str:
    """The name of the folder of a partition's token filters. Empty: it has none, because the cluster has no
    topic ids."""
    return f"{partition.topic_id}-{partition.partition}" if partition.topic_id else ""


def uncovered_ranges(blocks: Sequence[Block], low: int, high: int) -> Iterator[tuple[int, int]]:
    """The ranges of offsets from `low` to before `high` that are in none of `blocks`, which are ordered and
    do not overlap."""
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
    partition: ClusterPartition, low: int, high: int, span_bytes: int = SPAN_BYTES
) -> Iterator[tuple[int, int]]:
    """The spans of a range of offsets, oldest first."""
    step = span_events(partition, span_bytes)
    assert step & (step - 1) == 0, "the step of the grid is a power of two"
    while low < high:
        span_end = min(high, (low // step + 1) * step)
        yield low, span_end
        low = span_end


def closed_spans(
    partition: ClusterPartition, blocks: Sequence[Block], span_bytes: int = SPAN_BYTES
) -> Iterator[tuple[int, int]]:
    """The spans without a token filter that will not grow, oldest first. `blocks`: the filters that exist."""
    step = span_events(partition, span_bytes)
    for low, high in uncovered_ranges(blocks, partition.begin, partition.end):
        for span in cut_spans(partition, low, high, span_bytes):
            if span[1] < partition.end or span[1] % step == 0:
                yield span


class TimeEstimate:
    """Estimates the times of a partition's events from a few look-ups by time."""

    def __init__(self, partition: ClusterPartition, now_ms: int) -> None:
        self._offsets = [partition.begin, partition.end]
        self._times = [0, now_ms]
        """The estimated time at each of `_offsets`; both rise."""

    def next_lookup_ms(self) -> int | None:
        """The time to look up next: in the middle of the range with the most offsets between two known times.
        None: another look-up would add nothing."""
        widest = max(range(1, len(self._offsets)), key=lambda index: self._width(index))
        if not self._width(widest):
            return None
        return 1 if self._times[0] == 0 else (self._times[widest - 1] + self._times[widest]) // 2

    def _width(self, index: int) -> int:
        """The number of offsets between this known time and the one before; 0 if the two times are equal or
        adjacent."""
        if self._times[index] - self._times[index - 1] <= 1:
            return 0
        return self._offsets[index] - self._offsets[index - 1]

    def add_lookup(self, lookup_ms: int, result_ms: int, offset: int) -> None:
        """Add the result of a look-up: time and offset of the first event at `lookup_ms` or later. `offset`:
        -1 if there is none."""
        index = bisect_left(self._offsets, offset)
        if not 0 <= offset < self._offsets[-1]:
            self._times[-1] = max(self._times[-2], min(self._times[-1], lookup_ms))
        elif self._offsets[index] != offset:
            self._offsets.insert(index, offset)
            self._times.insert(index, result_ms)
        elif index == 0:
            self._times[0] = result_ms
        elif offset - 1 > self._offsets[index - 1]:
            # All events between the two known offsets are before `lookup_ms`.
            self._offsets.insert(index, offset - 1)
            self._times.insert(index, lookup_ms)

    def time_at(self, offset: int) -> int:
        """The estimated time of the event at this offset, ms: interpolated between the known times."""
        index = min(max(1, bisect_left(self._offsets, offset)), len(self._offsets) - 1)
        low, high = self._offsets[index - 1], self._offsets[index]
        share = (offset - low) / (high - low) if high > low else 1.0
        return int(self._times[index - 1] + share * (self._times[index] - self._times[index - 1]))


def work_items(
    partition: ClusterPartition,
    remaining: Remaining,
    blocks: Sequence[Block],
    times: TimeEstimate,
    *,
    newest_first: bool,
    span_bytes: int = SPAN_BYTES,
) -> list[WorkItem]:
    """The units of a partition's remaining offsets, oldest first: one for each block with a token filter, and
    spans between them."""
    mean = mean_bytes(partition)
    covered = [
        block for block in blocks if block.first_offset < remaining.high and remaining.low < block.next_offset
    ]
    spans = [
        span
        for uncovered in uncovered_ranges(covered, remaining.low, remaining.high)
        for span in cut_spans(partition, *uncovered, span_bytes)
    ]
    if newest_first and spans and spans[-1][1] == remaining.high:
        low, high = spans.pop()
        middle = max(low, high - max(1, int(FIRST_BYTES / mean)))
        spans += [(low, middle), (middle, high)] if low < middle else [(low, high)]
    items = [_work_item(partition, remaining, block) for block in covered]
    for low, high in spans:
        size = max(1, int((high - low) * mean))
        span_block = Block(partition.topic_id, 0, size, low, high, times.time_at(high), closed=False)
        items.append(_work_item(partition, remaining, span_block))
    return sorted(items, key=lambda item: item.unit.low)


def _work_item(partition: ClusterPartition, remaining: Remaining, block: Block) -> WorkItem:
    low, high = max(remaining.low, block.first_offset), min(remaining.high, block.next_offset)
    assert low < high, "a unit has offsets"
    unit = Unit(remaining.topic, remaining.partition, partition.topic_id, block.start, block.end, low, high)
    return WorkItem(unit, block.time_ms, block)
