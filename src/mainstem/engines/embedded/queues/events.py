"""Reads the events at given positions of a partition.

Owns: the batches that were decoded last, for a batch is delivered in several parts, and some of its events
again. Refuses: to know what a view is, and blocking the event loop: the disk is read without waiting, and a
long read is divided among turns of the loop.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter

from mainstem.clock import Clock
from mainstem.contract import Event
from mainstem.engines.embedded.errors import translate
from mainstem.log.errors import CorruptBatch, OffsetOutOfRange
from mainstem.log.partition.partition import BatchSlice, Partition
from mainstem.log.storage.record_batch import Record, decode, iter_batches
from mainstem.promise import Promise
from mainstem.queues.runs import Run, add_run
from mainstem.turns import next_turn

READ_BYTES = 128 << 10
"""Bytes of batches that are read and decoded in one turn of the loop, but for a batch that is larger."""
DECODED_BATCHES = 16
DECODED_BYTES = 2 << 20
"""Decoded batches of a partition are kept up to these limits."""
DECODED_BYTES_ALL = 16 << 20
"""Those of all partitions."""
RECORD_OVERHEAD = 300
"""Bytes that a decoded event takes beside its key, value and headers."""
_OFFSET = attrgetter("offset")


class DecodedBudget:
    """The memory of decoded batches of all partitions: the source that was used longest ago forgets its
    own."""

    def __init__(self) -> None:
        self._sizes: OrderedDict[EventSource, int] = OrderedDict()
        self._bytes = 0

    def note(self, source: EventSource, size: int) -> None:
        """A source was used, and keeps this many bytes now."""
        self._bytes += size - self._sizes.pop(source, 0)
        if size:
            self._sizes[source] = size
        while self._bytes > DECODED_BYTES_ALL and len(self._sizes) > 1:
            next(iter(self._sizes)).forget()


class EventsAtPositions(dict[int, Event]):
    """Events by their offset."""

    def __init__(self) -> None:
        super().__init__()
        self.unreadable: list[Run] = []
        """Offsets that damage has made unreadable."""
        self.left: list[Run] = []
        """Offsets that were not read, because those before have as many bytes as were wanted."""
        self.bytes = 0
        """Bytes of keys, values and headers."""


class EventSource:
    """Reads the events of one partition."""

    def __init__(
        self, clock: Clock, topic: str, partition: Partition, budget: DecodedBudget | None = None
    ) -> None:
        self.topic = topic
        self.partition = partition
        self._clock = clock
        self._budget = budget
        self._decoded_bytes = 0
        self._decoded: list[tuple[int, int, int, list[Record]]] = []
        """(first offset, offset after the last, bytes, records) of batches, the last used at the end."""

    async def read(self, runs: Sequence[Run], max_bytes: int | None = None) -> EventsAtPositions:
        """The events of these runs, which are ascending and below the high watermark. An offset is missing if
        it has no event: it was removed, by retention too, or is unreadable. Stops after the batch with which
        they have `max_bytes`, or the slice of the log. StreamError: the disk or the partition fails."""
        events = EventsAtPositions()
        for number, (first, end) in enumerate(runs):
            position = first
            while position < end:
                if max_bytes is not None and events.bytes >= max_bytes:
                    events.left = [(position, end), *runs[number + 1 :]]
                    return events
                position = self._read_decoded(position, end, events) or await self._read_log(
                    position, end, events
                )
        return events

    def _read_decoded(self, position: int, end: int, events: EventsAtPositions) -> int | None:
        for index, (first, following, _, records) in enumerate(self._decoded):
            if first <= position < following:
                self._decoded.append(self._decoded.pop(index))
                self._add(records, position, end, events)
                return following
        return None

    def _add(self, records: Sequence[Record], first: int, end: int, events: EventsAtPositions) -> None:
        topic, index, size = self.topic, self.partition.index, 0
        low, high = bisect_left(records, first, key=_OFFSET), bisect_left(records, end, key=_OFFSET)
        for record in records[low:high]:
            offset, key, value, headers = record.offset, record.key, record.value, record.headers
            events[offset] = Event(topic, index, offset, record.timestamp_ms, key, value, headers)
            size += len(value or b"") + len(key or b"")
            if headers:
                size += header_bytes(headers)
        events.bytes += size

    async def _read_log(self, position: int, end: int, events: EventsAtPositions) -> int:
        """Read some batches from a position on. Returns where to go on, after the position."""
        try:
            batches = await read_batches(self.partition, position, READ_BYTES)
        except CorruptBatch as error:
            following = error.next_offset or position + 1
            add_run(events.unreadable, position, min(following, end))
            return max(following, position + 1)
        except OffsetOutOfRange:
            return max(position + 1, min(end, self.partition.log_start_offset))
        except Exception as error:
            subject = f"topic {self.topic}, partition {self.partition.index}, offset {position}"
            raise translate(error, subject) from None
        view = memoryview(batches.data)
        following = position
        for start, header in iter_batches(view):
            if header.base_offset >= end:
                break
            if not header.is_control:
                try:
                    records = decode(view[start : start + header.total_bytes])
                except CorruptBatch:
                    first = max(position, header.base_offset)
                    add_run(events.unreadable, first, min(end, header.next_offset))
                else:
                    self._add(records, position, end, events)
                    self._remember(header.base_offset, header.next_offset, records)
            following = max(following, header.next_offset)
        if following < end:
            await next_turn(self._clock)
        return max(following, position + 1)

    def _remember(self, first: int, following: int, records: list[Record]) -> None:
        size = sum(map(record_bytes, records)) + RECORD_OVERHEAD * len(records)
        if size > DECODED_BYTES:
            return
        self._decoded.append((first, following, size, records))
        self._decoded_bytes += size
        while len(self._decoded) > DECODED_BATCHES or self._decoded_bytes > DECODED_BYTES:
            self._decoded_bytes -= self._decoded.pop(0)[2]
        if self._budget is not None:
            self._budget.note(self, self._decoded_bytes)

    def forget(self) -> None:
        """Keep no decoded batches: nothing is read for a while."""
        self._decoded.clear()
        self._decoded_bytes = 0
        if self._budget is not None:
            self._budget.note(self, 0)


def record_bytes(record: Record) -> int:
    """Bytes of key, value and headers."""
    size = len(record.value or b"") + len(record.key or b"")
    return size + header_bytes(record.headers) if record.headers else size


def event_bytes(event: Event) -> int:
    """Bytes of key, value and headers."""
    return len(event.value or b"") + len(event.key or b"") + header_bytes(event.headers)


def header_bytes(headers: Sequence[tuple[str, bytes | None]]) -> int:
    """Bytes of the names and values of headers."""
    return sum(len(name) + len(value or b"") for name, value in headers)


async def read_batches(partition: Partition, offset: int, max_bytes: int) -> BatchSlice:
    """See `Partition.read`, whose errors it raises."""
    batches = partition.read(offset, max_bytes)
    return await batches if isinstance(batches, Promise) else batches


def positions_of(runs: Iterable[Run]) -> Iterator[int]:
    """All positions of runs, ascending."""
    for first, end in runs:
        yield from range(first, end)
