"""A view while it is served, whatever its positions are: offsets of a partition, or arrival sequences.

Owns: what a scan finds for the view, and recording it now and then, so that a restart does not repeat it; the
keys of events in key order. Refuses: which positions are ready without a look, and reading events: a feed of
a partition (`feed.py`) and one of a routed queue (`routed_feed.py`) know that.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from mainstem.clock import Clock
from mainstem.contract import Position
from mainstem.coordinator.queues.records import ViewScanned, encoded
from mainstem.coordinator.queues.settlements import difference
from mainstem.coordinator.queues.subscriptions import Subscriptions
from mainstem.coordinator.queues.views import SubscriptionView
from mainstem.engines.embedded.queues.event_scan import EventScan, ScanAnswers
from mainstem.engines.embedded.queues.event_slice import key_hash
from mainstem.engines.embedded.queues.events import EventsAtPositions
from mainstem.engines.embedded.queues.own_times import Arrivals, bounded, delays_among
from mainstem.queues.ordered_view import OrderedView
from mainstem.queues.runs import Run, add_run, complement, has_position, merge_runs
from mainstem.queues.view import SequenceView
from mainstem.search.match.matcher import Matcher

READY_MAX = 100_000
"""No further positions become ready while a view has this many: what is ahead costs nothing."""
UNKEYED_OF_STEP = 1_000
"""Events whose keys are learned in a step, after a restart or a redrive."""
RECORD_BYTES = 4 << 20
RECORD_RUNS = 4_096
"""A scan is recorded when it has looked at this many bytes since the last record, or found this many runs: so
a restart repeats at most that."""


class SequenceSource(Protocol):
    """Reads the events at positions of a view."""

    async def read(self, runs: Sequence[Run], max_bytes: int | None = None) -> EventsAtPositions:
        """See `EventSource.read`."""


class SubscriptionFeed(ABC):
    """The feed of one view."""

    _scan: EventScan
    """That of its events."""
    _reader: SequenceSource
    """Reads its events."""

    def __init__(
        self,
        clock: Clock,
        machine: Subscriptions,
        view: SubscriptionView,
        matcher: Matcher | None,
        wake_due: Callable[[SubscriptionView], int],
        on_ready: Callable[[], None],
    ) -> None:
        """`wake_due`: see `QueueService.wake_due`."""
        self.view = view
        self.matcher = matcher
        self.on_ready = on_ready
        self.problem = ""
        """Why its scan does not go on, for people; empty in normal operation."""
        self.unreadable = 0
        """Events that the scan could not read."""
        self._clock = clock
        self._machine = machine
        self._wake_due = wake_due
        self._unrecorded = _Unrecorded(view.sequence)
        self._began_ms = clock.wall_ms()
        self._closed = False

    @property
    def stall(self) -> str:
        """Why nothing becomes ready, for people; empty in normal operation."""
        return self.problem

    @property
    @abstractmethod
    def arrivals(self) -> Arrivals:
        """When its events arrived."""

    @property
    @abstractmethod
    def end(self) -> int:
        """The position after the last event."""

    @property
    def is_scanned(self) -> bool:
        """Whether events have to be looked at before it is known which are ready."""
        return self.matcher is not None or self.reads_keys

    @property
    def reads_keys(self) -> bool:
        """Whether the view delivers in key order."""
        return isinstance(self.view.sequence, OrderedView)

    @property
    def scanned(self) -> int:
        """Where the scan goes on."""
        return self.view.sequence.scanned

    def bind(self) -> bool:
        """Use the present view of this place, which a reload of the state replaces. False: there is none."""
        view = self._machine.views.find(self.view.place)
        if view is None or self._closed:
            return False
        self.view = view
        return True

    @abstractmethod
    async def oldest(self) -> tuple[Position, int] | None:
        """The oldest event that is not done, before a filter, and when it arrived, wall-clock ms; None: there
        is none, or it is not known at the moment."""

    # --- what becomes ready -------------------------------------------------------------------------------

    @abstractmethod
    async def advance(self) -> None:
        """Let what is due, and what was committed, be ready; a scan does so in the background."""

    @abstractmethod
    async def make_ready(self, end: int) -> None:
        """Let what is before `end` be ready, without a look at it."""

    @abstractmethod
    def arrived_before(self, wall_ms: int, began_ms: int) -> int:
        """All events below this position had arrived by a time, for certain. `began_ms`: when this server
        began."""

    @abstractmethod
    def arrived_by_ms(self, position: int) -> int:
        """A time by which the event at a position had arrived, wall-clock ms; -1: that is not known."""

    async def scan_all(self) -> None:
        """Let nothing be ahead, without looking at it: everything is purged next."""
        sequence, first, end = self.view.sequence, self.scanned, self.end
        if first >= end:
            return
        if not self.is_scanned:
            await self.make_ready(end)
            return
        scan_unseen(sequence, end, [(first, end)])
        self._unrecorded.add(sequence, first, [], 0)
        self._machine.changes.note_scans([self._unrecorded.take_record(self.view.id)])

    def scan_soon(self) -> None:
        """Look in the background at what the scan has not looked at yet."""
        if self.is_scanned and not self._closed:
            self._scan.scan_soon()

    def is_behind(self) -> bool:
        """Whether there is something to scan, and room for it."""
        if not self.bind():
            return False
        sequence = self.view.sequence
        if self.has_unkeyed():
            return True
        if sequence.scanned >= self.end or sequence.is_full:
            return False
        return sequence.counts().ready < READY_MAX

    def take_slice(self, events: ScanAnswers, size: int) -> ViewScanned | None:
        """Scan up to the end of a slice of the log, which has answers for this view. Returns a record of the
        scan if one is due."""
        sequence, first, matcher = self.view.sequence, self.scanned, self.matcher
        if matcher is None:
            matched = events.readable(first)
        elif not events.has_answer(matcher):
            return None
        else:
            matched = []
            for position in events.matches(matcher, first):
                add_run(matched, position, position + 1)
        skipped = complement(first, events.end, matched)
        if isinstance(sequence, OrderedView) and (events.keys is None or sequence.has_unkeyed()):
            return None
        due_ms = self._delay(events.times or {}, matched)
        if isinstance(sequence, OrderedView):
            sequence.scan(events.end, skipped, due_ms, keys=events.keys)
        else:
            sequence.scan(events.end, skipped, due_ms)
        self.unreadable += sum(max(0, end - max(low, first)) for low, end in events.unreadable)
        if matched:
            self.on_ready()
        self._unrecorded.add(sequence, first, matched, size)
        return self._unrecorded.take_record(self.view.id) if self._unrecorded.is_due else None

    def _delay(self, times: Mapping[int, int], matched: Sequence[Run]) -> dict[int, int]:
        """Let those of the matched events wait that name a time. Returns when those are due for which the
        disk takes no record: they wait, too, and a restart looks at them again."""
        chosen = {position: time for position, time in times.items() if has_position(matched, position)}
        due_ms = bounded(chosen, self.arrivals, self._began_ms, self._clock.wall_ms()) if chosen else {}
        if not due_ms:
            return {}
        written = self._machine.changes.delay_ahead(self.view, due_ms)
        return due_ms if written.error is not None else {}

    # --- keys ---------------------------------------------------------------------------------------------

    def has_unkeyed(self) -> bool:
        """Whether events are outstanding whose keys are not known."""
        sequence = self.view.sequence
        return isinstance(sequence, OrderedView) and sequence.has_unkeyed()

    async def learn_keys(self) -> None:
        """Learn the keys of the lowest positions that are outstanding and whose keys are not known."""
        sequence = self.view.sequence
        if not isinstance(sequence, OrderedView) or not (runs := sequence.unkeyed(UNKEYED_OF_STEP)):
            return
        end = runs[-1][1]
        events = await self._reader.read(runs)
        # A seek or a redrive may have made others outstanding meanwhile: their keys were not looked at.
        now = [(first, min(stop, end)) for first, stop in sequence.unkeyed(UNKEYED_OF_STEP) if first < end]
        if not difference(now, runs):
            keys = {offset: key_hash(event.key) for offset, event in events.items() if event.key is not None}
            # Those of a named snapshot were not looked at, for example.
            delays = delays_among(events, self.arrivals, self._began_ms, self._clock.wall_ms())
            if delays:
                self._machine.changes.delay(self.view, delays)
            sequence.learn_keys(end, keys)
            self.on_ready()


def scan_unseen(sequence: SequenceView, end: int, skipped: Sequence[Run]) -> None:
    """Let the positions of a view up to `end` be ready without a look at them, but for those that are
    skipped."""
    if isinstance(sequence, OrderedView):
        sequence.scan_keyless(end, skipped)
    else:
        sequence.scan(end, skipped)


class _Unrecorded:
    """What the scan of a view found since the last record of it."""

    def __init__(self, sequence: SequenceView) -> None:
        self._begin(sequence, sequence.scanned)

    def _begin(self, sequence: SequenceView, first: int) -> None:
        self._sequence = sequence
        self._first = self._end = first
        self._matched: list[Run] = []
        self._bytes = 0

    def add(self, sequence: SequenceView, first: int, matched: Sequence[Run], size: int) -> None:
        """The scan went on from `first`, through this number of bytes, and found these."""
        if sequence is not self._sequence or first != self._end:
            self._begin(sequence, first)  # the view was moved, or loaded again
        self._matched += matched
        self._end = sequence.scanned
        self._bytes += size

    @property
    def is_due(self) -> bool:
        """Whether it is to be recorded now."""
        return self._bytes >= RECORD_BYTES or len(self._matched) >= RECORD_RUNS

    def take_record(self, view_id: int) -> ViewScanned:
        """The record; nothing is unrecorded then."""
        base, data = encoded(merge_runs(self._matched)) if self._matched else (self._first, b"")
        record = ViewScanned(view_id, self._first, self._end, base, data)
        self._begin(self._sequence, self._end)
        return record
