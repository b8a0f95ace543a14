"""What all pushed subscriptions share: requests that are under way, and the bytes of their events.

Owns: how much of it one subscription may take: half of what is left, and a single request always. So an
endpoint that hangs with many requests leaves room for the others. Refuses: to queue; each subscription asks
again when something has ended.
"""

from __future__ import annotations

REQUESTS_MAX = 500
BYTES_MAX = 64 << 20


class PushLimits:
    """Counts what is under way, of all subscriptions."""

    def __init__(self, requests_max: int = REQUESTS_MAX, bytes_max: int = BYTES_MAX) -> None:
        self._requests_left = requests_max
        self._bytes_left = bytes_max

    def events_for(self, in_flight: int) -> int:
        """How many further events a subscription may have that has `in_flight`."""
        return max(self._requests_left // 2, 0 if in_flight else 1)

    def bytes_for(self, in_flight: int) -> int:
        """How many bytes further events may have, where one may have more; 0: there may be none."""
        return max(self._bytes_left // 2, 0 if in_flight else 1)

    def take(self, size: int) -> None:
        """An event of `size` bytes is under way."""
        self._requests_left -= 1
        self._bytes_left -= size

    def release(self, size: int) -> None:
        """It ended."""
        self._requests_left += 1
        self._bytes_left += size
