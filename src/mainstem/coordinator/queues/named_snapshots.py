"""The requests for named snapshots of subscriptions, and the records that they lead to.

Owns: which snapshots there may be, and what a seek to one does to views that it does not know. Refuses: the
content of snapshots (`kept_snapshots.py`), and to know where partitions start: the caller says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from mainstem.clock import Clock
from mainstem.coordinator.errors import SnapshotNameInUse, TooManySnapshots, UnknownSnapshot
from mainstem.coordinator.queues.durable_leases import DurableLeases
from mainstem.coordinator.queues.kept_snapshots import KeptSnapshot, KeptSnapshots
from mainstem.coordinator.queues.records import (
    SnapshotDeleted,
    SnapshotRecord,
    SnapshotRestored,
    SnapshotTaken,
    ViewCut,
    ViewEnded,
    ViewRecord,
    ViewSought,
    ViewTrimmed,
)
from mainstem.coordinator.queues.types import SubscriptionMetadata, check_subscription_name
from mainstem.coordinator.queues.views import SubscriptionView, SubscriptionViews
from mainstem.coordinator.runtime.runtime import Runtime
from mainstem.promise import Promise

SNAPSHOTS_MAX = 100
"""Named snapshots of a subscription."""


class SubscriptionMachine(Protocol):
    """The state machine of subscriptions, as far as snapshots need it."""

    views: SubscriptionViews
    runtime: Runtime
    durable_leases: DurableLeases

    @property
    def next_id(self) -> int:
        """The number of the next record that makes something."""

    def get(self, name: str) -> SubscriptionMetadata:
        """The subscription of that name. UnknownSubscription."""


class NamedSnapshots:
    """The named snapshots of all subscriptions."""

    def __init__(self, machine: SubscriptionMachine, clock: Clock) -> None:
        self.contents = KeptSnapshots()
        """What they contain. For reading."""
        self._machine = machine
        self._clock = clock

    # --- records ------------------------------------------------------------------------------------------

    def apply(self, record: SnapshotRecord) -> None:
        """Apply a record about a snapshot. KeyError: it does not exist."""
        views = self._machine.views
        match record:
            case SnapshotTaken(subscription=subscription):
                self.contents.take(record, views.of_subscription(subscription))
            case SnapshotDeleted(id=id_):
                self.contents.remove(id_)
            case SnapshotRestored(id=id_):
                snapshot = self.contents.get(id_)
                for view in views.of_subscription(snapshot.subscription):
                    known = snapshot.views.get((view.topic_id, view.partition))
                    if known is not None:
                        views.replace(view, known.restored(view))
                        self._machine.durable_leases.forget_view(view.id)
            case _:
                self.contents.load(record)

    def about_to_change(self, record: ViewRecord) -> None:
        """A record about a view is applied next."""
        if isinstance(record, ViewEnded | ViewCut) and (view := self._machine.views.get(record.view)):
            if isinstance(record, ViewCut):
                self.contents.cut(view, record.end)
            else:
                self.contents.end_view(view)

    # --- requests -----------------------------------------------------------------------------------------

    def get(self, name: str, snapshot: str) -> KeptSnapshot:
        """A snapshot of a subscription, which may not be durable yet. UnknownSubscription,
        UnknownSnapshot."""
        known = self.contents.of(self._machine.get(name).id).get(snapshot)
        if known is None:
            raise UnknownSnapshot(f"subscription '{name}' has no snapshot '{snapshot}'")
        return known

    def take(self, name: str, snapshot: str) -> Promise[KeptSnapshot]:
        """Keep what a subscription knows now under a name, by the rules of names of topics. Done when it is
        durable. Fails with UnknownSubscription, InvalidSubscriptionName, SnapshotNameInUse,
        TooManySnapshots, StorageError."""

        def decide() -> tuple[Sequence[msgspec.Struct], None]:
            subscription = self._machine.get(name)
            check_subscription_name(snapshot, "snapshot")
            present = self.contents.of(subscription.id)
            if snapshot in present:
                raise SnapshotNameInUse(f"there is a snapshot '{snapshot}' already")
            if len(present) >= SNAPSHOTS_MAX:
                raise TooManySnapshots(f"subscription '{name}' has {SNAPSHOTS_MAX} snapshots already")
            now_ms = self._clock.wall_ms()
            return [SnapshotTaken(self._machine.next_id, subscription.id, snapshot, now_ms)], None

        return self._machine.runtime.write(decide).map(lambda _: self.get(name, snapshot))

    def delete(self, name: str, snapshot: str) -> Promise[None]:
        """Keep a snapshot no more. Done when that is durable. Fails with UnknownSubscription,
        UnknownSnapshot, StorageError."""
        return self._machine.runtime.write(lambda: ([SnapshotDeleted(self.get(name, snapshot).id)], None))

    def restore(
        self, name: str, snapshot: str, log_starts: Mapping[int, int]
    ) -> Promise[list[SubscriptionView]]:
        """Set the views of a subscription back to a snapshot: what was done then is done, and all else is
        ready, as if it had never been delivered. `log_starts`: of each view (by number) where its partition
        starts now; a view that the snapshot does not know begins there. The value has the views. Done when
        that is durable. Fails with UnknownSubscription, UnknownSnapshot, StorageError."""

        def decide() -> tuple[Sequence[msgspec.Struct], list[SubscriptionView]]:
            known = self.get(name, snapshot)
            records: list[msgspec.Struct] = [SnapshotRestored(known.id)]
            views = self._machine.views.of_subscription(known.subscription)
            for view in views:
                start = log_starts.get(view.id, view.sequence.start)
                if (view.topic_id, view.partition) not in known.views:
                    records.append(ViewSought(view.id, start))
                elif view.id in log_starts:
                    records.append(ViewTrimmed(view.id, start))
            return records, views

        return self._machine.runtime.write(decide)
