"""Committed offsets: who may commit, what is fetched, what is deleted or expires."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from mainstem.coordinator.groups.types import CommitRequest, NewOffset, TopicRef
from mainstem.coordinator.topics.topics import TopicMetadata
from tests.coordinator.group_rig import (
    FLIGHTS,
    GROUP,
    SESSION_MS,
    WEATHER,
    FakeTopicLookup,
    code,
    codes,
    group_rig,
)


def test_a_committed_offset_is_fetched() -> None:
    rig = group_rig()
    joined = rig.stable_one()
    assert rig.commit_code(joined, 42, partition=1, leader_epoch=7, metadata="was hier steht") is None
    selection = [(TopicRef("flights"), [1, 0]), (TopicRef("nowhere"), [0])]
    flights, nowhere = rig.groups.fetch_offsets(GROUP, selection).result()
    committed, missing = flights.partitions
    assert committed.offset is not None
    assert (committed.offset.offset, committed.offset.leader_epoch, committed.offset.metadata) == (
        42,
        7,
        "was hier steht",
    )
    assert committed.offset.commit_ms == rig.clock.wall_ms()
    assert (missing.partition, missing.offset, missing.error) == (0, None, None)
    assert nowhere.partitions[0].offset is None
    assert nowhere.partitions[0].error is None


def test_an_unknown_group_has_no_offsets() -> None:
    rig = group_rig()
    (topic,) = rig.groups.fetch_offsets("nobodies", [(TopicRef("flights"), [0])]).result()
    assert topic.partitions[0].offset is None
    assert rig.groups.fetch_offsets("nobodies").result() == []
    assert rig.groups.list().result() == []


def test_all_offsets_are_fetched_without_a_selection() -> None:
    rig = group_rig()
    rig.commit(offset=3, topic="weather")
    rig.commit(offset=5, partition=2)
    rig.commit(offset=4, partition=1)
    assert rig.offsets() == {("flights", 1): 4, ("flights", 2): 5, ("weather", 0): 3}
    assert [topic.topic.id for topic in rig.groups.fetch_offsets(GROUP).result()] == [FLIGHTS.id, WEATHER.id]


def test_topics_may_be_named_by_id() -> None:
    rig = group_rig()
    assert rig.commit_code(offset=9, topic=FLIGHTS.id) is None
    assert rig.commit_code(offset=9, topic=UUID(int=999)) == "UNKNOWN_TOPIC_ID"
    flights, unknown = rig.groups.fetch_offsets(
        GROUP, [(TopicRef(id=FLIGHTS.id), [0]), (TopicRef(id=UUID(int=999)), [0])]
    ).result()
    assert flights.partitions[0].offset is not None
    assert flights.topic.name == "flights"
    assert codes([unknown.partitions[0].error]) == ["UNKNOWN_TOPIC_ID"]


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        ({"topic": "nowhere"}, "UNKNOWN_TOPIC_OR_PARTITION"),
        ({"topic": ""}, "UNKNOWN_TOPIC_OR_PARTITION"),
        ({"partition": 4}, "UNKNOWN_TOPIC_OR_PARTITION"),
        ({"partition": -1}, "UNKNOWN_TOPIC_OR_PARTITION"),
        ({"metadata": "m" * 4_097}, "OFFSET_METADATA_TOO_LARGE"),
        ({"metadata": "m" * 4_096}, None),
    ],
)
def test_each_partition_has_its_own_error(change: dict[str, Any], refusal: str | None) -> None:
    assert group_rig().commit_code(**change) == refusal


def test_an_invalid_partition_does_not_prevent_the_commit_of_the_others() -> None:
    rig = group_rig()
    topics = (
        (TopicRef("nowhere"), (NewOffset(0, 1),)),
        (TopicRef("flights"), (NewOffset(0, 1), NewOffset(9, 1))),
    )
    verdicts = rig.groups.commit(CommitRequest(group_id=GROUP, topics=topics)).result()
    assert [codes(topic) for topic in verdicts] == [
        ["UNKNOWN_TOPIC_OR_PARTITION"],
        [None, "UNKNOWN_TOPIC_OR_PARTITION"],
    ]
    assert rig.offsets() == {("flights", 0): 1}


# --- who may commit -----------------------------------------------------------------------------------------


def test_a_consumer_with_manual_assignment_commits_without_being_a_member() -> None:
    rig = group_rig()
    assert rig.commit_code(offset=5) is None
    (listing,) = rig.groups.list().result()
    assert (listing.group_id, listing.protocol_type, listing.state.value) == (GROUP, "", "Empty")


def test_a_generation_of_a_group_that_does_not_exist_is_refused() -> None:
    rig = group_rig()
    assert rig.commit_code(generation=3, member_id="m") == "ILLEGAL_GENERATION"
    assert rig.groups.list().result() == []


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        ({}, None),
        ({"generation": 0}, "ILLEGAL_GENERATION"),
        ({"generation": -1}, "ILLEGAL_GENERATION"),
        ({"member_id": "unknown"}, "UNKNOWN_MEMBER_ID"),
        ({"generation": -1, "member_id": ""}, "UNKNOWN_MEMBER_ID"),
        ({"generation": -1, "member_id": "", "instance_id": "w-1"}, "UNKNOWN_MEMBER_ID"),
    ],
)
def test_only_members_commit_while_there_are_members(change: dict[str, Any], refusal: str | None) -> None:
    rig = group_rig()
    assert rig.commit_code(rig.stable_one(), **change) == refusal


def test_the_old_generation_commits_while_members_join_again() -> None:
    rig = group_rig()
    first = rig.stable_one()
    rig.join()
    assert rig.state_of() == "PreparingRebalance"
    assert rig.commit_code(first, 7) is None
    assert rig.offsets() == {("flights", 0): 7}


def test_no_member_commits_between_join_and_assignment() -> None:
    rig = group_rig()
    joined = rig.first()
    assert rig.commit_code(joined) == "REBALANCE_IN_PROGRESS"
    rig.sync(joined)
    assert rig.commit_code(joined) is None


def test_a_tool_resets_the_offsets_of_a_group_without_members() -> None:
    rig = group_rig()
    joined = rig.stable_one()
    rig.commit(joined, 100)
    assert rig.commit_code(offset=0) == "UNKNOWN_MEMBER_ID"
    rig.leave(joined)
    assert rig.commit_code(joined, 200) == "UNKNOWN_MEMBER_ID"
    assert rig.commit_code(offset=0) is None
    assert rig.offsets() == {("flights", 0): 0}


def test_a_commit_counts_as_a_heartbeat() -> None:
    rig = group_rig()
    joined = rig.stable_one()
    for _ in range(3):
        rig.advance_ms(SESSION_MS - 1)
        assert rig.commit_code(joined) is None
    assert rig.state_of() == "Stable"


# --- topics that are deleted --------------------------------------------------------------------------------


def test_a_topic_that_is_created_again_has_no_offsets() -> None:
    rig = group_rig()
    rig.commit(offset=5)
    rig.commit(offset=6, topic="weather")
    again = TopicMetadata("flights", UUID(int=103), 4, {})
    rig.topics.all = [again, WEATHER]
    assert rig.offsets() == {("weather", 0): 6}
    (topic,) = rig.groups.fetch_offsets(GROUP, [(TopicRef("flights"), [0])]).result()
    assert topic.partitions[0].offset is None


def test_the_offsets_of_a_deleted_topic_are_deleted_in_every_group() -> None:
    rig = group_rig()
    rig.commit(offset=5)
    rig.commit(offset=5, group_id="others")
    rig.commit(offset=6, topic="weather")
    rig.groups.delete_topic_offsets(FLIGHTS.id).result()
    assert rig.offsets() == {("weather", 0): 6}
    assert rig.restart().offsets() == {("weather", 0): 6}
    assert [listing.group_id for listing in rig.groups.list().result()] == [GROUP]


# --- deleting -----------------------------------------------------------------------------------------------


def deleted(rig: Any, *topics: tuple[str, list[int]], group_id: str = GROUP) -> Any:
    promise = rig.groups.delete_offsets(group_id, [(TopicRef(name), indexes) for name, indexes in topics])
    return code(promise) or [codes(topic) for topic in promise.result()]


def test_offsets_of_topics_that_no_member_reads_can_be_deleted() -> None:
    rig = group_rig()
    joined = rig.stable_one()
    rig.commit(joined, 5)
    rig.commit(joined, 6, topic="weather")
    assert deleted(rig, ("flights", [0]), ("weather", [0, 1]), ("nowhere", [0])) == [
        ["GROUP_SUBSCRIBED_TO_TOPIC"],
        [None, None],
        ["UNKNOWN_TOPIC_OR_PARTITION"],
    ]
    assert rig.offsets() == {("flights", 0): 5}
    rig.leave(joined)
    assert deleted(rig, ("flights", [0])) == [[None]]
    assert rig.offsets() == {}


def test_offsets_of_a_group_of_another_protocol_type_cannot_be_deleted() -> None:
    rig = group_rig()
    rig.commit(rig.stable_one(protocol_type="connect"), 5)
    assert deleted(rig, ("flights", [0])) == "NON_EMPTY_GROUP"


def test_offsets_cannot_be_deleted_while_the_subscriptions_are_not_known() -> None:
    rig = group_rig()
    rig.commit(rig.stable_one(protocols=(("range", b"?"),)), 5)
    assert deleted(rig, ("weather", [0])) == [["GROUP_SUBSCRIBED_TO_TOPIC"]]


def test_offsets_of_an_unknown_group_cannot_be_deleted() -> None:
    assert deleted(group_rig(), ("flights", [0])) == "GROUP_ID_NOT_FOUND"


def test_a_group_without_members_is_deleted_with_its_offsets() -> None:
    rig = group_rig()
    joined = rig.stable_one()
    rig.commit(joined, 5)
    assert code(rig.groups.delete(GROUP)) == "NON_EMPTY_GROUP"
    rig.leave(joined)
    assert code(rig.groups.delete(GROUP)) is None
    assert code(rig.groups.delete(GROUP)) == "GROUP_ID_NOT_FOUND"
    assert rig.offsets() == {}
    rig = rig.restart()
    assert rig.groups.list().result() == []
    assert rig.first().generation == 1


# --- age (KIP-211) ------------------------------------------------------------------------------------------

HOUR_MS = 3_600_000


def test_the_retention_of_offsets_counts_from_when_the_group_became_empty() -> None:
    rig = group_rig(offsets_retention_minutes=120, group_max_session_timeout_ms=100 * HOUR_MS)
    joined = rig.stable_one(session_timeout_ms=50 * HOUR_MS)
    rig.commit(joined, 5)
    rig.advance_ms(10 * HOUR_MS)
    assert rig.offsets() == {("flights", 0): 5}, "members read on, however long ago they committed"
    rig.leave(joined)
    rig.advance_ms(HOUR_MS)
    rig = rig.restart()
    rig.advance_ms(HOUR_MS - 60_000)
    assert rig.offsets() == {("flights", 0): 5}
    rig.advance_ms(HOUR_MS)
    assert rig.offsets() == {}
    assert rig.state_of() is None, "the group expires with its last offset"
    assert rig.restart().groups.list().result() == []


def test_the_retention_without_members_counts_from_the_commit() -> None:
    rig = group_rig(offsets_retention_minutes=120)
    rig.commit(offset=1)
    rig.advance_ms(HOUR_MS)
    rig.commit(offset=2, partition=1)
    rig.advance_ms(HOUR_MS)
    assert rig.offsets() == {("flights", 1): 2}
    rig.advance_ms(HOUR_MS)
    assert rig.state_of() is None


def test_a_topic_that_a_stable_group_no_longer_reads_loses_its_offsets() -> None:
    rig = group_rig(offsets_retention_minutes=120, group_max_session_timeout_ms=100 * HOUR_MS)
    joined = rig.stable_one(session_timeout_ms=50 * HOUR_MS)
    rig.commit(joined, 5)
    rig.commit(joined, 6, topic="weather")
    rig.advance_ms(2 * HOUR_MS)
    assert rig.offsets() == {("flights", 0): 5}


def test_a_client_may_set_the_retention_of_an_offset() -> None:
    rig = group_rig()
    rig.commit(offset=1, retention_ms=HOUR_MS)
    rig.commit(offset=2, partition=1)
    rig.advance_ms(HOUR_MS)
    assert rig.offsets() == {("flights", 1): 2}


def test_offsets_that_a_crash_leaves_of_a_deleted_topic_expire() -> None:
    rig = group_rig()
    rig.commit(offset=5)
    rig.commit(offset=6, topic="weather")
    rig = rig.restart(topics=FakeTopicLookup(WEATHER))
    rig.advance_ms(HOUR_MS)
    rig = rig.restart(topics=FakeTopicLookup(FLIGHTS, WEATHER))
    assert rig.offsets() == {("weather", 0): 6}


def test_an_empty_group_without_offsets_expires() -> None:
    rig = group_rig()
    rig.leave(rig.stable_one())
    assert rig.state_of() == "Empty"
    rig.advance_ms(HOUR_MS)
    assert rig.state_of() is None


def test_offsets_from_before_the_clock_was_set_do_not_expire_when_it_is_set() -> None:
    rig = group_rig(offsets_retention_minutes=120)
    rig.clock.wall = 5_000  # of 1970
    rig.commit(offset=1)
    rig.clock.wall = 1_790_000_000_000
    rig.advance_ms(3 * HOUR_MS)
    assert rig.offsets() == {("flights", 0): 1}
    rig.commit(offset=2)
    rig.advance_ms(3 * HOUR_MS)
    assert rig.offsets() == {}
