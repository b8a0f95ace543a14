"""What a release comes to: which positions are ready again, which wait until when, and which are exhausted.

Owns: the arithmetic of failures, limit and backoff. Refuses: to change anything; the plan becomes records.
"""

from __future__ import annotations

from mainstem.queues.rules import DeliveryRules
from mainstem.queues.runs import Run, add_run


class ReleasePlan:
    """The parts of a release, by the time at which they are due."""

    def __init__(
        self, rules: DeliveryRules, counts: bool, now_ms: int, spread: float, delay_ms: int | None
    ) -> None:
        self._rules = rules
        self._counts = counts
        self._now_ms = now_ms
        self._spread = spread
        self._delay_ms = delay_ms
        self._by_due: dict[int | None, list[Run]] = {}
        self.exhausted: list[Run] = []
        """With this failure they have failed as often as the rules allow: they are to be rejected."""

    @property
    def released(self) -> list[tuple[list[Run], int | None]]:
        """(runs, due time); None is at once."""
        return [(runs, due_ms) for due_ms, runs in self._by_due.items()]

    def add(self, first: int, end: int, failures: int) -> None:
        """A run, above those before it, whose positions have failed so often before. It may be empty."""
        if first >= end:
            return
        if self._counts and self._rules.failures_max and failures + 1 >= self._rules.failures_max:
            add_run(self.exhausted, first, end)
        else:
            add_run(self._by_due.setdefault(self._due_ms(failures), []), first, end)

    def _due_ms(self, failures: int) -> int | None:
        wait_ms = self._delay_ms
        if wait_ms is None:
            wait_ms = self._rules.backoff_ms(failures + 1, self._spread) if self._counts else 0
        return self._now_ms + wait_ms if wait_ms > 0 else None
