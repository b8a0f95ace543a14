"""The soft state of all groups shares one budget: what is beyond it is refused; members notice nothing."""

from __future__ import annotations

from typing import Any

import pytest

from mainstem.coordinator.groups.members import NAME_MAX
from mainstem.promise import Promise
from tests.coordinator.group_rig import GROUP, SESSION_MS, GroupRig, code, group_rig, subscription

BUDGET = 200_000
FULL = "COORDINATOR_LOAD_IN_PROGRESS"


def expected_bytes(kit: GroupRig) -> int:
    """What the live groups take, counted anew."""
    for group in kit.groups._live.values():
        members = sum(member.memory_bytes for member in group.members.values())
        pending = sum(1_000 + len(member_id) for member_id in group.pending)
        assert group.memory_bytes == 3_000 + len(group.group_id) + members + pending
    return sum(group.memory_bytes for group in kit.groups._live.values())


def large(size: int) -> tuple[tuple[str, bytes], ...]:
    return (("range", subscription("flights", user_data=bytes(size))),)


def fill(kit: GroupRig) -> int:
    """Joins by new members of other groups until they are refused. Returns how many were not."""
    for number in range(1_000):
        joined = kit.join(group_id=f"other{number}", protocols=large(10_000))
        if code(joined) == FULL:
            return number
        assert code(joined) is None
    raise AssertionError("there is no limit")


def test_ids_that_are_not_used_share_the_budget_and_members_notice_nothing() -> None:
    kit = group_rig(group_memory_max_bytes=BUDGET)
    member = kit.stable_one()
    replies = [
        code(kit.join(group_id=f"g{number % 3}", requires_member_id=True, client_id="c" * 32_000))
        for number in range(2_000)
    ]
    accepted = replies.count("MEMBER_ID_REQUIRED")
    assert 80 < accepted < 150
    assert set(replies[accepted:]) == {FULL}
    assert kit.groups.memory.used_bytes == expected_bytes(kit) <= BUDGET * 3 // 4
    assert kit.heartbeat(member) is None
    kit.advance_ms(SESSION_MS - 1)
    assert kit.heartbeat(member) is None
    kit.advance_ms(1)
    assert kit.groups.memory.used_bytes == expected_bytes(kit) < 7_000, "the ids have expired"
    assert code(kit.join(group_id="g", requires_member_id=True)) == "MEMBER_ID_REQUIRED"


def test_subscriptions_of_all_groups_share_the_budget() -> None:
    kit = group_rig(group_memory_max_bytes=BUDGET)
    assert 8 < fill(kit) < 15
    assert kit.groups.memory.used_bytes == expected_bytes(kit) <= BUDGET * 3 // 4
    kit.advance_ms(2 * SESSION_MS)
    assert kit.groups.memory.used_bytes == expected_bytes(kit) == 0
    assert fill(kit) > 8, "it is free again"


def test_members_join_again_while_no_new_ones_are_accepted() -> None:
    kit = group_rig(group_memory_max_bytes=BUDGET)
    member = kit.stable_one()
    static = kit.first(group_id="static", instance_id="one")
    id_of_new = kit.join(group_id="new", requires_member_id=True).error
    fill(kit)
    assert code(kit.join(group_id="another", protocols=large(10_000))) == FULL
    assert code(kit.join(member.member_id)) is None
    assert code(kit.join(group_id="static", instance_id="one")) is None
    assert static.member_id
    joined = kit.join(getattr(id_of_new, "member_id", ""), group_id="new")
    assert code(joined) is None, "who has an id may use the last quarter"
    assert kit.groups.memory.used_bytes == expected_bytes(kit)


def test_assignments_beyond_the_budget_are_refused_with_an_error_that_clients_retry() -> None:
    kit = group_rig(group_memory_max_bytes=BUDGET)
    joined = kit.first()
    assert code(kit.sync(joined, {joined.member_id: bytes(BUDGET)})) == "NOT_COORDINATOR"
    assert code(kit.sync(joined, {joined.member_id: bytes(1_000)})) is None
    assert kit.groups.memory.used_bytes == expected_bytes(kit)


def test_a_group_is_no_larger_than_its_record_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mainstem.coordinator.groups.memory.GROUP_BYTES_MAX", 50_000)
    kit = group_rig()
    joined = kit.stable_one()
    assert code(kit.join(protocols=large(50_000))) == "GROUP_MAX_SIZE_REACHED"
    assert code(kit.join(group_id="other", protocols=large(50_000))) == "GROUP_MAX_SIZE_REACHED"
    other = kit.first(group_id="third")
    refused = kit.sync(other, {other.member_id: bytes(50_000)}, group_id="third")
    assert code(refused) == "GROUP_MAX_SIZE_REACHED"
    assert kit.heartbeat(joined) is None


def test_ids_that_are_not_used_do_not_fill_their_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mainstem.coordinator.groups.memory.GROUP_BYTES_MAX", 50_000)
    kit = group_rig()
    for _ in range(100):
        assert code(kit.join(requires_member_id=True)) == "MEMBER_ID_REQUIRED"
    assert code(kit.join()) is None


@pytest.mark.parametrize("instance_id", [None, "i" * 30_000])
def test_a_long_client_id_is_cut(instance_id: str | None) -> None:
    kit = group_rig()
    joined = kit.first(client_id="c" * 32_000, instance_id=instance_id)
    assert len(joined.member_id) == NAME_MAX + 37
    view = kit.groups.describe([GROUP]).result()[0]
    assert view is not None
    assert view.members[0].client_id == "c" * NAME_MAX
    assert view.members[0].instance_id == instance_id


def test_the_memory_of_recorded_groups_counts_after_a_restart() -> None:
    kit = group_rig()
    kit.stable_two()
    before = kit.groups.memory.used_bytes
    assert before == expected_bytes(kit) > 0
    again = kit.restart()
    assert again.groups.memory.used_bytes == expected_bytes(again)
    assert abs(again.groups.memory.used_bytes - before) < 100
    failed: Promise[Any] = again.join(group_id="g2")
    assert code(failed) is None
    again.groups.reset()
    assert again.groups.memory.used_bytes == 0
