"""Counts what pushing a subscription did, and its rates over the last minute.

Owns: the counters, the rates and the latest error. Refuses: a clock; each call says when it is.
"""

from __future__ import annotations

from collections import deque

RATE_S = 60
_BUCKET_S = 5
_LATENCY_WEIGHT = 0.1


class MinuteRate:
    """How many there were per second over the last minute, in steps of 5 s."""

    def __init__(self, now_s: float) -> None:
        self._begin_s = now_s
        self._buckets: deque[tuple[int, int]] = deque()
        """(number of the step, how many), the latest last."""

    def add(self, now_s: float) -> None:
        """There was another one."""
        step = int(now_s // _BUCKET_S)
        if self._buckets and self._buckets[-1][0] == step:
            self._buckets[-1] = (step, self._buckets[-1][1] + 1)
        else:
            self._forget(now_s)
            self._buckets.append((step, 1))

    def per_s(self, now_s: float) -> float:
        """The rate now. Before the first minute is over, that since the start."""
        self._forget(now_s)
        span_s = min(float(RATE_S), max(1.0, now_s - self._begin_s))
        return sum(count for _, count in self._buckets) / span_s

    def _forget(self, now_s: float) -> None:
        first = int((now_s - RATE_S) // _BUCKET_S)
        while self._buckets and self._buckets[0][0] <= first:
            self._buckets.popleft()


class PushStats:
    """What pushing a subscription did since `now_s`. Times in seconds are monotonic, ms are since 1970."""

    def __init__(self, now_s: float) -> None:
        self.delivered = 0
        self.failed = 0
        self.delivered_rate = MinuteRate(now_s)
        self.failed_rate = MinuteRate(now_s)
        self.latency_ms: float | None = None
        self.last_error: str | None = None
        self.last_error_ms: int | None = None
        self.pull_failures = 0
        self.pull_error: str | None = None
        """Why nothing can be pulled at the moment."""

    def pull_failed(self, problem: str) -> None:
        """Events could not be pulled."""
        self.pull_failures += 1
        self.pull_error = problem

    def succeeded(self, now_s: float) -> None:
        """A request was answered with success."""
        self.delivered += 1
        self.delivered_rate.add(now_s)

    def answered(self, latency_s: float) -> None:
        """An answer arrived after that time, whatever it was."""
        latency_ms = latency_s * 1000
        if self.latency_ms is None:
            self.latency_ms = latency_ms
        else:
            self.latency_ms += _LATENCY_WEIGHT * (latency_ms - self.latency_ms)

    def failed_with(self, problem: str, now_s: float, time_ms: int) -> None:
        """A request failed."""
        self.failed += 1
        self.failed_rate.add(now_s)
        self.last_error, self.last_error_ms = problem, time_ms
