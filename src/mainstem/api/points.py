"""Points of time as programs give them: a datetime, an age, or the words of the search.

Owns: their conversion to milliseconds since 1970. Refuses: numbers, which could be seconds, milliseconds or
an age; and times without a zone, which mean another moment on another machine.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TypeAlias

from mainstem.contract import InvalidArgument
from mainstem.timespec import EPOCH, TIME_MS_MAX, parse_duration_ms, parse_iso

When: TypeAlias = datetime | timedelta | str
"""A datetime with a time zone; a timedelta: this long ago; text: `2h`, `1d12h` (an age) or ISO 8601, which is
UTC if it names no zone."""

DELAY_S_MAX = 7 * 86_400.0
"""The longest delay of an event."""


def point_ms(when: When, now_ms: int) -> int:
    """Milliseconds since 1970. InvalidArgument: it is no point of time; TypeError: it is of another type."""
    if isinstance(when, datetime):
        if when.tzinfo is None:
            raise InvalidArgument(f"{when.isoformat()} has no time zone: say which one, such as timezone.utc")
        return (when - EPOCH) // timedelta(milliseconds=1)
    if isinstance(when, timedelta):
        return now_ms - when // timedelta(milliseconds=1)
    if not isinstance(when, str):
        raise TypeError(f"a time is a datetime, a timedelta or text, not {type(when).__name__}")
    try:
        return now_ms - parse_duration_ms(when.removeprefix("-"))
    except ValueError:
        pass
    try:
        return parse_iso(when)
    except ValueError:
        raise InvalidArgument(f"{when!r} is no time: write 2h, 1d12h or 2026-11-01T12:00Z") from None


def event_time_ms(time: datetime | None) -> int | None:
    """The time of an event to publish. InvalidArgument: it is before 1970 or has no zone."""
    if time is None:
        return None
    time_ms = point_ms(time, 0)
    if not 0 <= time_ms <= TIME_MS_MAX:
        raise InvalidArgument(f"an event cannot have the time {time.isoformat()}: it is before 1970")
    return time_ms


def delay_ms(delay: float | timedelta) -> int:
    """A delay in milliseconds. InvalidArgument: it is negative or over 7 days."""
    seconds = delay.total_seconds() if isinstance(delay, timedelta) else float(delay)
    if not 0 <= seconds <= DELAY_S_MAX:
        raise InvalidArgument(f"a delay of {seconds:g} seconds is not 0 to {DELAY_S_MAX:g} (7 days)")
    return round(seconds * 1000)


def duration_s(duration: float | timedelta) -> float:
    """Seconds."""
    return duration.total_seconds() if isinstance(duration, timedelta) else float(duration)
