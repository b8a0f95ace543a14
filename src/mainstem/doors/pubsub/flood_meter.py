"""Measures what a client sends that is work for the server and of no use to the client.

Owns: a level that rises with each such frame and falls with time and with useful work. Refuses: nothing by
itself: who counts ends the connection.
"""

from __future__ import annotations

from collections.abc import Callable


class FloodMeter:
    """A level of at most `limit`, which falls by `per_s` each second."""

    __slots__ = ("_level", "_limit", "_measured_at", "_now", "_per_s")

    def __init__(self, now: Callable[[], float], limit: int, per_s: float) -> None:
        self._now = now
        self._limit = limit
        self._per_s = per_s
        self._level = 0.0
        self._measured_at = now()

    def add(self, count: int = 1) -> bool:
        """Count something. Returns whether it is too much."""
        self._level += count
        if self._level <= self._limit:
            return False
        now = self._now()
        self._level = max(float(count), self._level - (now - self._measured_at) * self._per_s)
        self._measured_at = now
        return self._level > self._limit

    def relieve(self, count: int) -> None:
        """Useful work was done."""
        self._level = max(0.0, self._level - count)
