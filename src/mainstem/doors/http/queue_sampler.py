"""Samples the subscriptions for the statistics: sums, the largest ones, rates, and a history of 24 hours.

Owns: the figures as they were at the last sample; sums of counters that never fall, also when a subscription
is deleted; and the depth by state of each minute, for HISTORIES_MAX subscriptions. Refuses: to decide when it
samples (`sampler.py`), and to keep the event loop for long: it adds up in parts.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import fields

from mainstem.clock import Clock
from mainstem.doors.http.minute_series import MinuteSeries
from mainstem.queue_contract import QueueDepth, Queues, SubscriptionTotals

LARGEST_MAX = 1_000
"""Subscriptions that count as the largest: those with the most outstanding events."""
HISTORIES_MAX = 500
"""Subscriptions that have a history. One that has no outstanding event makes room for a larger one."""
PART = 500
"""Subscriptions that are added up in a turn of the loop, some milliseconds."""
STATES = tuple(field.name for field in fields(QueueDepth))
COUNTERS = (
    "delivered", "redelivered", "acked", "nacked", "rejected", "expired", "trimmed", "unreadable", "wakes",
    "late_ms", "push_delivered", "push_failed", "push_pull_failures",
)  # fmt: skip
"""The counters of `SubscriptionTotals` that are numbers."""
GAUGES = ("consumers", "expiring", "push_in_flight", "push_paused")
"""Its other figures that are numbers."""
REASON_COUNTERS = ("dead_lettered", "dropped")
"""Those by reason."""
RATES = ("delivered", "acked")
"""Those of which there are rates."""


class SubscriptionHistory:
    """Depth by state, the age of the oldest event and rates of a subscription, one number a minute. A number
    that was always 0 takes no memory."""

    def __init__(self) -> None:
        self._series: dict[str, MinuteSeries] = {"ready": MinuteSeries("f")}
        """All of `values`, by name. Ready has every minute that is known."""

    def put(self, minute: int, values: Iterable[tuple[str, float]]) -> None:
        """Set the numbers of a minute."""
        for name, value in values:
            series = self._series.get(name)
            if series is None:
                if not value:
                    continue
                series = self._series[name] = MinuteSeries("f")
            series.put(minute, value)

    def values(self, name: str, first: int, count: int) -> list[float | None]:
        """The numbers of `count` minutes from `first` on; None: not known."""
        known = self._series["ready"].values(first, count)
        series = self._series.get(name)
        if series is None:
            return [None if value is None else 0 for value in known]
        return [
            None if ready is None else value or 0
            for ready, value in zip(known, series.values(first, count), strict=True)
        ]


class QueueSampler:
    """The subscriptions as they were sampled last. `yield_to_loop` is awaited between parts."""

    def __init__(self, clock: Clock, yield_to_loop: Callable[[], Awaitable[None]]) -> None:
        self._clock = clock
        self._yield_to_loop = yield_to_loop
        self.totals: dict[str, SubscriptionTotals] = {}
        """By name."""
        self.largest: list[SubscriptionTotals] = []
        """Those with the most outstanding events, at most LARGEST_MAX, the largest first."""
        self.depth: Counter[str] = Counter()
        """Events in each state, over all subscriptions."""
        self.counters: Counter[str] = Counter()
        """COUNTERS over all subscriptions that there were."""
        self.by_reason: dict[str, Counter[str]] = {name: Counter() for name in REASON_COUNTERS}
        """REASON_COUNTERS over all subscriptions that there were."""
        self.oldest_ms: int | None = None
        self.gauges: Counter[str] = Counter()
        """GAUGES over all subscriptions."""
        self.rates: dict[str, tuple[float, ...]] = {}
        """RATES per second, in the order of these, of subscriptions that have some."""
        self.histories: dict[str, SubscriptionHistory] = {}
        self._sampled_s: float | None = None
        self._minute = 0
        self._minute_started_s = 0.0
        self._minute_before: dict[str, SubscriptionTotals] = {}

    async def sample(self, queues: Queues) -> None:
        """Read the figures of all subscriptions. Errors of the engine."""
        read = await queues.subscription_totals()
        now_s = self._clock.monotonic()
        seconds = 0.0 if self._sampled_s is None else now_s - self._sampled_s
        before, self._sampled_s = self.totals, now_s
        depth: Counter[str] = Counter()
        rates: dict[str, tuple[float, ...]] = {}
        largest: list[tuple[int, str]] = []
        oldest_ms: int | None = None
        gauges: Counter[str] = Counter()
        for number, totals in enumerate(read, 1):
            for state in STATES:
                depth[state] += getattr(totals.depth, state)
            if totals.oldest_ms is not None:
                oldest_ms = totals.oldest_ms if oldest_ms is None else min(oldest_ms, totals.oldest_ms)
            for name in GAUGES:
                gauges[name] += getattr(totals, name)
            old = before.get(totals.name)
            if totals is not old and totals != old:
                self._count(totals, old)
                per_s = _rates(totals, old, seconds)
                if any(per_s):
                    rates[totals.name] = per_s
            heapq.heappush(largest, (totals.depth.outstanding, totals.name))
            if len(largest) > LARGEST_MAX:
                heapq.heappop(largest)
            if not number % PART:
                await self._yield_to_loop()
        self.totals = {totals.name: totals for totals in read}
        self.depth, self.rates, self.oldest_ms = depth, rates, oldest_ms
        self.gauges = gauges
        self.largest = [
            self.totals[name] for _, name in sorted(largest, key=lambda item: (-item[0], item[1]))
        ]
        await self._close_minute(now_s)

    def _count(self, totals: SubscriptionTotals, old: SubscriptionTotals | None) -> None:
        """Add what the counters have grown by. One that is less than before began anew: its subscription was
        deleted and created again."""
        for name in COUNTERS:
            self.counters[name] += _growth(getattr(totals, name), getattr(old, name, 0))
        for name in REASON_COUNTERS:
            counts, known = getattr(totals, name), getattr(old, name, {})
            for reason, count in counts.items():
                self.by_reason[name][reason] += _growth(count, known.get(reason, 0))

    # --- history ------------------------------------------------------------------------------------------

    async def _close_minute(self, now_s: float) -> None:
        """If a new minute has begun, put the present figures into the histories, as those of the last one."""
        minute = self._clock.wall_ms() // 60_000
        if minute == self._minute:
            return
        if self._minute:
            self._choose_histories()
            seconds = max(1.0, now_s - self._minute_started_s)
            for number, (name, history) in enumerate(self.histories.items(), 1):
                history.put(self._minute, self._values(name, seconds))
                if not number % PART:
                    await self._yield_to_loop()
        self._minute, self._minute_started_s = minute, now_s
        self._minute_before = {name: self.totals[name] for name in self.histories if name in self.totals}

    def _choose_histories(self) -> None:
        for name in [name for name in self.histories if name not in self.totals]:
            del self.histories[name]
        empty = [name for name in self.histories if not self.totals[name].depth.outstanding]
        # With room for all, those that have no event have a history, too.
        candidates: Iterable[str] = self.totals
        if len(self.totals) > HISTORIES_MAX:
            candidates = (totals.name for totals in self.largest if totals.depth.outstanding)
        for name in candidates:
            if name in self.histories:
                continue
            if len(self.histories) >= HISTORIES_MAX:
                if not empty:
                    return
                del self.histories[empty.pop()]
            self.histories[name] = SubscriptionHistory()

    def _values(self, name: str, seconds: float) -> Iterator[tuple[str, float]]:
        totals = self.totals[name]
        for state in STATES:
            yield state, getattr(totals.depth, state)
        waited_ms = 0 if totals.oldest_ms is None else self._clock.wall_ms() - totals.oldest_ms
        yield "oldest_age_ms", max(0, waited_ms)
        old = self._minute_before.get(name)
        for rate, per_s in zip(RATES, _rates(totals, old, seconds), strict=True):
            yield f"{rate}_per_s", per_s


def _rates(totals: SubscriptionTotals, old: SubscriptionTotals | None, seconds: float) -> tuple[float, ...]:
    if old is None or seconds <= 0:
        return (0.0,) * len(RATES)
    return tuple(_growth(getattr(totals, name), getattr(old, name)) / seconds for name in RATES)


def _growth(now: int, before: int) -> int:
    return now - before if now >= before else now
