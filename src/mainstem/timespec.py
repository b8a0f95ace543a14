"""Times and places in a topic, as they are typed and shown.

Owns: `earliest`, `latest`, offsets, `-10m`, ISO 8601; ages such as `3 min`. All times are UTC where none is
said.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SECONDS_MAX = 100_000_000_000
"""A number smaller than this is seconds since 1970 (until the year 5138), a larger one milliseconds (from
1973)."""

_UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_RELATIVE = re.compile(r"-(?:\d+(?:ms|s|m|h|d|w))+")
_PART = re.compile(r"(\d+)(ms|[smhdw])")

START_POINT_FORMS = (
    "earliest, latest, an offset, a time (2013-06-01T12:00Z, UTC if none is said) or an age (-10m, -1h30m)"
)


@dataclass(frozen=True, slots=True)
class StartPoint:
    """A place to start or to end: `value` is an offset, or ms since 1970."""

    kind: Literal["earliest", "latest", "offset", "time"]
    value: int = 0


def parse_start_point(text: str, now_ms: int) -> StartPoint:
    """What `--from`, `--until` and `--to` take. ValueError says what they take."""
    if text == "earliest":
        return StartPoint("earliest")
    if text == "latest":
        return StartPoint("latest")
    if text.isascii() and text.isdigit():
        return StartPoint("offset", int(text))
    if _RELATIVE.fullmatch(text):
        age_ms = sum(int(number) * _UNITS_MS[unit] for number, unit in _PART.findall(text))
        return StartPoint("time", now_ms - age_ms)
    try:
        return StartPoint("time", parse_iso(text))
    except ValueError:
        raise ValueError(f"{text!r} is not {START_POINT_FORMS}") from None


def parse_iso(text: str) -> int:
    """ISO 8601 as ms since 1970; without an offset it is UTC. ValueError."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - EPOCH) // timedelta(milliseconds=1)


def parse_event_time(value: object) -> int:
    """An event's own time from a JSON value: ISO 8601, or a number of seconds or ms. ValueError says why
    not."""
    if isinstance(value, str):
        try:
            return parse_iso(value)
        except ValueError:
            raise ValueError(f"{value!r} is not an ISO 8601 time") from None
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0:
        return int(value * 1000) if value < SECONDS_MAX else int(value)
    raise ValueError(f"{value!r} is not a time")


def format_iso(time_ms: int) -> str:
    """`2013-01-01T10:00:00.000Z`; empty for an event without a time, digits for one that no calendar has."""
    if time_ms < 0:
        return ""
    try:
        moment = EPOCH + timedelta(milliseconds=time_ms)
    except OverflowError:
        return str(time_ms)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{time_ms % 1000:03d}Z"


def format_age(milliseconds: int) -> str:
    """A span for people, in the two digits that matter: `3 s`, `14 min`, `5 h`, `12 d`, `2.3 y`."""
    seconds = milliseconds / 1000
    for unit, length_s, below in (("s", 1, 120), ("min", 60, 120), ("h", 3600, 48), ("d", 86_400, 730)):
        if seconds < below * length_s:
            return f"{seconds / length_s:.0f} {unit}" if seconds >= 1 or not seconds else "< 1 s"
    return f"{seconds / 31_557_600:.1f} y"
