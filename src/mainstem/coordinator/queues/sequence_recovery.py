"""Makes the sequence of a namespace from its index files and the log, and from the log alone.

The log decides. Of the files those groups count that fit it: none that says that it knows an offset which
the log does not have. What they do not have is read from the partitions: batches with the server's own
producer id, whose events have the number of their route and their sequence; no other batch is opened.

Owns: this derivation. Refuses: to change the log. Blocks while it reads, a slice at a time.
"""

from __future__ import annotations

import heapq
import logging
from collections.abc import Callable, Iterator
from operator import itemgetter

from mainstem.coordinator.queues.index_files import NO_CUT
from mainstem.coordinator.queues.route_header import RoutePlace, place_of
from mainstem.coordinator.queues.routed_sequence import RoutedSequence
from mainstem.coordinator.queues.topology import PartitionPlace
from mainstem.log.errors import CorruptBatch, OffsetOutOfRange, StorageError
from mainstem.log.partition.partition import Partition
from mainstem.log.storage.record_batch import Record, decode, iter_batches
from mainstem.queues.event_headers import expiry_of, level_of
from mainstem.queues.index_page import Arrival, DamagedIndexPage
from mainstem.queues.routed_index import RoutedIndex

READ_BYTES = 256 << 10
"""Bytes of a partition that are read at once."""
STEP_EVENTS = 1_000
"""Events that are added between two steps."""

log = logging.getLogger(__name__)

Routed = tuple[int, Arrival, int]
"""A sequence, its event, its route."""


class SequenceRecovery:
    """The recovery of one sequence."""

    def __init__(
        self,
        sequence: RoutedSequence,
        partition_of: Callable[[PartitionPlace], Partition | None],
        server_id: int | None,
    ) -> None:
        self._sequence = sequence
        self._server_id = server_id
        self._partitions: dict[int, Partition] = {}
        for ordinal, place in sequence.namespace.partitions.items():
            if (partition := partition_of(place)) is not None:
                self._partitions[ordinal] = partition

    # --- files --------------------------------------------------------------------------------------------

    def load_files(self, *, verify: bool) -> None:
        """Load the index from its files, as far as they fit the log. `verify`: check every page."""
        sequence = self._sequence
        end = known_end = 0
        try:
            for group in sequence.files.load(verify=verify):
                if group.cut != NO_CUT:
                    sequence.index.cut(group.cut)
                sequence.index.load(group.loaded)
                sequence.index.trim(group.start)
                sequence.covered = group.covered
                known_end = group.end
            end = min(known_end, self._fit_to_log())
        except (ValueError, DamagedIndexPage, OSError) as error:
            log.warning(
                "the index of namespace %s is not used, and is built anew from the log: %s",
                sequence.namespace.name,
                error,
            )
            self.start_anew()
            end = 0
        sequence.drop_deleted_queues()
        sequence.log_end = max(end, sequence.index.end)
        sequence.order.skip_to(max(known_end, sequence.log_end))

    def start_anew(self) -> None:
        """Forget the index and delete its files."""
        sequence = self._sequence
        sequence.files.delete()
        sequence.index = RoutedIndex(sequence.namespace.id, sequence.files)
        sequence.covered = {}
        sequence.cut = NO_CUT

    def _fit_to_log(self) -> int:
        """Cut the index where the log has lost events that it has: after a power cut with durability=os, in a
        copy of a folder, after a repair. Returns the sequence from which on it has none."""
        sequence, covered = self._sequence, self._sequence.covered
        ends = {ordinal: partition.high_watermark for ordinal, partition in self._partitions.items()}
        lost = {ordinal for ordinal, offset in covered.items() if ordinal in ends and offset > ends[ordinal]}
        if not lost:
            return NO_CUT
        cut = NO_CUT
        unresolved = set(lost)
        for arrival in sequence.index.arrivals_backwards():
            if arrival.partition in lost:
                if arrival.offset >= ends[arrival.partition]:
                    cut = arrival.sequence
                else:
                    unresolved.discard(arrival.partition)
                    if not unresolved:
                        break
        for ordinal in lost:
            covered[ordinal] = ends[ordinal]
        if cut == NO_CUT:
            return cut
        for arrival in sequence.index.arrivals(cut):
            if arrival.partition in covered:
                covered[arrival.partition] = min(covered[arrival.partition], arrival.offset)
        log.warning(
            "the log has lost events that the index of namespace %s has: the index ends at %d now",
            sequence.namespace.name,
            cut,
        )
        sequence.index.cut(cut)
        sequence.cut = cut
        return cut

    # --- the log ------------------------------------------------------------------------------------------

    def read_log(self) -> Iterator[int]:
        """Add the events that the index does not have. Yields, now and then, how many it has read. At the end
        `covered` is the high watermark of each partition, but for events that are not decided. StorageError,
        OSError."""
        sequence = self._sequence
        if self._partitions and self._server_id is None:
            raise StorageError("the producer id of the server is not known at the moment")
        joined = sequence.namespace.joined
        starts = {ordinal: sequence.covered.get(ordinal, joined[ordinal]) for ordinal in self._partitions}
        count = 0
        while (ends := self._readable_ends()) != starts:
            parts = [self._events(ordinal, starts[ordinal], ends[ordinal]) for ordinal in ends]
            for number, arrival, route in heapq.merge(*parts, key=itemgetter(0)):
                sequence.log_end = max(sequence.log_end, number + 1)
                # One whose route is not known, or has no queue that exists, is in no queue.
                queues = sequence.namespace.routes.queues(route)
                if queues and number >= sequence.index.end:
                    sequence.index.add(arrival, route, queues)
                    sequence.unstored += 1
                count += 1
                if count == STEP_EVENTS:
                    yield count
                    count = 0
            starts = ends
        sequence.covered = starts
        if not sequence.order.has_undecided:
            sequence.order.skip_to(sequence.log_end)

    def _readable_ends(self) -> dict[int, int]:
        """The ends of the partitions as far as their events are decided. All events below, of all partitions,
        have lower sequences than those that are not decided."""
        watermarks = {ordinal: partition.high_watermark for ordinal, partition in self._partitions.items()}
        return self._sequence.readable_ends(watermarks)

    def _events(self, ordinal: int, start: int, end: int) -> Iterator[Routed]:
        """The routed events of a partition in a range of offsets, by their sequences."""
        namespace, last = self._sequence.namespace, -1
        for record in self._records(self._partitions[ordinal], start, end):
            place = place_of(record.headers)
            if place is None or place.namespace != namespace.id or place.sequence <= last:
                continue
            last = place.sequence
            yield last, arrival_of(record, ordinal, place), place.route

    def _records(self, partition: Partition, start: int, end: int) -> Iterator[Record]:
        """The records of the server's own batches."""
        offset = max(start, partition.log_start_offset)
        while offset < end:
            try:
                batches = partition.read_blocking(offset, READ_BYTES)
            except CorruptBatch as error:
                offset = max(offset + 1, error.next_offset or 0)
                continue
            except OffsetOutOfRange:
                offset = max(offset + 1, partition.log_start_offset)
                continue
            view = memoryview(batches.data)
            for position, header in iter_batches(view):
                if header.base_offset >= end:
                    return
                if header.producer_id != self._server_id or header.is_control:
                    continue
                try:
                    records = decode(view[position : position + header.total_bytes])
                except CorruptBatch:
                    continue
                yield from (record for record in records if offset <= record.offset < end)
            offset = max(offset + 1, batches.next_offset)


def arrival_of(record: Record, ordinal: int, place: RoutePlace) -> Arrival:
    """The entry of an event."""
    headers = record.headers[1:]
    arrived_ms = max(0, record.timestamp_ms + place.after_ms)
    return Arrival(
        place.sequence,
        ordinal,
        record.offset,
        len(record.value or b""),
        level_of(headers) if headers else 0,
        expiry_of(headers) if headers else 0,
        arrived_ms,
    )
