"""Leases that survive a restart, of the subscriptions whose settings ask for it.

Such a lease is recorded before its events are delivered, and again when it is extended. After a restart the
consumer has its events as before, until the same deadline by the clock of the machine: no other receives
them, and the tokens of their deliveries count. What is recorded of a lease is void for events that were given
back, given up or delivered anew since.

Owns: the records of leases, what is known of them while records are replayed, and which leases of this life
are those of an earlier one. Refuses: leases themselves (`mainstem.queues.leases`), and clocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from mainstem.coordinator.queues.lock_time import LockTime
from mainstem.coordinator.queues.records import (
    EventsLeased,
    EventsRedriven,
    EventsRejecting,
    EventsReleased,
    ViewCut,
    ViewEnded,
    ViewSought,
    encoded,
)
from mainstem.coordinator.queues.settlements import difference
from mainstem.coordinator.queues.views import SubscriptionView, SubscriptionViews
from mainstem.queues.leases import DeliveryLease
from mainstem.queues.pages import PositionState
from mainstem.queues.runs import POSITION_END, Run, merge_runs
from mainstem.queues.settings import SubscriptionSettings

SWEPT_MIN = 10_000
"""Replayed leases before those are looked for whose events are done."""


class DurableLeases:
    """The durable leases of all views."""

    def __init__(
        self,
        views: SubscriptionViews,
        settings_of: Callable[[SubscriptionView], SubscriptionSettings],
        lock_time: LockTime,
    ) -> None:
        self._views = views
        self._lock_time = lock_time
        self._settings_of = settings_of
        self.reset()

    def reset(self) -> None:
        """The state is loaded: records are replayed until `restore`."""
        self._replayed: dict[int, dict[int, EventsLeased]] | None = {}
        """View -> lease -> the last record of it; None: it was loaded."""
        self._sweep_next = SWEPT_MIN
        self._epochs: dict[tuple[int, int], int] = {}
        """(view, lease) -> epoch, of those that are of an earlier life of the server."""

    # --- records ------------------------------------------------------------------------------------------

    def records_of(
        self, view: SubscriptionView, leases: Iterable[DeliveryLease], epoch: int
    ) -> list[EventsLeased]:
        """The records of what these leases have, and until when; none if their view has no durable ones. A
        lease without a deadline ends with its consumer."""
        if not self._settings_of(view).durable_leases:
            return []
        records: list[EventsLeased] = []
        for lease in leases:
            runs = view.sequence.releasable(lease.id, lease.runs)
            if lease.deadline_ms is None or not runs:
                continue
            until_ms = self._lock_time.shown_ms(lease.deadline_ms)
            made_in = self._epochs.get((view.id, lease.origin), epoch)
            base, data = encoded(runs)
            origin = lease.origin if lease.origin != lease.id else 0
            record = EventsLeased(
                view.id, base, data, lease.id, made_in, lease.consumer, lease.lock_ms, until_ms, origin
            )
            records.append(record)
        return records

    def all_records(self, epoch: int) -> Iterator[EventsLeased]:
        """Those of all leases, for a snapshot: as they are when they are asked for. Who replays it also has
        the records of what changed meanwhile."""
        for view in self._views.all():
            if len(view.sequence.leases):
                yield from self.records_of(view, list(view.sequence.leases.by_word.values()), epoch)

    def apply(self, record: EventsLeased) -> None:
        """A lease was made or extended. While serving there is nothing to do."""
        if self._replayed is None:
            return
        self._replayed.setdefault(record.view, {})[record.lease] = record
        if sum(map(len, self._replayed.values())) >= self._sweep_next:
            self._sweep()

    def note(self, record: Any) -> None:
        """Another record is applied next: of what it gives back, no earlier lease counts."""
        if not self._replayed:
            return
        match record:
            case EventsReleased() | EventsRejecting() | EventsRedriven():
                self._take(record.view, record.runs)
            case ViewCut(view=view, end=end):
                self._take(view, [(end, POSITION_END)])
            case ViewSought(view=view) | ViewEnded(view=view):
                self._replayed.pop(view, None)

    def forget_view(self, view: int) -> None:
        """No lease of a view counts any more: it begins anew."""
        if self._replayed is not None:
            self._replayed.pop(view, None)

    def _take(self, view: int, runs: list[Run]) -> None:
        leases = (self._replayed or {}).get(view, {})
        for id_, record in list(leases.items()):
            had = record.runs
            left = difference(had, merge_runs(runs))
            if left != had:
                self._keep(leases, id_, record, left)

    @staticmethod
    def _keep(leases: dict[int, EventsLeased], id_: int, record: EventsLeased, left: list[Run]) -> None:
        if left:
            base, data = encoded(left)
            leases[id_] = msgspec.structs.replace(record, base=base, data=data)
        else:
            del leases[id_]

    def _sweep(self) -> None:
        """Forget the leases whose events are done, so that those of a long log do not pile up."""
        replayed = self._replayed or {}
        for view_id, leases in list(replayed.items()):
            view = self._views.get(view_id)
            for id_, record in list(leases.items()):
                if view is not None and not _outstanding(view, record.runs):
                    del leases[id_]
            if not leases:
                del replayed[view_id]
        self._sweep_next = max(SWEPT_MIN, 2 * sum(map(len, replayed.values())))

    # --- after a load -------------------------------------------------------------------------------------

    def restore(self, wall_ms: int) -> list[tuple[SubscriptionView, DeliveryLease]]:
        """All records are replayed: lease to their consumers again what they still have, and until when.
        A wall clock that was set back makes no lease longer than it was. Returns the leases."""
        now_ms = self._lock_time.now_ms()
        replayed, self._replayed = self._replayed or {}, None
        restored: list[tuple[SubscriptionView, DeliveryLease]] = []
        for view_id, leases in replayed.items():
            view = self._views.get(view_id)
            if view is None or not self._settings_of(view).durable_leases:
                continue
            newer: list[Run] = []
            left: dict[int, list[Run]] = {}
            for id_ in sorted(leases, reverse=True):
                runs = leases[id_].runs
                left[id_] = difference(runs, newer)
                newer = merge_runs([*newer, *runs])
            for id_, record in sorted(leases.items()):
                lock_ms = min(record.until_ms - wall_ms, record.lock_ms)
                if lock_ms > 0 and left[id_]:
                    lease = view.sequence.restore_lease(id_, record.consumer, left[id_], now_ms, lock_ms)
                    if lease is not None:
                        origin = record.origin or id_
                        if origin != id_:
                            view.sequence.leases.note_origin(lease, origin)
                        self._epochs[view_id, origin] = record.epoch
                        restored.append((view, lease))
        return restored

    def is_present(self, view: int, lease: int, epoch: int) -> bool:
        """Whether a lease of this epoch, which is not the present one, goes on in it."""
        return self._epochs.get((view, lease)) == epoch

    @property
    def has_restored(self) -> bool:
        """Whether there are leases of an earlier life of the server."""
        return bool(self._epochs)


def _outstanding(view: SubscriptionView, runs: list[Run]) -> bool:
    """Whether some of these positions are not done."""
    state = view.sequence.state
    return any(
        state(position) is not PositionState.DONE for first, end in runs for position in range(first, end)
    )
