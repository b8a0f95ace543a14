"""Copies events that subscriptions pin out of segments that retention is to delete, and reads the copies.

A copy has the key, the value, the headers and the timestamp of its event, and a last header that says where
the event was. It is durable before the view knows of it, and the view before the segment may be deleted: a
crash in between leaves a copy that no view refers to, so it is never delivered. Only views say which copies
count.

Owns: the topic of carried events, its size included. Refuses: to decide which events are carried over.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TypeAlias
from uuid import UUID

from mainstem.contract import Event, NewEvent, Position
from mainstem.coordinator.queues.retention import CARRIED_MAX, CARRIED_OF_SEGMENT
from mainstem.coordinator.queues.route_header import place_of
from mainstem.coordinator.queues.settlements import difference
from mainstem.coordinator.queues.types import CARRIED_TOPIC
from mainstem.coordinator.queues.views import CarriedEvent, Place, SubscriptionView
from mainstem.coordinator.topics.topics import TopicMetadata
from mainstem.engines.embedded.publish import append, results_of
from mainstem.engines.embedded.queues.events import EventsAtPositions, EventSource, event_bytes, positions_of
from mainstem.engines.embedded.queues.routed_needs import RoutedNeeds
from mainstem.engines.embedded.queues.routed_publish import published_headers
from mainstem.engines.embedded.queues.routed_source import RoutedSource
from mainstem.log import paths
from mainstem.log.partition.partition import Partition
from mainstem.node import Node
from mainstem.queues.runs import Run, runs_of

FROM_HEADER = "mainstem-carried-from"
"""The last header of a copy: id of the topic, partition, offset, and the views that needed it."""
COPY_BYTES = 4 << 20
"""Events are copied in parts of about this size."""
RUN_BYTES = 64 << 20
"""What is copied out of a partition in a run of retention is not much more: it needs space itself."""
SETTINGS = {
    "retention.ms": "-1",
    "retention.bytes": "-1",
    "segment.bytes": str(128 << 20),
    "max.message.bytes": str(128 << 20),
    "message.timestamp.after.max.ms": str((1 << 63) - 1),
}

Copied: TypeAlias = tuple[int, int]
"""An offset, and the offset of the copy."""
CopyReader: TypeAlias = Callable[[Sequence[Run]], Awaitable[dict[int, Event]]]
"""Reads the copies among some positions."""
EventOfCopy: TypeAlias = Callable[[Event, int], Event | None]
"""The event at a position of whose copy this is; None: it is another's."""

log = logging.getLogger(__name__)


async def _read_both(
    source: EventSource | RoutedSource, carried: CopyReader, runs: Sequence[Run], max_bytes: int | None
) -> EventsAtPositions:
    copies = await carried(runs)
    if not copies:
        return await source.read(runs, max_bytes)
    size = sum(map(event_bytes, copies.values()))
    others = difference(runs, runs_of(copies))
    events = await source.read(others, None if max_bytes is None else max(0, max_bytes - size))
    events.update(copies)
    events.bytes += size
    return events


class ViewSource:
    """Reads the events of one view: those of its partition, and copies of those that were deleted there."""

    def __init__(self, source: EventSource, carried: CopyReader) -> None:
        """`carried` reads the copies among some positions."""
        self.topic = source.topic
        self.partition = source.partition
        self._source = source
        self._carried = carried

    async def read(self, runs: Sequence[Run], max_bytes: int | None = None) -> EventsAtPositions:
        """See `EventSource.read`."""
        return await _read_both(self._source, self._carried, runs, max_bytes)

    def forget(self) -> None:
        """See `EventSource.forget`."""
        self._source.forget()


class RoutedViewSource:
    """As `ViewSource`, for a routed queue."""

    def __init__(self, source: RoutedSource, carried: CopyReader) -> None:
        self.topic = source.topic
        self.partition = source.partition
        self._source = source
        self._carried = carried

    async def read(self, runs: Sequence[Run], max_bytes: int | None = None) -> EventsAtPositions:
        """See `RoutedSource.read`."""
        return await _read_both(self._source, self._carried, runs, max_bytes)


class CarriedEvents:
    """The carried events of all subscriptions of a node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._machine = node.subscriptions
        self.routed_needs = RoutedNeeds(node)
        self._changing = asyncio.Lock()
        """Held from the append of copies until views refer to them, and while the topic is shortened."""

    def over(self, source: EventSource, place: Place) -> ViewSource:
        """Reads the events of a partition for the view of a place, those included that are carried over."""
        return ViewSource(
            source, self._reader(lambda copy, position: _event_of(copy, source.topic, place, position), place)
        )

    def over_routed(self, source: RoutedSource, place: Place) -> RoutedViewSource:
        """As `over`, for the view of a routed queue."""
        return RoutedViewSource(source, self._reader(self._routed_event, place))

    def _routed_event(self, copy: Event, position: int) -> Event | None:
        """The event at an arrival sequence, of whose copy this is; None: it is another's."""
        origin = _origin_of(copy).split("/")
        place = place_of(copy.headers)
        if place is None or place.sequence != position or len(origin) < 3:
            return None
        topic = self._node.topics.by_id(UUID(hex=origin[0]))
        if topic is None:
            return None
        headers = published_headers(copy.headers)
        return Event(
            topic.name, int(origin[1]), int(origin[2]), copy.timestamp_ms, copy.key, copy.value, headers
        )

    async def create_topic(self) -> TopicMetadata:
        """The topic of carried events, which is made if it does not exist: before it is needed, so that a
        backup has it. Errors of the coordinator."""
        topic = self._node.topics.get(CARRIED_TOPIC)
        if topic is None:
            topic = await self._node.topics.create(
                CARRIED_TOPIC, 1, SETTINGS, reserved_id=paths.CARRIED_TOPIC
            )
        return await self._node.runtime.read(topic)

    # --- copying ------------------------------------------------------------------------------------------

    async def carry_over(self, partition: Partition) -> None:
        """Copy what is pinned in the oldest segments that the settings of the topic allow to delete, if it is
        little. Errors of the log and the coordinator, StreamError: it stays where it is."""
        async with self._changing:
            await self.routed_needs.look(partition)
            if self._node.queue_retention.has_pins(partition):
                await self._carry_over(partition)
                await self.routed_needs.look(partition)

    async def _carry_over(self, partition: Partition) -> None:
        topic = self._node.topics.by_id(partition.topic_id)
        allowed = await partition.preview_log_start(partition.config)
        segments = [
            (segment.base_offset, partition.segments.end_of(segment)) for segment in partition.segments
        ]
        routed = await self.routed_needs.few_pinned(partition, allowed, CARRIED_MAX)
        planned = self._node.queue_retention.plan_carrying(
            partition, [run for run in segments if run[1] <= allowed], partition.log_start_offset, routed
        )
        if topic is None or not planned:
            return
        source = EventSource(self._node.clock, topic.name, partition)
        runs = runs_of(planned)
        copied_bytes = 0
        while runs and copied_bytes < RUN_BYTES:
            events = await source.read(runs, COPY_BYTES)
            runs = events.left
            copied_bytes += events.bytes
            await self._copy(partition, planned, events)
        log.info(
            "%d pinned events of topic %s, partition %d are copied, so that their segments may be deleted",
            len(planned),
            topic.name,
            partition.index,
        )

    async def _copy(
        self,
        partition: Partition,
        views: Mapping[int, Sequence[SubscriptionView]],
        events: Mapping[int, Event],
    ) -> None:
        copies = []
        for event in events.values():
            needed = ",".join(str(view.id) for view in views[event.offset])
            place = _place_text(partition.topic_id, partition.index, event.offset) + needed
            copies.append(_copy_of(event, (*event.headers, (FROM_HEADER, place.encode()))))
        by_view: dict[int, list[tuple[int, int, int]]] = {}
        for origin, offset in await self._append(list(events), copies):
            arrived_ms = partition.arrival_of(origin)
            for view in views[origin]:
                position = self._position_in(
                    view, partition.topic_id.hex, partition.index, origin, events[origin]
                )
                if position is not None:
                    by_view.setdefault(view.id, []).append((position, offset, arrived_ms))
        await self._refer(by_view)

    def _position_in(
        self, view: SubscriptionView, topic_id: str, partition: int, offset: int, event: Event
    ) -> int | None:
        """The position in a view of an event, as it is stored: its offset, or its arrival sequence. None: it
        is none of the view."""
        namespace = self._machine.topology.by_sequence(view.topic_id)
        if namespace is not None:
            place = place_of(event.headers)
            return place.sequence if place is not None and place.namespace == namespace.id else None
        return offset if (view.topic_id.hex, view.partition) == (topic_id, partition) else None

    async def _refer(self, by_view: Mapping[int, Sequence[tuple[int, int, int]]]) -> None:
        """Let views refer to copies, which are durable."""
        for view_id, events in by_view.items():
            view = self._machine.views.get(view_id)
            if view is not None:
                await self._machine.changes.carry(view, events)

    async def _append(self, positions: Sequence[int], copies: Sequence[NewEvent]) -> list[Copied]:
        """Append copies of the events at these positions. Those that fail are left out."""
        if not copies:
            return []
        partition = self._node.partition(await self.create_topic(), 0)
        written = append(CARRIED_TOPIC, partition, copies, self._node.clock.wall_ms())
        results = [result for batch in await results_of(written) for result in batch]
        for result in results:
            if not isinstance(result, Position):
                log.warning("a pinned event is not carried over, and keeps its segment: %s", result)
                break
        return [
            (position, result.offset)
            for position, result in zip(positions, results, strict=True)
            if isinstance(result, Position)
        ]

    # --- reading ------------------------------------------------------------------------------------------

    def _reader(self, event_of: EventOfCopy, place: Place) -> CopyReader:
        async def read(runs: Sequence[Run]) -> dict[int, Event]:
            view = self._machine.views.find(place)
            if view is None or not view.carried:
                return {}
            chosen = {position: view.carried[position].offset for position in _among(view.carried, runs)}
            return await self._read(event_of, chosen) if chosen else {}

        return read

    async def _read(self, event_of: EventOfCopy, offsets: Mapping[int, int]) -> dict[int, Event]:
        """The events of positions whose copies are at these offsets. Those are missing that are not there."""
        partition = self._partition()
        if partition is None:
            return {}
        copies = await EventSource(self._node.clock, CARRIED_TOPIC, partition).read(runs_of(offsets.values()))
        events: dict[int, Event] = {}
        for position, offset in sorted(offsets.items()):
            copy = copies.get(offset)
            if copy is not None and (event := event_of(copy, position)) is not None:
                events[position] = event
        return events

    def _partition(self) -> Partition | None:
        topic: TopicMetadata | None = self._node.topics.get(CARRIED_TOPIC)
        return None if topic is None else self._node.partition(topic, 0)

    # --- copies of a folder ---------------------------------------------------------------------------------

    async def find_references(self) -> None:
        """Let views refer to the copies that they need and do not know of. For a copied folder: its state is
        older than its log, so events may have been carried over in between. Errors of the log and the
        coordinator, StreamError."""
        partition = self._partition()
        if partition is None:
            return
        source = EventSource(self._node.clock, CARRIED_TOPIC, partition)
        runs: Sequence[Run] = [(partition.log_start_offset, partition.high_watermark)]
        while runs and runs[0][0] < runs[0][1]:
            copies = await source.read(runs, COPY_BYTES)
            runs = copies.left
            by_view: dict[int, list[tuple[int, int, int]]] = {}
            for copy in copies.values():
                topic_id, index, offset, views = _origin_of(copy).split("/")
                for view_id in map(int, views.split(",")):
                    view = self._machine.views.get(view_id)
                    position = (
                        self._position_in(view, topic_id, int(index), int(offset), copy) if view else None
                    )
                    if position is not None:
                        entry = position, copy.offset, partition.arrival_of(copy.offset)
                        by_view.setdefault(view_id, []).append(entry)
            await self._refer(by_view)

    # --- size ---------------------------------------------------------------------------------------------

    async def shrink(self) -> None:
        """Delete the copies that no view refers to from the oldest segments, and copy again what few views
        refer to there. Errors of the log and the coordinator, StreamError."""
        async with self._changing:
            await self._shrink()

    async def _shrink(self) -> None:
        partition = self._partition()
        if partition is None:
            return
        referred: dict[int, list[tuple[SubscriptionView, int]]] = {}
        for view in self._machine.views.all():
            for position, copy in view.carried.items():
                referred.setdefault(copy.offset, []).append((view, position))
        if self._node.rejection_reason is None:
            await self._copy_again(partition, referred)
        oldest = min(
            (copy.offset for view in self._machine.views.all() for copy in view.carried.values()),
            default=partition.high_watermark,
        )
        # That nothing refers to what is deleted has to be durable: else a crash brings the references back.
        await self._node.queue_runtime.read(None)
        if oldest > partition.log_start_offset:
            await partition.delete_records(min(oldest, partition.high_watermark))

    async def _copy_again(
        self, partition: Partition, referred: Mapping[int, Sequence[tuple[SubscriptionView, int]]]
    ) -> None:
        for segment in partition.segments[:-1]:
            end = partition.segments.end_of(segment)
            offsets = [offset for offset in referred if segment.base_offset <= offset < end]
            if len(offsets) > (end - segment.base_offset) // CARRIED_OF_SEGMENT:
                return
            events = await EventSource(self._node.clock, CARRIED_TOPIC, partition).read(runs_of(offsets))
            copied = await self._append(
                list(events), [_copy_of(copy, copy.headers) for copy in events.values()]
            )
            by_view: dict[int, list[tuple[int, int, int]]] = {}
            for old_offset, offset in copied:
                for view, position in referred[old_offset]:
                    carried = view.carried.get(position)
                    if carried is not None and carried.offset == old_offset:
                        entry = position, offset, carried.arrived_ms
                        by_view.setdefault(view.id, []).append(entry)
            await self._refer(by_view)


def _copy_of(event: Event, headers: tuple[tuple[str, bytes | None], ...]) -> NewEvent:
    return NewEvent(event.value, event.key, headers, event.timestamp_ms)


def _event_of(copy: Event, topic: str, place: Place, position: int) -> Event | None:
    """The event of a partition of whose copy this is; None: it is another's."""
    _, topic_id, index = place
    if not _origin_of(copy).startswith(_place_text(topic_id, index, position)):
        return None
    return Event(topic, index, position, copy.timestamp_ms, copy.key, copy.value, copy.headers[:-1])


def _place_text(topic_id: UUID, partition: int, offset: int) -> str:
    return f"{topic_id.hex}/{partition}/{offset}/"


def _origin_of(copy: Event) -> str:
    name, value = copy.headers[-1] if copy.headers else ("", None)
    return (value or b"").decode("ascii", "replace") if name == FROM_HEADER else ""


def _among(carried: Mapping[int, CarriedEvent], runs: Sequence[Run]) -> Iterable[int]:
    """The positions of runs that are carried."""
    if sum(end - first for first, end in runs) < len(carried):
        return [position for position in positions_of(runs) if position in carried]
    return [position for position in carried if any(first <= position < end for first, end in runs)]
