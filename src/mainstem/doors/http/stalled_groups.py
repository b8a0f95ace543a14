"""Which consumer groups stand still, and how fast the others catch up.

Owns: since when each position with unread events has not moved, and how fast the lag of a group grows.
Refuses: clocks and the engine: it is fed with what the sampler saw, and when. Used by sampler and groups.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from mainstem.contract import GroupInfo, GroupPosition, MemberInfo

STALL_S = 40.0
"""A position that has unread events and has not moved for so long stands still: with the ten seconds between
two looks that is within a minute, and eight times the interval at which consumers commit by default."""
STALL_OF_ACTIVE_MEMBER_S = 300.0
"""The same while its member moves other positions: who catches up may read one partition after the other."""
LAG_SMOOTHING_S = 30.0
"""The growth of the lag is a mean over about so long."""


@dataclass(frozen=True, slots=True)
class StalledPosition:
    """A position that stands still, and whose turn it is to move it."""

    topic: str
    partition: int
    for_ms: int
    member: MemberInfo | None
    """None: the partition is assigned to nobody."""


class StallDetector:
    """One group's positions, as they were at the looks so far."""

    __slots__ = ("_lag", "_looked_s", "_moved", "_offsets", "_since", "lag_per_s")

    def __init__(self) -> None:
        self._since: dict[tuple[str, int], tuple[int, float]] = {}
        """Of positions with unread events: (offset, when it was first seen there)."""
        self._offsets: dict[tuple[str, int], int | None] = {}
        self._moved: dict[tuple[str, int], float] = {}
        """When a position was last seen to have moved."""
        self._lag: int | None = None
        self._looked_s = 0.0
        self.lag_per_s: float | None = None
        """Events a second, below 0 when it catches up; None: not known yet."""

    def observe(self, info: GroupInfo, now_s: float) -> None:
        """Take notice of how the group is at `now_s`, seconds of a monotonic clock."""
        since: dict[tuple[str, int], tuple[int, float]] = {}
        for each, offset in _behind(info):
            place = (each.topic, each.partition)
            before = self._since.get(place)
            since[place] = before if before is not None and before[0] == offset else (offset, now_s)
        self._since = since
        self._moved = {place: at_s for place, at_s in self._moved.items() if now_s - at_s < STALL_S}
        offsets = {(each.topic, each.partition): each.offset for each in info.positions}
        for place, stands in offsets.items():
            if stands != self._offsets.get(place, stands):
                self._moved[place] = now_s
        self._offsets = offsets
        lags = [each.lag for each in info.positions if each.lag is not None]
        self._follow(sum(lags) if lags else None, now_s)

    def _follow(self, lag: int | None, now_s: float) -> None:
        seconds = now_s - self._looked_s
        if lag is not None and self._lag is not None and seconds > 0:
            grows = (lag - self._lag) / seconds
            before = grows if self.lag_per_s is None else self.lag_per_s
            self.lag_per_s = before + (grows - before) * (1 - math.exp(-seconds / LAG_SMOOTHING_S))
        elif lag is None:
            self.lag_per_s = None
        self._lag, self._looked_s = lag, now_s

    def stalled(self, info: GroupInfo, now_s: float) -> list[StalledPosition]:
        """What stands still in `info`, which may be newer than the last look; the longest first."""
        owners = {place: member for member in info.members for place in member.assigned}
        found = []
        for each, offset in _behind(info):
            place = (each.topic, each.partition)
            stood, since_s = self._since.get(place, (-1, now_s))
            member = owners.get(place)
            patience_s = STALL_OF_ACTIVE_MEMBER_S if member and self._moves(member, now_s) else STALL_S
            if stood == offset and now_s - since_s >= patience_s:
                for_ms = round((now_s - since_s) * 1000)
                found.append(StalledPosition(each.topic, each.partition, for_ms, member))
        return sorted(found, key=lambda each: (-each.for_ms, each.topic, each.partition))

    def _moves(self, member: MemberInfo, now_s: float) -> bool:
        """Whether it has moved anything of late."""
        return any(now_s - self._moved.get(place, -math.inf) < STALL_S for place in member.assigned)


def _behind(info: GroupInfo) -> Iterator[tuple[GroupPosition, int]]:
    """The positions with unread events, and where they are."""
    for each in info.positions:
        if each.offset is not None and each.lag:
            yield each, each.offset
