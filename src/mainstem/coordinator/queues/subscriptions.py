"""The state machine of subscriptions: their settings, and what each knows about the partitions that it reads.

Owns: which subscriptions and views there are, and what of them survives a restart. A view is made when a
subscription meets a partition, and goes with its topic. Ids of subscriptions and views are not used again, so
what is recorded of a deleted one never counts for a new one of its name. Leases are soft: their promises fail
and consumers attach anew when the state is loaded again. Refuses: to read the log (a service scans it and
writes dead letters), timers, and doors.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any, ClassVar
from uuid import UUID

import msgspec

from mainstem.clock import Clock
from mainstem.coordinator.errors import (
    CoordinatorError,
    SubscriptionExists,
    TooManySubscriptions,
    UnknownSubscription,
)
from mainstem.coordinator.queues.durable_leases import DurableLeases
from mainstem.coordinator.queues.in_flight import DeliveredEventsLimit
from mainstem.coordinator.queues.lock_time import LockTime
from mainstem.coordinator.queues.named_snapshots import NamedSnapshots
from mainstem.coordinator.queues.range_answers import decide_ranges
from mainstem.coordinator.queues.records import (
    SNAPSHOT_RECORDS,
    VIEW_RECORDS,
    CursorMarked,
    EventsLeased,
    QueueEpoch,
    QueueEpochsEnded,
    QueueIds,
    ShareGroupCreated,
    SnapshotRecord,
    SubscriptionConfigured,
    SubscriptionCreated,
    SubscriptionDeleted,
    SubscriptionLetters,
    ViewEnded,
    ViewRecord,
    ViewStarted,
    ViewState,
)
from mainstem.coordinator.queues.release_turns import release_in_turns
from mainstem.coordinator.queues.routing import Routing
from mainstem.coordinator.queues.settlements import (
    DecisionContext,
    decide,
    decide_acknowledged,
    release_records,
)
from mainstem.coordinator.queues.topology import Topology
from mainstem.coordinator.queues.topology_records import TOPOLOGY_RECORDS, NamespaceRecord
from mainstem.coordinator.queues.types import (
    LeasedEvent,
    Settlement,
    SubscriptionKind,
    SubscriptionMetadata,
    altered,
    changed_settings,
    check_change,
    check_subscription_name,
    metadata_of,
)
from mainstem.coordinator.queues.view_changes import ViewChanges
from mainstem.coordinator.queues.view_starts import PartitionStart, first_views
from mainstem.coordinator.queues.views import SubscriptionView, SubscriptionViews
from mainstem.coordinator.runtime.runtime import Runtime
from mainstem.promise import Promise
from mainstem.queues.leases import DeliveryLease
from mainstem.queues.range_answer import RangeAnswer
from mainstem.queues.runs import Run, count_positions
from mainstem.queues.settings import SubscriptionSettings

SUBSCRIPTIONS_MAX = 100_000
KNOWN_EPOCHS_MAX = 64
"""After that number of further starts or reloads of the state, an acknowledgement is too late."""
_CREATED: Mapping[SubscriptionKind, type[SubscriptionCreated] | type[ShareGroupCreated]] = {
    "subscription": SubscriptionCreated,
    "share group": ShareGroupCreated,
}
MARK_AHEAD = 1_000
"""How far a mark is ahead of what is delivered: so far a view delivers without a record."""


class Subscriptions:
    """The state machine of subscriptions. `runtime`, that of the state log of queues, is set once, before the
    first write; `start` is called after each load of the state."""

    RECORDS: ClassVar[tuple[type[msgspec.Struct], ...]] = (
        QueueIds,
        QueueEpoch,
        QueueEpochsEnded,
        SubscriptionCreated,
        ShareGroupCreated,
        SubscriptionConfigured,
        SubscriptionDeleted,
        SubscriptionLetters,
        *SNAPSHOT_RECORDS,
        *VIEW_RECORDS,
        *TOPOLOGY_RECORDS,
    )
    runtime: Runtime

    def __init__(self, clock: Clock, rng: random.Random) -> None:
        self._clock = clock
        self._rng = rng
        self.views = SubscriptionViews()
        """For reading, and for what is soft: a service scans them. Only records change the rest."""
        self.in_flight = DeliveredEventsLimit(self.views, clock)
        self.lock_time = LockTime(clock)
        self.durable_leases = DurableLeases(
            self.views, lambda view: self._by_id[view.subscription].settings, self.lock_time
        )
        self.snapshots = NamedSnapshots(self, clock)
        """The named snapshots, and the requests about them."""
        self.changes = ViewChanges(
            clock, self.views, self.snapshots.contents, lambda decide: self.runtime.write(decide)
        )
        """What happens to views beside the answers of consumers."""
        self.on_deleted: list[Callable[[SubscriptionMetadata], None]] = []
        """Callbacks for a subscription whose deletion is durable."""
        self.records_of_deletion: Callable[[SubscriptionMetadata], Sequence[msgspec.Struct]] | None = None
        """Returns the records of other machines that go with the deletion of a subscription."""
        self.topology = Topology()
        """The namespaces of routed queues, for reading."""
        self.routing = Routing(self.topology, self, lambda decide: self.runtime.write(decide), clock, rng)
        """What changes them."""
        self.reset()

    # --- the state machine --------------------------------------------------------------------------------

    def reset(self) -> None:
        """See `StateMachine`."""
        self._by_name: dict[str, SubscriptionMetadata] = {}
        self._by_id: dict[int, SubscriptionMetadata] = {}
        self._next_id = 1
        self.views.clear()
        self.topology.clear()
        self.routing.reset()
        self.snapshots.contents.clear()
        self.durable_leases.reset()
        self.epoch = self._rng.getrandbits(32)
        """Another number after each load of the state: leases and tokens of an earlier one are over."""
        self.known_epochs: deque[int] = deque(maxlen=KNOWN_EPOCHS_MAX)
        """The last epochs in which deliveries were made, as far as no event of theirs may be lost."""

    def apply(self, record: Any) -> None:
        """See `StateMachine`. KeyError: the record is about what does not exist."""
        match record:
            case QueueIds(next_id=next_id):
                self._next_id = max(self._next_id, next_id)
            case QueueEpoch(epoch=epoch):
                self.known_epochs.append(epoch)
            case QueueEpochsEnded():
                self.known_epochs.clear()
            case SubscriptionCreated() | ShareGroupCreated():
                assert record.name not in self._by_name, "a name is that of one subscription"
                self._put(metadata_of(record))
                self._next_id = max(self._next_id, record.id + 1)
            case SubscriptionConfigured(id=id_, settings=settings):
                self._put(altered(self._by_id[id_], settings))
                for view in self.views.of_subscription(id_):
                    view.sequence.rules = settings.rules
            case SubscriptionLetters(id=id_, topic=topic):
                self._put(replace(self._by_id[id_], last_dead_letter_topic=topic))
            case SubscriptionDeleted(id=id_):
                del self._by_name[self._by_id.pop(id_).name]
                self.snapshots.contents.remove_subscription(id_)
                for view in self.views.of_subscription(id_):
                    self.views.remove(view.id)
                self.topology.forget_queue(id_)
            case ViewStarted(view=view_id, subscription=id_):
                self.views.start(record, self._by_id[id_].settings.rules)
                self._next_id = max(self._next_id, view_id + 1)
            case ViewState(subscription=id_):
                self.views.restore(record, self._by_id[id_].settings.rules)
            case NamespaceRecord():
                self._next_id = max(self._next_id, self.topology.apply(record) + 1)
            case EventsLeased():
                self.durable_leases.apply(record)
            case SnapshotRecord(id=id_):
                self.snapshots.apply(record)
                self._next_id = max(self._next_id, id_ + 1)
            case _:
                self.durable_leases.note(record)
                self.snapshots.about_to_change(record)
                self.views.apply(record)

    def _put(self, subscription: SubscriptionMetadata) -> None:
        self._by_id[subscription.id] = self._by_name[subscription.name] = subscription

    def snapshot(self) -> Iterable[msgspec.Struct]:
        """See `StateMachine`."""
        if self._next_id == 1:
            return ()
        created = (
            _CREATED[known.kind](known.id, known.name, known.settings, known.created_ms)
            for known in list(self._by_id.values())
        )
        epochs = [QueueEpoch(epoch) for epoch in self.known_epochs]
        letters = [
            SubscriptionLetters(known.id, known.last_dead_letter_topic)
            for known in self._by_id.values()
            if known.last_dead_letter_topic and not known.settings.dead_letter_topic
        ]
        spaces = self.topology.snapshot()
        heads = chain((QueueIds(self._next_id),), epochs, created, letters, spaces)
        leases = self.durable_leases.all_records(self.epoch)
        return chain(heads, self.views.walk(), leases, self.snapshots.contents.records())

    def start(self, end_of: Callable[[UUID, int], int | None]) -> None:
        """The state was loaded. `end_of` returns the end of a partition, or None if it does not exist: what
        is at its end or after it was not delivered yet, whatever the marks say."""
        for view in self.views.all():
            view.sequence.restarted(end_of(view.topic_id, view.partition), self._clock.wall_ms())
        for view, lease in self.durable_leases.restore(self._clock.wall_ms()):
            self.in_flight.note(view, lease)

    # --- reading ------------------------------------------------------------------------------------------

    @property
    def next_id(self) -> int:
        """The number that the next subscription, view, namespace, route, binding or named snapshot gets."""
        return self._next_id

    def get(self, name: str) -> SubscriptionMetadata:
        """The subscription of that name, which may not be durable yet: a reply to a client has to wait for
        `runtime.read`. UnknownSubscription."""
        subscription = self._by_name.get(name)
        if subscription is None:
            raise UnknownSubscription(f"there is no subscription '{name}'")
        return subscription

    def find(self, name: str) -> SubscriptionMetadata | None:
        """The subscription of that name, if there is one. See `get`."""
        return self._by_name.get(name)

    def share_group(self, name: str) -> SubscriptionMetadata | None:
        """The share group of that name, if there is one. See `get`."""
        subscription = self._by_name.get(name)
        return subscription if subscription is not None and subscription.kind == "share group" else None

    def by_id(self, id_: int) -> SubscriptionMetadata | None:
        """The subscription with that id. See `get`."""
        return self._by_id.get(id_)

    def all(self) -> list[SubscriptionMetadata]:
        """All subscriptions, sorted by name. See `get`."""
        return [self._by_name[name] for name in sorted(self._by_name)]

    def views_of(self, name: str) -> list[SubscriptionView]:
        """The views of a subscription. UnknownSubscription."""
        return self.views.of_subscription(self.get(name).id)

    def given_up(self, name: str, reason: int) -> int:
        """How many events a subscription gave up for this reason since the state was loaded.
        UnknownSubscription."""
        return self.views.given_up[self.get(name).id, reason]

    # --- subscriptions ------------------------------------------------------------------------------------

    def create(
        self,
        name: str,
        settings: Mapping[str, Any] | None = None,
        *,
        validate_only: bool = False,
        also: Callable[[SubscriptionMetadata], Sequence[msgspec.Struct]] = lambda _: (),
        check: Callable[[str], None] = check_subscription_name,
    ) -> Promise[SubscriptionMetadata]:
        """Create a subscription. `settings` by name, see `types.RANGES`; the others have their defaults.
        `also`: further records about it, which are written with it; `check`: the rules for its name. Done
        when it is durable. Fails with InvalidSubscriptionName, InvalidSubscriptionSetting,
        SubscriptionExists, TooManySubscriptions, StorageError."""

        def decide_creation() -> tuple[Sequence[msgspec.Struct], SubscriptionMetadata]:
            check(name)
            if name in self._by_name:
                raise SubscriptionExists(f"there is a subscription '{name}' already")
            chosen = changed_settings(SubscriptionSettings(), settings or {})
            record = self.creation(name, chosen, "subscription")
            made = metadata_of(record)
            return ((), made) if validate_only else ((record, *also(made)), made)

        return self.runtime.write(decide_creation)

    def creation(
        self, name: str, settings: SubscriptionSettings, kind: SubscriptionKind
    ) -> SubscriptionCreated | ShareGroupCreated:
        """The record that creates a subscription, whose name no other has. TooManySubscriptions."""
        if len(self._by_id) >= SUBSCRIPTIONS_MAX:
            raise TooManySubscriptions(f"there are {SUBSCRIPTIONS_MAX:,} subscriptions already")
        return _CREATED[kind](self._next_id, name, settings, self._clock.wall_ms())

    def alter(
        self,
        name: str,
        changes: Mapping[str, Any],
        ended: Collection[UUID] = (),
        expected: SubscriptionSettings | None = None,
    ) -> Promise[SubscriptionMetadata]:
        """Change some settings of a subscription; with `expected`, only if they are these now. `ended`: the
        ids of topics that it does not read any more; its views of these end. Done when that is durable. Fails
        with UnknownSubscription, InvalidSubscriptionSetting, SubscriptionChanged, StorageError."""

        def decide_change() -> tuple[Sequence[msgspec.Struct], SubscriptionMetadata]:
            old = self.get(name)
            settings = changed_settings(old.settings, changes)
            check_change(old, settings, expected)
            if settings == old.settings:
                return (), old
            views = self.views.of_subscription(old.id)
            endings = [ViewEnded(view.id) for view in views if view.topic_id in ended]
            return (SubscriptionConfigured(old.id, settings), *endings), altered(old, settings)

        return self.runtime.write(decide_change)

    def delete(self, name: str) -> Promise[SubscriptionMetadata]:
        """Delete a subscription, with everything that it knows; no event of a topic is deleted. The value is
        what it was. Fails with UnknownSubscription, NonEmptyGroup (a share group with members),
        StorageError."""

        def decide_deletion() -> tuple[Sequence[msgspec.Struct], SubscriptionMetadata]:
            old = self.get(name)
            also = self.records_of_deletion(old) if self.records_of_deletion is not None else ()
            return (SubscriptionDeleted(old.id), *also), old

        known = self._by_name.get(name)
        namespace = self.topology.of_queue(known.id) if known is not None else None
        deleted = self.runtime.write(decide_deletion)
        if namespace is not None:
            self.routing.note_deletion(namespace, deleted)
        deleted.then(self._notify_deletion)
        return deleted

    def _notify_deletion(self, deleted: Promise[SubscriptionMetadata]) -> None:
        if deleted.error is None:
            self.notify_deleted(deleted.result())

    def notify_deleted(self, subscription: SubscriptionMetadata) -> None:
        """Call `on_deleted`, for a subscription that went with something else."""
        for callback in self.on_deleted:
            callback(subscription)

    # --- deliveries ---------------------------------------------------------------------------------------

    def open_views(self, name: str, starts: Sequence[PartitionStart]) -> Promise[None]:
        """Let the subscription have views of partitions. One that it meets for the first time begins now: at
        `log_start`, or at `high_watermark` as the settings say. Done when that is durable. Fails with
        UnknownSubscription, StorageError."""

        def decide_views() -> tuple[Sequence[msgspec.Struct], None]:
            subscription = self.get(name)
            return first_views(subscription, self._next_id, self.views, starts), None

        return self.runtime.write(decide_views)

    def open_view(
        self, name: str, topic_id: UUID, partition: int, log_start: int, high_watermark: int
    ) -> Promise[SubscriptionView]:
        """As `open_views`, for one partition. The value is the view."""
        opened = self.open_views(name, [PartitionStart(topic_id, partition, log_start, high_watermark)])
        known = self._by_name.get(name)
        place = 0 if known is None else known.id, topic_id, partition
        return opened.map(lambda _: self.views.require(place))

    def acquire(
        self, view: SubscriptionView, consumer: str, max_events: int, lock_ms: int | None = None
    ) -> Promise[DeliveryLease | None]:
        """Lease up to `max_events` ready events of a view to a consumer, for `lock_ms`, or as long as the
        settings say. None if nothing is ready, or too much is in flight. Done when the mark is durable that
        covers them, and what led to their present state. Fails with StorageError; the events are ready again
        then."""
        return self._acquire(view, lambda now: view.sequence.acquire(consumer, max_events, now, lock_ms))

    def acquire_runs(
        self, view: SubscriptionView, consumer: str, runs: Sequence[Run]
    ) -> Promise[DeliveryLease | None]:
        """As `acquire`, for those of these positions, ascending, that are ready."""
        return self._acquire(view, lambda now: view.sequence.acquire_runs(consumer, runs, now))

    def _acquire(
        self, view: SubscriptionView, open_lease: Callable[[int], DeliveryLease | None]
    ) -> Promise[DeliveryLease | None]:
        if self.runtime.fenced is not None or self.views.get(view.id) is not view:
            return self.runtime.read(None)
        lease = open_lease(self.lock_time.now_ms()) if self.in_flight.has_room(view) else None
        if lease is None:
            return self.runtime.read(None)
        self.in_flight.note(view, lease)
        end = lease.runs[-1][1]
        records: list[msgspec.Struct] = []
        if self.epoch not in self.known_epochs:
            records.append(QueueEpoch(self.epoch))
        if end > view.sequence.marked:
            records.append(CursorMarked(view.id, end + MARK_AHEAD))
        records += self.durable_leases.records_of(view, [lease], self.epoch)
        leased: Promise[DeliveryLease | None] = self.runtime.write(lambda: (records, lease))
        leased.then(lambda done: self._give_back(view, lease) if done.error is not None else None)
        return leased

    def _give_back(self, view: SubscriptionView, lease: DeliveryLease) -> None:
        """The lease never reached its consumer. If the state is loaded again, it is void anyway."""
        self.withdraw(view, lease.id, lease.runs)

    def withdraw(self, view: SubscriptionView, lease: int, runs: Sequence[Run]) -> None:
        """These events of a lease of this epoch never reached its consumer: they are ready again, as if they
        had not been leased. Nothing is recorded."""
        if self.views.get(view.id) is view:
            view.sequence.withdraw(lease, runs)

    def end_epochs(self) -> Promise[None]:
        """Refuse the late acknowledgements of all deliveries up to now, because their events may have been
        lost: their positions are those of other events then. For a start. Done when that is durable. Fails
        with StorageError."""
        return self.runtime.write(lambda: ([QueueEpochsEnded()] if self.known_epochs else [], None))

    def settle(self, settlements: Sequence[Settlement]) -> Promise[list[list[Run]]]:
        """Record what consumers answer. The value has, for each answer, the positions that it settled: the
        others are settled already, or not leased, or leased to another consumer. Done when that is durable.
        Fails with InvalidRequest, StorageError."""
        return self.runtime.write(lambda: decide(settlements, self.views.get, self._context()))

    def acknowledge(self, events: Sequence[LeasedEvent]) -> Promise[list[bool]]:
        """Record that consumers acknowledge these single events. The value has, for each, whether it is done
        by that: it is not if its lease has it no more. Done when that is durable. Fails with
        StorageError."""
        return self.runtime.write(lambda: decide_acknowledged(events, self.views.get, self.epoch))

    def settle_ranges(
        self, consumer: str, answers: Mapping[int, Sequence[RangeAnswer]]
    ) -> Promise[dict[int, CoordinatorError]]:
        """Record what a consumer answers about ranges of positions, by view, ascending and not empty, for
        whichever of its leases has them. The value has the views of which no answer counts, because one is
        wrong: InvalidRecordState, InvalidRequest, UnknownSubscription. Done when the others are durable.
        Fails with StorageError."""

        def decide_answers() -> tuple[Sequence[msgspec.Struct], dict[int, CoordinatorError]]:
            context = self._context()
            decision = decide_ranges(consumer, answers, self.views.get, context)
            decision.renew(self.lock_time.now_ms())
            return decision.records, decision.errors

        return self.runtime.write(decide_answers)

    def _context(self) -> DecisionContext:
        return DecisionContext(
            self.epoch,
            self.known_epochs,
            self._clock.wall_ms(),
            self._rng.uniform(-1, 1),
            lambda view: self._by_id[view.subscription].settings.has_dead_letters,
        )

    def release_expired(self, views: Iterable[SubscriptionView] | None = None) -> Promise[int]:
        """Give back the events of these views, or of all, whose lease has expired, as failures. The value is
        their number. Fails with StorageError."""
        now_ms = self.lock_time.now_ms()
        chosen = self.views.all() if views is None else views
        return self.release([(view, view.sequence.expired(now_ms)) for view in chosen], counts=True)

    def detach(
        self, consumer: str, *, counts: bool, views: Iterable[SubscriptionView] | None = None
    ) -> Promise[int]:
        """Give back the events of these views, or of all, that a consumer has who is there no more; `counts`:
        as failures. The value is their number. Fails with StorageError."""
        chosen = self.views.all() if views is None else views
        leases = ((view, view.sequence.detach(consumer)) for view in chosen)
        return release_in_turns(self._clock, leases, lambda part: self.release(part, counts=counts))

    def release(
        self, leases: Iterable[tuple[SubscriptionView, Sequence[DeliveryLease]]], *, counts: bool
    ) -> Promise[int]:
        """Give back the events of leases, in one turn of the event loop; `counts`: as failures. The value is
        their number. Fails with StorageError."""

        def decide_release() -> tuple[Sequence[msgspec.Struct], int]:
            context = self._context()
            records: list[ViewRecord] = []
            total = 0
            for view, part in leases:
                runs = sorted(run for lease in part for run in view.sequence.releasable(lease.id, lease.runs))
                if runs:
                    total += count_positions(runs)
                    records += release_records(view, runs, counts, None, context)
            return records, total

        return self.runtime.write(decide_release)
