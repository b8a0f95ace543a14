"""A series of numbers, one per minute, for the last 24 hours.

Owns: its memory, which is bounded, and what is not known of it. Refuses: clocks.
"""

from __future__ import annotations

import math
from array import array
from typing import Literal

STEP_S = 60
STEPS = 24 * 60


class MinuteSeries:
    """One number per minute for the last 24 hours. Minutes are counted since 1970."""

    __slots__ = ("_values", "first")

    def __init__(self, typecode: Literal["d", "f"] = "d") -> None:
        """`typecode`: d has 8 bytes a number, f 4, which is exact to 16,777,216."""
        self.first = 0
        self._values: array[float] = array(typecode)

    def put(self, minute: int, value: float) -> None:
        """Set the number of a minute. Minutes without a number since the last one are not known (NaN)."""
        if not self._values or minute - self.first >= 2 * STEPS or minute < self.first:
            self.first, self._values = minute, array(self._values.typecode)
        gap = minute - self.first - len(self._values)
        if gap < 0:
            self._values[minute - self.first] = value
            return
        self._values.extend([math.nan] * gap)
        self._values.append(value)
        excess = len(self._values) - STEPS
        if excess > 0:
            del self._values[:excess]
            self.first += excess
        assert len(self._values) <= STEPS, "a series holds at most 24 hours"

    def values(self, first: int, count: int) -> list[float | None]:
        """The numbers of `count` minutes from `first` on; None: not known."""
        known = range(self.first, self.first + len(self._values))
        values = [
            self._values[minute - self.first] if minute in known else math.nan
            for minute in range(first, first + count)
        ]
        return [None if math.isnan(value) else round(value, 3) for value in values]
