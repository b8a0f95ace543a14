"""Single active consumers: of the consumers of one name on one stream, one is sent events.

Owns: the groups of all connections of the door, and which member is active. Of a plain stream it is the
oldest one; of a partition of a super stream the one whose place in the group is the partition's number modulo
their count, so that the consumers of a super stream share its partitions, as in RabbitMQ. Refuses: to make a
consumer active before the one that was has said that it stopped, or is gone.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from mainstem.amqp.streams import StreamPlace


class GroupedConsumer(Protocol):
    """A consumer that belongs to a group."""

    def set_active(self, is_active: bool) -> None:
        """Say to the client whether the consumer is the active one. The client's answer to False is followed
        by `SingleActiveGroups.stopped`."""


class GroupKey(NamedTuple):
    """What the consumers of a group have in common."""

    place: StreamPlace
    name: str


class _SingleActiveGroup:
    """The consumers of one name on one stream."""

    __slots__ = ("active", "is_stopping", "members", "partition")

    def __init__(self, partition: int | None) -> None:
        self.members: list[GroupedConsumer] = []
        self.active: GroupedConsumer | None = None
        self.is_stopping = False
        """Whether `active` was asked to stop, and has not answered."""
        self.partition = partition
        """The number of the partition of a super stream; None: of a plain stream."""

    def choose(self) -> None:
        """Make the right consumer active, as far as that is possible now."""
        if self.is_stopping or not self.members:
            return
        if self.partition is not None:
            wanted = self.members[self.partition % len(self.members)]
        else:
            wanted = self.active or self.members[0]
        if wanted is self.active:
            return
        if self.active is not None:
            self.is_stopping = True
            self.active.set_active(False)
        else:
            self.active = wanted
            wanted.set_active(True)


class SingleActiveGroups:
    """The groups of one door."""

    def __init__(self) -> None:
        self._groups: dict[GroupKey, _SingleActiveGroup] = {}

    def join(self, key: GroupKey, consumer: GroupedConsumer, partition: int | None) -> None:
        """Add a consumer, which may make it or another one active. `partition`: see the module."""
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = _SingleActiveGroup(partition)
        group.members.append(consumer)
        group.choose()

    def leave(self, key: GroupKey, consumer: GroupedConsumer) -> None:
        """Remove a consumer. Idempotent."""
        group = self._groups.get(key)
        if group is None or consumer not in group.members:
            return
        group.members.remove(consumer)
        if group.active is consumer:
            group.active, group.is_stopping = None, False
        if group.members:
            group.choose()
        else:
            del self._groups[key]

    def stopped(self, key: GroupKey, consumer: GroupedConsumer) -> None:
        """The consumer that was asked to stop has answered."""
        group = self._groups.get(key)
        if group is not None and group.is_stopping and group.active is consumer:
            group.active, group.is_stopping = None, False
            group.choose()
