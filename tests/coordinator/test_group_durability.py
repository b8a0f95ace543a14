"""What a restart keeps, when replies leave, and what a failed commit does to those who wait."""

from __future__ import annotations

from mainstem.coordinator.groups.types import GroupRecord
from tests.coordinator.group_kit import GROUP, SESSION_MS, code, group_rig, subscription
from tests.support.fake_state import FakeStateLog


def test_members_keep_their_assignment_over_a_restart_with_a_fresh_session() -> None:
    k = group_rig()
    leader, follower = k.stable_two()
    k.commit(leader, 5)
    k.advance_ms(SESSION_MS - 1)
    k = k.restart()
    k.advance_ms(SESSION_MS - 1)
    assert k.heartbeat(leader) is None
    assert k.sync(follower).result().assignment == b"right"
    assert k.commit_code(leader, 6) is None
    k.advance_ms(SESSION_MS - 1)
    assert k.state_of() == "Stable"
    k.advance_ms(1)
    assert k.state_of() == "Empty"
    assert k.offsets() == {("flights", 0): 6}


def test_a_follower_that_joins_again_after_a_restart_causes_no_rebalance() -> None:
    k = group_rig()
    _, follower = k.stable_two()
    k = k.restart()
    assert k.join(follower.member_id).result().generation == 2
    assert k.state_of() == "Stable"


def test_a_rebalance_that_a_crash_cut_off_leaves_the_generation_before_it() -> None:
    k = group_rig()
    first = k.stable_one()
    second = k.join()
    k.join(first.member_id)
    assert second.result().generation == 2
    k = k.restart()
    assert k.state_of() == "Stable"
    assert k.heartbeat(second.result()) == "UNKNOWN_MEMBER_ID"
    assert k.heartbeat(first) is None


def test_ids_handed_out_are_forgotten_by_a_restart() -> None:
    k = group_rig()
    member_id = k.join(requires_member_id=True).error.member_id  # type: ignore[union-attr]
    k = k.restart()
    assert code(k.join(member_id)) == "UNKNOWN_MEMBER_ID"


def test_a_group_that_grew_over_the_limit_rebalances_after_a_restart() -> None:
    k = group_rig()
    leader, _ = k.stable_two()
    smaller = group_rig(state=k.state, disk=k.disk, group_max_size=1)
    assert smaller.heartbeat(leader) == "REBALANCE_IN_PROGRESS"


def test_everything_is_in_the_snapshot() -> None:
    k = group_rig()
    k.stable_two()
    for partition in range(4):
        k.commit(offset=1, partition=partition, group_id="others")
    kinds = [type(record).__name__ for record in k.groups.snapshot()]
    assert kinds == ["GroupRecord", "OffsetsCommitted"]
    other = group_rig().groups
    for record in k.groups.snapshot():
        other.apply(record)
    assert list(other.snapshot()) == list(k.groups.snapshot())


# --- replies wait for the disk ------------------------------------------------------------------------------


def test_an_assignment_is_told_to_nobody_before_it_is_durable() -> None:
    k = group_rig(state=FakeStateLog(auto=False))
    joined = k.first()
    synced = k.sync(joined, {joined.member_id: b"mine"})
    again = k.sync(joined)
    described = k.groups.describe([GROUP])
    assert (code(synced), code(again), code(described)) == ("pending", "pending", "pending")
    k.state.commit()
    assert synced.result().assignment == b"mine"
    assert again.result().assignment == b"mine"
    assert code(described) is None


def test_refusals_wait_too_for_they_tell_of_state() -> None:
    k = group_rig(state=FakeStateLog(auto=False))
    joined = k.first()
    k.sync(joined)
    k.state.commit()
    k.commit(joined)
    refused = k.commit(joined, generation=9)
    assert code(refused) == "pending"
    k.state.commit()
    assert code(refused) == "ILLEGAL_GENERATION"


# --- the disk fails -----------------------------------------------------------------------------------------


def test_a_failed_commit_sends_all_back_to_look_for_the_coordinator() -> None:
    k = group_rig()
    leader, follower = k.stable_two()
    third = k.join()
    k.state.auto = False
    committed = k.commit(leader)
    assert code(committed) == "pending"
    k.state.fail()
    k.clock.run()
    assert code(committed) == "NOT_COORDINATOR"
    assert code(third) == "NOT_COORDINATOR"
    assert k.heartbeat(leader) is None, "as it was before the rebalance"
    assert k.state_of() == "Stable"
    assert k.sync(follower).result().assignment == b"right"


def test_a_failed_assignment_leaves_the_generation_before_it() -> None:
    k = group_rig()
    first = k.stable_one()
    second = k.join()
    leader = k.join(first.member_id).result()
    waiting = k.sync(second.result())
    k.state.auto = False
    synced = k.sync(leader, {leader.member_id: b"left"})
    k.state.fail()
    k.clock.run()
    assert (code(waiting), code(synced)) == ("NOT_COORDINATOR", "NOT_COORDINATOR")
    assert k.heartbeat(first) is None
    assert k.heartbeat(leader) == "ILLEGAL_GENERATION"


def test_a_refused_append_undoes_the_step_alone() -> None:
    k = group_rig()
    first = k.stable_one()
    other = k.join(group_id="others").result()
    second = k.join()
    leader = k.join(first.member_id).result()
    k.state.refuse = "no space left"
    assert code(k.sync(leader, {})) == "NOT_COORDINATOR"
    k.state.refuse = None
    k.clock.run()
    assert k.heartbeat(first) is None
    assert second.result().generation == 2
    assert k.heartbeat(second.result()) == "UNKNOWN_MEMBER_ID"
    assert k.heartbeat(other, group_id="others") is None


def test_a_session_that_ends_while_the_disk_refuses_ends_later() -> None:
    k = group_rig()
    k.stable_one()
    k.state.refuse = "no space left"
    k.advance_ms(SESSION_MS)
    k.state.refuse = None
    assert k.state_of() == "Stable"
    k.advance_ms(SESSION_MS)
    assert k.state_of() == "Empty"


def test_a_new_group_that_the_disk_refuses_is_not_there() -> None:
    k = group_rig()
    k.state.refuse = "no space left"
    assert code(k.commit()) == "NOT_COORDINATOR"
    assert k.groups.list().result() == []


def test_after_a_failed_commit_sessions_go_on() -> None:
    k = group_rig()
    joined = k.stable_one()
    k.state.auto = False
    k.commit(joined)
    k.state.fail()
    k.clock.run()
    k.state.auto = True
    k.advance_ms(SESSION_MS)
    assert k.state_of() == "Empty"


# --- what is recorded ---------------------------------------------------------------------------------------


def test_only_the_end_of_a_rebalance_is_recorded() -> None:
    k = group_rig()
    first = k.stable_one()
    end = k.state.log_end_offset
    second = k.join()
    leader = k.join(first.member_id).result()
    assert k.state.log_end_offset == end
    k.sync(leader, {leader.member_id: b"a", second.result().member_id: b"b"})
    assert k.state.log_end_offset == end + 1
    (saved,) = k.groups.snapshot()
    assert isinstance(saved, GroupRecord)
    assert [member.assignment for member in saved.members] == [b"a", b"b"]
    assert saved.members[0].protocols == (("range", subscription("flights")),)
    k.heartbeat(leader)
    assert k.state.log_end_offset == end + 1


def test_views_work_while_nothing_is_there() -> None:
    k = group_rig()
    assert k.groups.list().result() == []
    assert k.groups.describe(["x"]).result() == [None]
