"""The records of the state log of queues.

Owns: their shapes. A view is named by a number, and the positions of a record are runs as bytes
(`mainstem.queues.runs`), which begin at `base`: a single acknowledgement takes about 30 bytes with all of its
record, and 2 bytes more for each further one of the turn. Refuses: state and rules. Times are milliseconds
since 1970.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar
from uuid import UUID

from mainstem.coordinator.runtime.records import StateRecord
from mainstem.queues.delay_run import ENTRY_BYTES, unpack_entries
from mainstem.queues.runs import Run, decode_runs, encode_runs
from mainstem.queues.settings import SubscriptionSettings


class QueueIds(StateRecord, frozen=True, array_like=True, tag="queue-ids"):
    """State record: the ids below `next_id` were given out, or are skipped because events may have
    them. In snapshots, and after a start whose last records may be lost."""

    next_id: int


class SubscriptionCreated(StateRecord, frozen=True, array_like=True, tag="subscription-created"):
    """State record: a subscription was created."""

    id: int
    name: str
    settings: SubscriptionSettings
    created_ms: int


class ShareGroupCreated(StateRecord, frozen=True, array_like=True, tag="share-group-created"):
    """State record: a subscription was created that is a share group."""

    id: int
    name: str
    settings: SubscriptionSettings
    created_ms: int


class SubscriptionConfigured(StateRecord, frozen=True, array_like=True, tag="subscription-configured"):
    """State record: all settings of a subscription were replaced."""

    id: int
    settings: SubscriptionSettings


class SubscriptionLetters(StateRecord, frozen=True, array_like=True, tag="subscription-letters"):
    """State record, only in snapshots: the dead-letter topic of a subscription that has none any more."""

    id: int
    topic: str


class SubscriptionDeleted(StateRecord, frozen=True, array_like=True, tag="subscription-deleted"):
    """State record: a subscription was deleted, with its views."""

    id: int


class QueueEpoch(StateRecord, frozen=True, array_like=True, tag="queue-epoch"):
    """State record: deliveries of this epoch, a random number, were made. Late acknowledgements count only in
    epochs that are known."""

    epoch: int


class QueueEpochsEnded(StateRecord, frozen=True, array_like=True, tag="queue-epochs-ended"):
    """State record: the deliveries of all epochs so far are void, for their events may have been lost."""


# --- named snapshots --------------------------------------------------------------------------------------


class SnapshotRecord(StateRecord, frozen=True, array_like=True):
    """Base of the records about a named snapshot of a subscription."""

    id: int
    """Of the same numbers as those of subscriptions and views."""


class SnapshotTaken(SnapshotRecord, frozen=True, array_like=True, tag="snapshot-taken"):
    """State record: a subscription keeps what it knows now under a name."""

    subscription: int
    name: str
    created_ms: int


class SnapshotDeleted(SnapshotRecord, frozen=True, array_like=True, tag="snapshot-deleted"):
    """State record: a named snapshot is kept no more."""


class SnapshotRestored(SnapshotRecord, frozen=True, array_like=True, tag="snapshot-restored"):
    """State record: the views of its subscription are set back to a named snapshot."""


class SnapshotKept(SnapshotRecord, frozen=True, array_like=True, tag="snapshot-kept"):
    """State record, only in snapshots of the state: a named snapshot, whose views follow."""

    subscription: int
    name: str
    created_ms: int


class SnapshotPage(SnapshotRecord, frozen=True, array_like=True, tag="snapshot-page"):
    """State record, only in snapshots of the state: 4,096 positions of a view in a named snapshot."""

    COST_BYTES: ClassVar[int] = 3_000

    topic_id: UUID
    partition: int
    index: int
    data: bytes


class SnapshotView(SnapshotRecord, frozen=True, array_like=True, tag="snapshot-view"):
    """State record, only in snapshots of the state: a view in a named snapshot, whose pages are before."""

    topic_id: UUID
    partition: int
    start: int
    scanned: int
    ready: bytes
    """Ready positions that no page has: runs, encoded from `start`."""


SNAPSHOT_RECORDS: tuple[type[SnapshotRecord], ...] = (
    SnapshotTaken,
    SnapshotDeleted,
    SnapshotRestored,
    SnapshotKept,
    SnapshotPage,
    SnapshotView,
)
"""All records about named snapshots."""


# --- views ------------------------------------------------------------------------------------------------


class ViewRecord(StateRecord, frozen=True, array_like=True):
    """Base of the records about a view."""

    view: int


class ViewStarted(ViewRecord, frozen=True, array_like=True, tag="view-started"):
    """State record: a subscription met a partition, and begins there at `position`."""

    subscription: int
    topic_id: UUID
    partition: int
    position: int


class ViewEnded(ViewRecord, frozen=True, array_like=True, tag="view-ended"):
    """State record: the topic of a view was deleted, so the view was, too."""


class ViewSought(ViewRecord, frozen=True, array_like=True, tag="view-sought"):
    """State record: a view begins anew at `position`."""

    position: int


class ViewTrimmed(ViewRecord, frozen=True, array_like=True, tag="view-trimmed"):
    """State record: the events below `start` are deleted, whether they were processed or not, but for those
    that are carried over."""

    start: int
    with_carried: bool = False
    """Whether those are deleted, too: somebody asked for that."""


class ViewCut(ViewRecord, frozen=True, array_like=True, tag="view-cut"):
    """State record: the partition ends at `end` after events were lost, so that what was known of later
    positions is void."""

    end: int


class CursorMarked(ViewRecord, frozen=True, array_like=True, tag="cursor-marked"):
    """State record: from now on, positions below this one may be delivered without a further record."""

    position: int


class ViewScanned(ViewRecord, frozen=True, array_like=True, tag="view-scanned"):
    """State record: the events from `first` to `end` were looked at, and those of `matched` are to be
    delivered."""

    first: int
    end: int
    base: int
    data: bytes
    """The runs of `matched`, encoded from `base`; empty: there is none."""

    @property
    def matched(self) -> list[Run]:
        """The positions. ValueError if `data` is damaged."""
        return decode_runs(self.base, self.data) if self.data else []


class EventsRecord(ViewRecord, frozen=True, array_like=True):
    """Base of the records about some positions of a view."""

    base: int
    data: bytes
    """The runs, encoded from `base`."""

    @property
    def runs(self) -> list[Run]:
        """The positions. ValueError if `data` is damaged."""
        return decode_runs(self.base, self.data)


class EventsAcked(EventsRecord, frozen=True, array_like=True, tag="events-acked"):
    """State record: these events are done."""


class EventsLeased(EventsRecord, frozen=True, array_like=True, tag="events-leased"):
    """State record: a lease has these events until `until_ms`, also after a restart. It was made in this
    epoch; a later record of a lease is in place of an earlier one."""

    lease: int
    epoch: int
    consumer: str
    lock_ms: int
    until_ms: int
    origin: int = 0
    """The lease with which these events were acquired, if this one is a part of it; 0: the lease itself."""


class EventsReleased(EventsRecord, frozen=True, array_like=True, tag="events-released"):
    """State record: these events were given back, and are to be delivered again, not before `due_ms`.
    `counts`: it was a failure."""

    counts: bool
    due_ms: int | None


class EventsRejecting(EventsRecord, frozen=True, array_like=True, tag="events-rejecting"):
    """State record: these events were given up, and their dead letters are to be written. `delivered`: a
    consumer had them."""

    reason: int
    delivered: bool = True


class EventsDropped(EventsRecord, frozen=True, array_like=True, tag="events-dropped"):
    """State record: these events were given up by a subscription without dead letters, and are done."""

    reason: int


class EventsReason(EventsRecord, frozen=True, array_like=True, tag="events-reason"):
    """State record: why a consumer gave these events back, or rejected them, in its own words."""

    text: str


class EventsRedriven(EventsRecord, frozen=True, array_like=True, tag="events-redriven"):
    """State record: these events, which were done, are to be delivered again."""


class EventsCarried(ViewRecord, frozen=True, array_like=True, tag="events-carried"):
    """State record: copies of these events are durable in the topic of carried events, so that their segment
    may be deleted before they are done. In snapshots it follows the state of the view."""

    events: tuple[tuple[int, int, int], ...]
    """(position, offset of the copy or -1, time of arrival). -1: there is no copy any more, but the event is
    where it was."""


class EventsScheduled(EventsRecord, frozen=True, array_like=True, tag="events-scheduled"):
    """State record: these events, which no consumer has, are to be delivered from `due_ms` on, or now."""

    due_ms: int | None


class EventsDelayed(ViewRecord, frozen=True, array_like=True, tag="events-delayed"):
    """State record: the publisher of these events said when they are to be delivered, which is not yet."""

    waiting: bytes
    """As in `ViewWaiting`."""

    @property
    def due_ms(self) -> dict[int, int]:
        """Position -> due time. ValueError if `waiting` is damaged."""
        if len(self.waiting) % ENTRY_BYTES:
            raise ValueError(f"{len(self.waiting)} bytes are no delayed events")
        return {entry.position: entry.due_ms for entry in unpack_entries(self.waiting)}


class EventDeadLettered(ViewRecord, frozen=True, array_like=True, tag="event-dead-lettered"):
    """State record: the dead letter of an event is durable at this place, so the event is done."""

    position: int
    topic_id: UUID
    partition: int
    offset: int


# --- snapshots --------------------------------------------------------------------------------------------


class ViewPage(ViewRecord, frozen=True, array_like=True, tag="view-page"):
    """State record, only in snapshots: the states of 4,096 positions of a view (`mainstem.queues.pages`)."""

    COST_BYTES: ClassVar[int] = 3_000

    index: int
    data: bytes


class ViewWaiting(ViewRecord, frozen=True, array_like=True, tag="view-waiting"):
    """State record, only in snapshots: positions that wait, as `mainstem.queues.delay_run` packs them."""

    waiting: bytes


class ViewState(ViewRecord, frozen=True, array_like=True, tag="view-state"):
    """State record, only in snapshots: a view, whose pages and waiting positions are in the records before
    this one."""

    subscription: int
    topic_id: UUID
    partition: int
    start: int
    scanned: int
    marked: int
    ready: bytes
    """Ready positions that no page has: runs, encoded from `start`."""


class ViewExempt(EventsRecord, frozen=True, array_like=True, tag="view-exempt"):
    """State record, only in snapshots: positions of the view before it to which no time to live applies."""


class ViewWoken(EventsRecord, frozen=True, array_like=True, tag="view-woken"):
    """State record, only in snapshots: positions of the view before it that were woken early, so that no
    delay of a publisher applies."""


VIEW_RECORDS: tuple[type[ViewRecord], ...] = (
    ViewStarted,
    ViewEnded,
    ViewSought,
    ViewTrimmed,
    ViewCut,
    CursorMarked,
    ViewScanned,
    EventsAcked,
    EventsLeased,
    EventsReleased,
    EventsRejecting,
    EventsDropped,
    EventsReason,
    EventsRedriven,
    EventsCarried,
    EventsScheduled,
    EventsDelayed,
    EventDeadLettered,
    ViewPage,
    ViewWaiting,
    ViewState,
    ViewExempt,
    ViewWoken,
)
"""All records about views."""


def encoded(runs: Sequence[Run]) -> tuple[int, bytes]:
    """`base` and `data` of a record about these positions, which are ascending and not none."""
    base = runs[0][0]
    return base, encode_runs(base, runs)
