"""What routed queues may still need of a partition: nothing below an offset, its floor.

The events of a routed queue that are not done are found by the index of its namespace, which may have to come
from the disk; so who has time for that notes what it found here (`engines/embedded/queues/routed_needs.py`),
and retention, which decides at once, uses what was noted. A note stays true while no event of the view is
made outstanding again: later events have higher offsets. Without a note the queue may need everything.

Owns: the notes, and when they are void. Refuses: reading the index, and which queues pin.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple
from uuid import UUID

from mainstem.coordinator.queues.topology import Namespace, Topology
from mainstem.coordinator.queues.views import SubscriptionView
from mainstem.queues.view import SequenceView


class RoutedNeed(NamedTuple):
    """A routed queue that may need events of a partition."""

    view: SubscriptionView
    namespace: Namespace
    ordinal: int
    """Of the partition in the namespace."""


class NotedFloor(NamedTuple):
    """What is known of a view and a partition."""

    sequence: SequenceView
    reopenings: int
    first: int
    """An arrival sequence: no event of the partition below is needed, but for those that are carried over."""
    floor: int
    """An offset: as `first`."""


class RoutedFloors:
    """The notes of all routed queues."""

    def __init__(
        self, topology: Topology, find: Callable[[tuple[int, UUID, int]], SubscriptionView | None]
    ) -> None:
        """`find` returns the view of a place."""
        self._topology = topology
        self._find = find
        self._notes: dict[tuple[int, int], NotedFloor] = {}
        """(view, ordinal) -> the last note."""

    def needs(self, topic_id: UUID, partition: int) -> Iterator[RoutedNeed]:
        """The routed queues that may need events of a partition."""
        for namespace in self._topology.joined_by((topic_id, partition)):
            ordinal = namespace.ordinals[topic_id, partition]
            for queue in namespace.queues:
                view = self._find((queue, namespace.sequence_id, 0))
                if view is not None:
                    yield RoutedNeed(view, namespace, ordinal)

    def noted(self, need: RoutedNeed) -> NotedFloor | None:
        """What is known, if it is still true."""
        note = self._notes.get((need.view.id, need.ordinal))
        sequence = need.view.sequence
        if note is None or note.sequence is not sequence or note.reopenings != sequence.reopenings:
            return None
        return note

    def note(self, need: RoutedNeed, reopenings: int, sequence: SequenceView, first: int, floor: int) -> None:
        """Note what was found while the view had this sequence and this number of reopenings."""
        self._notes[need.view.id, need.ordinal] = NotedFloor(sequence, reopenings, first, floor)

    def forget(self, view_id: int) -> None:
        """The view is no more."""
        for key in [key for key in self._notes if key[0] == view_id]:
            del self._notes[key]
