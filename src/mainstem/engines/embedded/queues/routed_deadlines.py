"""Gives up events of routed queues when the time has come that they name themselves (`expires-at`), exactly.

The index of a namespace has the deadline of each event, so nothing is read for this. The deadlines of what
arrives are in a heap, and at a start those of the first events of each queue. What is above the limits, and
what a consumer has at its time, is given up when it would be delivered, or by `header_times.py`.

Owns: the heap and its timer. Refuses: times to live of subscriptions (`expiry.py`), and what becomes of
events that are given up.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from heapq import heappop, heappush
from typing import NamedTuple, Protocol
from uuid import UUID

from mainstem.clock import Timer
from mainstem.coordinator.queues.routed_sequence import RoutedSequence
from mainstem.coordinator.queues.types import SubscriptionMetadata
from mainstem.coordinator.queues.views import SubscriptionView
from mainstem.engines.embedded.queues.events import positions_of
from mainstem.engines.embedded.queues.routed_feed import RoutedFeed
from mainstem.engines.embedded.queues.subscription_queue import SubscriptionQueue
from mainstem.node import Node
from mainstem.queues.index_page import Arrival
from mainstem.queues.pages import DONE, LEASED, READY
from mainstem.queues.routes import QueueSet
from mainstem.turns import next_turn

DEADLINES_MAX = 250_000
"""Deadlines that are kept, some 120 bytes each."""
LEARNED_OF_QUEUE = 10_000
"""Events of a queue whose deadlines are looked up at a start."""
EVENTS_OF_TURN = 2_000
"""Events that are given up, or whose deadlines are looked up, in a turn of the loop."""
LEASED_RETRY_MS = 5_000
"""Time after which an event is looked at again that a consumer had at its deadline."""
ATTACHED_FIRST_MS = 10
"""Time that attached consumers have for an event that is over when it becomes readable."""
TIMER_S_MAX = 5.0
"""The wall clock may jump: it is looked at this often."""


class DeadlineHost(Protocol):
    """The service of queues, as far as this needs it."""

    node: Node

    def queue(self, name: str) -> SubscriptionQueue:
        """See `QueueService.queue`."""


class EventDeadline(NamedTuple):
    """An event that is over at a time."""

    time_ms: int
    sequence: int
    place: UUID
    """The id of the arrival sequence of its namespace."""
    queues: QueueSet


class RoutedDeadlines:
    """The deadlines of all routed queues of a service."""

    def __init__(
        self,
        host: DeadlineHost,
        give_up: Callable[[SubscriptionMetadata, SubscriptionView, list[int]], None],
        run: Callable[[Callable[[], Awaitable[None]], str], object],
    ) -> None:
        """`give_up`: see `QueueExpiry.give_up`; `run` runs something in the background."""
        self._host = host
        self._machine = host.node.subscriptions
        self._clock = host.node.clock
        self._give_up = give_up
        self._run = run
        self._heap: list[EventDeadline] = []
        self._timer: Timer | None = None
        self._timer_ms = 0
        self._is_running = False
        self._closed = False
        host.node.routed.on_deadline = self.add

    def add(self, sequence: RoutedSequence, arrival: Arrival, queues: QueueSet) -> None:
        """An event with a deadline has become readable."""
        heap = self._heap
        for _ in range(2):  # those that were processed in time go as fast as others come
            if not heap or not self._is_done(heap[0]):
                break
            heappop(heap)
        if len(heap) < DEADLINES_MAX and not self._closed:
            time_ms = max(arrival.deadline_ms, self._clock.wall_ms() + ATTACHED_FIRST_MS)
            place = sequence.namespace.sequence_id
            heappush(heap, EventDeadline(time_ms, arrival.sequence, place, queues))
            self._set_timer()

    def _is_done(self, deadline: EventDeadline) -> bool:
        for queue in deadline.queues:
            view = self._machine.views.find((queue, deadline.place, 0))
            if view is not None and view.sequence.table.state(deadline.sequence) != DONE:
                return False
        return True

    def learn_soon(self) -> None:
        """The state was loaded: look up the deadlines of what is in the queues."""
        self._heap.clear()
        if self._machine.topology.all() and not self._closed:
            self._run(self._learn, "looking up when events are over")

    async def _learn(self) -> None:
        for stored in self._machine.all():
            namespace = self._machine.topology.of_queue(stored.id)
            if namespace is None or self._closed or self._machine.by_id(stored.id) is None:
                continue
            sequence = self._host.node.routed.of(namespace)
            if not sequence.index.estimated_count(stored.id, 0):
                continue
            queue = self._host.queue(stored.name)
            await queue.refresh()
            for feed in queue.feeds.values():
                assert isinstance(feed, RoutedFeed), "it is the queue of a namespace"
                runs = await feed.first_undone(LEARNED_OF_QUEUE)
                for number, position in enumerate(positions_of(runs), 1):
                    located = await feed.partition.find(position)
                    if located is not None and located.arrival.deadline_ms:
                        self.add(sequence, located.arrival, (stored.id,))
                    if not number % EVENTS_OF_TURN:
                        await next_turn(self._clock)

    # --- time -----------------------------------------------------------------------------------------------

    def _set_timer(self) -> None:
        if self._closed or not self._heap or self._is_running:
            return
        time_ms = self._heap[0].time_ms
        if self._timer is not None:
            if self._timer_ms <= time_ms:
                return
            self._timer.cancel()
        self._timer_ms = time_ms
        wait_s = (time_ms - self._clock.wall_ms()) / 1000
        self._timer = self._clock.call_later(min(max(wait_s, 0.001), TIMER_S_MAX), self._on_timer)

    def look_now(self) -> None:
        """The wall clock was moved."""
        if self._timer is not None:
            self._timer.cancel()
        self._on_timer()

    def _on_timer(self) -> None:
        self._timer = None
        if self._closed or self._is_running or not self._heap:
            return
        if self._heap[0].time_ms > self._clock.wall_ms():
            self._set_timer()
            return
        self._is_running = True
        self._run(self._give_up_due, "giving up events whose time is over")

    async def _give_up_due(self) -> None:
        try:
            while self._heap and self._heap[0].time_ms <= self._clock.wall_ms() and not self._closed:
                by_queue: dict[int, list[EventDeadline]] = {}
                for _ in range(EVENTS_OF_TURN):
                    if not self._heap or self._heap[0].time_ms > self._clock.wall_ms():
                        break
                    deadline = heappop(self._heap)
                    for queue in deadline.queues:
                        by_queue.setdefault(queue, []).append(deadline)
                for queue, deadlines in by_queue.items():
                    await self._give_up_of(queue, deadlines)
                await next_turn(self._clock)
        finally:
            self._is_running = False
            self._set_timer()

    async def _give_up_of(self, subscription: int, deadlines: list[EventDeadline]) -> None:
        stored = self._machine.by_id(subscription)
        if stored is None:
            return
        queue = self._host.queue(stored.name)
        await queue.refresh()
        for feed in list(queue.feeds.values()):
            if not await queue.reading.prepare(feed):
                continue
            end = max(deadline.sequence for deadline in deadlines) + 1
            if end > feed.scanned and not feed.is_scanned:
                await feed.make_ready(min(end, feed.end))
            sequence = feed.view.sequence
            over: list[int] = []
            for deadline in deadlines:
                state = sequence.table.state(deadline.sequence)
                if state == READY and not sequence.is_exempt(deadline.sequence):
                    over.append(deadline.sequence)
                elif state == LEASED:
                    time_ms = self._clock.wall_ms() + LEASED_RETRY_MS
                    heappush(self._heap, deadline._replace(time_ms=time_ms, queues=(subscription,)))
            if over:
                self._give_up(stored, feed.view, sorted(over))

    def close(self) -> None:
        """Look no more. Idempotent."""
        self._closed = True
        self._heap.clear()
        if self._timer is not None:
            self._timer.cancel()
