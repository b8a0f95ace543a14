"""Samples rates and lag for the statistics: events written, events read, and unread events of groups.

Owns: one task that samples the end offsets of all topics about every second, and the groups and subscriptions
about every ten seconds; the current rates and how old they are; and a history of 24 hours in steps of one
minute. Refuses: to use much more than a hundredth of the CPU (where sampling is expensive, it samples less
often, but it never pauses for long), and more memory than its limits allow: topics and groups above the
limits count only in the totals.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from mainstem.clock import Clock
from mainstem.contract import Engine, GroupInfo, StreamError, TopicSummary
from mainstem.doors.http.minute_series import STEP_S, STEPS, MinuteSeries
from mainstem.doors.http.queue_sampler import QueueSampler
from mainstem.doors.http.stalled_groups import StallDetector
from mainstem.queue_contract import Queues
from mainstem.turns import next_turn

log = logging.getLogger("mainstem.http")

TOPICS_MAX = 1_000
"""Maximum number of topics with a history: the first ones to which events are written."""
GROUPS_MAX = 500
"""Maximum number of groups that are sampled: the first ones by name."""
TOPICS_PERIOD_S = 1.0
GROUPS_PERIOD_S = 10.0
TOPICS_PAUSE_MAX_S = 10.0
GROUPS_PAUSE_MAX_S = 30.0
QUEUES_PAUSE_MAX_S = 60.0
COST_FACTOR = 100
"""The pause after a sample is this many times the CPU time that the sample took, within the limits above. The
time on the clock does not count: most of it may have gone to others, or to waiting for a cluster."""
SMOOTHING_S = 5.0
"""Time constant of the moving average of current rates."""


def topics_pause_s(cpu_s: float) -> float:
    """The pause after a sample of the topics that took `cpu_s` of CPU time."""
    return min(TOPICS_PAUSE_MAX_S, max(TOPICS_PERIOD_S, cpu_s * COST_FACTOR))


def groups_pause_s(cpu_s: float) -> float:
    """The pause after a sample of the groups that took `cpu_s` of CPU time."""
    return min(GROUPS_PAUSE_MAX_S, max(GROUPS_PERIOD_S, cpu_s * COST_FACTOR))


def queues_pause_s(cpu_s: float) -> float:
    """The pause after a sample of the subscriptions that took `cpu_s` of CPU time."""
    return min(QUEUES_PAUSE_MAX_S, max(GROUPS_PERIOD_S, cpu_s * COST_FACTOR))


@dataclass(slots=True)
class EventRate:
    """The rate at which a counter of events grows."""

    total: int = -1
    """The counter at the last observation; -1: not observed yet."""
    per_s: float = 0.0
    minute_total: int = 0
    history: MinuteSeries | None = None

    def observe(self, total: int, seconds: float) -> int:
        """Record the counter, `seconds` after the last observation; returns by how much it has grown."""
        # A smaller total means that the topic was deleted and created again.
        added = max(0, total - self.total) if self.total >= 0 else 0
        self.total = total
        if seconds > 0:
            self.per_s += (added / seconds - self.per_s) * (1 - math.exp(-seconds / SMOOTHING_S))
            if self.per_s < 0.005:
                self.per_s = 0.0
        self.minute_total += added
        return added


@dataclass(slots=True)
class GroupSample:
    """A group as it was last sampled, with its history."""

    info: GroupInfo
    lag: MinuteSeries = field(default_factory=MinuteSeries)
    lag_ms: MinuteSeries = field(default_factory=MinuteSeries)
    stalls: StallDetector = field(default_factory=StallDetector)


class Sampler:
    """The sampling task and its results. Only the task writes `topics`, `groups`, `inbound` and
    `outbound`."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock
        self.started_ms = clock.wall_ms()
        self.topics: list[TopicSummary] = []
        self.sampled_ms = 0
        """When the topics were last sampled; 0: not yet."""
        self.inbound: dict[str, EventRate] = {}
        """Events written, by topic."""
        self.outbound: dict[str, EventRate] = {}
        """Events read by groups, by topic."""
        self.total_inbound = EventRate(0, history=MinuteSeries())
        self.total_outbound = EventRate(0, history=MinuteSeries())
        self.groups: dict[str, GroupSample] = {}
        self.groups_total = 0
        self.queues = QueueSampler(clock, lambda: next_turn(clock))
        self._topics_sampled_s = self._groups_sampled_s = clock.monotonic()
        self._minute = self._current_minute()
        self._minute_started_s = clock.monotonic()
        self._failed = self._has_groups = False

    def _current_minute(self) -> int:
        return self._clock.wall_ms() // 1000 // STEP_S

    async def run(self, pause: Callable[[float], Awaitable[None]], closing: asyncio.Event) -> None:
        """Sample until `closing` is set. An error of the engine is logged once; the results then stay
        unchanged."""
        next_groups_s = next_queues_s = self._clock.monotonic()
        while not closing.is_set():
            started_s, started_cpu_s = self._clock.monotonic(), self._clock.cpu()
            pause_s = TOPICS_PERIOD_S
            try:
                await self.sample_topics()
                topics_cpu_s = self._clock.cpu()
                pause_s = topics_pause_s(topics_cpu_s - started_cpu_s)
                if started_s >= next_groups_s:
                    await self.sample_groups()
                    next_groups_s = started_s + groups_pause_s(self._clock.cpu() - topics_cpu_s)
                if started_s >= next_queues_s and isinstance(self._engine, Queues):
                    before_cpu_s = self._clock.cpu()
                    await self.queues.sample(self._engine)
                    next_queues_s = started_s + queues_pause_s(self._clock.cpu() - before_cpu_s)
                self._failed = False
            except StreamError as error:
                if not self._failed:
                    log.warning("statistics are not updated until the event log can be read again: %s", error)
                self._failed = True
            except Exception:
                if not self._failed:
                    log.exception("statistics are not updated until sampling succeeds again")
                self._failed = True
            await pause(pause_s)

    def topics_age_ms(self) -> int | None:
        """How old the figures of the topics are; None: there are none yet."""
        return self._age_ms(self._topics_sampled_s) if self.sampled_ms else None

    def groups_age_ms(self) -> int | None:
        """How old the figures of the groups are; None: there are none yet."""
        return self._age_ms(self._groups_sampled_s) if self._has_groups else None

    def _age_ms(self, sampled_s: float) -> int:
        return max(0, round((self._clock.monotonic() - sampled_s) * 1000))

    async def sample_topics(self) -> None:
        """Sample the end offsets of all topics."""
        topics = await self._engine.topics(internal=True)
        now_s = self._clock.monotonic()
        seconds, self._topics_sampled_s = now_s - self._topics_sampled_s, now_s
        self.topics = [topic for topic in topics if not topic.internal]
        is_first = not self.sampled_ms
        self.sampled_ms = self._clock.wall_ms()
        added = 0
        for topic in self.topics:
            rate = self.inbound.get(topic.name)
            if rate is None:
                # Events of the first sample are old; those of a topic that appears later are new.
                rate = self.inbound[topic.name] = EventRate(-1 if is_first else 0)
            elif topic.written == rate.total and not rate.per_s:
                continue  # of many topics, most are idle
            added += rate.observe(topic.written, seconds)
        self.total_inbound.observe(self.total_inbound.total + added, seconds)
        if len(self.inbound) > len(self.topics):
            existing = {topic.name for topic in self.topics}
            for name in [name for name in self.inbound if name not in existing]:
                del self.inbound[name]
        for name in [name for name in self.outbound if name not in self.inbound]:
            del self.outbound[name]
        self._close_minute(now_s)

    async def sample_groups(self) -> None:
        """Sample the groups: their lag, and how many events they have read since the last sample."""
        summaries = await self._engine.groups()
        self.groups_total = len(summaries)
        now_s = self._clock.monotonic()
        seconds, self._groups_sampled_s = now_s - self._groups_sampled_s, now_s
        samples: dict[str, GroupSample] = {}
        read: dict[str, int] = {}
        for summary in summaries[:GROUPS_MAX]:
            try:
                info = await self._engine.group(summary.name)
            except StreamError:
                continue  # deleted in the meantime, or it alone cannot be described
            sample = self.groups.get(summary.name)
            if sample is None:
                sample = GroupSample(info)
            for topic, count in _events_read(sample.info, info).items():
                read[topic] = read.get(topic, 0) + count
            sample.info = info
            sample.stalls.observe(info, now_s)
            samples[summary.name] = sample
        self.groups, self._has_groups = samples, True
        for topic in {*read, *self.outbound}:
            rate = self.outbound.setdefault(topic, EventRate(0))
            rate.observe(rate.total + read.get(topic, 0), seconds)
        self.total_outbound.observe(self.total_outbound.total + sum(read.values()), seconds)

    def _close_minute(self, now_s: float) -> None:
        """If a new minute has begun, put the numbers of the last one into the histories."""
        minute = self._current_minute()
        if minute == self._minute:
            return
        seconds = max(1.0, now_s - self._minute_started_s)
        for rates in (self.inbound, self.outbound):
            histories = sum(rate.history is not None for rate in rates.values())
            for rate in rates.values():
                if rate.history is None and rate.minute_total and histories < TOPICS_MAX:
                    rate.history = MinuteSeries()
                    histories += 1
                self._put_rate(rate, seconds)
        self._put_rate(self.total_inbound, seconds)
        self._put_rate(self.total_outbound, seconds)
        for sample in self.groups.values():
            lags = [position.lag for position in sample.info.positions if position.lag is not None]
            waits_ms = [position.lag_ms for position in sample.info.positions if position.lag_ms is not None]
            if lags:
                sample.lag.put(self._minute, sum(lags))
            if waits_ms:
                sample.lag_ms.put(self._minute, max(waits_ms))
        self._minute, self._minute_started_s = minute, now_s

    def _put_rate(self, rate: EventRate, seconds: float) -> None:
        if rate.history is not None:
            rate.history.put(self._minute, rate.minute_total / seconds)
        rate.minute_total = 0

    def history_window(self) -> tuple[int, int]:
        """(first minute, number of minutes) for which there can be a history by now; whole minutes only."""
        first = max(self._minute - STEPS, self.started_ms // 1000 // STEP_S)
        return first, max(0, self._minute - first)


def _events_read(before: GroupInfo, after: GroupInfo) -> dict[str, int]:
    """Events read between two samples of a group, by topic. A reset to an earlier offset counts as
    nothing."""
    old_offsets = {(position.topic, position.partition): position.offset for position in before.positions}
    read: dict[str, int] = {}
    for position in after.positions:
        old = old_offsets.get((position.topic, position.partition))
        if old is not None and position.offset is not None and position.offset > old:
            read[position.topic] = read.get(position.topic, 0) + position.offset - old
    return read
