"""Waits for an event, or for a time of the clock.

Owns: `wait_until`. Refuses: deadlines of requests, which are asyncio's.
"""

from __future__ import annotations

import asyncio

from mainstem.clock import Clock


async def wait_until(event: asyncio.Event, clock: Clock, seconds: float) -> None:
    """Wait until `event` is set, for `seconds` at most."""
    is_over = asyncio.get_running_loop().create_future()

    def end() -> None:
        if not is_over.done():
            is_over.set_result(None)

    timer = clock.call_later(seconds, end)
    waiting = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait((waiting, is_over), return_when=asyncio.FIRST_COMPLETED)
    finally:
        timer.cancel()
        waiting.cancel()
