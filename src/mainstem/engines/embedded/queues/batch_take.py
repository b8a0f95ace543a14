"""Takes ready events of a view with the batches that have them, as they are stored.

Owns: which batches are read, how many in a turn, and which positions of them are acquired. Batches are not
decoded, but for those with an event that says when it is to be delivered: what is over is given up, and what
is not due waits. Positions that no batch has, and those of damaged and control batches, are done without a
delivery.
Refuses: waiting (`share_delivery.py`), and records: only the state machine changes what survives a restart.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from math import ceil
from typing import Any, Protocol

from mainstem.coordinator.queues.settlements import difference
from mainstem.coordinator.queues.subscriptions import Subscriptions
from mainstem.coordinator.queues.types import Settlement
from mainstem.coordinator.queues.views import SubscriptionView
from mainstem.engines.embedded.queues.batch_headers import events_with_times
from mainstem.log.errors import CorruptBatch, OffsetOutOfRange
from mainstem.log.partition.partition import Partition
from mainstem.log.storage.record_batch import BatchHeader, Record, iter_batches
from mainstem.promise import Promise
from mainstem.queues.leases import DeliveryLease
from mainstem.queues.pages import PositionState
from mainstem.queues.runs import Run, add_run, count_positions, has_position, runs_of
from mainstem.share_contract import AcquiredRun

READS_MAX = 64
"""Reads of the log for one partition of a pull: more than one only where what is ready is scattered."""
SCAN_POSITIONS = 1_000_000
READY_EVENTS_MAX = 100_000
"""As in a feed: what is ahead of the scan costs nothing."""
DELIVERIES_SHOWN_MAX = 32_767
"""Kafka's field is an int16."""


class EventTimes(Protocol):
    """What events say about when they are to be delivered."""

    def untimely(
        self, view: SubscriptionView, partition: Partition, records: Sequence[Record]
    ) -> tuple[list[int], dict[int, int]]:
        """Which of these events of a view are over, and position -> due time of those that are to be
        delivered later."""

    def withhold(self, view: SubscriptionView, over: list[int], due_ms: Mapping[int, int]) -> None:
        """Give up ready events that are over, and let others wait. If the disk refuses, they stay ready."""


def advance(view: SubscriptionView, partition: Partition) -> bool:
    """Let what was committed be ready. Whether something may be acquired."""
    sequence = view.sequence
    if sequence.counts().ready < READY_EVENTS_MAX:
        end = min(partition.high_watermark, sequence.scanned + SCAN_POSITIONS)
        if end > sequence.scanned:
            sequence.scan(end)
    counts = sequence.counts()
    return counts.ready > 0 and counts.leased < sequence.rules.in_flight_max


class BatchTake:
    """What one pull takes from one view."""

    def __init__(
        self,
        machine: Subscriptions,
        view: SubscriptionView,
        partition: Partition,
        consumer: str,
        max_events: int,
        max_bytes: int,
        exact: bool,
        is_cancelled: Callable[[], bool],
        times: EventTimes,
    ) -> None:
        """`is_cancelled`: whether nothing may be acquired any more."""
        self.pieces: list[memoryview] = []
        self.events = 0
        self.bytes = 0
        self.unreadable = 0
        """Events that damage has made unreadable."""
        self._machine = machine
        self._view = view
        self._partition = partition
        self._consumer = consumer
        self._events_left = max_events
        self._bytes_left = max_bytes
        self._exact = exact
        self._is_cancelled = is_cancelled
        self._times = times
        self._over: list[int] = []
        self._due_ms: dict[int, int] = {}
        """Ready positions whose events are not to be delivered any more, and those that are later."""
        self._bases: list[int] = []
        """Where the batches begin."""
        self._leases: list[tuple[Promise[DeliveryLease | None], list[tuple[int, int, int]]]] = []
        """With what was to be acquired: (first, end, failures)."""
        self._lost: list[Run] = []
        """Ready positions without an event that can be delivered."""

    def steps(self) -> Generator[Promise[Any], Any, None]:
        """Take what may be taken: see `promise.run_steps`. Errors of the log and StorageError."""
        position = self._view.sequence.first_ready()
        for _ in range(READS_MAX):
            if position is None or self._events_left <= 0 or self._bytes_left <= 0:
                break
            end = yield from self._read(position)
            if end is None:
                break
            position = next(
                (first for first, _ in self._view.sequence.runs_in(PositionState.READY, end)), None
            )
        if self._lost:
            self._finish_lost()
        if self._over or self._due_ms:
            self._times.withhold(self._view, self._over, self._due_ms)

    def _read(self, position: int) -> Generator[Promise[Any], Any, int | None]:
        """Read from a ready position on, and take what is ready of it. Returns where to go on; None: what is
        there has to come from the disk, and the pull has something without it, or is cancelled."""
        partition = self._partition
        try:
            read = partition.read(position, self._read_bytes(position))
            if isinstance(read, Promise):
                if not read.done and self.events:
                    return None
                read = yield read
        except CorruptBatch as error:
            end = min(error.next_offset or position + 1, partition.high_watermark)
            self.unreadable += end - position
            self._lost += self._ready(position, end)
            return end
        except OffsetOutOfRange:
            return max(position + 1, partition.log_start_offset)
        if self._is_cancelled():
            return None
        return self._take(position, memoryview(read.data), read.next_offset)

    def _read_bytes(self, position: int) -> int:
        """How much to read at once: about what is wanted of the ready run that begins there."""
        partition = self._partition
        count = partition.high_watermark - position
        average = partition.available_bytes(position) // count if count > 0 else 0
        first, end = next(self._view.sequence.runs_in(PositionState.READY, position), (position, position))
        wanted = min(self._events_left, end - first)
        return max(1, min(self._bytes_left, wanted * (average + 1)))

    def _ready(self, first: int, end: int) -> list[Run]:
        return list(self._view.sequence.runs_in(PositionState.READY, first, end))

    def _take(self, position: int, data: memoryview, next_offset: int) -> int:
        """Take what is ready of these batches, which begin at or before a position. Returns where to go
        on."""
        ready = _Runs(self._ready(position, next_offset))
        following = position
        chosen: list[Run] = []
        begin = end = 0
        for start, header in iter_batches(data):
            self._lost += ready.until(header.base_offset)
            wanted = self._of_batch(data[start : start + header.total_bytes], header, ready)
            following = max(following, header.next_offset)
            if wanted:
                if start != end and end > begin:
                    self.pieces.append(data[begin:end])
                begin = begin if start == end and end > begin else start
                end = start + header.total_bytes
                self._bases.append(header.base_offset)
                for run in wanted:
                    add_run(chosen, *run)
            if self._events_left <= 0:
                break
        if end > begin:
            self.pieces.append(data[begin:end])
        if chosen:
            failures = self._view.sequence.failure_runs(chosen)
            leasing = self._machine.acquire_runs(self._view, self._consumer, chosen)
            self._leases.append((leasing, failures))
        size = sum(map(len, self.pieces))
        self._bytes_left -= size - self.bytes
        self.bytes = size
        return max(following, position + 1)

    def _of_batch(self, batch: memoryview, header: BatchHeader, ready: _Runs) -> list[Run]:
        """The positions of a batch to acquire."""
        runs = ready.until(header.next_offset)
        if header.is_control:
            self._lost += runs
            return []
        runs = self._deliverable(batch, header, runs) if runs else runs
        if not runs:
            return []
        failures_max = self._view.sequence.rules.failures_max
        parts = self._view.sequence.failure_runs(runs)
        if is_suspect(parts, failures_max):
            few = [] if self.events else isolated(parts, header.count, failures_max)
            self.events += sum(end - first for first, end in few)
            self._events_left = 0
            return few
        chosen: list[Run] = []
        for first, end in runs:
            count = min(end - first, self._events_left) if self._exact else end - first
            if count <= 0:
                break
            chosen.append((first, first + count))
            self._events_left -= count
            self.events += count
        return chosen

    def _deliverable(self, batch: memoryview, header: BatchHeader, runs: list[Run]) -> list[Run]:
        """Those of the ready positions of a batch whose events are to be delivered now."""
        records = [record for record in events_with_times(batch, header) if has_position(runs, record.offset)]
        if not records:
            return runs
        over, due_ms = self._times.untimely(self._view, self._partition, records)
        self._over += over
        self._due_ms |= due_ms
        return difference(runs, runs_of(sorted([*over, *due_ms])))

    def _finish_lost(self) -> None:
        """Positions without an event are done. If that fails, they are ready again, and looked at again."""
        machine, view, epoch = self._machine, self._view, self._machine.epoch

        def settle(done: Promise[DeliveryLease | None]) -> None:
            lease = done.result() if done.error is None else None
            if lease is not None:
                machine.settle([Settlement(view.id, lease.id, epoch, lease.runs)])

        machine.acquire_runs(view, self._consumer, sorted(self._lost)).then(settle)

    def acquired(self, batch_size: int) -> Generator[Promise[Any], Any, list[AcquiredRun]]:
        """What was acquired, when it is durable. Steps for `promise.run_steps`. StorageError."""
        runs: list[tuple[int, int, int]] = []
        for leasing, wanted in self._leases:
            lease: DeliveryLease | None = yield leasing
            last = lease.runs[-1][1] if lease is not None else 0  # the lowest first, if there was less room
            for first, end, failures in wanted:
                end = min(end, last)
                if first >= end:
                    break
                if runs and runs[-1][1:] == (first, failures):
                    runs[-1] = runs[-1][0], end, failures
                else:
                    runs.append((first, end, failures))
        acquired: list[AcquiredRun] = []
        for first, end, failures in runs:
            deliveries = min(failures + 1, DELIVERIES_SHOWN_MAX)
            cuts = self._cuts(first, end, batch_size)
            for low, high in zip([first, *cuts], [*cuts, end], strict=True):
                acquired.append(AcquiredRun(low, high - 1, deliveries))
        return acquired

    def _cuts(self, first: int, end: int, batch_size: int) -> list[int]:
        """The begins of batches at which a run is cut, so that its parts have at least this many events."""
        cuts: list[int] = []
        if end - first <= batch_size:
            return cuts
        previous = first
        for base in self._bases:
            if previous + batch_size <= base < end:
                cuts.append(base)
                previous = base
        return cuts


def is_suspect(parts: Sequence[tuple[int, int, int]], failures_max: int) -> bool:
    """Whether one of these (first, end, failures) has failed half as often as it may. What is delivered
    together with an event that ends its consumer would fail with it, each time."""
    return failures_max > 0 and max(part[2] for part in parts) >= max(2, ceil(failures_max / 2))


def isolated(parts: Sequence[tuple[int, int, int]], total: int, failures_max: int) -> list[Run]:
    """What to deliver of the (first, end, failures) of a batch of `total` events, one of which is suspect:
    half of the batch after half of its failures, a quarter after one more, and an event alone at its last
    delivery (as Kafka 4.4 does)."""
    suspect_from = max(2, ceil(failures_max / 2))
    room, chosen = total, list[Run]()
    for first, end, failures in parts:
        if failures >= suspect_from and room == total:
            room = max(1, total >> (failures - suspect_from + 1))
        is_last = failures_max > 2 and failures == failures_max - 1
        if is_last and chosen:
            break
        taken = count_positions(chosen)
        count = 1 if is_last else min(end - first, room - taken)
        if count > 0:
            add_run(chosen, first, first + count)
        if is_last or taken + count >= room:
            break
    return chosen


class _Runs:
    """Ascending runs that are taken from the front."""

    def __init__(self, runs: list[Run]) -> None:
        self._runs: Iterator[Run] = iter(runs)
        self._next: Run | None = next(self._runs, None)

    def until(self, end: int) -> list[Run]:
        """Take the positions below `end`."""
        taken: list[Run] = []
        while self._next is not None and self._next[0] < end:
            first, stop = self._next
            taken.append((first, min(stop, end)))
            self._next = (end, stop) if stop > end else next(self._runs, None)
        return taken
