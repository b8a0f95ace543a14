"""How often something may happen in a second.

Owns: what is left of the rate. Refuses: to wait: the caller decides whether to try later or to refuse.
"""

from __future__ import annotations

from mainstem.clock import Clock


class RateLimit:
    """Permits `per_second` in each second; after a second without any, that many at once."""

    __slots__ = ("_allowance", "_clock", "_last_s", "_per_second")

    def __init__(self, clock: Clock, per_second: int) -> None:
        self._clock = clock
        self._per_second = per_second
        self._allowance = float(per_second)
        self._last_s = clock.monotonic()

    def delay_s(self) -> float:
        """Seconds until one more is permitted; 0: now."""
        now_s = self._clock.monotonic()
        more = (now_s - self._last_s) * self._per_second
        self._allowance = min(self._allowance + more, self._per_second)
        self._last_s = now_s
        return 0.0 if self._allowance >= 1 else (1 - self._allowance) / self._per_second

    def take(self) -> None:
        """Count one, permitted or not."""
        self._allowance -= 1
