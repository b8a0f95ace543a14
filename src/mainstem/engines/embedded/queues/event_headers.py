"""What events say of their own delivery, in headers: until when, and how urgent it is.

Owns: reading these headers. Refuses: errors: one that cannot be read is an ordinary header of its publisher.
"""

from __future__ import annotations

from mainstem.contract import Event

PRIORITY_HEADER = "priority"
"""Header with the priority of an event, as text."""
PRIORITY_DEFAULT, PRIORITY_MAX = 4, 9
EXPIRES_HEADER = "expires-at"
"""Header with the time from which an event is not delivered, ms since 1970, as text."""


def is_over(event: Event, now_ms: int) -> bool:
    """Whether an event says that it is not to be delivered any more. What is no number does not count."""
    for name, value in event.headers:
        if name == EXPIRES_HEADER and value is not None and value.isdigit() and len(value) < 20:
            return int(value) <= now_ms
    return False


def priority_of(event: Event) -> int:
    """The priority of an event, 0 to 9: PRIORITY_DEFAULT if it has none that can be read; what is above 9
    counts as 9."""
    for name, value in event.headers:
        if name == PRIORITY_HEADER and value is not None and value.isdigit() and len(value) < 10:
            return min(int(value), PRIORITY_MAX)
    return PRIORITY_DEFAULT
