"""A subscription while it is served: its partitions, the consumers that wait, and deliveries.

Owns: which partitions feed it (those of topics that are created later, too), fairness among them, and the
path from a ready position to a delivery. Refuses: answers and timers (`service.py`). What a pull leased and
did not return is given back, whatever ended the pull.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TypeAlias
from uuid import UUID
from weakref import WeakValueDictionary

from mainstem.contract import NotReachable
from mainstem.coordinator.errors import UnknownSubscription
from mainstem.coordinator.queues.topology import Namespace
from mainstem.coordinator.queues.types import Settlement, SubscriptionMetadata
from mainstem.coordinator.queues.views import SubscriptionView
from mainstem.engines.embedded.queues.active_consumer import ActiveConsumer
from mainstem.engines.embedded.queues.carried import CarriedEvents
from mainstem.engines.embedded.queues.counters import QueueCounters
from mainstem.engines.embedded.queues.event_headers import is_over, priority_of
from mainstem.engines.embedded.queues.events import EventsAtPositions, event_bytes, positions_of
from mainstem.engines.embedded.queues.feed import PartitionFeed
from mainstem.engines.embedded.queues.partition_scan import PartitionScans
from mainstem.engines.embedded.queues.queue_feed import QueueFeed
from mainstem.engines.embedded.queues.routed_feed import RoutedFeed
from mainstem.engines.embedded.queues.tokens import DeliveryToken
from mainstem.log.partition.partition import Partition
from mainstem.node import Node
from mainstem.promise import Promise
from mainstem.queue_contract import Delivery
from mainstem.queues.leases import DeliveryLease
from mainstem.queues.pages import PositionState
from mainstem.queues.runs import Run, count_positions, runs_of
from mainstem.search.match.matcher import Matcher

WINDOW_EVENTS = 1_000
WINDOW_BYTES = 8 << 20
"""A pull by priority looks at the next ready events up to these limits, or at as many as it asks for."""
LEASE_EVENTS_MAX = 500
"""Events of one lease. More of them in a pull are several leases."""

TopicPartition = tuple[UUID, int]


@dataclass(frozen=True, slots=True)
class _Taken:
    """A lease of a pull that has not returned yet."""

    view: SubscriptionView
    lease: DeliveryLease
    epoch: int


TakenPart: TypeAlias = tuple[_Taken, list[Delivery]]
"""A lease, and what of it was read."""


class PullWaiter(asyncio.Event):
    """A pull that waits. It is set when something may be ready for its consumer."""

    def __init__(self, consumer: str) -> None:
        super().__init__()
        self.consumer = consumer
        self.wakes_seen = 0
        """How often the queue had been woken when it looked last."""


class SubscriptionQueue:
    """A subscription while it is served. `stored` is what the state machine knows of it."""

    def __init__(
        self,
        node: Node,
        stored: SubscriptionMetadata,
        counters: QueueCounters,
        carried: CarriedEvents,
        trim: Callable[[Partition], Awaitable[None]],
        partitions: PartitionScans,
        matcher: Matcher | None,
    ) -> None:
        """`trim` lets events of a partition that retention has deleted be done."""
        self.stored = stored
        self.counters = counters
        self._carried = carried
        self._trim = trim
        self.feeds: dict[TopicPartition, QueueFeed] = {}
        self._node = node
        self._machine = node.subscriptions
        self._partitions = partitions
        self.matcher = matcher
        """The filter."""
        self.expire: Callable[[PartitionFeed], object] = lambda _: None
        """Gives up what of a partition is over."""
        self.give_up: Callable[[SubscriptionView, list[int]], None] = lambda _, __: None
        """Gives up events that are over by their own header. StorageError: they are still ready."""
        self.active = ActiveConsumer(node.clock, self._has_events, self.wake)
        """Who receives events, where a single consumer does."""
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
        self.pass_on()

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
        for (topic_id, index), name in wanted.items():
            if (topic_id, index) not in self.feeds:
                await self._open_feed(topic_id, index, name, name in new_topics)

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
            self.feeds[place] = RoutedFeed(self._node, view, sequence, self.counters, self.wake)

    async def scan_all_feeds(self) -> None:
        """As `refresh`, and let each partition be scanned in the background."""
        await self.refresh()
        for feed in self.feeds.values():
            feed.scan_soon()

    async def _open_feed(self, topic_id: UUID, index: int, name: str, is_new: bool) -> None:
        topic = self._node.topics.by_id(topic_id)
        if topic is None:
            return
        partition = self._node.partition(topic, index)
        log_start = partition.log_start_offset
        # A partition that is met later has only events from after the creation, or the server was killed
        # before the view was durable.
        latest = partition.high_watermark if is_new else partition.offset_for_arrival(self.stored.created_ms)
        view = await self._machine.open_view(
            self.stored.name, topic_id, index, log_start, max(log_start, latest)
        )
        if self._closed or (topic_id, index) in self.feeds or view.subscription != self.stored.id:
            return  # another pull was faster, or the subscription was replaced or is not served any more
        scan = self._partitions.of(topic_id, name, partition)
        source = self._carried.over(scan.source, view.place)
        feed = PartitionFeed(
            self._node.clock,
            self._machine,
            view,
            scan,
            source,
            self.matcher,
            self.counters,
            self.wake,
            self._trim,
        )
        self.feeds[topic_id, index] = feed
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
        settings = self.stored.settings
        if not settings.in_key_order and not settings.by_priority:
            return await self._take(consumer, max_events, max_bytes, lock_ms)
        # By priority, what one pull looks at is leased until it has chosen.
        lock = self._taking.setdefault("" if settings.by_priority else consumer, asyncio.Lock())
        async with lock:
            return await self._take(consumer, max_events, max_bytes, lock_ms)

    async def _take(
        self, consumer: str, max_events: int, max_bytes: int, lock_ms: int | None
    ) -> list[Delivery]:
        await self.refresh()
        settings = self.stored.settings
        if settings.single_active and not self.active.admit(consumer, settings.active_timeout_ms):
            return []
        parts: list[TakenPart] = []
        taken: list[_Taken] = []
        collect = self._collect_window if settings.by_priority else self._collect
        try:
            await collect(consumer, max_events, max_bytes, lock_ms, taken, parts)
        except BaseException as error:
            if not any(part for _, part in parts) or not isinstance(error, Exception):
                for lease in taken:
                    self._give_back(lease)
                raise
            # What was read before is delivered; the next pull raises the error.
        if settings.by_priority:
            deliveries = self._highest(parts, max_events, max_bytes)
        else:
            deliveries = [item for _, part in parts for item in part]
        if self.stored.settings.in_key_order:
            # An earlier event of a key may have come back meanwhile, and has taken later ones back.
            deliveries = [item for lease, part in parts for item in self._still_leased(lease, part)]
        self.counters.delivered += len(deliveries)
        self.counters.redelivered += sum(delivery.attempt > 1 for delivery in deliveries)
        return deliveries

    async def _collect(
        self,
        consumer: str,
        max_events: int,
        max_bytes: int,
        lock_ms: int | None,
        taken: list[_Taken],
        parts: list[TakenPart],
    ) -> None:
        """Lease and read the next events, one partition after the other."""
        feeds = list(self.feeds.values())
        # Another partition is asked first each time, so that a busy one does not starve the others.
        self._first_feed += 1
        count = size = 0
        for number in range(len(feeds)):
            feed = feeds[(self._first_feed + number) % len(feeds)]
            while count < max_events and size < max_bytes:
                room = min(max_events - count, LEASE_EVENTS_MAX)
                part = await self._take_from(feed, consumer, room, max_bytes - size, lock_ms, taken)
                if part is None:
                    break
                parts.append((taken[-1], part))
                count += len(part)
                size += sum(event_bytes(delivery.event) for delivery in part)

    async def _collect_window(
        self,
        consumer: str,
        max_events: int,
        max_bytes: int,
        lock_ms: int | None,
        taken: list[_Taken],
        parts: list[TakenPart],
    ) -> None:
        """Lease and read the events among which a pull by priority chooses, some of each partition."""
        feeds = list(self.feeds.values())
        share = max(1, len(feeds))
        room, size = max(max_events, WINDOW_EVENTS // share), max(max_bytes, WINDOW_BYTES) // share
        for feed in feeds:
            part = await self._take_from(feed, consumer, room, size, lock_ms, taken)
            if part is not None:
                parts.append((taken[-1], part))

    def _highest(self, parts: Sequence[TakenPart], max_events: int, max_bytes: int) -> list[Delivery]:
        """The events with the highest priority, in the order of their priorities, partitions and offsets. The
        others were not delivered."""
        ranked = sorted(
            (-priority_of(item.event), item.event.partition, item.event.offset, number, item.token, item)
            for number, (_, part) in enumerate(parts)
            for item in part
        )
        chosen: list[Delivery] = []
        left: dict[int, list[int]] = {}
        for *_, number, token, item in ranked:
            if len(chosen) < max_events and max_bytes > 0:
                chosen.append(item)
                max_bytes -= event_bytes(item.event)
            else:
                named = DeliveryToken.decode(token)
                assert named is not None
                left.setdefault(number, []).append(named.position)
        for number, positions in left.items():
            self._give_back(parts[number][0], runs_of(sorted(positions)))
        return chosen

    async def _take_from(
        self,
        feed: QueueFeed,
        consumer: str,
        max_events: int,
        max_bytes: int,
        lock_ms: int | None,
        taken: list[_Taken],
    ) -> list[Delivery] | None:
        """Deliveries of one lease, without the positions that have no event; None if nothing is ready."""
        if not feed.bind():
            return None
        await feed.trim()
        feed.advance()
        if isinstance(feed, PartitionFeed):
            self.expire(feed)
        view = feed.view
        if not view.sequence.may_offer(consumer):
            feed.listen()
            return None
        epoch = self._machine.epoch
        leasing = self._machine.acquire(view, consumer, feed.lease_events(max_events, max_bytes), lock_ms)
        try:
            lease = await leasing
        except asyncio.CancelledError:
            leasing.then(lambda done: self._give_back_late(view, done, epoch))
            raise
        if lease is None:
            feed.listen()
            return None
        try:
            events = await feed.source.read(lease.runs, max_bytes)
        except BaseException:
            self._give_back(_Taken(view, lease, epoch))
            raise
        taken.append(_Taken(view, lease, epoch))
        if events.left:
            # These events are larger than those before, by which the size of the lease was guessed.
            self._give_back(taken[-1], events.left)
        unread = set(positions_of(events.left))
        missing = [
            position
            for position in positions_of(lease.runs)
            if position not in events and position not in unread
        ]
        if missing:
            self.counters.unreadable += count_positions(events.unreadable)
            self._settle_unseen(view, lease.id, epoch, runs_of(missing))
        try:
            self._drop_expired(taken[-1], events)
        except BaseException:
            self._give_back(taken.pop())
            raise
        deadline_ms = lease.deadline_ms or 0
        acquisitions, view_id, lease_id = view.sequence.acquisitions, view.id, lease.id
        return [
            Delivery(
                event,
                DeliveryToken(view_id, position, lease_id, epoch).encode(),
                max(1, acquisitions(position)),
                deadline_ms,
            )
            for position, event in sorted(events.items())
        ]

    def _drop_expired(self, taken: _Taken, events: EventsAtPositions) -> None:
        """Take out of `events` those that say that they are over, and give these up."""
        now_ms, sequence = self._node.clock.wall_ms(), taken.view.sequence
        over = [position for position, event in events.items() if event.headers and is_over(event, now_ms)]
        over = [position for position in over if not sequence.is_exempt(position)]
        if over:
            for position in over:
                del events[position]
            self._machine.withdraw(taken.view, taken.lease.id, runs_of(sorted(over)))
            self.give_up(taken.view, sorted(over))

    @staticmethod
    def _still_leased(taken: _Taken, deliveries: Sequence[Delivery]) -> list[Delivery]:
        live = set(positions_of(taken.view.sequence.releasable(taken.lease.id, taken.lease.runs)))
        return [delivery for delivery in deliveries if delivery.event.offset in live]

    def _settle_unseen(self, view: SubscriptionView, lease_id: int, epoch: int, runs: list[Run]) -> None:
        """Let positions that have no event be done."""
        settled = self._machine.settle([Settlement(view.id, lease_id, epoch, tuple(runs))])
        settled.then(lambda _: None)  # if it fails, they are leased again

    def _give_back(self, taken: _Taken, runs: Sequence[Run] | None = None) -> None:
        """The consumer did not receive these events of its lease; None: all of them."""
        if taken.epoch == self._machine.epoch:
            self._machine.withdraw(taken.view, taken.lease.id, taken.lease.runs if runs is None else runs)
        self.wake()

    def _give_back_late(
        self, view: SubscriptionView, leased: Promise[DeliveryLease | None], epoch: int
    ) -> None:
        lease = leased.result() if leased.error is None else None
        if lease is not None:
            self._give_back(_Taken(view, lease, epoch))

    def close(self) -> None:
        """Stop feeding, and wake all that wait. Idempotent."""
        self._closed = True
        for place in list(self.feeds):
            self._close_feed(place)
        self.active.close()
        for waiter in self._waiting:
            waiter.set()


UNDONE = (
    PositionState.READY,
    PositionState.LEASED,
    PositionState.WAITING,
    PositionState.PARKED,
    PositionState.DYING,
)
"""The states of a position that the scan has reached and that is not done."""
