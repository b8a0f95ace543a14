"""The feed of a routed queue: its view of the arrival sequence of its namespace.

Owns: what becomes ready, from the index; and which arrival sequences are meant by places in partitions.
Refuses: what `feed.py` refuses. It has the methods of `PartitionFeed`, for positions that are arrival
sequences and not offsets.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Literal

from mainstem.contract import Position, PositionOutOfRange, UnknownTopic
from mainstem.coordinator.queues.route_header import place_of
from mainstem.coordinator.queues.routed_sequence import RoutedSequence
from mainstem.coordinator.queues.settlements import difference
from mainstem.coordinator.queues.views import SubscriptionView
from mainstem.engines.embedded.queues.carried import CarriedEvents
from mainstem.engines.embedded.queues.events import positions_of, read_batches
from mainstem.engines.embedded.queues.own_times import Arrivals
from mainstem.engines.embedded.queues.routed_scan import RoutedScan
from mainstem.engines.embedded.queues.routed_source import RoutedSource
from mainstem.engines.embedded.queues.routed_trim import (
    SCAN_EVENTS,
    positions_ahead,
    take_runs,
)
from mainstem.engines.embedded.queues.subscription_feed import READY_MAX, SubscriptionFeed
from mainstem.log.errors import CorruptBatch, OffsetOutOfRange
from mainstem.log.storage.record_batch import Record, decode, iter_batches
from mainstem.node import Node
from mainstem.queues.event_headers import level_of
from mainstem.queues.pages import PositionState
from mainstem.queues.priority_view import PriorityView
from mainstem.queues.runs import Run, merge_runs, runs_of
from mainstem.search.match.matcher import Matcher
from mainstem.turns import next_turn

RANKED_MAX = 1_000_000
"""A queue with levels of priority lets this number of its events be ready, the earliest, and delivers the
highest of these first. Without a filter they cost a look into the index, 3 µs, and 8 bytes of memory or a
few more."""
LEVELS_OF_STEP = 4_096
"""Events whose levels are looked up in a turn of the event loop."""
LOOK_BYTES = 64 << 10
"""Bytes of a partition that are read to find the sequence of an event."""


class RoutedFeed(SubscriptionFeed):
    """The view of one routed queue, while it is served."""

    def __init__(
        self,
        node: Node,
        view: SubscriptionView,
        sequence: RoutedSequence,
        source: RoutedSource,
        carried: CarriedEvents,
        matcher: Matcher | None,
        wake_due: Callable[[SubscriptionView], int],
        on_ready: Callable[[], None],
        trim: Callable[[RoutedSequence], Awaitable[None]],
    ) -> None:
        """`trim` lets the events of the namespace be done that were deleted."""
        super().__init__(node.clock, node.subscriptions, view, matcher, wake_due, on_ready)
        self.source = carried.over_routed(source, view.place)
        self.partition = source.partition
        self._reader = self.source
        self._node = node
        self._trim = trim
        self._sequence = sequence
        self._index = source.partition.reader
        self._arrived_before = 0
        """All events below had arrived at the last time that was asked for."""
        scan = RoutedScan(node.clock, node.subscriptions, self.source, self._ahead_of)
        self._scan: RoutedScan = scan
        if self.is_scanned:
            scan.join(self)
        sequence.watchers[view.subscription] = self._on_readable

    def _on_readable(self) -> None:
        if self.is_scanned:
            self._scan.scan_soon()
        else:
            self.on_ready()

    @property
    def stall(self) -> str:
        """Why nothing becomes ready, for people; empty in normal operation."""
        return self._index.problem or self.problem

    @property
    def arrivals(self) -> Arrivals:
        """See `SubscriptionFeed.arrivals`."""
        return self.partition

    @property
    def end(self) -> int:
        """See `SubscriptionFeed.end`."""
        return self._sequence.end

    @property
    def ahead(self) -> int:
        """Events of the queue that the scan has not reached."""
        return self.following(self.scanned)

    def following(self, position: int) -> int:
        """Events of the queue from this sequence on, processed or not, before a filter; an estimate if the
        disk has to be asked for the exact number."""
        if self._index.problem:
            return 0
        queue = self.view.subscription
        exact = self._index.look_now(lambda index: index.count(queue, position))
        return self._sequence.index.estimated_count(queue, position) if exact is None else exact

    async def count_from(self, position: int) -> int:
        """Events of the queue from this sequence on, processed or not, before a filter."""
        return await self._index.look(lambda index: index.count(self.view.subscription, position))

    async def oldest(self) -> tuple[Position, int] | None:
        """See `SubscriptionFeed.oldest`."""
        sequence = self.view.sequence
        if self._index.problem:
            return None
        if sequence.counts().outstanding:
            number = sequence.oldest
        else:
            runs, _ = await self._ahead_of(sequence.scanned, 1)
            if not runs:
                return None
            number = runs[0][0]
        carried = self.view.carried.get(number)
        if carried is not None:
            event = (await self.source.read([(number, number + 1)])).get(number)
            if event is None:
                return None
            return Position(event.topic, event.partition, event.offset), carried.arrived_ms
        located = await self.partition.find(number)
        topic = self._node.topics.by_id(located.partition.topic_id) if located is not None else None
        if located is None or topic is None:
            return None
        place = Position(topic.name, located.partition.index, located.arrival.offset)
        return place, located.arrival.arrived_ms

    def listen(self) -> None:
        """The queue is woken at each event that it gets."""

    async def advance(self) -> None:
        """See `SubscriptionFeed.advance`."""
        sequence = self.view.sequence
        self._wake_due(self.view)
        if self.is_scanned:
            self._scan.scan_soon()
        elif sequence.counts().ready < READY_MAX and sequence.scanned < self.end and not self._index.problem:
            runs, end = await self._ahead_of(self.scanned, SCAN_EVENTS)
            take_runs(self.view, runs, end)
        if isinstance(sequence, PriorityView) and not self._index.problem:
            await self._rank()

    async def _rank(self) -> None:
        """Let all that is ahead be ready, as far as there is room, and learn the levels of what is ready."""
        while not self.is_scanned and self.scanned < self.end:
            if self.view.sequence.counts().ready >= RANKED_MAX:
                break
            runs, end = await self._ahead_of(self.scanned, SCAN_EVENTS)
            take_runs(self.view, runs, end)
            await next_turn(self._clock)
        while isinstance(sequence := self.view.sequence, PriorityView):
            runs = sequence.unlevelled(LEVELS_OF_STEP)
            if not runs:
                return
            positions = list(positions_of(runs))
            levels, end = await self._index.look(lambda index, wanted=positions: index.levels(wanted))  # type: ignore[misc]
            copied = runs_of(position for position in positions if position in self.view.carried)
            for position, event in (await self._reader.read(copied)).items():  # the index may have forgotten
                levels[position] = level_of(event.headers)
            # A redrive, for example, may have made others outstanding meanwhile.
            now = sequence.unlevelled(LEVELS_OF_STEP)
            if not difference([(first, min(stop, end)) for first, stop in now if first < end], runs):
                sequence.learn_levels(end, levels)
            if len(positions) == LEVELS_OF_STEP:
                await next_turn(self._clock)

    async def make_ready(self, end: int) -> None:
        """See `SubscriptionFeed.make_ready`. NotReachable; errors of the log and the coordinator."""
        if self.scanned < end:
            await self.trim()  # which finds the copies of a copied folder: what is not known is done for good
        while self.scanned < end:
            runs, stop = await self._ahead_of(self.scanned, SCAN_EVENTS)
            take_runs(self.view, runs, min(stop, end))
            await next_turn(self._clock)

    async def _ahead_of(self, first: int, events_max: int) -> tuple[list[Run], int]:
        """The positions of the queue from one on, about `events_max`, and the position up to which these are
        all. NotReachable."""
        view = self.view
        runs, end = await positions_ahead(self._index, view.subscription, self.end, first, events_max)
        # An index that was built anew does not have what is only there as a copy.
        carried = [(position, position + 1) for position in view.carried if first <= position < end]
        return (merge_runs([*runs, *carried]) if carried else runs), end

    async def first_undone(self, events_max: int) -> list[Run]:
        """The positions of the first events of the queue that are not done, about `events_max`. Errors as
        those of `make_ready`."""
        await self.trim()
        await self.advance()
        sequence = self.view.sequence
        runs: list[Run] = []
        for first, end in sequence.runs_in(PositionState.READY, sequence.oldest):
            runs.append((first, min(end, first + events_max)))
            events_max -= end - first
            if events_max <= 0:
                break
        return runs

    async def value_sizes(self, runs: Sequence[Run]) -> list[int]:
        """The sizes of the values of the events at these positions, for as many of them as there are."""
        sizes: list[int] = []
        for number, position in enumerate(positions_of(runs), 1):
            located = await self.partition.find(position)
            sizes.append(0 if located is None else located.arrival.size)
            if not number % LEVELS_OF_STEP:
                await next_turn(self._clock)
        return sizes

    def lease_events(self, max_events: int, max_bytes: int) -> int:
        """How many events to lease at once, so that they have about `max_bytes`."""
        located = self.partition.find_now(self.view.sequence.oldest)
        size = max(1, located.arrival.size) if located is not None else 1
        return max(1, min(max_events, max_bytes // size))

    def arrived_before(self, wall_ms: int, began_ms: int) -> int:
        """See `SubscriptionFeed.arrived_before`. Exact, or earlier if the disk has to be asked."""
        first = max(self._arrived_before, self._sequence.index.start)
        if first < self.end:
            later = self._index.look_now(lambda index: (index.arrived_after(first, wall_ms),))
            if later is not None:
                self._arrived_before = self.end if later[0] is None else min(self.end, later[0])
        return self._arrived_before

    def arrived_by_ms(self, position: int) -> int:
        """See `SubscriptionFeed.arrived_by_ms`."""
        return self.partition.arrival_of(position)

    async def trim(self) -> None:
        """Let the events that retention has deleted be done, in all queues of the namespace. Errors of the
        log and the coordinator."""
        if not self._index.problem:
            await self._trim(self._sequence)

    # --- the positions of the contract ----------------------------------------------------------------------

    async def contract_position(self, position: int) -> Position | None:
        """Where an event is in its topic; None if it is deleted."""
        located = await self.partition.find(position)
        topic = self._node.topics.by_id(located.partition.topic_id) if located is not None else None
        if located is None or topic is None:
            return None
        return Position(topic.name, located.partition.index, located.arrival.offset)

    async def sequence_at(self, place: Position) -> int | None:
        """The sequence of the first event of the namespace at this place of its partition or after it; None:
        there is none. What damage has made unreadable is passed."""
        topic = self._node.topics.get(place.topic)
        if topic is None or (topic.id, place.partition) not in self._sequence.namespace.ordinals:
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
            number = self._first_sequence(memoryview(batches.data), offset)
            if number is not None:
                return number
            offset = max(offset + 1, batches.next_offset)
            await next_turn(self._clock)
        return None

    def _first_sequence(self, data: memoryview, offset: int) -> int | None:
        """The first sequence of the namespace in batches of the server, from an offset on."""
        namespace, server_id = self._sequence.namespace.id, self._node.producer_ids.server_id
        for position, header in iter_batches(data):
            if header.producer_id != server_id or header.is_control or header.next_offset <= offset:
                continue
            try:
                records: Sequence[Record] = decode(data[position : position + header.total_bytes])
            except CorruptBatch:
                continue
            for record in records:
                known = place_of(record.headers)
                if record.offset >= offset and known is not None and known.namespace == namespace:
                    return known.sequence
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
            if number is None or await self.contract_position(number) != place:
                continue
            if await self._has(number):
                runs.append((number, number + 1))
        return merge_runs(runs)

    async def _has(self, number: int) -> bool:
        """Whether the queue got the event with this sequence."""
        return await self.count_from(number) > await self.count_from(number + 1)

    def close(self) -> None:
        """Stop scanning and watching. Idempotent."""
        self._closed = True
        self._scan.leave(self)
        if self._sequence.watchers.get(self.view.subscription) == self._on_readable:
            del self._sequence.watchers[self.view.subscription]
