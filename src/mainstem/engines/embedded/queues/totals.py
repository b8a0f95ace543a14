"""The figures of all subscriptions, for statistics.

Owns: reading them without opening, scanning or trimming anything, and in parts: there may be 100,000
subscriptions, and who looks at them does not change them. Refuses: to add them up, and history.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import add

from mainstem.coordinator.errors import CoordinatorError
from mainstem.coordinator.queues.types import SubscriptionMetadata
from mainstem.coordinator.topics.topics import TopicMetadata
from mainstem.engines.embedded.queues.counters import QueueCounters, by_name
from mainstem.engines.embedded.queues.routed_feed import RoutedFeed
from mainstem.engines.embedded.queues.service import QueueService
from mainstem.engines.embedded.queues.subscription_queue import UNDONE
from mainstem.log.errors import LogError
from mainstem.queue_contract import QueueDepth, SubscriptionTotals
from mainstem.queues.runs import count_positions
from mainstem.turns import next_turn

STEPS_OF_TURN = 200
"""Topics and partitions that are looked at in a turn of the loop, about a millisecond."""
_NO_COUNTERS = QueueCounters()


class QueueTotals:
    """Reads the figures of the subscriptions of a service."""

    def __init__(self, service: QueueService) -> None:
        self._service = service
        self._machine = service.machine
        self._node = service.node
        self._last: dict[int, SubscriptionTotals] = {}
        """What was returned last, by the id of the subscription: the same object is returned while
        it is true. With 10,000 new ones in every sample, Python would collect garbage for 0.3 s again."""

    async def read(self, names: Sequence[str] | None) -> list[SubscriptionTotals]:
        """See `Queues.subscription_totals`."""
        totals: list[SubscriptionTotals] = []
        stored = await self._node.queue_runtime.read(self._machine.all())
        if names is not None:
            wanted = frozenset(names)
            stored = [subscription for subscription in stored if subscription.name in wanted]
        for number, _ in enumerate(self._steps(stored, totals), 1):
            if not number % STEPS_OF_TURN:
                await next_turn(self._node.clock)
        if names is None:
            known = {subscription.id for subscription in stored}
            for ended_id in [id_ for id_ in self._last if id_ not in known]:
                del self._last[ended_id]
        return totals

    def _same_or(self, id_: int, totals: SubscriptionTotals) -> SubscriptionTotals:
        last = self._last.get(id_)
        if last == totals:
            return last
        self._last[id_] = totals
        return totals

    def _steps(
        self, subscriptions: Sequence[SubscriptionMetadata], totals: list[SubscriptionTotals]
    ) -> Iterator[None]:
        for stored in subscriptions:
            current = self._machine.by_id(stored.id)
            if current is None:
                continue  # deleted since
            figures = _SummedPartitions(self._service, current)
            figures.add_routed()
            for name in current.settings.topics:
                yield
                topic = self._node.topics.get(name)
                if topic is not None:
                    for index in range(self._node.topics.durable_partitions(topic)):
                        figures.add(topic, index)
                        yield
            totals.append(self._same_or(stored.id, figures.totals()))


class _SummedPartitions:
    """Those of a subscription, added up over its partitions."""

    def __init__(self, service: QueueService, stored: SubscriptionMetadata) -> None:
        self._service = service
        self._stored = stored
        self._depth = [0, 0, 0, 0, 0, 0]
        """The fields of a `QueueDepth`."""
        self._oldest_ms: int | None = None
        self._consumers: set[str] = set()
        queue = service.served(stored.id)
        self._feeds = list(queue.feeds.values()) if queue is not None else []

    def add(self, topic: TopicMetadata, index: int) -> None:
        """Add a partition. One that was deleted, or cannot be read, adds nothing."""
        try:
            partition = self._service.node.partition(topic, index)
        except (LogError, CoordinatorError):
            return
        view = self._service.machine.views.find((self._stored.id, topic.id, index))
        log_start, end = partition.log_start_offset, partition.high_watermark
        oldest = log_start
        if view is None:
            self._depth[-1] += end - log_start
        else:
            sequence = view.sequence
            known, ahead = sequence.counts(), max(0, end - max(sequence.scanned, log_start))
            counts = [known.ready, known.leased, known.waiting, known.parked, known.dying, ahead]
            if sequence.oldest < log_start:
                # Retention has deleted some, which the view learns with the next call about it.
                for place, state in enumerate(UNDONE):
                    counts[place] -= count_positions(sequence.runs_in(state, sequence.start, log_start))
            self._depth = list(map(add, self._depth, counts))
            oldest = max(sequence.oldest, log_start)
            self._consumers.update(sequence.leases.consumers)
        if oldest < end:
            arrived_ms = max(0, partition.arrival_of(oldest))
            if self._oldest_ms is None or arrived_ms < self._oldest_ms:
                self._oldest_ms = arrived_ms

    def add_routed(self) -> None:
        """Add the sequence of a routed queue. One that is not served yet has nothing that is ahead."""
        namespace = self._service.machine.topology.of_queue(self._stored.id)
        if namespace is None:
            return
        view = self._service.machine.views.find((self._stored.id, namespace.sequence_id, 0))
        if view is None:
            return
        known = view.sequence.counts()
        feed = next((feed for feed in self._feeds if isinstance(feed, RoutedFeed)), None)
        ahead = feed.ahead if feed is not None else 0
        counts = [known.ready, known.leased, known.waiting, known.parked, known.dying, ahead]
        self._depth = list(map(add, self._depth, counts))
        self._consumers.update(view.sequence.leases.consumers)
        if feed is not None and known.outstanding:
            arrived_ms = feed.partition.arrival_of(view.sequence.oldest)
            self._oldest_ms = arrived_ms if arrived_ms >= 0 else None

    def totals(self) -> SubscriptionTotals:
        """The sums, with the counters."""
        ready, leased, waiting, parked, dying, ahead = self._depth
        settings = self._stored.settings
        if not settings.filter and not settings.in_key_order:
            ready, ahead = ready + ahead, 0  # nothing has to look at them first
        problems = [feed.problem for feed in self._feeds if feed.problem]
        if dying and (refused := self._service.dead_letters.problems.get(self._stored.id)):
            problems.insert(0, refused)
        counters = self._service.counters.get(self._stored.id, _NO_COUNTERS)
        return SubscriptionTotals(
            name=self._stored.name,
            topics=settings.topics,
            depth=QueueDepth(ready, leased, waiting, parked, dying, ahead),
            oldest_ms=self._oldest_ms,
            consumers=len(self._consumers),
            delivered=counters.delivered,
            redelivered=counters.redelivered,
            acked=counters.acked,
            nacked=counters.nacked,
            rejected=counters.rejected,
            expired=counters.expired,
            dead_lettered=by_name(counters.dead_lettered),
            dropped=by_name(counters.dropped),
            trimmed=counters.trimmed,
            unreadable=counters.unreadable + sum(feed.unreadable for feed in self._feeds),
            wakes=counters.wakes,
            late_ms=counters.late_ms,
            expiring=self._service.retention.expiring.get(self._stored.id, 0),
            problems=tuple(problems),
        )
