"""Attached consumers of the embedded engine: implements `AttachedConsumers` on its service of queues.

Owns: the answers of a turn of the loop, which become one record a view, and counts. Refuses: deliveries
(`attached.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from mainstem.attach_contract import AttachRequest, DeliveryState, OnDeliveries, OnEnded
from mainstem.contract import InvalidArgument
from mainstem.coordinator.queues.subscriptions import Subscriptions
from mainstem.coordinator.queues.types import Settlement
from mainstem.coordinator.queues.views import SubscriptionView
from mainstem.engines.embedded.queues.answers import Answers, check_ranges, delivery_states
from mainstem.engines.embedded.queues.attached import QueueDispatcher
from mainstem.engines.embedded.queues.error_context import about
from mainstem.engines.embedded.queues.receivers import EventReceiver
from mainstem.engines.embedded.queues.service import CONSUMER_CHARS_MAX, QueueService
from mainstem.engines.embedded.queues.subscription_queue import SubscriptionQueue
from mainstem.log.errors import StorageError
from mainstem.promise import Promise
from mainstem.queue_contract import PULL_BYTES_MAX, Ack, Delivery, Extend, Outcome
from mainstem.queues.pages import PositionState
from mainstem.queues.runs import Run, count_positions
from mainstem.turns import next_turn

PURGED_RUNS = 4_096
"""Runs of events of one record of a purge."""

log = logging.getLogger(__name__)


class EmbeddedQueueCounts(NamedTuple):
    """Implements `QueueCounts`."""

    ready: int
    unanswered: int
    consumers: int


class EmbeddedAttachment:
    """Implements `AttachedConsumer`."""

    __slots__ = ("_dispatcher", "_receiver")

    def __init__(self, dispatcher: QueueDispatcher, receiver: EventReceiver) -> None:
        self._dispatcher = dispatcher
        self._receiver = receiver

    @property
    def unanswered(self) -> int:
        """See the contract."""
        return self._receiver.unanswered

    @property
    def is_active(self) -> bool:
        """See the contract."""
        return not (self._receiver.is_standby or self._receiver.is_detached)

    def pause(self) -> None:
        """See the contract."""
        self._receiver.is_paused = True

    def resume(self) -> None:
        """See the contract."""
        self._dispatcher.resume(self._receiver)

    def detach(self, *, requeue: bool) -> None:
        """See the contract."""
        self._dispatcher.detach(self._receiver, requeue=requeue)


class EmbeddedAttachedConsumers:
    """Implements `AttachedConsumers`. It is a `DispatchHost`, too."""

    def __init__(self, service: QueueService) -> None:
        self.clock = service.node.clock
        self.machine: Subscriptions = service.machine
        self._service = service
        self._node = service.node
        self._dispatchers: dict[int, QueueDispatcher] = {}
        """Subscription -> what serves its consumers."""
        self._pending: dict[int, list[Outcome]] = {}
        """Subscription -> the answers of this turn of the loop."""
        service.node.queue_runtime.on_reloaded.append(self._forget_leases)

    # --- the contract ---------------------------------------------------------------------------------------

    async def attach(
        self, request: AttachRequest, deliver: OnDeliveries, ended: OnEnded
    ) -> EmbeddedAttachment:
        """See the contract."""
        if not 0 < len(request.consumer) <= CONSUMER_CHARS_MAX:
            raise InvalidArgument(f"the name of a consumer has 1 to {CONSUMER_CHARS_MAX} characters")
        with about(request.subscription):
            await self._node.queue_runtime.read(None)
            queue = self._service.queue(request.subscription)
            if queue.stored.settings.by_priority:
                raise InvalidArgument("consumers of a subscription by priority pull its events")
            if queue.stored.settings.durable_leases:
                raise InvalidArgument("consumers of a subscription with durable leases pull its events")
            await queue.refresh()
        dispatcher = self._dispatchers.get(queue.stored.id)
        if dispatcher is None:
            dispatcher = self._dispatchers[queue.stored.id] = QueueDispatcher(self, queue)
        return EmbeddedAttachment(dispatcher, dispatcher.attach(request, deliver, ended))

    def settle_soon(self, subscription: str, outcomes: Sequence[Outcome]) -> None:
        """See the contract. InvalidArgument: a delay, a lock or a reason is out of range."""
        stored = self.machine.find(subscription)
        if stored is None or not outcomes:
            return
        for outcome in outcomes:
            if type(outcome) is not Ack:
                check_ranges(outcome)
        dispatcher = self._dispatchers.get(stored.id)
        if dispatcher is not None:
            dispatcher.note_answers(outcome for outcome in outcomes if type(outcome) is not Extend)
        if not self._pending:
            self.clock.call_soon(self.settle_pending)
        self._pending.setdefault(stored.id, []).extend(outcomes)

    async def settle(self, subscription: str, outcomes: Sequence[Outcome]) -> None:
        """See the contract. InvalidArgument, as `settle_soon`."""
        self.settle_soon(subscription, outcomes)
        with about(subscription):
            for recorded in self._record_pending():
                await recorded

    async def take(self, subscription: str, consumer: str, *, auto_ack: bool = False) -> Delivery | None:
        """See the contract."""
        with about(subscription):
            queue = self._service.queue(subscription)
            deliveries = await queue.take(consumer, 1, PULL_BYTES_MAX, 0)
        self.note_leases(feed.view for feed in queue.feeds.values())
        if not deliveries:
            return None
        if auto_ack:
            self.settle_soon(subscription, [Ack(deliveries[0].token)])
        return deliveries[0]

    def queue_counts(self, subscription: str) -> EmbeddedQueueCounts:
        """See the contract."""
        with about(subscription):
            queue = self._service.queue(subscription)
            queue.open_routed_feed()
        counts = [feed.view.sequence.counts() for feed in queue.feeds.values()]
        ready = sum(count.ready for count in counts) + sum(feed.ahead for feed in queue.feeds.values())
        dispatcher = self._dispatchers.get(queue.stored.id)
        consumers = len(dispatcher.receivers) if dispatcher is not None else 0
        return EmbeddedQueueCounts(ready, sum(count.leased for count in counts), consumers)

    def delivery_states(self, subscription: str, tokens: Sequence[str]) -> list[DeliveryState]:
        """See the contract."""
        with about(subscription):
            queue = self._service.queue(subscription)
        return delivery_states(self.machine, queue.stored.id, tokens)

    async def purge_ready(self, subscription: str) -> int:
        """See the contract."""
        with about(subscription):
            return await self._purge_ready(self._service.queue(subscription))

    async def _purge_ready(self, queue: SubscriptionQueue) -> int:
        await queue.refresh()
        purged = 0
        for feed in list(queue.feeds.values()):
            if not await queue.reading.prepare(feed):
                continue
            end = feed.end
            if feed.is_scanned:
                await feed.scan_all()
            else:
                await feed.make_ready(end)
            while runs := _ready_runs(feed.view, end):
                purged += count_positions(await self.machine.changes.cancel(feed.view, runs))
                await next_turn(self.clock)
        return purged

    # --- answers --------------------------------------------------------------------------------------------

    def settle_pending(self) -> None:
        """See `DispatchHost`."""
        self._record_pending()

    def _record_pending(self) -> list[Promise[list[list[Run]]]]:
        pending, self._pending = self._pending, {}
        recorded = []
        for subscription, outcomes in pending.items():
            queue = self._service.served(subscription)
            if queue is not None and (settled := self._record(queue, outcomes)) is not None:
                recorded.append(settled)
        return recorded

    def settle_unwaited(self, queue: SubscriptionQueue, outcomes: Sequence[Outcome]) -> None:
        """See `DispatchHost`."""
        self._record(queue, outcomes)

    def _record(
        self, queue: SubscriptionQueue, outcomes: Sequence[Outcome]
    ) -> Promise[list[list[Run]]] | None:
        """Record answers. None: they give back what needs no record."""
        service, subscription = self._service, queue.stored.id
        answers = Answers(self.machine, subscription, outcomes)
        if answers.extend(self.machine.lock_time.now_ms()):
            self.note_leases(self.machine.views.of_subscription(subscription))
        if answers.withdraw():
            service.after_release(subscription)
        settled = None
        if answers.settlements:
            settled = service.settle_at_once(subscription, answers.settlements)
            settled.then(lambda done: self._on_settled(queue, answers, done))
            if any(settlement.verb == "nack" for settlement in answers.settlements):
                queue.wake()  # what comes back is there before that is durable
        return settled

    def _on_settled(self, queue: SubscriptionQueue, answers: Answers, done: Promise[list[list[Run]]]) -> None:
        if done.error is None:
            answers.take(done.result(), queue.counters)
        elif isinstance(done.error, StorageError):
            # The state is loaded again: what was answered is delivered again.
            log.warning("answers for subscription %s are not recorded: %s", queue.stored.name, done.error)
        else:
            raise done.error

    def settle_now(self, queue: SubscriptionQueue, settlements: Sequence[Settlement]) -> None:
        """See `DispatchHost`."""

        def on_settled(done: Promise[list[list[Run]]]) -> None:
            if done.error is None:
                queue.counters.acked += sum(map(count_positions, done.result()))
            elif not isinstance(done.error, StorageError):
                raise done.error

        self._service.settle_at_once(queue.stored.id, settlements).then(on_settled)

    def room(self, subscription: int) -> int:
        """How many events the attached consumers of a subscription can have now."""
        dispatcher = self._dispatchers.get(subscription)
        return 0 if dispatcher is None else dispatcher.room

    # --- dispatchers ----------------------------------------------------------------------------------------

    def note_leases(self, views: Iterable[SubscriptionView]) -> None:
        """See `DispatchHost`."""
        self._service.note_leases(views)

    def drop(self, dispatcher: QueueDispatcher) -> None:
        """See `DispatchHost`. What its consumers have may still be answered."""
        if dispatcher.unanswered:
            return  # kept, for a consumer may be attached again, and for the owners of these
        self._dispatchers.pop(dispatcher.queue.stored.id, None)

    def _forget_leases(self) -> None:
        for dispatcher in list(self._dispatchers.values()):
            dispatcher.forget_leases()


def _ready_runs(view: SubscriptionView, end: int) -> list[Run]:
    """The first ready positions of a view below `end`, as at most PURGED_RUNS runs."""
    runs: list[Run] = []
    for run in view.sequence.runs_in(PositionState.READY, view.sequence.oldest, end):
        runs.append(run)
        if len(runs) == PURGED_RUNS:
            break
    return runs
