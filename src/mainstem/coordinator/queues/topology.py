"""The namespaces: which queues, partitions, routes, bindings and notes each has.

Owns: this state, as records make it. Refuses: requests (`routing.py`), the arrival order and the index
(`routed_sequence.py`), and what a binding means. Numbers of namespaces, routes and bindings are from the
counter of subscriptions and views, and not used again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias
from uuid import UUID

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
from mainstem.queues.routes import RouteTable, decode_queues, encode_queues

PartitionPlace: TypeAlias = tuple[UUID, int]
"""A topic's id and the index of a partition."""


@dataclass(frozen=True, slots=True)
class Binding:
    """What a door keeps with a queue."""

    id: int
    queue: int
    data: bytes


@dataclass(slots=True)
class Namespace:
    """Queues that are fed by the same routes."""

    id: int
    name: str
    sequence_id: UUID
    """In the views of its queues, in place of the id of a topic."""
    created_ms: int
    queues: set[int] = field(default_factory=set)
    routes: RouteTable = field(default_factory=RouteTable)
    partitions: dict[int, PartitionPlace] = field(default_factory=dict)
    """Ordinal -> the partition."""
    joined: dict[int, int] = field(default_factory=dict)
    """Ordinal -> the offset from which on the partition may have events of the namespace."""
    ordinals: dict[PartitionPlace, int] = field(default_factory=dict)
    next_ordinal: int = 0
    bindings: dict[int, Binding] = field(default_factory=dict)
    notes: dict[str, bytes] = field(default_factory=dict)
    """What doors keep with the namespace, by name."""

    def records(self) -> Iterator[NamespaceRecord]:
        """Records that make the namespace from nothing."""
        yield NamespaceCreated(self.id, self.name, self.sequence_id, self.created_ms)
        for queue in self.queues:
            yield QueueRouted(self.id, queue)
        for ordinal, (topic_id, partition) in self.partitions.items():
            yield PartitionJoined(self.id, ordinal, topic_id, partition, self.joined[ordinal])
        for route, queues in self.routes.items():
            yield RouteInterned(self.id, route, encode_queues(queues))
        for binding in self.bindings.values():
            yield BindingAdded(self.id, binding.id, binding.queue, binding.data)
        for name, data in self.notes.items():
            yield NoteSet(self.id, name, data)


class Topology:
    """All namespaces. Only `apply` and `forget_queue` change them."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget all namespaces."""
        self._by_id: dict[int, Namespace] = {}
        self._by_name: dict[str, Namespace] = {}
        self._by_sequence: dict[UUID, Namespace] = {}
        self._of_queue: dict[int, Namespace] = {}
        self._by_partition: dict[PartitionPlace, dict[int, Namespace]] = {}
        """Partition -> the namespaces that may have events in it, by their numbers."""

    # --- reading ------------------------------------------------------------------------------------------

    def by_id(self, id_: int) -> Namespace | None:
        """The namespace with this number."""
        return self._by_id.get(id_)

    def by_name(self, name: str) -> Namespace | None:
        """The namespace of this name."""
        return self._by_name.get(name)

    def by_sequence(self, sequence_id: UUID) -> Namespace | None:
        """The namespace whose queues have views with this id."""
        return self._by_sequence.get(sequence_id)

    def of_queue(self, queue: int) -> Namespace | None:
        """The namespace of a subscription; None if it reads topics."""
        return self._of_queue.get(queue)

    def joined_by(self, place: PartitionPlace) -> list[Namespace]:
        """The namespaces that may have events in a partition."""
        return list(self._by_partition.get(place, {}).values())

    def all(self) -> list[Namespace]:
        """All namespaces, by name."""
        return [self._by_name[name] for name in sorted(self._by_name)]

    def snapshot(self) -> list[NamespaceRecord]:
        """Records that make the present namespaces from nothing."""
        return [record for namespace in self._by_id.values() for record in namespace.records()]

    # --- records ------------------------------------------------------------------------------------------

    def forget_queue(self, queue: int) -> None:
        """Apply the deletion of a subscription."""
        namespace = self._of_queue.pop(queue, None)
        if namespace is not None:
            namespace.queues.remove(queue)
            namespace.routes.drop_queue(queue)
            for binding in [known for known in namespace.bindings.values() if known.queue == queue]:
                del namespace.bindings[binding.id]

    def apply(self, record: NamespaceRecord) -> int:
        """Apply a record about a namespace. Returns the highest number that it uses. KeyError: it is about
        what does not exist; ValueError: it is damaged."""
        if isinstance(record, NamespaceCreated):
            if record.name in self._by_name:
                raise ValueError(f"there is a namespace '{record.name}' already")
            made = Namespace(record.namespace, record.name, record.sequence_id, record.created_ms)
            self._by_id[made.id] = self._by_name[made.name] = self._by_sequence[made.sequence_id] = made
            return made.id
        namespace = self._by_id[record.namespace]
        match record:
            case NamespaceDeleted():
                if namespace.queues:
                    raise ValueError(f"the namespace '{namespace.name}' has queues")
                del self._by_id[namespace.id], self._by_name[namespace.name]
                del self._by_sequence[namespace.sequence_id]
                for place in namespace.partitions.values():
                    self._leave(namespace, place)
            case QueueRouted(queue=queue):
                namespace.queues.add(queue)
                self._of_queue[queue] = namespace
            case PartitionJoined(ordinal=ordinal, topic_id=topic_id, partition=partition, offset=offset):
                namespace.partitions[ordinal] = topic_id, partition
                namespace.ordinals[topic_id, partition] = ordinal
                namespace.joined[ordinal] = offset
                self._by_partition.setdefault((topic_id, partition), {})[namespace.id] = namespace
                namespace.next_ordinal = max(namespace.next_ordinal, ordinal + 1)
            case PartitionLeft(ordinal=ordinal):
                place = namespace.partitions.pop(ordinal)
                del namespace.ordinals[place], namespace.joined[ordinal]
                self._leave(namespace, place)
            case RouteInterned(route=route, queues=queues):
                namespace.routes.add(route, decode_queues(queues))
                return route
            case BindingAdded(binding=binding, queue=queue, data=data):
                namespace.bindings[binding] = Binding(binding, queue, data)
                return binding
            case BindingRemoved(binding=binding):
                del namespace.bindings[binding]
            case NoteSet(name=name, data=data):
                namespace.notes[name] = data
            case NoteRemoved(name=name):
                del namespace.notes[name]
            case _:
                raise AssertionError(f"no record about a namespace: {record}")
        return namespace.id

    def _leave(self, namespace: Namespace, place: PartitionPlace) -> None:
        joined = self._by_partition[place]
        del joined[namespace.id]
        if not joined:
            del self._by_partition[place]
