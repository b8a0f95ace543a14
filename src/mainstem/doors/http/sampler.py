"""Rates and their history: how fast events come in, how fast groups read them, how far groups are behind.

Owns: one task that looks at the ends of all topics about each second and at groups about each ten; rates of
now, and 24 hours in steps of a minute. Refuses: more than a hundredth of the time (it looks less often where
looking takes long) and more memory than its limits give: what is over them is in the totals only.
"""

from __future__ import annotations

import asyncio
import logging
import math
from array import array
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from mainstem.clock import Clock
from mainstem.contract import Engine, GroupInfo, StreamError, TopicSummary, UnknownGroup
from mainstem.doors.http.stalled_groups import StallDetector

log = logging.getLogger("mainstem.http")

STEP_S = 60
STEPS = 24 * 60
TOPICS_MAX = 1_000
"""Topics with a history, those that moved first."""
GROUPS_MAX = 500
"""Groups that are looked at, by name."""
TOPICS_PERIOD_S = 1.0
GROUPS_PERIOD_S = 10.0
SHARE = 100
"""Looking takes at most one part in so many of the time."""
SMOOTHING_S = 5.0
"""Rates of now are means over about this long."""


class MinuteSeries:
    """One number for each minute; old ones go. Minutes are counted since 1970."""

    __slots__ = ("_values", "first")

    def __init__(self) -> None:
        self.first = 0
        self._values = array("d")

    def put(self, minute: int, value: float) -> None:
        """Set a minute's number; those left out since the last one are not known (NaN)."""
        if not self._values or minute - self.first >= 2 * STEPS or minute < self.first:
            self.first, self._values = minute, array("d")
        gap = minute - self.first - len(self._values)
        if gap < 0:
            self._values[minute - self.first] = value
            return
        self._values.extend([math.nan] * gap)
        self._values.append(value)
        over = len(self._values) - STEPS
        if over > 0:
            del self._values[:over]
            self.first += over

    def values(self, first: int, count: int) -> list[float | None]:
        """The numbers of `count` minutes from `first` on; None: not known."""
        held = range(self.first, self.first + len(self._values))
        found = [
            self._values[at - self.first] if at in held else math.nan for at in range(first, first + count)
        ]
        return [None if math.isnan(each) else round(each, 3) for each in found]


@dataclass(slots=True)
class EventRate:
    """One topic's way in or out."""

    total: int = -1
    """-1: not looked at yet."""
    per_s: float = 0.0
    minute_total: int = 0
    history: MinuteSeries | None = None

    def observe(self, total: int, seconds: float) -> int:
        """What was added since the last look; `per_s` follows it."""
        added = max(0, total - self.total) if self.total >= 0 else 0  # less: it was deleted and made again
        self.total = total
        if seconds > 0:
            self.per_s += (added / seconds - self.per_s) * (1 - math.exp(-seconds / SMOOTHING_S))
            if self.per_s < 0.005:
                self.per_s = 0.0
        self.minute_total += added
        return added


@dataclass(slots=True)
class GroupSample:
    """One group, as it was last looked at."""

    info: GroupInfo
    lag: MinuteSeries = field(default_factory=MinuteSeries)
    lag_ms: MinuteSeries = field(default_factory=MinuteSeries)
    stalls: StallDetector = field(default_factory=StallDetector)


class Sampler:
    """Looks and remembers. `topics`, `groups`, `into`, `out_of` are for readers; only `run` writes them."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock
        self.started_ms = clock.wall_ms()
        self.topics: list[TopicSummary] = []
        self.sampled_ms = 0
        """When the topics were last looked at; 0: not yet."""
        self.inbound: dict[str, EventRate] = {}
        self.outbound: dict[str, EventRate] = {}
        self.total_inbound = EventRate(0, history=MinuteSeries())
        self.total_outbound = EventRate(0, history=MinuteSeries())
        self.groups: dict[str, GroupSample] = {}
        self.groups_total = 0
        self._last_topics = self._last_groups = clock.monotonic()
        self._minute = self._now_minute()
        self._minute_began = clock.monotonic()
        self._failed = False

    def _now_minute(self) -> int:
        return self._clock.wall_ms() // 1000 // STEP_S

    async def run(self, pause: Callable[[float], Awaitable[None]], closing: asyncio.Event) -> None:
        """Look until `closing`. Errors of the engine are logged once; what is shown then stays as it was."""
        next_groups = self._clock.monotonic()
        while not closing.is_set():
            began = self._clock.monotonic()
            try:
                await self.sample_topics()
                if began >= next_groups:
                    before = self._clock.monotonic()
                    await self.sample_groups()
                    cost_s = self._clock.monotonic() - before
                    next_groups = before + max(GROUPS_PERIOD_S, cost_s * SHARE)
                self._failed = False
            except StreamError as error:
                if not self._failed:
                    log.warning("statistics stand still: %s", error)
                self._failed = True
            except Exception:
                if not self._failed:
                    log.exception("statistics stand still")
                self._failed = True
            cost_s = self._clock.monotonic() - began
            await pause(max(TOPICS_PERIOD_S, cost_s * SHARE))

    async def sample_topics(self) -> None:
        """One look at all topics."""
        found = await self._engine.topics(internal=True)
        now = self._clock.monotonic()
        seconds, self._last_topics = now - self._last_topics, now
        self.topics = [each for each in found if not each.internal]
        first = not self.sampled_ms
        self.sampled_ms = self._clock.wall_ms()
        added = 0
        for topic in self.topics:
            flow = self.inbound.get(topic.name)
            if flow is None:  # at the first look, what is there is no news; later it is
                flow = self.inbound[topic.name] = EventRate(-1 if first else 0)
            elif topic.written == flow.total and not flow.per_s:
                continue  # most of many stand still
            added += flow.observe(topic.written, seconds)
        self.total_inbound.observe(self.total_inbound.total + added, seconds)
        if len(self.inbound) > len(self.topics):
            there = {each.name for each in self.topics}
            for name in [name for name in self.inbound if name not in there]:
                del self.inbound[name]
        for name in [name for name in self.outbound if name not in self.inbound]:
            del self.outbound[name]
        self._turn_of_minute(now)

    async def sample_groups(self) -> None:
        """One look at the groups: their lag, and what they have read since the last."""
        listed = await self._engine.groups()
        self.groups_total = len(listed)
        now = self._clock.monotonic()
        seconds, self._last_groups = now - self._last_groups, now
        seen: dict[str, GroupSample] = {}
        read: dict[str, int] = {}
        for each in listed[:GROUPS_MAX]:
            try:
                info = await self._engine.group(each.name)
            except UnknownGroup:
                continue  # deleted since
            group = self.groups.get(each.name)
            if group is None:
                group = GroupSample(info)
            for topic, count in _progress(group.info, info).items():
                read[topic] = read.get(topic, 0) + count
            group.info = info
            group.stalls.observe(info, now)
            seen[each.name] = group
        self.groups = seen
        for topic in {*read, *self.outbound}:
            flow = self.outbound.setdefault(topic, EventRate(0))
            flow.observe(flow.total + read.get(topic, 0), seconds)
        self.total_outbound.observe(self.total_outbound.total + sum(read.values()), seconds)

    def _turn_of_minute(self, now: float) -> None:
        minute = self._now_minute()
        if minute == self._minute:
            return
        seconds = max(1.0, now - self._minute_began)
        for flows in (self.inbound, self.outbound):
            histories = sum(flow.history is not None for flow in flows.values())
            for flow in flows.values():
                if flow.history is None and flow.minute_total and histories < TOPICS_MAX:
                    flow.history = MinuteSeries()
                    histories += 1
                self._close_minute(flow, seconds)
        self._close_minute(self.total_inbound, seconds)
        self._close_minute(self.total_outbound, seconds)
        for group in self.groups.values():
            lags = [each.lag for each in group.info.positions if each.lag is not None]
            waits = [each.lag_ms for each in group.info.positions if each.lag_ms is not None]
            if lags:
                group.lag.put(self._minute, sum(lags))
            if waits:
                group.lag_ms.put(self._minute, max(waits))
        self._minute, self._minute_began = minute, now

    def _close_minute(self, flow: EventRate, seconds: float) -> None:
        if flow.history is not None:
            flow.history.put(self._minute, flow.minute_total / seconds)
        flow.minute_total = 0

    def window(self) -> tuple[int, int]:
        """(first minute, how many) of the history that there can be by now: whole minutes only."""
        first = max(self._minute - STEPS, self.started_ms // 1000 // STEP_S)
        return first, max(0, self._minute - first)


def _progress(before: GroupInfo, after: GroupInfo) -> dict[str, int]:
    """Events read by topic between two looks at a group; a reset back counts as nothing."""
    stood = {(each.topic, each.partition): each.offset for each in before.positions}
    read: dict[str, int] = {}
    for each in after.positions:
        was = stood.get((each.topic, each.partition))
        if was is not None and each.offset is not None and each.offset > was:
            read[each.topic] = read.get(each.topic, 0) + each.offset - was
    return read
