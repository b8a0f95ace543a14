"""Logs warnings about clients, limited in rate: a flood of bad clients must not fill the log.

Owns: when each kind of warning was logged last, how many were suppressed since, and the count of each kind.
"""

from __future__ import annotations

import logging

from mainstem.clock import Clock

WARNING_INTERVAL_SECONDS = 10.0
"""At most one line of each kind in this time."""
KIND = "warning_kind"
"""Attribute of a record: the kind of the warning."""


class WarningLog:
    """The warnings of one door."""

    __slots__ = ("_clock", "_last", "_logger", "counts")

    def __init__(self, clock: Clock, logger: logging.Logger) -> None:
        self._clock = clock
        self._logger = logger
        self._last: dict[str, tuple[float, int, str]] = {}
        """By kind: when a line was logged, how many were suppressed since, the text of the last of them."""
        self.counts: dict[str, int] = {}
        """How often each kind of warning occurred, logged or not."""

    def warn(self, kind: str, text: str) -> None:
        """Log one line, at most one of each kind in 10 s. The next one, or `log_suppressed`, says how many
        were left out."""
        self.counts[kind] = self.counts.get(kind, 0) + 1
        now = self._clock.monotonic()
        last, suppressed, _ = self._last.get(kind, (now - WARNING_INTERVAL_SECONDS, 0, ""))
        if now - last < WARNING_INTERVAL_SECONDS:
            self._last[kind] = (last, suppressed + 1, text)
            return
        self._last[kind] = (now, 0, "")
        self._write(kind, text, suppressed)

    def log_suppressed(self) -> None:
        """Log the warnings that were suppressed more than 10 s ago and that no later line has counted. To be
        called every few seconds."""
        now = self._clock.monotonic()
        for kind, (last, suppressed, text) in list(self._last.items()):
            if now - last >= WARNING_INTERVAL_SECONDS:
                del self._last[kind]
                if suppressed:
                    self._last[kind] = (now, 0, "")
                    self._write(kind, text, suppressed - 1)

    def _write(self, kind: str, text: str, more: int) -> None:
        """Log `text`, which is a sentence of ours: unlike an argument it is not cut as a client's value."""
        line = text + f" ({more} more like it)" if more else text
        self._logger.warning(line, extra={KIND: kind})
