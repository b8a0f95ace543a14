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
