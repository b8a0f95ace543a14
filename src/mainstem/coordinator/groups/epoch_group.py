"""A group whose server assigns partitions: members, their epochs, and the assignment.

The epoch of the group rises with each change of its members, of what they subscribe to, and of the partitions
of these topics. An assignment is made for an epoch; a member has the epoch of the assignment that it knows,
and learns of a later one by its next heartbeat.

Owns: the members, who may send which epoch, and what each member has. Refuses: records, timers and topics,
which are the business of the kind of group (`share_groups.py`). Pure.

Semantics: Apache Kafka's ModernGroup (KIP-848, KIP-932).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias
from uuid import UUID

import msgspec

from mainstem.clock import Timer
from mainstem.coordinator.errors import FencedMember, UnknownMember
from mainstem.coordinator.groups import simple_assignor
from mainstem.coordinator.groups.simple_assignor import Assignments, TopicPartition

FIRST_EPOCH = 1
"""The epoch of a group before its first member joins."""

EPOCH_GROUP_BYTES = 2_000
EPOCH_MEMBER_BYTES = 1_500
NAME_BYTES = 60
"""Approximate bytes of memory of a group, of a member, and of each name, without its characters."""
ASSIGNED_BYTES = 250
"""Approximate bytes of memory of a partition that is assigned to a member."""

SizeOf: TypeAlias = Callable[[str], tuple[UUID, int] | None]
"""Topic name -> (id, number of partitions); None: there is no such topic."""


class MemberFacts(msgspec.Struct, frozen=True, array_like=True):
    """What a member has said of itself. `topics`: the names that it subscribes to, sorted, each once."""

    member_id: str
    rack_id: str | None
    client_id: str
    client_host: str
    topics: tuple[str, ...]

    @property
    def memory_bytes(self) -> int:
        """Approximate bytes of memory of the member."""
        names = (self.member_id, self.rack_id or "", self.client_id, self.client_host, *self.topics)
        return EPOCH_MEMBER_BYTES + sum(NAME_BYTES + len(name) for name in names)


class EpochMember:
    """A member of a group, and what it knows of the group."""

    __slots__ = (
        "assignment",
        "deadline_s",
        "facts",
        "member_epoch",
        "previous_epoch",
        "timer",
        "timer_due_s",
    )

    def __init__(self, facts: MemberFacts) -> None:
        self.facts = facts
        self.member_epoch: int | None = None
        """The epoch of the assignment that the member was sent last. None: it is not known, because the state
        was loaded since then, or the member is new."""
        self.previous_epoch: int | None = None
        """The epoch before `member_epoch`: the reply with the later one may have been lost."""
        self.assignment: frozenset[TopicPartition] = frozenset()
        """The partitions that it was sent last."""
        self.deadline_s = 0.0
        """When the member's session ends, monotonic seconds."""
        self.timer_due_s = 0.0
        """When the timer of the session fires, never after `deadline_s`."""
        self.timer: Timer | None = None

    def cancel_timer(self) -> None:
        """Stop the timer of the session."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class EpochGroup:
    """A group. `put`, `remove` and `epoch` follow records; the rest is soft."""

    def __init__(self, group_id: str) -> None:
        self.group_id = group_id
        self.epoch = FIRST_EPOCH
        self.members: dict[str, EpochMember] = {}
        self.subscribers: Counter[str] = Counter()
        """Topic name -> how many members subscribe to it."""
        self.memory_bytes = EPOCH_GROUP_BYTES + len(group_id)
        """Approximate bytes that the group takes with its members."""
        self.assignment_epoch = 0
        """The epoch that the assignment was made for."""
        self.is_stale = False
        """A topic to which members subscribe has changed since the epoch rose last."""
        self.next_assignment_s = 0.0
        """When the next assignment may be made, monotonic seconds."""
        self._targets: Assignments = {}
        self._ids: dict[str, UUID] = {}
        """Name -> id of the topics that the assignment was made for."""

    # --- records ------------------------------------------------------------------------------------------

    def put(self, facts: MemberFacts) -> None:
        """Add a member, or replace what it has said of itself."""
        member = self.members.get(facts.member_id)
        if member is None:
            self.members[facts.member_id] = EpochMember(facts)
        else:
            self._count(member.facts, -1)
            member.facts = facts
        self._count(facts, 1)

    def remove(self, member_id: str) -> None:
        """Remove a member. KeyError: the group does not have it."""
        member = self.members.pop(member_id)
        member.cancel_timer()
        self._count(member.facts, -1)

    def _count(self, facts: MemberFacts, sign: int) -> None:
        self.memory_bytes += sign * facts.memory_bytes
        for topic in facts.topics:
            self.subscribers[topic] += sign
            if not self.subscribers[topic]:
                del self.subscribers[topic]

    # --- requests -----------------------------------------------------------------------------------------

    def member_at(self, member_id: str, epoch: int) -> EpochMember:
        """The member that sends `epoch`. UnknownMember; FencedMember: the epoch is neither that of the member
        nor the one before it. Epoch 0, with which it joins, is always right."""
        member = self.members.get(member_id)
        if member is None:
            raise UnknownMember(f"Member {member_id} is not a member of group {self.group_id}.")
        known = self.epoch if member.member_epoch is None else member.member_epoch
        must = "The member must abandon all its partitions and rejoin."
        if epoch > known:
            raise FencedMember(
                f"The member has a greater epoch ({epoch}) than the coordinator knows ({known}). {must}"
            )
        if epoch not in (0, known, member.previous_epoch) and member.member_epoch is not None:
            raise FencedMember(
                f"The member has a smaller epoch ({epoch}) than the coordinator knows ({known}), and not the"
                f" one before it ({member.previous_epoch}). {must}"
            )
        return member

    def assign(self, size_of: SizeOf) -> Iterator[int]:
        """Make the assignment for the present epoch, in steps, which yield of how many partitions or members
        they were. It replaces the one before with the last step."""
        epoch = self.epoch
        sizes = {name: size for name in self.subscribers if (size := size_of(name)) is not None}
        ids = {name: topic_id for name, (topic_id, _) in sizes.items()}
        subscriptions = {
            member_id: _topic_ids(member.facts, ids) for member_id, member in self.members.items()
        }
        yield 1
        targets = yield from simple_assignor.assign(subscriptions, dict(sizes.values()), self._targets)
        self._ids = ids
        self.memory_bytes -= self._assigned_bytes()
        self._targets = targets
        self.memory_bytes += self._assigned_bytes()
        self.assignment_epoch = epoch

    def _assigned_bytes(self) -> int:
        return ASSIGNED_BYTES * sum(map(len, self._targets.values()))

    def more_bytes(self, facts: MemberFacts, size_of: SizeOf) -> int:
        """About how many bytes of memory the group takes more with a member that says this of itself."""
        old = self.members.get(facts.member_id)
        more = facts.memory_bytes - (0 if old is None else old.facts.memory_bytes)
        new_topics = [size_of(name) for name in facts.topics if name not in self.subscribers]
        return more + ASSIGNED_BYTES * sum(size[1] for size in new_topics if size is not None)

    def reconcile(self, member: EpochMember) -> bool:
        """Let a member have its part of the present assignment, without topics to which it has ceased to
        subscribe. Returns whether it knew another one, or what it knew is not known."""
        topics = _topic_ids(member.facts, self._ids)
        target = self._targets.get(member.facts.member_id, frozenset())
        assignment = frozenset(place for place in target if place[0] in topics)
        is_new = member.member_epoch is None or assignment != member.assignment
        if member.member_epoch != self.assignment_epoch:
            member.previous_epoch, member.member_epoch = member.member_epoch, self.assignment_epoch
        member.assignment = assignment
        return is_new

    def forget_epochs(self) -> None:
        """The state was loaded: what members know is not known any more. The epoch rises without a record, so
        that an assignment that may differ has another one."""
        self.epoch += 1
        self.is_stale = False
        self.assignment_epoch = 0
        for member in self.members.values():
            member.member_epoch = member.previous_epoch = None

    @property
    def is_unused(self) -> bool:
        """Whether the group has no members."""
        return not self.members

    def close(self) -> None:
        """Stop all timers."""
        for member in self.members.values():
            member.cancel_timer()


def _topic_ids(facts: MemberFacts, ids: Mapping[str, UUID]) -> frozenset[UUID]:
    return frozenset(ids[name] for name in facts.topics if name in ids)


def by_topic(places: frozenset[TopicPartition]) -> Mapping[UUID, list[int]]:
    """The partitions of each topic, both in order."""
    grouped: dict[UUID, list[int]] = {}
    for topic_id, index in sorted(places):
        grouped.setdefault(topic_id, []).append(index)
    return grouped
