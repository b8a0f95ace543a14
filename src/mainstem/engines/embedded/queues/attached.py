"""Hands the events of a subscription to the consumers that are attached to it.

Events that become ready are leased in the same turn of the loop or the next, read, and dealt to the consumers
as `receivers.py` says, several hundred in a round. Events that are dealt among several consumers are one
lease under a common name, so that a round costs the same however many consumers there are.

Owns: whose an event is until it is answered, and the single active one of the attached consumers. Refuses:
what becomes of answers (`attached_consumers.py` passes them on), and which events are ready.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from typing import Protocol

from mainstem.attach_contract import UNANSWERED_MAX, AttachRequest, ConsumerClash, OnDeliveries, OnEnded
from mainstem.clock import Clock, Timer
from mainstem.contract import StreamError
from mainstem.coordinator.errors import CoordinatorError
from mainstem.coordinator.queues.subscriptions import Subscriptions
from mainstem.coordinator.queues.types import Settlement
from mainstem.coordinator.queues.views import SubscriptionView
from mainstem.engines.embedded.queues.lease_reading import (
    ATTACHED_LATE_MS,
    QueuePull,
    TakenLease,
    position_of,
)
from mainstem.engines.embedded.queues.queue_feed import QueueFeed
from mainstem.engines.embedded.queues.receivers import EventReceiver, ReceiverOrder
from mainstem.engines.embedded.queues.subscription_queue import SubscriptionQueue
from mainstem.log.errors import LogError
from mainstem.queue_contract import Delivery, Nack, NoSuchSubscription, Outcome
from mainstem.queues.runs import runs_of
from mainstem.turns import next_turn

ROUND_EVENTS = 500
ROUND_BYTES = 1 << 20
"""What is leased and read at once, up to these limits: a few milliseconds."""
SHARED_LEASE = "attached consumers"
"""The consumer of leases whose events are dealt among several."""
RETRY_S = 0.5
"""Time after which a round is repeated that has failed."""

log = logging.getLogger(__name__)


class DispatchHost(Protocol):
    """What a dispatcher needs of the service."""

    clock: Clock
    machine: Subscriptions

    def settle_pending(self) -> None:
        """Record the answers of this turn now, so that what they give back is ready."""

    def settle_unwaited(self, queue: SubscriptionQueue, outcomes: Sequence[Outcome]) -> None:
        """Record answers. Errors are logged."""

    def settle_now(self, queue: SubscriptionQueue, settlements: Sequence[Settlement]) -> None:
        """Record acknowledgements of what was just leased."""

    def note_leases(self, views: Iterable[SubscriptionView]) -> None:
        """These views may have something that is due later."""

    def drop(self, dispatcher: QueueDispatcher) -> None:
        """It has no consumers any more."""


class QueueDispatcher:
    """Serves the attached consumers of one subscription."""

    def __init__(self, host: DispatchHost, queue: SubscriptionQueue) -> None:
        self.queue = queue
        self.receivers: dict[str, EventReceiver] = {}
        """By the names of consumers, in the order in which they were attached."""
        self.problem = ""
        """Why the last round has failed, for people; empty in normal operation."""
        self._host = host
        self._order = ReceiverOrder()
        self._owners: dict[str, EventReceiver] = {}
        """Token -> who has the event."""
        self._active: EventReceiver | None = None
        self._first = 0
        self._is_running = False
        self._again = False
        self._closed = False
        self._task: asyncio.Task[None] | None = None
        self._retry: Timer | None = None
        queue.on_wake = self.wake
        queue.on_close = self.close

    # --- consumers ------------------------------------------------------------------------------------------

    def attach(self, request: AttachRequest, deliver: OnDeliveries, ended: OnEnded) -> EventReceiver:
        """A consumer from now on. ConsumerClash."""
        others = self.receivers.values()
        if request.consumer in self.receivers:
            raise ConsumerClash(f"there is an attached consumer '{request.consumer}' already")
        if any(other.request.exclusive for other in others) or (request.exclusive and others):
            raise ConsumerClash("another consumer is attached, and one of them is exclusive")
        receiver = EventReceiver(request, deliver, ended, self._join)
        self.receivers[request.consumer] = receiver
        receiver.is_standby = self.queue.stored.settings.single_active
        self._order.join(receiver)
        self._host.clock.call_soon(self.wake)
        return receiver

    def detach(self, receiver: EventReceiver, *, requeue: bool) -> None:
        """See `AttachedConsumer.detach`."""
        if not receiver.is_detached:
            self._remove(receiver)
            if not self.receivers:
                self._host.drop(self)
        if requeue:
            tokens = [token for token, owner in self._owners.items() if owner is receiver]
            outcomes = [Nack(token) for token in tokens]
            self.note_answers(outcomes)
            if outcomes:
                self._host.settle_unwaited(self.queue, outcomes)

    def _remove(self, receiver: EventReceiver) -> None:
        receiver.is_detached = True
        self._order.leave(receiver)
        del self.receivers[receiver.request.consumer]
        if self._active is receiver:
            self._active = None
            timeout_ms = self.queue.stored.settings.active_timeout_ms
            self.queue.active.end_pull(receiver.request.consumer, timeout_ms)
            self.queue.active.name = None
            self.queue.wake()

    def resume(self, receiver: EventReceiver) -> None:
        """See `AttachedConsumer.resume`."""
        if receiver.is_paused:
            receiver.is_paused = False
            self._join(receiver)

    def _join(self, receiver: EventReceiver) -> None:
        """A consumer may have room again."""
        if not receiver.is_detached:
            self._order.join(receiver)
            self.wake()

    def _choose_active(self) -> None:
        """Where a single consumer is active: let it be the first with the highest priority, once it is none
        of those that pull."""
        settings, active = self.queue.stored.settings, self.queue.active
        if not settings.single_active:
            if self._active is not None:
                active.end_pull(self._active.request.consumer, settings.active_timeout_ms)
                self._active = None
            for receiver in self.receivers.values():
                if receiver.is_standby:
                    receiver.is_standby = False
                    self._order.join(receiver)
            return
        if self._active is not None or not self.receivers:
            return
        chosen = max(self.receivers.values(), key=lambda receiver: receiver.request.priority)
        if not active.admit(chosen.request.consumer, settings.active_timeout_ms):
            return
        active.begin_pull(chosen.request.consumer)
        self._active = chosen
        for receiver in self.receivers.values():
            receiver.is_standby = receiver is not chosen
        self._order.join(chosen)

    @property
    def room(self) -> int:
        """How many events its consumers can have now."""
        return sum(receiver.room for receiver in self.receivers.values())

    @property
    def unanswered(self) -> int:
        """Events that consumers have."""
        return len(self._owners)

    def note_answers(self, outcomes: Iterable[Outcome]) -> None:
        """These are about to be recorded: their consumers have the events no more."""
        owners = self._owners
        for outcome in outcomes:
            receiver = owners.pop(outcome.token, None)
            if receiver is not None:
                receiver.unanswered -= 1
                if receiver.unanswered == UNANSWERED_MAX - 1:
                    self._order.join(receiver)
        if not self.receivers and not owners:
            self._host.drop(self)

    def forget_leases(self) -> None:
        """The state was loaded again: all leases are over."""
        for receiver in self.receivers.values():
            receiver.unanswered = 0
        self._owners.clear()
        self.wake()

    # --- rounds ---------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Something may be ready, or a consumer may have room."""
        self._again = True
        if self._is_running or self._closed or not self.receivers or not self._may_have_some():
            return
        self._is_running = True
        self._task = asyncio.get_running_loop().create_task(self._run())

    def _may_have_some(self) -> bool:
        feeds = self.queue.feeds.values()
        if not feeds or (self.queue.stored.settings.single_active and self._active is None):
            return True
        for feed in feeds:
            sequence = feed.view.sequence
            if _available(feed) or sequence.scanned < feed.end:
                return True
            feed.listen()
        return False

    async def _run(self) -> None:
        try:
            while self._again and not self._closed:
                self._host.settle_pending()
                self._again = False
                self._choose_active()
                if self._order.next() is None:
                    break
                if await self._round():
                    self._again = True
                    await next_turn(self._host.clock)
            self.problem = ""
        except (StreamError, LogError, CoordinatorError) as error:
            self._retry_later(error)
        finally:
            self._is_running = False
        self._host.note_leases([feed.view for feed in self.queue.feeds.values()])

    def _retry_later(self, error: Exception) -> None:
        if self._closed:
            return
        if self.problem != str(error):
            log.warning("subscription %s: nothing is delivered: %s", self.queue.stored.name, error)
        self.problem = str(error)
        if self._retry is not None:
            self._retry.cancel()
        self._retry = self._host.clock.call_later(RETRY_S, self.wake)

    async def _round(self) -> int:
        """Deliver the next events. Returns how many."""
        await self.queue.refresh()
        feeds = list(self.queue.feeds.values())
        self._first += 1  # another partition is asked first each time
        count = 0
        for number in range(len(feeds)):
            feed = feeds[(self._first + number) % len(feeds)]
            if not await self.queue.reading.prepare(feed, ATTACHED_LATE_MS):
                continue
            if self.queue.stored.settings.in_key_order:
                count += await self._deliver_in_key_order(feed)
            else:
                ready = feed.view.sequence.counts().ready
                plan = self._order.plan(min(ready, ROUND_EVENTS))
                count += await self._deliver(feed, plan)
        return count

    async def _deliver_in_key_order(self, feed: QueueFeed) -> int:
        """Deliver to the first consumer for which there is something: a key is of one at a time."""
        for _ in range(len(self.receivers)):
            receiver = self._order.next()
            if receiver is None:
                return 0
            count = min(receiver.room, ROUND_EVENTS, _available(feed))
            self._order.serve(receiver)
            if feed.view.sequence.may_offer(receiver.request.consumer):
                receiver.reserve(count)
                if delivered := await self._deliver(feed, [receiver] * count):
                    return delivered
        return 0

    async def _deliver(self, feed: QueueFeed, plan: Sequence[EventReceiver]) -> int:
        """Lease, read and deliver as many events as the plan has consumers for. Returns how many."""
        if not plan:
            if not feed.view.sequence.counts().ready:
                feed.listen()
            return 0
        first = plan[0]
        is_alone = plan.count(first) == len(plan)
        pull = QueuePull(first.request.consumer if is_alone else SHARED_LEASE, len(plan), ROUND_BYTES, 0)
        part: list[Delivery] = []
        try:
            reading = self.queue.reading
            part = await reading.lease(feed, pull, len(plan), ROUND_BYTES, is_attached=True) or []
            if part and self.queue.stored.settings.in_key_order:
                part = reading.still_leased(pull.taken[0], part)
        finally:
            self._release_unused(plan[len(part) :])
        if not part:
            return 0
        counters = self.queue.counters
        counters.delivered += len(part)
        counters.redelivered += sum(delivery.attempt > 1 for delivery in part)
        if is_alone:
            self._hand_over(pull.taken[0], first, part)
        else:
            dealt: dict[EventReceiver, list[Delivery]] = {}
            for receiver, delivery in zip(plan, part, strict=False):
                dealt.setdefault(receiver, []).append(delivery)
            for receiver, deliveries in dealt.items():
                self._hand_over(pull.taken[0], receiver, deliveries)
        return len(part)

    def _release_unused(self, plan: Sequence[EventReceiver]) -> None:
        counts: dict[EventReceiver, int] = {}
        for receiver in plan:
            counts[receiver] = counts.get(receiver, 0) + 1
        for receiver, count in counts.items():
            receiver.release(count)

    def _hand_over(self, taken: TakenLease, receiver: EventReceiver, deliveries: list[Delivery]) -> None:
        if receiver.is_detached:  # while they were read
            receiver.release(len(deliveries))
            self.queue.reading.give_back(taken, runs_of(map(position_of, deliveries)))
            return
        if receiver.request.auto_ack:
            runs = tuple(runs_of(map(position_of, deliveries)))
            self._host.settle_now(self.queue, [Settlement(taken.view.id, taken.lease.id, taken.epoch, runs)])
        else:
            owners = self._owners
            for delivery in deliveries:
                owners[delivery.token] = receiver
            receiver.unanswered += len(deliveries)
        try:
            receiver.deliver(deliveries)
        except Exception:  # a bug of a door must not keep the others from their events
            log.exception("a consumer of subscription %s fails, and is detached", self.queue.stored.name)
            self.detach(receiver, requeue=True)
            receiver.ended(None)

    # --- end ------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """The subscription was deleted, or the service is closed: all consumers are detached. Idempotent."""
        if self._closed:
            return
        self._closed = True
        if self._retry is not None:
            self._retry.cancel()
        if self._task is not None:
            self._task.cancel()
        stored = self.queue.stored
        is_deleted = self._host.machine.by_id(stored.id) is None
        error = NoSuchSubscription(f"subscription {stored.name}: it was deleted") if is_deleted else None
        for receiver in list(self.receivers.values()):
            receiver.is_detached = True
            receiver.ended(error)
        self.receivers.clear()
        self._owners.clear()
        self._host.drop(self)


def _available(feed: QueueFeed) -> int:
    """Events that are ready, or would be if an earlier one of their key were done."""
    counts = feed.view.sequence.counts()
    return counts.ready + counts.parked
