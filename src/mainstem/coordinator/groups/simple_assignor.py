"""The assignor `simple` of share groups: which members read which partitions.

Every partition of a subscribed topic has at least one member, and every member that subscribes to a topic
with partitions has at least one of them: where there are more members than partitions, members share
partitions. If all members subscribe to the same topics, no member has two partitions more than another, and
no partition two members more than another; else that holds in each topic. What a member has is taken from it
only for that.

Owns: the assignment. Refuses: members, epochs and topics, which are arguments. Pure.

Semantics: Apache Kafka's SimpleAssignor (KIP-932); which partition a member gets is not prescribed.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias
from uuid import UUID

NAME = "simple"
STEP = 200
"""Partitions or members that are looked at in a step, about a millisecond."""

TopicPartition: TypeAlias = tuple[UUID, int]
Assignments: TypeAlias = dict[str, frozenset[TopicPartition]]


def assign(
    subscriptions: Mapping[str, frozenset[UUID]],
    partitions: Mapping[UUID, int],
    current: Mapping[str, Collection[TopicPartition]],
) -> Generator[int, None, Assignments]:
    """The partitions of each member, in steps, each of which yields of how many partitions or members it was.
    `subscriptions`: the topics of each member; those that are not in `partitions`, topic -> number of
    partitions, do not exist. `current`: what the members had."""
    members = list(subscriptions)
    if len(set(subscriptions.values())) <= 1:
        topics: Iterable[UUID] = next(iter(subscriptions.values()), ())
        shares = [(members, [topic for topic in topics if topic in partitions])]
    else:
        shares = [
            ([member for member in members if topic in subscriptions[member]], [topic])
            for topic in partitions
        ]
        yield len(partitions) * len(members) // STEP
    assigned: dict[str, list[TopicPartition]] = {member: [] for member in members}
    for sharing, chosen in shares:
        all_partitions = [(topic, index) for topic in sorted(chosen) for index in range(partitions[topic])]
        yield len(all_partitions) // STEP
        if sharing and all_partitions:
            yield from _share(sharing, all_partitions, current, assigned)
    done: Assignments = {}
    for member, places in assigned.items():
        done[member] = frozenset(places)
        yield 1 + len(places) // STEP
    return done


def _share(
    members: Sequence[str],
    partitions: Sequence[TopicPartition],
    current: Mapping[str, Collection[TopicPartition]],
    assigned: dict[str, list[TopicPartition]],
) -> Iterator[int]:
    """Add a share of `partitions` to what is assigned to each of `members`. Steps, as `assign`."""
    share = _Share(members, partitions)
    yield (len(members) + len(partitions)) // STEP
    for may_be_extra in (False, True):
        for member in members:
            for number, partition in enumerate(current.get(member, ()), 1):
                share.keep(member, partition, may_be_extra=may_be_extra)
                if not number % STEP:
                    yield STEP
            yield 1
    if len(partitions) >= len(members):
        fewest = [
            (share.of_member[member], len(assigned[member]), place) for place, member in enumerate(members)
        ]
        heapq.heapify(fewest)
        for number, partition in enumerate(partitions, 1):
            if not share.of_partition[partition]:
                count, load, place = fewest[0]
                share.add(members[place], partition)
                heapq.heapreplace(fewest, (count + 1, load, place))
            if not number % STEP:
                yield STEP
    else:
        shared = [(share.of_partition[partition], place) for place, partition in enumerate(partitions)]
        heapq.heapify(shared)
        for number, member in enumerate(members, 1):
            if not share.of_member[member]:
                count, place = shared[0]
                share.add(member, partitions[place])
                heapq.heapreplace(shared, (count + 1, place))
            if not number % STEP:
                yield STEP
    for number, (member, partition) in enumerate(share.pairs, 1):
        assigned[member].append(partition)
        if not number % STEP:
            yield STEP


class _Share:
    """What is assigned, within quotas. There are as many pairs of a member and a partition as of the more
    numerous of the two. Each member and each partition has its equal part of them, or one more while some are
    left over."""

    def __init__(self, members: Sequence[str], partitions: Sequence[TopicPartition]) -> None:
        pairs = max(len(members), len(partitions))
        self.of_member = dict.fromkeys(members, 0)
        self.of_partition = dict.fromkeys(partitions, 0)
        self._member_quota, self._members_extra = divmod(pairs, len(members))
        self._partition_quota, self._partitions_extra = divmod(pairs, len(partitions))
        self.pairs: dict[tuple[str, TopicPartition], None] = {}

    def keep(self, member: str, partition: TopicPartition, *, may_be_extra: bool) -> None:
        """Let a member keep a partition, unless that is more than its or the partition's quota."""
        if partition not in self.of_partition or (member, partition) in self.pairs:
            return
        over_member = self.of_member[member] - self._member_quota + 1
        over_partition = self.of_partition[partition] - self._partition_quota + 1
        if over_member > may_be_extra * (self._members_extra > 0):
            return
        if over_partition > may_be_extra * (self._partitions_extra > 0):
            return
        self._members_extra -= over_member > 0
        self._partitions_extra -= over_partition > 0
        self.add(member, partition)

    def add(self, member: str, partition: TopicPartition) -> None:
        """Assign a partition to a member."""
        self.pairs[member, partition] = None
        self.of_member[member] += 1
        self.of_partition[partition] += 1
