"""What events say of their own delivery, in headers: from when, until when, and how urgent it is.

Owns: reading these headers. Refuses: errors: one that cannot be read is an ordinary header of its publisher.
"""

from __future__ import annotations

from collections.abc import Sequence

PRIORITY_HEADER = "priority"
"""Header with the priority of an event, as text."""
PRIORITY_DEFAULT, PRIORITY_MAX = 4, 9
LEVEL_MAX = 255
"""The highest level of a queue that has some."""
EXPIRES_HEADER = "expires-at"
"""Header with the time from which an event is not delivered, ms since 1970, as text."""

NOT_BEFORE_HEADER = "mainstem-not-before"
"""Header with the time before which an event is not delivered, ms since 1970, as text."""

EventHeaders = Sequence[tuple[str, bytes | None]]


def expiry_of(headers: EventHeaders) -> int:
    """The time from which an event is not to be delivered any more, ms since 1970; 0: it does not say so.
    What is no number does not count."""
    for name, value in headers:
        if name == EXPIRES_HEADER and value is not None and value.isdigit() and len(value) < 20:
            return max(1, int(value))
    return 0


def not_before_of(headers: EventHeaders) -> int:
    """The time before which an event is not to be delivered, ms since 1970; 0: it does not say so. What is no
    number of at most 15 digits does not count."""
    for name, value in headers:
        if name == NOT_BEFORE_HEADER and value is not None and value.isdigit() and len(value) < 16:
            return int(value)
    return 0


def priority_of(headers: EventHeaders) -> int:
    """The priority of an event, 0 to 9: PRIORITY_DEFAULT if it has none that can be read; what is above 9
    counts as 9."""
    return min(_given_priority(headers, PRIORITY_DEFAULT), PRIORITY_MAX)


def level_of(headers: EventHeaders) -> int:
    """The priority of an event for queues that have levels, 0 to LEVEL_MAX: 0 if it has none that can be
    read; what is above LEVEL_MAX counts as that."""
    return min(_given_priority(headers, 0), LEVEL_MAX)


def _given_priority(headers: EventHeaders, default: int) -> int:
    for name, value in headers:
        if name == PRIORITY_HEADER and value is not None and value.isdigit() and len(value) < 10:
            return int(value)
    return default
