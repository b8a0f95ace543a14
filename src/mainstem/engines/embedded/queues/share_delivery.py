"""Delivers whole batches of subscriptions: pulls that take or wait, and answers by ranges.

Owns: the pulls that wait, and who of them is woken. Implements `BatchQueues`. Refuses: the rules of the state
machine, timers of locks and dead letters (`service.py`), and which batches are taken (`batch_take.py`).
Nothing is polled: a pull that waits is woken by a commit, an answer, a lock that expires or a due time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from mainstem.clock import Timer
from mainstem.coordinator.errors import GroupIdNotFound, UnknownTopicOrPartition
from mainstem.coordinator.queues.types import SubscriptionMetadata
from mainstem.coordinator.queues.views import SubscriptionView
from mainstem.engines.embedded.queues.batch_take import BatchTake, advance
from mainstem.engines.embedded.queues.share_starts import ShareStarts
from mainstem.log.partition.partition import Partition
from mainstem.node import Node
from mainstem.promise import Promise, run_steps
from mainstem.queues.range_answer import RangeAnswer
from mainstem.share_contract import BatchDelivery, BatchPull, PartitionKey

if TYPE_CHECKING:
    from mainstem.engines.embedded.queues.counters import QueueCounters
    from mainstem.engines.embedded.queues.header_times import HeaderTimes

ServedPartition = tuple[int, PartitionKey]
"""A subscription's id and one of its partitions."""


Result = TypeVar("Result")


class DeliveryHost(Protocol):
    """What the delivery needs of the service of queues."""

    node: Node
    counters: defaultdict[int, QueueCounters]
    header_times: HeaderTimes

    def note_leases(self, views: Iterable[SubscriptionView]) -> None:
        """These views may have new deadlines."""

    def dropping(self, release: Callable[[], Result]) -> Result:
        """Run a call that may give events up, and count those of subscriptions without dead letters."""

    def keeps_expired(self, view: SubscriptionView, partition: Partition) -> bool:
        """Give up what of a partition is over. Whether some of it is still there, because the disk refuses,
        or it is too much for a turn of the event loop: nothing is delivered before that is done."""

    def wake_due(self, view: SubscriptionView) -> int:
        """See `QueueService.wake_due`."""

    def after_answers(self, subscription: int, views: Sequence[SubscriptionView]) -> None:
        """Events of these views were given back or given up."""


class _WaitingPull:
    """One pull, from its begin to its reply."""

    def __init__(self, pull: BatchPull, subscription: SubscriptionMetadata) -> None:
        self.pull = pull
        self.subscription = subscription
        self.is_over = pull.wait_ms <= 0
        self.is_cancelled = False
        self.woken: Promise[None] | None = None
        """Set while it waits."""
        self.timer: Timer | None = None
        self.errors: dict[PartitionKey, BaseException] = {}
        self.is_second_look = False
        """Whether it was woken by itself, which it is once each time."""
        self.moved: dict[ServedPartition, None] | None = None
        """The partitions that have changed since all of them were looked at; None: all may have. A pull may
        wait for thousands, of which one has moved."""

    @property
    def wants_any(self) -> bool:
        """Whether whatever is ready is enough."""
        return self.pull.min_bytes <= 1

    @property
    def candidates(self) -> list[ServedPartition]:
        """The partitions that may have something."""
        if self.moved is None or not self.wants_any:
            return self.places
        return [place for place in self.moved if place[1] not in self.errors]

    @property
    def places(self) -> list[ServedPartition]:
        """The partitions that can be served."""
        id_ = self.subscription.id
        return [(id_, key) for key in self.pull.partitions if key not in self.errors]

    def wake(self) -> None:
        """Look again at the partitions, if it waits."""
        woken, self.woken = self.woken, None
        if woken is not None:
            woken.resolve(None)

    def end(self) -> None:
        """The wait is over."""
        self.is_over = True
        self.wake()

    def cancel(self) -> None:
        """Acquire nothing from now on."""
        self.is_cancelled = True
        self.end()


class ShareDelivery:
    """Implements `BatchQueues` on the subscriptions of a node."""

    def __init__(self, host: DeliveryHost) -> None:
        self._host = host
        self._starts = ShareStarts(host.node)
        self._node = host.node
        self._machine = host.node.subscriptions
        self._clock = host.node.clock
        self._waiting: dict[ServedPartition, dict[_WaitingPull, None]] = {}
        """The pulls that wait for a partition, in the order in which they came."""
        self._watched: dict[ServedPartition, tuple[Partition, Callable[[Partition], None]]] = {}
        self._moved: dict[ServedPartition, None] = {}
        """The partitions whose waiting pulls are looked at in the next turn of the loop."""
        self._closed = False

    # --- pulls --------------------------------------------------------------------------------------------

    def pull_batches(self, pull: BatchPull) -> tuple[Promise[list[BatchDelivery]], Callable[[], None]]:
        """See the contract."""
        subscription = self._node.share_groups.find(pull.group)
        if subscription is None:
            error = GroupIdNotFound(f"there is no share group {pull.group}")
            return Promise.resolved([BatchDelivery(key, [], [], error) for key in pull.partitions]), _nothing
        waiting = _WaitingPull(pull, subscription)
        return run_steps(self._steps(waiting)), waiting.cancel

    def _steps(self, waiting: _WaitingPull) -> Generator[Promise[Any], Any, list[BatchDelivery]]:
        try:
            for key in waiting.pull.partitions:
                try:
                    yield from self._starts.open(waiting.subscription, key)
                except Exception as error:
                    waiting.errors[key] = error
            while True:
                deliveries = yield from self._take_all(waiting)
                if deliveries or waiting.is_over or waiting.errors:
                    break
                yield self._wait(waiting)
        finally:
            self._stop_waiting(waiting)
        failed = [BatchDelivery(key, [], [], error) for key, error in waiting.errors.items()]
        return deliveries + failed

    def _take_all(self, waiting: _WaitingPull) -> Generator[Promise[Any], Any, list[BatchDelivery]]:
        """What the partitions have now; nothing if that is less than the pull waits for."""
        if waiting.is_cancelled or not self._has_enough(waiting):
            return []
        pull, events_left, bytes_left = waiting.pull, waiting.pull.max_events, waiting.pull.max_bytes
        candidates = waiting.candidates
        if waiting.moved is not None:
            waiting.moved = {}
        takes: list[tuple[SubscriptionView, PartitionKey, BatchTake]] = []
        for place in candidates:
            if events_left <= 0 or bytes_left <= 0 or waiting.is_cancelled:
                break
            key = place[1]
            try:
                view, partition = yield from self._starts.open(waiting.subscription, key)
                yield from self._trim(view, partition)
                if waiting.is_cancelled or not self._advance(view, partition):
                    continue
                take = BatchTake(
                    self._machine,
                    view,
                    partition,
                    pull.consumer,
                    events_left,
                    bytes_left,
                    pull.exact,
                    lambda: waiting.is_cancelled,
                    self._host.header_times,
                )
                takes.append((view, key, take))
                yield from take.steps()
            except Exception as error:
                waiting.errors[key] = error
                continue
            events_left -= take.events
            bytes_left -= take.bytes
        return (yield from self._delivered(waiting, takes))

    def _delivered(
        self, waiting: _WaitingPull, takes: Sequence[tuple[SubscriptionView, PartitionKey, BatchTake]]
    ) -> Generator[Promise[Any], Any, list[BatchDelivery]]:
        """What was acquired, when it is durable."""
        deliveries: list[BatchDelivery] = []
        counters = self._host.counters[waiting.subscription.id]
        self._host.note_leases([view for view, _, _ in takes])
        for _, key, take in takes:
            counters.unreadable += take.unreadable
            try:
                acquired = yield from take.acquired(waiting.pull.batch_size)
            except Exception as error:
                waiting.errors[key] = error
                continue
            if not acquired:
                continue
            for run in acquired:
                count = run.last - run.first + 1
                counters.delivered += count
                counters.redelivered += count if run.deliveries > 1 else 0
            deliveries.append(BatchDelivery(key, take.pieces, acquired))
        return deliveries

    def _trim(self, view: SubscriptionView, partition: Partition) -> Generator[Promise[Any], Any, None]:
        """Events that retention has deleted are done."""
        if view.sequence.oldest < partition.log_start_offset:
            yield self._machine.changes.trim(view.topic_id, view.partition, partition.log_start_offset)

    def _has_enough(self, waiting: _WaitingPull) -> bool:
        """Whether the pull need not wait: `min_bytes` are ready, or something is and the time is over."""
        min_bytes = 1 if waiting.is_over else max(1, waiting.pull.min_bytes)
        available = 0
        for subscription, key in waiting.candidates:
            view = self._machine.views.find((subscription, *key))
            topic = self._node.topics.by_id(key[0])
            if view is None or topic is None:
                return True  # its reply says so
            partition = self._node.partition(topic, key[1])
            if self._advance(view, partition):
                first = view.sequence.first_ready()
                if first is not None and first >= partition.log_start_offset:
                    available += max(1, partition.available_bytes(first))
                else:
                    available += min_bytes
            if available >= min_bytes:
                return True
        return False

    def _advance(self, view: SubscriptionView, partition: Partition) -> bool:
        if self._host.keeps_expired(view, partition):
            return False
        self._host.wake_due(view)
        return advance(view, partition)

    # --- waiting ------------------------------------------------------------------------------------------

    def _wait(self, waiting: _WaitingPull) -> Promise[None]:
        """A promise that is done when there may be something, or the time is over."""
        woken: Promise[None] = Promise()
        waiting.woken = woken
        if waiting.timer is None:
            waiting.timer = self._clock.call_later(waiting.pull.wait_ms / 1000, waiting.end)
            for place in waiting.places:
                pulls = self._waiting.get(place)
                if pulls is None:
                    pulls = self._waiting[place] = {}
                    self._watch(place)
                pulls.setdefault(waiting)
        # What came while the partitions were read is looked at once more.
        has_enough = self._has_enough(waiting)
        if waiting.moved is None:
            waiting.moved = dict.fromkeys(waiting.places) if has_enough else {}
        waiting.is_second_look = has_enough and not waiting.is_second_look
        if waiting.is_second_look:
            waiting.wake()
        if self._closed:
            waiting.end()
        return woken

    def _watch(self, place: ServedPartition) -> None:
        topic = self._node.topics.by_id(place[1][0])
        if topic is not None:
            partition = self._node.partition(topic, place[1][1])
            on_moved = lambda _: self._look_soon(place)  # noqa: E731
            partition.watch(on_moved)
            self._watched[place] = partition, on_moved

    def _stop_waiting(self, waiting: _WaitingPull) -> None:
        if waiting.timer is not None:
            waiting.timer.cancel()
        for key in waiting.pull.partitions:
            place = waiting.subscription.id, key
            pulls = self._waiting.get(place)
            if pulls is None:
                continue
            pulls.pop(waiting, None)
            if pulls:
                self._look_soon(place)  # for what this pull has left
                continue
            del self._waiting[place]
            if watched := self._watched.pop(place, None):
                watched[0].unwatch(watched[1])

    def _look_soon(self, place: ServedPartition) -> None:
        """Wake who waits for this partition, in the next turn of the loop: one commit moves many
        watermarks."""
        if place in self._waiting:
            if not self._moved:
                self._clock.call_soon(self._look)
            self._moved[place] = None

    def _look(self) -> None:
        moved, self._moved = self._moved, {}
        for place in moved:
            for waiting in list(self._waiting.get(place, ())):
                if waiting.moved is not None:
                    waiting.moved[place] = None
                if waiting.woken is None:
                    continue
                if not self._has_enough(waiting):
                    if not self._may_take(place):
                        break
                    continue
                waiting.wake()

    def _may_take(self, place: ServedPartition) -> bool:
        view = self._machine.views.find((place[0], *place[1]))
        counts = view.sequence.counts() if view is not None else None
        return counts is None or counts.ready > 0

    def look(self, views: Iterable[SubscriptionView]) -> None:
        """Something of these views may be ready."""
        for view in views:
            self._look_soon((view.subscription, (view.topic_id, view.partition)))

    def look_at_all(self) -> None:
        """The state was loaded again."""
        for place in self._waiting:
            self._look_soon(place)

    # --- answers ------------------------------------------------------------------------------------------

    def answer_ranges(
        self, group: str, consumer: str, answers: Mapping[PartitionKey, Sequence[RangeAnswer]]
    ) -> Promise[dict[PartitionKey, BaseException]]:
        """See the contract."""
        subscription = self._node.share_groups.find(group)
        if subscription is None:
            return Promise.resolved({key: _not_served(key) for key in answers})
        errors: dict[PartitionKey, BaseException] = {}
        by_view: dict[int, Sequence[RangeAnswer]] = {}
        keys: dict[int, PartitionKey] = {}
        views: list[SubscriptionView] = []
        for key, parts in answers.items():
            view = self._machine.views.find((subscription.id, *key))
            if view is None:
                errors[key] = _not_served(key)
                continue
            keys[view.id], by_view[view.id] = key, parts
            views.append(view)
        if not by_view:
            return Promise.resolved(errors)
        settled = self._host.dropping(lambda: self._machine.settle_ranges(consumer, by_view))
        answered: Promise[dict[PartitionKey, BaseException]] = Promise()

        def on_settled(done: Promise[dict[int, Any]]) -> None:
            if done.error is not None:
                errors.update(dict.fromkeys(keys.values(), done.error))
            else:
                errors.update((keys[view_id], error) for view_id, error in done.result().items())
                self._count(subscription.id, [a for key, a in answers.items() if key not in errors])
            self._host.after_answers(subscription.id, views)
            answered.resolve(errors)

        settled.then(on_settled)
        return answered

    def _count(self, subscription: int, answers: Iterable[Sequence[RangeAnswer]]) -> None:
        counters = self._host.counters[subscription]
        for parts in answers:
            for answer in parts:
                count = answer.end - answer.first
                match answer.verb:
                    case "ack":
                        counters.acked += count
                    case "release":
                        counters.failed += count
                        counters.nacked += count
                    case "reject":
                        counters.failed += count
                        counters.rejected += count

    def seek_partitions(
        self, group: str, offsets: Mapping[PartitionKey, int]
    ) -> Promise[dict[PartitionKey, BaseException]]:
        """See the contract."""
        return self._starts.seek(group, offsets)

    def release(self, group: str, consumer: str) -> None:
        """See the contract."""
        subscription = self._node.share_groups.find(group)
        if subscription is None:
            return
        views = [
            view
            for view in self._machine.views.of_subscription(subscription.id)
            if view.sequence.detach(consumer)
        ]
        if views:
            released = self._machine.detach(consumer, counts=True, views=views)
            # If the disk refuses the record, their locks expire.
            released.then(lambda _: self._host.after_answers(subscription.id, views))

    def close(self) -> None:
        """End all waits. Idempotent."""
        self._closed = True
        for pulls in list(self._waiting.values()):
            for waiting in list(pulls):
                waiting.end()


def _not_served(key: PartitionKey) -> UnknownTopicOrPartition:
    return UnknownTopicOrPartition(f"the group has acquired nothing of partition {key[1]} of this topic")


def _nothing() -> None:
    pass
