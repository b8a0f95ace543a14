"""What subscriptions still need of a partition whose oldest segments retention is to delete.

Owns: which events are pinned (`SubscriptionSettings.pin_ms`), and how many events that are not done are below
an offset. Refuses: to delete, to copy and to record anything.

Invariant (I16): the log start offset that `QueueRetention.limit` allows is not above an event that is
outstanding in a view of a subscription that pins it, neither in the state in memory nor in the durable one.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol
from uuid import UUID

from mainstem.clock import Clock
from mainstem.coordinator.queues.routed_floors import RoutedFloors, RoutedNeed
from mainstem.coordinator.queues.types import SubscriptionMetadata
from mainstem.coordinator.queues.views import SubscriptionView, SubscriptionViews
from mainstem.log.partition.retention import LogStartLimit
from mainstem.queues.pages import PositionState
from mainstem.queues.runs import Run, complement

CARRIED_OF_SEGMENT = 10
"""At most every tenth event of a segment is carried over; if more are pinned, the segment stays."""
CARRIED_MAX = 10_000
"""Events of a partition that are carried over in a run of retention."""
CARRIED_OF_VIEW_MAX = 100_000
"""A view with more carried events, 200 bytes each, pins its segments instead."""


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
        routed: RoutedFloors,
    ) -> None:
        """`subscription_of` returns the subscription with an id."""
        self.routed = routed
        self.pinned: dict[UUID, dict[int, PinnedEvents]] = {}
        """Topic -> partition -> what the last run of retention kept of it."""
        self.drops_pinned: Callable[[UUID], bool] = lambda _: False
        """Whether pins of a topic do not count at the moment."""
        self._views = views
        self._subscription_of = subscription_of
        self._clock = clock

    def limit(self, partition: RetainedPartition, log_start: int, end: int) -> LogStartLimit:
        """What subscriptions keep of a partition between two offsets: the first event that is pinned now, or
        is at the call, and all from `end` on. Its caller waits in between until the present state is durable.
        A call notes in `pinned` what is kept."""
        before = self.first_pinned(partition, log_start, end)

        def limit(log_start: int, allowed: int) -> int:
            allowed = min(allowed, end)
            pinned = self.first_pinned(partition, log_start, allowed)
            first = allowed if pinned is None else pinned.first
            if before is not None and before.first < first:
                pinned = replace(before, allowed=allowed)
            if pinned is None:
                self.forget(partition)
                return allowed
            self.pinned.setdefault(partition.topic_id, {})[partition.index] = pinned
            return pinned.first

        return limit

    def forget(self, partition: RetainedPartition) -> None:
        """Nothing of a partition is pinned that its settings allow to delete."""
        partitions = self.pinned.get(partition.topic_id, {})
        partitions.pop(partition.index, None)
        if not partitions:
            self.pinned.pop(partition.topic_id, None)

    def first_needed(self, partition: RetainedPartition, first: int, end: int) -> int:
        """The first event between two offsets that is not done in some view; `end` if there is none."""
        for view in self._views.of_partition(partition.topic_id, partition.index):
            run = next(dependent_runs(view, first, end), None)
            end = end if run is None else run[0]
        for need in self.routed.needs(partition.topic_id, partition.index):
            end = min(end, self._floor(need, first))
        return end

    def _floor(self, need: RoutedNeed, log_start: int) -> int:
        noted = self.routed.noted(need)
        return log_start if noted is None else max(log_start, noted.floor)

    def preview_limit(self, share: float, partition: RetainedPartition, log_start: int, allowed: int) -> int:
        """The first event that is pinned, or `allowed` if there is none before it, if each event is pinned
        for this share of its time."""
        pinned = self.first_pinned(partition, log_start, allowed, share)
        return allowed if pinned is None else pinned.first

    def first_pinned(
        self, partition: RetainedPartition, log_start: int, allowed: int, share: float = 1.0
    ) -> PinnedEvents | None:
        """The first event between two offsets that is pinned; None if none is. See `preview_limit`."""
        first, pinned = allowed, None
        for view, floor in self.pins(partition, share):
            run = next(dependent_runs(view, max(log_start, floor), first), None)
            if run is not None:
                first = run[0]
                pinned = PinnedEvents(view.subscription, first, allowed)
        for need in self.routed_pins(partition):
            since_ms = self.pinned_since_ms(need.view, share)
            floor = max(
                self._floor(need, log_start), partition.offset_for_arrival(since_ms) if since_ms else 0
            )
            if floor < first:
                first, pinned = floor, PinnedEvents(need.view.subscription, floor, allowed)
        return pinned

    def routed_pins(self, partition: RetainedPartition) -> Iterator[RoutedNeed]:
        """The routed queues that pin events of a partition."""
        if not self.drops_pinned(partition.topic_id):
            for need in self.routed.needs(partition.topic_id, partition.index):
                if self.pin_ms(need.view):
                    yield need

    def has_pins(self, partition: RetainedPartition) -> bool:
        """Whether a subscription pins events of a partition."""
        return bool(self.pins(partition)) or next(self.routed_pins(partition), None) is not None

    def has_needs(self, partition: RetainedPartition) -> bool:
        """Whether there is something to find out before retention runs in a partition: what is pinned there,
        or what routed queues need."""
        needs = self.routed.needs(partition.topic_id, partition.index)
        return next(needs, None) is not None or bool(self.pins(partition))

    def plan_carrying(
        self,
        partition: RetainedPartition,
        segments: Sequence[Run],
        log_start: int,
        routed: Mapping[int, Sequence[SubscriptionView]] | None,
    ) -> dict[int, list[SubscriptionView]]:
        """Which events to carry over, so that the oldest of these segments, (first offset, end), can be
        deleted: those that are pinned in segments that have few of them, up to the first segment that has
        more. Each offset with the views that pin it. `routed`: those of routed queues; None: these are too
        many."""
        pins = self.pins(partition)
        carried: dict[int, list[SubscriptionView]] = {}
        views = [view for view, _ in pins] + [need.view for need in self.routed_pins(partition)]
        if not views or routed is None or not all(map(self._may_carry, views)):
            return carried
        for first, end in segments:
            limit = min((end - first) // CARRIED_OF_SEGMENT, CARRIED_MAX - len(carried))
            some = _few_positions(pins, max(first, log_start), end, limit)
            if some is None:
                break
            for offset in (offset for offset in routed if first <= offset < end):
                some.setdefault(offset, []).extend(routed[offset])
            if len(some) > limit:
                break
            carried |= some
        return carried

    def _may_carry(self, view: SubscriptionView) -> bool:
        return len(view.carried) < CARRIED_OF_VIEW_MAX

    def pins(self, partition: RetainedPartition, share: float = 1.0) -> list[tuple[SubscriptionView, int]]:
        """The views that pin events of a partition, each with the offset from which on it pins them: earlier
        ones arrived longer ago than the subscription asks to keep."""
        pins: list[tuple[SubscriptionView, int]] = []
        if self.drops_pinned(partition.topic_id):
            return pins
        for view in self._views.of_partition(partition.topic_id, partition.index):
            if self.pin_ms(view):
                since_ms = self.pinned_since_ms(view, share)
                pins.append((view, partition.offset_for_arrival(since_ms) if since_ms else 0))
        return pins

    def pinned_since_ms(self, view: SubscriptionView, share: float = 1.0) -> int:
        """The arrival of the oldest events that a view pins, if it pins some; 0: it pins all."""
        pin_ms = self.pin_ms(view)
        return 0 if pin_ms < 0 else max(1, self._clock.wall_ms() - int(pin_ms * share))

    def pin_ms(self, view: SubscriptionView) -> int:
        """How long the subscription of a view pins events: see `SubscriptionSettings.pin_ms`."""
        subscription = self._subscription_of(view.subscription)
        return 0 if subscription is None else subscription.settings.pin_ms


def _few_positions(
    pins: Sequence[tuple[SubscriptionView, int]], first: int, end: int, limit: int
) -> dict[int, list[SubscriptionView]] | None:
    """The pinned positions of a segment with their views; None if there are more than `limit`."""
    positions: dict[int, list[SubscriptionView]] = {}
    for view, floor in pins:
        for low, high in dependent_runs(view, max(first, floor), end):
            if high - low > limit:
                return None
            for position in range(low, high):
                positions.setdefault(position, []).append(view)
            if len(positions) > limit:
                return None
    return positions


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


def dependent_runs(view: SubscriptionView, first: int, end: int) -> Iterator[Run]:
    """As `undone_runs`, without the events that are carried over: those that are lost with their segment."""
    if not view.carried:
        yield from undone_runs(view, first, end)
        return
    carried = sorted(position for position in view.carried if first <= position < end)
    for low, high in undone_runs(view, first, end):
        inside = carried[bisect_left(carried, low) : bisect_left(carried, high)]
        yield from complement(low, high, [(position, position + 1) for position in inside])


def count_dependent(view: SubscriptionView, end: int) -> int:
    """How many positions of a view below `end` are not done, without the events that are carried over."""
    return sum(high - low for low, high in dependent_runs(view, 0, end))
