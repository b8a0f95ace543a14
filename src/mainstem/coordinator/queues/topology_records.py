"""The records of the state log of queues that are about namespaces: queues, partitions, routes, bindings.

Owns: their shapes. A record that events refer to (a route, the ordinal of a partition) is durable before the
first event that does. Refuses: state and rules. Times are milliseconds since 1970.
"""

from __future__ import annotations

from uuid import UUID

from mainstem.coordinator.runtime.records import StateRecord


class NamespaceRecord(StateRecord, frozen=True, array_like=True):
    """Base of the records about a namespace."""

    namespace: int


class NamespaceCreated(NamespaceRecord, frozen=True, array_like=True, tag="namespace-created"):
    """State record: a namespace was created. Views of its queues have `sequence_id` in place of the id of a
    topic."""

    name: str
    sequence_id: UUID
    created_ms: int


class NamespaceDeleted(NamespaceRecord, frozen=True, array_like=True, tag="namespace-deleted"):
    """State record: a namespace was deleted. Its queues were before."""


class QueueRouted(NamespaceRecord, frozen=True, array_like=True, tag="queue-routed"):
    """State record: a subscription gets its events from the routes of the namespace."""

    queue: int


class PartitionJoined(NamespaceRecord, frozen=True, array_like=True, tag="partition-joined"):
    """State record: events of the namespace may be in this partition from now on."""

    ordinal: int
    topic_id: UUID
    partition: int
    offset: int
    """No event of the namespace is below."""


class PartitionLeft(NamespaceRecord, frozen=True, array_like=True, tag="partition-left"):
    """State record: the topic of a partition was deleted."""

    ordinal: int


class RouteInterned(NamespaceRecord, frozen=True, array_like=True, tag="route-interned"):
    """State record: a set of queues has this number."""

    route: int
    queues: bytes
    """As `mainstem.queues.routes` encodes them."""


class BindingAdded(NamespaceRecord, frozen=True, array_like=True, tag="binding-added"):
    """State record: a door keeps this with a queue. What it means is the door's."""

    binding: int
    queue: int
    data: bytes


class BindingRemoved(NamespaceRecord, frozen=True, array_like=True, tag="binding-removed"):
    """State record: a binding was removed."""

    binding: int


class NoteSet(NamespaceRecord, frozen=True, array_like=True, tag="note-set"):
    """State record: a door keeps this with the namespace, under a name. What it means is the door's."""

    name: str
    data: bytes


class NoteRemoved(NamespaceRecord, frozen=True, array_like=True, tag="note-removed"):
    """State record: a note was removed."""

    name: str


TOPOLOGY_RECORDS: tuple[type[NamespaceRecord], ...] = (
    NamespaceCreated,
    NamespaceDeleted,
    QueueRouted,
    PartitionJoined,
    PartitionLeft,
    RouteInterned,
    BindingAdded,
    BindingRemoved,
    NoteSet,
    NoteRemoved,
)
"""All records about namespaces."""
