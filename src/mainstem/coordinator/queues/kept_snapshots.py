"""Named snapshots of subscriptions: what was done at a moment, to which a subscription can be set back.

Owns: their content, which is the pages of the views of that moment, and the views that are made of it. A
snapshot has no leases, due times or counters: everything that was not done then is ready after a seek, as if
it had never been delivered. Its record is small, for the content follows from the records before. Refuses: to
know what retention has deleted since; the caller trims the views.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import TypeAlias
from uuid import UUID

from mainstem.coordinator.queues.records import (
    SnapshotKept,
    SnapshotPage,
    SnapshotRecord,
    SnapshotTaken,
    SnapshotView,
)
from mainstem.coordinator.queues.views import SubscriptionView
from mainstem.queues.pages import (
    DONE,
    DYING,
    PAGE_POSITIONS,
    READY,
    WAITING,
    freeze,
    is_all_ready,
    thaw,
    undone_of,
)
from mainstem.queues.runs import decode_runs
from mainstem.queues.tries import TryCounts
from mainstem.queues.view import SequenceView
from mainstem.queues.view_types import PageState, ViewHead

PartitionPlace: TypeAlias = tuple[UUID, int]
"""A topic's id and a partition."""


class KeptView:
    """What a snapshot has of one view."""

    def __init__(self, head: ViewHead, pages: Iterator[PageState]) -> None:
        self.head = head
        self._unread: Iterator[PageState] | None = pages
        self._pages: list[PageState] = []

    def steps(self) -> Iterator[int]:
        """Encode the pages, which are copies until then; yields the cost, in pages."""
        if self._unread is not None:
            for page in self._unread:
                self._pages.append(PageState(page.index, _plain(page.data)))
                yield 1
            self._unread = None

    @property
    def pages(self) -> list[PageState]:
        """The pages: their positions are ready or done."""
        for _ in self.steps():
            pass
        return self._pages

    def knows_beyond(self, end: int) -> bool:
        """Whether it says something of a position from `end` on."""
        return max(self.head.start, self.head.scanned) > end or any(
            (page.index + 1) * PAGE_POSITIONS > end for page in self.pages
        )

    def outstanding(self, low: int) -> int:
        """How many positions from `low` on, and below the end of its scan, were not done."""
        scanned = self.head.scanned
        runs = decode_runs(self.head.start, self.head.ready)
        count = sum(max(0, end - max(first, low)) for first, end in runs)
        for page in self.pages:
            base = page.index * PAGE_POSITIONS
            first, end = max(low, base), min(scanned, base + PAGE_POSITIONS)
            if end - first == PAGE_POSITIONS:
                count += undone_of(page.data)
            elif first < end:
                count += end - first - thaw(page.data).states.count(DONE, first - base, end - base)
        return count

    def done_ahead(self, low: int) -> int:
        """How many positions from `low` on, and from the end of its scan on, were done: those of a replay,
        which scans nothing itself."""
        low, count = max(low, self.head.scanned), 0
        for page in self.pages:
            base = page.index * PAGE_POSITIONS
            if low < base + PAGE_POSITIONS:
                count += thaw(page.data).states.count(DONE, max(0, low - base))
        return count

    def restored(self, view: SubscriptionView) -> SequenceView:
        """The view as it was, for the place of `view`, whose leases are over."""
        old = view.sequence
        sequence = type(old).restore(old.rules, self.head, self.pages)
        sequence.begin_anew(old)
        return sequence


def _plain(data: bytes) -> bytes:
    """A page in which everything that is not done is ready, and was never delivered."""
    if is_all_ready(data):
        return data
    page = thaw(data)
    page.states = page.states.translate(_READY_INSTEAD)
    page.words = array("I", bytes(4 * PAGE_POSITIONS))
    page.tries = TryCounts()
    return freeze(page, durable=True)


_READY_INSTEAD = bytes(READY if state in (WAITING, DYING) else state for state in range(256))


def kept_view(sequence: SequenceView) -> KeptView:
    """The part of a snapshot that a view is now. Takes as long as a copy of its open pages."""
    copied = sequence.snapshot()
    head = ViewHead(copied.head.start, copied.head.scanned, copied.head.start, copied.head.ready)
    return KeptView(head, iter(copied.pages))


class KeptSnapshot:
    """A snapshot of a subscription."""

    def __init__(self, id_: int, subscription: int, name: str, created_ms: int) -> None:
        self.id = id_
        self.subscription = subscription
        self.name = name
        self.created_ms = created_ms
        self.views: dict[PartitionPlace, KeptView] = {}


class KeptSnapshots:
    """All named snapshots. Only records change them."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget all snapshots."""
        self._by_id: dict[int, KeptSnapshot] = {}
        self._of_subscription: dict[int, dict[str, KeptSnapshot]] = {}
        self._pages: dict[tuple[int, PartitionPlace], list[PageState]] = {}
        """Pages of views that come next in the state snapshot that is loaded."""

    def of(self, subscription: int) -> dict[str, KeptSnapshot]:
        """The snapshots of a subscription, by name."""
        return self._of_subscription.get(subscription, {})

    def get(self, id_: int) -> KeptSnapshot:
        """The snapshot with this number. KeyError."""
        return self._by_id[id_]

    def put(self, snapshot: KeptSnapshot) -> None:
        """There is another one."""
        self._by_id[snapshot.id] = snapshot
        self._of_subscription.setdefault(snapshot.subscription, {})[snapshot.name] = snapshot

    def remove(self, id_: int) -> None:
        """A snapshot is deleted."""
        snapshot = self._by_id.pop(id_)
        names = self._of_subscription[snapshot.subscription]
        del names[snapshot.name]
        if not names:
            del self._of_subscription[snapshot.subscription]

    def remove_subscription(self, subscription: int) -> None:
        """A subscription is deleted."""
        for snapshot in list(self.of(subscription).values()):
            self.remove(snapshot.id)

    def end_view(self, view: SubscriptionView) -> None:
        """A view ended: snapshots forget what they know of its partition."""
        for snapshot in self.of(view.subscription).values():
            snapshot.views.pop((view.topic_id, view.partition), None)

    def cut(self, view: SubscriptionView, end: int) -> None:
        """The partition of a view ends at `end`, because events were lost: see `forget_from`."""
        place = view.topic_id, view.partition
        for snapshot in self.of(view.subscription).values():
            part = snapshot.views.get(place)
            if part is not None and part.knows_beyond(end):
                sequence = part.restored(view)
                sequence.forget_from(end)
                snapshot.views[place] = kept_view(sequence)

    def knows_beyond(self, view: SubscriptionView, end: int) -> bool:
        """Whether a snapshot says something of positions of a view from `end` on."""
        place = view.topic_id, view.partition
        return any(
            place in snapshot.views and snapshot.views[place].knows_beyond(end)
            for snapshot in self.of(view.subscription).values()
        )

    # --- records ------------------------------------------------------------------------------------------

    def take(self, record: SnapshotTaken, views: list[SubscriptionView]) -> None:
        """Apply the record that makes a snapshot of these views."""
        snapshot = KeptSnapshot(record.id, record.subscription, record.name, record.created_ms)
        for view in views:
            snapshot.views[view.topic_id, view.partition] = kept_view(view.sequence)
        self.put(snapshot)

    def load(self, record: SnapshotRecord) -> None:
        """Apply a record of a state snapshot. KeyError: it is about a snapshot that does not exist."""
        match record:
            case SnapshotKept():
                self.put(KeptSnapshot(record.id, record.subscription, record.name, record.created_ms))
            case SnapshotPage():
                place = record.topic_id, record.partition
                self._pages.setdefault((record.id, place), []).append(PageState(record.index, record.data))
            case SnapshotView():
                place = record.topic_id, record.partition
                pages = self._pages.pop((record.id, place), [])
                head = ViewHead(record.start, record.scanned, record.start, record.ready)
                self._by_id[record.id].views[place] = KeptView(head, iter(pages))
            case _:
                raise AssertionError(f"no record of a kept snapshot: {record}")

    def records(self) -> Iterator[SnapshotRecord]:
        """The records that make the present snapshots; also if they are read later."""
        return _records([(snapshot, dict(snapshot.views)) for snapshot in self._by_id.values()])


def _records(
    snapshots: list[tuple[KeptSnapshot, dict[PartitionPlace, KeptView]]],
) -> Iterator[SnapshotRecord]:
    for snapshot, views in snapshots:
        yield SnapshotKept(snapshot.id, snapshot.subscription, snapshot.name, snapshot.created_ms)
        for place, part in views.items():
            for page in part.pages:
                yield SnapshotPage(snapshot.id, *place, page.index, page.data)
            yield SnapshotView(snapshot.id, *place, part.head.start, part.head.scanned, part.head.ready)
