"""The times at which events expire that name them in their headers, so that they are given up in time.

The log has no index of the header `expires-at`. This one, in memory, begins with the first such event of a
partition that somebody reads: then what is outstanding of the partition is looked through in the background,
and what is committed from then on. So a partition without such events costs nothing.

Owns: which partitions are looked through, how far, and the timer of the next expiry. Refuses: to decide for a
consumer that has an event: it expires when it comes back. Beyond ENTRIES_MAX events the look waits until some
have expired; `header_times.py` comes by nevertheless.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from heapq import heappop, heappush
from uuid import UUID

from mainstem.clock import Timer
from mainstem.coordinator.queues.views import SubscriptionView
from mainstem.engines.embedded.queues.batch_headers import events_with_times
from mainstem.engines.embedded.queues.events import read_batches
from mainstem.log.errors import CorruptBatch, LogError, StorageError
from mainstem.log.partition.partition import Partition
from mainstem.log.storage.record_batch import iter_batches
from mainstem.node import Node
from mainstem.queues.event_headers import expiry_of
from mainstem.queues.pages import PositionState
from mainstem.turns import next_turn

ENTRIES_MAX = 100_000
"""Events of all partitions whose time has not come, about 15 MB."""
SLICE_BYTES = 64 << 10
"""Bytes of batches that are looked through in a turn of the event loop, but for a batch that is larger."""
EXPIRED_OF_TURN = 1_000
WAIT_S_MAX = 3_600.0
"""The clock is looked at again after this time: it may have been set."""
RETRY_S = 1.0
"""Time after which is tried again what the disk has refused."""


class _ExpiryScan:
    """A partition that has events which name their expiry."""

    def __init__(self, partition: Partition, first: int) -> None:
        self.partition = partition
        self.scanned = first
        """What is before is looked through."""


class ExpiryIndex:
    """The index of all partitions of a node."""

    def __init__(
        self,
        node: Node,
        make_ready: Callable[[SubscriptionView, Partition], None],
        give_up: Callable[[SubscriptionView, list[int]], None],
        run: Callable[[Callable[[], Awaitable[None]], str], asyncio.Task[None]],
    ) -> None:
        """`make_ready` lets what has arrived be ready, where nothing has to look at it; `give_up` gives up
        ready events (StorageError: they are still ready); `run` runs something in the background."""
        self._node = node
        self._make_ready = make_ready
        self._give_up = give_up
        self._run = run
        self._partitions: dict[tuple[UUID, int], _ExpiryScan] = {}
        self._heap: list[tuple[int, UUID, int, int]] = []
        """(time, topic, partition, offset)."""
        self._looking: asyncio.Task[None] | None = None
        self._timer: Timer | None = None
        self._timer_ms = 0
        self._closed = False

    def note(self, view: SubscriptionView) -> None:
        """An event of the partition of a view names its expiry."""
        place = view.topic_id, view.partition
        if place in self._partitions or self._closed:
            return
        partition = self._node.partition_at(place)
        if partition is None:  # the view is that of a routed queue, or its topic was deleted
            return
        views = self._node.subscriptions.views.of_partition(*place)
        first = min((view.sequence.oldest for view in views), default=partition.high_watermark)
        self._partitions[place] = _ExpiryScan(partition, first)
        partition.watch(self._on_moved)
        self._look_soon()

    def close(self) -> None:
        """Look no more. Idempotent."""
        self._closed = True
        for indexed in self._partitions.values():
            indexed.partition.unwatch(self._on_moved)
        self._partitions.clear()
        self._heap.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _on_moved(self, _: Partition) -> None:
        self._look_soon()

    # --- looking ------------------------------------------------------------------------------------------

    def _look_soon(self) -> None:
        if not self._closed and (self._looking is None or self._looking.done()):
            self._looking = self._run(self._look, "looking for events that name their expiry")

    async def _look(self) -> None:
        while len(self._heap) < ENTRIES_MAX and not self._closed:
            behind = [
                (place, indexed)
                for place, indexed in list(self._partitions.items())
                if indexed.scanned < indexed.partition.high_watermark and not self._is_over(place, indexed)
            ]
            if not behind:
                return
            for place, indexed in behind:
                try:
                    await self._look_at(place, indexed)
                except (LogError, OSError):
                    self._node.clock.call_later(RETRY_S, self._look_soon)
                    return
                await next_turn(self._node.clock)

    def _is_over(self, place: tuple[UUID, int], indexed: _ExpiryScan) -> bool:
        """Whether no view has the events of a partition any more; it is forgotten then."""
        if not indexed.partition.deleted and self._node.subscriptions.views.of_partition(*place):
            return False
        indexed.partition.unwatch(self._on_moved)
        del self._partitions[place]
        return True

    async def _look_at(self, place: tuple[UUID, int], indexed: _ExpiryScan) -> None:
        """Look through the next batches of a partition. Errors of the log."""
        partition = indexed.partition
        first = max(indexed.scanned, partition.log_start_offset)
        try:
            batches = await read_batches(partition, first, SLICE_BYTES)
        except CorruptBatch as error:
            indexed.scanned = min(error.next_offset or first + 1, partition.high_watermark)
            return
        view, end = memoryview(batches.data), first + 1
        for start, header in iter_batches(view):
            end = max(end, header.next_offset)
            if header.is_control:
                continue
            for record in events_with_times(view[start : start + header.total_bytes], header):
                if record.offset >= first and (time_ms := expiry_of(record.headers)):
                    heappush(self._heap, (time_ms, *place, record.offset))
        indexed.scanned = end
        self._set_timer()

    # --- expiring -----------------------------------------------------------------------------------------

    def _set_timer(self) -> None:
        if not self._heap or self._closed:
            return
        time_ms = self._heap[0][0]
        if self._timer is not None:
            if self._timer_ms <= time_ms:
                return
            self._timer.cancel()
        wait_s = (time_ms - self._node.clock.wall_ms()) / 1000
        self._start_timer(time_ms, min(max(0.0, wait_s), WAIT_S_MAX))

    def _start_timer(self, time_ms: int, wait_s: float) -> None:
        self._timer_ms = time_ms
        self._timer = self._node.clock.call_later(wait_s, self._expire)

    def _expire(self) -> None:
        """Give up what is due now, EXPIRED_OF_TURN at most."""
        self._timer = None
        now_ms, heap = self._node.clock.wall_ms(), self._heap
        due: dict[tuple[UUID, int], list[int]] = {}
        count = 0
        while heap and heap[0][0] <= now_ms and count < EXPIRED_OF_TURN:
            _, topic_id, index, offset = heappop(heap)
            due.setdefault((topic_id, index), []).append(offset)
            count += 1
        try:
            for place, offsets in due.items():
                self._expire_in(place, sorted(offsets))
        except StorageError:
            for (topic_id, index), offsets in due.items():
                for offset in offsets:
                    heappush(heap, (now_ms, topic_id, index, offset))
            self._start_timer(now_ms, RETRY_S)
            return
        self._set_timer()
        self._look_soon()  # there is room again

    def _expire_in(self, place: tuple[UUID, int], offsets: list[int]) -> None:
        """Give up events of a partition in the views where they are ready. StorageError."""
        partition = self._node.partition_at(place)
        if partition is None:
            return
        for view in self._node.subscriptions.views.of_partition(*place):
            self._make_ready(view, partition)
            sequence = view.sequence
            over = [
                offset
                for offset in offsets
                if sequence.state(offset) is PositionState.READY and not sequence.is_exempt(offset)
            ]
            if over:
                self._give_up(view, over)
