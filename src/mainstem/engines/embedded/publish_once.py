"""Publishes events that their producers number, each of them once.

An event is stored before its id is recorded, and acknowledged in between. What a crash leaves unrecorded is
found again in the log: the last event of each batch names its producer and its id, in a header that counts in
batches of the server only. See `coordinator/publishers.py`.

Owns: what is in flight, the batches, and finding what is not recorded. Refuses: to store an event whose id is
not above the last one of its producer in its partition.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mainstem.clock import Timer
from mainstem.contract import Headers, InvalidArgument, NewEvent, NotReachable, Position, StreamError
from mainstem.coordinator.publishers import PartitionKey, Publishers
from mainstem.coordinator.topics.topic_configs import check_publishers
from mainstem.coordinator.topics.topics import TopicMetadata
from mainstem.door_contract import AMQP_SECTIONS_HEADER, PRODUCER_CHARS_MAX, PUBLISH_ID_MAX, OnceResult
from mainstem.engines.embedded.publish import BATCH_BYTES, BATCH_EVENTS_MAX, append, partition_of
from mainstem.engines.embedded.queues.events import read_batches
from mainstem.engines.embedded.queues.letters import users_headers
from mainstem.log.errors import CorruptBatch, LogError, OffsetOutOfRange
from mainstem.log.partition.partition import Partition
from mainstem.log.storage.record_batch import decode, iter_batches
from mainstem.node import Node
from mainstem.promise import Promise
from mainstem.turns import next_turn

PUBLISHER_HEADER = "mainstem-publisher"
"""The last header of the last event of a batch: `id:producer`."""
HEADER_ROOM_BYTES = 2_048
"""What the header adds to a batch, at most."""
EVENT_OVERHEAD_BYTES = 32
IDLE_S = 10.0
"""A partition is closed when it had no numbered event for this long."""
FORGET_S = 3_600.0
READ_BYTES = 256 << 10

IdentifiedEvents = Sequence[tuple[int, NewEvent]]

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Publisher:
    """A producer in a partition."""

    stored: int
    """The highest id whose event is durable."""
    last: int
    """The highest id whose event is in the log."""
    pending: Promise[list[Position | StreamError]] | None = None
    """The result of the last batch."""


@dataclass(slots=True)
class _OpenPartition:
    """A partition to which numbered events may be written."""

    used_s: float
    in_flight: int = 0


class OncePublisher:
    """The numbered events of one node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._machine: Publishers = node.publishers
        self._publishers: dict[tuple[PartitionKey, str], _Publisher] = {}
        self._open: dict[PartitionKey, _OpenPartition] = {}
        self._opening: dict[PartitionKey, asyncio.Lock] = {}
        self._unrecorded: dict[tuple[PartitionKey, str], tuple[int, int]] = {}
        """(partition, producer) -> id and offset."""
        self._is_recording = False
        self._timers: dict[str, Timer] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        node.queue_runtime.on_reloaded.append(self._open.clear)
        node.clock.call_soon(self._start)

    def _start(self) -> None:
        if self._closed:
            return
        self._machine.end_unknown(lambda topic_id: self._node.topics.by_id(topic_id) is not None)
        self._timers["forget"] = self._node.clock.call_later(FORGET_S, self._forget_idle)
        if self._machine.open_partitions():
            self._close_later()

    # --- publishing ---------------------------------------------------------------------------------------

    async def publish(
        self, topic: TopicMetadata, producer: str, events: IdentifiedEvents, ids_may_repeat: bool = False
    ) -> list[OnceResult]:
        """The result of each event. See `PublishesOnce.publish_once`. Errors of the log and the coordinator,
        StreamError."""
        _check(producer, events, ids_may_repeat)
        check_publishers(topic)
        by_partition: dict[int, list[int]] = {}
        for number, (_, event) in enumerate(events):
            index = event.partition
            if index is None:
                index = partition_of(producer.encode() if event.key is None else event.key, topic.partitions)
            by_partition.setdefault(index, []).append(number)
        partitions = {index: self._node.partition_to_append(topic, index) for index in by_partition}
        # While one is opened, others may be closed: the state is loaded again, or they have been idle.
        while missing := [index for index in partitions if (topic.id, index) not in self._open]:
            for index in missing:
                await self._ensure_open((topic.id, index), partitions[index])
        for index in partitions:
            self._open[topic.id, index].used_s = self._node.clock.monotonic()
        results: list[OnceResult] = [None] * len(events)
        waiting = []
        # From here to the last append nothing waits, so nothing else comes in between.
        for index, numbers in by_partition.items():
            waiting.append(
                self._publish_to(topic.name, partitions[index], producer, events, numbers, results)
            )
        for part in waiting:
            await part
        return results

    def _publish_to(
        self,
        topic: str,
        partition: Partition,
        producer: str,
        events: IdentifiedEvents,
        numbers: Sequence[int],
        results: list[OnceResult],
    ) -> Promise[None]:
        """Append the new ones of some events, which are of one partition. Done when their results are set."""
        key = partition.topic_id, partition.index
        publisher = self._publisher(key, producer)
        known = [number for number in numbers if events[number][0] <= publisher.last]
        finished = Promise[None].resolved(None)
        if known and events[known[-1]][0] > publisher.stored and publisher.pending is not None:
            finished = self._when_known(publisher, publisher.pending, events, known, results)
        chunks = list(_chunks(partition, events, numbers[len(known) :]))
        while chunks:
            chunk = chunks.pop(0)
            last_id = _complete_id(events, chunk, chunks, publisher.last)
            appended = self._append(topic, partition, producer, publisher, events, chunk, last_id)
            finished = _after(finished, self._when_stored(appended, chunk, results))
            if appended.done and isinstance(error := appended.result()[0], StreamError):
                for number in (number for rest in chunks for number in rest):
                    results[number] = NotReachable(f"not tried, because an earlier event failed: {error}")
                break
        return finished

    def _publisher(self, key: PartitionKey, producer: str) -> _Publisher:
        publisher = self._publishers.get((key, producer))
        if publisher is None:
            recorded = self._machine.get(key)
            last = recorded.names.get(producer) if recorded is not None else None
            stored = -1 if last is None else last.id
            publisher = self._publishers[key, producer] = _Publisher(stored, stored)
        return publisher

    def _append(
        self,
        topic: str,
        partition: Partition,
        producer: str,
        publisher: _Publisher,
        events: IdentifiedEvents,
        chunk: Sequence[int],
        last_id: int,
    ) -> Promise[list[Position | StreamError]]:
        """Append one batch, with which all events up to `last_id` are in the log; -1: none is."""
        node, key = self._node, (partition.topic_id, partition.index)
        server_id = node.producer_ids.server_id
        if server_id is None:
            return _failed(chunk, "the disk has refused to record the server's producer id")
        batch = []
        for number in chunk:
            event = events[number][1]
            headers = once_headers(event.headers)
            if number == chunk[-1] and last_id >= 0:
                headers.append((PUBLISHER_HEADER, f"{last_id}:{producer}".encode()))
            batch.append(NewEvent(event.value, event.key, tuple(headers), event.timestamp_ms))
        (appended,) = append(topic, partition, batch, node.clock.wall_ms(), producer_id=server_id)
        if appended.done and isinstance(appended.result()[0], StreamError):
            return appended
        publisher.last, publisher.pending = last_id, appended
        self._open[key].in_flight += 1

        def on_committed(done: Promise[list[Position | StreamError]]) -> None:
            if (opened := self._open.get(key)) is not None:
                opened.in_flight = max(0, opened.in_flight - 1)
                opened.used_s = node.clock.monotonic()
            result = done.result()[-1]
            if isinstance(result, Position):
                publisher.stored = max(publisher.stored, last_id)
                if last_id >= 0:
                    self._record(key, producer, last_id, result.offset)
            else:  # all that was appended after it has failed with it
                publisher.last = publisher.stored

        appended.then(on_committed)
        return appended

    @staticmethod
    def _when_stored(
        appended: Promise[list[Position | StreamError]], chunk: Sequence[int], results: list[OnceResult]
    ) -> Promise[None]:
        def set_results(parts: list[Position | StreamError]) -> None:
            for number, result in zip(chunk, parts, strict=True):
                results[number] = result

        return appended.map(set_results)

    @staticmethod
    def _when_known(
        publisher: _Publisher,
        pending: Promise[list[Position | StreamError]],
        events: IdentifiedEvents,
        numbers: Sequence[int],
        results: list[OnceResult],
    ) -> Promise[None]:
        """These events were sent before, and it is not known yet whether they are stored."""

        def set_results(_: object) -> None:
            for number in numbers:
                if events[number][0] > publisher.stored:
                    results[number] = NotReachable("its first sending, which was in flight, failed")

        return pending.map(set_results)

    # --- records ------------------------------------------------------------------------------------------

    def _record(self, key: PartitionKey, producer: str, id_: int, offset: int) -> None:
        known = self._unrecorded.get((key, producer))
        if known is None or known[0] < id_:
            self._unrecorded[key, producer] = id_, offset
        if not self._is_recording:
            self._is_recording = True
            self._node.clock.call_soon(self._record_all)

    def _record_all(self) -> None:
        """Record what is not recorded, in the order of the log."""
        chosen = sorted(self._unrecorded.items(), key=lambda item: item[1][1])
        if not chosen or self._closed:
            self._is_recording = False
            return

        def on_recorded(done: Promise[None]) -> None:
            if done.error is not None:  # the state is loaded again, or the server stops
                self._is_recording = False
                return
            for place, known in chosen:
                if self._unrecorded.get(place) == known:
                    del self._unrecorded[place]
            self._node.clock.call_soon(self._record_all)

        ids = [(key, producer, id_, offset) for (key, producer), (id_, offset) in chosen]
        self._machine.advance(ids).then(on_recorded)

    # --- opening and closing ------------------------------------------------------------------------------

    async def _ensure_open(self, key: PartitionKey, partition: Partition) -> None:
        """Make it durable that numbered events may follow in a partition, and learn of those before."""
        if key not in self._open:
            async with self._opening.setdefault(key, asyncio.Lock()):
                if key not in self._open:
                    await self._recover(key, partition)
                    await self._machine.open(key, partition.log_end_offset)
                    self._open[key] = _OpenPartition(self._node.clock.monotonic())
                    self._close_later()
            self._opening.pop(key, None)

    async def _recover(self, key: PartitionKey, partition: Partition) -> None:
        """Find what an earlier life of the server, or of its state, has not recorded."""
        recorded = self._machine.get(key)
        first = None if recorded is None else recorded.unrecorded_from(partition.high_watermark)
        end = partition.high_watermark
        while first is not None and first < end:
            try:
                batches = await read_batches(partition, max(first, partition.log_start_offset), READ_BYTES)
            except CorruptBatch as error:
                first = max(first + 1, error.next_offset or 0)
                continue
            except OffsetOutOfRange:
                first = partition.log_start_offset
                continue
            view = memoryview(batches.data)
            for position, header in iter_batches(view):
                if header.producer_id == self._node.producer_ids.server_id and not header.is_control:
                    self._learn(key, view[position : position + header.total_bytes])
                first = max(first, header.next_offset)
            await next_turn(self._node.clock)

    def _learn(self, key: PartitionKey, batch: memoryview) -> None:
        try:
            record = decode(batch)[-1]
        except (CorruptBatch, IndexError):
            return
        name, value = record.headers[-1] if record.headers else ("", None)
        id_, _, producer = (value or b"").decode(errors="replace").partition(":")
        if name != PUBLISHER_HEADER or not id_.isdecimal():
            return
        publisher = self._publisher(key, producer)
        if publisher.stored < int(id_):
            publisher.stored = int(id_)
            publisher.last = max(publisher.last, publisher.stored)
            self._record(key, producer, publisher.stored, record.offset)

    def _close_later(self) -> None:
        if "close" not in self._timers and not self._closed:
            self._timers["close"] = self._node.clock.call_later(IDLE_S, self._close_idle)

    def _close_idle(self) -> None:
        del self._timers["close"]
        task = asyncio.get_running_loop().create_task(self._close_all_idle())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _close_all_idle(self) -> None:
        for key in self._machine.open_partitions():
            try:
                await self._close_if_idle(key)
            except (LogError, StreamError) as error:
                log.warning("a partition with numbered events stays open: %s", error)
        if self._machine.open_partitions():
            self._close_later()

    async def _close_if_idle(self, key: PartitionKey) -> None:
        topic = self._node.topics.by_id(key[0])
        if topic is None:
            return
        opened = self._open.get(key)
        if opened is None:  # of an earlier life of the server
            await self._ensure_open(key, self._node.partition(topic, key[1]))
            return
        if opened.in_flight or self._node.clock.monotonic() - opened.used_s < IDLE_S:
            return
        if any(place[0] == key for place in self._unrecorded) or key in self._opening:
            self._record_all()
            return
        del self._open[key]
        for place in [place for place in self._publishers if place[0] == key]:
            del self._publishers[place]
        self._machine.close(key)

    # --- reading, the end ---------------------------------------------------------------------------------

    async def last(self, topic: TopicMetadata, producer: str) -> int | None:
        """See `PublishesOnce.last_published`. Errors of the log and the coordinator, StreamError."""
        ids = []
        for index in range(topic.partitions):
            key = topic.id, index
            if key not in self._open and self._machine.get(key) is not None:
                await self._recover(key, self._node.partition(topic, index))
            ids.append(self._publisher(key, producer).stored)
            if key not in self._open:
                del self._publishers[key, producer]
        highest = max(ids)
        return await self._node.queue_runtime.read(None if highest < 0 else highest)

    def _forget_idle(self) -> None:
        def on_forgotten(done: Promise[int]) -> None:
            again = done.error is None and done.result()
            wait_s = 0.0 if again else FORGET_S
            if not self._closed:
                self._timers["forget"] = self._node.clock.call_later(wait_s, self._forget_idle)

        self._machine.forget_idle().then(on_forgotten)

    def close(self) -> None:
        """Stop. What is not recorded is found again by the next start. Idempotent."""
        self._closed = True
        for timer in self._timers.values():
            timer.cancel()
        for task in self._tasks:
            task.cancel()


def once_headers(headers: Headers) -> list[tuple[str, bytes | None]]:
    """As `users_headers`, but the sections of an AMQP message stay what they are."""
    return [
        header if header[0] == AMQP_SECTIONS_HEADER else users_headers((header,))[0] for header in headers
    ]


def _check(producer: str, events: IdentifiedEvents, ids_may_repeat: bool) -> None:
    if not 0 < len(producer) <= PRODUCER_CHARS_MAX:
        raise InvalidArgument(f"the name of a producer has 1 to {PRODUCER_CHARS_MAX} characters")
    before = -1
    for id_, event in events:
        if not before < id_ <= PUBLISH_ID_MAX and not (ids_may_repeat and id_ == before >= 0):
            raise InvalidArgument(f"the ids of events rise, up to {PUBLISH_ID_MAX}: {id_} after {before}")
        before = id_
        if event.timestamp_ms is not None and event.timestamp_ms < 0:
            raise InvalidArgument(f"an event cannot have the time {event.timestamp_ms}: it is before 1970")


def _chunks(partition: Partition, events: IdentifiedEvents, numbers: Sequence[int]) -> Iterator[list[int]]:
    """The numbers of events that go into one batch each. Those of one id stay together, unless they are too
    many for a batch."""
    limit = min(BATCH_BYTES, partition.config.max_message_bytes) - HEADER_ROOM_BYTES
    chunk: list[int] = []
    size = 0
    for number in numbers:
        event_bytes = _size_bytes(events[number][1])
        if chunk and (size + event_bytes > limit or len(chunk) >= BATCH_EVENTS_MAX):
            first = next((i for i, known in enumerate(chunk) if events[known][0] == events[number][0]), 0)
            rest = chunk[first:] if first else []
            yield chunk[:first] if first else chunk
            chunk, size = rest, sum(_size_bytes(events[known][1]) for known in rest)
        chunk.append(number)
        size += event_bytes
    if chunk:
        yield chunk


def _size_bytes(event: NewEvent) -> int:
    headers = sum(len(name) + len(content or b"") + 16 for name, content in event.headers)
    return EVENT_OVERHEAD_BYTES + len(event.key or b"") + len(event.value or b"") + headers


def _complete_id(
    events: IdentifiedEvents, chunk: Sequence[int], following: Sequence[Sequence[int]], before: int
) -> int:
    """The highest id of which no event is missing once a chunk is in the log. `following`: the chunks behind
    it; `before`: what it was without this chunk."""
    last = events[chunk[-1]][0]
    if following and events[following[0][0]][0] == last:
        return max((events[number][0] for number in chunk if events[number][0] < last), default=before)
    return last


def _after(first: Promise[None], second: Promise[None]) -> Promise[None]:
    return first.chain(lambda _: second)


def _failed(chunk: Sequence[int], why: str) -> Promise[list[Position | StreamError]]:
    return Promise.resolved([NotReachable(why)] * len(chunk))
