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

LOOK_S = 1.0
SILENT_S = 5.0
"""A commit takes milliseconds; a disk that is only busy takes tenths of a second."""
PENDING_MAX_BYTES = 256 << 20
"""Appended and not durable, at most: they are in memory too. A request that has timed out does not count as
in flight any more, but its bytes are still here, and its client sends it again."""

log = logging.getLogger(__name__)


class Silence:
    """Of one data folder's disk. Looks by itself from `start` to `stop`."""

    def __init__(self, disk: Disk, clock: Clock, pending_bytes: Callable[[], int]) -> None:
        self.silent_s = 0.0
        """At the last look; 0 while it answers."""
        self._disk = disk
        self._clock = clock
        self._pending_bytes = pending_bytes
        self._told = 0.0
        self._timer: Timer | None = None

    def start(self) -> None:
        """Look now, and again and again."""
        self.look()
        self._timer = self._clock.call_later(LOOK_S, self.start)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()

    @property
    def problem(self) -> str | None:
        """For health; None while the disk answers."""
        return f"the disk has not answered for {self.silent_s:.0f} s" if self.silent_s >= SILENT_S else None

    @property
    def full(self) -> str | None:
        """Why topics take no events; None in normal work."""
        if self._pending_bytes() < PENDING_MAX_BYTES:
            return None
        return f"{PENDING_MAX_BYTES >> 20} MB wait for the disk"

    def look(self) -> None:
        """Look now."""
        self.silent_s = self._disk.silent_s()
        if self.silent_s >= max(SILENT_S, 2 * self._told):
            self._told = self.silent_s
            log.error(
                "the disk has not answered for %.0f s: events wait; what is in memory is served",
                self.silent_s,
            )
        elif self._told and self.silent_s < SILENT_S:
            log.warning("the disk answers again, after %.0f s at least", self._told)
            self._told = 0.0
