"""Exact values of numbers, so that 100, 100.0 and 1e2 are equal.

Only JSON's spelling counts as a number. Values are `int` or `Decimal`, never binary floating point: there 0.1
is not a tenth, and different large numbers are equal.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TypeAlias

Number: TypeAlias = int | Decimal

NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,999})(?:\.[0-9]{1,1000})?(?:[eE][+-]?[0-9]{1,5})?")
"""JSON's grammar with a bounded length. A longer number has no value; it is compared as text only."""
_PLAIN_DIGITS = 15
"""A whole number of at most this many digits, below PLAIN_END, is its own canonical spelling."""
PLAIN_END = 10**_PLAIN_DIGITS


class SpelledNumber(str):
    """A JSON number with a decimal point or an exponent, kept as the text in the payload: 1.50 stays "1.50".
    It marks the text as a number, because a JSON string is a plain `str`."""

    __slots__ = ()


def number_of(text: str) -> Number | None:
    """The exact value of a text that is a JSON number within the limits of NUMBER; None for other texts."""
    if not NUMBER.fullmatch(text):
        return None
    if text.isdigit() or text[1:].isdigit():
        return int(text)
    return Decimal(text)


def canonical(number: int | SpelledNumber) -> str | None:
    """The spelling that all spellings of the same value share: `15`, `-2`, `123e-2`, `1e400`. None: the
    number has no value, because it is longer than NUMBER permits."""
    if type(number) is int and -PLAIN_END < number < PLAIN_END:
        return str(number)
    spelling = str(number)
    if not NUMBER.fullmatch(spelling):
        return None
    mantissa, _, exponent_text = spelling.lower().partition("e")
    sign = "-" if mantissa.startswith("-") else ""
    whole, _, fraction = mantissa.removeprefix("-").partition(".")
    digits = (whole + fraction).lstrip("0")
    significant = digits.rstrip("0")
    if not significant:
        return "0"
    exponent = int(exponent_text or 0) - len(fraction) + len(digits) - len(significant)
    if exponent >= 0 and len(significant) + exponent <= _PLAIN_DIGITS:
        return sign + significant + "0" * exponent
    return f"{sign}{significant}e{exponent}"
