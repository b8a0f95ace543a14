"""The times that events themselves name, in headers.

Owns: reading these headers. Refuses: errors: one that cannot be read is an ordinary header of its publisher.
"""

from __future__ import annotations

from mainstem.contract import Event

EXPIRES_HEADER = "expires-at"
"""Header with the time from which an event is not delivered, ms since 1970, as text."""


def is_over(event: Event, now_ms: int) -> bool:
    """Whether an event says that it is not to be delivered any more. What is no number does not count."""
    for name, value in event.headers:
        if name == EXPIRES_HEADER and value is not None and value.isdigit() and len(value) < 20:
            return int(value) <= now_ms
    return False
