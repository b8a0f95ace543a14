"""The service of queues: pulls, answers, and what time brings about.

Owns: the subscriptions that are served, the answers of a turn of the loop, which become one record a view,
and the single timer for locks that expire and events that are due. Refuses: the rules of the state machine,
and management (`management.py`).
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from mainstem.clock import Timer
from mainstem.contract import InvalidArgument
from mainstem.coordinator.queues.delay_store import ViewDelays
from mainstem.coordinator.queues.release_turns import RELEASED_OF_TURN
from mainstem.coordinator.queues.types import Settlement, SubscriptionMetadata
from mainstem.coordinator.queues.views import SubscriptionView
from mainstem.door_contract import TopicChange
from mainstem.engines.embedded.queues.answers import Answers
from mainstem.engines.embedded.queues.block_exclusions import BlockTester
from mainstem.engines.embedded.queues.carried import CarriedEvents
from mainstem.engines.embedded.queues.counters import QueueCounters
from mainstem.engines.embedded.queues.dead_letters import DeadLetterWriter
from mainstem.engines.embedded.queues.expiry import QueueExpiry
from mainstem.engines.embedded.queues.filters import Matchers
from mainstem.engines.embedded.queues.header_times import HeaderTimes
from mainstem.engines.embedded.queues.idle import IdleViews
from mainstem.engines.embedded.queues.partition_scan import PartitionScans
from mainstem.engines.embedded.queues.pushing import PushedSubscriptions
from mainstem.engines.embedded.queues.retention import SubscriptionRetention
from mainstem.engines.embedded.queues.routed_source import RoutedSources
from mainstem.engines.embedded.queues.share_delivery import ShareDelivery
from mainstem.engines.embedded.queues.single_acks import SingleAcks
from mainstem.engines.embedded.queues.subscription_queue import SubscriptionQueue
from mainstem.engines.embedded.topic_watch import TopicWatch
from mainstem.log.errors import StorageError
from mainstem.log.partition.partition import Partition
from mainstem.node import Node
from mainstem.promise import Promise
from mainstem.queue_contract import Ack, Delivery, Outcome, Verdict
from mainstem.queues.leases import DeliveryLease
from mainstem.queues.runs import Run
from mainstem.queues.settings import LOCK_MS_MAX

TIMER_S_MAX = 5.0
"""The timer looks at the clock this often while something has a deadline, for the wall clock may jump."""
TIMER_S_MIN = 0.005
WAKES_OF_TURN = 2_000
"""Events that are woken in a turn of the event loop, some 2 ms; the timer goes on with the others."""
RETRY_S = 1.0
"""Time after which locks that expired are looked at again, when the disk has refused the record."""
PULL_EVENTS_MAX = 10_000
CONSUMER_CHARS_MAX = 255
WAIT_MS_MAX = 600_000

Result = TypeVar("Result")

log = logging.getLogger(__name__)


class QueueService:
    """Serves the subscriptions of one node."""

    def __init__(self, node: Node, topics: TopicWatch) -> None:
        self.node = node
        self.machine = node.subscriptions
        self.since_ms = node.clock.wall_ms()
        self.counters: defaultdict[int, QueueCounters] = defaultdict(QueueCounters)
        """By the id of the subscription."""
        self.carried = CarriedEvents(node)
        self.dead_letters = DeadLetterWriter(node, self.counters, self.carried)
        self.retention = SubscriptionRetention(node, self.counters, self.carried)
        self.pushed = PushedSubscriptions(node.subscriptions)
        self.batches = ShareDelivery(self)
        self.expiry = QueueExpiry(self, self.dead_letters.run)
        self.header_times = HeaderTimes(self, self.expiry.give_up, self.dead_letters.run)
        self._idle = IdleViews(node.clock, self.machine.views)
        self._queues: dict[int, SubscriptionQueue] = {}
        self._partitions = PartitionScans(node.clock, node.subscriptions)
        self.routed = RoutedSources(node, self._partitions.budget)
        self._matchers = Matchers()
        self._clock = node.clock
        self._single_acks = SingleAcks(node.subscriptions, node.clock, self._on_acked)
        self._pending: list[tuple[Sequence[Settlement], Promise[list[list[Run]]]]] = []
        """The answers of this turn of the loop."""
        self._timer: Timer | None = None
        self._timer_at_s = 0.0
        self._turns = 0
        self._timed: set[int] = set()
        """The views that may have a lease with a deadline, or a position that waits for its time."""
        self.on_limited: Callable[[SubscriptionQueue], None] = lambda _: None
        """Called with a queue that may have more events than its limits allow."""
        self._closed = False
        node.queue_runtime.on_reloaded.append(self.start)
        node.subscriptions.on_deleted.append(self.forget)
        node.subscriptions.changes.on_trimmed.append(self._on_trimmed)
        self.machine.changes.on_delayed.append(lambda view: self._set_timer([view]))
        node.retention.on_run.append(self._look_at_retention)
        node.retention.before = self._carry_over
        self._unwatch_topics = topics.watch(self._on_topic_change)

    def start(self) -> None:
        """The state was loaded: go on with what needs no consumer, which is scans and dead letters."""
        if self._closed:
            return
        for stored in self.machine.all():
            if stored.settings.filter or stored.settings.in_key_order or stored.settings.is_limited:
                self._scan_soon(self.queue(stored.name))
            if stored.settings.ttl_ms:
                self.expiry.look_soon(self.queue(stored.name))
            self.dead_letters.write_soon(stored.id)
        for queue in self._queues.values():
            queue.wake()
        self.pushed.look_at_all()
        self.batches.look_at_all()
        self._set_timer(self.machine.views.all())

    def skip_blocks_by(self, tester: BlockTester) -> None:
        """Let scans pass the blocks that, by this test, have no event for a filter."""
        self._partitions.blocks.tester = tester

    def _on_topic_change(self, change: TopicChange) -> None:
        for queue in self._queues.values():
            settings = queue.stored.settings
            if change.topic in settings.topics:
                if settings.filter or settings.in_key_order:
                    self._scan_soon(queue)
                queue.wake()

    def _carry_over(self, partition: Partition) -> Promise[None]:
        """See `RetentionRuns.before`."""
        carried: Promise[None] = Promise()
        if self._closed:
            return Promise.resolved(None)
        task = self.dead_letters.run(
            lambda: self.carried.carry_over(partition), "carrying over what subscriptions pin"
        )
        task.add_done_callback(lambda _: carried.resolve(None))
        return carried

    def _look_at_retention(self) -> None:
        if not self._closed:
            self.dead_letters.run(self.retention.look, "looking at what retention deletes")

    def _scan_soon(self, queue: SubscriptionQueue) -> None:
        """Open the views of a subscription, and let them be scanned."""
        self.dead_letters.run(queue.scan_all_feeds, f"scanning for subscription {queue.stored.name}")

    def queue(self, name: str) -> SubscriptionQueue:
        """The subscription of that name, which is served from now on. UnknownSubscription."""
        stored = self.machine.get(name)
        queue = self._queues.get(stored.id)
        if queue is None:
            queue = self._queues[stored.id] = SubscriptionQueue(
                self.node,
                stored,
                self.counters[stored.id],
                self.carried,
                self.routed,
                self.retention,
                self._partitions,
                self._matchers.of(stored),
                self.wake_due,
                self.since_ms,
            )
            queue.on_limited = lambda queue=queue: self.on_limited(queue)  # type: ignore[misc]
            reading = queue.reading
            self.header_times.watch_reading(reading)
            reading.expire = lambda feed, late_ms, q=queue: self.expiry.expire(q.stored, feed, late_ms)  # type: ignore[misc]
            reading.give_up = lambda view, positions, queue=queue: self.expiry.give_up(  # type: ignore[misc]
                queue.stored, view, positions
            )
            if self._closed:
                queue.close()
        queue.stored = stored
        return queue

    def served(self, subscription: int) -> SubscriptionQueue | None:
        """The subscription with this id, if it is served."""
        return self._queues.get(subscription)

    def forget(self, stored: SubscriptionMetadata) -> None:
        """The subscription was deleted."""
        queue = self._queues.pop(stored.id, None)
        self.counters.pop(stored.id, None)
        if queue is not None:
            queue.close()
        self.pushed.look_at(stored.name)

    # --- deliveries ---------------------------------------------------------------------------------------

    async def pull(
        self, name: str, consumer: str, *, max_events: int, wait_ms: int, max_bytes: int, lock_ms: int | None
    ) -> list[Delivery]:
        """See the contract. Errors of the log and the coordinator, StreamError."""
        _check("max_events", max_events, 1, PULL_EVENTS_MAX)
        _check("max_bytes", max_bytes, 1, 1 << 62)
        _check("wait_ms", wait_ms, 0, WAIT_MS_MAX)
        if lock_ms is not None:
            _check("lock_ms", lock_ms, 1, LOCK_MS_MAX)
        if not 0 < len(consumer) <= CONSUMER_CHARS_MAX:
            raise InvalidArgument(f"the name of a consumer has 1 to {CONSUMER_CHARS_MAX} characters")
        queue = self.queue(name)
        waiter = queue.add_waiter(consumer)
        is_over = not wait_ms

        def end() -> None:  # not decided by the time: timers may be some tenths of a millisecond early
            nonlocal is_over
            is_over = True
            waiter.set()

        timer = self._clock.call_later(wait_ms / 1000, end) if wait_ms else None
        passes_on = True
        try:
            while not self._closed:
                queue.looks(waiter)
                deliveries = await queue.take(consumer, max_events, max_bytes, lock_ms)
                if deliveries:
                    return deliveries
                passes_on = False  # nothing is ready for others either, but perhaps in key order
                if queue.stored.settings.in_key_order:
                    queue.pass_on()
                if is_over:
                    break
                await waiter.wait()
                passes_on = True
                if not self._closed and self.queue(name) is not queue:
                    break  # another subscription has its name now
            return []
        finally:
            queue.remove_waiter(waiter)
            if passes_on or waiter.is_set():
                queue.wake()
            self._set_timer(self.machine.views.of_subscription(queue.stored.id))
            if timer is not None:
                timer.cancel()

    async def settle(self, name: str, outcomes: Sequence[Outcome]) -> list[Verdict]:
        """See the contract. Errors of the log and the coordinator, StreamError."""
        queue = self.queue(name)
        if len(outcomes) == 1 and isinstance(outcome := outcomes[0], Ack):
            acked = self._single_acks.add(queue.stored.id, outcome.token)
            if acked is not None and await acked:
                return ["done"]
        answers = Answers(self.machine, queue.stored.id, outcomes)
        if queue.stored.settings.single_active and answers.is_about_events_of(queue.active.name):
            queue.active.note(queue.stored.settings.active_timeout_ms)
        if views := answers.extend(self.machine.lock_time.now_ms()):
            self._set_timer(views)
        await answers.extended
        if answers.withdraw():
            self.after_release(queue.stored.id)
        if answers.settlements:
            answers.take(await self._settle_in_turn(queue.stored.id, answers.settlements), queue.counters)
        else:
            await self.node.queue_runtime.read(None)
        return answers.verdicts

    def _on_acked(self, counts: Mapping[int, int]) -> None:
        """Single events were acknowledged, as many of each view, and that is durable."""
        subscriptions: set[int] = set()
        for view_id, count in counts.items():
            view = self.machine.views.get(view_id)
            if view is not None:
                self.counters[view.subscription].acked += count
                subscriptions.add(view.subscription)
        for subscription in subscriptions:
            if (queue := self._queues.get(subscription)) is not None:
                queue.active.note(queue.stored.settings.active_timeout_ms)
            self.after_release(subscription)

    def _settle_in_turn(
        self, subscription: int, settlements: Sequence[Settlement]
    ) -> Promise[list[list[Run]]]:
        """Record answers together with all others of this turn of the loop. What follows from them happens
        also if the caller is cancelled."""
        settled: Promise[list[list[Run]]] = Promise()
        settled.then(lambda _: self.after_release(subscription))
        self._pending.append((settlements, settled))
        if len(self._pending) == 1:
            self._clock.call_soon(self._settle_pending)
        return settled

    def _settle_pending(self) -> None:
        pending, self._pending = self._pending, []
        all_settlements = [settlement for settlements, _ in pending for settlement in settlements]
        try:
            written = self.dropping(lambda: self.machine.settle(all_settlements))
        except Exception as error:  # a bug: no caller of this turn may wait for ever
            written = Promise.failed(error)

        def on_settled(done: Promise[list[list[Run]]]) -> None:
            start = 0
            for settlements, settled in pending:
                if done.error is not None:
                    settled.fail(done.error)
                else:
                    settled.resolve(done.result()[start : start + len(settlements)])
                start += len(settlements)

        written.then(on_settled)

    def settle_at_once(
        self, subscription: int, settlements: Sequence[Settlement]
    ) -> Promise[list[list[Run]]]:
        """As `_settle_in_turn`, without those of others: the answers count from this call on."""
        settled = self.dropping(lambda: self.machine.settle(settlements))
        settled.then(lambda _: self.after_release(subscription))
        return settled

    def dropping(self, release: Callable[[], Result]) -> Result:
        """Run a call that may give events up, and count those of subscriptions without dead letters."""
        newly_given_up = self.machine.views.newly_given_up
        newly_given_up.clear()
        result = release()
        for (subscription, reason), count in newly_given_up.items():
            if not self.dead_letters.are_kept(subscription):
                self.counters[subscription].dropped[reason] += count
        return result

    def after_release(self, subscription: int) -> None:
        """Events of a subscription were given back or given up: somebody may wait for them."""
        queue = self._queues.get(subscription)
        if queue is not None:
            queue.wake()
        views = self.machine.views.of_subscription(subscription)
        self.batches.look(views)
        if queue is not None:
            self.expiry.look_soon(queue)
        self.dead_letters.write_soon(subscription)
        self._set_timer(views)

    # --- expiry: see `ExpiryHost` -------------------------------------------------------------------------

    def after_expiry(self, subscription: int) -> None:
        """Events of a subscription were given up: keys may be free, and dead letters are to be written."""
        queue = self._queues.get(subscription)
        if queue is not None and queue.stored.settings.in_key_order:
            queue.wake()
        self.batches.look(self.machine.views.of_subscription(subscription))
        self.dead_letters.write_soon(subscription)

    def _on_trimmed(self, subscription: int, events: int) -> None:
        """Events were deleted that were not done: a consumer may have had one, and the key is free now."""
        queue = self._queues.get(subscription)
        if queue is not None and events and queue.stored.settings.in_key_order:
            queue.wake()

    # --- deliveries of batches: see `DeliveryHost` --------------------------------------------------------

    def note_leases(self, views: Iterable[SubscriptionView]) -> None:
        """These views may have new deadlines."""
        self._set_timer(views)

    def keeps_expired(self, view: SubscriptionView, partition: Partition) -> bool:
        """See `DeliveryHost`."""
        stored = self.machine.by_id(view.subscription)
        try:
            return stored is not None and self.expiry.expire_view(stored, view, partition)
        except StorageError:
            return True

    def after_answers(self, subscription: int, views: Sequence[SubscriptionView]) -> None:
        """As `after_release`, for these views of a subscription."""
        queue = self._queues.get(subscription)
        if queue is not None:
            queue.wake()
        self.batches.look(views)
        if any(view.sequence.counts().dying for view in views):
            self.dead_letters.write_soon(subscription)
        self._set_timer(views)

    # --- time ---------------------------------------------------------------------------------------------

    def _set_timer(self, views: Iterable[SubscriptionView]) -> None:
        """Look at the deadlines of these views, beside those that the timer is set for, when the first is."""
        if self._closed:
            return
        self._idle.look_later()
        lock_ms, now_ms = self.machine.lock_time.now_ms(), self._clock.wall_ms()
        first_ms: int | None = None
        for view in views:
            deadline_ms, due_ms = view.sequence.next_deadline_ms(), view.sequence.next_due_ms()
            for at_ms, time_ms in ((deadline_ms, lock_ms), (due_ms, now_ms)):
                if at_ms is not None:
                    first_ms = at_ms - time_ms if first_ms is None else min(first_ms, at_ms - time_ms)
                    self._timed.add(view.id)
        if first_ms is None:
            return
        wait_s = min(max(first_ms / 1000, TIMER_S_MIN), TIMER_S_MAX)
        at_s = self._clock.monotonic() + wait_s
        if self._timer is not None:
            if self._timer_at_s <= at_s:
                return
            self._timer.cancel()
        self._timer_at_s = at_s
        self._timer = self._clock.call_later(wait_s, self._on_timer)

    def clock_moved(self) -> None:
        """The wall clock was moved forward: look now at what is due, and at what is over."""
        if self._timer is not None:
            self._timer.cancel()
        self._on_timer()
        for queue in self._queues.values():
            self.expiry.look_now(queue)
        self.header_times.look_now()

    def _timed_views(self) -> list[SubscriptionView]:
        return [view for view_id in self._timed if (view := self.machine.views.get(view_id)) is not None]

    def _reset_timer(self) -> None:
        """Look at all deadlines. A view that has none is looked at again when it has."""
        views = self._timed_views()
        self._timed.clear()
        self._set_timer(views)

    def _on_timer(self) -> None:
        self._timer = None
        if self._closed:
            return
        lock_ms, views = self.machine.lock_time.now_ms(), self._timed_views()
        # Another view is the first each time, for a turn has room for a part of what is due.
        self._turns += 1
        first = self._turns % max(1, len(views))
        views = views[first:] + views[:first]
        self._wake_views(views)
        expired: Counter[int] = Counter()
        leases: list[tuple[SubscriptionView, Sequence[DeliveryLease]]] = []
        room = RELEASED_OF_TURN
        for view in views:
            if room > 0 and (part := view.sequence.expired(lock_ms, room)):
                left = sum(lease.left for lease in part)
                leases.append((view, part))
                expired[view.subscription] += left
                room -= left
        if leases:
            released = self.dropping(lambda: self.machine.release(leases, counts=True))
            released.then(lambda done: self._on_expired(expired, done))
        else:
            self._reset_timer()

    def wake_due(self, view: SubscriptionView, max_entries: int | None = None) -> int:
        """Let a part of what is due in a view be ready, and wake those that wait for it. They are woken also
        when a pull of another, or a look at the figures, comes before the timer, which has nothing to wake
        them for then. Returns the number of events."""
        room = WAKES_OF_TURN if max_entries is None else max_entries
        counters = self.counters[view.subscription]
        woken = counters.wake_due(view.sequence, self._clock.wall_ms(), room)
        if woken:
            self.batches.look([view])
            queue = self._queues.get(view.subscription)
            if queue is not None:
                queue.wake()
        return woken

    def _wake_views(self, views: Sequence[SubscriptionView]) -> None:
        """Wake a part of what is due; the timer follows at once for the rest."""
        room, now_ms = WAKES_OF_TURN, self._clock.wall_ms()
        for view in views:
            if isinstance(view.sequence.waits, ViewDelays):
                view.sequence.waits.fetch_soon(now_ms)
            if room > 0:
                room -= self.wake_due(view, room)

    def _on_expired(self, expired: Mapping[int, int], done: Promise[int]) -> None:
        if done.error is not None:
            if not isinstance(done.error, StorageError):
                raise done.error
            log.warning("events whose lock has expired are not given back yet: %s", done.error)
            self._clock.call_later(RETRY_S, self._reset_timer)
            return
        self._reset_timer()
        for subscription, count in expired.items():
            counters = self.counters[subscription]
            counters.failed += count
            counters.expired += count
            self.after_release(subscription)

    def close(self) -> None:
        """Stop serving: pulls that wait return nothing, answers are still taken. Idempotent."""
        self._closed = True
        self._unwatch_topics()
        if self._timer is not None:
            self._timer.cancel()
        self._idle.close()
        self.expiry.close()
        self.header_times.close()
        self.dead_letters.close()
        self.batches.close()
        for queue in list(self._queues.values()):
            queue.close()
        self._queues.clear()


def _check(name: str, value: int, minimum: int, maximum: int) -> None:
    if not minimum <= value <= maximum:
        raise InvalidArgument(f"{name} is {value:,}; it is from {minimum:,} to {maximum:,}")
