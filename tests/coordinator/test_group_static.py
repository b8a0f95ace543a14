"""Static members (KIP-345): they come back under a new id without a rebalance, and fence who they replace."""

from __future__ import annotations

from typing import Any

from mainstem.coordinator.groups.types import JoinReply, LeaveRequest
from tests.coordinator.group_kit import REBALANCE_MS, SESSION_MS, GroupRig, code, group_rig, subscription


def static_two(k: GroupRig) -> tuple[JoinReply, JoinReply]:
    """A stable group of two static members, w-1 (leads) and w-2."""
    first = k.stable_one(instance_id="w-1")
    second = k.join(instance_id="w-2")
    leader = k.join(first.member_id, instance_id="w-1").result()
    waiting = k.sync(second.result())
    k.sync(leader, {leader.member_id: b"left", second.result().member_id: b"right"})
    assert code(waiting) is None
    return leader, second.result()


def test_a_follower_comes_back_without_a_rebalance_and_keeps_its_assignment() -> None:
    k = group_rig()
    leader, follower = static_two(k)
    back = k.join(instance_id="w-2").result()
    assert back.member_id != follower.member_id
    assert (back.generation, back.leader, back.members) == (2, leader.member_id, ())
    assert k.state_of() == "Stable"
    assert k.heartbeat(leader) is None
    assert k.sync(back).result().assignment == b"right"


def test_the_one_that_was_replaced_is_fenced() -> None:
    k = group_rig()
    _, follower = static_two(k)
    k.join(instance_id="w-2")
    fenced: dict[str, Any] = {"instance_id": "w-2"}
    assert k.heartbeat(follower, **fenced) == "FENCED_INSTANCE_ID"
    assert code(k.sync(follower, **fenced)) == "FENCED_INSTANCE_ID"
    assert code(k.join(follower.member_id, **fenced)) == "FENCED_INSTANCE_ID"
    assert k.commit_code(follower, **fenced) == "FENCED_INSTANCE_ID"
    assert k.leave(LeaveRequest(follower.member_id, "w-2")) == ["FENCED_INSTANCE_ID"]
    assert k.heartbeat(follower) == "UNKNOWN_MEMBER_ID", "without its instance id it is just unknown"


def test_a_leader_that_comes_back_is_told_to_skip_the_assignment() -> None:
    k = group_rig()
    static_two(k)
    back = k.join(instance_id="w-1", supports_skip_assignment=True).result()
    assert back.skip_assignment
    assert back.leader == back.member_id
    assert len(back.members) == 2
    assert k.sync(back).result().assignment == b"left"


def test_a_follower_that_comes_back_has_nothing_to_skip() -> None:
    k = group_rig()
    leader, _ = static_two(k)
    back = k.join(instance_id="w-2", supports_skip_assignment=True).result()
    assert (back.skip_assignment, back.leader, back.members) == (False, leader.member_id, ())


def test_an_old_client_that_led_is_told_its_old_id_so_that_it_does_not_assign() -> None:
    k = group_rig()
    leader, _ = static_two(k)
    back = k.join(instance_id="w-1").result()
    assert (back.leader, back.members, back.skip_assignment) == (leader.member_id, (), False)
    assert k.sync(back).result().assignment == b"left"


def test_coming_back_for_other_topics_is_a_rebalance() -> None:
    k = group_rig()
    leader, _ = static_two(k)
    other = (("range", subscription("weather")),)
    waiting = k.join(instance_id="w-2", protocols=other)
    assert code(waiting) == "pending"
    assert k.heartbeat(leader) == "REBALANCE_IN_PROGRESS"


def test_coming_back_with_other_user_data_is_none() -> None:
    k = group_rig()
    static_two(k)
    same = (("range", subscription("flights", user_data=b"owned: nothing")),)
    assert k.join(instance_id="w-2", protocols=same).result().generation == 2


def test_coming_back_with_an_assignor_that_changes_the_choice_is_a_rebalance() -> None:
    k = group_rig()
    both = (("range", subscription("flights")), ("sticky", subscription("flights")))
    first = k.stable_one(instance_id="w-1", protocols=both)
    assert first.protocol == "range"
    waiting = k.join(instance_id="w-1", protocols=both[::-1])
    assert waiting.result().generation == 2
    assert waiting.result().protocol == "sticky"


def test_coming_back_before_the_assignment_starts_over() -> None:
    k = group_rig()
    leader, follower = static_two(k)
    k.join(leader.member_id, instance_id="w-1")
    follower = k.join(follower.member_id, instance_id="w-2").result()
    waiting = k.sync(follower, instance_id="w-2")
    back = k.join(instance_id="w-2")
    assert code(waiting) == "FENCED_INSTANCE_ID"
    assert code(back) == "pending"
    assert k.state_of() == "PreparingRebalance"


def test_coming_back_while_the_old_self_waits_fences_it() -> None:
    k = group_rig()
    leader, follower = static_two(k)
    k.join(leader.member_id, instance_id="w-1", protocols=(("range", subscription("weather")),))
    third = k.join()
    waiting = k.join(follower.member_id, instance_id="w-2")
    assert code(waiting) is None, "all have joined"
    k.advance_ms(SESSION_MS - 1)
    again = k.join(third.result().member_id, protocols=(("range", b""),))
    waiting = k.join(follower.member_id, instance_id="w-2")
    newer = k.join(instance_id="w-2")
    assert code(waiting) == "FENCED_INSTANCE_ID"
    k.join(leader.member_id, instance_id="w-1")
    assert code(newer) is None
    assert code(again) is None


def test_a_static_member_that_is_late_is_kept_until_its_session_ends() -> None:
    k = group_rig()
    static: dict[str, Any] = {"session_timeout_ms": 200_000}
    first = k.stable_one(instance_id="w-1", **static)
    waiting = k.join()
    k.advance_ms(REBALANCE_MS)
    joined = waiting.result()
    assert joined.leader == joined.member_id, "the one that is there leads"
    assert {one.instance_id for one in joined.members} == {"w-1", None}
    assert code(k.sync(joined, {first.member_id: b"w-1's", joined.member_id: b"mine"})) is None
    back = k.join(instance_id="w-1", **static).result()
    assert k.sync(back).result().assignment == b"w-1's"


def test_a_static_member_leaves_by_its_session_or_by_an_administrator() -> None:
    k = group_rig()
    leader, follower = static_two(k)
    assert k.leave(LeaveRequest("", "w-2")) == [None]
    assert k.heartbeat(follower, instance_id="w-2") == "UNKNOWN_MEMBER_ID"
    assert k.leave(LeaveRequest("", "w-3")) == ["UNKNOWN_MEMBER_ID"]
    assert k.heartbeat(leader) == "REBALANCE_IN_PROGRESS"
    k.advance_ms(SESSION_MS)
    assert k.state_of() == "Empty"


def test_if_only_late_static_members_are_left_the_rebalance_waits_for_one() -> None:
    k = group_rig()
    long: dict[str, Any] = {"session_timeout_ms": 200_000}
    first = k.stable_one(instance_id="w-1", **long)
    member_id = k.join(requires_member_id=True).error.member_id  # type: ignore[union-attr]
    k.join(member_id)
    assert k.leave(LeaveRequest(member_id)) == [None]
    k.advance_ms(2 * REBALANCE_MS)
    assert k.state_of() == "PreparingRebalance"
    back = k.join(first.member_id, instance_id="w-1", **long)
    assert back.result().generation == 2


def test_a_replaced_static_member_survives_a_restart() -> None:
    k = group_rig()
    _, follower = static_two(k)
    back = k.join(instance_id="w-2").result()
    k = k.restart()
    assert k.heartbeat(back, instance_id="w-2") is None
    assert k.heartbeat(follower, instance_id="w-2") == "FENCED_INSTANCE_ID"
    assert k.sync(back).result().assignment == b"right"
