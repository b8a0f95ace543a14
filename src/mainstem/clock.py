"""Time and timers, as an argument.

Owns: the `Clock` that log and coordinator are given, and the real one. Refuses: to be bypassed. A tidy test
bans `time.time`, `time.monotonic` and `loop.call_later` elsewhere in the engine, so that one seed replays any
failure.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import asyncio  # search workers import this module and start in a third less time without it


class Timer(Protocol):
    """A call that is due later."""

    def cancel(self) -> None:
        """Do not call it. Harmless when it was called or cancelled."""


class Clock(Protocol):
    """What the engine knows of time."""

    def wall_ms(self) -> int:
        """Milliseconds since 1970 (UTC). May jump either way: never measure a timeout with it."""

    def monotonic(self) -> float:
        """Seconds that only grow, from any origin."""

    def call_soon(self, call: Callable[[], None]) -> None:
        """Run `call` in the next turn of the loop."""

    def call_later(self, seconds: float, call: Callable[[], None]) -> Timer:
        """Run `call` after `seconds`, unless the returned timer is cancelled."""


class LoopClock:
    """The real clock, on the running asyncio loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return time.monotonic()

    def call_soon(self, call: Callable[[], None]) -> None:
        self._loop.call_soon(call)

    def call_later(self, seconds: float, call: Callable[[], None]) -> Timer:
        return self._loop.call_later(seconds, call)


class BlockingClock:
    """The real clock of a process without a loop: search workers, which may wait."""

    def wall_ms(self) -> int:
        """As `Clock`."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        """As `Clock`."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)
