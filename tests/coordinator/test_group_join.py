"""Joining a group: new and known members, protocols, limits, the initial delay, rejoining."""

from __future__ import annotations

import pytest

from mainstem.coordinator.groups.rebalancer import NEW_MEMBER_TIMEOUT_MS
from tests.coordinator.group_rig import GROUP, REBALANCE_MS, SESSION_MS, code, group_rig, subscription

RANGE = ("range", subscription("flights"))
STICKY = ("sticky", subscription("flights", user_data=b"s"))


def test_the_first_member_leads_generation_one_and_is_its_only_member() -> None:
    joined = group_rig().first()
    assert joined.generation == 1
    assert joined.leader == joined.member_id
    assert joined.protocol == "range"
    assert joined.protocol_type == "consumer"
    assert [(member.member_id, member.metadata) for member in joined.members] == [
        (joined.member_id, RANGE[1])
    ]
    assert joined.member_id.startswith("client-")


def test_a_new_member_gets_an_id_first_and_joins_with_it() -> None:
    rig = group_rig()
    first = rig.join(requires_member_id=True)
    assert code(first) == "MEMBER_ID_REQUIRED"
    member_id = first.error.member_id  # type: ignore[union-attr]
    assert rig.state_of() == "Empty"
    joined = rig.join(member_id, requires_member_id=True).result()
    assert joined.member_id == member_id


def test_a_pending_id_expires_after_a_session_timeout() -> None:
    rig = group_rig()
    sent_back = rig.join(requires_member_id=True)
    member_id = sent_back.error.member_id  # type: ignore[union-attr]
    rig.advance_ms(SESSION_MS)
    assert rig.state_of() is None
    assert code(rig.join(member_id, requires_member_id=True)) == "UNKNOWN_MEMBER_ID"


def test_a_rebalance_waits_for_a_pending_id_until_it_expires() -> None:
    rig = group_rig()
    first = rig.stable_one()
    rig.join(requires_member_id=True)
    again = rig.join(first.member_id)
    assert code(again) == "pending"
    rig.advance_ms(SESSION_MS)
    assert again.result().generation == 2


def test_a_static_member_joins_without_getting_an_id_first() -> None:
    joined = group_rig().first(instance_id="worker-1", requires_member_id=True)
    assert joined.member_id.startswith("worker-1-")


def test_a_pending_id_cannot_be_used_with_an_instance_id() -> None:
    rig = group_rig()
    member_id = rig.join(requires_member_id=True).error.member_id  # type: ignore[union-attr]
    assert code(rig.join(member_id, instance_id="worker-1")) == "UNKNOWN_MEMBER_ID"


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        ({"group_id": ""}, "INVALID_GROUP_ID"),
        ({"session_timeout_ms": 5_999}, "INVALID_SESSION_TIMEOUT"),
        ({"session_timeout_ms": 1_800_001}, "INVALID_SESSION_TIMEOUT"),
        ({"protocols": ()}, "INCONSISTENT_GROUP_PROTOCOL"),
        ({"protocol_type": ""}, "INCONSISTENT_GROUP_PROTOCOL"),
        ({"member_id": "unknown"}, "UNKNOWN_MEMBER_ID"),
    ],
)
def test_a_first_join_is_refused(change: dict[str, object], refusal: str) -> None:
    rig = group_rig()
    assert code(rig.join(**change)) == refusal  # type: ignore[arg-type]
    assert rig.state_of() is None
    assert rig.groups.list().result() == []


@pytest.mark.parametrize(
    "change", [{"protocol_type": "connect"}, {"protocols": (STICKY,)}, {"protocols": ()}]
)
def test_a_member_without_a_common_assignor_is_refused(change: dict[str, object]) -> None:
    rig = group_rig()
    rig.stable_one()
    assert code(rig.join(**change)) == "INCONSISTENT_GROUP_PROTOCOL"  # type: ignore[arg-type]
    assert rig.state_of() == "Stable"


def test_an_unknown_member_of_a_known_group_is_refused() -> None:
    rig = group_rig()
    rig.stable_one()
    assert code(rig.join("unknown")) == "UNKNOWN_MEMBER_ID"


def test_the_common_assignor_with_most_votes_is_chosen() -> None:
    rig = group_rig(group_initial_rebalance_delay_ms=1_000)
    wishes = [(RANGE, STICKY), (STICKY, RANGE), (STICKY, ("own", b""), RANGE)]
    joins = [rig.join(protocols=wish) for wish in wishes]
    rig.advance_ms(3_000)
    assert {join.result().protocol for join in joins} == {"sticky"}
    leader = joins[0].result()
    assert {member.metadata for member in leader.members} == {STICKY[1]}
    assert [join.result().members for join in joins[1:]] == [(), ()]


def test_an_assignor_that_a_member_does_not_offer_is_not_chosen() -> None:
    rig = group_rig(group_initial_rebalance_delay_ms=1_000)
    joins = [rig.join(protocols=wish) for wish in [(RANGE,), (STICKY, RANGE), (STICKY, RANGE)]]
    rig.advance_ms(3_000)
    assert {join.result().protocol for join in joins} == {"range"}


def test_a_new_group_waits_longer_while_more_members_join_but_not_for_ever() -> None:
    rig = group_rig(group_initial_rebalance_delay_ms=3_000)
    first = rig.join(rebalance_timeout_ms=7_000)
    rig.advance_ms(2_900)
    rig.join(rebalance_timeout_ms=7_000)
    rig.advance_ms(100)
    assert code(first) == "pending", "a member joined: wait 3 s more"
    rig.advance_ms(2_900)
    rig.join(rebalance_timeout_ms=7_000)
    rig.advance_ms(100)
    assert code(first) == "pending", "and what is left of the rebalance timeout: 1 s"
    rig.join(rebalance_timeout_ms=7_000)
    rig.advance_ms(1_000)
    assert len(first.result().members) == 4


def test_without_a_delay_the_first_member_starts_at_once() -> None:
    rig = group_rig()
    assert rig.join().result().generation == 1


def test_a_second_member_makes_the_first_one_join_again() -> None:
    rig = group_rig()
    first = rig.stable_one()
    second = rig.join()
    assert code(second) == "pending"
    assert rig.heartbeat(first) == "REBALANCE_IN_PROGRESS"
    again = rig.join(first.member_id).result()
    assert again.generation == second.result().generation == 2
    assert again.leader == second.result().leader == first.member_id
    assert len(again.members) == 2
    assert second.result().members == ()


def test_a_member_that_does_not_rejoin_in_time_is_removed_and_the_new_member_leads() -> None:
    rig = group_rig()
    first = rig.stable_one(session_timeout_ms=100_000)
    second = rig.join()
    rig.advance_ms(REBALANCE_MS - 1)
    assert code(second) == "pending"
    rig.advance_ms(1)
    joined = second.result()
    assert joined.leader == joined.member_id
    assert [member.member_id for member in joined.members] == [joined.member_id]
    assert rig.heartbeat(first) == "UNKNOWN_MEMBER_ID"


def test_the_longest_rebalance_timeout_of_the_members_counts() -> None:
    rig = group_rig()
    rig.stable_one(session_timeout_ms=1_000_000, rebalance_timeout_ms=90_000)
    second = rig.join(rebalance_timeout_ms=5_000)
    rig.advance_ms(89_999)
    assert code(second) == "pending"
    rig.advance_ms(1)
    assert code(second) is None


def test_a_follower_that_joins_again_unchanged_gets_the_same_generation() -> None:
    rig = group_rig()
    leader, follower = rig.stable_two()
    again = rig.join(follower.member_id).result()
    assert (again.generation, again.leader, again.members) == (2, leader.member_id, ())
    assert rig.state_of() == "Stable"
    assert rig.sync(again).result().assignment == b"right"


def test_a_follower_that_changes_its_protocols_forces_a_rebalance() -> None:
    rig = group_rig()
    _, follower = rig.stable_two()
    changed = (("range", subscription("flights", "weather")),)
    assert code(rig.join(follower.member_id, protocols=changed)) == "pending"
    assert rig.state_of() == "PreparingRebalance"


def test_the_leader_of_a_stable_group_forces_a_rebalance_by_an_unchanged_join() -> None:
    rig = group_rig()
    leader, _ = rig.stable_two()
    assert code(rig.join(leader.member_id)) == "pending"
    assert rig.state_of() == "PreparingRebalance"


def test_a_member_that_missed_the_reply_to_its_join_gets_it_again() -> None:
    rig = group_rig()
    first = rig.first()
    again = rig.join(first.member_id).result()
    assert again == first
    assert rig.state_of() == "CompletingRebalance"


def test_a_member_that_changes_before_the_assignment_restarts_the_rebalance() -> None:
    rig = group_rig()
    first = rig.first()
    changed = rig.join(first.member_id, protocols=(("range", subscription("weather")),)).result()
    assert changed.generation == 2


def test_a_waiting_join_gets_a_reply_when_the_member_joins_again() -> None:
    rig = group_rig()
    rig.stable_one()
    lost = rig.join("", requires_member_id=True)
    member_id = lost.error.member_id  # type: ignore[union-attr]
    waiting = rig.join(member_id)
    newer = rig.join(member_id)
    assert code(waiting) == "REBALANCE_IN_PROGRESS"
    assert code(newer) == "pending"


def test_the_group_size_is_limited() -> None:
    rig = group_rig(group_max_size=2)
    leader, follower = rig.stable_two()
    assert code(rig.join()) == "GROUP_MAX_SIZE_REACHED"
    assert code(rig.join(follower.member_id)) is None, "who is in stays in"
    rig.join(leader.member_id)
    assert code(rig.join()) == "pending", "while it rebalances those who wait are counted"
    assert code(rig.join(follower.member_id)) == "GROUP_MAX_SIZE_REACHED", "the last one is left out"
    assert rig.heartbeat(follower) == "UNKNOWN_MEMBER_ID"


def test_a_new_member_without_a_reply_is_removed_after_five_minutes() -> None:
    rig = group_rig(group_max_session_timeout_ms=10_000_000)
    rig.stable_one(session_timeout_ms=5_000_000, rebalance_timeout_ms=1_000_000)
    waiting = rig.join()
    rig.advance_ms(NEW_MEMBER_TIMEOUT_MS)
    assert code(waiting) == "UNKNOWN_MEMBER_ID"


def test_groups_are_independent_of_each_other() -> None:
    rig = group_rig()
    rig.stable_one()
    other = rig.join(group_id="others").result()
    assert other.generation == 1
    assert rig.state_of(GROUP) == "Stable"
