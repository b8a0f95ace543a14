"""Leases of attached consumers, who do not wait for what others have answered.

A lease by `Subscriptions.acquire` is done when all of the state log before it is durable, and so when the
answers of this turn are. Attached consumers answer all the time: theirs is done at once where a mark that
covers it is durable already. What led to the state of an event may be lost with the power then, and is
repeated: an event that was acknowledged is never lost by that, and one that was delivered has an attempt
above 1 afterwards.

Owns: writing marks ahead of what is delivered. Refuses: everything else of a lease, which is that of the
view.
"""

from __future__ import annotations

from mainstem.coordinator.queues.records import CursorMarked, QueueEpoch
from mainstem.coordinator.queues.subscriptions import MARK_AHEAD, Subscriptions
from mainstem.coordinator.queues.views import SubscriptionView
from mainstem.promise import Promise
from mainstem.queues.leases import DeliveryLease

TAIL_MARK_AHEAD = 65_536
"""Positions by which a mark is ahead where all that has arrived is delivered: none of them exists yet, and a
start takes back what of a mark is beyond the end. It is written anew when half of them are delivered."""


def acquire_unwaited(
    machine: Subscriptions, view: SubscriptionView, consumer: str, max_events: int, end: int
) -> Promise[DeliveryLease | None]:
    """As `Subscriptions.acquire`, without a deadline. `end`: that of the sequence. Fails with
    StorageError."""
    runtime = machine.runtime
    if runtime.fenced is not None or machine.views.get(view.id) is not view:
        return runtime.read(None)
    sequence = view.sequence
    if not machine.in_flight.has_room(view):
        return Promise.resolved(None)
    lease = sequence.acquire(consumer, max_events, machine.lock_time.now_ms(), 0)
    if lease is None:
        return Promise.resolved(None)
    machine.in_flight.note(view, lease)
    following = lease.runs[-1][1]
    ahead = TAIL_MARK_AHEAD if following + MARK_AHEAD >= end else MARK_AHEAD
    is_known = machine.epoch in machine.known_epochs
    if is_known and following + ahead // 2 <= sequence.marked:
        marked = None
    else:
        records = [] if is_known else [QueueEpoch(machine.epoch)]
        mark = following + ahead
        marked = runtime.write(lambda: ([*records, CursorMarked(view.id, mark)], lease))

        def on_durable(done: Promise[DeliveryLease]) -> None:
            if done.error is None:
                view.durable_mark = max(view.durable_mark, mark)

        marked.then(on_durable)
    if following <= view.durable_mark:
        return Promise.resolved(lease)
    if marked is None:
        marked = runtime.read(lease)
    leased: Promise[DeliveryLease | None] = marked.map(lambda _: lease)
    leased.then(lambda done: machine.withdraw(view, lease.id, lease.runs) if done.error else None)
    return leased
