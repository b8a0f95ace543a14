"""The feed of a routed queue: its view of the arrival sequence of its namespace.

Owns: what becomes ready, from the index, and reading the events at arrival sequences from the partitions
where they are. Refuses: what `feed.py` refuses. It has the methods of `PartitionFeed`, for positions that are
arrival sequences and not offsets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from mainstem.clock import Clock
from mainstem.contract import Event, NotReachable, Position, PositionOutOfRange, UnknownTopic
from mainstem.coordinator.queues.route_header import place_of
from mainstem.coordinator.queues.routed_sequence import RoutedSequence
from mainstem.coordinator.queues.views import SubscriptionView
from mainstem.engines.embedded.queues.counters import QueueCounters
from mainstem.engines.embedded.queues.events import EventsAtPositions, EventSource, positions_of, read_batches
from mainstem.engines.embedded.queues.routed_publish import published_headers
from mainstem.log.errors import CorruptBatch, OffsetOutOfRange
from mainstem.log.partition.partition import Partition
from mainstem.log.storage.record_batch import decode, iter_batches
from mainstem.node import Node
from mainstem.queues.index_page import Arrival, DamagedIndexPage
from mainstem.queues.runs import Run, add_run, complement, merge_runs
from mainstem.queues.view import SequenceView

READY_MAX = 100_000
"""No further positions become ready while a view has this many."""
SCAN_EVENTS = 16_384
"""Events of the queue that become ready in one turn of the loop, about."""
LOOK_BYTES = 64 << 10
"""Bytes of a partition that are read to find the sequence of an event."""


class SequenceRange:
    """The arrival sequence of a queue's namespace, as far as it is readable."""

    index = 0

    def __init__(self, node: Node, sequence: RoutedSequence) -> None:
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
        """When the event arrived, wall-clock ms; -1: it is not known."""
        located = self.find(position)
        return -1 if located is None else located[1].arrival_of(located[0].offset)

    def find(self, position: int) -> tuple[Arrival, Partition] | None:
        """Where an event is; None if it is deleted. NotReachable: the index is being built anew."""
        if self._sequence.problem:
            raise NotReachable(self._sequence.problem)
        try:
            arrival = self._sequence.index.arrival(position)
        except DamagedIndexPage as error:
            self._node.routed.rebuild(self._sequence, error)
            raise NotReachable(self._sequence.problem) from None
        if arrival is None:
            return None
        place = self._sequence.namespace.partitions.get(arrival.partition)
        partition = self._node.partition_at(place) if place is not None else None
        if partition is None or arrival.offset < partition.log_start_offset:
            return None
        return arrival, partition


class RoutedSource:
    """Reads the events at arrival sequences."""

    def __init__(self, node: Node, sequence: RoutedSequence) -> None:
        self.topic = sequence.namespace.name
        """For messages."""
        self.partition = SequenceRange(node, sequence)
        self._node = node
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
            number = await self._read_neighbours(positions, number, events)
        return events

    async def _read_neighbours(self, positions: Sequence[int], number: int, events: EventsAtPositions) -> int:
        """Read the events from this one on that follow each other in a partition. Returns where to go on."""
        located = self.partition.find(positions[number])
        if located is None:
            return number + 1
        arrival, partition = located
        by_offset = {arrival.offset: positions[number]}
        number += 1
        while number < len(positions):
            following = self.partition.find(positions[number])
            if following is None or following[1] is not partition:
                break
            if following[0].offset != arrival.offset + len(by_offset):
                break
            by_offset[following[0].offset] = positions[number]
            number += 1
        source = self._source(partition)
        if source is None:
            return number
        read = await source.read([(arrival.offset, arrival.offset + len(by_offset))])
        for offset, event in read.items():
            events[by_offset[offset]] = _as_published(event)
        events.bytes += read.bytes
        for first, end in read.unreadable:
            for offset in range(first, end):
                add_run(events.unreadable, by_offset[offset], by_offset[offset] + 1)
        return number

    def _source(self, partition: Partition) -> EventSource | None:
        source = self._sources.get(partition)
        if source is None:
            topic = self._node.topics.by_id(partition.topic_id)
            if topic is None:
                return None
            source = self._sources[partition] = EventSource(self._node.clock, topic.name, partition)
        return source

    def forget(self) -> None:
        """Keep no decoded batches: nothing is read for a while."""
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


class RoutedFeed:
    """The view of one routed queue, while it is served."""

    unreadable = 0
    """Events that a scan could not read: nothing is read before it is delivered."""
    reads_keys = is_scanned = False

    def __init__(
        self,
        node: Node,
        view: SubscriptionView,
        sequence: RoutedSequence,
        counters: QueueCounters,
        on_ready: Callable[[], None],
    ) -> None:
        self.view = view
        self.source = RoutedSource(node, sequence)
        self.partition = self.source.partition
        self.on_ready = on_ready
        self._clock: Clock = node.clock
        self._node = node
        self._sequence = sequence
        self._counters = counters
        self._closed = False
        sequence.watchers[view.subscription] = on_ready

    @property
    def problem(self) -> str:
        """Why nothing becomes ready, for people; empty in normal operation."""
        return self._sequence.problem

    @property
    def ahead(self) -> int:
        """Events of the queue that the scan has not reached."""
        return self.following(self.view.sequence.scanned)

    def following(self, position: int) -> int:
        """Events of the queue from this sequence on, processed or not."""
        if self._sequence.problem:
            return 0
        try:
            return self._sequence.index.count(self.view.subscription, position)
        except DamagedIndexPage as error:
            self._node.routed.rebuild(self._sequence, error)
            return 0

    def bind(self) -> bool:
        """Use the present view of this place, which a reload of the state replaces. False: there is none."""
        view = self._node.subscriptions.views.find(self.view.place)
        if view is None or self._closed:
            return False
        self.view = view
        return True

    def listen(self) -> None:
        """The queue is woken at each event that it gets."""
        self.source.forget()

    def advance(self) -> None:
        """Let what is due, and what arrived, be ready."""
        sequence = self.view.sequence
        self._counters.wake_due(sequence, self._clock.wall_ms())
        if sequence.counts().ready < READY_MAX:
            self._scan(self.view, self._sequence.end, SCAN_EVENTS)

    def scan_soon(self) -> None:
        """Nothing is scanned in the background."""

    def scan_all(self) -> None:
        """Let nothing be ahead: everything is purged next."""
        self._scan(self.view, self._sequence.end, 1 << 60)

    def _scan(self, view: SubscriptionView, end: int, events_max: int) -> None:
        """Let the queue's events up to this sequence be ready, about `events_max` of them."""
        sequence = view.sequence
        if sequence.scanned >= end or self._sequence.problem:
            return
        try:
            runs, following = self._sequence.index.runs(view.subscription, sequence.scanned, events_max)
        except DamagedIndexPage as error:
            self._node.routed.rebuild(self._sequence, error)
            return
        stop = end if following is None else min(end, following)
        runs = [(first, min(last, stop)) for first, last in runs if first < stop]
        sequence.scan(stop, complement(sequence.scanned, stop, runs))

    def lease_events(self, max_events: int, max_bytes: int) -> int:
        """How many events to lease at once, so that they have about `max_bytes`."""
        sequence: SequenceView = self.view.sequence
        located = self.partition.find(sequence.oldest)
        size = max(1, located[0].size) if located is not None else 1
        return max(1, min(max_events, max_bytes // size))

    async def trim(self) -> None:
        """Let the events that retention has deleted be done, in all queues of the namespace. Errors of the
        log and the coordinator."""
        if self._sequence.problem:
            return
        try:
            start = self._node.routed.first_existing(self._sequence)
        except DamagedIndexPage as error:
            self._node.routed.rebuild(self._sequence, error)
            return
        if start <= self._sequence.index.start:
            return
        machine, sequence_id = self._node.subscriptions, self._sequence.namespace.sequence_id
        for view in machine.views.of_topic(sequence_id):
            while view.sequence.scanned < start and not self._sequence.problem:
                self._scan(view, start, SCAN_EVENTS)
        await machine.changes.trim(sequence_id, 0, start)
        self._sequence.index.trim(start)

    # --- the positions of the contract ----------------------------------------------------------------------

    def contract_position(self, position: int) -> Position | None:
        """Where an event is in its topic; None if it is deleted."""
        located = self.partition.find(position)
        topic = self._node.topics.by_id(located[1].topic_id) if located is not None else None
        if located is None or topic is None:
            return None
        return Position(topic.name, located[1].index, located[0].offset)

    async def sequence_at(self, place: Position) -> int | None:
        """The sequence of the first event of the namespace at this place of its partition or after it; None:
        there is none."""
        topic = self._node.topics.get(place.topic)
        namespace = self._sequence.namespace
        if topic is None or (topic.id, place.partition) not in namespace.ordinals:
            return None
        partition = self._node.partition(topic, place.partition)
        offset = max(place.offset, partition.log_start_offset)
        while offset < partition.high_watermark:
            try:
                batches = await read_batches(partition, offset, LOOK_BYTES)
            except CorruptBatch as error:
                offset = max(offset + 1, error.next_offset or 0)
                continue
            except OffsetOutOfRange:
                offset = max(offset + 1, partition.log_start_offset)
                continue
            data = memoryview(batches.data)
            for position, header in iter_batches(data):
                if header.producer_id != self._node.producer_ids.server_id:
                    continue
                for record in decode(data[position : position + header.total_bytes]):
                    known = place_of(record.headers)
                    if record.offset >= offset and known is not None and known.namespace == namespace.id:
                        return known.sequence
            offset = max(offset + 1, batches.next_offset)
        return None

    async def position_after(self, place: Position) -> int:
        """The position after an event; if that is deleted, after the next one of its partition."""
        number = await self.sequence_at(place)
        return self.partition.high_watermark if number is None else number + 1

    async def sought(self, to: Literal["earliest", "latest"] | int | Position) -> int:
        """The position that a seek names. PositionOutOfRange; UnknownTopic: no event of the namespace is in
        this partition."""
        if to == "earliest":
            return self.partition.log_start_offset
        if to == "latest":
            return self.partition.high_watermark
        if isinstance(to, Position):
            topic = self._node.topics.get(to.topic)
            if topic is None or (topic.id, to.partition) not in self._sequence.namespace.ordinals:
                raise UnknownTopic(
                    f"the queue gets no events from partition {to.partition} of topic {to.topic}"
                )
            partition = self._node.partition(topic, to.partition)
            if not partition.log_start_offset <= to.offset <= partition.high_watermark:
                raise PositionOutOfRange(
                    f"topic {to.topic}, partition {to.partition}: it has the offsets"
                    f" {partition.log_start_offset} to {partition.high_watermark}"
                )
            number = await self.sequence_at(to)
            return self.partition.high_watermark if number is None else number
        assert isinstance(to, int), "the words were compared before"
        return await self._first_since(to)

    async def _first_since(self, time_ms: int) -> int:
        """The position of the first event with this timestamp or a later one, over all partitions."""
        first = self.partition.high_watermark
        for place in self._sequence.namespace.partitions.values():
            topic, partition = self._node.topics.by_id(place[0]), self._node.partition_at(place)
            timed = await partition.offset_for_time(time_ms) if partition is not None else None
            if timed is not None and topic is not None:
                number = await self.sequence_at(Position(topic.name, place[1], timed.offset))
                first = first if number is None else min(first, number)
        return first

    async def runs_of(self, places: Sequence[Position]) -> list[Run]:
        """The positions of those of these events that are of the namespace."""
        runs: list[Run] = []
        for place in places:
            number = await self.sequence_at(place) if place.offset >= 0 else None
            if number is not None and self.contract_position(number) == place and self._has(number):
                runs.append((number, number + 1))
        return merge_runs(runs)

    def _has(self, number: int) -> bool:
        """Whether the queue got the event with this sequence."""
        return self.following(number) > self.following(number + 1)

    def close(self) -> None:
        """Stop watching. Idempotent."""
        self._closed = True
        if self._sequence.watchers.get(self.view.subscription) is self.on_ready:
            del self._sequence.watchers[self.view.subscription]
