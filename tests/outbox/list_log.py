"""A log in memory: what the relay needs of the contract, with failures on demand."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Sequence
from typing import Literal

from mainstem.contract import (
    Bounds,
    Event,
    Member,
    MemberHooks,
    NewEvent,
    Position,
    ReadResult,
    UnknownTopic,
)

Failure = Callable[[str, Sequence[NewEvent]], None]


class ListLog:
    """Topics of `count` partitions, made when they are published to, if `creates` is on."""

    def __init__(self, count: int = 4, *, creates: bool = True) -> None:
        self.count = count
        self.creates = creates
        self.events: dict[str, list[list[Event]]] = {}
        self.before: Failure | None = None
        """Called before events are appended: what it raises is the result of the call."""
        self.after: Failure | None = None
        """Called when they are in the log."""
        self.reads = 0
        """Events that readers have returned."""

    def create(self, topic: str) -> None:
        self.events[topic] = [[] for _ in range(self.count)]

    def all_of(self, topic: str) -> list[Event]:
        return [event for partition in self.events.get(topic, []) for event in partition]

    def _partitions(self, topic: str) -> list[list[Event]]:
        if topic not in self.events:
            raise UnknownTopic(f"topic {topic}: it does not exist")
        return self.events[topic]

    async def publish(self, topic: str, events: Sequence[NewEvent]) -> list[Position]:
        await asyncio.sleep(0)
        if self.before is not None:
            self.before(topic, events)
        if topic not in self.events and self.creates:
            self.create(topic)
        partitions = self._partitions(topic)
        positions = []
        for event in events:
            number = zlib.crc32(event.key or b"") % self.count
            position = Position(topic, number, len(partitions[number]))
            partitions[number].append(
                Event(
                    topic,
                    number,
                    position.offset,
                    event.timestamp_ms or 0,
                    event.key,
                    event.value,
                    event.headers,
                )
            )
            positions.append(position)
        if self.after is not None:
            self.after(topic, events)
        return positions

    async def partitions(self, topic: str) -> int:
        return len(self._partitions(topic))

    async def topic_id(self, topic: str) -> str:
        return f"id-of-{topic}-{id(self._partitions(topic))}"

    async def bounds(self, topic: str, partition: int) -> Bounds:
        return Bounds(0, len(self._partitions(topic)[partition]))

    async def offset_for_time(self, topic: str, partition: int, time_ms: int) -> int | None:
        raise NotImplementedError

    async def reader(self, start: Sequence[Position]) -> ListReader:
        return ListReader(self, start)

    async def join(
        self,
        group: str,
        topics: Sequence[str],
        *,
        start: Literal["earliest", "latest"],
        hooks: MemberHooks | None = None,
    ) -> Member:
        raise NotImplementedError


class ListReader:
    """Reads a ListLog."""

    def __init__(self, log: ListLog, start: Sequence[Position]) -> None:
        self._log = log
        self._offsets = {(position.topic, position.partition): position.offset for position in start}

    async def read(self, *, max_events: int = 1_000, wait_ms: int = 1_000) -> ReadResult:
        events: list[Event] = []
        for (topic, partition), offset in self._offsets.items():
            fresh = self._log.events[topic][partition][offset:][: max_events - len(events)]
            events += fresh
            self._offsets[topic, partition] = offset + len(fresh)
        self._log.reads += len(events)
        return ReadResult(events)

    def positions(self) -> Sequence[Position]:
        return [Position(*key, offset) for key, offset in sorted(self._offsets.items())]

    def seek(self, position: Position) -> None:
        self._offsets[position.topic, position.partition] = position.offset

    async def close(self) -> None:
        pass
