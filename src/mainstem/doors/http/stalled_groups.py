"""Detects consumer groups that have stalled, and measures how fast the lag of each group grows.

Owns: since when each position with unread events has not moved, and the growth of a group's lag. Refuses: a
clock and an engine of its own. The sampler passes in what it observed and when.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from mainstem.contract import GroupInfo, GroupPosition, MemberInfo

STALL_S = 40.0
"""A position with unread events is stalled when it has not moved for this long. Groups are observed every ten
seconds, so a stall is reported within a minute. 40 s is eight times the interval at which consumers commit by
default."""
STALL_OF_ACTIVE_MEMBER_S = 300.0
"""The threshold while the member moves other positions: a member that catches up may read its partitions one
by one."""
LAG_SMOOTHING_S = 30.0
"""Time constant of the moving average of the lag's growth."""


@dataclass(frozen=True, slots=True)
class StalledPosition:
    """A position that has stalled, and the member that should move it."""

    topic: str
    partition: int
    for_ms: int
    member: MemberInfo | None
    """None: the partition is assigned to no member."""


class StallDetector:
    """The positions of one group, as they were in the observations so far."""

    __slots__ = ("_lag", "_moved_s", "_observed_s", "_offsets", "_unmoved", "lag_per_s")

    def __init__(self) -> None:
        self._unmoved: dict[tuple[str, int], tuple[int, float]] = {}
        """For each position with unread events: its offset, and when it was first observed there."""
        self._offsets: dict[tuple[str, int], int | None] = {}
        self._moved_s: dict[tuple[str, int], float] = {}
        """When a position was last observed to have moved."""
        self._lag: int | None = None
        self._observed_s = 0.0
        self.lag_per_s: float | None = None
        """Growth of the lag in events per second, negative while the group catches up; None: not known
        yet."""

    def observe(self, info: GroupInfo, now_s: float) -> None:
        """Record the positions of the group at `now_s`, in seconds of a monotonic clock."""
        assert now_s >= self._observed_s, "observations are in the order of time"
        unmoved: dict[tuple[str, int], tuple[int, float]] = {}
        for position, offset in _unread(info):
            partition = (position.topic, position.partition)
            before = self._unmoved.get(partition)
            unmoved[partition] = before if before is not None and before[0] == offset else (offset, now_s)
        self._unmoved = unmoved
        self._moved_s = {p: moved_s for p, moved_s in self._moved_s.items() if now_s - moved_s < STALL_S}
        offsets = {(position.topic, position.partition): position.offset for position in info.positions}
        for partition, new_offset in offsets.items():
            if new_offset != self._offsets.get(partition, new_offset):
                self._moved_s[partition] = now_s
        self._offsets = offsets
        lags = [position.lag for position in info.positions if position.lag is not None]
        self._observe_lag(sum(lags) if lags else None, now_s)

    def _observe_lag(self, lag: int | None, now_s: float) -> None:
        seconds = now_s - self._observed_s
        if lag is not None and self._lag is not None and seconds > 0:
            growth = (lag - self._lag) / seconds
            before = growth if self.lag_per_s is None else self.lag_per_s
            self.lag_per_s = before + (growth - before) * (1 - math.exp(-seconds / LAG_SMOOTHING_S))
        elif lag is None:
            self.lag_per_s = None
        self._lag, self._observed_s = lag, now_s

    def stalled(self, info: GroupInfo, now_s: float) -> list[StalledPosition]:
        """The stalled positions of `info`, which may be newer than the last observation; the longest
        first."""
        owners = {partition: member for member in info.members for partition in member.assigned}
        stalled = []
        for position, offset in _unread(info):
            partition = (position.topic, position.partition)
            observed_offset, since_s = self._unmoved.get(partition, (-1, now_s))
            member = owners.get(partition)
            is_active = member is not None and self._is_active(member, now_s)
            threshold_s = STALL_OF_ACTIVE_MEMBER_S if is_active else STALL_S
            if observed_offset == offset and now_s - since_s >= threshold_s:
                for_ms = round((now_s - since_s) * 1000)
                stalled.append(StalledPosition(position.topic, position.partition, for_ms, member))
        return sorted(stalled, key=lambda stall: (-stall.for_ms, stall.topic, stall.partition))

    def _is_active(self, member: MemberInfo, now_s: float) -> bool:
        """Whether the member has moved any of its positions within STALL_S."""
        return any(now_s - self._moved_s.get(p, -math.inf) < STALL_S for p in member.assigned)


def _unread(info: GroupInfo) -> Iterator[tuple[GroupPosition, int]]:
    """The positions with unread events, and their offsets. A share group has none: its first record that is
    not done may be with a consumer for long, while later ones are done."""
    if info.protocol_type == "share":
        return
    for position in info.positions:
        if position.offset is not None and position.lag:
            yield position, position.offset
