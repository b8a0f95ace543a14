"""Runs `mainstem` on an event loop that reports its long turns: `python -m tests.support.turns FILE serve`.

A line of FILE for each turn whose CPU time is above FLOOR_MS: when it ended (monotonic seconds), CPU
milliseconds, of these the garbage collector's, and of the callback that took most, and its name. Plain
asyncio, whose turns Python can see.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from asyncio import events
from typing import Any, TextIO

FLOOR_MS = 3.0


class TurnTimingLoop(asyncio.SelectorEventLoop):
    """Writes a line to `out` for each long turn."""

    out: TextIO
    worst: tuple[float, str] = (0.0, "")
    collected: float = 0.0

    def _run_once(self) -> None:
        self.worst, self.collected = (0.0, ""), 0.0
        began = time.thread_time()
        super()._run_once()  # type: ignore[misc]
        took_ms = (time.thread_time() - began) * 1000
        if took_ms > FLOOR_MS:
            share, name = self.worst
            self.out.write(
                f"{time.monotonic():.4f} {took_ms:.1f} {self.collected * 1000:.1f} {share:.1f} {name}\n"
            )
            self.out.flush()


def _name(handle: Any) -> str:
    callback = handle._callback
    task = getattr(callback, "__self__", None)
    if isinstance(task, asyncio.Task):
        frames: list[str] = []
        awaited: Any = task.get_coro()
        while awaited is not None and len(frames) < 12:
            frames.append(getattr(awaited, "__qualname__", type(awaited).__name__))
            awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "ag_await", None)
        return " > ".join(frames[-4:])
    return getattr(callback, "__qualname__", repr(callback))


def main() -> None:
    """Run the command line on such a loop."""
    from mainstem.cli import main as serve
    from mainstem.serve import server

    loops: list[TurnTimingLoop] = []
    plain = events.Handle._run

    def run(handle: Any) -> None:
        began = time.thread_time()
        plain(handle)
        took_ms = (time.thread_time() - began) * 1000
        if loops and took_ms > loops[-1].worst[0]:
            loops[-1].worst = took_ms, _name(handle)

    def factory() -> TurnTimingLoop:
        loops.append(TurnTimingLoop())
        loops[-1].out = out
        return loops[-1]

    started = 0.0

    def collecting(phase: str, _: object) -> None:
        nonlocal started
        if phase == "start":
            started = time.thread_time()
        elif loops:
            loops[-1].collected += time.thread_time() - started

    events.Handle._run = run  # type: ignore[assignment, method-assign]
    gc.callbacks.append(collecting)
    server.loop_factory = lambda: factory  # type: ignore[attr-defined]
    with open(sys.argv.pop(1), "w") as out:
        serve()


if __name__ == "__main__":
    main()
