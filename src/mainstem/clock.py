"""The clock: time and timers as an argument.

Owns: the `Clock` protocol that the log and the coordinator use, and its real implementations. Tests pass a
simulated clock instead, so that one seed repeats any failure. A tidy test bans `time.time`, `time.monotonic`
and `loop.call_later` in the rest of the engine.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import asyncio  # search workers import this module and start in a third less time without it


class Timer(Protocol):
    """A scheduled call."""

    def cancel(self) -> None:
        """Cancel the call. Does nothing if it was made or cancelled already."""


class Clock(Protocol):
    """Wall-clock time, monotonic time and timers."""

    def wall_ms(self) -> int:
        """Milliseconds since 1970, UTC. It may jump forwards and backwards, so it must not measure
        timeouts."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary origin. Never decreases."""

    def cpu(self) -> float:
        """Seconds of CPU time that the calling thread has used."""

    def call_soon(self, call: Callable[[], None]) -> None:
        """Run `call` in the next turn of the event loop."""

    def call_in_turn(self, call: Callable[[], None]) -> None:
        """Run `call` in a later turn of the event loop, after those passed earlier, and only one of them in a
        turn: so slices of work, however many do some, never add up to a turn in which nothing else runs."""

    def call_later(self, seconds: float, call: Callable[[], None]) -> Timer:
        """Run `call` after `seconds`, unless the returned timer is cancelled."""


class LoopClock:
    """The real clock, with timers on an asyncio loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._in_turn: deque[Callable[[], None]] = deque()

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return time.monotonic()

    def cpu(self) -> float:
        return time.thread_time()

    def call_soon(self, call: Callable[[], None]) -> None:
        self._loop.call_soon(call)

    def call_in_turn(self, call: Callable[[], None]) -> None:
        self._in_turn.append(call)
        if len(self._in_turn) == 1:
            self._loop.call_soon(self._run_next_in_turn)

    def _run_next_in_turn(self) -> None:
        call = self._in_turn[0]
        try:
            call()
        finally:
            self._in_turn.popleft()
            if self._in_turn:
                self._loop.call_soon(self._run_next_in_turn)

    def call_later(self, seconds: float, call: Callable[[], None]) -> Timer:
        return self._loop.call_later(seconds, call)


class TravelClock(LoopClock):
    """A real clock whose wall time can be moved forward, for tests of what happens in a week. Monotonic time
    and timers stay those of the loop, so that no session ends and nothing times out."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._ahead_ms = 0

    def wall_ms(self) -> int:
        return super().wall_ms() + self._ahead_ms

    def advance(self, ms: int) -> None:
        """Move the wall time forward. Those that compare it with the time of a timer have to look again.
        ValueError: `ms` is negative."""
        if ms < 0:
            raise ValueError(f"time moves forward only, not by {ms} ms")
        self._ahead_ms += ms


class BlockingClock:
    """The real clock where blocking is allowed: a search worker, a thread of the Kafka engine."""

    def wall_ms(self) -> int:
        """See `Clock`."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        """See `Clock`."""
        return time.monotonic()

    def cpu(self) -> float:
        """Seconds of CPU time that this process has used."""
        return time.process_time()

    def sleep(self, seconds: float) -> None:
        """Block for `seconds`."""
        time.sleep(seconds)
