"""What a subscriber says of failures: how often to try again, and what a handler raises to decide itself.

Owns: the policy of retries and the two signals. Refuses: to be errors of the stream; a handler raises the
signals, and they never leave the subscriber that runs it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

DELAY_MAX_S = 7 * 86_400.0
"""The longest delay of an attempt, as for every event of a queue."""
ATTEMPTS_MAX = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """How a subscriber tries an event again whose handler failed.

    The first attempt counts, so `max_attempts=1` is no retry. When they are used up, the event goes to the
    dead letters. Later events of its key wait; those of other keys do not. ValueError: a number is out of its
    range.
    """

    max_attempts: int = 5
    """1 to 10,000."""
    initial_delay: float = 1.0
    """Seconds between the first attempt and the second."""
    max_delay: float = 60.0
    """Seconds that a delay has at most: 7 days or less."""
    factor: float = 2.0
    """What each delay is multiplied by for the next one: 1 to 100."""
    give_up_on: tuple[type[BaseException], ...] = ()
    """Exceptions after which there is no further attempt, as after `DeadLetter`."""

    def __post_init__(self) -> None:
        if not 1 <= self.max_attempts <= ATTEMPTS_MAX:
            raise ValueError(f"max_attempts={self.max_attempts} is not 1 to {ATTEMPTS_MAX:,}")
        if not 0 <= self.initial_delay <= self.max_delay:
            raise ValueError(f"initial_delay={self.initial_delay} is not 0 to max_delay={self.max_delay}")
        if not 0 <= self.max_delay <= DELAY_MAX_S:
            raise ValueError(f"max_delay={self.max_delay} is not 0 to {DELAY_MAX_S:g} seconds (7 days)")
        if not 1 <= self.factor <= 100:
            raise ValueError(f"factor={self.factor} is not 1 to 100")

    def delay_after(self, failures: int) -> float:
        """Seconds to wait before the next attempt, after this number of failures (1 or more)."""
        delay = self.initial_delay
        for _ in range(failures - 1):
            delay *= self.factor
            if not delay or delay >= self.max_delay:
                break
        return min(delay, self.max_delay)


class RetryIn(Exception):
    """Raised by a handler: try this event again after this time, whatever `Retry` says of delays. It counts
    as an attempt. ValueError: the time is negative or over 7 days."""

    def __init__(self, delay: float | timedelta, reason: str = "") -> None:
        self.delay_s = delay.total_seconds() if isinstance(delay, timedelta) else float(delay)
        """Seconds."""
        self.reason = reason
        """For people; empty: that of the exception this one was raised from."""
        if not 0 <= self.delay_s <= DELAY_MAX_S:
            raise ValueError(f"a delay of {self.delay_s:g} seconds is not 0 to {DELAY_MAX_S:g} (7 days)")
        super().__init__(delay, reason)

    def __str__(self) -> str:
        return f"retry in {self.delay_s:g} s" + (f": {self.reason}" if self.reason else "")


class DeadLetter(Exception):
    """Raised by a handler: no further attempt; the event goes to the dead letters at once."""

    def __init__(self, reason: str = "") -> None:
        self.reason = reason
        """For people; empty: that of the exception this one was raised from."""
        super().__init__(reason)

    def __str__(self) -> str:
        return self.reason
