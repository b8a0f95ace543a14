"""Reads partitions and decodes their batches to events, for the embedded engine.

Owns: the position in each partition, the events that are decoded ahead, and the wait for new events. Refuses:
group membership, which `member.py` has, and blocking the event loop on the disk.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Sequence

from mainstem.clock import Clock
from mainstem.contract import Event, Position, ReadResult, StreamError
from mainstem.engines.embedded.errors import translate
from mainstem.log.errors import CorruptBatch
from mainstem.log.partition.partition import BatchSlice, Partition
from mainstem.log.storage.record_batch import Record, decode, iter_batches
from mainstem.promise import Promise

READ_BYTES = 256 << 10
DECODED_EVENTS = 500
"""Decoding stops after the batch that reaches this number of events. A batch is always decoded whole."""

DECODED_BYTES = 16 << 20
"""While a reader has decoded this much and not returned it, it decodes no further partition."""

FindPartition = Callable[[str, int], Partition]


class _PartitionCursor:
    """Reads one partition: the decoded events that were not returned yet, and the offset to read next."""

    __slots__ = ("decoded", "decoded_bytes", "offset", "partition", "read_offset", "topic")

    def __init__(self, topic: str, partition: Partition, offset: int) -> None:
        self.topic = topic
        self.partition = partition
        self.offset = offset
        """The position that the reader reports."""
        self.read_offset = offset
        """Where the next batch is read from."""
        self.decoded: deque[Event | Position] = deque()
        """Events that were decoded and not returned yet, and the start of each damaged range and of each
        batch that cannot be decoded."""
        self.decoded_bytes = 0
        """Bytes of the last events that were decoded, until all of them have been returned."""

    def move(self, offset: int) -> None:
        self.offset = self.read_offset = offset
        self.decoded.clear()
        self.decoded_bytes = 0

    async def fill(self) -> None:
        """Decode more, if nothing is decoded: up to the next batch that has a record, for a removed range is
        batches without records."""
        while not self.decoded and await self._read_some():
            pass
        if not self.decoded:
            self.offset = self.read_offset

    async def _read_some(self) -> bool:
        """Read and decode the next batches into `decoded`. False at the high watermark: there are none."""
        batches: BatchSlice | Promise[BatchSlice]
        try:
            batches = self.partition.read(self.read_offset, READ_BYTES)
            if isinstance(batches, Promise):
                batches = await batches
        except CorruptBatch as error:
            self.decoded.append(Position(self.topic, self.partition.index, self.read_offset))
            self.read_offset = error.next_offset or self.read_offset + 1
            return True
        except Exception as error:
            subject = f"topic {self.topic}, partition {self.partition.index}, offset {self.read_offset}"
            raise translate(error, subject) from None
        view = memoryview(batches.data)
        for position, header in iter_batches(view):
            if not header.is_control:
                try:
                    records = decode(view[position : position + header.total_bytes])
                except CorruptBatch:
                    self.decoded.append(Position(self.topic, self.partition.index, header.base_offset))
                else:
                    self.decoded.extend(
                        self._event(record) for record in records if record.offset >= self.read_offset
                    )
                    self.decoded_bytes += sum(map(_size_bytes, records))
            self.read_offset = max(self.read_offset, header.next_offset)
            if len(self.decoded) >= DECODED_EVENTS:
                break
        return len(view) > 0

    def _event(self, record: Record) -> Event:
        return Event(
            self.topic,
            self.partition.index,
            record.offset,
            record.timestamp_ms,
            record.key,
            record.value,
            record.headers,
        )

    def move_decoded(self, max_events: int, events: list[Event], unreadable: list[Position]) -> None:
        """Move decoded items to the two lists until `events` has `max_events`."""
        while self.decoded and len(events) < max_events:
            item = self.decoded.popleft()
            if isinstance(item, Event):
                events.append(item)
                self.offset = item.offset + 1
            else:
                unreadable.append(item)
        if not self.decoded:
            self.decoded_bytes = 0
            self.offset = max(self.offset, self.read_offset)
        assert self.offset <= self.read_offset, "a reader's position is never after what was read"


def _size_bytes(record: Record) -> int:
    return len(record.value or b"") + len(record.key or b"")


class EmbeddedReader:
    """Implements the contract's Reader."""

    def __init__(self, clock: Clock, find_partition: FindPartition, start: Sequence[Position]) -> None:
        self._clock = clock
        self._find_partition = find_partition
        self._cursors: dict[tuple[str, int], _PartitionCursor] = {}
        self._wakeup = asyncio.Event()
        """Set when a partition has new events, or when the positions changed."""
        self._first_cursor = 0
        self._paused: set[tuple[str, int]] = set()
        self.assign(start)

    def assign(self, start: Sequence[Position]) -> None:
        """Replace the partitions to read. None of them is paused."""
        self._unwatch()
        self._paused.clear()
        cursors = {}
        for position in start:
            partition = self._find_partition(position.topic, position.partition)
            cursor = _PartitionCursor(position.topic, partition, position.offset)
            cursors[position.topic, position.partition] = cursor
        self._cursors = cursors
        for cursor in cursors.values():
            cursor.partition.watch(self._on_watermark_moved)
        self._wakeup.set()

    def _on_watermark_moved(self, _: Partition) -> None:
        self._wakeup.set()

    def _unwatch(self) -> None:
        for cursor in self._cursors.values():
            cursor.partition.unwatch(self._on_watermark_moved)
        self._cursors = {}

    async def read(self, *, max_events: int = 1_000, wait_ms: int = 1_000) -> ReadResult:
        """See the contract."""
        deadline = self._clock.monotonic() + wait_ms / 1000
        while True:
            self._wakeup.clear()
            result = await self._read_available(max_events)
            left_s = deadline - self._clock.monotonic()
            if result or left_s <= 0:
                return result
            try:
                async with asyncio.timeout(left_s):
                    await self._wakeup.wait()
            except TimeoutError:
                return result

    async def _read_available(self, max_events: int) -> ReadResult:
        events: list[Event] = []
        unreadable: list[Position] = []
        cursors = [cursor for key, cursor in self._cursors.items() if key not in self._paused]
        may_decode = sum(cursor.decoded_bytes for cursor in cursors) < DECODED_BYTES
        # Another partition is read first each time, so that a busy one does not starve the others.
        self._first_cursor += 1
        for i in range(len(cursors)):
            cursor = cursors[(self._first_cursor + i) % len(cursors)]
            if may_decode and not cursor.decoded and len(events) < max_events:
                try:
                    await cursor.fill()
                except StreamError:
                    if events or unreadable:
                        break  # return what was read first; the next read raises the error again
                    raise
            cursor.move_decoded(max_events, events, unreadable)
        return ReadResult(events, unreadable)

    def pause(self, partitions: Collection[tuple[str, int]]) -> None:
        """As `Member.pause`."""
        self._paused.update(self._cursors.keys() & set(partitions))

    def resume(self, partitions: Collection[tuple[str, int]]) -> None:
        """As `Member.resume`."""
        self._paused.difference_update(partitions)
        self._wakeup.set()

    def positions(self) -> list[Position]:
        """See the contract."""
        return sorted(Position(*key, cursor.offset) for key, cursor in self._cursors.items())

    def seek(self, position: Position) -> None:
        """See the contract."""
        self._cursors[position.topic, position.partition].move(position.offset)
        self._wakeup.set()

    async def close(self) -> None:
        """See the contract."""
        self._unwatch()
