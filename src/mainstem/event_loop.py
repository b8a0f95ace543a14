"""Which event loop a server, a stream in this process and `mainstem run` have.

Owns: the choice of uvloop's, where it is installed. Refuses: to make or to run a loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """Makes uvloop's loops, where it is installed; else asyncio's own."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
