"""Changes of views that no answer of a consumer makes: seek, redrive, purge, dead letters, trim, lost topics.

Owns: which records these lead to. Refuses: to apply them, and to write dead letters into a topic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from uuid import UUID

from mainstem.coordinator.queues.records import (
    EventDeadLettered,
    EventsAcked,
    EventsRedriven,
    ViewCut,
    ViewEnded,
    ViewRecord,
    ViewSought,
    ViewTrimmed,
    encoded,
)
from mainstem.coordinator.queues.types import DeadLetter
from mainstem.coordinator.queues.views import SubscriptionView, SubscriptionViews
from mainstem.promise import Promise, gather
from mainstem.queues.pages import PositionState
from mainstem.queues.runs import Run, merge_runs

RECORDS_OF_WRITE = 1_000
"""Records of one batch of the state log, where there may be very many."""

_KNOWN = (PositionState.READY, PositionState.WAITING, PositionState.DYING, PositionState.DONE)


class ViewChanges:
    """The changes. All promises are done when the change is durable, and fail with StorageError."""

    def __init__(
        self, views: SubscriptionViews, write: Callable[[Sequence[ViewRecord]], Promise[None]]
    ) -> None:
        self._views = views
        self._write = write

    def seek(self, view: SubscriptionView, position: int) -> Promise[None]:
        """Let a view begin anew at a position: earlier events are done, later ones are delivered as if they
        never were. Its leases are over."""
        return self._write([ViewSought(view.id, position)])

    def redrive(self, view: SubscriptionView, runs: Sequence[Run]) -> Promise[None]:
        """Deliver events again that are done, as if they never were. No other subscription notices. What the
        scan has not reached, or retention has deleted, is left out."""
        low, high = view.sequence.start, view.sequence.scanned
        known = merge_runs((max(first, low), min(end, high)) for first, end in runs)
        return self._write([EventsRedriven(view.id, *encoded(known))] if known else [])

    def purge(self, view: SubscriptionView, end: int) -> Promise[None]:
        """Let all events below `end` that the scan has reached be done, also those that are leased."""
        sequence = view.sequence
        end = min(end, sequence.scanned)
        if sequence.oldest >= end:
            return self._write([])
        return self._write([EventsAcked(view.id, *encoded([(sequence.oldest, end)]))])

    def dead_lettered(self, view: SubscriptionView, letters: Sequence[DeadLetter]) -> Promise[None]:
        """Note that the dead letters of these events, which are dying, are durable: the events are done."""
        return self._write(
            [
                EventDeadLettered(view.id, letter.position, letter.topic_id, letter.partition, letter.offset)
                for letter in letters
                if view.sequence.state(letter.position) is PositionState.DYING
            ]
        )

    def trim(self, topic_id: UUID, partition: int, log_start: int) -> Promise[None]:
        """The events of a partition below `log_start` are deleted: they are done in every view."""
        return self._write(
            [
                ViewTrimmed(view.id, log_start)
                for view in self._views.of_topic(topic_id)
                if view.partition == partition and view.sequence.oldest < log_start
            ]
        )

    def end_topic(self, topic_id: UUID) -> Promise[None]:
        """End the views of a deleted topic."""
        return self._write_all(ViewEnded(view.id) for view in self._views.of_topic(topic_id))

    def end_unknown(self, end_of: Callable[[UUID, int], int | None]) -> Promise[None]:
        """End the views of partitions that do not exist: `end_of` returns None for them. For a start: a crash
        may have come between the deletion of a topic and the end of its views."""
        return self._write_all(
            ViewEnded(view.id) for view in self._views.all() if end_of(view.topic_id, view.partition) is None
        )

    def clamp_to_log_end(self, end_of: Callable[[UUID, int], int | None]) -> Promise[int]:
        """Forget what views know of positions at or beyond the end of their partition. The promise has the
        number of these positions. After a power cut with durability=os, and in a copy of a folder, the
        offsets of lost events are assigned again, and the new events must not count as processed. For a
        start: not in turns."""
        before = self._views.forgotten
        cut = self._write_all(
            ViewCut(view.id, end)
            for view in self._views.all()
            if (end := end_of(view.topic_id, view.partition)) is not None and _knows_beyond(view, end)
        )
        return cut.map(lambda _: self._views.forgotten - before)

    def _write_all(self, records: Iterator[ViewRecord]) -> Promise[None]:
        written = [self._write([])]
        all_records = iter(list(records))
        while part := list(islice(all_records, RECORDS_OF_WRITE)):
            written.append(self._write(part))
        return gather(written).map(_raise_first_error)


def _raise_first_error(done: list[Promise[None]]) -> None:
    for promise in done:
        promise.result()


def _knows_beyond(view: SubscriptionView, end: int) -> bool:
    sequence = view.sequence
    if max(sequence.start, sequence.scanned, sequence.marked) > end:
        return True
    return any(next(sequence.runs_in(state, end), None) is not None for state in _KNOWN)
