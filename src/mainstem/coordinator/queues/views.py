"""The views of all subscriptions, as far as records change them, and their snapshots.

Owns: which views there are, the index by place, topic and subscription, and applying records to them. A walk
over all views for a snapshot copies a view only when a record is about to change it. Refuses: decisions
(`settlements.py`), requests (`subscriptions.py`), and how a view works (`mainstem.queues`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import NamedTuple, TypeAlias, TypeVar
from uuid import UUID
from weakref import WeakSet

from mainstem.coordinator.errors import UnknownSubscription
from mainstem.coordinator.queues.delay_store import DelayStore
from mainstem.coordinator.queues.reasons import EventReasons
from mainstem.coordinator.queues.records import (
    CursorMarked,
    EventDeadLettered,
    EventsAcked,
    EventsCarried,
    EventsDelayed,
    EventsDropped,
    EventsReason,
    EventsRedriven,
    EventsRejecting,
    EventsReleased,
    EventsScheduled,
    ViewCut,
    ViewEnded,
    ViewExempt,
    ViewPage,
    ViewRecord,
    ViewScanned,
    ViewSought,
    ViewStarted,
    ViewState,
    ViewTrimmed,
    ViewWaiting,
    ViewWoken,
    encoded,
)
from mainstem.coordinator.runtime.records import StateDamaged
from mainstem.queues.delay_run import DamagedDelayRun
from mainstem.queues.ordered_view import OrderedView
from mainstem.queues.pages import PositionState
from mainstem.queues.priority_view import PriorityView
from mainstem.queues.rules import DeliveryRules
from mainstem.queues.runs import POSITION_END, Run, complement, count_positions
from mainstem.queues.view import SequenceView
from mainstem.queues.view_types import PageState, ViewHead, ViewSnapshot
from mainstem.queues.waits import WaitHeap, WaitingPositions

K = TypeVar("K")

CARRIED_OF_RECORD = 1_000
"""Carried events in a record, at most."""
EXEMPT_OF_RECORD = 10_000
"""Runs of redriven positions in a record, at most."""

Place: TypeAlias = tuple[int, UUID, int]
"""A subscription's id, a topic's id and a partition."""


class CarriedEvent(NamedTuple):
    """The copy of an event that outlives its segment."""

    offset: int
    """In the topic of carried events."""
    arrived_ms: int
    """When the event arrived."""


class SubscriptionView:
    """A subscription's view of a partition."""

    __slots__ = ("carried", "durable_mark", "id", "partition", "sequence", "subscription", "topic_id")

    def __init__(self, id_: int, place: Place, sequence: SequenceView) -> None:
        self.id = id_
        """No other view, and no subscription, has or had this number."""
        self.subscription, self.topic_id, self.partition = place
        self.sequence = sequence
        """The states of its positions. Only records change what of it survives a restart."""
        self.carried: dict[int, CarriedEvent] = {}
        """The positions that are not done and whose events have copies, which outlive their segments."""
        self.durable_mark = 0
        """Deliveries below are covered by a durable mark, for what is known here: see `CursorMarked`."""

    @property
    def place(self) -> Place:
        """What it is a view of."""
        return self.subscription, self.topic_id, self.partition

    def carried_below(self, end: int) -> list[int]:
        """The carried positions below `end`, ascending."""
        return sorted(position for position in self.carried if position < end)

    def carry(self, events: Iterable[tuple[int, int, int]]) -> None:
        """Apply `EventsCarried`."""
        for position, offset, arrived_ms in events:
            if offset < 0:
                self.carried.pop(position, None)
            else:
                self.carried[position] = CarriedEvent(offset, arrived_ms)
        self.sequence.apply_carried(position for position, _, _ in events)

    def forget_carried(self, record: ViewRecord) -> None:
        """A record was applied to the sequence: forget the copies of events that it lets be done."""
        match record:
            case EventsAcked() | EventsDropped():
                self._forget(record.runs)
            case EventDeadLettered(position=position):
                self.carried.pop(position, None)
            case ViewSought():
                self.carried.clear()
            case ViewTrimmed(start=start, with_carried=True):
                self._forget([(0, start)])
            case ViewCut(end=end):
                self._forget([(end, POSITION_END)])

    def _forget(self, runs: Iterable[Run]) -> None:
        for first, end in runs:
            if end - first == 1:
                self.carried.pop(first, None)
            else:
                for position in [position for position in self.carried if first <= position < end]:
                    del self.carried[position]


class ViewCopy(NamedTuple):
    """What of a view survives a restart, at a moment."""

    sequence: ViewSnapshot
    carried: dict[int, CarriedEvent]
    exempt: list[Run]
    woken: list[Run]

    @classmethod
    def of(cls, view: SubscriptionView) -> ViewCopy:
        """The view as it is now."""
        sequence = view.sequence
        return cls(sequence.snapshot(), dict(view.carried), sequence.exempt, sequence.woken)


class ViewWalk:
    """A walk over all views, as they were when it began."""

    def __init__(self, views: dict[int, SubscriptionView]) -> None:
        self._left = dict(views)
        self._copied: dict[int, ViewCopy] = {}

    def about_to_change(self, view: SubscriptionView) -> None:
        """A record changes the view next: copy it, if the walk has not passed it."""
        if self._left.get(view.id) is view and view.id not in self._copied:
            self._copied[view.id] = ViewCopy.of(view)

    def records(self) -> Iterator[ViewRecord]:
        """The records of all views."""
        while self._left:
            view = self._left.pop(next(iter(self._left)))
            copied = self._copied.pop(view.id) if view.id in self._copied else ViewCopy.of(view)
            yield from _records_of(view, copied)


def _records_of(view: SubscriptionView, copied: ViewCopy) -> Iterator[ViewRecord]:
    for page in copied.sequence.pages:
        yield ViewPage(view.id, page.index, page.data)
    try:
        for waiting in copied.sequence.waiting:
            yield ViewWaiting(view.id, waiting)
    except DamagedDelayRun as error:
        raise StateDamaged(str(error)) from None
    head = copied.sequence.head
    yield ViewState(view.id, *view.place, head.start, head.scanned, head.marked, head.ready)
    exempt = iter(copied.exempt)
    while runs := list(islice(exempt, EXEMPT_OF_RECORD)):
        yield ViewExempt(view.id, *encoded(runs))
    if copied.woken:
        yield ViewWoken(view.id, *encoded(copied.woken))
    carried = iter(copied.carried.items())
    while some := tuple((position, *event) for position, event in islice(carried, CARRIED_OF_RECORD)):
        yield EventsCarried(view.id, some)


class SubscriptionViews:
    """All views. Only `apply` makes, changes and removes them; see `SequenceView` for what is soft."""

    def __init__(self) -> None:
        self._walks: WeakSet[ViewWalk] = WeakSet()
        self.delays: DelayStore | None = None
        """Where the times are of events that wait for longer; None: in memory."""
        self.clear()

    def new_waits(self, view_id: int) -> WaitingPositions:
        """The index of what waits in a view; it is empty."""
        return WaitHeap() if self.delays is None else self.delays.new_index(view_id)

    def clear(self) -> None:
        """Forget all views. A walk is over."""
        if self.delays is not None:
            self.delays.clear()
        self._by_id: dict[int, SubscriptionView] = {}
        self._by_place: dict[Place, SubscriptionView] = {}
        self._by_topic: dict[UUID, dict[int, SubscriptionView]] = {}
        self._by_partition: dict[tuple[UUID, int], dict[int, SubscriptionView]] = {}
        self._by_subscription: dict[int, dict[int, SubscriptionView]] = {}
        self._parts: dict[int, tuple[list[PageState], WaitingPositions]] = {}
        """Pages and waiting positions of views whose state comes next in the snapshot that is loaded."""
        self.given_up: Counter[tuple[int, int]] = Counter()
        """(subscription, reason) -> events that were given up since the state was loaded."""
        self.newly_given_up: Counter[tuple[int, int]] = Counter()
        """The same since the service, which counts what it gives up itself, last emptied it."""
        self.reasons = EventReasons()
        """What consumers said about events that they gave back or rejected."""
        self.forgotten = 0
        """Positions that were cut off since the state was loaded, because their events were lost."""

    # --- reading ------------------------------------------------------------------------------------------

    def get(self, view_id: int) -> SubscriptionView | None:
        """The view with this number."""
        return self._by_id.get(view_id)

    def find(self, place: Place) -> SubscriptionView | None:
        """The view of a place."""
        return self._by_place.get(place)

    def require(self, place: Place) -> SubscriptionView:
        """The view of a place, which was there. UnknownSubscription."""
        view = self._by_place.get(place)
        if view is None:
            raise UnknownSubscription("the subscription or the topic was deleted meanwhile")
        return view

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._by_id)

    def all(self) -> list[SubscriptionView]:
        """All views."""
        return list(self._by_id.values())

    def of_topic(self, topic_id: UUID) -> list[SubscriptionView]:
        """The views of a topic's partitions."""
        return list(self._by_topic.get(topic_id, {}).values())

    def of_partition(self, topic_id: UUID, partition: int) -> list[SubscriptionView]:
        """The views of a partition."""
        return list(self._by_partition.get((topic_id, partition), {}).values())

    def of_subscription(self, subscription: int) -> list[SubscriptionView]:
        """The views of a subscription, by its id."""
        return list(self._by_subscription.get(subscription, {}).values())

    def count_of(self, subscription: int) -> int:
        """How many views a subscription has."""
        return len(self._by_subscription.get(subscription, ()))

    def walk(self) -> Iterator[ViewRecord]:
        """Records that make the present views from nothing. They stay those of this moment, whatever is
        applied meanwhile."""
        walk = ViewWalk(self._by_id)
        self._walks.add(walk)
        return chain(walk.records(), self.reasons.records())

    # --- records ------------------------------------------------------------------------------------------

    def start(self, record: ViewStarted, rules: DeliveryRules) -> None:
        """Apply the record that begins a view."""
        place = record.subscription, record.topic_id, record.partition
        sequence = _sequence_type(rules)(rules, record.position, self.new_waits(record.view))
        self._put(SubscriptionView(record.view, place, sequence))

    def restore(self, record: ViewState, rules: DeliveryRules) -> None:
        """Apply the record that ends a view in a snapshot. ValueError if the view is damaged."""
        pages, waits = self._part(record.view)
        del self._parts[record.view]
        head = ViewHead(record.start, record.scanned, record.marked, record.ready)
        sequence = _sequence_type(rules).restore(rules, head, pages, waits=waits)
        place = record.subscription, record.topic_id, record.partition
        self._put(SubscriptionView(record.view, place, sequence))

    def _put(self, view: SubscriptionView) -> None:
        assert view.id not in self._by_id, "the number of a view is not used again"
        assert view.place not in self._by_place, "a subscription has one view of a partition"
        self._by_id[view.id] = self._by_place[view.place] = view
        self._by_topic.setdefault(view.topic_id, {})[view.id] = view
        self._by_partition.setdefault((view.topic_id, view.partition), {})[view.id] = view
        self._by_subscription.setdefault(view.subscription, {})[view.id] = view

    def replace(self, view: SubscriptionView, sequence: SequenceView) -> None:
        """Let another sequence be that of a view, which begins anew."""
        for walk in self._walks:
            walk.about_to_change(view)
        waits = view.sequence.waits
        waits.clear()
        sequence.waits = waits  # nothing waits in a view that begins anew
        view.sequence = sequence
        done = [place for place in view.carried if sequence.state(place) is PositionState.DONE]
        for position in done:
            del view.carried[position]
        sequence.apply_carried(view.carried)  # they were found by a scan that the sequence may not have had
        self.reasons.forget_view(view.id)

    def remove(self, view_id: int) -> None:
        """Remove a view."""
        view = self._by_id.pop(view_id)
        for walk in self._walks:
            walk.about_to_change(view)
        view.sequence.waits.clear()  # its runs on the disk
        del self._by_place[view.place]
        _discard(self._by_topic, view.topic_id, view_id)
        _discard(self._by_partition, (view.topic_id, view.partition), view_id)
        _discard(self._by_subscription, view.subscription, view_id)
        self.reasons.forget_view(view_id)

    def apply(self, record: ViewRecord) -> None:
        """Apply a record about a view, but for those that `start` and `restore` apply. KeyError: there is no
        such view; ValueError: the record is damaged."""
        match record:
            case ViewPage(view=view_id, index=index, data=data):
                self._part(view_id)[0].append(PageState(index, data))
            case ViewWaiting(view=view_id, waiting=waiting):
                self._part(view_id)[1].load(waiting)
            case ViewEnded(view=view_id):
                self.remove(view_id)
            case ViewExempt(view=view_id):
                self._by_id[view_id].sequence.apply_exempt(record.runs)
            case ViewWoken(view=view_id):
                self._by_id[view_id].sequence.apply_woken(record.runs)
            case _:
                view = self._by_id[record.view]
                for walk in self._walks:
                    walk.about_to_change(view)
                if isinstance(record, EventsCarried):
                    view.carry(record.events)
                    return
                self._change(view, record)
                if view.carried:
                    view.forget_carried(record)
                if len(self.reasons):
                    self._change_reasons(view, record)

    def _part(self, view_id: int) -> tuple[list[PageState], WaitingPositions]:
        if view_id not in self._parts:
            self._parts[view_id] = [], self.new_waits(view_id)
        return self._parts[view_id]

    def _change(self, view: SubscriptionView, record: ViewRecord) -> None:
        sequence = view.sequence
        match record:
            case EventsAcked():
                sequence.apply_acked(record.runs)
            case EventsReleased(counts=counts, due_ms=due_ms):
                sequence.apply_released(record.runs, counts, due_ms)
            case EventsRejecting() | EventsDropped():
                self._give_up(view, record)
            case EventsRedriven():
                sequence.apply_redriven(record.runs)
            case EventsScheduled() | EventsDelayed():
                _schedule(sequence, record)
            case EventDeadLettered(position=position):
                sequence.apply_dead_lettered(position)
            case ViewSought(position=position):
                sequence.apply_sought(position)
            case ViewScanned(first=first, end=end):
                sequence.apply_scanned(first, end, record.matched)
            case ViewTrimmed(start=start, with_carried=with_carried):
                sequence.apply_trimmed(start, () if with_carried else view.carried_below(start))
            case ViewCut(end=end):
                self.forgotten += sequence.forget_from(end)
            case CursorMarked(position=position):
                sequence.apply_cursor(position)
            case EventsReason():
                for first, end in record.runs:
                    for position in range(first, end):
                        if sequence.state(position) is not PositionState.DONE:
                            self.reasons.put(view.id, position, record.text)
            case _:
                raise AssertionError(f"no record about a view: {record}")

    def _give_up(self, view: SubscriptionView, record: EventsRejecting | EventsDropped) -> None:
        runs = record.runs
        count = count_positions(runs)
        self.given_up[view.subscription, record.reason] += count
        self.newly_given_up[view.subscription, record.reason] += count
        if isinstance(record, EventsRejecting):
            view.sequence.apply_rejecting(runs, record.reason, record.delivered)
        else:
            view.sequence.apply_dropped(runs)

    def _change_reasons(self, view: SubscriptionView, record: ViewRecord) -> None:
        match record:
            case EventsAcked() | EventsDropped() | EventsRedriven():
                self.reasons.forget(view.id, record.runs)
            case EventDeadLettered(position=position):
                self.reasons.forget(view.id, [(position, position + 1)])
            case ViewSought():
                self.reasons.forget_view(view.id)
            case ViewTrimmed(start=start):
                carried = [(position, position + 1) for position in view.carried_below(start)]
                self.reasons.forget(view.id, complement(0, start, carried))
            case ViewCut(end=end):
                self.reasons.forget(view.id, [(end, POSITION_END)])


def _schedule(sequence: SequenceView, record: EventsScheduled | EventsDelayed) -> None:
    if isinstance(record, EventsScheduled):
        sequence.apply_scheduled(record.runs, record.due_ms)
    else:
        sequence.apply_delayed(record.due_ms)


def _sequence_type(rules: DeliveryRules) -> type[SequenceView]:
    if rules.priority_max:
        return PriorityView
    return OrderedView if rules.in_key_order else SequenceView


def _discard(index: dict[K, dict[int, SubscriptionView]], key: K, view_id: int) -> None:
    views = index[key]
    del views[view_id]
    if not views:
        del index[key]
