"""A clock that only moves when a test moves it."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable


class SimTimer:
    def __init__(self, call: Callable[[], None]) -> None:
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        self.call = None


class SimClock:
    """Virtual time: `run()` empties the ready queue, `advance()` moves time and fires what is due."""

    def __init__(self, wall_ms: int = 1_356_998_400_000) -> None:
        self.wall = wall_ms
        self.now = self.cpu_s = 0.0
        self._ready: list[Callable[[], None]] = []
        self._timers: list[tuple[float, int, SimTimer]] = []
        self._order = itertools.count()

    def wall_ms(self) -> int:
        return self.wall + int(self.now * 1000)

    def monotonic(self) -> float:
        return self.now

    def cpu(self) -> float:
        return self.cpu_s

    def call_soon(self, call: Callable[[], None]) -> None:
        self._ready.append(call)

    def call_in_turn(self, call: Callable[[], None]) -> None:
        self._ready.append(call)

    def call_later(self, seconds: float, call: Callable[[], None]) -> SimTimer:
        timer = SimTimer(call)
        heapq.heappush(self._timers, (self.now + seconds, next(self._order), timer))
        return timer

    @property
    def ready(self) -> int:
        """Number of calls of the next turn."""
        return len(self._ready)

    def turn(self) -> None:
        """Run the calls that are ready: one turn of the loop."""
        ready, self._ready = self._ready, []
        for call in ready:
            call()

    def run(self) -> int:
        """Run all calls that are ready, and those that they make ready. Returns how many turns that took."""
        turns = 0
        while self._ready:
            self.turn()
            turns += 1
        return turns

    def advance(self, seconds: float) -> None:
        """Move time forward and fire the timers that become due, in order."""
        until = self.now + seconds
        self.run()
        while self._timers and self._timers[0][0] <= until:
            self.now, _, timer = heapq.heappop(self._timers)
            call, timer.call = timer.call, None
            if call is not None:
                call()
            self.run()
        self.now = until
