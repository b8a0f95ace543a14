"""Runs a stream's subscribers until the process is asked to stop.

`mainstem run` uses it, and programs that do without the command.

Owns: signals, and what the first and the second of them mean. Refuses: to start processes, and to serve
health checks; the command does both.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext

from mainstem.api.runner import Runner
from mainstem.api.stream import GRACE_S, Stream

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopSignals:
    """Waits for SIGINT and SIGTERM in an event loop. A context manager: afterwards the signals do what they
    did before."""

    def __init__(self) -> None:
        self.count = 0
        self._first = asyncio.Event()
        self.on_second: Callable[[], None] = lambda: None
        """Is called with each signal after the first one."""

    def __enter__(self) -> StopSignals:
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self.stop)
        return self

    def __exit__(self, *raised: object) -> None:
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.remove_signal_handler(number)

    def stop(self) -> None:
        """As if a signal had come."""
        self.count += 1
        if self.count == 1:
            self._first.set()
        else:
            self.on_second()

    async def wait(self) -> None:
        """Wait for the first signal."""
        await self._first.wait()


async def run_stream(
    stream: Stream,
    grace_s: float = GRACE_S,
    beside: Callable[[Runner, StopSignals], AbstractAsyncContextManager[None]] | None = None,
) -> Runner:
    """Run the subscribers of a stream, and its services, until SIGINT or SIGTERM: no further events are
    taken, and handlers have `grace_s` seconds to finish; a second signal cancels them at once. `beside`: what
    is entered while they run. Returns the runner, stopped. StreamError: they cannot start."""
    with StopSignals() as signals:
        async with stream.running(grace=grace_s) as runner:
            signals.on_second = runner.cancel_handlers
            async with beside(runner, signals) if beside is not None else nullcontext():
                await signals.wait()
        return runner
