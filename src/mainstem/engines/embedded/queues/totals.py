"""The figures of all subscriptions, for statistics.

Owns: reading them without opening, scanning or trimming anything, and in parts: there may be 100,000
subscriptions, and who looks at them does not change them. Refuses: to add them up, and history.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from operator import add

from mainstem.coordinator.errors import CoordinatorError
from mainstem.coordinator.queues.types import SubscriptionMetadata
from mainstem.coordinator.queues.views import SubscriptionView
from mainstem.coordinator.topics.topics import TopicMetadata
from mainstem.engines.embedded.queues.counters import QueueCounters, by_name
from mainstem.engines.embedded.queues.events import positions_of
from mainstem.engines.embedded.queues.pushing import push_problems
from mainstem.engines.embedded.queues.routed_source import RoutedIndexReader
from mainstem.engines.embedded.queues.service import QueueService
from mainstem.engines.embedded.queues.subscription_queue import UNDONE
from mainstem.log.errors import LogError
from mainstem.queue_contract import QueueDepth, SubscriptionTotals
from mainstem.queues.pages import PositionState
from mainstem.queues.runs import count_positions
from mainstem.turns import next_turn

STEPS_OF_TURN = 200
"""Topics and partitions that are looked at in a turn of the loop, about a millisecond."""
LOOKED_EVENTS = 1_000
"""Events of a routed queue that are looked at for the oldest one that is not done."""
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
            known = sequence.counts()
            ahead, oldest = sequence.ahead_and_oldest(log_start, end)
            counts = [known.ready, known.leased, known.waiting, known.parked, known.dying, ahead]
            if sequence.oldest < log_start:
                # Retention has deleted some, which the view learns with the next call about it.
                for place, state in enumerate(UNDONE):
                    counts[place] -= count_positions(sequence.runs_in(state, sequence.start, log_start))
            self._depth = list(map(add, self._depth, counts))
            self._consumers.update(sequence.leases.consumers)
        if oldest < end:
            arrived_ms = max(0, partition.arrival_of(oldest))
            if self._oldest_ms is None or arrived_ms < self._oldest_ms:
                self._oldest_ms = arrived_ms

    def add_routed(self) -> None:
        """Add the sequence of a routed queue, served or not, by the index of its namespace as far as that is
        in memory. While the index is built anew, nothing is known of what the scan has not reached."""
        service = self._service
        namespace = service.machine.topology.of_queue(self._stored.id)
        if namespace is None:
            return
        view = service.machine.views.find((self._stored.id, namespace.sequence_id, 0))
        if view is None:
            return
        known, ahead, oldest = view.sequence.counts(), 0, view.sequence.oldest
        routed = service.node.routed.of(namespace)
        if not routed.problem:
            first, end = max(view.sequence.scanned, routed.index.start), routed.end
            # Those to which records gave a state are of the queue, the others may be of any.
            others, lowest = view.sequence.ahead_and_oldest(first, end)
            done_or_known = max(0, end - first) - others
            ahead = max(0, routed.index.estimated_count(view.subscription, first) - done_or_known)
            reader = RoutedIndexReader(service.node, routed)
            if oldest >= view.sequence.scanned:
                oldest = _first_undone(reader, view, lowest, end) if ahead else end
            arrival = reader.look_now(lambda index: index.arrival(oldest)) if oldest < end else None
            self._oldest_ms = None if arrival is None else arrival.arrived_ms
        counts = [known.ready, known.leased, known.waiting, known.parked, known.dying, ahead]
        self._depth = list(map(add, self._depth, counts))
        self._consumers.update(view.sequence.leases.consumers)

    def totals(self) -> SubscriptionTotals:
        """The sums, with the counters."""
        ready, leased, waiting, parked, dying, ahead = self._depth
        settings = self._stored.settings
        if not settings.filter and not settings.in_key_order:
            ready, ahead = ready + ahead, 0  # nothing has to look at them first
        problems = [feed.stall for feed in self._feeds if feed.stall]
        if dying and (refused := self._service.dead_letters.problems.get(self._stored.id)):
            problems.insert(0, refused)
        counters = self._service.counters.get(self._stored.id, _NO_COUNTERS)
        push = self._service.pushed.report(self._stored.name)
        if push is not None:
            problems += push_problems(push)
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
            push_delivered=push.delivered if push is not None else 0,
            push_failed=push.failed if push is not None else 0,
            push_pull_failures=push.pull_failures if push is not None else 0,
            push_in_flight=push.in_flight if push is not None else 0,
            push_paused=int(push is not None and push.paused_until_ms is not None),
            problems=tuple(problems),
        )


def _first_undone(reader: RoutedIndexReader, view: SubscriptionView, first: int, end: int) -> int:
    """The first position of a routed queue from `first` on, below `end`, that is not done; `end` if none is
    among the next LOOKED_EVENTS, or a page has to be fetched first."""
    indexed = reader.look_now(lambda index: index.runs(view.subscription, first, LOOKED_EVENTS))
    positions = positions_of(indexed[0]) if indexed is not None else iter(())
    for position in islice(positions, LOOKED_EVENTS):
        if first <= position < end and view.sequence.state(position) is not PositionState.DONE:
            return position
    return end
