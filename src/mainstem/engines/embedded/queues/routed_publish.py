"""Publishes events to the queues of a namespace: each event is stored once, with the number of its route.

Owns: the order of a namespace. Calls are published in their order; one whose route or partition is not
durable in the state log yet waits for that, and those after it wait, too, so that no event of the log refers
to what a crash may take away. Refuses: to choose the queues of an event (a door matches its bindings), and
raising errors: each event gets a result of its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple
from uuid import UUID

import msgspec

from mainstem.contract import NewEvent, NotReachable, Position, StreamError, UnknownTopic
from mainstem.coordinator.errors import CoordinatorError
from mainstem.coordinator.queues.route_header import ROUTE_HEADER, RoutePlace
from mainstem.coordinator.queues.routed_sequence import RoutedBatch, RoutedSequence
from mainstem.coordinator.queues.topology import Namespace
from mainstem.coordinator.topics.topics import TopicMetadata
from mainstem.engines.embedded.errors import translate
from mainstem.engines.embedded.publish import (
    BATCH_BYTES,
    BATCH_EVENTS_MAX,
    RECORD_OVERHEAD_BYTES,
    PublishResult,
)
from mainstem.log.errors import BatchTooLarge, LogError, StorageError
from mainstem.log.partition.partition import AppendedBatch, Partition
from mainstem.log.storage.record_batch import HEADER_BYTES, build
from mainstem.node import Node
from mainstem.promise import Promise
from mainstem.queues.event_headers import NOT_BEFORE_HEADER, expiry_of, level_of
from mainstem.queues.index_page import Arrival
from mainstem.queues.routes import QueueSet
from mainstem.routing_contract import DOOR_HEADERS

NO_ROUTE = 0
"""The route of an event that no queue gets."""
SERVER_PREFIX, USER_PREFIX = "mainstem-", "user."
"""A user's header that begins with one of these is stored behind the second, so that none is the server's."""
EVENTS_WAITING_MAX = 100_000
"""Events of a namespace that wait for a route to be durable."""

Headers = Sequence[tuple[str, bytes | None]]


def stored_headers(headers: Headers) -> list[tuple[str, bytes | None]]:
    """The headers of a user's event, as the server stores them in a batch of its own."""
    if not headers:
        return []
    reserved = (SERVER_PREFIX, USER_PREFIX)
    return [(USER_PREFIX + name if name.startswith(reserved) else name, value) for name, value in headers]


def published_headers(headers: Headers) -> tuple[tuple[str, bytes | None], ...]:
    """The headers as the user has published them, and those of doors. Inverse of `stored_headers`, without
    the server's own. A user's header with the name of a door's keeps its prefix, so that none is forged; a
    delay is for anybody to say."""
    return tuple(
        (_published_name(name) if name.startswith(USER_PREFIX) else name, value)
        for name, value in headers
        if not name.startswith(SERVER_PREFIX) or name in DOOR_HEADERS
    )


def _published_name(name: str) -> str:
    own = name.removeprefix(USER_PREFIX)
    return name if own in DOOR_HEADERS and own != NOT_BEFORE_HEADER else own


class RoutedPublish(msgspec.Struct, frozen=True, gc=False):
    """An event to be published."""

    event: NewEvent
    topic: TopicMetadata
    partition: int
    queues: QueueSet
    """Those that get it, by their numbers. They are of the namespace."""
    door_headers: Headers = ()
    """See `RoutedEvent`."""


@dataclass(slots=True)
class _RoutedItem:
    """An event of a call."""

    number: int
    event: NewEvent
    headers: Headers
    """As they are stored, without the one of the server."""
    queues: QueueSet
    """Those that exist when the route is chosen."""
    route: int = NO_ROUTE
    ordinal: int = -1

    @property
    def size(self) -> int:
        """Bytes of key, value and these headers."""
        size = len(self.event.key or b"") + len(self.event.value or b"")
        return size + sum(len(name) + len(value or b"") for name, value in self.headers)


class _PublishTarget(NamedTuple):
    """A partition that a call writes to."""

    topic_id: UUID
    topic: str
    partition: int


@dataclass(slots=True)
class _PublishCall:
    """A call of `publish`."""

    results: list[PublishResult | None]
    done: Promise[list[PublishResult]]
    items: dict[_PublishTarget, list[_RoutedItem]] = field(default_factory=dict)
    prepared: dict[tuple[UUID, int, QueueSet], tuple[_PublishTarget, _RoutedItem]] = field(
        default_factory=dict
    )
    """Topic, partition and queues -> the first such event, if what it refers to is durable."""
    waiting: int = 0
    """Records that are not durable yet."""
    batches: int = 0
    """Batches that are not committed yet."""
    is_written: bool = False

    def finish(self, number: int, result: PublishResult) -> None:
        """The result of an event. Only the first one counts."""
        if self.results[number] is None:
            self.results[number] = result

    def resolve_if_done(self) -> None:
        """Resolve the promise when all events have a result."""
        if self.is_written and not self.batches:
            results = [result for result in self.results if result is not None]
            assert len(results) == len(self.results), "each event has a result"
            self.done.resolve(results)


class RoutedPublisher:
    """Publishes for all namespaces of a node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._calls: dict[int, deque[_PublishCall]] = {}
        """Namespace -> the calls that wait, in order."""

    def publish(self, namespace: Namespace, events: Sequence[RoutedPublish]) -> Promise[list[PublishResult]]:
        """Publish events in order. The value has the result of each, when all of them are durable or have
        failed. The promise does not fail."""
        call = _PublishCall([None] * len(events), Promise())
        calls = self._calls.setdefault(namespace.id, deque())
        reason = self._node.rejection_reason
        if reason is None and sum(len(waiting.results) for waiting in calls) >= EVENTS_WAITING_MAX:
            reason = "too many events wait for the disk to record their routes"
        if reason is not None:
            error = NotReachable(f"namespace {namespace.name}: {reason}")
            return Promise.resolved([error] * len(events))
        calls.append(call)
        call.waiting = 1  # until all of its events are prepared
        deletion = self._node.subscriptions.routing.deletion_in_flight(namespace)
        if deletion is None:
            self._prepare_all(namespace.id, call, events)
        else:
            deletion.then(lambda _: self._prepare_all(namespace.id, call, events))
        return call.done

    def _prepare_all(self, namespace_id: int, call: _PublishCall, events: Sequence[RoutedPublish]) -> None:
        namespace = self._node.subscriptions.topology.by_id(namespace_id)
        if self._node.queue_runtime.fenced is not None:
            namespace = None  # what it has may not be durable, and is loaded again
        for number, routed in enumerate(events):
            if namespace is None:
                call.finish(number, self._no_namespace())
            else:
                self._prepare(namespace, call, number, routed)
        call.waiting -= 1
        self._write_ready(namespace_id)

    def _no_namespace(self) -> StreamError:
        if (reason := self._node.queue_runtime.fenced) is not None:
            return NotReachable(f"the coordinator is not serving: {reason}")
        return StreamError("the namespace was deleted")

    def _prepare(self, namespace: Namespace, call: _PublishCall, number: int, routed: RoutedPublish) -> None:
        """Find, or record, the route and the partition of an event."""
        headers = [*routed.door_headers, *stored_headers(routed.event.headers)]
        like = routed.topic.id, routed.partition, routed.queues
        if (same := call.prepared.get(like)) is not None:
            target, first = same
            item = _RoutedItem(number, routed.event, headers, first.queues, first.route, first.ordinal)
            call.items[target].append(item)
            return
        queues = routed.queues
        if not namespace.queues.issuperset(queues):  # some were deleted meanwhile
            queues = tuple(queue for queue in queues if queue in namespace.queues)
        item = _RoutedItem(number, routed.event, headers, queues)
        try:
            partition = self._node.partition_to_append(routed.topic, routed.partition)
        except (LogError, CoordinatorError) as error:
            call.finish(number, _translated(error, routed.topic.name))
            return
        routing, place = self._node.subscriptions.routing, (routed.topic.id, routed.partition)
        waiting = call.waiting
        self._when_durable(
            namespace,
            call,
            item,
            routing.ordinal(namespace, place, partition.high_watermark),
            lambda ordinal: setattr(item, "ordinal", ordinal),
        )
        if queues:
            self._when_durable(
                namespace,
                call,
                item,
                routing.route(namespace, queues),
                lambda route: setattr(item, "route", route),
            )
        target = _PublishTarget(routed.topic.id, routed.topic.name, routed.partition)
        call.items.setdefault(target, []).append(item)
        if call.waiting == waiting:  # all is durable: the next event of this kind need not look
            call.prepared[like] = target, item

    def _when_durable(
        self,
        namespace: Namespace,
        call: _PublishCall,
        item: _RoutedItem,
        known: int | Promise[int],
        note: Callable[[int], None],
    ) -> None:
        if isinstance(known, int):
            note(known)
            return
        call.waiting += 1

        def on_known(done: Promise[int]) -> None:
            call.waiting -= 1
            if done.error is None:
                note(done.result())
            else:
                call.finish(item.number, _translated(done.error, f"namespace {namespace.name}"))
            self._write_ready(namespace.id)

        known.then(on_known)

    # --- writing ------------------------------------------------------------------------------------------

    def _write_ready(self, namespace_id: int) -> None:
        """Write the first calls whose records are durable."""
        calls = self._calls[namespace_id]
        while calls and not calls[0].waiting:
            self._write(namespace_id, calls.popleft())

    def _write(self, namespace_id: int, call: _PublishCall) -> None:
        node = self._node
        namespace = node.subscriptions.topology.by_id(namespace_id)
        for target, all_items in call.items.items():
            items = [item for item in all_items if call.results[item.number] is None]
            try:
                if namespace is None:
                    raise self._no_namespace()
                topic = node.topics.by_id(target.topic_id)
                if topic is None:
                    raise UnknownTopic(f"topic {target.topic}: it was deleted")
                partition = node.partition_to_append(topic, target.partition)
            except (LogError, CoordinatorError, StreamError) as error:
                self._fail(call, items, _translated(error, target.topic))
                continue
            sequence = node.routed.of(namespace)
            for part in _parts(items, partition):
                self._append(call, sequence, target, partition, part)
        call.is_written = True
        call.resolve_if_done()

    def _append(
        self,
        call: _PublishCall,
        sequence: RoutedSequence,
        target: _PublishTarget,
        partition: Partition,
        items: Sequence[_RoutedItem],
    ) -> None:
        """Append a batch. Its events are numbered in their order."""
        batch = RoutedBatch(items[0].ordinal)
        first = sequence.order.begin(len(items), batch)
        now_ms = self._node.clock.wall_ms()
        try:
            appended = self._append_batch(sequence, partition, items, first, now_ms)
        except BatchTooLarge as error:
            sequence.decided(first, committed=False)
            if len(items) == 1:
                self._fail(call, items, _translated(error, target.topic))
                return
            half = len(items) // 2  # one event may be too large: the others are appended all the same
            self._append(call, sequence, target, partition, items[:half])
            self._append(call, sequence, target, partition, items[half:])
            return
        except (LogError, CoordinatorError) as error:
            sequence.decided(first, committed=False)
            self._fail(call, items, _translated(error, target.topic))
            return
        batch.base_offset = appended.base_offset
        arrived_ms = now_ms if appended.log_append_ms < 0 else appended.log_append_ms
        batch.arrivals = [
            (
                Arrival(
                    first + delta,
                    batch.ordinal,
                    appended.base_offset + delta,
                    len(item.event.value or b""),
                    level_of(item.headers) if item.headers else 0,
                    expiry_of(item.headers) if item.headers else 0,
                    arrived_ms,
                ),
                item.route,
                item.queues,
            )
            for delta, item in enumerate(items)
        ]
        call.batches += 1

        def on_committed(committed: Promise[None]) -> None:
            sequence.decided(first, committed=committed.error is None)
            call.batches -= 1
            if isinstance(committed.error, Exception):
                self._fail(call, items, _translated(committed.error, target.topic))
            else:
                for delta, item in enumerate(items):
                    place = Position(target.topic, target.partition, appended.base_offset + delta)
                    call.finish(item.number, place)
            call.resolve_if_done()

        partition.when_committed(appended.next_offset).then(on_committed)

    def _append_batch(
        self,
        sequence: RoutedSequence,
        partition: Partition,
        items: Sequence[_RoutedItem],
        first: int,
        now_ms: int,
    ) -> AppendedBatch:
        server_id = self._node.producer_ids.server_id
        if server_id is None:
            raise StorageError("the producer id of the server is not recorded yet")
        records = []
        for delta, item in enumerate(items):
            event = item.event
            timestamp_ms = now_ms if event.timestamp_ms is None else event.timestamp_ms
            after_ms = 0 if partition.config.log_append_time else now_ms - timestamp_ms
            place = RoutePlace(sequence.namespace.id, item.route, first + delta, after_ms)
            headers = [(ROUTE_HEADER, place.encode()), *item.headers]
            records.append((event.key, event.value, headers, timestamp_ms))
        windows = partition.derived.windows
        batch = build(
            records, producer_id=server_id, producer_epoch=0, base_sequence=windows.next_sequence(server_id)
        )
        appended = partition.append(memoryview(batch))
        assert not appended.duplicate, "the server goes on with its own sequence numbers"
        return appended

    @staticmethod
    def _fail(call: _PublishCall, items: Sequence[_RoutedItem], error: StreamError) -> None:
        for item in items:
            call.finish(item.number, error)


def _parts(items: Sequence[_RoutedItem], partition: Partition) -> list[list[_RoutedItem]]:
    """The events of each batch."""
    max_bytes = min(BATCH_BYTES, partition.config.max_message_bytes - HEADER_BYTES)
    parts: list[list[_RoutedItem]] = []
    size_bytes = 0
    for item in items:
        event_bytes = RECORD_OVERHEAD_BYTES + len(ROUTE_HEADER) + 16 + item.size
        event_bytes += 9 * len(item.headers)
        if not parts or size_bytes + event_bytes > max_bytes or len(parts[-1]) >= BATCH_EVENTS_MAX:
            parts.append([])
            size_bytes = 0
        parts[-1].append(item)
        size_bytes += event_bytes
    return parts


def _translated(error: BaseException, subject: str) -> StreamError:
    if isinstance(error, StreamError):
        return error
    translated = translate(error, subject) if isinstance(error, Exception) else error
    if not isinstance(translated, StreamError):
        raise translated
    return translated
