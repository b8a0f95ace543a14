"""Requests about namespaces: create and delete, queues, bindings, notes, and the numbers events refer to.

Owns: which records these lead to, and what of the numbers is durable: an event may refer to a route or a
partition only when its record is. Refuses: to match bindings (a door does), to number events, and the log.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol
from uuid import UUID

import msgspec

from mainstem.clock import Clock
from mainstem.coordinator.errors import (
    InvalidRequest,
    NamespaceExists,
    TooManyRoutes,
    UnknownNamespace,
    UnknownSubscription,
)
from mainstem.coordinator.queues.queue_names import check_wide_name, queue_prefix
from mainstem.coordinator.queues.records import QueueIds, SubscriptionDeleted, ViewStarted
from mainstem.coordinator.queues.topology import Binding, Namespace, PartitionPlace, Topology
from mainstem.coordinator.queues.topology_records import (
    BindingAdded,
    BindingRemoved,
    NamespaceCreated,
    NamespaceDeleted,
    NamespaceRecord,
    NoteRemoved,
    NoteSet,
    PartitionJoined,
    PartitionLeft,
    QueueRouted,
    RouteInterned,
)
from mainstem.coordinator.queues.types import SubscriptionMetadata
from mainstem.coordinator.queues.view_changes import Write
from mainstem.promise import Promise
from mainstem.queues.routes import QueueSet, encode_queues

NAMESPACES_MAX = 10_000
ROUTES_MAX = 1_000_000
"""Routes of a namespace: sets of queues that events were sent to."""
QUEUES_OF_ROUTE_MAX = 100_000
BINDING_BYTES_MAX = 64 << 10
NOTES_MAX = 100_000
"""Notes of a namespace."""
NOTE_NAME_BYTES_MAX = 1_024
LOST_IDS_MAX = 1 << 17
"""More numbers than are given out after the moment to which a restored backup or a power cut sets a folder
back."""


class Machine(Protocol):
    """The methods of `Subscriptions` that this needs."""

    @property
    def next_id(self) -> int: ...
    def get(self, name: str) -> SubscriptionMetadata: ...
    def by_id(self, id_: int) -> SubscriptionMetadata | None: ...
    def create(
        self,
        name: str,
        settings: Mapping[str, Any] | None = None,
        *,
        validate_only: bool = False,
        also: Callable[[SubscriptionMetadata], Sequence[msgspec.Struct]] = ...,
        check: Callable[[str], None] = ...,
    ) -> Promise[SubscriptionMetadata]: ...


class Routing:
    """The requests. Promises are done when what they changed is durable, and fail with StorageError if the
    disk refuses it."""

    def __init__(
        self, topology: Topology, machine: Machine, write: Write, clock: Clock, rng: random.Random
    ) -> None:
        """`write`: that of the runtime."""
        self._topology = topology
        self._machine = machine
        self._write = write
        self._clock = clock
        self._rng = rng
        self.reset()

    def reset(self) -> None:
        """The state is loaded again."""
        self._routes_in_flight: dict[int, Promise[int]] = {}
        self._joins_in_flight: dict[tuple[int, int], Promise[int]] = {}
        """(namespace, ordinal) -> its record, which is not durable yet."""
        self._deletions_in_flight: dict[int, Promise[Any]] = {}
        """Namespace -> the last deletion of one of its queues, which is not durable yet."""

    def _namespace(self, name: str) -> Namespace:
        namespace = self._topology.by_name(name)
        if namespace is None:
            raise UnknownNamespace(f"there is no namespace '{name}'")
        return namespace

    # --- namespaces and queues ----------------------------------------------------------------------------

    def create_namespace(self, name: str) -> Promise[Namespace]:
        """Create a namespace. Fails with InvalidSubscriptionName, NamespaceExists, InvalidRequest: there are
        too many."""

        def decide() -> tuple[Sequence[msgspec.Struct], int]:
            check_wide_name(name, "namespace")
            if self._topology.by_name(name) is not None:
                raise NamespaceExists(f"there is a namespace '{name}' already")
            if len(self._topology.all()) >= NAMESPACES_MAX:
                raise InvalidRequest(f"there are {NAMESPACES_MAX:,} namespaces already")
            sequence_id = UUID(int=self._rng.getrandbits(128), version=4)
            id_ = self._machine.next_id
            return (NamespaceCreated(id_, name, sequence_id, self._clock.wall_ms()),), id_

        return self._write(decide).map(self._known)

    def _known(self, id_: int) -> Namespace:
        namespace = self._topology.by_id(id_)
        if namespace is None:
            raise UnknownNamespace("the namespace was deleted meanwhile")
        return namespace

    def delete_namespace(self, name: str) -> Promise[list[SubscriptionMetadata]]:
        """Delete a namespace with its queues, which are the value. No event is deleted. Fails with
        UnknownNamespace."""

        def decide() -> tuple[Sequence[msgspec.Struct], list[SubscriptionMetadata]]:
            namespace = self._namespace(name)
            queues = [known for id_ in sorted(namespace.queues) if (known := self._machine.by_id(id_))]
            deleted = [SubscriptionDeleted(queue.id) for queue in queues]
            return (*deleted, NamespaceDeleted(namespace.id)), queues

        namespace = self._topology.by_name(name)
        deleted = self._write(decide)
        if namespace is not None:
            self.note_deletion(namespace, deleted)
        return deleted

    def note_deletion(self, namespace: Namespace, deleted: Promise[Any]) -> None:
        """A queue of the namespace is being deleted, by this write."""
        if not deleted.done:
            _note_in_flight(self._deletions_in_flight, namespace.id, deleted)

    def deletion_in_flight(self, namespace: Namespace) -> Promise[Any] | None:
        """The last deletion of a queue that is not durable yet. While there is one, it is not certain where
        events with the numbers of routes go."""
        return self._deletions_in_flight.get(namespace.id)

    def create_queue(
        self, namespace: str, name: str, settings: Mapping[str, Any], position: Callable[[Namespace], int]
    ) -> Promise[SubscriptionMetadata]:
        """Create a queue: a subscription that gets its events from the routes of a namespace, those from
        `position` on: an arrival sequence. See `queue_names.py` for its name. Fails with UnknownNamespace,
        and as `Subscriptions.create`."""

        def routed(made: SubscriptionMetadata) -> Sequence[msgspec.Struct]:
            space = self._namespace(namespace)
            started = ViewStarted(made.id + 1, made.id, space.sequence_id, 0, position(space))
            return QueueRouted(space.id, made.id), started

        return self._machine.create(
            queue_prefix(namespace) + name,
            settings,
            also=routed,
            check=lambda _: check_wide_name(name, "queue"),
        )

    # --- bindings -----------------------------------------------------------------------------------------

    def bind(self, namespace: str, queue: str, data: bytes) -> Promise[Binding]:
        """Keep something with a routed queue. It goes with the queue. Fails with UnknownNamespace;
        UnknownSubscription: there is no such queue; InvalidRequest: it is too large."""

        def decide() -> tuple[Sequence[msgspec.Struct], Binding]:
            space = self._namespace(namespace)
            stored = self._machine.get(queue_prefix(namespace) + queue)
            if stored.id not in space.queues:
                raise UnknownSubscription(f"there is no queue '{queue}' in the namespace '{namespace}'")
            if len(data) > BINDING_BYTES_MAX:
                raise InvalidRequest(f"a binding of {len(data):,} bytes; at most {BINDING_BYTES_MAX:,}")
            binding = Binding(self._machine.next_id, stored.id, data)
            return (BindingAdded(space.id, binding.id, stored.id, data),), binding

        return self._write(decide)

    def unbind(self, namespace: str, binding: int) -> Promise[bool]:
        """Remove a binding. The value is whether there was one. Fails with UnknownNamespace."""

        def decide() -> tuple[Sequence[msgspec.Struct], bool]:
            space = self._namespace(namespace)
            if binding not in space.bindings:
                return (), False
            return (BindingRemoved(space.id, binding),), True

        return self._write(decide)

    # --- notes --------------------------------------------------------------------------------------------

    def set_note(self, namespace: str, name: str, data: bytes | None) -> Promise[None]:
        """Keep something with a namespace under a name, in place of what was there; None: keep nothing.
        Fails with UnknownNamespace; InvalidRequest: it is too large, or there are too many."""

        def decide() -> tuple[Sequence[msgspec.Struct], None]:
            space = self._namespace(namespace)
            if data is None:
                return ((NoteRemoved(space.id, name),) if name in space.notes else ()), None
            if len(data) > BINDING_BYTES_MAX or len(name.encode()) > NOTE_NAME_BYTES_MAX:
                raise InvalidRequest(
                    f"a note has at most {BINDING_BYTES_MAX:,} bytes, and its name {NOTE_NAME_BYTES_MAX:,}"
                )
            if name not in space.notes and len(space.notes) >= NOTES_MAX:
                raise InvalidRequest(f"the namespace '{namespace}' has {NOTES_MAX:,} notes already")
            if space.notes.get(name) == data:
                return (), None
            return (NoteSet(space.id, name, data),), None

        return self._write(decide)

    # --- what events refer to -----------------------------------------------------------------------------

    def route(self, namespace: Namespace, queues: QueueSet) -> int | Promise[int]:
        """The number of the route to these queues, which all are of the namespace; a promise if it is not
        durable yet. The promise fails with UnknownNamespace, InvalidRequest, TooManyRoutes."""
        number = namespace.routes.find(queues)
        if number is not None:
            return self._routes_in_flight.get(number, number)

        def decide() -> tuple[Sequence[msgspec.Struct], int]:
            if not queues or len(queues) > QUEUES_OF_ROUTE_MAX or not namespace.queues.issuperset(queues):
                raise InvalidRequest(f"a route leads to 1 to {QUEUES_OF_ROUTE_MAX:,} queues of its namespace")
            if len(namespace.routes) >= ROUTES_MAX:
                raise TooManyRoutes(f"the namespace '{namespace.name}' has {ROUTES_MAX:,} routes already")
            new = self._machine.next_id
            return (RouteInterned(namespace.id, new, encode_queues(queues)),), new

        written = self._write_for(namespace, decide)
        if (number := namespace.routes.find(queues)) is not None and not written.done:
            _note_in_flight(self._routes_in_flight, number, written)
        return written

    def ordinal(self, namespace: Namespace, place: PartitionPlace, end: int) -> int | Promise[int]:
        """The ordinal of a partition in a namespace, which it joins at `end`, its high watermark; a
        promise if that is not durable yet. The promise fails with UnknownNamespace."""
        ordinal = namespace.ordinals.get(place)
        if ordinal is not None:
            return self._joins_in_flight.get((namespace.id, ordinal), ordinal)

        def decide() -> tuple[Sequence[msgspec.Struct], int]:
            new = namespace.next_ordinal
            return (PartitionJoined(namespace.id, new, *place, end),), new

        written = self._write_for(namespace, decide)
        if (ordinal := namespace.ordinals.get(place)) is not None and not written.done:
            _note_in_flight(self._joins_in_flight, (namespace.id, ordinal), written)
        return written

    def _write_for(
        self, namespace: Namespace, decide: Callable[[], tuple[Sequence[msgspec.Struct], int]]
    ) -> Promise[int]:
        """Write what `decide` returns, if the namespace is what the topology has: a load makes others."""

        def decide_for_current() -> tuple[Sequence[msgspec.Struct], int]:
            if self._topology.by_id(namespace.id) is not namespace:
                raise UnknownNamespace(f"the namespace '{namespace.name}' was deleted, or loaded again")
            return decide()

        return self._write(decide_for_current)

    # --- topics that are deleted, and a start -------------------------------------------------------------

    def leave_topic(self, topic_id: UUID) -> Promise[None]:
        """The topic was deleted: no namespace has partitions of it any more."""

        def decide() -> tuple[Sequence[msgspec.Struct], None]:
            return [
                PartitionLeft(namespace.id, ordinal)
                for namespace in self._topology.all()
                for ordinal, (joined_topic, _) in namespace.partitions.items()
                if joined_topic == topic_id
            ], None

        return self._write(decide)

    def adapt_to_log(self, end_of: Callable[[UUID, int], int | None]) -> Promise[None]:
        """For a start: partitions that do not exist leave, and one that ends before it joined, because its
        last events were lost, joins at its end. `end_of`: None for a partition that does not exist."""

        def decide() -> tuple[Sequence[msgspec.Struct], None]:
            records: list[NamespaceRecord] = []
            for namespace in self._topology.all():
                for ordinal, place in namespace.partitions.items():
                    end = end_of(*place)
                    if end is None:
                        records.append(PartitionLeft(namespace.id, ordinal))
                    elif end < namespace.joined[ordinal]:
                        records.append(PartitionJoined(namespace.id, ordinal, *place, end))
            return records, None

        return self._write(decide)

    def skip_lost_ids(self) -> Promise[None]:
        """Give out no number that events of the log may have already, after records that gave it were lost:
        an event would go where another was sent."""
        if not self._topology.all():
            return Promise.resolved(None)
        return self._write(lambda: ((QueueIds(self._machine.next_id + LOST_IDS_MAX),), None))


def _note_in_flight(in_flight: dict[Any, Promise[Any]], key: Any, written: Promise[Any]) -> None:
    in_flight[key] = written

    def on_written(done: Promise[Any]) -> None:
        # What failed stays, for the state has it until it is loaded again.
        if done.error is None and in_flight.get(key) is written:
            del in_flight[key]

    written.then(on_written)
