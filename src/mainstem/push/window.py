"""How many requests an endpoint gets at once: more while it succeeds, fewer when it fails.

Owns: the size of the window, which starts at 1, and the pause of an endpoint that fails by itself. It follows
the slow start of TCP (RFC 5681), as the push of Google Pub/Sub does: the window doubles in each round of
successes up to the size at which a failure was met, and grows by 1 a round from there on. Refuses: a clock.
"""

from __future__ import annotations

PAUSE_S_MIN = 0.1
PAUSE_S_MAX = 30.0


class PushWindow:
    """The window of one endpoint."""

    def __init__(self, maximum: int) -> None:
        self.maximum = maximum
        self.pause_s = 0.0
        """How long to send nothing, after the latest failure."""
        self.round = 0
        """Of a request: whether it was sent before the window shrank last."""
        self._size = 1.0
        self._threshold = float(maximum)

    @property
    def size(self) -> int:
        """Requests that may be under way, 1 or more."""
        return max(1, min(self.maximum, int(self._size)))

    def succeeded(self) -> None:
        """A request was answered with success."""
        self.pause_s = 0.0
        step = 1.0 if self._size < self._threshold else 1.0 / self._size
        self._size = min(float(self.maximum), self._size + step)

    def failed(self, sent_in: int) -> None:
        """A request failed that was sent in that round. Those that were under way when one failed are one
        failure together."""
        if sent_in != self.round:
            return
        self.round += 1
        if self.size == 1:
            self.pause_s = min(PAUSE_S_MAX, max(PAUSE_S_MIN, 2 * self.pause_s))
        self._size = max(1.0, min(self._size, self.maximum) / 2)
        self._threshold = max(2.0, self._size)
