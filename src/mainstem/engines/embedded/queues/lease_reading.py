"""From ready positions to deliveries: leases them, reads their events, and takes out what is not delivered.

Owns: a lease from its begin until its events are delivered, or given back. Refuses: which partitions are
asked, how many events are wanted, and consumers that wait (`subscription_queue.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from mainstem.contract import NotReachable
from mainstem.coordinator.queues.in_flight import FULL
from mainstem.coordinator.queues.types import Settlement
from mainstem.coordinator.queues.unwaited_leases import acquire_unwaited
from mainstem.coordinator.queues.views import SubscriptionView
from mainstem.engines.embedded.queues.counters import QueueCounters
from mainstem.engines.embedded.queues.events import EventsAtPositions, event_bytes, positions_of
from mainstem.engines.embedded.queues.own_times import delays_among, expiries_among, over_among
from mainstem.engines.embedded.queues.queue_feed import QueueFeed
from mainstem.engines.embedded.queues.routed_feed import RoutedFeed
from mainstem.engines.embedded.queues.tokens import DeliveryToken, encode_tokens
from mainstem.node import Node
from mainstem.promise import Promise
from mainstem.queue_contract import Delivery
from mainstem.queues.leases import DeliveryLease
from mainstem.queues.runs import Run, count_positions, merge_runs, runs_of
from mainstem.turns import next_turn

ATTACHED_LATE_MS = 1_000
"""An attached consumer that has room gets what is over for less than this, and was not given up by a timer:
the commit takes some of its time, and what lives for no time is for consumers that are there."""


@dataclass(frozen=True, slots=True)
class TakenLease:
    """A lease of a pull that has not returned yet."""

    view: SubscriptionView
    lease: DeliveryLease
    epoch: int


TakenPart: TypeAlias = tuple[TakenLease, list[Delivery]]
"""A lease, and what of it was read."""


@dataclass(slots=True)
class QueuePull:
    """A pull, and what it has so far."""

    consumer: str
    max_events: int
    max_bytes: int
    lock_ms: int | None
    size: int = 0
    """Bytes of keys, values and headers that it returns."""
    taken: list[TakenLease] = field(default_factory=list)
    """All leases."""
    parts: list[TakenPart] = field(default_factory=list)
    """Those that were read."""


class LeaseReading:
    """Leases and reads for the pulls of a subscription."""

    def __init__(self, node: Node, counters: QueueCounters, wake: Callable[[], None], began_ms: int) -> None:
        """`wake`: something may be ready. `began_ms`: when this server began, wall-clock ms."""
        self._node = node
        self._machine = node.subscriptions
        self._counters = counters
        self._wake = wake
        self._began_ms = began_ms
        self.expire: Callable[[QueueFeed, int], Awaitable[bool]] = _nothing
        """Gives up what of a feed is over for this number of ms; whether there may be more. StorageError: it
        stays there."""
        self.give_up: Callable[[SubscriptionView, list[int]], None] = lambda _, __: None
        """Gives up events that are over by their own header. StorageError: they are still ready."""
        self.note_expiries: Callable[[SubscriptionView], None] = lambda _: None
        """Events of a view name their expiry."""
        self.look_from: Callable[[SubscriptionView, int], Awaitable[object]] = _look_at_nothing
        """Looks at the ready events of a view from a position on, whether they are to be delivered now."""

    async def take(
        self, feed: QueueFeed, pull: QueuePull, max_events: int, max_bytes: int
    ) -> list[Delivery] | None:
        """Deliveries of one lease, without the positions that have no event, and those that are not to be
        delivered now; None if nothing is ready. Errors of the log and the coordinator, StreamError."""
        if not await self.prepare(feed):
            return None
        return await self.lease(feed, pull, max_events, max_bytes)

    async def prepare(self, feed: QueueFeed, late_ms: int = 0) -> bool:
        """Let be ready what has arrived and is due, and give up what is over for this time. False: the view
        has ended. Errors as `take`."""
        if not feed.bind():
            return False
        await feed.trim()
        await feed.advance()
        while await self.expire(feed, late_ms):
            await next_turn(self._node.clock)
            if not feed.bind():
                return False
        return True

    async def lease(
        self,
        feed: QueueFeed,
        pull: QueuePull,
        max_events: int,
        max_bytes: int,
        *,
        is_attached: bool = False,
    ) -> list[Delivery] | None:
        """See `take`, of which this is the second part. `is_attached`: without waiting for what others have
        answered."""
        view = feed.view
        if not view.sequence.may_offer(pull.consumer):
            feed.listen()
            return None
        if not self._machine.in_flight.has_room(view):
            raise NotReachable(FULL)
        epoch = self._machine.epoch
        count = feed.lease_events(max_events, max_bytes)
        if is_attached:
            leasing = acquire_unwaited(self._machine, view, pull.consumer, count, feed.end)
        else:
            leasing = self._machine.acquire(view, pull.consumer, count, pull.lock_ms)
        try:
            lease = await leasing
        except asyncio.CancelledError:
            leasing.then(lambda done: self._give_back_late(view, done, epoch))
            raise
        if lease is None:
            feed.listen()
            return None
        taken = TakenLease(view, lease, epoch)
        try:
            events = await feed.source.read(lease.runs, max_bytes)
        except BaseException:
            self.give_back(taken)
            raise
        pull.taken.append(taken)
        self._settle_unread(feed, taken, events)
        try:
            delays = self._drop_untimely(taken, events, feed, ATTACHED_LATE_MS if is_attached else 0)
        except BaseException:
            self.give_back(pull.taken.pop())
            raise
        pull.size += events.bytes
        part = self._deliveries(taken, events)
        pull.parts.append((taken, part))
        if delays:  # very many may follow
            await self.look_from(view, max(delays) + 1)
        return part

    def _settle_unread(self, feed: QueueFeed, taken: TakenLease, events: EventsAtPositions) -> None:
        """Give back what of a lease was not read, and let what has no event be done."""
        lease = taken.lease
        if events.left:
            # These events are larger than those before, by which the size of the lease was guessed.
            self.give_back(taken, events.left)
        missing = _missing(lease.runs, events)
        if not missing:
            return
        unreadable = count_positions(events.unreadable)
        self._counters.unreadable += unreadable
        if isinstance(feed, RoutedFeed):  # of a partition whose retention is ahead of the others'
            self._counters.trimmed += len(missing) - unreadable
        runs = tuple(runs_of(missing))
        settled = self._machine.settle([Settlement(taken.view.id, lease.id, taken.epoch, runs)])
        settled.then(lambda _: None)  # if it fails, they are leased again

    def _drop_untimely(
        self, taken: TakenLease, events: EventsAtPositions, feed: QueueFeed, late_ms: int
    ) -> dict[int, int]:
        """Take out of `events` those that say that they are over for this time, and give these up; and those
        whose time has not come, which wait. Returns these, with their due times."""
        now_ms, sequence = self._node.clock.wall_ms(), taken.view.sequence
        expiries = expiries_among(events)
        if expiries:
            self.note_expiries(taken.view)
        over = over_among(sequence, expiries, now_ms - late_ms)
        if over:
            self._withdraw(taken, events, over)
            self.give_up(taken.view, over)
        # In key order the scan has looked at them, and their keys.
        if feed.reads_keys:
            return {}
        delays = delays_among(events, feed.arrivals, self._began_ms, now_ms)
        delays = {position: due_ms for position, due_ms in delays.items() if sequence.counts_delay(position)}
        if delays:
            self._withdraw(taken, events, sorted(delays))
            written = self._machine.changes.delay(taken.view, delays)
            if written.done:
                written.result()
        return delays

    def _withdraw(self, taken: TakenLease, events: EventsAtPositions, positions: Sequence[int]) -> None:
        for position in positions:
            events.bytes -= event_bytes(events.pop(position))
        self._machine.withdraw(taken.view, taken.lease.id, runs_of(positions))

    def _deliveries(self, taken: TakenLease, events: EventsAtPositions) -> list[Delivery]:
        view, lease, epoch = taken.view, taken.lease, taken.epoch
        deadline_ms = self._machine.lock_time.shown_ms(lease.deadline_ms) if lease.deadline_ms else 0
        positions = sorted(events)
        tokens = encode_tokens(view.id, positions, lease.id, epoch)
        attempts = view.sequence.acquisitions_of(runs_of(positions))
        failures = view.sequence.failures
        return [
            Delivery(
                events[position],
                token,
                attempt or 1,
                deadline_ms,
                failures(position) if attempt > 1 else 0,
            )
            for position, token, attempt in zip(positions, tokens, attempts, strict=True)
        ]

    @staticmethod
    def still_leased(taken: TakenLease, deliveries: list[Delivery]) -> list[Delivery]:
        """Those of the deliveries of a lease that it still has."""
        releasable = taken.view.sequence.releasable(taken.lease.id, taken.lease.runs)
        if releasable == merge_runs(taken.lease.runs):
            return deliveries
        live = set(positions_of(releasable))
        return [delivery for delivery in deliveries if position_of(delivery) in live]

    def give_back(self, taken: TakenLease, runs: Sequence[Run] | None = None) -> None:
        """The consumer did not receive these events of its lease; None: all of them."""
        if taken.epoch == self._machine.epoch:
            self._machine.withdraw(taken.view, taken.lease.id, taken.lease.runs if runs is None else runs)
        self._wake()

    def _give_back_late(
        self, view: SubscriptionView, leased: Promise[DeliveryLease | None], epoch: int
    ) -> None:
        lease = leased.result() if leased.error is None else None
        if lease is not None:
            self.give_back(TakenLease(view, lease, epoch))


async def _nothing(_: QueueFeed, __: int) -> bool:
    """Nothing is ever over."""
    return False


async def _look_at_nothing(_: SubscriptionView, __: int) -> None:
    """Nothing is looked at."""


def _missing(runs: Sequence[Run], events: EventsAtPositions) -> list[int]:
    """The positions of a lease that have no event, of those that were read."""
    if not events.left and len(events) == count_positions(runs):
        return []
    unread = set(positions_of(events.left))
    return [p for p in positions_of(runs) if p not in events and p not in unread]


def position_of(delivery: Delivery) -> int:
    """The position of a delivery in its view."""
    token = DeliveryToken.decode(delivery.token)
    assert token is not None, "this server has made it"
    return token.position
