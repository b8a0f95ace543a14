"""Reads the events of a routed queue: those at arrival sequences, from the partitions where they are.

Owns: reading the index of the namespace without waiting for the disk, having it built anew if it turns out to
be damaged, and finding events by it. Refuses: to know what a view is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

from mainstem.contract import Event, NotReachable
from mainstem.coordinator.queues.route_header import RoutePlace, place_of
from mainstem.coordinator.queues.routed_sequence import RoutedSequence
from mainstem.engines.embedded.queues.events import (
    DecodedBudget,
    EventsAtPositions,
    EventSource,
    positions_of,
    read_batches,
)
from mainstem.engines.embedded.queues.routed_publish import published_headers
from mainstem.log.errors import CorruptBatch, OffsetOutOfRange
from mainstem.log.partition.partition import Partition
from mainstem.log.storage.record_batch import decode, iter_batches
from mainstem.node import Node
from mainstem.queues.index_page import Arrival, ColdIndexPage, DamagedIndexPage
from mainstem.queues.routed_index import RoutedIndex
from mainstem.queues.runs import Run, add_run

T = TypeVar("T")

NEIGHBOURS_MAX = 512
"""Events that are looked up in the index at once."""


class LocatedEvent(NamedTuple):
    """An event, and where it is."""

    arrival: Arrival
    partition: Partition


class RoutedIndexReader:
    """The index of a namespace, for a server that does not wait for its disk."""

    def __init__(self, node: Node, sequence: RoutedSequence) -> None:
        self._node = node
        self._sequence = sequence

    @property
    def problem(self) -> str:
        """Why nothing can be looked up at the moment; empty in normal operation."""
        return self._sequence.problem

    async def look(self, call: Callable[[RoutedIndex], T]) -> T:
        """What a call returns that reads the index: it is repeated when pages were fetched that it needs.
        NotReachable: the index is being built anew."""
        while True:
            self._check()
            try:
                return call(self._sequence.index)
            except ColdIndexPage as cold:
                await self._sequence.files.fetch(cold.place)
            except DamagedIndexPage as error:
                self._node.routed.rebuild(self._sequence, error)

    def look_now(self, call: Callable[[RoutedIndex], T]) -> T | None:
        """As `look`; None if a page has to be fetched first: a later call finds it. NotReachable."""
        self._check()
        try:
            return call(self._sequence.index)
        except ColdIndexPage as cold:
            self._sequence.files.fetch(cold.place)
            return None
        except DamagedIndexPage as error:
            self._node.routed.rebuild(self._sequence, error)
            raise NotReachable(self._sequence.problem) from None

    def _check(self) -> None:
        if self._sequence.problem:
            raise NotReachable(self._sequence.problem)


class SequenceRange:
    """The arrival sequence of a queue's namespace, as far as it is readable."""

    index = 0

    def __init__(self, node: Node, sequence: RoutedSequence) -> None:
        self.reader = RoutedIndexReader(node, sequence)
        self._node = node
        self._sequence = sequence

    @property
    def log_start_offset(self) -> int:
        """The events below are deleted."""
        return self._sequence.index.start

    @property
    def high_watermark(self) -> int:
        """The sequence after the last readable event."""
        return self._sequence.end

    def arrival_of(self, position: int) -> int:
        """When the event arrived, wall-clock ms; -1: that is not known at the moment. NotReachable."""
        arrival = self.reader.look_now(lambda index: index.arrival(position))
        return -1 if arrival is None else arrival.arrived_ms

    async def find(self, position: int) -> LocatedEvent | None:
        """Where an event is; None if it is deleted. NotReachable: the index is being built anew."""
        return self.locate(await self.reader.look(lambda index: index.arrival(position)))

    def find_now(self, position: int) -> LocatedEvent | None:
        """As `find`; None also if the index has to be fetched first."""
        return self.locate(self.reader.look_now(lambda index: index.arrival(position)))

    def locate(self, arrival: Arrival | None) -> LocatedEvent | None:
        """Where the event of an entry is; None if it is deleted."""
        if arrival is None:
            return None
        place = self._sequence.namespace.partitions.get(arrival.partition)
        partition = self._node.partition_at(place) if place is not None else None
        if partition is None or arrival.offset < partition.log_start_offset:
            return None
        return LocatedEvent(arrival, partition)


class RoutedSource:
    """Reads the events at arrival sequences."""

    def __init__(self, node: Node, sequence: RoutedSequence, budget: DecodedBudget | None = None) -> None:
        """`budget`: of the decoded batches of all partitions."""
        self.topic = sequence.namespace.name
        """For messages."""
        self.partition = SequenceRange(node, sequence)
        self.sequence = sequence
        self._node = node
        self._budget = budget
        self._sources: dict[Partition, EventSource] = {}

    async def read(self, runs: Sequence[Run], max_bytes: int | None = None) -> EventsAtPositions:
        """As `EventSource.read`, by arrival sequence. NotReachable also while the index is built anew."""
        events = EventsAtPositions()
        positions = list(positions_of(runs))
        number = 0
        while number < len(positions):
            if max_bytes is not None and events.bytes >= max_bytes:
                for position in positions[number:]:
                    add_run(events.left, position, position + 1)
                break
            room = None if max_bytes is None else max_bytes - events.bytes
            number = await self._read_neighbours(positions, number, events, room)
        return events

    async def _read_neighbours(
        self, positions: Sequence[int], number: int, events: EventsAtPositions, max_bytes: int | None
    ) -> int:
        """Read the events from this one on that follow each other in a partition. Returns where to go on."""
        wanted = positions[number : number + NEIGHBOURS_MAX]
        arrivals = await self.partition.reader.look(lambda index: index.arrivals_at(wanted))
        located = self.partition.locate(arrivals[0])
        if located is None:
            return number + 1
        partition, ordinal, first = located.partition, located.arrival.partition, located.arrival.offset
        by_offset: dict[int, int] = {}
        for position, arrival in zip(wanted, arrivals, strict=False):
            offset = first + len(by_offset)
            if arrival is None or arrival.offset != offset or arrival.partition != ordinal:
                break
            by_offset[offset] = position
        end = number + len(by_offset)
        source = self._source(partition)
        if source is None:
            return end
        read = await source.read([(first, first + len(by_offset))], max_bytes)
        for offset, event in read.items():
            events[by_offset[offset]] = _as_published(event)
        events.bytes += read.bytes
        for low, high in read.unreadable:
            for offset in range(low, high):
                add_run(events.unreadable, by_offset[offset], by_offset[offset] + 1)
        return end - sum(high - low for low, high in read.left)

    def _source(self, partition: Partition) -> EventSource | None:
        source = self._sources.get(partition)
        if source is None:
            topic = self._node.topics.by_id(partition.topic_id)
            if topic is None:
                return None
            source = EventSource(self._node.clock, topic.name, partition, self._budget)
            self._sources[partition] = source
        return source

    def forget(self) -> None:
        """Keep no decoded batches: nothing is read for a while."""
        for source in self._sources.values():
            source.forget()
        self._sources.clear()


def _as_published(event: Event) -> Event:
    return Event(
        event.topic,
        event.partition,
        event.offset,
        event.timestamp_ms,
        event.key,
        event.value,
        published_headers(event.headers),
    )


async def place_of_event(partition: Partition, offset: int, server_id: int | None) -> RoutePlace | None:
    """What the event at an offset says of its route; None: it is none of a routed queue, or unreadable.
    LogError: the partition cannot be read."""
    try:
        batches = await read_batches(partition, offset, 1)
    except (CorruptBatch, OffsetOutOfRange):
        return None
    data = memoryview(batches.data)
    for position, header in iter_batches(data):
        if header.base_offset <= offset < header.next_offset and header.producer_id == server_id:
            try:
                records = decode(data[position : position + header.total_bytes])
            except CorruptBatch:
                return None
            return next((place_of(record.headers) for record in records if record.offset == offset), None)
    return None


class RoutedSources:
    """The sources of all namespaces: the queues of one share it, with the batches that were decoded last."""

    def __init__(self, node: Node, budget: DecodedBudget) -> None:
        self._node = node
        self._budget = budget
        self._by_id: dict[int, RoutedSource] = {}

    def of(self, sequence: RoutedSequence) -> RoutedSource:
        """That of a namespace."""
        source = self._by_id.get(sequence.namespace.id)
        if source is None or source.sequence is not sequence:
            source = RoutedSource(self._node, sequence, self._budget)
            self._by_id[sequence.namespace.id] = source
        return source

    def forget(self, namespace: int) -> None:
        """The namespace with this number was deleted."""
        source = self._by_id.pop(namespace, None)
        if source is not None:
            source.forget()
