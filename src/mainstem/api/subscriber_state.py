"""What a subscriber that runs says of itself, for health checks, metrics and tests.

Owns: the counters that the work on events keeps, and the state made of them. Refuses: to ask a server.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

RATE_SECONDS = 10
"""The rate is that of the last seconds."""


@dataclass(slots=True)
class SubscriberCounts:
    """What a subscriber has done since its start. An event that is tried again is counted each time."""

    read: int = 0
    """Events that were delivered to it."""
    done: int = 0
    """Events that its handler has handled, and that are acknowledged."""
    failed: int = 0
    """Calls of the handler that failed, or that were rejected."""
    dead: int = 0
    """Events that it gave up: dead letters."""
    in_flight: int = 0
    """Events that it has now: their handler runs, or they are next."""
    last_error: str = ""
    """The latest reason of a failure; empty: none yet."""
    _history: deque[tuple[float, int]] = field(default_factory=deque)

    def rate(self, now_s: float) -> float:
        """Events done per second, since the call before the last RATE_SECONDS, or the first one."""
        history = self._history
        history.append((now_s, self.done))
        while len(history) > 2 and history[1][0] <= now_s - RATE_SECONDS:
            history.popleft()
        begin_s, before = history[0]
        elapsed_s = now_s - begin_s
        return (self.done - before) / elapsed_s if elapsed_s > 0 else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriberState:
    """How the work of a subscriber goes in this process; lag and retries are those of its whole group."""

    topic: str
    group: str
    joined: bool
    """It receives events: the server responds, and its subscription exists."""
    read: int
    done: int
    failed: int
    dead: int
    in_flight: int
    retrying: int
    """Events that wait: for another attempt, or for the time that their publisher said."""
    lag: int
    """Events that are not done. -1: not known, because the server does not respond."""
    rate: float
    """Events done per second, over the last RATE_SECONDS or so."""
    last_error: str
