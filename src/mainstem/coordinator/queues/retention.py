"""What subscriptions still need of a partition whose oldest segments retention is to delete.

Owns: which events are pinned (`SubscriptionSettings.pin_ms`), and how many events that are not done are below
an offset. Refuses: to delete, to copy and to record anything.

Invariant (I16): the log start offset that `QueueRetention.limit` allows is not above an event that is
outstanding in a view of a subscription that pins it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from mainstem.clock import Clock
from mainstem.coordinator.queues.types import SubscriptionMetadata
from mainstem.coordinator.queues.views import SubscriptionView, SubscriptionViews
from mainstem.queues.pages import PositionState
from mainstem.queues.runs import Run


class RetainedPartition(Protocol):
    """What retention asks of a `Partition`."""

    topic_id: UUID
    index: int

    def offset_for_arrival(self, wall_ms: int) -> int: ...


@dataclass(frozen=True, slots=True)
class PinnedEvents:
    """Why retention keeps a part of a partition that the settings of its topic allow to delete."""

    subscription: int
    """The subscription that pins the oldest event, by its id."""
    first: int
    """The offset of that event."""
    allowed: int
    """The log start offset that the settings allow."""


class QueueRetention:
    """What the views of all subscriptions mean for retention."""

    def __init__(
        self,
        views: SubscriptionViews,
        subscription_of: Callable[[int], SubscriptionMetadata | None],
        clock: Clock,
    ) -> None:
        """`subscription_of` returns the subscription with an id."""
        self.pinned: dict[tuple[UUID, int], PinnedEvents] = {}
        """Partition -> what the last run of retention kept of it."""
        self._views = views
        self._subscription_of = subscription_of
        self._clock = clock

    def limit(self, partition: RetainedPartition, log_start: int, allowed: int) -> int:
        """See `LogStartLimit`: the first event that is pinned, or `allowed` if there is none before it. Notes
        in `pinned` what is kept."""
        key = partition.topic_id, partition.index
        pinned = self.first_pinned(partition, log_start, allowed)
        if pinned is None:
            self.pinned.pop(key, None)
            return allowed
        self.pinned[key] = pinned
        return pinned.first

    def preview_limit(self, share: float, partition: RetainedPartition, log_start: int, allowed: int) -> int:
        """As `limit`, without a note, if each event is pinned for this share of its time."""
        pinned = self.first_pinned(partition, log_start, allowed, share)
        return allowed if pinned is None else pinned.first

    def first_pinned(
        self, partition: RetainedPartition, log_start: int, allowed: int, share: float = 1.0
    ) -> PinnedEvents | None:
        """The first event between two offsets that is pinned; None if none is. See `preview_limit`."""
        first, pinned = allowed, None
        for view, floor in self.pins(partition, share):
            run = next(undone_runs(view, max(log_start, floor), first), None)
            if run is not None:
                first = run[0]
                pinned = PinnedEvents(view.subscription, first, allowed)
        return pinned

    def pins(self, partition: RetainedPartition, share: float = 1.0) -> list[tuple[SubscriptionView, int]]:
        """The views that pin events of a partition, each with the offset from which on it pins them: earlier
        ones arrived longer ago than the subscription asks to keep."""
        pins: list[tuple[SubscriptionView, int]] = []
        for view in self._views.of_partition(partition.topic_id, partition.index):
            pin_ms = self.pin_ms(view)
            if pin_ms:
                oldest_ms = self._clock.wall_ms() - int(pin_ms * share)
                pins.append((view, 0 if pin_ms < 0 else partition.offset_for_arrival(oldest_ms)))
        return pins

    def pin_ms(self, view: SubscriptionView) -> int:
        """How long the subscription of a view pins events: see `SubscriptionSettings.pin_ms`."""
        subscription = self._subscription_of(view.subscription)
        return 0 if subscription is None else subscription.settings.pin_ms


def undone_runs(view: SubscriptionView, first: int, end: int) -> Iterator[Run]:
    """The runs of positions of a view from `first` to `end` that are not done, those included that the scan
    has not reached. Ascending; runs may touch."""
    sequence = view.sequence
    first = max(first, sequence.start)
    for low, high in sequence.runs_in(PositionState.DONE, first, end):
        if first < low:
            yield first, low
        first = high
    if first < end:
        yield first, end


def count_undone(view: SubscriptionView, end: int) -> int:
    """How many positions of a view below `end` are not done."""
    return sum(high - low for low, high in undone_runs(view, 0, end))
