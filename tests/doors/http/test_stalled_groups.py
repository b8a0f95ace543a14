"""Stalled groups: positions with unread events that do not move."""

from __future__ import annotations

import pytest

from mainstem.contract import GroupInfo, GroupPosition, MemberInfo
from mainstem.doors.http.stalled_groups import STALL_OF_ACTIVE_MEMBER_S, STALL_S, StallDetector

MEMBER = MemberInfo("m-1", "billing-1", "/10.0.0.7", None, (("orders", 0),))


def group(offset: int | None, end: int, *, members: tuple[MemberInfo, ...] = (MEMBER,)) -> GroupInfo:
    """A group with one position."""
    lag = None if offset is None else end - offset
    position = GroupPosition("orders", 0, offset, end, lag, None)
    return GroupInfo("billing", "Stable", "range", members, (position,))


def observed(*looks: tuple[float, int, int]) -> StallDetector:
    """A detector after these observations: (seconds, offset, end)."""
    detector = StallDetector()
    for now_s, offset, end in looks:
        detector.observe(group(offset, end), now_s)
    return detector


def test_a_position_that_does_not_move_stalls_with_its_member() -> None:
    detector = observed((0, 100, 100), (10, 100, 120), (20, 100, 150), (50, 100, 300))
    [stuck] = detector.stalled(group(100, 300), 10 + STALL_S)
    assert (stuck.topic, stuck.partition, stuck.for_ms) == ("orders", 0, round(STALL_S * 1000))
    assert stuck.member == MEMBER


@pytest.mark.parametrize(
    "looks",
    [
        pytest.param([(0, 100, 100), (60, 100, 100)], id="nothing to read"),
        pytest.param([(0, 100, 200), (30, 101, 300), (60, 101, 300)], id="it moved a while ago"),
        pytest.param([(60, 100, 200)], id="seen for the first time"),
        pytest.param([(0, 100, 200), (30, 200, 200), (60, 200, 300)], id="it had caught up"),
    ],
)
def test_a_position_that_moves_or_has_nothing_to_read_does_not_stall(
    looks: list[tuple[float, int, int]],
) -> None:
    _, offset, end = looks[-1]
    assert observed(*looks).stalled(group(offset, end), 61) == []


def test_a_move_since_the_last_observation_ends_a_stall() -> None:
    assert observed((0, 100, 200), (60, 100, 300)).stalled(group(101, 300), 61) == []


def test_a_position_without_an_owner_stalls_without_a_member() -> None:
    [stuck] = observed((0, 100, 200)).stalled(group(100, 200, members=()), 60)
    assert stuck.member is None


def test_a_position_may_wait_longer_while_its_member_moves_another() -> None:
    both = MemberInfo("m-1", "billing-1", "/10.0.0.7", None, (("orders", 0), ("orders", 1)))

    def two(offset: int) -> GroupInfo:
        waiting = GroupPosition("orders", 0, 5, 100, 95, None)
        read = GroupPosition("orders", 1, offset, 10_000, 10_000 - offset, None)
        return GroupInfo("billing", "Stable", "range", (both,), (waiting, read))

    detector = StallDetector()
    looks = range(0, int(STALL_OF_ACTIVE_MEMBER_S) + 20, 10)
    named = {}
    for now_s in looks:
        detector.observe(two(now_s), now_s)
        named[now_s] = [stall.partition for stall in detector.stalled(two(now_s), now_s)]
    assert named == {now_s: [0] if now_s >= STALL_OF_ACTIVE_MEMBER_S else [] for now_s in looks}
    end = looks[-1]
    assert [stall.partition for stall in detector.stalled(two(end), end + STALL_S)] == [0, 1]


def test_the_growth_of_the_lag_follows_the_observations() -> None:
    falls_behind = observed((0, 0, 0), (10, 0, 1000), (20, 0, 2000))
    assert falls_behind.lag_per_s == pytest.approx(100)
    catches_up = observed((0, 0, 2000), (10, 500, 2000), (20, 1000, 2000))
    assert catches_up.lag_per_s == pytest.approx(-50)
    assert observed((0, 0, 10)).lag_per_s is None
