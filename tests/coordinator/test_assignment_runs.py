"""Assignments of large groups are divided among turns of the event loop."""

from __future__ import annotations

from uuid import UUID

import pytest

from mainstem.coordinator.groups import assignment_runs
from mainstem.coordinator.groups.assignment_runs import AssignmentRuns
from mainstem.coordinator.groups.epoch_group import EpochGroup, MemberFacts
from mainstem.coordinator.groups.share_types import LEAVE_EPOCH, ShareHeartbeat
from tests.coordinator.test_share_groups import ShareNodeRig
from tests.support.clock import SimClock
from tests.test_node import refusal

TOPIC = UUID(int=1)
PARTITIONS = 10_000


def group_of(members: int) -> EpochGroup:
    group = EpochGroup("g")
    for number in range(members):
        join(group, f"m{number}")
    return group


def join(group: EpochGroup, member_id: str) -> None:
    group.put(MemberFacts(member_id, None, "c", "h", ("t",)))
    group.epoch += 1


def assigned(group: EpochGroup) -> int:
    for member in group.members.values():
        group.reconcile(member)
    return sum(len(member.assignment) for member in group.members.values())


def test_a_large_assignment_takes_many_turns_of_a_bounded_size() -> None:
    clock, done = SimClock(), list[EpochGroup]()
    runs = AssignmentRuns(clock, lambda _: (TOPIC, PARTITIONS), done.append)
    group = group_of(3)
    first = runs.assign(group, 0)
    assert not first.done
    assert runs.assign(group, 0) is first, "it is made once, for all that wait for it"
    assert clock.run() >= 2 * PARTITIONS / assignment_runs.ASSIGNED_OF_TURN
    assert first.done
    assert done == [group]
    assert (group.assignment_epoch, assigned(group)) == (group.epoch, PARTITIONS)


def test_members_have_the_assignment_before_while_the_next_one_is_made() -> None:
    clock = SimClock()
    runs = AssignmentRuns(clock, lambda _: (TOPIC, PARTITIONS), lambda _: None)
    group = group_of(2)
    runs.assign(group, 0)
    clock.run()
    before = group.assignment_epoch
    join(group, "late")
    assert runs.assign(group, 0).done
    clock.turn()
    assert (group.assignment_epoch, assigned(group)) == (before, PARTITIONS)
    join(group, "later")
    clock.run()
    assert group.assignment_epoch == group.epoch - 1, "who joins meanwhile is in the next one"
    runs.assign(group, 0)
    clock.run()
    assert (group.assignment_epoch, assigned(group)) == (group.epoch, PARTITIONS)
    assert all(member.assignment for member in group.members.values())


def test_a_small_assignment_is_made_at_once() -> None:
    group = group_of(3)
    assert AssignmentRuns(SimClock(), lambda _: (TOPIC, 50), lambda _: None).assign(group, 0).done
    assert assigned(group) == 50


def test_the_first_heartbeat_is_answered_when_the_assignment_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assignment_runs, "ASSIGNED_OF_TURN", 1)
    rig = ShareNodeRig()
    assert rig.beat("m1", 0, "a") == (2, {"a": [0, 1]})
    rig.beat("m2", 0, "a")
    rig.settle(1)
    assert rig.beat("m2", 2) == (3, {"a": [1]})
    assert rig.beat("m1", 2) == (3, {"a": [0]})


def test_a_member_that_leaves_before_it_has_an_assignment_is_unknown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(assignment_runs, "ASSIGNED_OF_TURN", 1)
    rig = ShareNodeRig()
    joining = ShareHeartbeat(group_id="g", member_id="m1", member_epoch=0, topics=("a",))
    joined = rig.node.share_groups.heartbeat(joining)
    leaving = ShareHeartbeat(group_id="g", member_id="m1", member_epoch=LEAVE_EPOCH, topics=None)
    left = rig.node.share_groups.heartbeat(leaving)
    rig.settle()
    assert refusal(joined) == "UNKNOWN_MEMBER_ID"
    assert left.result().member_epoch == LEAVE_EPOCH
    assert rig.members() == []
