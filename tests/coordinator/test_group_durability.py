"""Durability of groups: what a restart keeps, when replies are sent, what a failed commit does."""

from __future__ import annotations

from mainstem.coordinator.groups.types import GroupRecord
from tests.coordinator.group_rig import GROUP, SESSION_MS, code, group_rig, subscription
from tests.support.fake_state import FakeStateLog


def test_members_keep_their_assignment_over_a_restart_with_a_new_session() -> None:
    rig = group_rig()
    leader, follower = rig.stable_two()
    rig.commit(leader, 5)
    rig.advance_ms(SESSION_MS - 1)
    rig = rig.restart()
    rig.advance_ms(SESSION_MS - 1)
    assert rig.heartbeat(leader) is None
    assert rig.sync(follower).result().assignment == b"right"
    assert rig.commit_code(leader, 6) is None
    rig.advance_ms(SESSION_MS - 1)
    assert rig.state_of() == "Stable"
    rig.advance_ms(1)
    assert rig.state_of() == "Empty"
    assert rig.offsets() == {("flights", 0): 6}


def test_a_follower_that_joins_again_after_a_restart_causes_no_rebalance() -> None:
    rig = group_rig()
    _, follower = rig.stable_two()
    rig = rig.restart()
    assert rig.join(follower.member_id).result().generation == 2
    assert rig.state_of() == "Stable"


def test_a_rebalance_that_a_crash_interrupts_keeps_the_previous_generation() -> None:
    rig = group_rig()
    first = rig.stable_one()
    second = rig.join()
    rig.join(first.member_id)
    assert second.result().generation == 2
    rig = rig.restart()
    assert rig.state_of() == "Stable"
    assert rig.heartbeat(second.result()) == "UNKNOWN_MEMBER_ID"
    assert rig.heartbeat(first) is None


def test_pending_member_ids_are_forgotten_by_a_restart() -> None:
    rig = group_rig()
    member_id = rig.join(requires_member_id=True).error.member_id  # type: ignore[union-attr]
    rig = rig.restart()
    assert code(rig.join(member_id)) == "UNKNOWN_MEMBER_ID"


def test_a_group_larger_than_the_limit_rebalances_after_a_restart() -> None:
    rig = group_rig()
    leader, _ = rig.stable_two()
    smaller = group_rig(state=rig.state, disk=rig.disk, group_max_size=1)
    assert smaller.heartbeat(leader) == "REBALANCE_IN_PROGRESS"


def test_the_snapshot_has_groups_members_and_offsets() -> None:
    rig = group_rig()
    rig.stable_two()
    for partition in range(4):
        rig.commit(offset=1, partition=partition, group_id="others")
    record_types = [type(record).__name__ for record in rig.groups.snapshot()]
    assert record_types == ["GroupRecord", "OffsetsCommitted"]
    other = group_rig().groups
    for record in rig.groups.snapshot():
        other.apply(record)
    assert list(other.snapshot()) == list(rig.groups.snapshot())


# --- replies wait for the disk ------------------------------------------------------------------------------


def test_no_member_gets_its_assignment_before_it_is_durable() -> None:
    rig = group_rig(state=FakeStateLog(auto_commit=False))
    joined = rig.first()
    synced = rig.sync(joined, {joined.member_id: b"mine"})
    again = rig.sync(joined)
    described = rig.groups.describe([GROUP])
    assert (code(synced), code(again), code(described)) == ("pending", "pending", "pending")
    rig.state.commit()
    assert synced.result().assignment == b"mine"
    assert again.result().assignment == b"mine"
    assert code(described) is None


def test_a_refusal_waits_until_the_state_it_shows_is_durable() -> None:
    rig = group_rig(state=FakeStateLog(auto_commit=False))
    joined = rig.first()
    rig.sync(joined)
    rig.state.commit()
    rig.commit(joined)
    refused = rig.commit(joined, generation=9)
    assert code(refused) == "pending"
    rig.state.commit()
    assert code(refused) == "ILLEGAL_GENERATION"


# --- the disk fails -----------------------------------------------------------------------------------------


def test_a_failed_commit_makes_all_clients_find_the_coordinator_again() -> None:
    rig = group_rig()
    leader, follower = rig.stable_two()
    third = rig.join()
    rig.state.auto_commit = False
    committed = rig.commit(leader)
    assert code(committed) == "pending"
    rig.state.fail()
    rig.clock.run()
    assert code(committed) == "NOT_COORDINATOR"
    assert code(third) == "NOT_COORDINATOR"
    assert rig.heartbeat(leader) is None, "as it was before the rebalance"
    assert rig.state_of() == "Stable"
    assert rig.sync(follower).result().assignment == b"right"


def test_an_assignment_that_is_not_durable_keeps_the_previous_generation() -> None:
    rig = group_rig()
    first = rig.stable_one()
    second = rig.join()
    leader = rig.join(first.member_id).result()
    waiting = rig.sync(second.result())
    rig.state.auto_commit = False
    synced = rig.sync(leader, {leader.member_id: b"left"})
    rig.state.fail()
    rig.clock.run()
    assert (code(waiting), code(synced)) == ("NOT_COORDINATOR", "NOT_COORDINATOR")
    assert rig.heartbeat(first) is None
    assert rig.heartbeat(leader) == "ILLEGAL_GENERATION"


def test_a_refused_append_undoes_only_its_own_decision() -> None:
    rig = group_rig()
    first = rig.stable_one()
    other = rig.join(group_id="others").result()
    second = rig.join()
    leader = rig.join(first.member_id).result()
    rig.state.append_error = "no space left"
    assert code(rig.sync(leader, {})) == "NOT_COORDINATOR"
    rig.state.append_error = None
    rig.clock.run()
    assert rig.heartbeat(first) is None
    assert second.result().generation == 2
    assert rig.heartbeat(second.result()) == "UNKNOWN_MEMBER_ID"
    assert rig.heartbeat(other, group_id="others") is None


def test_a_session_that_ends_while_the_disk_refuses_records_ends_later() -> None:
    rig = group_rig()
    rig.stable_one()
    rig.state.append_error = "no space left"
    rig.advance_ms(SESSION_MS)
    rig.state.append_error = None
    assert rig.state_of() == "Stable"
    rig.advance_ms(SESSION_MS)
    assert rig.state_of() == "Empty"


def test_a_new_group_that_the_disk_refuses_does_not_exist() -> None:
    rig = group_rig()
    rig.state.append_error = "no space left"
    assert code(rig.commit()) == "NOT_COORDINATOR"
    assert rig.groups.list().result() == []


def test_sessions_continue_after_a_failed_commit() -> None:
    rig = group_rig()
    joined = rig.stable_one()
    rig.state.auto_commit = False
    rig.commit(joined)
    rig.state.fail()
    rig.clock.run()
    rig.state.auto_commit = True
    rig.advance_ms(SESSION_MS)
    assert rig.state_of() == "Empty"


# --- what is recorded ---------------------------------------------------------------------------------------


def test_only_the_end_of_a_rebalance_is_recorded() -> None:
    rig = group_rig()
    first = rig.stable_one()
    end = rig.state.log_end_offset
    second = rig.join()
    leader = rig.join(first.member_id).result()
    assert rig.state.log_end_offset == end
    rig.sync(leader, {leader.member_id: b"a", second.result().member_id: b"b"})
    assert rig.state.log_end_offset == end + 1
    (saved,) = rig.groups.snapshot()
    assert isinstance(saved, GroupRecord)
    assert [member.assignment for member in saved.members] == [b"a", b"b"]
    assert saved.members[0].protocols == (("range", subscription("flights")),)
    rig.heartbeat(leader)
    assert rig.state.log_end_offset == end + 1


def test_views_work_without_any_group() -> None:
    rig = group_rig()
    assert rig.groups.list().result() == []
    assert rig.groups.describe(["x"]).result() == [None]
