"""A limit for the events that all consumers of a server have: their leases take memory until they answer.

What is known is an estimate: what was leased since the last count is taken for unanswered, and when that
reaches the limit it is counted anew, over their views, at most once a second. A view of which consumers have
few events always gets more, so that no subscription can keep the others from working.

Owns: the limit and the count. Refuses: the limits of a view, which are its settings.
"""

from __future__ import annotations

from mainstem.clock import Clock
from mainstem.coordinator.queues.views import SubscriptionView, SubscriptionViews
from mainstem.queues.leases import DeliveryLease

IN_FLIGHT_BYTES_MAX = 256 << 20
"""33 million events in few leases, or 260,000 in a lease each."""
LEASE_BYTES, EVENT_BYTES = 1_000, 8
"""What one takes, at most."""
FREE_EVENTS = 100
"""A view of which consumers have fewer gets more, whatever the others have."""
COUNT_S = 1.0
FULL = "consumers have more events than the server has memory for; they have to answer first"
"""For people."""


class DeliveredEventsLimit:
    """The limit, for the views of a state machine."""

    def __init__(self, views: SubscriptionViews, clock: Clock) -> None:
        self._views = views
        self._clock = clock
        self._bytes = 0
        self._counted_s: float | None = None
        self._leased: set[int] = set()
        """The views of which consumers may have events."""

    def has_room(self, view: SubscriptionView) -> bool:
        """Whether events of a view may be leased."""
        if self._bytes < IN_FLIGHT_BYTES_MAX or view.sequence.counts().leased < FREE_EVENTS:
            return True
        now_s = self._clock.monotonic()
        if self._counted_s is None or now_s >= self._counted_s + COUNT_S:
            self._counted_s = now_s
            sizes = {view_id: self._bytes_of(view_id) for view_id in self._leased}
            self._leased = {view_id for view_id, size in sizes.items() if size}
            self._bytes = sum(sizes.values())
        return self._bytes < IN_FLIGHT_BYTES_MAX

    def note(self, view: SubscriptionView, lease: DeliveryLease) -> None:
        """A lease of events of a view was opened."""
        self._bytes += LEASE_BYTES + EVENT_BYTES * lease.left
        self._leased.add(view.id)

    def _bytes_of(self, view_id: int) -> int:
        view = self._views.get(view_id)
        if view is None:
            return 0
        return LEASE_BYTES * len(view.sequence.leases) + EVENT_BYTES * view.sequence.counts().leased
