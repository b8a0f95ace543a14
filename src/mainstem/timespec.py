"""Points of time and offsets as people type and read them.

Owns: parsing of `earliest`, `latest`, offsets, ages such as `-10m` and ISO 8601; formatting of times and
durations. A time without a UTC offset is UTC.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Literal

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SECONDS_MAX = 100_000_000_000
"""A smaller number is seconds since 1970 (until the year 5138), any other is milliseconds (from 1973)."""

TIME_MS_MAX = (1 << 63) - 1
"""The latest time that an event can have."""

_UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_RELATIVE = re.compile(r"-(?:\d+(?:ms|s|m|h|d|w))+")
_PART = re.compile(r"(\d+)(ms|[smhdw])")

_DIGITS = re.compile(r"[0-9]{16,19}")
"""Digits without a calendar's time; shorter ones may be ISO 8601 without dashes."""

START_POINT_FORMS = (
    "earliest, latest, an offset, a time (2013-06-01T12:00Z, UTC if none is said) or an age (-10m, -1h30m)"
)


@dataclass(frozen=True, slots=True)
class StartPoint:
    """A point of a topic at which reading starts or ends. `value` is an offset, or ms since 1970."""

    kind: Literal["earliest", "latest", "offset", "time"]
    value: int = 0


def parse_start_point(text: str, now_ms: int) -> StartPoint:
    """Parse the value of `--from`, `--until` or `--to`. ValueError lists the accepted forms."""
    if text == "earliest":
        return StartPoint("earliest")
    if text == "latest":
        return StartPoint("latest")
    if text.isascii() and text.isdigit():
        return StartPoint("offset", int(text))
    if _RELATIVE.fullmatch(text):
        return StartPoint("time", now_ms - parse_duration_ms(text[1:]))
    try:
        return StartPoint("time", parse_iso(text))
    except ValueError:
        raise ValueError(f"{text!r} is not {START_POINT_FORMS}") from None


def parse_duration_ms(text: str) -> int:
    """Parse a duration such as `30s`, `500ms` or `1h30m` to ms. ValueError says what is accepted."""
    if not _RELATIVE.fullmatch(f"-{text}"):
        raise ValueError(f"{text!r} is not a duration; write 500ms, 30s, 5m, 1h30m or 2d")
    return sum(int(number) * _UNITS_MS[unit] for number, unit in _PART.findall(text))


def parse_iso(text: str) -> int:
    """Parse ISO 8601 to ms since 1970. A time without a UTC offset is UTC. Digits as `format_iso` gives them,
    for a time that no calendar has, are ms since 1970. ValueError."""
    if _DIGITS.fullmatch(text) and int(text) <= TIME_MS_MAX:
        return int(text)
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        time = time.replace(tzinfo=UTC)
    return (time - EPOCH) // timedelta(milliseconds=1)


def parse_event_time(value: object) -> int:
    """Parse an event's own time, ms since 1970, from a JSON value: ISO 8601, or a number of seconds or ms.
    ValueError says what is wrong with it."""
    if isinstance(value, str):
        try:
            time_ms = parse_iso(value)
        except ValueError:
            raise ValueError(f"{value!r} is not an ISO 8601 time") from None
        if time_ms < 0:
            raise ValueError(f"{value!r} is before 1970")
        return time_ms
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0:
        time_ms = int(value * 1000) if value < SECONDS_MAX else int(value)
        if time_ms <= TIME_MS_MAX:
            return time_ms
    raise ValueError(f"{value!r} is not a time")


def format_iso(time_ms: int) -> str:
    """Format as `2013-01-01T10:00:00.000Z`; as an empty string for an event without a time (-1); as digits
    for a time that no calendar has."""
    if time_ms < 0:
        return ""
    second = _format_second(time_ms // 1000)
    return f"{second}.{time_ms % 1000:03d}Z" if second else str(time_ms)


@lru_cache(maxsize=4_096)
def _format_second(time_s: int) -> str:
    """A time without its fraction; empty for one that no calendar has. Many of the events that are shown
    together are of the same second."""
    try:
        return f"{EPOCH + timedelta(seconds=time_s):%Y-%m-%dT%H:%M:%S}"
    except OverflowError:
        return ""


def format_age(duration_ms: int) -> str:
    """Format a duration with about two digits: `3 s`, `14 min`, `5 h`, `12 d`, `2.3 y`."""
    seconds = duration_ms / 1000
    for unit, unit_s, units_max in (("s", 1, 120), ("min", 60, 120), ("h", 3600, 48), ("d", 86_400, 730)):
        if seconds < units_max * unit_s:
            return f"{seconds / unit_s:.0f} {unit}" if seconds >= 1 or not seconds else "< 1 s"
    return f"{seconds / 31_557_600:.1f} y"
