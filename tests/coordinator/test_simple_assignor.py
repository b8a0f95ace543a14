"""The assignor of share groups: properties of all assignments, and how little it moves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import cast
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from mainstem.coordinator.groups import simple_assignor
from mainstem.coordinator.groups.simple_assignor import Assignments, TopicPartition

LARGEST_STEP = 1_000
TOPICS = [UUID(int=number) for number in range(1, 5)]


def assign(
    subscriptions: Mapping[str, frozenset[UUID]],
    partitions: Mapping[UUID, int],
    current: Mapping[str, Collection[TopicPartition]],
) -> Assignments:
    """All steps of an assignment at once."""
    steps = simple_assignor.assign(subscriptions, partitions, current)
    while True:
        try:
            assert next(steps) <= LARGEST_STEP
        except StopIteration as end:
            return cast(Assignments, end.value)


def spread(counts: Collection[int]) -> int:
    return max(counts) - min(counts)


def check(
    subscriptions: Mapping[str, frozenset[UUID]], partitions: Mapping[UUID, int], assigned: Assignments
) -> None:
    assert assigned.keys() == subscriptions.keys()
    owners = Counter(place for places in assigned.values() for place in places)
    for member, places in assigned.items():
        existing = {topic for topic in subscriptions[member] if partitions.get(topic)}
        assert {topic for topic, _ in places} <= existing
        assert bool(places) == bool(existing)
    for topic, count in partitions.items():
        if any(topic in topics for topics in subscriptions.values()):
            assert {index for of, index in owners if of == topic} == set(range(count))
    if len(set(subscriptions.values())) == 1 and owners:
        assert spread([len(places) for places in assigned.values()]) <= 1
        assert spread(owners.values()) <= 1
        assert owners.total() == max(len(owners), len(assigned))


MEMBERS = st.dictionaries(
    st.sampled_from([f"m{number}" for number in range(12)]),
    st.frozensets(st.sampled_from(TOPICS), min_size=1),
    max_size=12,
)
PARTITIONS = st.dictionaries(st.sampled_from(TOPICS), st.integers(1, 9))


@given(MEMBERS, PARTITIONS, MEMBERS, PARTITIONS)
def test_each_partition_has_a_member_and_each_member_a_partition(
    before: dict[str, frozenset[UUID]],
    partitions_before: dict[UUID, int],
    after: dict[str, frozenset[UUID]],
    partitions_after: dict[UUID, int],
) -> None:
    first = assign(before, partitions_before, {})
    check(before, partitions_before, first)
    second = assign(after, partitions_after, first)
    check(after, partitions_after, second)
    assert assign(after, partitions_after, second) == second


@given(st.integers(0, 12), st.integers(1, 20))
def test_another_member_takes_no_more_than_its_part(members: int, partitions: int) -> None:
    names = [f"m{number}" for number in range(members)]
    topics = {name: frozenset(TOPICS[:1]) for name in names}
    before = assign(topics, {TOPICS[0]: partitions}, {})
    after = assign({**topics, "new": frozenset(TOPICS[:1])}, {TOPICS[0]: partitions}, before)
    moved = sum(len(before[name] - after[name]) for name in names)
    assert moved <= -(-partitions // (members + 1))


def test_members_beyond_the_number_of_partitions_share_them() -> None:
    topics = {f"m{number}": frozenset(TOPICS[:1]) for number in range(7)}
    assigned = assign(topics, {TOPICS[0]: 3}, {})
    owners = Counter(index for places in assigned.values() for _, index in places)
    assert sorted(owners.values()) == [2, 2, 3]


def test_a_topic_that_only_some_subscribe_to_is_shared_among_these() -> None:
    both, first = frozenset(TOPICS[:2]), frozenset(TOPICS[:1])
    assigned = assign({"a": both, "b": first}, {TOPICS[0]: 4, TOPICS[1]: 2}, {})
    assert {place for place in assigned["a"] if place[0] == TOPICS[1]} == {(TOPICS[1], 0), (TOPICS[1], 1)}
    assert len([place for place in assigned["b"] if place[0] == TOPICS[0]]) == 2


def test_without_members_or_topics_nothing_is_assigned() -> None:
    assert assign({}, {TOPICS[0]: 3}, {}) == {}
    assert assign({"a": frozenset(TOPICS)}, {}, {"a": [(TOPICS[0], 1)]}) == {"a": frozenset()}
