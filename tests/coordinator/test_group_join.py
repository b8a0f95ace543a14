"""Joining: new and known members, protocols, limits, the initial delay, the rules of joining again."""

from __future__ import annotations

import pytest

from mainstem.coordinator.groups.rebalancer import NEW_MEMBER_TIMEOUT_MS
from tests.coordinator.group_kit import GROUP, REBALANCE_MS, SESSION_MS, code, group_rig, subscription

RANGE = ("range", subscription("flights"))
STICKY = ("sticky", subscription("flights", user_data=b"s"))


def test_the_first_member_leads_generation_one_and_is_told_of_itself() -> None:
    joined = group_rig().first()
    assert joined.generation == 1
    assert joined.leader == joined.member_id
    assert joined.protocol == "range"
    assert joined.protocol_type == "consumer"
    assert [(one.member_id, one.metadata) for one in joined.members] == [(joined.member_id, RANGE[1])]
    assert joined.member_id.startswith("client-")


def test_a_new_member_is_sent_back_with_an_id_and_let_in_with_it() -> None:
    k = group_rig()
    first = k.join(requires_member_id=True)
    assert code(first) == "MEMBER_ID_REQUIRED"
    member_id = first.error.member_id  # type: ignore[union-attr]
    assert k.state_of() == "Empty"
    joined = k.join(member_id, requires_member_id=True).result()
    assert joined.member_id == member_id


def test_an_id_that_is_not_used_within_a_session_is_forgotten() -> None:
    k = group_rig()
    sent_back = k.join(requires_member_id=True)
    member_id = sent_back.error.member_id  # type: ignore[union-attr]
    k.advance_ms(SESSION_MS)
    assert k.state_of() is None
    assert code(k.join(member_id, requires_member_id=True)) == "UNKNOWN_MEMBER_ID"


def test_a_rebalance_waits_for_an_id_that_was_handed_out_and_goes_on_without_it() -> None:
    k = group_rig()
    first = k.stable_one()
    k.join(requires_member_id=True)
    again = k.join(first.member_id)
    assert code(again) == "pending"
    k.advance_ms(SESSION_MS)
    assert again.result().generation == 2


def test_a_static_member_is_never_sent_back() -> None:
    joined = group_rig().first(instance_id="worker-1", requires_member_id=True)
    assert joined.member_id.startswith("worker-1-")


def test_an_id_handed_out_cannot_be_used_with_an_instance_id() -> None:
    k = group_rig()
    member_id = k.join(requires_member_id=True).error.member_id  # type: ignore[union-attr]
    assert code(k.join(member_id, instance_id="worker-1")) == "UNKNOWN_MEMBER_ID"


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        ({"group_id": ""}, "INVALID_GROUP_ID"),
        ({"session_timeout_ms": 5_999}, "INVALID_SESSION_TIMEOUT"),
        ({"session_timeout_ms": 1_800_001}, "INVALID_SESSION_TIMEOUT"),
        ({"protocols": ()}, "INCONSISTENT_GROUP_PROTOCOL"),
        ({"protocol_type": ""}, "INCONSISTENT_GROUP_PROTOCOL"),
        ({"member_id": "somebody"}, "UNKNOWN_MEMBER_ID"),
    ],
)
def test_a_first_join_is_refused(change: dict[str, object], refusal: str) -> None:
    k = group_rig()
    assert code(k.join(**change)) == refusal  # type: ignore[arg-type]
    assert k.state_of() is None
    assert k.groups.list().result() == []


@pytest.mark.parametrize(
    "change", [{"protocol_type": "connect"}, {"protocols": (STICKY,)}, {"protocols": ()}]
)
def test_a_member_that_has_nothing_in_common_is_refused(change: dict[str, object]) -> None:
    k = group_rig()
    k.stable_one()
    assert code(k.join(**change)) == "INCONSISTENT_GROUP_PROTOCOL"  # type: ignore[arg-type]
    assert k.state_of() == "Stable"


def test_an_unknown_member_of_a_known_group_is_refused() -> None:
    k = group_rig()
    k.stable_one()
    assert code(k.join("somebody")) == "UNKNOWN_MEMBER_ID"


def test_the_assignor_that_all_have_and_most_like_is_chosen() -> None:
    k = group_rig(group_initial_rebalance_delay_ms=1_000)
    wishes = [(RANGE, STICKY), (STICKY, RANGE), (STICKY, ("own", b""), RANGE)]
    joins = [k.join(protocols=wish) for wish in wishes]
    k.advance_ms(3_000)
    assert {join.result().protocol for join in joins} == {"sticky"}
    leader = joins[0].result()
    assert {one.metadata for one in leader.members} == {STICKY[1]}
    assert [join.result().members for join in joins[1:]] == [(), ()]


def test_an_assignor_that_one_does_not_have_is_not_chosen_whatever_the_votes() -> None:
    k = group_rig(group_initial_rebalance_delay_ms=1_000)
    joins = [k.join(protocols=wish) for wish in [(RANGE,), (STICKY, RANGE), (STICKY, RANGE)]]
    k.advance_ms(3_000)
    assert {join.result().protocol for join in joins} == {"range"}


def test_a_new_group_waits_longer_while_members_keep_coming_but_not_for_ever() -> None:
    k = group_rig(group_initial_rebalance_delay_ms=3_000)
    first = k.join(rebalance_timeout_ms=7_000)
    k.advance_ms(2_900)
    k.join(rebalance_timeout_ms=7_000)
    k.advance_ms(100)
    assert code(first) == "pending", "a member came: wait 3 s more"
    k.advance_ms(2_900)
    k.join(rebalance_timeout_ms=7_000)
    k.advance_ms(100)
    assert code(first) == "pending", "and what is left of the rebalance timeout: 1 s"
    k.join(rebalance_timeout_ms=7_000)
    k.advance_ms(1_000)
    assert len(first.result().members) == 4


def test_without_a_delay_the_first_member_starts_at_once() -> None:
    k = group_rig()
    assert k.join().result().generation == 1


def test_a_second_member_makes_the_first_one_join_again() -> None:
    k = group_rig()
    first = k.stable_one()
    second = k.join()
    assert code(second) == "pending"
    assert k.heartbeat(first) == "REBALANCE_IN_PROGRESS"
    again = k.join(first.member_id).result()
    assert again.generation == second.result().generation == 2
    assert again.leader == second.result().leader == first.member_id
    assert len(again.members) == 2
    assert second.result().members == ()


def test_a_member_that_does_not_join_again_in_time_is_out_and_the_joiner_leads() -> None:
    k = group_rig()
    first = k.stable_one(session_timeout_ms=100_000)
    second = k.join()
    k.advance_ms(REBALANCE_MS - 1)
    assert code(second) == "pending"
    k.advance_ms(1)
    joined = second.result()
    assert joined.leader == joined.member_id
    assert [one.member_id for one in joined.members] == [joined.member_id]
    assert k.heartbeat(first) == "UNKNOWN_MEMBER_ID"


def test_the_longest_rebalance_timeout_of_the_members_counts() -> None:
    k = group_rig()
    k.stable_one(session_timeout_ms=1_000_000, rebalance_timeout_ms=90_000)
    second = k.join(rebalance_timeout_ms=5_000)
    k.advance_ms(89_999)
    assert code(second) == "pending"
    k.advance_ms(1)
    assert code(second) is None


def test_a_follower_that_joins_again_unchanged_gets_the_same_generation() -> None:
    k = group_rig()
    leader, follower = k.stable_two()
    again = k.join(follower.member_id).result()
    assert (again.generation, again.leader, again.members) == (2, leader.member_id, ())
    assert k.state_of() == "Stable"
    assert k.sync(again).result().assignment == b"right"


def test_a_follower_that_changed_forces_a_rebalance() -> None:
    k = group_rig()
    _, follower = k.stable_two()
    changed = (("range", subscription("flights", "weather")),)
    assert code(k.join(follower.member_id, protocols=changed)) == "pending"
    assert k.state_of() == "PreparingRebalance"


def test_the_leader_of_a_stable_group_forces_a_rebalance_with_the_same_words() -> None:
    k = group_rig()
    leader, _ = k.stable_two()
    assert code(k.join(leader.member_id)) == "pending"
    assert k.state_of() == "PreparingRebalance"


def test_a_member_that_missed_the_answer_to_its_join_gets_it_again() -> None:
    k = group_rig()
    first = k.first()
    again = k.join(first.member_id).result()
    assert again == first
    assert k.state_of() == "CompletingRebalance"


def test_a_member_that_changes_before_the_assignment_starts_over() -> None:
    k = group_rig()
    first = k.first()
    changed = k.join(first.member_id, protocols=(("range", subscription("weather")),)).result()
    assert changed.generation == 2


def test_a_join_that_waits_is_answered_when_the_member_joins_again() -> None:
    k = group_rig()
    k.stable_one()
    lost = k.join("", requires_member_id=True)
    member_id = lost.error.member_id  # type: ignore[union-attr]
    waiting = k.join(member_id)
    newer = k.join(member_id)
    assert code(waiting) == "REBALANCE_IN_PROGRESS"
    assert code(newer) == "pending"


def test_the_group_size_is_limited() -> None:
    k = group_rig(group_max_size=2)
    leader, follower = k.stable_two()
    assert code(k.join()) == "GROUP_MAX_SIZE_REACHED"
    assert code(k.join(follower.member_id)) is None, "who is in stays in"
    k.join(leader.member_id)
    assert code(k.join()) == "pending", "while it rebalances those who wait are counted"
    assert code(k.join(follower.member_id)) == "GROUP_MAX_SIZE_REACHED", "the last one is left out"
    assert k.heartbeat(follower) == "UNKNOWN_MEMBER_ID"


def test_a_new_member_that_never_gets_an_answer_is_out_after_five_minutes() -> None:
    k = group_rig(group_max_session_timeout_ms=10_000_000)
    k.stable_one(session_timeout_ms=5_000_000, rebalance_timeout_ms=1_000_000)
    waiting = k.join()
    k.advance_ms(NEW_MEMBER_TIMEOUT_MS)
    assert code(waiting) == "UNKNOWN_MEMBER_ID"


def test_groups_do_not_touch_each_other() -> None:
    k = group_rig()
    k.stable_one()
    other = k.join(group_id="others").result()
    assert other.generation == 1
    assert k.state_of(GROUP) == "Stable"
