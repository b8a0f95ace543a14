"""A subscription while it is served: its partitions, the consumers that wait, and deliveries.

Owns: which partitions feed it (those of topics that are created later, too), fairness among them, and the
path from a ready position to a delivery. Refuses: answers and timers (`service.py`). What a pull leased and
did not return is given back, whatever ended the pull.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from uuid import UUID
from weakref import WeakValueDictionary

from mainstem.contract import NotReachable
from mainstem.coordinator.errors import UnknownSubscription
from mainstem.coordinator.queues.topology import Namespace
from mainstem.coordinator.queues.types import SubscriptionMetadata
from mainstem.coordinator.queues.view_starts import OPENED_AT_ONCE, PartitionStart
from mainstem.coordinator.queues.views import SubscriptionView
from mainstem.engines.embedded.queues.active_consumer import ActiveConsumer
from mainstem.engines.embedded.queues.carried import CarriedEvents
from mainstem.engines.embedded.queues.counters import QueueCounters
from mainstem.engines.embedded.queues.events import event_bytes
from mainstem.engines.embedded.queues.feed import PartitionFeed
from mainstem.engines.embedded.queues.lease_reading import LeaseReading, QueuePull, position_of
from mainstem.engines.embedded.queues.partition_scan import PartitionScans
from mainstem.engines.embedded.queues.pull_waiter import PullWaiter
from mainstem.engines.embedded.queues.queue_feed import QueueFeed, TrimsViews
from mainstem.engines.embedded.queues.routed_feed import RoutedFeed
from mainstem.engines.embedded.queues.routed_source import RoutedSources
from mainstem.node import Node
from mainstem.queue_contract import Delivery
from mainstem.queues.event_headers import priority_of
from mainstem.queues.pages import PositionState
from mainstem.queues.runs import runs_of
from mainstem.search.match.matcher import Matcher

WINDOW_EVENTS = 1_000
WINDOW_BYTES = 8 << 20
"""A pull by priority looks at the next ready events up to these limits, or at as many as it asks for."""
LEASE_EVENTS_MAX = 500
"""Events of one lease. More of them in a pull are several leases."""

TopicPartition = tuple[UUID, int]


class SubscriptionQueue:
    """A subscription while it is served. `stored` is what the state machine knows of it."""

    def __init__(
        self,
        node: Node,
        stored: SubscriptionMetadata,
        counters: QueueCounters,
        carried: CarriedEvents,
        routed: RoutedSources,
        trim: TrimsViews,
        partitions: PartitionScans,
        matcher: Matcher | None,
        wake_due: Callable[[SubscriptionView], int],
        began_ms: int,
    ) -> None:
        """`began_ms`: when this server began, wall-clock ms."""
        self.stored = stored
        self.counters = counters
        self._carried = carried
        self._routed = routed
        self._trim = trim
        self.feeds: dict[TopicPartition, QueueFeed] = {}
        self._node = node
        self._machine = node.subscriptions
        self._wake_due = wake_due
        self._partitions = partitions
        self.matcher = matcher
        """The filter."""
        self.reading = LeaseReading(node, counters, self.wake, began_ms)
        self.active = ActiveConsumer(node.clock, self._has_events, self.wake)
        """Who receives events, where a single consumer does."""
        self.on_limited: Callable[[], None] = _nothing
        """Called when there may be more ready events than the limits allow."""
        self.on_wake: Callable[[], None] = _nothing
        """Called when something may be ready, for attached consumers."""
        self.on_close: Callable[[], None] = _nothing
        """Called when nothing is served any more."""
        self._waiting: dict[PullWaiter, None] = {}
        """In the order in which they came."""
        self._wakes = 0
        self._first_feed = 0
        self._taking: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        """In key order, by consumer: two pulls of a consumer at once would return the events of a key in the
        order in which these are read."""
        self._closed = False

    # --- consumers that wait ------------------------------------------------------------------------------

    def add_waiter(self, consumer: str) -> PullWaiter:
        """A consumer that waits from now on. Remove it with `remove_waiter`; call `wake` after it received
        something, and `pass_on` after it received nothing: a single one is woken each time."""
        waiter = PullWaiter(consumer)
        self._waiting[waiter] = None
        self.active.begin_pull(consumer)
        return waiter

    def remove_waiter(self, waiter: PullWaiter) -> None:
        """Wake it no more."""
        self._waiting.pop(waiter, None)
        self.active.end_pull(waiter.consumer, self.stored.settings.active_timeout_ms)

    def wake(self) -> None:
        """Something may be ready: wake the consumer that waits longest, which wakes the next one if it gets
        something. If all were woken, each commit would cost a look at all partitions for each of them."""
        self._wakes += 1
        if self._waiting:
            self.pass_on()
        self.on_wake()
        if self.stored.settings.is_limited:
            self.on_limited()

    def pass_on(self) -> None:
        """Wake the next consumer after the last `wake`. In key order one that gets nothing passes on too,
        since what is ready may be for another."""
        settings = self.stored.settings
        is_ordered, is_single = settings.in_key_order, settings.single_active
        for waiter in self._waiting:
            if not waiter.is_set() and waiter.wakes_seen < self._wakes:
                if is_ordered and not self._may_offer(waiter.consumer):
                    continue
                if is_single and not self.active.may_take(waiter.consumer, settings.active_timeout_ms):
                    continue
                waiter.set()
                return

    def _may_offer(self, consumer: str) -> bool:
        return any(feed.view.sequence.may_offer(consumer) for feed in self.feeds.values())

    def _has_events(self, consumer: str) -> bool:
        return any(feed.view.sequence.leases.of_consumer(consumer) for feed in self.feeds.values())

    @property
    def active_consumer(self) -> str | None:
        """The consumer that alone receives events; None: there is none, or any may."""
        settings = self.stored.settings
        return self.active.present(settings.active_timeout_ms) if settings.single_active else None

    def looks(self, waiter: PullWaiter) -> None:
        """The consumer looks at what is ready now."""
        waiter.clear()
        waiter.wakes_seen = self._wakes

    # --- partitions ---------------------------------------------------------------------------------------

    async def refresh(self, new_topics: Collection[str] = ()) -> None:
        """Feed from the partitions that the topics have now. `new_topics`: topics that were not topics of the
        subscription before, so a partition of them may begin at its end. NotReachable: the service was
        closed. Errors of the log and the coordinator."""
        if self._closed:
            if self._machine.by_id(self.stored.id) is None:
                raise UnknownSubscription(f"subscription '{self.stored.name}' was deleted")
            raise NotReachable(f"subscription {self.stored.name}: the server is shutting down")
        namespace = self._machine.topology.of_queue(self.stored.id)
        if namespace is not None:
            self._feed_from(namespace)
            return
        wanted: dict[TopicPartition, str] = {}
        for name in self.stored.settings.topics:
            topic = self._node.topics.get(name)
            if topic is not None:
                for index in range(self._node.topics.durable_partitions(topic)):
                    wanted[topic.id, index] = name
        if wanted.keys() == self.feeds.keys() and all(feed.bind() for feed in self.feeds.values()):
            return
        for place in [place for place, feed in self.feeds.items() if place not in wanted or not feed.bind()]:
            self._close_feed(place)
        missing = [(place, name) for place, name in wanted.items() if place not in self.feeds]
        for first in range(0, len(missing), OPENED_AT_ONCE):
            part = missing[first : first + OPENED_AT_ONCE]
            starts = [self._start_of(place, is_new=name in new_topics) for place, name in part]
            await self._machine.open_views(self.stored.name, [start for start in starts if start is not None])
            for place, name in part:
                self._open_feed(place, name)

    def open_routed_feed(self) -> None:
        """Feed from the routes of a namespace, if the subscription does."""
        namespace = self._machine.topology.of_queue(self.stored.id)
        if namespace is not None and not self._closed:
            self._feed_from(namespace)

    def _feed_from(self, namespace: Namespace) -> None:
        """Feed from the routes of a namespace."""
        place = namespace.sequence_id, 0
        feed = self.feeds.get(place)
        if feed is not None and feed.bind():
            return
        if feed is not None:
            self._close_feed(place)
        view = self._machine.views.find((self.stored.id, *place))
        if view is not None:
            sequence = self._node.routed.of(namespace)
            feed = RoutedFeed(
                self._node,
                view,
                sequence,
                self._routed.of(sequence),
                self._carried,
                self.matcher,
                self._wake_due,
                self.wake,
                self._trim.trim_routed,
            )
            self.feeds[place] = feed
            feed.scan_soon()

    async def scan_all_feeds(self) -> None:
        """As `refresh`, and let each partition be scanned in the background."""
        await self.refresh()
        for feed in self.feeds.values():
            feed.scan_soon()

    def _start_of(self, place: TopicPartition, *, is_new: bool) -> PartitionStart | None:
        """Where the subscription begins in a partition; None: it was deleted."""
        partition = self._node.partition_at(place)
        if partition is None:
            return None
        log_start = partition.log_start_offset
        # A partition that is met later has only events from after the creation, or the server was killed
        # before the view was durable.
        latest = partition.high_watermark if is_new else partition.offset_for_arrival(self.stored.created_ms)
        return PartitionStart(*place, log_start, max(log_start, latest))

    def _open_feed(self, place: TopicPartition, name: str) -> None:
        """Feed from a partition, of which there is a durable view."""
        partition, view = self._node.partition_at(place), self._machine.views.find((self.stored.id, *place))
        if self._closed or place in self.feeds or partition is None or view is None:
            return  # another pull was faster, or something was deleted meanwhile
        scan = self._partitions.of(place[0], name, partition)
        source = self._carried.over(scan.source, view.place)
        feed = PartitionFeed(
            self._node.clock,
            self._machine,
            view,
            scan,
            source,
            self.matcher,
            self._wake_due,
            self.wake,
            self._trim.trim,
        )
        self.feeds[place] = feed
        feed.scan_soon()

    def _close_feed(self, place: TopicPartition) -> None:
        self.feeds.pop(place).close()
        self._partitions.drop_unused(place)

    # --- deliveries ---------------------------------------------------------------------------------------

    async def take(
        self, consumer: str, max_events: int, max_bytes: int, lock_ms: int | None
    ) -> list[Delivery]:
        """The next deliveries; none if nothing is ready. See `Queues.pull`. Errors of the log and the
        coordinator, StreamError."""
        settings, pull = self.stored.settings, QueuePull(consumer, max_events, max_bytes, lock_ms)
        if not settings.in_key_order and not settings.by_priority:
            return await self._take(pull)
        # By priority, what one pull looks at is leased until it has chosen.
        lock = self._taking.setdefault("" if settings.by_priority else consumer, asyncio.Lock())
        async with lock:
            return await self._take(pull)

    async def _take(self, pull: QueuePull) -> list[Delivery]:
        await self.refresh()
        settings, parts = self.stored.settings, pull.parts
        if settings.single_active and not self.active.admit(pull.consumer, settings.active_timeout_ms):
            return []
        try:
            await (self._collect_window(pull) if settings.by_priority else self._collect(pull))
        except BaseException as error:
            if not any(part for _, part in parts) or not isinstance(error, Exception):
                for lease in pull.taken:
                    self.reading.give_back(lease)
                raise
            # What was read before is delivered; the next pull raises the error.
        if settings.by_priority:
            deliveries = self._highest(pull)
        else:
            deliveries = [item for _, part in parts for item in part]
        if self.stored.settings.in_key_order:
            # An earlier event of a key may have come back meanwhile, and has taken later ones back.
            deliveries = [item for lease, part in parts for item in self.reading.still_leased(lease, part)]
        self.counters.delivered += len(deliveries)
        self.counters.redelivered += sum(delivery.attempt > 1 for delivery in deliveries)
        return deliveries

    async def _collect(self, pull: QueuePull) -> None:
        """Lease and read the next events, one partition after the other."""
        feeds = list(self.feeds.values())
        # Another partition is asked first each time, so that a busy one does not starve the others.
        self._first_feed += 1
        count = 0
        for number in range(len(feeds)):
            feed = feeds[(self._first_feed + number) % len(feeds)]
            while count < pull.max_events and pull.size < pull.max_bytes:
                room = min(pull.max_events - count, LEASE_EVENTS_MAX)
                part = await self.reading.take(feed, pull, room, pull.max_bytes - pull.size)
                if part is None:
                    break
                count += len(part)

    async def _collect_window(self, pull: QueuePull) -> None:
        """Lease and read the events among which a pull by priority chooses, some of each partition."""
        feeds = list(self.feeds.values())
        share = max(1, len(feeds))
        room = max(pull.max_events, WINDOW_EVENTS // share)
        size = max(pull.max_bytes, WINDOW_BYTES) // share
        for feed in feeds:
            while (part := await self.reading.take(feed, pull, room, size)) is not None and not part:
                pass  # none of these is to be delivered now

    def _highest(self, pull: QueuePull) -> list[Delivery]:
        """The events with the highest priority, in the order of their priorities, partitions and positions.
        The others were not delivered."""
        parts, max_bytes = pull.parts, pull.max_bytes
        ranked = sorted(
            (-priority_of(item.event.headers), number, position_of(item), item.token, item)
            for number, (_, part) in enumerate(parts)
            for item in part
        )
        chosen: list[Delivery] = []
        left: dict[int, list[int]] = {}
        for _, number, _, _, item in ranked:
            if len(chosen) < pull.max_events and max_bytes > 0:
                chosen.append(item)
                max_bytes -= event_bytes(item.event)
            else:
                left.setdefault(number, []).append(position_of(item))
        for number, positions in left.items():
            self.reading.give_back(parts[number][0], runs_of(sorted(positions)))
        return chosen

    def close(self) -> None:
        """Stop feeding, and wake all that wait. Idempotent."""
        self._closed = True
        for place in list(self.feeds):
            self._close_feed(place)
        self.active.close()
        for waiter in self._waiting:
            waiter.set()
        self.on_close()


def _nothing() -> None:
    """There are no attached consumers."""


UNDONE = (
    PositionState.READY,
    PositionState.LEASED,
    PositionState.WAITING,
    PositionState.PARKED,
    PositionState.DYING,
)
"""The states of a position that the scan has reached and that is not done."""
