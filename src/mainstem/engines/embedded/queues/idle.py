"""Freezes the views of subscriptions that are idle: an open page takes 22 KB, a frozen one some 500 bytes.

Owns: which views are idle, and when to look at them, in parts. Refuses: what freezing is (`mainstem.queues`);
a view that is used again opens its pages by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from mainstem.clock import Clock, Timer
from mainstem.coordinator.queues.views import SubscriptionView, SubscriptionViews
from mainstem.turns import run_in_turns

IDLE_S = 60.0
"""A view is idle if it is the same after this time, and no consumer has anything of it."""
COST_OF_TURN = 200
"""Views that are looked at in a turn of the loop, and pages that are frozen."""

Activity: TypeAlias = tuple[object, ...]


class IdleViews:
    """Looks at all views every minute while one of them has open pages."""

    def __init__(self, clock: Clock, views: SubscriptionViews) -> None:
        self._clock = clock
        self._views = views
        self._seen: dict[int, Activity] = {}
        """View -> what it was like when it was looked at; only those that have open pages."""
        self._timer: Timer | None = None
        self._closed = False

    def look_later(self) -> None:
        """A view may have opened pages."""
        if self._timer is None and not self._closed:
            self._timer = self._clock.call_later(IDLE_S, self._look)

    def _look(self) -> None:
        run_in_turns(self._clock, self._freeze_idle(), COST_OF_TURN).then(lambda done: done.result())

    def _freeze_idle(self) -> Iterator[int]:
        before, self._seen = self._seen, {}
        for view in self._views.all():
            sequence = view.sequence
            pages = len(sequence.table.open_pages)
            if not pages:
                yield 1
                continue
            activity = _activity(view)
            if before.get(view.id) == activity and not len(sequence.leases):
                sequence.freeze()
                yield 1 + pages
            else:
                self._seen[view.id] = activity
                yield 1
        self._timer = None
        if self._seen:
            self.look_later()

    def close(self) -> None:
        """Stop looking. Idempotent."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()


def _activity(view: SubscriptionView) -> Activity:
    sequence = view.sequence
    return id(sequence), sequence.counts(), sequence.scanned, sequence.leases.last_id
