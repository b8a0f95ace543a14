"""Committed offsets: who may commit, what is told, what is deleted."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from mainstem.coordinator.groups.types import CommitRequest, NewOffset, TopicRef
from mainstem.coordinator.topics.topics import TopicMetadata
from mainstem.kafka_protocol.subscription import read_subscription
from tests.coordinator.group_kit import (
    FLIGHTS,
    GROUP,
    SESSION_MS,
    WEATHER,
    FakeTopicLookup,
    code,
    codes,
    group_rig,
    subscription,
)


def test_what_was_committed_is_told() -> None:
    k = group_rig()
    joined = k.stable_one()
    assert k.commit_code(joined, 42, partition=1, leader_epoch=7, metadata="was hier steht") is None
    wanted = [(TopicRef("flights"), [1, 0]), (TopicRef("nowhere"), [0])]
    flights, nowhere = k.groups.fetch_offsets(GROUP, wanted).result()
    found, missing = flights.partitions
    assert found.offset is not None
    assert (found.offset.offset, found.offset.leader_epoch, found.offset.metadata) == (
        42,
        7,
        "was hier steht",
    )
    assert found.offset.commit_ms == k.clock.wall_ms()
    assert (missing.partition, missing.offset, missing.error) == (0, None, None)
    assert nowhere.partitions[0].offset is None
    assert nowhere.partitions[0].error is None


def test_an_unknown_group_has_no_offsets() -> None:
    k = group_rig()
    (topic,) = k.groups.fetch_offsets("nobodies", [(TopicRef("flights"), [0])]).result()
    assert topic.partitions[0].offset is None
    assert k.groups.fetch_offsets("nobodies").result() == []
    assert k.groups.list().result() == []


def test_all_offsets_are_told_when_none_are_named() -> None:
    k = group_rig()
    k.commit(offset=3, topic="weather")
    k.commit(offset=5, partition=2)
    k.commit(offset=4, partition=1)
    assert k.offsets() == {("flights", 1): 4, ("flights", 2): 5, ("weather", 0): 3}
    assert [topic.topic.id for topic in k.groups.fetch_offsets(GROUP).result()] == [FLIGHTS.id, WEATHER.id]


def test_topics_may_be_named_by_id() -> None:
    k = group_rig()
    assert k.commit_code(offset=9, topic=FLIGHTS.id) is None
    assert k.commit_code(offset=9, topic=UUID(int=999)) == "UNKNOWN_TOPIC_ID"
    known, unknown = k.groups.fetch_offsets(
        GROUP, [(TopicRef(id=FLIGHTS.id), [0]), (TopicRef(id=UUID(int=999)), [0])]
    ).result()
    assert known.partitions[0].offset is not None
    assert known.topic.name == "flights"
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
def test_a_partition_is_refused_alone(change: dict[str, Any], refusal: str | None) -> None:
    assert group_rig().commit_code(**change) == refusal


def test_one_bad_partition_does_not_hold_up_the_others() -> None:
    k = group_rig()
    topics = (
        (TopicRef("nowhere"), (NewOffset(0, 1),)),
        (TopicRef("flights"), (NewOffset(0, 1), NewOffset(9, 1))),
    )
    verdicts = k.groups.commit(CommitRequest(group_id=GROUP, topics=topics)).result()
    assert [codes(topic) for topic in verdicts] == [
        ["UNKNOWN_TOPIC_OR_PARTITION"],
        [None, "UNKNOWN_TOPIC_OR_PARTITION"],
    ]
    assert k.offsets() == {("flights", 0): 1}


# --- who may commit -----------------------------------------------------------------------------------------


def test_a_simple_consumer_commits_without_being_a_member() -> None:
    k = group_rig()
    assert k.commit_code(offset=5) is None
    (listing,) = k.groups.list().result()
    assert (listing.group_id, listing.protocol_type, listing.state.value) == (GROUP, "", "Empty")


def test_a_generation_of_a_group_that_does_not_exist_is_refused() -> None:
    k = group_rig()
    assert k.commit_code(generation=3, member_id="m") == "ILLEGAL_GENERATION"
    assert k.groups.list().result() == []


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        ({}, None),
        ({"generation": 0}, "ILLEGAL_GENERATION"),
        ({"generation": -1}, "ILLEGAL_GENERATION"),
        ({"member_id": "somebody"}, "UNKNOWN_MEMBER_ID"),
        ({"generation": -1, "member_id": ""}, "UNKNOWN_MEMBER_ID"),
        ({"generation": -1, "member_id": "", "instance_id": "w-1"}, "UNKNOWN_MEMBER_ID"),
    ],
)
def test_only_members_commit_while_there_are_members(change: dict[str, Any], refusal: str | None) -> None:
    k = group_rig()
    assert k.commit_code(k.stable_one(), **change) == refusal


def test_the_old_generation_commits_while_members_join_again() -> None:
    k = group_rig()
    first = k.stable_one()
    k.join()
    assert k.state_of() == "PreparingRebalance"
    assert k.commit_code(first, 7) is None
    assert k.offsets() == {("flights", 0): 7}


def test_nobody_commits_between_join_and_assignment() -> None:
    k = group_rig()
    joined = k.first()
    assert k.commit_code(joined) == "REBALANCE_IN_PROGRESS"
    k.sync(joined)
    assert k.commit_code(joined) is None


def test_a_tool_resets_offsets_of_a_group_whose_members_left() -> None:
    k = group_rig()
    joined = k.stable_one()
    k.commit(joined, 100)
    assert k.commit_code(offset=0) == "UNKNOWN_MEMBER_ID"
    k.leave(joined)
    assert k.commit_code(joined, 200) == "UNKNOWN_MEMBER_ID"
    assert k.commit_code(offset=0) is None
    assert k.offsets() == {("flights", 0): 0}


def test_a_commit_counts_as_a_heartbeat() -> None:
    k = group_rig()
    joined = k.stable_one()
    for _ in range(3):
        k.advance_ms(SESSION_MS - 1)
        assert k.commit_code(joined) is None
    assert k.state_of() == "Stable"


# --- topics that come and go --------------------------------------------------------------------------------


def test_a_topic_that_is_created_again_inherits_nothing() -> None:
    k = group_rig()
    k.commit(offset=5)
    k.commit(offset=6, topic="weather")
    again = TopicMetadata("flights", UUID(int=103), 4, {})
    k.topics.all = [again, WEATHER]
    assert k.offsets() == {("weather", 0): 6}
    (topic,) = k.groups.fetch_offsets(GROUP, [(TopicRef("flights"), [0])]).result()
    assert topic.partitions[0].offset is None


def test_offsets_of_a_deleted_topic_are_forgotten_in_every_group() -> None:
    k = group_rig()
    k.commit(offset=5)
    k.commit(offset=5, group_id="others")
    k.commit(offset=6, topic="weather")
    k.groups.delete_topic_offsets(FLIGHTS.id).result()
    assert k.offsets() == {("weather", 0): 6}
    assert k.restart().offsets() == {("weather", 0): 6}
    assert [one.group_id for one in k.groups.list().result()] == [GROUP]


# --- deleting -----------------------------------------------------------------------------------------------


def deleted(k: Any, *topics: tuple[str, list[int]], group_id: str = GROUP) -> Any:
    later = k.groups.delete_offsets(group_id, [(TopicRef(name), indexes) for name, indexes in topics])
    return code(later) or [codes(topic) for topic in later.result()]


def test_offsets_that_nobody_reads_on_from_can_be_deleted() -> None:
    k = group_rig()
    joined = k.stable_one()
    k.commit(joined, 5)
    k.commit(joined, 6, topic="weather")
    assert deleted(k, ("flights", [0]), ("weather", [0, 1]), ("nowhere", [0])) == [
        ["GROUP_SUBSCRIBED_TO_TOPIC"],
        [None, None],
        ["UNKNOWN_TOPIC_OR_PARTITION"],
    ]
    assert k.offsets() == {("flights", 0): 5}
    k.leave(joined)
    assert deleted(k, ("flights", [0])) == [[None]]
    assert k.offsets() == {}


def test_offsets_of_members_that_are_no_consumers_stay() -> None:
    k = group_rig()
    k.commit(k.stable_one(protocol_type="connect"), 5)
    assert deleted(k, ("flights", [0])) == "NON_EMPTY_GROUP"


def test_offsets_stay_when_it_is_not_known_what_the_members_read() -> None:
    k = group_rig()
    k.commit(k.stable_one(protocols=(("range", b"?"),)), 5)
    assert deleted(k, ("weather", [0])) == [["GROUP_SUBSCRIBED_TO_TOPIC"]]


def test_offsets_of_an_unknown_group_cannot_be_deleted() -> None:
    assert deleted(group_rig(), ("flights", [0])) == "GROUP_ID_NOT_FOUND"


def test_a_group_is_deleted_with_its_offsets_when_nobody_is_in_it() -> None:
    k = group_rig()
    joined = k.stable_one()
    k.commit(joined, 5)
    assert code(k.groups.delete(GROUP)) == "NON_EMPTY_GROUP"
    k.leave(joined)
    assert code(k.groups.delete(GROUP)) is None
    assert code(k.groups.delete(GROUP)) == "GROUP_ID_NOT_FOUND"
    assert k.offsets() == {}
    k = k.restart()
    assert k.groups.list().result() == []
    assert k.first().generation == 1


@pytest.mark.parametrize(
    ("metadata", "topics"),
    [
        (subscription(), frozenset()),
        (subscription("a", "b"), frozenset({"a", "b"})),
        (subscription("a", user_data=b"xyz"), frozenset({"a"})),
        (subscription("a")[:-9], None),
        (b"", None),
        (b"\x00\x00\xff\xff\xff\xff", None),
        (b"\x00\x00\x7f\xff\xff\xff", None),
        (b"\x00\x00\x00\x00\x00\x01\xff\xff", None),
        (b"\x00\x00\x00\x00\x00\x01\x00\x01\xff", None),
    ],
)
def test_a_subscription_is_read_or_refused(metadata: bytes, topics: frozenset[str] | None) -> None:
    assert read_subscription(metadata) == topics


# --- age (KIP-211) ------------------------------------------------------------------------------------------

HOUR_MS = 3_600_000


def test_offsets_are_kept_from_when_the_group_became_empty() -> None:
    k = group_rig(offsets_retention_minutes=120, group_max_session_timeout_ms=100 * HOUR_MS)
    joined = k.stable_one(session_timeout_ms=50 * HOUR_MS)
    k.commit(joined, 5)
    k.advance_ms(10 * HOUR_MS)
    assert k.offsets() == {("flights", 0): 5}, "members read on, however long ago they committed"
    k.leave(joined)
    k.advance_ms(HOUR_MS)
    k = k.restart()
    k.advance_ms(HOUR_MS - 60_000)
    assert k.offsets() == {("flights", 0): 5}
    k.advance_ms(HOUR_MS)
    assert k.offsets() == {}
    assert k.state_of() is None, "the group goes with its last offset"
    assert k.restart().groups.list().result() == []


def test_a_simple_consumers_offsets_are_kept_from_their_commit() -> None:
    k = group_rig(offsets_retention_minutes=120)
    k.commit(offset=1)
    k.advance_ms(HOUR_MS)
    k.commit(offset=2, partition=1)
    k.advance_ms(HOUR_MS)
    assert k.offsets() == {("flights", 1): 2}
    k.advance_ms(HOUR_MS)
    assert k.state_of() is None


def test_a_topic_that_a_stable_group_no_longer_reads_loses_its_offsets() -> None:
    k = group_rig(offsets_retention_minutes=120, group_max_session_timeout_ms=100 * HOUR_MS)
    joined = k.stable_one(session_timeout_ms=50 * HOUR_MS)
    k.commit(joined, 5)
    k.commit(joined, 6, topic="weather")
    k.advance_ms(2 * HOUR_MS)
    assert k.offsets() == {("flights", 0): 5}


def test_a_client_may_say_how_long() -> None:
    k = group_rig()
    k.commit(offset=1, retention_ms=HOUR_MS)
    k.commit(offset=2, partition=1)
    k.advance_ms(HOUR_MS)
    assert k.offsets() == {("flights", 1): 2}


def test_what_a_crash_left_of_a_deleted_topic_goes_at_the_next_look() -> None:
    k = group_rig()
    k.commit(offset=5)
    k.commit(offset=6, topic="weather")
    k = k.restart(topics=FakeTopicLookup(WEATHER))
    k.advance_ms(HOUR_MS)
    k = k.restart(topics=FakeTopicLookup(FLIGHTS, WEATHER))
    assert k.offsets() == {("weather", 0): 6}


def test_an_empty_group_without_offsets_goes() -> None:
    k = group_rig()
    k.leave(k.stable_one())
    assert k.state_of() == "Empty"
    k.advance_ms(HOUR_MS)
    assert k.state_of() is None


def test_offsets_of_before_the_clock_was_set_do_not_expire_when_it_is() -> None:
    k = group_rig(offsets_retention_minutes=120)
    k.clock.wall = 5_000  # of 1970
    k.commit(offset=1)
    k.clock.wall = 1_790_000_000_000
    k.advance_ms(3 * HOUR_MS)
    assert k.offsets() == {("flights", 0): 1}
    k.commit(offset=2)
    k.advance_ms(3 * HOUR_MS)
    assert k.offsets() == {}
