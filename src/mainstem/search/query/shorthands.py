"""Words of free text that mean more than their tokens: comparisons, dates, times of day, addresses.

Owns: which words these are, and what they find besides their text. `level>=3` finds the text, and the events
with such a field. A date finds the times of that day, which begin with it; a time of day finds the times that
end with it. Addresses and ARNs have colons and are text. Refuses: words with quotes or escapes: they are
only text.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_COMPARISON = re.compile(r"(?P<name>[^\W\d][\w.@-]*)(?P<operator>>=|<=|!=|==|=|>|<)(?P<value>[^=<>~].*)")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TIME_OF_DAY = re.compile(r"[0-9]{1,2}:[0-9]{2}(:[0-9]{2}([.,][0-9]+)?)?")
_DATE_AND_TIME = re.compile(
    _DATE.pattern + r"[Tt]" + _TIME_OF_DAY.pattern + r"([Zz]|[+-][0-9]{2}:?[0-9]{2})?"
)
_GROUPS = r"[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4})+(?:[0-9]{0,3}(?:\.[0-9]{1,3}){3})?(?:%\w+)?"
_ADDRESS = re.compile(rf"{_GROUPS}(?:/[0-9]{{1,3}})?|\[{_GROUPS}\](?::[0-9]+)?")
"""An IPv6 address, perhaps with a zone, a prefix length or a port, or a MAC address."""
_COLONS_MIN = 5
"""Colons of an address without `::`: a MAC address has five, an IPv6 address seven."""
_NAME_WITH_COLONS = re.compile(r"(?:arn:[\w-]+:[\w-]+:|urn:[A-Za-z0-9][\w-]*:)\S*")


class ComparisonWord(NamedTuple):
    """A word such as `level>=3`."""

    name: str
    operator: str
    value: str


def comparison(word: str) -> ComparisonWord | None:
    """The parts of a comparison; None: the word is none."""
    match = _COMPARISON.fullmatch(word)
    return None if match is None else ComparisonWord(match["name"], match["operator"], match["value"])


def is_text_with_colons(word: str) -> bool:
    """Whether a word is text although what is before its first colon looks like the name of a field."""
    if _TIME_OF_DAY.fullmatch(word) or _DATE_AND_TIME.fullmatch(word) or _NAME_WITH_COLONS.fullmatch(word):
        return True
    return _ADDRESS.fullmatch(word) is not None and ("::" in word or word.count(":") >= _COLONS_MIN)


def patterns(word: str) -> tuple[str, ...]:
    """Patterns of free text that a date or a time finds besides its own tokens: in 2013-06-01T10:15:30Z, the
    day and the hour are one token."""
    if _DATE.fullmatch(word):
        return (f"{word}T*",)
    if _TIME_OF_DAY.fullmatch(word):
        return f"*T{word}", f"*T{word}Z"
    if _DATE_AND_TIME.fullmatch(word) and word[-1].isdigit():
        return (f"{word}Z",)
    return ()
