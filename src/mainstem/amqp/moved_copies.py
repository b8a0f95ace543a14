"""Which copies of dead letters are in the log, although the queues that they come from may not know it yet.

A dead letter is published first, and recorded as done then. After a kill between the two, or while the disk
refuses the record, the engine hands the event over again, and here is known that its copy exists: each copy
names its origin in the header `mainstem-moved-from`. So that a start finds those of the life before, a note
of the namespace says from which offsets on such copies can be.
Owns: that note, and the origins. Refuses: publishing (`dead_lettering.py`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import msgspec

from mainstem.amqp.stored_topology import MOVES
from mainstem.amqp.topology import AmqpQueue
from mainstem.clock import Clock, Timer
from mainstem.contract import EventLog, Position, StreamError, UnknownTopic
from mainstem.routing_contract import MOVED_FROM_HEADER, RoutedQueues

MARKS_S = 10.0
"""How long offsets stay in the note at least: a start reads what was published since them."""
Marks: TypeAlias = dict[str, list[int]]
"""Topic -> an offset of each partition. One that is missing is 0."""
log = logging.getLogger(__name__)


class MovedCopies:
    """The copies of one virtual host."""

    def __init__(
        self,
        namespace: str,
        queues: Mapping[str, AmqpQueue],
        *,
        events: EventLog,
        routed: RoutedQueues,
        clock: Clock,
        start_task: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        """`queues`: those of the virtual host, live."""
        self._namespace = namespace
        self._queues = queues
        self._events = events
        self._routed = routed
        self._clock = clock
        self._start_task = start_task
        self._noted: Marks = {}
        """What the note says."""
        self._moving: dict[str, Marks] = {}
        """Subscription -> where its copies can be that are not recorded."""
        self._copied: dict[str, set[str]] = {}
        """Subscription -> the origins of these copies."""
        self._former: set[str] = set()
        """Origins of copies of former lives."""
        self._former_marks: Marks = {}
        self._former_queues: set[str] = set()
        """Subscriptions that may hand over what former lives have copied."""
        self._lock = asyncio.Lock()
        self._timer: Timer | None = None

    # --- a start ------------------------------------------------------------------------------------------

    async def load(self, note: bytes | None) -> None:
        """Find the copies of the life before. StreamError."""
        if note is None:
            return
        self._noted = msgspec.json.decode(note, type=Marks)
        for topic, starts in self._noted.items():
            try:
                for partition in range(await self._events.partitions(topic)):
                    await self._find(topic, partition, _offset(starts, partition))
            except UnknownTopic:
                continue  # somebody has deleted it with its copies
        if self._former:
            self._former_marks = self._noted
            self._former_queues = {queue.subscription for queue in self._queues.values()}
        self._start_timer()

    async def _find(self, topic: str, partition: int, start: int) -> None:
        bounds = await self._events.bounds(topic, partition)
        reader = await self._events.reader([Position(topic, partition, max(start, bounds.begin))])
        try:
            while reader.positions()[0].offset < bounds.end:
                for event in (await reader.read()).events:
                    for name, value in event.headers:
                        if name == MOVED_FROM_HEADER and value is not None:
                            self._former.add(value.decode(errors="replace"))
        finally:
            await reader.close()

    # --- moves --------------------------------------------------------------------------------------------

    async def begin(self, subscription: str, topic: str) -> None:
        """Copies of events of a subscription are about to be published to a topic. StreamError: this cannot
        be noted, so they must not be."""
        async with self._lock:
            partitions = range(await self._events.partitions(topic))
            ends = [(await self._events.bounds(topic, partition)).end for partition in partitions]
            self._moving.setdefault(subscription, {}).setdefault(topic, ends)
            if topic not in self._noted:
                await self._write({**self._noted, topic: ends})
        self._start_timer()

    def copied(self, subscription: str, origins: Iterable[str]) -> None:
        """The copies of these are durable."""
        origins = set(origins)
        if origins:
            self._copied.setdefault(subscription, set()).update(origins)
        elif subscription not in self._copied:
            self._moving.pop(subscription, None)

    def has(self, subscription: str, origin: str) -> bool:
        """Whether there is a copy of this already."""
        return origin in self._former or origin in self._copied.get(subscription, ())

    def recorded(self, subscription: str, *, is_all: bool) -> None:
        """See `DeadLetterSink`."""
        self._moving.pop(subscription, None)
        self._copied.pop(subscription, None)
        if is_all:
            self._former_queues.discard(subscription)
            self._forget_former()

    def _forget_former(self) -> None:
        if not self._former_queues:
            self._former.clear()
            self._former_marks = {}

    # --- the note -----------------------------------------------------------------------------------------

    def _start_timer(self) -> None:
        if self._timer is None and self._noted:
            self._timer = self._clock.call_later(MARKS_S, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._start_task(self._advance())

    async def _advance(self) -> None:
        """Note where copies can be that are not recorded now."""
        self._former_queues &= {queue.subscription for queue in self._queues.values()}
        self._forget_former()
        async with self._lock:
            needed: Marks = {topic: list(ends) for topic, ends in self._former_marks.items()}
            for marks in self._moving.values():
                for topic, ends in marks.items():
                    needed[topic] = _lowest(needed.get(topic, ends), ends)
            if needed != self._noted:
                try:
                    await self._write(needed)
                except StreamError as error:
                    log.warning(
                        "vhost %s: where its dead letters are is not noted: %s", self._namespace, error
                    )
        self._start_timer()

    async def _write(self, marks: Marks) -> None:
        await self._routed.set_note(self._namespace, MOVES, msgspec.json.encode(marks) if marks else None)
        self._noted = marks

    def close(self) -> None:
        """End the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _offset(offsets: Sequence[int], partition: int) -> int:
    return offsets[partition] if partition < len(offsets) else 0


def _lowest(first: Sequence[int], second: Sequence[int]) -> list[int]:
    """The lower offset of each partition; one that either does not have is 0, and is left out at the end."""
    return [min(pair) for pair in zip(first, second, strict=False)]
