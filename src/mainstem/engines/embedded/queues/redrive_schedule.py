"""The times from which redriven events are deliverable: all at once, or at a rate.

Owns: the limits of a rate. A rate needs no job that a restart could end: the events wait in the subscription,
each for its time. Refuses: to know which events there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mainstem.contract import InvalidArgument
from mainstem.queues.runs import Run, count_positions, cut_runs

PER_S_MIN = 0.01
PER_S_MAX = 100_000.0
SPAN_S_MAX = 7 * 24 * 3600
STEPS_PER_S = 10
"""Events that are due within a tenth of a second are due at its beginning."""


class RedriveSchedule:
    """The times of one call, which redrives at most `count` events from `now_ms` on. `per_s` None: all at
    once. InvalidArgument: the rate is out of range, or it would take more than seven days."""

    def __init__(self, now_ms: int, per_s: float | None, count: int) -> None:
        if per_s is not None:
            if not PER_S_MIN <= per_s <= PER_S_MAX:
                raise InvalidArgument(f"per_s is {per_s}; it is from {PER_S_MIN} to {PER_S_MAX:,.0f}")
            if count > per_s * SPAN_S_MAX:
                raise InvalidArgument(f"{count:,} events at {per_s} a second take more than seven days")
        self._now_ms = now_ms
        self._per_s = per_s
        self._before = 0
        """Events that have a time already."""

    def parts(self, runs: Sequence[Run]) -> Iterator[tuple[Sequence[Run], int]]:
        """The parts of further events that wait, and until when."""
        if self._per_s is None:
            return
        for part in cut_runs(runs, max(1, round(self._per_s / STEPS_PER_S))):
            due_ms = self._now_ms + int(self._before * 1000 / self._per_s)
            self._before += count_positions(part)
            if due_ms > self._now_ms:
                yield part, due_ms
