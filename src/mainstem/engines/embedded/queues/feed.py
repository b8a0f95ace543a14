"""The feed of a subscription from one partition: its view, what of it is ready, and what retention deletes.

Owns: what becomes ready, and when; what the scan of the partition found for this view, until it is recorded.
Refuses: consumers and waiting (`subscription_queue.py`), the scan itself (`partition_scan.py`), and records:
only the state machine changes what survives a restart.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from mainstem.clock import Clock
from mainstem.contract import Position
from mainstem.coordinator.queues.records import ViewScanned, encoded
from mainstem.coordinator.queues.settlements import difference
from mainstem.coordinator.queues.subscriptions import Subscriptions
from mainstem.coordinator.queues.views import SubscriptionView
from mainstem.engines.embedded.queues.carried import ViewSource
from mainstem.engines.embedded.queues.counters import QueueCounters
from mainstem.engines.embedded.queues.event_slice import EventSlice, key_hash
from mainstem.engines.embedded.queues.partition_scan import PartitionScan
from mainstem.log.partition.partition import Partition
from mainstem.queues.ordered_view import OrderedView
from mainstem.queues.runs import Run, add_run, complement, merge_runs, runs_of
from mainstem.queues.view import SequenceView
from mainstem.search.match.matcher import Matcher

READY_MAX = 100_000
"""No further positions become ready while a view has this many: what is ahead costs nothing."""
SCAN_POSITIONS = 1_000_000
"""Positions that become ready in one turn of the loop, at most, where they need no look."""
UNKEYED_OF_STEP = 1_000
"""Events whose keys are learned in a step, after a restart or a redrive."""
RECORD_BYTES = 4 << 20
RECORD_RUNS = 4_096
"""A scan is recorded when it has looked at this many bytes since the last record, or found this many runs: so
a restart repeats at most that."""


class PartitionFeed:
    """A subscription's view of one partition, while it is served."""

    def __init__(
        self,
        clock: Clock,
        machine: Subscriptions,
        view: SubscriptionView,
        scan: PartitionScan,
        source: ViewSource,
        matcher: Matcher | None,
        counters: QueueCounters,
        on_ready: Callable[[], None],
        trim: Callable[[Partition], Awaitable[None]],
    ) -> None:
        """`trim` lets the events of a partition be done that were deleted."""
        self.view = view
        self.source = source
        self.matcher = matcher
        self.on_ready = on_ready
        self.problem = ""
        """Why the scan does not go on, for people; empty in normal operation."""
        self.unreadable = 0
        """Events that the scan could not read."""
        self._clock = clock
        self._machine = machine
        self._counters = counters
        self._trim = trim
        self._scan = scan
        self._unrecorded = _Unrecorded(view.sequence)
        self._closed = False
        scan.join(self if self.is_scanned else None)

    @property
    def partition(self) -> Partition:
        """The partition that it reads."""
        return self.source.partition

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

    @property
    def ahead(self) -> int:
        """Positions that the scan has not reached."""
        return max(0, self.partition.high_watermark - self.scanned)

    def bind(self) -> bool:
        """Use the present view of this place, which a reload of the state replaces. False: there is none."""
        view = self._machine.views.find(self.view.place)
        if view is None or self._closed:
            return False
        self.view = view
        return True

    async def trim(self) -> None:
        """Let the events that retention has deleted be done. Errors of the log and the coordinator."""
        await self._trim(self.partition)

    def following(self, position: int) -> int:
        """Events from this position on, before a filter."""
        return self.partition.high_watermark - position

    def contract_position(self, position: int) -> Position | None:
        """Where an event is in its topic."""
        return Position(self.source.topic, self.partition.index, position)

    async def runs_of(self, places: Sequence[Position]) -> list[Run]:
        """The positions of those of these events that are in the partition."""
        own = self.source.topic, self.partition.index
        offsets = [place.offset for place in places if (place.topic, place.partition) == own]
        return runs_of(offset for offset in offsets if offset >= 0)

    def listen(self) -> None:
        """Wake the queue at the next commit."""
        self._scan.listen(self.on_ready)

    # --- what becomes ready -------------------------------------------------------------------------------

    def advance(self) -> None:
        """Let what is due, and what was committed, be ready; a scan does so in the background."""
        sequence = self.view.sequence
        if not sequence.counts().ready:  # else the timer does it
            self._counters.wake_due(sequence, self._clock.wall_ms())
        if self.is_scanned:
            self._scan.scan_soon()
        elif sequence.counts().ready < READY_MAX:
            end = min(self.partition.high_watermark, sequence.scanned + SCAN_POSITIONS)
            if end > sequence.scanned:
                sequence.scan(end)

    def scan_all(self) -> None:
        """Let nothing be ahead, without looking at it: everything is purged next."""
        sequence, first, end = self.view.sequence, self.scanned, self.partition.high_watermark
        if first >= end:
            return
        if not self.is_scanned:
            sequence.scan(end)
            return
        if isinstance(sequence, OrderedView):
            sequence.scan_keyless(end, [(first, end)])
        else:
            sequence.scan(end, [(first, end)])
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
        if sequence.scanned >= self.partition.high_watermark or sequence.is_full:
            return False
        return sequence.counts().ready < READY_MAX

    def take_slice(self, events: EventSlice, size: int) -> ViewScanned | None:
        """Scan up to the end of a slice of the log, which has answers for this view. Returns a record of the
        scan if one is due."""
        sequence, first, matcher = self.view.sequence, self.scanned, self.matcher
        if matcher is None:
            matched = events.readable(first)
        elif not events.has_answer(matcher):
            return None
        else:
            matched = []
            for offset in events.matches(matcher, first):
                add_run(matched, offset, offset + 1)
        skipped = complement(first, events.end, matched)
        if isinstance(sequence, OrderedView):
            if events.keys is None or sequence.has_unkeyed():
                return None
            sequence.scan(events.end, skipped, keys=events.keys)
        else:
            sequence.scan(events.end, skipped)
        self.unreadable += sum(max(0, end - max(low, first)) for low, end in events.unreadable)
        if matched:
            self.on_ready()
        self._unrecorded.add(sequence, first, matched, size)
        return self._unrecorded.take_record(self.view.id) if self._unrecorded.is_due else None

    def lease_events(self, max_events: int, max_bytes: int) -> int:
        """How many events to lease at once, so that they have about `max_bytes`."""
        partition = self.partition
        start = max(partition.log_start_offset, min(self.view.sequence.oldest, partition.high_watermark - 1))
        count = partition.high_watermark - start
        average = partition.available_bytes(start) // count if count > 0 else 0
        return max(1, min(max_events, max_bytes // max(1, average)))

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
        events = await self.source.read(runs)
        # A seek or a redrive may have made others outstanding meanwhile: their keys were not looked at.
        now = [(first, min(stop, end)) for first, stop in sequence.unkeyed(UNKEYED_OF_STEP) if first < end]
        if not difference(now, runs):
            keys = {offset: key_hash(event.key) for offset, event in events.items() if event.key is not None}
            sequence.learn_keys(end, keys)
            self.on_ready()

    def close(self) -> None:
        """Stop scanning and watching. Idempotent."""
        if not self._closed:
            self._closed = True
            self._scan.leave(self)


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
