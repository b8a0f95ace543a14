"""Batches of partitions into events, for the embedded engine."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from mainstem.clock import Clock
from mainstem.contract import Event, Position, ReadResult, StreamError
from mainstem.engines.embedded.errors import translate
from mainstem.log.errors import CorruptBatch
from mainstem.log.partition.partition import BatchSlice, Partition
from mainstem.log.storage.record_batch import Record, decode, iter_batches
from mainstem.promise import Promise

READ_BYTES = 256 << 10
READY_EVENTS = 500
"""Decoded ahead; a batch is decoded whole."""

Find = Callable[[str, int], Partition]


class _PartitionCursor:
    """One partition being read: what was decoded and not yet given, and where to read on."""

    __slots__ = ("offset", "partition", "read_offset", "ready", "topic")

    def __init__(self, topic: str, partition: Partition, offset: int) -> None:
        self.topic = topic
        self.partition = partition
        self.offset = offset
        self.read_offset = offset
        self.ready: deque[Event | Position] = deque()

    def move(self, offset: int) -> None:
        self.offset = self.read_offset = offset
        self.ready.clear()

    async def fill(self) -> None:
        """Decode more, if nothing is ready."""
        found: BatchSlice | Promise[BatchSlice]
        try:
            found = self.partition.read(self.read_offset, READ_BYTES)
            if isinstance(found, Promise):
                found = await found
        except Exception as error:
            what = f"topic {self.topic}, partition {self.partition.index}, offset {self.read_offset}"
            raise translate(error, what) from None
        view = memoryview(found.data)
        for at, header in iter_batches(view):
            if not header.is_control:
                try:
                    records = decode(view[at : at + header.total_bytes])
                except CorruptBatch:
                    self.ready.append(Position(self.topic, self.partition.index, header.base_offset))
                else:
                    self.ready.extend(self._event(one) for one in records if one.offset >= self.read_offset)
            self.read_offset = max(self.read_offset, header.next_offset)
            if len(self.ready) >= READY_EVENTS:
                break
        if not self.ready:
            self.offset = self.read_offset

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

    def take(self, most: int, events: list[Event], unreadable: list[Position]) -> None:
        """Give up to `most` of what is ready."""
        while self.ready and len(events) < most:
            one = self.ready.popleft()
            if isinstance(one, Event):
                events.append(one)
                self.offset = one.offset + 1
            else:
                unreadable.append(one)
        if not self.ready:
            self.offset = max(self.offset, self.read_offset)


class EmbeddedReader:
    """The contract's Reader."""

    def __init__(self, clock: Clock, find: Find, start: Sequence[Position]) -> None:
        self._clock = clock
        self._find = find
        self._cursors: dict[tuple[str, int], _PartitionCursor] = {}
        self._moved = asyncio.Event()
        self._first = 0
        self.assign(start)

    def assign(self, start: Sequence[Position]) -> None:
        """Read these partitions from now on, instead of those before."""
        self._unwatch()
        self._cursors = {
            (each.topic, each.partition): _PartitionCursor(
                each.topic, self._find(each.topic, each.partition), each.offset
            )
            for each in start
        }
        for cursor in self._cursors.values():
            cursor.partition.watch(self._woken)
        self._moved.set()

    def _woken(self, _: Partition) -> None:
        self._moved.set()

    def _unwatch(self) -> None:
        for cursor in self._cursors.values():
            cursor.partition.unwatch(self._woken)
        self._cursors = {}

    async def read(self, *, max_events: int = 1_000, wait_ms: int = 1_000) -> ReadResult:
        """See the contract."""
        deadline = self._clock.monotonic() + wait_ms / 1000
        while True:
            self._moved.clear()
            found = await self._read_now(max_events)
            left_s = deadline - self._clock.monotonic()
            if found or left_s <= 0:
                return found
            try:
                await asyncio.wait_for(self._moved.wait(), left_s)
            except TimeoutError:
                return found

    async def _read_now(self, most: int) -> ReadResult:
        events: list[Event] = []
        unreadable: list[Position] = []
        cursors = list(self._cursors.values())
        self._first += 1  # another one begins each time, so that a busy partition does not starve the others
        for at in range(len(cursors)):
            cursor = cursors[(self._first + at) % len(cursors)]
            if not cursor.ready and len(events) < most:
                try:
                    await cursor.fill()
                except StreamError:
                    if events or unreadable:
                        break  # what was found is given first; the error comes again with the next read
                    raise
            cursor.take(most, events, unreadable)
        return ReadResult(events, unreadable)

    def positions(self) -> list[Position]:
        """See the contract."""
        return sorted(Position(*where, cursor.offset) for where, cursor in self._cursors.items())

    def seek(self, position: Position) -> None:
        """See the contract."""
        self._cursors[position.topic, position.partition].move(position.offset)
        self._moved.set()

    async def close(self) -> None:
        """See the contract."""
        self._unwatch()
