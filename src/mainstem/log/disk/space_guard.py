"""How much of the disk is left, and when topics may take no more of it.

Owns: the look at the file system about once a second, the reserve below which topics take no events, the
cap on the data of all topics, and the lines about both. The state log is never held up, so that topics can
be deleted and positions committed on a full disk; the reserve is the room for that. Refuses: to delete
anything; to look at each append. Made by `node.py`, which asks `rejection_reason` before an append.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from mainstem.clock import Clock, Timer
from mainstem.log.disk.contract import Disk

CHECK_INTERVAL_S = 1.0
NEAR_FULL_CHECK_INTERVAL_S = 0.1
"""How often it looks when less than four reserves are left, or a tenth of the limit: a fast disk writes a
gigabyte in a second."""
NEAR_FULL_FACTOR = 4
DEFAULT_RESERVE_BYTES_MAX = 1 << 30
DEFAULT_RESERVE_PERCENT = 5
RESUME_FACTOR = 1.1
"""Events are taken again when so many reserves are free: a line must not come with each batch."""
WARNING_PERCENTS = (80, 90)

log = logging.getLogger(__name__)


class SpaceGuard:
    """The room on one data folder's disk. Looks by itself from `start` to `stop`."""

    def __init__(
        self, disk: Disk, clock: Clock, reserve_bytes: int, max_bytes: int, data_bytes: Callable[[], int]
    ) -> None:
        """`reserve_bytes`: -1 means 5 % of the file system, at most 1 GiB; 0 none. `max_bytes`: what
        `data_bytes()` may become; 0 means no limit."""
        self.rejection_reason: str | None = None
        """Why topics take no events; None in normal work."""
        self.free_bytes = 0
        """At the last look."""
        self.capacity_bytes = 0
        self.on_full: list[Callable[[], object]] = []
        """Called when it has become full: what may make room should do so now."""
        self._disk = disk
        self._clock = clock
        self._configured_bytes = reserve_bytes
        self._max_bytes = max_bytes
        self._data_bytes = data_bytes
        self._warned_percent = self._data_warned_percent = 0
        self._check_failed = False
        self._timer: Timer | None = None
        self._stopped = False

    @property
    def reserve_bytes(self) -> int:
        """So many bytes are kept free for what is not events of topics."""
        if self._configured_bytes >= 0:
            return self._configured_bytes
        return min(DEFAULT_RESERVE_BYTES_MAX, self.capacity_bytes * DEFAULT_RESERVE_PERCENT // 100)

    @property
    def used_percent(self) -> int:
        """Of the file system, as `df` shows it, rounded up; 0 if it does not tell its size."""
        if self.capacity_bytes <= 0:
            return 0
        return -(-100 * (self.capacity_bytes - self.free_bytes) // self.capacity_bytes)

    def start(self) -> None:
        """Look now, and again and again."""
        self._check_periodically()

    def stop(self) -> None:
        """Look no more."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()

    def _check_periodically(self) -> None:
        if self._stopped:
            return
        self.check()
        near = self.reserve_bytes > 0 and self.free_bytes < NEAR_FULL_FACTOR * self.reserve_bytes
        near = near or self._data_warned_percent == WARNING_PERCENTS[-1]
        self._timer = self._clock.call_later(
            NEAR_FULL_CHECK_INTERVAL_S if near else CHECK_INTERVAL_S, self._check_periodically
        )

    def check(self) -> None:
        """Look now: one call of statvfs. What cannot be looked at is not full."""
        try:
            self.free_bytes, self.capacity_bytes = self._disk.free_bytes(), self._disk.capacity_bytes()
        except OSError as error:
            if not self._check_failed:
                log.error("how much room is on the disk cannot be told: %s", error)
            self._check_failed = True
            return
        self._check_failed = False
        self._warn()
        self._decide()

    def _warn(self) -> None:
        if _crosses_mark(self.used_percent, self._warned_percent):
            log.warning(
                "the disk of the data folder is %d %% full: %s are free; topics stop taking events below %s",
                self.used_percent, format_megabytes(self.free_bytes), format_megabytes(self.reserve_bytes),
            )  # fmt: skip
        self._warned_percent = _next_warned_percent(self.used_percent, self._warned_percent)
        if self._max_bytes > 0:
            percent = -(-100 * self._data_bytes() // self._max_bytes)
            if _crosses_mark(percent, self._data_warned_percent):
                log.warning(
                    "the data has %d %% of its limit of %s (data_max_bytes); there topics stop taking events",
                    percent, format_megabytes(self._max_bytes),
                )  # fmt: skip
            self._data_warned_percent = _next_warned_percent(percent, self._data_warned_percent)

    def _decide(self) -> None:
        held = RESUME_FACTOR if self.rejection_reason is not None else 1.0
        reason = None
        if self.free_bytes < self.reserve_bytes * held:
            reason = (
                f"the disk is full: {format_megabytes(self.free_bytes)} are free, and"
                f" {format_megabytes(self.reserve_bytes)} of it are kept for deletions and positions"
            )
        elif self._max_bytes > 0 and self._data_bytes() * held > self._max_bytes:
            reason = f"the data has reached its limit of {format_megabytes(self._max_bytes)} (data_max_bytes)"
        was, self.rejection_reason = self.rejection_reason, reason
        if reason is not None and was is None:
            log.error("topics take no events: %s; reading, deleting and committing go on", reason)
            for call in self.on_full:
                call()
        elif reason is None and was is not None:
            log.warning("topics take events again: %s are free", format_megabytes(self.free_bytes))


def _crosses_mark(percent: int, warned: int) -> bool:
    """A mark is reached that was not warned of."""
    return _highest_mark(percent) > warned


def _next_warned_percent(percent: int, warned: int) -> int:
    """What was warned of from now on: a little less does not count as new."""
    return _highest_mark(percent) if _crosses_mark(percent, warned) or percent < warned - 2 else warned


def _highest_mark(percent: int) -> int:
    return max((each for each in WARNING_PERCENTS if percent >= each), default=0)


def format_megabytes(count: int) -> str:
    """Bytes for people."""
    return f"{count / 1e6:,.1f} MB" if count < 10_000_000 else f"{count / 1e6:,.0f} MB"
