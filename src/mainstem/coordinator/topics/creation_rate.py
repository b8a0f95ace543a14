"""How fast topics are created for clients that only ask for them.

Owns: the rate of automatic creation, over all connections and doors. Refuses: what an administrator creates,
which has no rate.
"""

from __future__ import annotations

from mainstem.clock import Clock

CREATED_PER_SECOND = 50
CREATED_AT_ONCE = 50


class CreationRate:
    """Permits CREATED_AT_ONCE topics, and CREATED_PER_SECOND more in each second."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._allowance = float(CREATED_AT_ONCE)
        self._last_s = clock.monotonic()

    def take(self) -> bool:
        """Whether one more topic may be created now; it counts as created."""
        now_s = self._clock.monotonic()
        more = (now_s - self._last_s) * CREATED_PER_SECOND
        self._allowance = min(self._allowance + more, CREATED_AT_ONCE)
        self._last_s = now_s
        if self._allowance < 1:
            return False
        self._allowance -= 1
        return True
