"""Where share groups begin, their lag, and what an admin sets: Describe, alter, delete."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mainstem.coordinator.groups.share_types import ShareHeartbeat
from mainstem.doors.kafka.errors import ErrorCode
from mainstem.kafka_protocol.message import Message
from tests.doors.kafka.share_kit import ACCEPT, GROUP, REJECT, RELEASE, ShareRig


def describe(
    rig: ShareRig, topics: Mapping[str, Iterable[int]] | None, group: str = GROUP
) -> dict[tuple[str, int], tuple[int, int]]:
    """(topic, partition) -> (start offset, lag)."""
    wanted = None
    if topics is not None:
        wanted = [Message(topic_name=name, partitions=list(parts)) for name, parts in topics.items()]
    reply = rig.call(90, 1, Message(groups=[Message(group_id=group, topics=wanted)]))
    (shown,) = reply.groups
    assert shown.error_code == 0
    return {
        (topic.topic_name, part.partition_index): (part.start_offset, part.lag)
        for topic in shown.topics
        for part in topic.partitions
    }


def alter(rig: ShareRig, topics: Mapping[str, Mapping[int, int]], group: str = GROUP) -> Any:
    """The top-level error, or that of each partition."""
    wanted = [
        Message(
            topic_name=name,
            partitions=[Message(partition_index=i, start_offset=o) for i, o in parts.items()],
        )
        for name, parts in topics.items()
    ]
    reply = rig.call(91, 0, Message(group_id=group, topics=wanted))
    parts = [
        (part.partition_index, part.error_code) for topic in reply.responses for part in topic.partitions
    ]
    return reply.error_code or dict(parts)


def delete(rig: ShareRig, *names: str, group: str = GROUP) -> Any:
    topics = [Message(topic_name=name) for name in names]
    reply = rig.call(92, 0, Message(group_id=group, topics=topics))
    return reply.error_code or {topic.topic_name: topic.error_code for topic in reply.responses}


def join(rig: ShareRig, member: str = "m1", group: str = GROUP, epoch: int = 0) -> None:
    topics = ("t",) if epoch == 0 else None
    rig.wait(
        rig.node.share_groups.heartbeat(
            ShareHeartbeat(
                group_id=group,
                member_id=member,
                member_epoch=epoch,
                rack_id=None,
                topics=topics,
                client_id="c",
                client_host="h",
            )
        )
    )
    rig.clock.advance(0.1)


# --- describing -------------------------------------------------------------------------------------------


def test_the_lag_is_what_is_not_done_whether_delivered_or_not() -> None:
    rig = ShareRig()
    join(rig)
    rig.produce(b"a", b"b", b"c", b"d", b"e", b"f")
    assert describe(rig, None) == {("t", 0): (0, 6), ("t", 1): (0, 0)}
    member = rig.member()
    member.fetch()
    assert describe(rig, {"t": [0]}) == {("t", 0): (0, 6)}
    member.acknowledge({0: [(0, 1, [ACCEPT]), (3, 3, [REJECT]), (4, 4, [RELEASE])]})
    assert describe(rig, {"t": [0]}) == {("t", 0): (2, 3)}
    rig.wait(rig.node.partition(rig.node.topics.get("t"), 0).delete_records(5))  # type: ignore[arg-type]
    assert describe(rig, {"t": [0]}) == {("t", 0): (5, 1)}


def test_what_does_not_exist_has_no_offset_and_no_error() -> None:
    rig = ShareRig()
    join(rig)
    unknown = {"t": [0, 9], "nothere": [0]}
    shown = {("t", 0): (0, 0), ("t", 9): (-1, -1), ("nothere", 0): (-1, -1)}
    assert describe(rig, unknown) == shown
    assert describe(rig, None, group="no-such-group") == {}
    assert describe(rig, {"t": [0]}, group="no-such-group") == {("t", 0): (-1, -1)}


# --- altering ---------------------------------------------------------------------------------------------


def test_a_group_begins_anew_where_it_is_set() -> None:
    rig = ShareRig()
    rig.produce(b"a", b"b", b"c", b"d")
    member = rig.member()
    assert member.fetch().acquired() == [(0, 3, 1)]
    assert alter(rig, {"t": {0: 2, 9: 0}, "nothere": {3: 0}}) == {
        0: 0,
        9: ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        3: ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
    }
    assert member.acknowledge({0: [(2, 3, [ACCEPT])]}) == (0, {0: ErrorCode.INVALID_RECORD_STATE})
    assert member.fetch().acquired() == [(2, 3, 1)]
    assert alter(rig, {"t": {0: 99, 1: 7}}) == {0: 0, 1: 0}
    assert describe(rig, None) == {("t", 0): (4, 0), ("t", 1): (0, 0)}, "the nearest that there is"
    assert alter(rig, {"t": {0: -1}}) == {0: 0}
    assert describe(rig, {"t": [0]}) == {("t", 0): (0, 4)}, "where the settings say"


def test_only_a_group_without_members_is_altered_and_one_that_is_not_there_is_made() -> None:
    rig = ShareRig()
    rig.produce(b"a", b"b")
    join(rig)
    assert alter(rig, {"t": {0: 1}}) == ErrorCode.NON_EMPTY_GROUP
    assert delete(rig, "t") == ErrorCode.NON_EMPTY_GROUP
    assert alter(rig, {"t": {0: 1}}, group="") == ErrorCode.INVALID_GROUP_ID
    assert alter(rig, {"t": {0: 1}}, group="new") == {0: 0}
    assert describe(rig, None, group="new") == {("t", 0): (1, 1)}
    assert rig.member("m", "new").fetch().acquired() == [(1, 1, 1)]


# --- deleting ---------------------------------------------------------------------------------------------


def test_a_group_forgets_what_it_knows_of_a_topic() -> None:
    rig = ShareRig()
    rig.produce(b"a", b"b")
    member = rig.member()
    member.fetch()
    member.acknowledge({0: [(0, 1, [ACCEPT])]}, epoch=-1)
    unknown = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert delete(rig, "t", "nothere") == {"t": 0, "nothere": unknown}
    assert describe(rig, None) == {}
    assert delete(rig, "t") == {"t": unknown}
    assert delete(rig, "t", group="no-such-group") == ErrorCode.GROUP_ID_NOT_FOUND
    assert delete(rig, "t", group="") == ErrorCode.INVALID_GROUP_ID
    assert rig.member("m2").fetch().acquired() == [(0, 1, 1)]


# --- where a group begins ---------------------------------------------------------------------------------


def test_a_group_that_begins_at_the_end_begins_when_a_member_has_subscribed() -> None:
    rig = ShareRig()
    rig.produce(b"old")
    join(rig, group="late")
    rig.produce(b"new")
    assert rig.member("m1", "late").fetch().acquired() == [(1, 1, 1)]


def test_a_group_may_begin_a_time_ago() -> None:
    rig = ShareRig()
    now_ms = rig.clock.wall_ms()
    for age_s in (7200, 1800, 60):
        rig.produce(b"x", timestamp_ms=now_ms - age_s * 1000)
    rig.make_group("hour", share_auto_offset_reset="by_duration:PT1H")
    assert rig.member("m1", "hour").fetch().acquired() == [(1, 2, 1)]
    rig.make_group("minute", share_auto_offset_reset="by_duration:PT0.001S")
    assert rig.member("m1", "minute").fetch().acquired() == []


def test_partitions_that_are_added_are_read_from_their_beginning() -> None:
    rig = ShareRig()
    join(rig, group="late")
    rig.wait(rig.node.topics.add_partitions("t", 3))
    rig.clock.advance(0.1)
    rig.produce(b"p", index=2)
    assert rig.member("m1", "late").fetch([2]).acquired(2) == [(0, 0, 1)]


def test_a_member_that_leaves_gives_back_what_it_has() -> None:
    rig = ShareRig()
    rig.produce(b"a")
    join(rig, "m1")
    member = rig.member("m1")
    assert member.fetch().acquired() == [(0, 0, 1)]
    join(rig, "m1", epoch=-1)
    assert rig.states(1) == "r"
    assert member.fetch().error == ErrorCode.SHARE_SESSION_NOT_FOUND


def test_the_settings_of_a_group_are_followed_at_once() -> None:
    rig = ShareRig()
    rig.produce(b"a", b"b", b"c")
    chosen = {
        "share.record.lock.duration.ms": "20000",
        "share.delivery.count.limit": "2",
        "share.auto.offset.reset": "earliest",
    }
    rig.wait(rig.node.group_settings.replace(GROUP, chosen))
    member = rig.member()
    fetched = member.fetch()
    assert (fetched.lock_ms, fetched.acquired()) == (20_000, [(0, 2, 1)])
    rig.clock.advance(20.1)
    assert rig.states(3) == "rrr"
    assert member.fetch().acquired() == [(0, 2, 2)]
    member.acknowledge({0: [(0, 2, [RELEASE])]})
    assert rig.states(3) == "xxx"


def test_after_a_start_the_lag_is_what_is_not_done_before_anybody_fetches() -> None:
    rig = ShareRig()
    join(rig)
    rig.produce(*[b"v"] * 6)
    member = rig.member()
    member.fetch()
    member.acknowledge({0: [(0, 2, [ACCEPT]), (4, 5, [ACCEPT])]})
    rig.kill()
    assert describe(rig, {"t": [0]}) == {("t", 0): (3, 1)}
    rig.member().fetch()
    rig.kill()
    rig.produce(b"v")
    assert describe(rig, {"t": [0]}) == {("t", 0): (3, 2)}
