"""The sequences of all namespaces of a node: loaded at the start, written to their files while it runs.

Owns: which there are, their files, and building an index anew that turned out to be damaged. Refuses: what
is in a sequence (`routed_sequence.py`), and publishing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from uuid import UUID

from mainstem.clock import Clock, Timer
from mainstem.coordinator.queues.index_files import IndexFiles
from mainstem.coordinator.queues.routed_sequence import RoutedSequence
from mainstem.coordinator.queues.sequence_recovery import SequenceRecovery
from mainstem.coordinator.queues.subscriptions import Subscriptions
from mainstem.coordinator.queues.topology import Namespace, PartitionPlace
from mainstem.log import paths
from mainstem.log.disk.contract import Disk
from mainstem.log.errors import LogError
from mainstem.log.partition.partition import Partition
from mainstem.promise import Promise
from mainstem.queues.index_page import Arrival, ColdIndexPage
from mainstem.queues.pages import PAGE_SHIFT
from mainstem.queues.routes import QueueSet
from mainstem.queues.view import SequenceView
from mainstem.turns import run_in_turns

STORE_INTERVAL_S = 10.0
RETRY_S = 5.0
TRIM_EVENTS = 8_192
"""Events that one look at what retention has deleted passes, at most."""

NO_OFFSET = 1 << 63
"""Above all offsets."""

log = logging.getLogger(__name__)


class RoutedSequences:
    """The sequences of a node."""

    def __init__(
        self,
        disk: Disk,
        clock: Clock,
        machine: Subscriptions,
        partition_of: Callable[[PartitionPlace], Partition | None],
        server_id: Callable[[], int | None],
    ) -> None:
        """`partition_of`: None, if the partition does not exist. `server_id`: the producer id of the server's
        own batches, once it is recorded."""
        self._disk = disk
        self._clock = clock
        self._machine = machine
        self._partition_of = partition_of
        self._server_id = server_id
        self.on_deadline: Callable[[RoutedSequence, Arrival, QueueSet], None] = lambda *_: None
        """See `RoutedSequence.on_deadline`."""
        self._by_id: dict[int, RoutedSequence] = {}
        self._timer: Timer | None = None
        self._closed = False

    # --- start --------------------------------------------------------------------------------------------

    def load(self, *, was_clean: bool) -> None:
        """The state was loaded: load the sequences of all namespaces. Blocks: for the start only."""
        known = {namespace.sequence_id.hex for namespace in self._machine.topology.all()}
        for name in self._disk.list(paths.ROUTED):
            if name not in known:
                self._disk.remove_folder(f"{paths.ROUTED}/{name}")
        for namespace in self._machine.topology.all():
            sequence = self._new(namespace)
            recovery = self._recovery(sequence)
            recovery.load_files(verify=not was_clean)
            try:
                for _ in recovery.read_log():
                    pass
            except (LogError, OSError) as error:
                self._fail(sequence, error)
            self._skip_what_views_know(sequence)
            sequence.files.may_block = False
        self._schedule()

    def _new(self, namespace: Namespace) -> RoutedSequence:
        files = IndexFiles(self._disk, f"{paths.ROUTED}/{namespace.sequence_id.hex}", namespace.id)
        sequence = self._by_id[namespace.id] = RoutedSequence(namespace, files)
        sequence.on_readable = lambda _: self._store_if_due(sequence)
        sequence.on_deadline = lambda arrival, queues: self.on_deadline(sequence, arrival, queues)
        return sequence

    def _recovery(self, sequence: RoutedSequence) -> SequenceRecovery:
        return SequenceRecovery(sequence, self._partition_of, self._server_id())

    def _skip_what_views_know(self, sequence: RoutedSequence) -> None:
        """Give out no sequence that a view knows something about: its event was lost."""
        for view in self._machine.views.of_topic(sequence.namespace.sequence_id):
            sequence.order.skip_to(_known_end(view.sequence))

    def bind(self) -> None:
        """The state was loaded again after a failed commit: namespaces are other objects."""
        topology = self._machine.topology
        for sequence in list(self._by_id.values()):
            namespace = topology.by_id(sequence.namespace.id)
            if namespace is None or namespace.sequence_id != sequence.namespace.sequence_id:
                self.forget(sequence.namespace)
            else:
                sequence.namespace = namespace

    # --- reading ------------------------------------------------------------------------------------------

    def of(self, namespace: Namespace) -> RoutedSequence:
        """The sequence of a namespace."""
        sequence = self._by_id.get(namespace.id)
        if sequence is None:
            sequence = self._new(namespace)
            sequence.files.may_block = False
            self._schedule()
        return sequence

    def log_end(self, sequence_id: UUID) -> int | None:
        """The sequence after the last event of a namespace that the log had at the start, or had before that:
        what views say of events that were deleted, or are carried over, is all that is left of them when the
        index is lost. None: the id is not that of a namespace."""
        namespace = self._machine.topology.by_sequence(sequence_id)
        if namespace is None:
            return None
        end = self.of(namespace).log_end
        for view in self._machine.views.of_topic(sequence_id):
            end = max(end, view.sequence.start, max(view.carried, default=-1) + 1)
        return end

    # --- an index that is damaged -------------------------------------------------------------------------

    def rebuild(self, sequence: RoutedSequence, error: Exception) -> None:
        """A page of the index is damaged: build it anew from the log, in turns of the loop. Its queues wait
        meanwhile."""
        if not sequence.problem:
            self._fail(sequence, error)

    def _fail(self, sequence: RoutedSequence, error: Exception) -> None:
        name = sequence.namespace.name
        sequence.problem = f"the index of namespace {name} is being built anew: {error}"
        log.error("%s", sequence.problem)
        self._clock.call_later(0.0, lambda: self._rebuild(sequence))

    def _rebuild(self, sequence: RoutedSequence) -> None:
        if self._closed or self._by_id.get(sequence.namespace.id) is not sequence:
            return
        recovery = self._recovery(sequence)
        try:
            recovery.start_anew()
            rebuilt = run_in_turns(self._clock, recovery.read_log(), 1)
        except OSError as error:
            rebuilt = Promise.failed(error)
        rebuilt.then(lambda done: self._on_rebuilt(sequence, done))

    def _on_rebuilt(self, sequence: RoutedSequence, done: Promise[None]) -> None:
        if self._closed:
            return
        name = sequence.namespace.name
        if done.error is not None:
            if not isinstance(done.error, LogError | OSError):
                raise done.error
            sequence.problem = f"the index of namespace {name} cannot be built anew: {done.error}"
            log.error("%s; next attempt in %.0f s", sequence.problem, RETRY_S)
            self._clock.call_later(RETRY_S, lambda: self._rebuild(sequence))
            return
        sequence.problem = ""
        log.warning("the index of namespace %s is built anew, and complete", name)
        sequence.wake_all()

    # --- files --------------------------------------------------------------------------------------------

    def _schedule(self) -> None:
        if self._timer is None and self._by_id and not self._closed:
            self._timer = self._clock.call_later(STORE_INTERVAL_S, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        for sequence in list(self._by_id.values()):
            self._store(sequence)
        self._schedule()

    def _store_if_due(self, sequence: RoutedSequence) -> None:
        if sequence.is_store_due:
            self._store(sequence)

    def _store(self, sequence: RoutedSequence) -> None:
        if self._machine.routing.deletion_in_flight(sequence.namespace) is None:
            sequence.drop_deleted_queues()
        sequence.store(
            {
                ordinal: partition.high_watermark
                for ordinal, place in sequence.namespace.partitions.items()
                if (partition := self._partition_of(place)) is not None
            }
        )

    def first_existing(self, sequence: RoutedSequence) -> int:
        """The sequence of the first event that retention has not deleted; after a number of events, the one
        reached. DamagedIndexPage, ColdIndexPage."""
        starts = {
            ordinal: partition.log_start_offset
            for ordinal, place in sequence.namespace.partitions.items()
            if (partition := self._partition_of(place)) is not None
        }
        start = sequence.index.start
        if starts == sequence.looked_at_starts:
            return start
        try:
            for count, arrival in enumerate(sequence.index.arrivals(start)):
                # A partition that is not there any more has no events.
                if count >= TRIM_EVENTS:
                    return start
                if arrival.offset >= starts.get(arrival.partition, NO_OFFSET):
                    break
                start = arrival.sequence + 1
        except ColdIndexPage:
            if start == sequence.index.start:
                raise
            return start
        sequence.looked_at_starts = starts
        return start

    def forget(self, namespace: Namespace) -> None:
        """The namespace was deleted."""
        sequence = self._by_id.pop(namespace.id, None)
        if sequence is not None:
            sequence.wake_all()
            try:
                sequence.files.delete()
            except OSError as error:
                log.warning("the index of the deleted namespace %s is not removed: %s", namespace.name, error)

    def close(self) -> None:
        """Write what is not written. Idempotent."""
        if self._closed:
            return
        for sequence in self._by_id.values():
            self._store(sequence)
            sequence.close()
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()


def _known_end(view: SequenceView) -> int:
    """A position above all that the view knows something about, which may be higher than need be."""
    pages_end = max(view.table.indexes(), default=-1) + 1 << PAGE_SHIFT
    return max(view.start, view.scanned, view.marked, pages_end)
