"""Detects a stalled disk and rejects writes while too many bytes wait for it.

Owns: the check, once a second, of how long the disk has not completed a sync of a commit; the log lines about
it; and the rejection of events when too many bytes are pending. Refuses: to treat a slow disk as a failed
one: commits wait as long as it takes, and are acknowledged when it responds again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from mainstem.clock import Clock, Timer
from mainstem.log.disk.contract import Disk

CHECK_INTERVAL_S = 1.0
STALL_AFTER_S = 5.0
"""A commit takes milliseconds, on a busy disk tenths of a second."""
PENDING_BYTES_MAX = 256 << 20
"""Bytes that may be appended and not yet durable; they are in memory too. A request that has timed out no
longer counts as in flight, but its bytes are still here, and its client sends it again."""

log = logging.getLogger(__name__)


class StallMonitor:
    """Watches the disk of one data folder, from `start` to `stop`."""

    def __init__(self, disk: Disk, clock: Clock, pending_bytes: Callable[[], int]) -> None:
        self.stalled_s = 0.0
        """How long the disk has not responded, at the last check; 0 in normal work."""
        self._disk = disk
        self._clock = clock
        self._pending_bytes = pending_bytes
        self._reported_s = 0.0
        """`stalled_s` of the last log line; 0 if no stall is reported."""
        self._timer: Timer | None = None

    def start(self) -> None:
        """Check now, and then once a second."""
        self.check()
        self._timer = self._clock.call_later(CHECK_INTERVAL_S, self.start)

    def stop(self) -> None:
        """Stop checking."""
        if self._timer is not None:
            self._timer.cancel()

    @property
    def problem(self) -> str | None:
        """The stall as a sentence for the health report; None while the disk responds."""
        if self.stalled_s < STALL_AFTER_S:
            return None
        return f"the disk has not responded for {self.stalled_s:.0f} s"

    @property
    def rejection_reason(self) -> str | None:
        """Why topics accept no events: too many bytes wait for a stalled disk. None: they accept events."""
        if self._pending_bytes() < PENDING_BYTES_MAX:
            return None
        return f"{PENDING_BYTES_MAX >> 20} MB wait for the disk"

    def check(self) -> None:
        """Check now. Logs the start of a stall, each doubling of its length, and its end."""
        self.stalled_s = self._disk.sync_stalled_s()
        if self.stalled_s >= max(STALL_AFTER_S, 2 * self._reported_s):
            self._reported_s = self.stalled_s
            log.error(
                "the disk has not responded for %.0f s: new events wait; events in memory are still served",
                self.stalled_s,
            )
        elif self._reported_s and self.stalled_s < STALL_AFTER_S:
            log.warning("the disk responds again, after at least %.0f s", self._reported_s)
            self._reported_s = 0.0
