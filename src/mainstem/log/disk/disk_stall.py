"""Whether the disk answers.

Owns: the look once a second at how long the disk has owed an answer to a commit, the lines about it, and the
refusal of events when too much waits for it. Refuses: to call a disk failed that is slow: commits wait as
long as it takes, and are acknowledged when it comes back. Made by `node.py`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from mainstem.clock import Clock, Timer
from mainstem.log.disk.contract import Disk

CHECK_INTERVAL_S = 1.0
STALL_AFTER_S = 5.0
"""A commit takes milliseconds; a disk that is only busy takes tenths of a second."""
PENDING_BYTES_MAX = 256 << 20
"""Appended and not durable, at most: they are in memory too. A request that has timed out does not count as
in flight any more, but its bytes are still here, and its client sends it again."""

log = logging.getLogger(__name__)


class StallMonitor:
    """Of one data folder's disk. Looks by itself from `start` to `stop`."""

    def __init__(self, disk: Disk, clock: Clock, pending_bytes: Callable[[], int]) -> None:
        self.stalled_s = 0.0
        """At the last look; 0 while it answers."""
        self._disk = disk
        self._clock = clock
        self._pending_bytes = pending_bytes
        self._reported_s = 0.0
        self._timer: Timer | None = None

    def start(self) -> None:
        """Look now, and again and again."""
        self.check()
        self._timer = self._clock.call_later(CHECK_INTERVAL_S, self.start)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()

    @property
    def problem(self) -> str | None:
        """For health; None while the disk answers."""
        return (
            f"the disk has not answered for {self.stalled_s:.0f} s"
            if self.stalled_s >= STALL_AFTER_S
            else None
        )

    @property
    def rejection_reason(self) -> str | None:
        """Why topics take no events; None in normal work."""
        if self._pending_bytes() < PENDING_BYTES_MAX:
            return None
        return f"{PENDING_BYTES_MAX >> 20} MB wait for the disk"

    def check(self) -> None:
        """Look now."""
        self.stalled_s = self._disk.sync_stalled_s()
        if self.stalled_s >= max(STALL_AFTER_S, 2 * self._reported_s):
            self._reported_s = self.stalled_s
            log.error(
                "the disk has not answered for %.0f s: events wait; what is in memory is served",
                self.stalled_s,
            )
        elif self._reported_s and self.stalled_s < STALL_AFTER_S:
            log.warning("the disk answers again, after %.0f s at least", self._reported_s)
            self._reported_s = 0.0
