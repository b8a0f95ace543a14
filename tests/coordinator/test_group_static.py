"""Static members (KIP-345): they rejoin under a new id without a rebalance, and fence the old one."""

from __future__ import annotations

from typing import Any

from mainstem.coordinator.groups.types import JoinReply, LeaveRequest
from tests.coordinator.group_rig import REBALANCE_MS, SESSION_MS, GroupRig, code, group_rig, subscription


def static_two(rig: GroupRig) -> tuple[JoinReply, JoinReply]:
    """A stable group of two static members, w-1 (leads) and w-2."""
    first = rig.stable_one(instance_id="w-1")
    second = rig.join(instance_id="w-2")
    leader = rig.join(first.member_id, instance_id="w-1").result()
    waiting = rig.sync(second.result())
    rig.sync(leader, {leader.member_id: b"left", second.result().member_id: b"right"})
    assert code(waiting) is None
    return leader, second.result()


def test_a_static_follower_rejoins_without_a_rebalance_and_keeps_its_assignment() -> None:
    rig = group_rig()
    leader, follower = static_two(rig)
    back = rig.join(instance_id="w-2").result()
    assert back.member_id != follower.member_id
    assert (back.generation, back.leader, back.members) == (2, leader.member_id, ())
    assert rig.state_of() == "Stable"
    assert rig.heartbeat(leader) is None
    assert rig.sync(back).result().assignment == b"right"


def test_the_replaced_static_member_is_fenced() -> None:
    rig = group_rig()
    _, follower = static_two(rig)
    rig.join(instance_id="w-2")
    fenced: dict[str, Any] = {"instance_id": "w-2"}
    assert rig.heartbeat(follower, **fenced) == "FENCED_INSTANCE_ID"
    assert code(rig.sync(follower, **fenced)) == "FENCED_INSTANCE_ID"
    assert code(rig.join(follower.member_id, **fenced)) == "FENCED_INSTANCE_ID"
    assert rig.commit_code(follower, **fenced) == "FENCED_INSTANCE_ID"
    assert rig.leave(LeaveRequest(follower.member_id, "w-2")) == ["FENCED_INSTANCE_ID"]
    assert rig.heartbeat(follower) == "UNKNOWN_MEMBER_ID", "without its instance id it is just unknown"


def test_a_static_leader_that_rejoins_skips_the_assignment() -> None:
    rig = group_rig()
    static_two(rig)
    back = rig.join(instance_id="w-1", supports_skip_assignment=True).result()
    assert back.skip_assignment
    assert back.leader == back.member_id
    assert len(back.members) == 2
    assert rig.sync(back).result().assignment == b"left"


def test_a_static_follower_that_rejoins_has_no_assignment_to_skip() -> None:
    rig = group_rig()
    leader, _ = static_two(rig)
    back = rig.join(instance_id="w-2", supports_skip_assignment=True).result()
    assert (back.skip_assignment, back.leader, back.members) == (False, leader.member_id, ())


def test_a_rejoining_leader_with_an_old_client_gets_its_old_id_as_the_leaders() -> None:
    rig = group_rig()
    leader, _ = static_two(rig)
    back = rig.join(instance_id="w-1").result()
    assert (back.leader, back.members, back.skip_assignment) == (leader.member_id, (), False)
    assert rig.sync(back).result().assignment == b"left"


def test_rejoining_for_other_topics_is_a_rebalance() -> None:
    rig = group_rig()
    leader, _ = static_two(rig)
    other = (("range", subscription("weather")),)
    waiting = rig.join(instance_id="w-2", protocols=other)
    assert code(waiting) == "pending"
    assert rig.heartbeat(leader) == "REBALANCE_IN_PROGRESS"


def test_rejoining_with_other_user_data_is_no_rebalance() -> None:
    rig = group_rig()
    static_two(rig)
    same = (("range", subscription("flights", user_data=b"owned: nothing")),)
    assert rig.join(instance_id="w-2", protocols=same).result().generation == 2


def test_rejoining_with_protocols_that_change_the_assignor_is_a_rebalance() -> None:
    rig = group_rig()
    both = (("range", subscription("flights")), ("sticky", subscription("flights")))
    first = rig.stable_one(instance_id="w-1", protocols=both)
    assert first.protocol == "range"
    waiting = rig.join(instance_id="w-1", protocols=both[::-1])
    assert waiting.result().generation == 2
    assert waiting.result().protocol == "sticky"


def test_rejoining_before_the_assignment_restarts_the_rebalance() -> None:
    rig = group_rig()
    leader, follower = static_two(rig)
    rig.join(leader.member_id, instance_id="w-1")
    follower = rig.join(follower.member_id, instance_id="w-2").result()
    waiting = rig.sync(follower, instance_id="w-2")
    back = rig.join(instance_id="w-2")
    assert code(waiting) == "FENCED_INSTANCE_ID"
    assert code(back) == "pending"
    assert rig.state_of() == "PreparingRebalance"


def test_rejoining_fences_the_old_member_whose_request_waits() -> None:
    rig = group_rig()
    leader, follower = static_two(rig)
    rig.join(leader.member_id, instance_id="w-1", protocols=(("range", subscription("weather")),))
    third = rig.join()
    waiting = rig.join(follower.member_id, instance_id="w-2")
    assert code(waiting) is None, "all have joined"
    rig.advance_ms(SESSION_MS - 1)
    again = rig.join(third.result().member_id, protocols=(("range", b""),))
    waiting = rig.join(follower.member_id, instance_id="w-2")
    newer = rig.join(instance_id="w-2")
    assert code(waiting) == "FENCED_INSTANCE_ID"
    rig.join(leader.member_id, instance_id="w-1")
    assert code(newer) is None
    assert code(again) is None


def test_a_static_member_that_does_not_rejoin_stays_until_its_session_ends() -> None:
    rig = group_rig()
    static: dict[str, Any] = {"session_timeout_ms": 200_000}
    first = rig.stable_one(instance_id="w-1", **static)
    waiting = rig.join()
    rig.advance_ms(REBALANCE_MS)
    joined = waiting.result()
    assert joined.leader == joined.member_id, "the one that is there leads"
    assert {member.instance_id for member in joined.members} == {"w-1", None}
    assert code(rig.sync(joined, {first.member_id: b"w-1's", joined.member_id: b"mine"})) is None
    back = rig.join(instance_id="w-1", **static).result()
    assert rig.sync(back).result().assignment == b"w-1's"


def test_a_static_member_is_removed_by_its_session_or_by_an_administrator() -> None:
    rig = group_rig()
    leader, follower = static_two(rig)
    assert rig.leave(LeaveRequest("", "w-2")) == [None]
    assert rig.heartbeat(follower, instance_id="w-2") == "UNKNOWN_MEMBER_ID"
    assert rig.leave(LeaveRequest("", "w-3")) == ["UNKNOWN_MEMBER_ID"]
    assert rig.heartbeat(leader) == "REBALANCE_IN_PROGRESS"
    rig.advance_ms(SESSION_MS)
    assert rig.state_of() == "Empty"


def test_a_rebalance_of_missing_static_members_alone_waits_for_one_of_them() -> None:
    rig = group_rig()
    long: dict[str, Any] = {"session_timeout_ms": 200_000}
    first = rig.stable_one(instance_id="w-1", **long)
    member_id = rig.join(requires_member_id=True).error.member_id  # type: ignore[union-attr]
    rig.join(member_id)
    assert rig.leave(LeaveRequest(member_id)) == [None]
    rig.advance_ms(2 * REBALANCE_MS)
    assert rig.state_of() == "PreparingRebalance"
    back = rig.join(first.member_id, instance_id="w-1", **long)
    assert back.result().generation == 2


def test_a_replaced_static_member_survives_a_restart() -> None:
    rig = group_rig()
    _, follower = static_two(rig)
    back = rig.join(instance_id="w-2").result()
    rig = rig.restart()
    assert rig.heartbeat(back, instance_id="w-2") is None
    assert rig.heartbeat(follower, instance_id="w-2") == "FENCED_INSTANCE_ID"
    assert rig.sync(back).result().assignment == b"right"
