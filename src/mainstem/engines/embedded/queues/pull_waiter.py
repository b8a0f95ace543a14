"""A pull that waits for events.

Owns: what the queue knows of it. Refuses: which pull is woken (`subscription_queue.py`).
"""

from __future__ import annotations

import asyncio


class PullWaiter(asyncio.Event):
    """A pull that waits. It is set when something may be ready for its consumer."""

    def __init__(self, consumer: str) -> None:
        super().__init__()
        self.consumer = consumer
        self.wakes_seen = 0
        """How often the queue had been woken when it looked last."""
