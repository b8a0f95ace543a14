"""The time of locks, which no step of the wall clock changes.

Locks are soft and measure how long a consumer has had an event, so their deadlines are milliseconds of the
monotonic clock: a wall clock that is set forward ends none, and one that is set back keeps no event from the
next consumer. Times from which events are due again are recorded, and are those of the wall clock.

Owns: this time, and what people and consumers are shown of a deadline. Refuses: to keep a deadline
(`mainstem.queues.leases`).
"""

from __future__ import annotations

from mainstem.clock import Clock

CUT_MS = 1
"""By how much the difference of two clocks varies whose times are cut to whole milliseconds."""


class LockTime:
    """The time of locks on a clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ahead_ms = 0
        """How far the wall clock was ahead when it was last seen to have been set."""

    def now_ms(self) -> int:
        """The present time, ms since an arbitrary origin. It never decreases."""
        return int(self._clock.monotonic() * 1000)

    def shown_ms(self, deadline_ms: int) -> int:
        """When a lock expires, as the wall clock counts now: ms since 1970. A deadline is shown as the same
        time until the wall clock is set, and never as a later one than it is."""
        ahead_ms = self._clock.wall_ms() - self.now_ms()
        if abs(ahead_ms - self._ahead_ms) > CUT_MS:
            self._ahead_ms = ahead_ms
        return deadline_ms + self._ahead_ms - CUT_MS
