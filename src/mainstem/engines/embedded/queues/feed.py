"""The feed of a subscription from one partition: its view, the scan, and the reading of events.

Owns: what becomes ready, and when. Refuses: consumers and waiting (`subscription_queue.py`), and records:
only the state machine changes what survives a restart.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from mainstem.clock import Clock
from mainstem.contract import StreamError
from mainstem.coordinator.queues.subscriptions import Subscriptions
from mainstem.coordinator.queues.views import SubscriptionView
from mainstem.engines.embedded.queues.counters import QueueCounters
from mainstem.engines.embedded.queues.events import EventSource
from mainstem.engines.embedded.queues.scan import EventScan
from mainstem.log.errors import LogError
from mainstem.log.partition.partition import Partition
from mainstem.queues.ordered_view import OrderedView
from mainstem.search.match.matcher import Matcher

READY_EVENTS_MAX = 100_000
"""A view that is not scanned lets no further positions be ready while it has this many: what is ahead costs
nothing."""
SCAN_POSITIONS = 1_000_000
"""Positions that become ready in one turn of the loop, at most."""
RETRY_S = 1.0
"""Time after which a scan goes on that the disk has stopped."""

log = logging.getLogger(__name__)


class PartitionFeed:
    """A subscription's view of one partition, while it is served."""

    def __init__(
        self,
        clock: Clock,
        machine: Subscriptions,
        view: SubscriptionView,
        source: EventSource,
        matcher: Matcher | None,
        counters: QueueCounters,
        on_ready: Callable[[], None],
        trim: Callable[[Partition], Awaitable[None]],
    ) -> None:
        """`trim` lets the events of a partition be done that were deleted."""
        self.view = view
        self.source = source
        self.problem = ""
        """Why the scan does not go on, for people; empty in normal operation."""
        self._clock = clock
        self._machine = machine
        self._counters = counters
        self._on_ready = on_ready
        self._trim = trim
        self._scan: EventScan | None = None
        if matcher is not None or isinstance(view.sequence, OrderedView):
            self._scan = EventScan(clock, source, matcher)
        self._scanning: asyncio.Task[None] | None = None
        self._closed = False
        source.partition.watch(self._on_moved)

    @property
    def partition(self) -> Partition:
        """The partition that it reads."""
        return self.source.partition

    @property
    def unreadable(self) -> int:
        """Events that the scan could not read."""
        return 0 if self._scan is None else self._scan.unreadable

    @property
    def ahead(self) -> int:
        """Positions that the scan has not reached."""
        return max(0, self.partition.high_watermark - self.view.sequence.scanned)

    @property
    def is_ordered(self) -> bool:
        """Whether the view delivers in key order."""
        return isinstance(self.view.sequence, OrderedView)

    def bind(self) -> bool:
        """Use the present view of this place, which a reload of the state replaces. False: there is none."""
        view = self._machine.views.find(self.view.place)
        if view is None or self._closed:
            return False
        self.view = view
        return True

    async def trim(self) -> None:
        """Let the events that retention has deleted be done. Errors of the log and the coordinator."""
        await self._trim(self.partition)

    def advance(self) -> None:
        """Let what is due, and what was committed, be ready; a scan does so in the background."""
        sequence = self.view.sequence
        self._counters.wake_due(sequence, self._clock.wall_ms())
        if self._scan is not None:
            self.scan_soon()
        elif sequence.counts().ready < READY_EVENTS_MAX:
            end = min(self.partition.high_watermark, sequence.scanned + SCAN_POSITIONS)
            if end > sequence.scanned:
                sequence.scan(end)

    def scan_all(self) -> None:
        """Let everything up to the high watermark be ready, without looking at it: it is purged next."""
        sequence, end = self.view.sequence, self.partition.high_watermark
        if sequence.scanned >= end:
            return
        if isinstance(sequence, OrderedView):
            sequence.scan_keyless(end)
        else:
            sequence.scan(end)

    def scan_soon(self) -> None:
        """Look in the background at what the scan has not looked at yet."""
        if self._scan is None or self._closed or (self._scanning is not None and not self._scanning.done()):
            return
        if self.bind() and self._scan.is_behind(self.view):
            self._scanning = asyncio.get_running_loop().create_task(self._scan_behind(self._scan))

    async def _scan_behind(self, scan: EventScan) -> None:
        try:
            while self.bind() and scan.is_behind(self.view):
                ready = self.view.sequence.counts().ready
                await scan.step(self.view)
                self.problem = ""
                # In key order, positions that were ready before are offered when their keys are known.
                if self.view.sequence.counts().ready > ready or self.is_ordered:
                    self._on_ready()
        except (LogError, OSError, StreamError) as error:
            topic, index = self.source.topic, self.partition.index
            self.problem = f"topic {topic}, partition {index}: the scan cannot read its events: {error}"
            if not self.partition.deleted:
                log.warning("%s; trying again", self.problem)
                self._clock.call_later(RETRY_S, self.scan_soon)

    def _on_moved(self, _: Partition) -> None:
        self.scan_soon()
        self._on_ready()

    def close(self) -> None:
        """Stop scanning and watching. Idempotent."""
        self._closed = True
        self.partition.unwatch(self._on_moved)
        if self._scanning is not None:
            self._scanning.cancel()
