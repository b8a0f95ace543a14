"""The sequence of a namespace: the order in which its events arrive, and its index.

Owns: what is readable, waking those that wait for it, and when the index is written to its files. Refuses:
publishing (an engine does), reading events, and deriving the index from the log (`sequence_recovery.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from mainstem.coordinator.queues.index_files import NO_CUT, IndexFiles
from mainstem.coordinator.queues.topology import Namespace
from mainstem.queues.arrivals import ArrivalOrder
from mainstem.queues.index_page import Arrival
from mainstem.queues.routed_index import RoutedIndex
from mainstem.queues.routes import QueueSet

STORE_ARRIVALS = 65_536
"""The index is written to its files after this number of events, and after some seconds: a start reads the
events since then from the log."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class RoutedBatch:
    """The events of a batch whose commit is not decided."""

    ordinal: int
    base_offset: int = -1
    """-1: it is not appended yet."""
    arrivals: list[tuple[Arrival, int, QueueSet]] = field(default_factory=list)
    """Events with their routes, and the queues of these."""


class RoutedSequence:
    """The sequence of one namespace."""

    def __init__(self, namespace: Namespace, files: IndexFiles) -> None:
        self.namespace = namespace
        """As the topology has it now."""
        self.files = files
        self.problem = ""
        """Why the index cannot be read at the moment, for people; empty in normal operation."""
        self.covered: dict[int, int] = {}
        """Ordinal of a partition -> the offset below which the index has all events, as of the last look."""
        self.looked_at_starts: dict[int, int] = {}
        """The log start offsets of the partitions at the last look at what retention has deleted."""
        self.watchers: dict[int, Callable[[], None]] = {}
        """Queue -> called when events of it became readable."""
        self.on_deadline: Callable[[Arrival, QueueSet], None] = lambda _, __: None
        """Called with each event that became readable for some queues, and names the time when it is over."""
        self.on_readable: Callable[[int], None] = lambda _: None
        """Called with the number of events that became readable."""
        self.index = RoutedIndex(namespace.id, files)
        self.order: ArrivalOrder[RoutedBatch] = ArrivalOrder(0)
        self.log_end = 0
        """At the start: the sequence after the last event that the log has, or has deleted."""
        self.cut = NO_CUT
        """The sequence from which on pages of the files are void, until the index is written again."""
        self.unstored = 0
        """Events of the index that its files do not have."""

    @property
    def end(self) -> int:
        """All events below this arrival sequence are decided and in the index, and readable."""
        return self.order.watermark

    # --- events that arrive -------------------------------------------------------------------------------

    def decided(self, first: int, *, committed: bool) -> None:
        """The commit of the batch with this first sequence has ended."""
        readable = self.order.end(first, committed=committed)
        routes: set[int] = set()
        count = 0
        for batch in readable:
            if self.problem:
                continue  # the index is being built anew, from the log, which has them
            for arrival, route, queues in batch.arrivals:
                count += 1
                if queues:
                    self.index.add(arrival, route, queues)
                    routes.add(route)
                    if arrival.deadline_ms:
                        self.on_deadline(arrival, queues)
        if count:
            self.unstored += count
            for route in routes:
                for queue in self.namespace.routes.queues(route):
                    if (wake := self.watchers.get(queue)) is not None:
                        wake()
            self.on_readable(count)

    def drop_deleted_queues(self) -> None:
        """Forget the entries of queues whose deletion is durable."""
        for queue in self.index.queues() - self.namespace.queues:
            self.index.drop_queue(queue)

    def wake_all(self) -> None:
        """All queues may have something to read."""
        for wake in list(self.watchers.values()):
            wake()

    def readable_ends(self, watermarks: dict[int, int]) -> dict[int, int]:
        """The offsets below which all events are decided, by ordinal, from the high watermarks: what is at or
        after them is added to the index when it is decided."""
        ends = dict(watermarks)
        for batch in self.order.undecided():
            if batch.base_offset >= 0 and batch.ordinal in ends:
                ends[batch.ordinal] = min(ends[batch.ordinal], batch.base_offset)
        return ends

    # --- files --------------------------------------------------------------------------------------------

    @property
    def is_store_due(self) -> bool:
        """Whether the index is to be written for the number of its new events."""
        return self.unstored >= STORE_ARRIVALS

    def store(self, watermarks: dict[int, int]) -> None:
        """Write what is new in the index. `watermarks`: the high watermark of each partition, by ordinal. An
        error of the disk is logged: the next start reads more of the log."""
        if self.problem:
            return
        covered = self.readable_ends(watermarks)
        if not self.unstored and self.cut == NO_CUT and covered == self.covered:
            return
        pages = self.index.pages_to_store()
        try:
            places = self.files.write(
                pages, covered, start=self.index.start, end=self.order.watermark, cut=self.cut
            )
            self.files.trim(self.index.start)
        except OSError as error:
            log.warning(
                "namespace %s: its index is not written; a start will read more of the log: %s",
                self.namespace.name,
                error,
            )
            return
        self.index.pages_stored(pages, places)
        self.covered = covered
        self.cut = NO_CUT
        self.unstored = 0

    def close(self) -> None:
        """Close the files."""
        self.files.close()
