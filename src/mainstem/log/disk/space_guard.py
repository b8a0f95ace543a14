"""How much of the disk is left, and when topics may take no more of it.

Owns: the look at the file system about once a second, the reserve below which topics take no events, the
cap on the data of all topics, and the lines about both. The state log is never held up, so that topics can
be deleted and positions committed on a full disk; the reserve is the room for that. Refuses: to delete
anything; to look at each append. Made by `node.py`, which asks `full` before an append.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from mainstem.clock import Clock, Timer
from mainstem.log.disk.contract import Disk

LOOK_S = 1.0
LOOK_NEAR_S = 0.1
"""How often it looks when less than four reserves are left, or a tenth of the limit: a fast disk writes a
gigabyte in a second."""
NEAR = 4
DEFAULT_MAX_BYTES = 1 << 30
DEFAULT_PERCENT = 5
GO_ON = 1.1
"""Events are taken again when so many reserves are free: a line must not come with each batch."""
WARN_PERCENT = (80, 90)

log = logging.getLogger(__name__)


class Reserve:
    """The room on one data folder's disk. Looks by itself from `start` to `stop`."""

    def __init__(
        self, disk: Disk, clock: Clock, reserve_bytes: int, max_bytes: int, data_bytes: Callable[[], int]
    ) -> None:
        """`reserve_bytes`: -1 means 5 % of the file system, at most 1 GiB; 0 none. `max_bytes`: what
        `data_bytes()` may become; 0 means no limit."""
        self.full: str | None = None
        """Why topics take no events; None in normal work."""
        self.free_bytes = 0
        """At the last look."""
        self.capacity_bytes = 0
        self.filled: list[Callable[[], object]] = []
        """Called when it has become full: what may make room should do so now."""
        self._disk = disk
        self._clock = clock
        self._asked = reserve_bytes
        self._max_bytes = max_bytes
        self._data_bytes = data_bytes
        self._warned = self._data_warned = 0
        self._blind = False
        self._timer: Timer | None = None
        self._stopped = False

    @property
    def reserve_bytes(self) -> int:
        """So many bytes are kept free for what is not events of topics."""
        if self._asked >= 0:
            return self._asked
        return min(DEFAULT_MAX_BYTES, self.capacity_bytes * DEFAULT_PERCENT // 100)

    @property
    def used_percent(self) -> int:
        """Of the file system, as `df` shows it, rounded up; 0 if it does not tell its size."""
        if self.capacity_bytes <= 0:
            return 0
        return -(-100 * (self.capacity_bytes - self.free_bytes) // self.capacity_bytes)

    def start(self) -> None:
        """Look now, and again and again."""
        self._look_again()

    def stop(self) -> None:
        """Look no more."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()

    def _look_again(self) -> None:
        if self._stopped:
            return
        self.look()
        near = self.reserve_bytes > 0 and self.free_bytes < NEAR * self.reserve_bytes
        near = near or self._data_warned == WARN_PERCENT[-1]
        self._timer = self._clock.call_later(LOOK_NEAR_S if near else LOOK_S, self._look_again)

    def look(self) -> None:
        """Look now: one call of statvfs. What cannot be looked at is not full."""
        try:
            self.free_bytes, self.capacity_bytes = self._disk.free_bytes(), self._disk.capacity_bytes()
        except OSError as error:
            if not self._blind:
                log.error("how much room is on the disk cannot be told: %s", error)
            self._blind = True
            return
        self._blind = False
        self._warn()
        self._decide()

    def _warn(self) -> None:
        if _passes(self.used_percent, self._warned):
            log.warning(
                "the disk of the data folder is %d %% full: %s are free; topics stop taking events below %s",
                self.used_percent, megabytes(self.free_bytes), megabytes(self.reserve_bytes),
            )  # fmt: skip
        self._warned = _mark(self.used_percent, self._warned)
        if self._max_bytes > 0:
            percent = -(-100 * self._data_bytes() // self._max_bytes)
            if _passes(percent, self._data_warned):
                log.warning(
                    "the data has %d %% of its limit of %s (data_max_bytes); there topics stop taking events",
                    percent, megabytes(self._max_bytes),
                )  # fmt: skip
            self._data_warned = _mark(percent, self._data_warned)

    def _decide(self) -> None:
        held = GO_ON if self.full is not None else 1.0
        reason = None
        if self.free_bytes < self.reserve_bytes * held:
            reason = (
                f"the disk is full: {megabytes(self.free_bytes)} are free, and"
                f" {megabytes(self.reserve_bytes)} of it are kept for deletions and positions"
            )
        elif self._max_bytes > 0 and self._data_bytes() * held > self._max_bytes:
            reason = f"the data has reached its limit of {megabytes(self._max_bytes)} (data_max_bytes)"
        was, self.full = self.full, reason
        if reason is not None and was is None:
            log.error("topics take no events: %s; reading, deleting and committing go on", reason)
            for call in self.filled:
                call()
        elif reason is None and was is not None:
            log.warning("topics take events again: %s are free", megabytes(self.free_bytes))


def _passes(percent: int, warned: int) -> bool:
    """A mark is reached that was not warned of."""
    return _reached(percent) > warned


def _mark(percent: int, warned: int) -> int:
    """What was warned of from now on: a little less does not count as new."""
    return _reached(percent) if _passes(percent, warned) or percent < warned - 2 else warned


def _reached(percent: int) -> int:
    return max((each for each in WARN_PERCENT if percent >= each), default=0)


def megabytes(count: int) -> str:
    """Bytes for people."""
    return f"{count / 1e6:,.1f} MB" if count < 10_000_000 else f"{count / 1e6:,.0f} MB"
