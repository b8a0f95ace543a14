"""Looks for events that say in their headers when they are to be delivered: those whose time is over are
given up, those whose time has not come wait.

That happens when an event would be delivered; without a consumer, it would stay ready. The log has no index
of these headers (`expiry_index.py` begins one with the first event of a partition that expires), so the look
is bounded: now and then, and when somebody asks for the subscription, at the next ready events of a view, and
at some further on, where the last look ended. While it finds such events, it goes on. Views that are scanned
know from the scan which events wait.

Owns: which events are looked at, and when. Refuses: what is not ready, and routed queues that are not served.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Protocol

from mainstem.clock import Timer
from mainstem.coordinator.queues.types import SubscriptionMetadata
from mainstem.coordinator.queues.views import SubscriptionView
from mainstem.engines.embedded.queues.carried import CarriedEvents, RoutedViewSource, ViewSource
from mainstem.engines.embedded.queues.events import EventSource
from mainstem.engines.embedded.queues.expiry_index import ExpiryIndex
from mainstem.engines.embedded.queues.lease_reading import LeaseReading
from mainstem.engines.embedded.queues.own_times import bounded, delays_among, expiries_among, over_among
from mainstem.engines.embedded.queues.subscription_queue import SubscriptionQueue
from mainstem.log.errors import StorageError
from mainstem.log.partition.partition import Partition
from mainstem.log.storage.record_batch import Record
from mainstem.node import Node
from mainstem.queues.event_headers import expiry_of, not_before_of
from mainstem.queues.pages import PositionState
from mainstem.queues.runs import Run
from mainstem.turns import next_turn

LOOK_S = 60.0
"""Interval between two looks at some views."""
VIEWS_OF_LOOK = 300
"""Views with ready events that a look looks at; the next look goes on after them."""
VIEWS_OF_TURN = 2_000
"""Views of which it is seen in a turn of the event loop whether they have ready events."""
WINDOW_EVENTS = 100
WINDOW_BYTES = 64 << 10
"""Events that are read at once, up to these limits: about a millisecond."""
ARRIVED_MAX = 100_000
"""Events that have arrived and become ready for a look."""
ASKED_VIEWS = 20
"""Views that are looked at for somebody who asks about a subscription."""
WINDOWS_MAX = 1_000
"""Windows of a view in one look, where each had events to give up."""


class LookedAtService(Protocol):
    """The service of queues, as far as this needs it."""

    node: Node
    since_ms: int
    carried: CarriedEvents

    def served(self, subscription: int) -> SubscriptionQueue | None:
        """The subscription with this id, if it is served."""


class HeaderTimes:
    """The looks at the views of a service."""

    def __init__(
        self,
        service: LookedAtService,
        give_up: Callable[[SubscriptionMetadata, SubscriptionView, list[int]], None],
        run: Callable[[Callable[[], Awaitable[None]], str], asyncio.Task[None]],
    ) -> None:
        """`give_up`: see `QueueExpiry.give_up`; `run` runs something in the background."""
        self._service = service
        self._node = service.node
        self._give_up = give_up
        self._run = run
        self._after_view = 0
        """The view that the last look ended with."""
        self._places: dict[int, int] = {}
        """Where in a view the next look goes on, beside its beginning."""
        self._timer: Timer | None = None
        self._closed = False
        self.expiries = ExpiryIndex(self._node, self._make_ready, self._give_up_in, run)
        """The times of partitions with events that expire."""
        self._look_later()

    def watch_reading(self, reading: LeaseReading) -> None:
        """Let the pulls of a subscription look at what follows untimely events, and report expiries."""
        reading.look_from = self.look_from
        reading.note_expiries = self.expiries.note

    def _give_up_in(self, view: SubscriptionView, positions: list[int]) -> None:
        stored = self._node.subscriptions.by_id(view.subscription)
        if stored is not None:
            self._give_up(stored, view, positions)

    def look_now(self) -> None:
        """Look at once."""
        if self._timer is not None:
            self._timer.cancel()
        self._start()

    def _look_later(self) -> None:
        if not self._closed:
            self._timer = self._node.clock.call_later(LOOK_S, self._start)

    def _start(self) -> None:
        if not self._closed:
            self._run(self._look, "looking for events that name their time")

    async def _look(self) -> None:
        try:
            await self._look_at_some()
        except StorageError:
            pass  # the disk takes no records now; the next look tries again
        finally:
            self._look_later()

    async def _look_at_some(self) -> None:
        """Look at the views after those of the last look, from the first one on again at the end."""
        views = self._node.subscriptions.views.all()
        first = next((number for number, view in enumerate(views) if view.id > self._after_view), 0)
        left = VIEWS_OF_LOOK
        for number, view in enumerate([*views[first:], *views[:first]], 1):
            if number % VIEWS_OF_TURN == 0:
                await next_turn(self._node.clock)
            if left <= 0 or self._closed:
                return
            if self._has_ready(view):
                left -= 1
                await self.look_at(view)
                await next_turn(self._node.clock)
            self._after_view = view.id

    def _has_ready(self, view: SubscriptionView) -> bool:
        """Whether a view has ready events. What has arrived is so where nothing has to look at it first."""
        stored = self._node.subscriptions.by_id(view.subscription)
        partition = self._node.partition_at((view.topic_id, view.partition))
        if stored is None:
            return False
        if partition is not None:
            self._make_ready(view, partition)
        return view.sequence.counts().ready > 0

    def _make_ready(self, view: SubscriptionView, partition: Partition) -> None:
        """Let what has arrived be ready, where nothing has to look at it first."""
        stored, sequence = self._node.subscriptions.by_id(view.subscription), view.sequence
        is_scanned = stored is None or bool(stored.settings.filter) or stored.settings.in_key_order
        if not is_scanned and sequence.counts().ready < ARRIVED_MAX:
            end = min(partition.high_watermark, sequence.scanned + ARRIVED_MAX)
            if end > sequence.scanned:
                sequence.scan(end)

    async def look_at_some(self, views: Sequence[SubscriptionView]) -> None:
        """Look at those of these views that have ready events, ASKED_VIEWS at most, for somebody who asks
        what is in which state. Errors of the coordinator, StreamError."""
        try:
            for view in [view for view in views if self._has_ready(view)][:ASKED_VIEWS]:
                await self.look_at(view)
        except StorageError:
            pass  # the disk takes no records now; they are still ready

    async def look_at(self, view: SubscriptionView) -> None:
        """Look at the next ready events of a view, and at some further on. Errors of the log and the
        coordinator, StreamError."""
        end = await self.look_from(view, 0)
        place = max(end, self._places.pop(view.id, 0))
        end = await self.look_from(view, place)
        if end > place:
            self._places[view.id] = end  # else it was the end: the next look begins anew

    async def look_from(self, view: SubscriptionView, first: int) -> int:
        """Look at a window of ready events from a position on, and at the next one while there were events
        that are not to be delivered now. Returns where it has ended. Errors as `look_at`."""
        for _ in range(WINDOWS_MAX):
            stored = self._node.subscriptions.by_id(view.subscription)
            source = self._source_of(view)
            if stored is None or source is None or self._closed:
                return first
            runs = list(_first_ready(view, first))
            if not runs:
                return first
            events = await source.read(runs, WINDOW_BYTES)
            if self._node.subscriptions.views.get(view.id) is not view:
                return first  # it was loaded again, or has ended
            first = events.left[0][0] if events.left else runs[-1][1]
            now_ms = self._node.clock.wall_ms()
            expiries = expiries_among(events)
            if expiries:
                self.expiries.note(view)
            over = over_among(view.sequence, expiries, now_ms)
            delays = delays_among(events, source.partition, self._service.since_ms, now_ms)
            if not over and not delays:
                return first
            if over:
                self._give_up(stored, view, over)
            if delays:
                written = self._node.subscriptions.changes.delay(view, delays)
                if written.done:
                    written.result()
            await next_turn(self._node.clock)
        return first

    # --- batches that are delivered as they are stored ------------------------------------------------------

    def untimely(
        self, view: SubscriptionView, partition: Partition, records: Sequence[Record]
    ) -> tuple[list[int], dict[int, int]]:
        """See `EventTimes`."""
        now_ms, sequence = self._node.clock.wall_ms(), view.sequence
        over: list[int] = []
        times: dict[int, int] = {}
        for record in records:
            offset, not_before_ms = record.offset, not_before_of(record.headers)
            if expiry_ms := expiry_of(record.headers):
                self.expiries.note(view)
            if 0 < expiry_ms <= now_ms and not sequence.is_exempt(offset):
                over.append(offset)
            elif not_before_ms > now_ms and sequence.counts_delay(offset):
                times[offset] = not_before_ms
        return over, bounded(times, partition, self._service.since_ms, now_ms) if times else {}

    def withhold(self, view: SubscriptionView, over: list[int], due_ms: Mapping[int, int]) -> None:
        """See `EventTimes`."""
        stored = self._node.subscriptions.by_id(view.subscription)
        try:
            if over and stored is not None:
                self._give_up(stored, view, over)
            if due_ms:
                written = self._node.subscriptions.changes.delay(view, due_ms)
                if written.done:
                    written.result()
        except StorageError:
            pass  # the disk takes no records now; they are ready, and not delivered

    # ------------------------------------------------------------------------------------------------------

    def _source_of(self, view: SubscriptionView) -> ViewSource | RoutedViewSource | None:
        """Reads events of a view; None: it is not served, and not one of a partition."""
        queue = self._service.served(view.subscription)
        feed = None if queue is None else queue.feeds.get((view.topic_id, view.partition))
        topic = self._node.topics.by_id(view.topic_id)
        if feed is not None:
            return feed.source
        if topic is None:
            return None
        partition = self._node.partition(topic, view.partition)
        own = EventSource(self._node.clock, topic.name, partition)
        return self._service.carried.over(own, view.place)

    def close(self) -> None:
        """Look no more. Idempotent."""
        self._closed = True
        self.expiries.close()
        if self._timer is not None:
            self._timer.cancel()


def _first_ready(view: SubscriptionView, first: int) -> Iterator[Run]:
    """The first ready positions from a position on, WINDOW_EVENTS at most."""
    room = WINDOW_EVENTS
    for low, high in view.sequence.runs_in(PositionState.READY, first):
        high = min(high, low + room)
        yield low, high
        room -= high - low
        if room <= 0:
            return
