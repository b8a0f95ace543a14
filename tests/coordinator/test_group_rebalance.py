"""Synchronizing, heartbeats, sessions, leaving; the table of states."""

from __future__ import annotations

import itertools

import pytest

from mainstem.coordinator.groups.group import TRANSITIONS, ClassicGroup
from mainstem.coordinator.groups.types import GroupState, LeaveRequest
from mainstem.kafka_protocol.subscription import EMPTY_ASSIGNMENT
from tests.coordinator.group_kit import REBALANCE_MS, SESSION_MS, code, group_rig, subscription


@pytest.mark.parametrize(("source", "target"), list(itertools.product(GroupState, GroupState)))
def test_only_the_ways_of_the_table_can_be_gone(source: GroupState, target: GroupState) -> None:
    group = ClassicGroup("g")
    group.state = source
    if target in TRANSITIONS[source]:
        group.transition(target)
        assert (group.previous_state, group.state) == (source, target)
    else:
        with pytest.raises(AssertionError, match=r"g: .* -> "):
            group.transition(target)


def test_a_group_walks_through_its_states() -> None:
    k = group_rig(group_initial_rebalance_delay_ms=3_000)
    waiting = k.join()
    assert k.state_of() == "PreparingRebalance"
    k.advance_ms(3_000)
    assert k.state_of() == "CompletingRebalance"
    k.sync(waiting.result())
    assert k.state_of() == "Stable"
    assert k.leave(waiting.result()) == [None]
    assert k.state_of() == "Empty"
    k.groups.delete("readers").result()
    assert k.state_of() is None


# --- sync ---------------------------------------------------------------------------------------------------


def test_followers_wait_for_the_leader() -> None:
    k = group_rig()
    k.stable_two()


def test_a_member_that_the_leader_forgot_gets_an_empty_assignment_that_can_be_decoded() -> None:
    k = group_rig()
    joined = k.first()
    assert k.sync(joined, {}).result().assignment == EMPTY_ASSIGNMENT
    other = k.join(group_id="connectors", protocol_type="connect").result()
    assert k.sync(other, {}, group_id="connectors").result().assignment == b""


def test_an_assignment_for_somebody_else_is_ignored() -> None:
    k = group_rig()
    joined = k.first()
    assert k.sync(joined, {joined.member_id: b"mine", "stranger": b"x"}).result().assignment == b"mine"


def test_a_stable_member_gets_its_assignment_again() -> None:
    k = group_rig()
    joined = k.stable_one()
    synced = k.sync(joined, protocol_type="consumer", protocol="range").result()
    assert (synced.protocol_type, synced.protocol, synced.assignment) == ("consumer", "range", b"all")


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        ({"member_id": "somebody"}, "UNKNOWN_MEMBER_ID"),
        ({"generation": 2}, "ILLEGAL_GENERATION"),
        ({"group_id": "nobodies"}, "UNKNOWN_MEMBER_ID"),
        ({"group_id": ""}, "INVALID_GROUP_ID"),
        ({"protocol_type": "connect"}, "INCONSISTENT_GROUP_PROTOCOL"),
        ({"protocol": "sticky"}, "INCONSISTENT_GROUP_PROTOCOL"),
        ({"instance_id": "worker-1"}, "UNKNOWN_MEMBER_ID"),
    ],
)
def test_a_sync_is_refused(change: dict[str, object], refusal: str) -> None:
    k = group_rig()
    assert code(k.sync(k.first(), **change)) == refusal  # type: ignore[arg-type]


def test_a_sync_while_members_join_again_is_refused() -> None:
    k = group_rig()
    joined = k.stable_one()
    k.join()
    assert code(k.sync(joined)) == "REBALANCE_IN_PROGRESS"


def test_syncs_that_wait_are_sent_back_when_a_member_comes() -> None:
    k = group_rig()
    leader, follower = k.stable_two()
    again = k.join(leader.member_id)
    k.join(follower.member_id)
    follower_again = k.join(follower.member_id).result()
    waiting = k.sync(follower_again)
    third = k.join()
    assert code(waiting) == "REBALANCE_IN_PROGRESS"
    assert code(third) == "pending"
    assert again.result().generation == 3


def test_a_sync_that_waits_is_answered_when_the_member_asks_again() -> None:
    k = group_rig()
    _, follower = k.stable_two()
    k.join(_.member_id)
    follower = k.join(follower.member_id).result()
    lost, newer = k.sync(follower), k.sync(follower)
    assert code(lost) == "REBALANCE_IN_PROGRESS"
    assert code(newer) == "pending"


def test_members_that_never_sync_are_out_after_the_rebalance_timeout() -> None:
    k = group_rig()
    first = k.stable_one(session_timeout_ms=100_000)
    second = k.join(session_timeout_ms=100_000)
    leader = k.join(first.member_id, session_timeout_ms=100_000).result()
    assert code(k.sync(leader, {})) is None
    assert k.state_of() == "Stable"
    k.advance_ms(REBALANCE_MS)
    assert k.heartbeat(second.result()) == "UNKNOWN_MEMBER_ID"
    assert k.heartbeat(leader) == "REBALANCE_IN_PROGRESS"


def test_a_leader_that_never_assigns_is_out_and_another_leads() -> None:
    k = group_rig()
    first = k.stable_one(session_timeout_ms=100_000)
    second = k.join(session_timeout_ms=100_000)
    k.join(first.member_id, session_timeout_ms=100_000).result()
    waiting = k.sync(second.result())
    k.advance_ms(REBALANCE_MS)
    assert code(waiting) == "REBALANCE_IN_PROGRESS"
    again = k.join(second.result().member_id).result()
    assert again.leader == again.member_id


# --- heartbeats and sessions --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        ({}, None),
        ({"member_id": "somebody"}, "UNKNOWN_MEMBER_ID"),
        ({"generation": 0}, "ILLEGAL_GENERATION"),
        ({"generation": 2}, "ILLEGAL_GENERATION"),
        ({"group_id": "nobodies"}, "UNKNOWN_MEMBER_ID"),
        ({"group_id": ""}, "INVALID_GROUP_ID"),
        ({"instance_id": "worker-1"}, "UNKNOWN_MEMBER_ID"),
    ],
)
def test_a_heartbeat_is_answered(change: dict[str, object], refusal: str | None) -> None:
    k = group_rig()
    assert k.heartbeat(k.stable_one(), **change) == refusal


def test_a_heartbeat_before_the_assignment_is_fine() -> None:
    k = group_rig()
    assert k.heartbeat(k.first()) is None


def test_a_heartbeat_to_an_empty_group_is_from_nobody() -> None:
    k = group_rig()
    joined = k.stable_one()
    k.leave(joined)
    assert k.heartbeat(joined) == "UNKNOWN_MEMBER_ID"


def test_heartbeats_keep_a_member_and_silence_ends_it() -> None:
    k = group_rig()
    joined = k.stable_one()
    for _ in range(5):
        k.advance_ms(SESSION_MS - 1)
        assert k.heartbeat(joined) is None
    k.advance_ms(SESSION_MS - 1)
    assert k.state_of() == "Stable"
    k.advance_ms(1)
    assert k.state_of() == "Empty"


def test_a_session_that_ends_makes_the_others_rebalance() -> None:
    k = group_rig()
    leader, follower = k.stable_two()
    k.advance_ms(SESSION_MS - 1)
    assert k.heartbeat(follower) is None
    k.advance_ms(1)
    assert k.heartbeat(leader) == "UNKNOWN_MEMBER_ID"
    assert k.heartbeat(follower) == "REBALANCE_IN_PROGRESS"
    alone = k.join(follower.member_id).result()
    assert (alone.leader, alone.generation) == (follower.member_id, 3)


def test_who_waits_for_a_join_is_not_out_by_silence() -> None:
    k = group_rig()
    leader, follower = k.stable_two()
    waiting = k.join(leader.member_id, protocols=(("range", subscription("weather")),))
    for _ in range(5):
        k.advance_ms(SESSION_MS - 1)
        assert k.heartbeat(follower) == "REBALANCE_IN_PROGRESS"
    assert code(waiting) == "pending"
    k.join(follower.member_id)
    assert code(waiting) is None
    k.advance_ms(SESSION_MS)
    assert k.state_of() == "Empty", "its session began anew with the answer, and is over"


def test_who_waits_for_an_assignment_is_not_out_by_silence() -> None:
    k = group_rig()
    leader, follower = k.stable_two()
    k.join(leader.member_id)
    follower = k.join(follower.member_id).result()
    waiting = k.sync(follower)
    generation = k.join(leader.member_id).result()
    for _ in range(5):
        k.advance_ms(SESSION_MS - 1)
        assert k.heartbeat(generation) is None
    assert code(waiting) == "pending"
    assert code(k.sync(generation, {})) is None
    assert code(waiting) is None


def test_a_silent_member_no_longer_holds_up_a_rebalance() -> None:
    k = group_rig()
    leader, _ = k.stable_two()
    again = k.join(leader.member_id)
    assert code(again) == "pending"
    k.advance_ms(SESSION_MS)
    assert len(again.result().members) == 1


# --- leaving ------------------------------------------------------------------------------------------------


def test_a_member_that_leaves_makes_the_others_rebalance_at_once() -> None:
    k = group_rig()
    leader, follower = k.stable_two()
    assert k.leave(leader) == [None]
    assert k.heartbeat(leader) == "UNKNOWN_MEMBER_ID"
    assert k.heartbeat(follower) == "REBALANCE_IN_PROGRESS"
    assert k.join(follower.member_id).result().leader == follower.member_id


def test_many_leave_at_once_each_with_its_own_verdict() -> None:
    k = group_rig()
    leader, follower = k.stable_two()
    assert k.leave(leader, LeaveRequest("stranger"), follower, LeaveRequest("")) == [
        None,
        "UNKNOWN_MEMBER_ID",
        None,
        "UNKNOWN_MEMBER_ID",
    ]
    assert k.state_of() == "Empty"


def test_strangers_that_leave_disturb_nobody() -> None:
    k = group_rig()
    joined = k.stable_one()
    assert k.leave(LeaveRequest("stranger")) == ["UNKNOWN_MEMBER_ID"]
    assert k.leave(LeaveRequest("stranger"), group_id="nobodies") == ["UNKNOWN_MEMBER_ID"]
    assert k.heartbeat(joined) is None


def test_who_leaves_while_it_waits_is_told() -> None:
    k = group_rig()
    leader, follower = k.stable_two()
    joining = k.join(leader.member_id)
    assert k.leave(leader) == [None]
    assert code(joining) == "UNKNOWN_MEMBER_ID"
    follower = k.join(follower.member_id).result()
    second = k.join()
    follower = k.join(follower.member_id).result()
    syncing = k.sync(second.result())
    assert k.leave(second.result()) == [None]
    assert code(syncing) == "UNKNOWN_MEMBER_ID"


def test_the_last_late_member_that_leaves_ends_the_wait() -> None:
    k = group_rig()
    leader, follower = k.stable_two()
    again = k.join(leader.member_id)
    k.leave(follower)
    assert again.result().generation == 3


def test_an_id_handed_out_can_leave() -> None:
    k = group_rig()
    first = k.stable_one()
    member_id = k.join(requires_member_id=True).error.member_id  # type: ignore[union-attr]
    again = k.join(first.member_id)
    assert k.leave(LeaveRequest(member_id)) == [None]
    assert again.result().generation == 2


def test_generations_go_on_after_everybody_left() -> None:
    k = group_rig()
    k.leave(k.stable_one())
    assert k.first().generation == 3


def test_another_kind_of_group_may_begin_when_everybody_left() -> None:
    k = group_rig()
    k.leave(k.stable_one())
    assert k.first(protocol_type="connect").protocol_type == "connect"


def test_members_leave_before_the_initial_delay_is_over() -> None:
    k = group_rig(group_initial_rebalance_delay_ms=3_000)
    waiting = k.join(instance_id="worker-1")
    assert k.leave(LeaveRequest("", "worker-1")) == [None]
    assert code(waiting) == "UNKNOWN_MEMBER_ID"
    k.advance_ms(3_000)
    assert k.state_of() == "Empty"
