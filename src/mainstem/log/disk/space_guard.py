"""Guards the free space of the disk: rejects events of topics when too little is left.

Owns: the check of the file system about once a second, the reserve below which topics accept no events, the
limit on the data of all topics, the log lines about both, and making the ballast, which a start on a full
disk removes. The state log always accepts records, so that
topics can be deleted and positions committed on a full disk; the reserve is the space for that. Refuses: to
delete anything, and to check at each append: who appends asks `rejection_reason`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from mainstem.clock import Clock, Timer
from mainstem.log import paths
from mainstem.log.disk.contract import Disk
from mainstem.promise import Promise

CHECK_INTERVAL_S = 1.0
NEAR_FULL_CHECK_INTERVAL_S = 0.1
"""Interval when less than `NEAR_FULL_FACTOR` reserves are free, or 90 % of the limit are used: a fast disk
writes a gigabyte in a second."""
NEAR_FULL_FACTOR = 4
DEFAULT_RESERVE_BYTES_MAX = 1 << 30
DEFAULT_RESERVE_PERCENT = 5
RESUME_FACTOR = 1.1
"""Events are accepted again when this many reserves are free, so that acceptance does not flap with each
batch."""
NEARLY_FULL_FACTOR = 2
"""The disk is nearly full when less than this many reserves are free; the data, at 90 % of its limit."""
NEARLY_FULL_PERCENT = 90
WARNING_PERCENTS = (80, 90)
"""Of the file system and of the limit: a warning is logged when one is reached."""

log = logging.getLogger(__name__)


class SpaceGuard:
    """Watches the free space on the disk of one data folder, from `start` to `stop`."""

    def __init__(
        self, disk: Disk, clock: Clock, reserve_bytes: int, max_bytes: int, data_bytes: Callable[[], int]
    ) -> None:
        """`reserve_bytes`: space to keep free; -1 means 5 % of the file system, at most 1 GiB, and 0 none.
        `max_bytes`: limit on `data_bytes()`, the bytes of all segments; 0 means none."""
        self.rejection_reason: str | None = None
        """Why topics accept no events (disk full, or data limit reached); None if they accept them."""
        self.free_bytes = 0
        """Free bytes of the file system, at the last check."""
        self.capacity_bytes = 0
        """Size of the file system; 0: it does not report its size."""
        self.excess_bytes = 0
        """Bytes to delete so that neither the disk nor the data is nearly full; 0: neither is."""
        self.on_nearly_full: list[Callable[[], object]] = []
        """Called after each check that finds an excess."""
        self.on_full: list[Callable[[], object]] = []
        """Called when events begin to be rejected: whatever can free space should do so now."""
        self._disk = disk
        self._clock = clock
        self._configured_bytes = reserve_bytes
        self._max_bytes = max_bytes
        self._data_bytes = data_bytes
        self._warned_percent = self._data_warned_percent = 0
        self._check_failed = False
        self._has_ballast = False
        self._timer: Timer | None = None
        self._stopped = False

    @property
    def reserve_bytes(self) -> int:
        """Bytes that are kept free for everything but events of topics."""
        if self._configured_bytes >= 0:
            return self._configured_bytes
        return min(DEFAULT_RESERVE_BYTES_MAX, self.capacity_bytes * DEFAULT_RESERVE_PERCENT // 100)

    @property
    def used_percent(self) -> int:
        """Used part of the file system, as `df` shows it, rounded up; 0 if it does not report its size."""
        if self.capacity_bytes <= 0:
            return 0
        return -(-100 * (self.capacity_bytes - self.free_bytes) // self.capacity_bytes)

    def start(self) -> None:
        """Check now, and then once a second, or ten times a second while the disk is nearly full."""
        self._check_periodically()

    def stop(self) -> None:
        """Stop checking."""
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
        """Check now. If the file system cannot be checked, the result of the check before remains."""
        try:
            self.free_bytes, self.capacity_bytes = self._disk.free_bytes(), self._disk.capacity_bytes()
        except OSError as error:
            if not self._check_failed:
                log.error("the free space of the disk cannot be checked; the last result remains: %s", error)
            self._check_failed = True
            return
        self._check_failed = False
        self._warn()
        self.excess_bytes = self._excess()
        self._decide()
        if self.excess_bytes:
            for callback in self.on_nearly_full:
                callback()
        self._keep_ballast()

    def _keep_ballast(self) -> None:
        """Make the ballast while there is room. A later start may remove it when the disk is full."""
        needed_bytes = 2 * paths.BALLAST_BYTES + self.reserve_bytes
        if self._has_ballast or self._stopped or self.free_bytes < needed_bytes:
            return
        self._has_ballast = True
        if not self._disk.exists(paths.BALLAST):
            self._disk.zero_file(paths.BALLAST, paths.BALLAST_BYTES).then(self._on_ballast)

    def _on_ballast(self, made: Promise[None]) -> None:
        self._has_ballast = made.error is None  # else the next check tries again

    def _warn(self) -> None:
        if _crosses_mark(self.used_percent, self._warned_percent):
            log.warning(
                "the disk of the data folder is %d %% full: %s are free; topics accept no events below %s",
                self.used_percent, format_megabytes(self.free_bytes), format_megabytes(self.reserve_bytes),
            )  # fmt: skip
        self._warned_percent = _next_warned_percent(self.used_percent, self._warned_percent)
        if self._max_bytes > 0:
            percent = -(-100 * self._data_bytes() // self._max_bytes)
            if _crosses_mark(percent, self._data_warned_percent):
                log.warning(
                    "the data is at %d %% of its limit %s (data_max_bytes); topics accept no events above it",
                    percent, format_megabytes(self._max_bytes),
                )  # fmt: skip
            self._data_warned_percent = _next_warned_percent(percent, self._data_warned_percent)

    def _excess(self) -> int:
        excess = NEARLY_FULL_FACTOR * self.reserve_bytes - self.free_bytes
        if self._max_bytes > 0:
            excess = max(excess, self._data_bytes() - self._max_bytes * NEARLY_FULL_PERCENT // 100)
        return max(0, excess)

    def _decide(self) -> None:
        factor = RESUME_FACTOR if self.rejection_reason is not None else 1.0
        reason = None
        if self.free_bytes < self.reserve_bytes * factor:
            reason = (
                f"the disk is full: {format_megabytes(self.free_bytes)} are free, and"
                f" {format_megabytes(self.reserve_bytes)} are reserved for deletions and positions"
            )
        elif self._max_bytes > 0 and self._data_bytes() * factor > self._max_bytes:
            reason = f"the data has reached its limit of {format_megabytes(self._max_bytes)} (data_max_bytes)"
        previous, self.rejection_reason = self.rejection_reason, reason
        if reason is not None and previous is None:
            log.error("topics accept no events: %s; reading, deleting and committing still work", reason)
            for callback in self.on_full:
                callback()
        elif reason is None and previous is not None:
            log.warning("topics accept events again: %s are free", format_megabytes(self.free_bytes))


def _crosses_mark(percent: int, warned: int) -> bool:
    """Whether `percent` has reached a mark above the last one that was warned of."""
    return _highest_mark(percent) > warned


def _next_warned_percent(percent: int, warned: int) -> int:
    """The mark of the last warning from now on. It falls only when `percent` is clearly below it, so that
    small changes do not repeat a warning."""
    return _highest_mark(percent) if _crosses_mark(percent, warned) or percent < warned - 2 else warned


def _highest_mark(percent: int) -> int:
    return max((mark for mark in WARNING_PERCENTS if percent >= mark), default=0)


def format_megabytes(count: int) -> str:
    """Format a number of bytes as megabytes, for a message."""
    return f"{count / 1e6:,.1f} MB" if count < 10_000_000 else f"{count / 1e6:,.0f} MB"
