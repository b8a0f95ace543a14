"""Parses the times in a query: `2013-06-01`, `2013-06-01T10:00Z`, `-2d`, `now`.

Owns: the accepted forms of a time, and the interval that each of them means. Refuses: to read a clock; the
current time is an argument. A time without an offset from UTC is UTC.

A date is the whole day, and a month or year likewise. So `[2013-06-01 TO 2013-06-02]` is two days, and
`>2013-06-01` begins on the next day. A time of day is an instant at the end of a range. Alone it is the whole
minute or second: `time:2013-06-01T10:00` is that minute.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import msgspec

from mainstem.search.query.ast import Range, Test, Text

ACCEPTED_FORMS = (
    "a date (2013-06-01), a time (2013-06-01T10:00, UTC without an offset), an age (-2d, -1h30m) or now"
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_AGE = re.compile(r"-(?:[0-9]{1,12}(?:ms|s|m|h|d|w))+", re.IGNORECASE)
_PART = re.compile(r"([0-9]+)(ms|[smhdw])", re.IGNORECASE)
_DATE = re.compile(r"([0-9]{4})(?:-([0-9]{2})(?:-([0-9]{2}))?)?")
_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}(?P<second>:[0-9]{2}(?P<part>\.[0-9]{1,9})?)?(?:Z|[+-][0-9]{2}:?[0-9]{2})?",
    re.IGNORECASE,
)
_EPOCH_DIGITS = re.compile(r"[0-9]{9,15}")
_SECONDS_BELOW = 100_000_000_000
"""A smaller number is seconds since 1970, a larger one milliseconds, as on the command line."""


class TimeInterval(msgspec.Struct, frozen=True):
    """The interval that a time denotes, in ms since 1970."""

    from_ms: int
    to_ms: int
    """Exclusive."""
    kind: str
    """`date`, `time` or `age`."""


def parse_time(text: str, now_ms: int) -> TimeInterval:
    """The interval that one time in a query denotes. Raises ValueError, whose message lists the accepted
    forms."""
    try:
        return _parse(text, now_ms)
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} is not {ACCEPTED_FORMS}") from None


def _parse(text: str, now_ms: int) -> TimeInterval:
    if text.lower() == "now":
        return TimeInterval(now_ms, now_ms + 1, "age")
    if _AGE.fullmatch(text):
        begin = now_ms - sum(int(number) * _UNITS_MS[unit.lower()] for number, unit in _PART.findall(text))
        return TimeInterval(begin, begin + 1, "age")
    if _EPOCH_DIGITS.fullmatch(text):
        begin = int(text) * (1_000 if int(text) < _SECONDS_BELOW else 1)
        return TimeInterval(begin, begin + 1, "time")
    if date := _DATE.fullmatch(text):
        year, month, day = (int(part) if part else 0 for part in date.groups())
        first = datetime(year, month or 1, day or 1, tzinfo=UTC)
        if day:
            after = first + timedelta(days=1)
        else:
            after = datetime(
                year + (not month or month == 12), (month % 12 + 1) if month else 1, 1, tzinfo=UTC
            )
        return TimeInterval(_ms(first), _ms(after), "date")
    if time := _TIME.fullmatch(text):
        instant = datetime.fromisoformat(text.upper())
        begin = _ms(instant if instant.tzinfo else instant.replace(tzinfo=UTC))
        length = 1 if time["part"] else 1_000 if time["second"] else 60_000
        return TimeInterval(begin, begin + length, "time")
    raise ValueError(text)


def _ms(instant: datetime) -> int:
    return (instant - _EPOCH) // timedelta(milliseconds=1)


def time_bounds(test: Test, now_ms: int) -> tuple[int | None, int | None]:
    """The bounds of a time or a range of times, in ms: from, and to (exclusive). None is open. Raises
    ValueError."""
    begin = end = None
    if isinstance(test, Text):
        interval = parse_time(test.text, now_ms)
        return interval.from_ms, interval.to_ms
    assert isinstance(test, Range), "a test of time is a Text or a Range"
    if test.low:
        low = parse_time(test.low.text, now_ms)
        if test.low.inclusive:
            begin = low.from_ms
        else:
            begin = low.to_ms if low.kind == "date" else low.from_ms + 1
    if test.high:
        high = parse_time(test.high.text, now_ms)
        if not test.high.inclusive:
            end = high.from_ms
        else:
            end = high.to_ms if high.kind == "date" else high.from_ms + 1
    return begin, end
