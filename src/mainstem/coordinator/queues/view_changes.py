"""Changes of views that no answer of a consumer makes: seek, redrive, purge, dead letters, trim, lost topics.

Owns: which records these lead to. Refuses: to apply them, and to write dead letters into a topic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Protocol, TypeVar
from uuid import UUID

import msgspec

from mainstem.clock import Clock
from mainstem.coordinator.errors import UnknownSubscription
from mainstem.coordinator.queues.kept_snapshots import KeptSnapshots
from mainstem.coordinator.queues.records import (
    EventDeadLettered,
    EventsAcked,
    EventsCarried,
    EventsDelayed,
    EventsDropped,
    EventsRedriven,
    EventsRejecting,
    EventsScheduled,
    ViewCut,
    ViewEnded,
    ViewRecord,
    ViewScanned,
    ViewSought,
    ViewTrimmed,
    encoded,
)
from mainstem.coordinator.queues.retention import count_dependent
from mainstem.coordinator.queues.types import GiveUpReason, WrittenDeadLetter
from mainstem.coordinator.queues.views import SubscriptionView, SubscriptionViews
from mainstem.promise import Promise, gather
from mainstem.queues.delay_run import pack_entry
from mainstem.queues.pages import AHEAD, PAGE_SHIFT, READY, PositionState
from mainstem.queues.runs import Run, count_positions, runs_of
from mainstem.queues.view import SequenceView
from mainstem.turns import run_in_turns

T = TypeVar("T")

PURGED_PAGES = 4
"""Pages of a view, of 4,096 positions, that are purged in a turn of the event loop: 8 ms if all of them
wait."""
DELAYED_OF_RECORD = 4_096
"""Events of a record that say when they are due, at most."""
RECORDS_OF_WRITE = 1_000
"""Records of one batch of the state log, where there may be very many."""

_KNOWN = (PositionState.READY, PositionState.WAITING, PositionState.DYING, PositionState.DONE)


class Write(Protocol):
    """`Runtime.write`."""

    def __call__(self, decide: Callable[[], tuple[Sequence[msgspec.Struct], T]], /) -> Promise[T]: ...


class ViewChanges:
    """The changes. All promises are done when the change is durable. They fail with StorageError; those for
    one view with UnknownSubscription, if the view is there no more."""

    def __init__(
        self, clock: Clock, views: SubscriptionViews, snapshots: KeptSnapshots, write: Write
    ) -> None:
        """`write`: that of the runtime."""
        self.on_trimmed: list[Callable[[int, int], None]] = []
        """Called for a subscription, by its id, with the number of its events that were deleted before they
        were done."""
        self.on_delayed: list[Callable[[SubscriptionView], None]] = []
        """Called with a view when events of it have begun to wait, because their publisher said so."""
        self._clock = clock
        self._views = views
        self._snapshots = snapshots
        self._write = write

    def _change(
        self, view: SubscriptionView, decide: Callable[[SubscriptionView], tuple[list[ViewRecord], T]]
    ) -> Promise[T]:
        """Write what `decide` returns about the view as it is now: it is another object after a load."""

        def decide_change() -> tuple[Sequence[msgspec.Struct], T]:
            current = self._views.get(view.id)
            if current is None:
                raise UnknownSubscription("the subscription or the topic was deleted")
            return decide(current)

        return self._write(decide_change)

    def _write_records(self, records: Sequence[ViewRecord]) -> Promise[None]:
        return self._write(lambda: (records, None))

    def seek(self, view: SubscriptionView, position: int) -> Promise[None]:
        """Let a view begin anew at a position: earlier events are done, later ones are delivered as if they
        never were. Its leases are over."""
        return self._change(view, lambda current: ([ViewSought(current.id, position)], None))

    def redrive(
        self,
        view: SubscriptionView,
        runs: Sequence[Run],
        schedule: Callable[[Sequence[Run]], Iterable[tuple[Sequence[Run], int]]] = lambda _: (),
    ) -> Promise[list[Run]]:
        """Deliver events again that are done, as if they never were. No other subscription notices. What is
        not done is left out, and what retention has deleted. The value has the others. `schedule` returns
        those parts of them that wait first, and until when."""

        def decide(current: SubscriptionView) -> tuple[list[ViewRecord], list[Run]]:
            start = current.sequence.start
            done = current.sequence.redrivable([(max(first, start), end) for first, end in runs])
            if not done:
                return [], done
            later = (EventsScheduled(current.id, *encoded(part), due_ms) for part, due_ms in schedule(done))
            return [EventsRedriven(current.id, *encoded(done)), *later], done

        return self._change(view, decide)

    def wake(self, view: SubscriptionView, runs: Sequence[Run]) -> Promise[list[Run]]:
        """Let those of these events that wait for a time be ready now. The value has these."""

        def decide(current: SubscriptionView) -> tuple[list[ViewRecord], list[Run]]:
            waiting = current.sequence.waiting_among(runs)
            return [EventsScheduled(current.id, *encoded(waiting), None)] if waiting else [], waiting

        return self._change(view, decide)

    def cancel(self, view: SubscriptionView, runs: Sequence[Run]) -> Promise[list[Run]]:
        """Let those of these events be done that no consumer has. The value has these."""

        def decide(current: SubscriptionView) -> tuple[list[ViewRecord], list[Run]]:
            unleased = current.sequence.unleased_among(runs)
            return [EventsAcked(current.id, *encoded(unleased))] if unleased else [], unleased

        return self._change(view, decide)

    def purge(self, view: SubscriptionView, end: int) -> Promise[None]:
        """Let all events below `end` that the scan has reached be done, also those that are leased; the
        oldest first, a part in each turn of the event loop."""
        purged: list[Promise[None]] = []

        def decide(current: SubscriptionView) -> tuple[list[ViewRecord], None]:
            sequence = current.sequence
            oldest, stop = sequence.oldest, min(end, sequence.scanned)
            # What no page has is a few runs, however many positions these have.
            pages = sorted(index for index in sequence.table.indexes() if index >= oldest >> PAGE_SHIFT)
            if len(pages) > PURGED_PAGES:
                stop = min(stop, pages[PURGED_PAGES] << PAGE_SHIFT)
            return [EventsAcked(current.id, *encoded([(oldest, stop)]))] if oldest < stop else [], None

        def steps() -> Iterator[int]:
            oldest = -2
            while oldest < (oldest := self._oldest_of(view)):
                purged.append(self._change(view, decide))
                current = self._views.get(view.id)
                if current is None or current.sequence.oldest >= min(end, current.sequence.scanned):
                    return
                yield 1

        finished: Promise[None] = Promise()

        def on_durable(_: object) -> None:
            error = next((promise.error for promise in purged if promise.error is not None), None)
            if error is None:
                finished.resolve(None)
            else:
                finished.fail(error)

        run_in_turns(self._clock, steps(), 1).then(lambda _: gather(purged).then(on_durable))
        return finished

    def _oldest_of(self, view: SubscriptionView) -> int:
        current = self._views.get(view.id)
        return -1 if current is None else current.sequence.oldest

    def dead_lettered(self, view: SubscriptionView, letters: Sequence[WrittenDeadLetter]) -> Promise[None]:
        """Note that the dead letters of these events, which are dying, are durable: the events are done."""

        def decide(current: SubscriptionView) -> tuple[list[ViewRecord], None]:
            return [
                EventDeadLettered(
                    current.id, letter.position, letter.topic_id, letter.partition, letter.offset
                )
                for letter in letters
                if current.sequence.state(letter.position) is PositionState.DYING
            ], None

        return self._change(view, decide)

    def expire(
        self, view: SubscriptionView, end: int, limit: int, *, has_dead_letters: bool
    ) -> Promise[list[Run]]:
        """Give up events below `end` that no consumer has, at most `limit`, because their time is over: they
        die, or are dropped without dead letters. The value has their positions."""

        def decide(current: SubscriptionView) -> tuple[list[ViewRecord], list[Run]]:
            runs = current.sequence.expirable(end, limit)
            return _given_up(current, runs, GiveUpReason.EXPIRED, has_dead_letters), runs

        return self._change(view, decide)

    def expire_events(
        self, view: SubscriptionView, positions: Iterable[int], *, has_dead_letters: bool
    ) -> Promise[list[Run]]:
        """As `expire`, for these events, if they are ready."""

        def decide(current: SubscriptionView) -> tuple[list[ViewRecord], list[Run]]:
            state = current.sequence.table.state
            runs = runs_of(position for position in positions if state(position) == READY)
            return _given_up(current, runs, GiveUpReason.EXPIRED, has_dead_letters), runs

        return self._change(view, decide)

    def give_up_first(self, view: SubscriptionView, count: int, *, has_dead_letters: bool) -> Promise[int]:
        """Give up the earliest of the ready events, because there are too many: they die, or are dropped
        without dead letters. The value is how many."""

        def decide(current: SubscriptionView) -> tuple[list[ViewRecord], int]:
            runs: list[Run] = []
            left = count
            for first, end in current.sequence.runs_in(PositionState.READY, current.sequence.oldest):
                if left <= 0:
                    break
                runs.append((first, min(end, first + left)))
                left -= runs[-1][1] - first
            return _given_up(current, runs, GiveUpReason.MAXLEN, has_dead_letters), count - left

        return self._change(view, decide)

    def note_scans(self, records: Sequence[ViewScanned]) -> Promise[None]:
        """Note what scans have found, so that they are not repeated after a restart."""

        def decide() -> tuple[Sequence[msgspec.Struct], None]:
            return [record for record in records if self._views.get(record.view) is not None], None

        return self._write(decide)

    def delay_ahead(self, view: SubscriptionView, due_ms: Mapping[int, int]) -> Promise[None]:
        """Let those of these events wait until they are due that the scan comes to next. It leaves out those
        to which a record gave a state."""
        return self._delay(view, due_ms, lambda sequence, position: sequence.table.state(position) == AHEAD)

    def delay(self, view: SubscriptionView, due_ms: Mapping[int, int]) -> Promise[None]:
        """Let those of these events wait until they are due, as their publisher said, that are ready and for
        which that counts still."""
        return self._delay(view, due_ms, SequenceView.may_be_delayed)

    def _delay(
        self,
        view: SubscriptionView,
        due_ms: Mapping[int, int],
        counts: Callable[[SequenceView, int], bool],
    ) -> Promise[None]:
        def decide(current: SubscriptionView) -> tuple[list[ViewRecord], None]:
            sequence = current.sequence
            entries = sorted(
                pack_entry(time_ms, 0, position)
                for position, time_ms in due_ms.items()
                if counts(sequence, position)
            )
            parts = (
                entries[first : first + DELAYED_OF_RECORD]
                for first in range(0, len(entries), DELAYED_OF_RECORD)
            )
            return [EventsDelayed(current.id, b"".join(part)) for part in parts], None

        written = self._change(view, decide)
        current = self._views.get(view.id)
        if current is not None:
            for callback in self.on_delayed:
                callback(current)
        return written

    def trim(
        self, topic_id: UUID, partition: int, log_start: int, *, with_carried: bool = False
    ) -> Promise[None]:
        """The events of a partition below `log_start` are deleted: they are done in every view, but for those
        that are carried over. `with_carried`: these, too."""
        trimmed = [
            (view, count_dependent(view, log_start) + with_carried * _carried_below(view, log_start))
            for view in self._views.of_partition(topic_id, partition)
            if view.sequence.oldest < log_start
        ]
        written = self._write_records([ViewTrimmed(view.id, log_start, with_carried) for view, _ in trimmed])
        if written.error is None:
            for view, events in trimmed:
                self._note_trimmed(view, events)
        return written

    def _note_trimmed(self, view: SubscriptionView, events: int) -> None:
        for callback in self.on_trimmed:
            callback(view.subscription, events)

    def carry(self, view: SubscriptionView, events: Sequence[tuple[int, int, int]]) -> Promise[None]:
        """Copies of these events are durable: (position, offset of the copy, time of arrival). What is done
        meanwhile is left out."""

        def decide(current: SubscriptionView) -> tuple[list[ViewRecord], None]:
            outstanding = [
                event for event in events if current.sequence.state(event[0]) is not PositionState.DONE
            ]
            return [EventsCarried(current.id, tuple(outstanding))] if outstanding else [], None

        return self._change(view, decide)

    def trim_carried(self, view: SubscriptionView, positions: Sequence[int]) -> Promise[None]:
        """Let carried events be done that are not pinned any more, or were lost."""

        def decide(current: SubscriptionView) -> tuple[list[ViewRecord], int]:
            runs = runs_of(sorted(position for position in positions if position in current.carried))
            return [EventsAcked(current.id, *encoded(runs))] if runs else [], count_positions(runs)

        return self._change(view, decide).map(lambda count: self._note_trimmed(view, count))

    def clamp_carried(self, end: int, log_start_of: Callable[[UUID, int], int | None]) -> Promise[int]:
        """Forget copies of carried events at `end`, where their topic ends, and after it: they were lost. An
        event that is still where it was needs none. The promise has the number of the others, which are done.
        For a start, as `clamp_to_log_end`."""
        records: list[ViewRecord] = []
        lost = 0
        for view in self._views.all():
            void = sorted(position for position, copy in view.carried.items() if copy.offset >= end)
            log_start = log_start_of(view.topic_id, view.partition) or 0
            returned = [(position, -1, 0) for position in void if position >= log_start]
            deleted = [position for position in void if position < log_start]
            if returned:
                records.append(EventsCarried(view.id, tuple(returned)))
            if deleted:
                records.append(EventsAcked(view.id, *encoded(runs_of(deleted))))
                lost += len(deleted)
        return self._write_all(iter(records)).map(lambda _: lost)

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
            if (end := end_of(view.topic_id, view.partition)) is not None
            and (_knows_beyond(view, end) or self._snapshots.knows_beyond(view, end))
        )
        return cut.map(lambda _: self._views.forgotten - before)

    def _write_all(self, records: Iterator[ViewRecord]) -> Promise[None]:
        written = [self._write_records([])]
        all_records = iter(list(records))
        while part := list(islice(all_records, RECORDS_OF_WRITE)):
            written.append(self._write_records(part))
        return gather(written).map(_raise_first_error)


def _given_up(
    view: SubscriptionView, runs: Sequence[Run], reason: GiveUpReason, has_dead_letters: bool
) -> list[ViewRecord]:
    if not runs:
        return []
    if has_dead_letters:
        return [EventsRejecting(view.id, *encoded(runs), reason, delivered=False)]
    return [EventsDropped(view.id, *encoded(runs), reason)]


def _raise_first_error(done: list[Promise[None]]) -> None:
    for promise in done:
        promise.result()


def _carried_below(view: SubscriptionView, end: int) -> int:
    return sum(position < end for position in view.carried)


def _knows_beyond(view: SubscriptionView, end: int) -> bool:
    sequence = view.sequence
    if max(sequence.start, sequence.scanned, sequence.marked) > end:
        return True
    return any(next(sequence.runs_in(state, end), None) is not None for state in _KNOWN)
