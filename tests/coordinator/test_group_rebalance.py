"""Rebalancing a group: transitions, syncs, heartbeats, sessions, leaving."""

from __future__ import annotations

import itertools

import pytest

from mainstem.coordinator.groups.group import TRANSITIONS, ClassicGroup
from mainstem.coordinator.groups.types import GroupState, LeaveRequest
from mainstem.kafka_protocol.subscription import EMPTY_ASSIGNMENT
from tests.coordinator.group_rig import REBALANCE_MS, SESSION_MS, code, group_rig, subscription


@pytest.mark.parametrize(("source", "target"), list(itertools.product(GroupState, GroupState)))
def test_only_the_transitions_of_the_table_are_possible(source: GroupState, target: GroupState) -> None:
    group = ClassicGroup("g")
    group.state = source
    if target in TRANSITIONS[source]:
        group.transition(target)
        assert (group.previous_state, group.state) == (source, target)
    else:
        with pytest.raises(AssertionError, match=r"g: .* -> "):
            group.transition(target)


def test_a_group_passes_through_its_states() -> None:
    rig = group_rig(group_initial_rebalance_delay_ms=3_000)
    waiting = rig.join()
    assert rig.state_of() == "PreparingRebalance"
    rig.advance_ms(3_000)
    assert rig.state_of() == "CompletingRebalance"
    rig.sync(waiting.result())
    assert rig.state_of() == "Stable"
    assert rig.leave(waiting.result()) == [None]
    assert rig.state_of() == "Empty"
    rig.groups.delete("readers").result()
    assert rig.state_of() is None


# --- sync ---------------------------------------------------------------------------------------------------


def test_followers_wait_for_the_leader() -> None:
    rig = group_rig()
    rig.stable_two()


def test_a_member_that_the_leader_left_out_gets_a_valid_empty_assignment() -> None:
    rig = group_rig()
    joined = rig.first()
    assert rig.sync(joined, {}).result().assignment == EMPTY_ASSIGNMENT
    other = rig.join(group_id="connectors", protocol_type="connect").result()
    assert rig.sync(other, {}, group_id="connectors").result().assignment == b""


def test_an_assignment_for_an_unknown_member_is_ignored() -> None:
    rig = group_rig()
    joined = rig.first()
    assert rig.sync(joined, {joined.member_id: b"mine", "stranger": b"x"}).result().assignment == b"mine"


def test_a_stable_member_gets_its_assignment_again() -> None:
    rig = group_rig()
    joined = rig.stable_one()
    synced = rig.sync(joined, protocol_type="consumer", protocol="range").result()
    assert (synced.protocol_type, synced.protocol, synced.assignment) == ("consumer", "range", b"all")


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        ({"member_id": "unknown"}, "UNKNOWN_MEMBER_ID"),
        ({"generation": 2}, "ILLEGAL_GENERATION"),
        ({"group_id": "nobodies"}, "UNKNOWN_MEMBER_ID"),
        ({"group_id": ""}, "INVALID_GROUP_ID"),
        ({"protocol_type": "connect"}, "INCONSISTENT_GROUP_PROTOCOL"),
        ({"protocol": "sticky"}, "INCONSISTENT_GROUP_PROTOCOL"),
        ({"instance_id": "worker-1"}, "UNKNOWN_MEMBER_ID"),
    ],
)
def test_a_sync_is_refused(change: dict[str, object], refusal: str) -> None:
    rig = group_rig()
    assert code(rig.sync(rig.first(), **change)) == refusal  # type: ignore[arg-type]


def test_a_sync_while_members_join_again_is_refused() -> None:
    rig = group_rig()
    joined = rig.stable_one()
    rig.join()
    assert code(rig.sync(joined)) == "REBALANCE_IN_PROGRESS"


def test_waiting_syncs_fail_when_a_member_joins() -> None:
    rig = group_rig()
    leader, follower = rig.stable_two()
    again = rig.join(leader.member_id)
    rig.join(follower.member_id)
    follower_again = rig.join(follower.member_id).result()
    waiting = rig.sync(follower_again)
    third = rig.join()
    assert code(waiting) == "REBALANCE_IN_PROGRESS"
    assert code(third) == "pending"
    assert again.result().generation == 3


def test_a_waiting_sync_gets_a_reply_when_the_member_syncs_again() -> None:
    rig = group_rig()
    _, follower = rig.stable_two()
    rig.join(_.member_id)
    follower = rig.join(follower.member_id).result()
    lost, newer = rig.sync(follower), rig.sync(follower)
    assert code(lost) == "REBALANCE_IN_PROGRESS"
    assert code(newer) == "pending"


def test_members_that_never_sync_are_removed_after_the_rebalance_timeout() -> None:
    rig = group_rig()
    first = rig.stable_one(session_timeout_ms=100_000)
    second = rig.join(session_timeout_ms=100_000)
    leader = rig.join(first.member_id, session_timeout_ms=100_000).result()
    assert code(rig.sync(leader, {})) is None
    assert rig.state_of() == "Stable"
    rig.advance_ms(REBALANCE_MS)
    assert rig.heartbeat(second.result()) == "UNKNOWN_MEMBER_ID"
    assert rig.heartbeat(leader) == "REBALANCE_IN_PROGRESS"


def test_a_leader_that_never_assigns_is_removed_and_another_leads() -> None:
    rig = group_rig()
    first = rig.stable_one(session_timeout_ms=100_000)
    second = rig.join(session_timeout_ms=100_000)
    rig.join(first.member_id, session_timeout_ms=100_000).result()
    waiting = rig.sync(second.result())
    rig.advance_ms(REBALANCE_MS)
    assert code(waiting) == "REBALANCE_IN_PROGRESS"
    again = rig.join(second.result().member_id).result()
    assert again.leader == again.member_id


# --- heartbeats and sessions --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        ({}, None),
        ({"member_id": "unknown"}, "UNKNOWN_MEMBER_ID"),
        ({"generation": 0}, "ILLEGAL_GENERATION"),
        ({"generation": 2}, "ILLEGAL_GENERATION"),
        ({"group_id": "nobodies"}, "UNKNOWN_MEMBER_ID"),
        ({"group_id": ""}, "INVALID_GROUP_ID"),
        ({"instance_id": "worker-1"}, "UNKNOWN_MEMBER_ID"),
    ],
)
def test_a_heartbeat_gets_its_reply(change: dict[str, object], refusal: str | None) -> None:
    rig = group_rig()
    assert rig.heartbeat(rig.stable_one(), **change) == refusal


def test_a_heartbeat_before_the_assignment_is_accepted() -> None:
    rig = group_rig()
    assert rig.heartbeat(rig.first()) is None


def test_a_heartbeat_to_an_empty_group_is_of_an_unknown_member() -> None:
    rig = group_rig()
    joined = rig.stable_one()
    rig.leave(joined)
    assert rig.heartbeat(joined) == "UNKNOWN_MEMBER_ID"


def test_a_member_stays_while_it_sends_heartbeats() -> None:
    rig = group_rig()
    joined = rig.stable_one()
    for _ in range(5):
        rig.advance_ms(SESSION_MS - 1)
        assert rig.heartbeat(joined) is None
    rig.advance_ms(SESSION_MS - 1)
    assert rig.state_of() == "Stable"
    rig.advance_ms(1)
    assert rig.state_of() == "Empty"


def test_the_end_of_a_session_makes_the_other_members_rebalance() -> None:
    rig = group_rig()
    leader, follower = rig.stable_two()
    rig.advance_ms(SESSION_MS - 1)
    assert rig.heartbeat(follower) is None
    rig.advance_ms(1)
    assert rig.heartbeat(leader) == "UNKNOWN_MEMBER_ID"
    assert rig.heartbeat(follower) == "REBALANCE_IN_PROGRESS"
    alone = rig.join(follower.member_id).result()
    assert (alone.leader, alone.generation) == (follower.member_id, 3)


def test_a_member_with_a_waiting_join_is_not_removed() -> None:
    rig = group_rig()
    leader, follower = rig.stable_two()
    waiting = rig.join(leader.member_id, protocols=(("range", subscription("weather")),))
    for _ in range(5):
        rig.advance_ms(SESSION_MS - 1)
        assert rig.heartbeat(follower) == "REBALANCE_IN_PROGRESS"
    assert code(waiting) == "pending"
    rig.join(follower.member_id)
    assert code(waiting) is None
    rig.advance_ms(SESSION_MS)
    assert rig.state_of() == "Empty", "its session began anew with the answer, and is over"


def test_a_member_with_a_waiting_sync_is_not_removed() -> None:
    rig = group_rig()
    leader, follower = rig.stable_two()
    rig.join(leader.member_id)
    follower = rig.join(follower.member_id).result()
    waiting = rig.sync(follower)
    generation = rig.join(leader.member_id).result()
    for _ in range(5):
        rig.advance_ms(SESSION_MS - 1)
        assert rig.heartbeat(generation) is None
    assert code(waiting) == "pending"
    assert code(rig.sync(generation, {})) is None
    assert code(waiting) is None


def test_a_rebalance_does_not_wait_for_a_member_whose_session_ended() -> None:
    rig = group_rig()
    leader, _ = rig.stable_two()
    again = rig.join(leader.member_id)
    assert code(again) == "pending"
    rig.advance_ms(SESSION_MS)
    assert len(again.result().members) == 1


# --- leaving ------------------------------------------------------------------------------------------------


def test_a_member_that_leaves_makes_the_other_members_rebalance_at_once() -> None:
    rig = group_rig()
    leader, follower = rig.stable_two()
    assert rig.leave(leader) == [None]
    assert rig.heartbeat(leader) == "UNKNOWN_MEMBER_ID"
    assert rig.heartbeat(follower) == "REBALANCE_IN_PROGRESS"
    assert rig.join(follower.member_id).result().leader == follower.member_id


def test_each_member_of_one_leave_request_has_its_own_error() -> None:
    rig = group_rig()
    leader, follower = rig.stable_two()
    assert rig.leave(leader, LeaveRequest("stranger"), follower, LeaveRequest("")) == [
        None,
        "UNKNOWN_MEMBER_ID",
        None,
        "UNKNOWN_MEMBER_ID",
    ]
    assert rig.state_of() == "Empty"


def test_an_unknown_member_that_leaves_changes_nothing() -> None:
    rig = group_rig()
    joined = rig.stable_one()
    assert rig.leave(LeaveRequest("stranger")) == ["UNKNOWN_MEMBER_ID"]
    assert rig.leave(LeaveRequest("stranger"), group_id="nobodies") == ["UNKNOWN_MEMBER_ID"]
    assert rig.heartbeat(joined) is None


def test_the_waiting_requests_of_a_member_that_leaves_fail() -> None:
    rig = group_rig()
    leader, follower = rig.stable_two()
    joining = rig.join(leader.member_id)
    assert rig.leave(leader) == [None]
    assert code(joining) == "UNKNOWN_MEMBER_ID"
    follower = rig.join(follower.member_id).result()
    second = rig.join()
    follower = rig.join(follower.member_id).result()
    syncing = rig.sync(second.result())
    assert rig.leave(second.result()) == [None]
    assert code(syncing) == "UNKNOWN_MEMBER_ID"


def test_a_join_phase_ends_when_its_last_missing_member_leaves() -> None:
    rig = group_rig()
    leader, follower = rig.stable_two()
    again = rig.join(leader.member_id)
    rig.leave(follower)
    assert again.result().generation == 3


def test_a_pending_id_can_leave() -> None:
    rig = group_rig()
    first = rig.stable_one()
    member_id = rig.join(requires_member_id=True).error.member_id  # type: ignore[union-attr]
    again = rig.join(first.member_id)
    assert rig.leave(LeaveRequest(member_id)) == [None]
    assert again.result().generation == 2


def test_generations_continue_after_all_members_have_left() -> None:
    rig = group_rig()
    rig.leave(rig.stable_one())
    assert rig.first().generation == 3


def test_an_empty_group_may_change_its_protocol_type() -> None:
    rig = group_rig()
    rig.leave(rig.stable_one())
    assert rig.first(protocol_type="connect").protocol_type == "connect"


def test_members_leave_before_the_initial_delay_is_over() -> None:
    rig = group_rig(group_initial_rebalance_delay_ms=3_000)
    waiting = rig.join(instance_id="worker-1")
    assert rig.leave(LeaveRequest("", "worker-1")) == [None]
    assert code(waiting) == "UNKNOWN_MEMBER_ID"
    rig.advance_ms(3_000)
    assert rig.state_of() == "Empty"
