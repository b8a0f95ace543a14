"""The memory that the bodies of all requests share, and the part of it that one body holds.

Owns: how much that is, how much of each body is not counted, and how long a body waits for memory. Refuses:
memory beyond the budget: the request then gets the problem `busy`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mainstem.doors.http.problem import Problem
from mainstem.promise import Promise

if TYPE_CHECKING:
    from mainstem.clock import Clock
    from mainstem.doors.net.limits import MemoryBudget

UNCOUNTED_BYTES = 64 << 10
"""The beginning of each body that is not counted, so that large bodies never refuse a small one."""
BUDGET_BYTES = 64 << 20
"""Memory of all bodies together, or four bodies of the largest size if that is more."""
WAIT_S = 5.0
"""How long a body waits for memory that others hold."""
RETRY_AFTER_S = 5
"""The Retry-After header of the problem if that was in vain."""


def budget_bytes(max_body_bytes: int) -> int:
    """The size of the budget for bodies of at most `max_body_bytes`."""
    return max(BUDGET_BYTES, 4 * max_body_bytes)


class BodyMemory:
    """The memory that one body holds, from its first byte until the request has been processed. It is
    counted before the bytes are taken from the connection's buffer; while there is no room, the connection
    is not read."""

    def __init__(self, budget: MemoryBudget, clock: Clock) -> None:
        self._budget = budget
        self._clock = clock
        self._counted_bytes = 0
        self._room: Promise[None] | None = None

    @property
    def is_counted(self) -> bool:
        """Whether the body holds memory of the budget."""
        return self._counted_bytes > 0

    @property
    def is_wanted(self) -> bool:
        """Whether the body holds memory for which others wait."""
        return self.is_counted and self._budget.is_contended

    async def hold(self, size_bytes: int) -> None:
        """Hold memory for `size_bytes` from now on, more or less than before. Raises the problem `busy` if
        there is no room in time."""
        more_bytes = max(0, size_bytes - UNCOUNTED_BYTES) - self._counted_bytes
        if more_bytes <= 0:
            self._release(-more_bytes)
            return
        deadline_s = self._clock.monotonic() + WAIT_S
        timer = None
        try:
            while not self._budget.reserve(self, more_bytes):
                if self._clock.monotonic() >= deadline_s:
                    raise Problem(
                        "busy",
                        f"the bodies of other requests hold all {self._budget.max_bytes >> 20} MiB of memory",
                        headers={"retry-after": f"{RETRY_AFTER_S}"},
                    )
                timer = timer or self._clock.call_later(WAIT_S, self.on_capacity)
                self._room = Promise()
                await self._room
        finally:
            if timer is not None:
                timer.cancel()
        self._counted_bytes += more_bytes

    def on_capacity(self) -> None:
        """Called by the budget when there may be room, and after WAIT_S."""
        room, self._room = self._room, None
        if room is not None:
            room.resolve(None)

    def close(self) -> None:
        """Hold nothing any more. Idempotent."""
        self._budget.stop_waiting(self)
        self._release(self._counted_bytes)

    def _release(self, count: int) -> None:
        self._counted_bytes -= count
        if count:
            self._budget.release(count)
        if not self._counted_bytes:
            self._budget.stop_waiting(self)
