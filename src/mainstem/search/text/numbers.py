"""Numbers by value: 100, 100.0 and 1e2 are one number.

Owns: what is a number (JSON's spelling, no other) and its exact value. Refuses: binary floating point, in
which 0.1 is not a tenth and large numbers that differ are equal.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TypeAlias

Number: TypeAlias = int | Decimal

NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,999})(?:\.[0-9]{1,1000})?(?:[eE][+-]?[0-9]{1,5})?")
"""JSON's grammar, bounded: a longer one has no value here and is compared as text alone."""


class SpelledNumber(str):
    """A number of a JSON payload with a point or an exponent, as it stands there."""

    __slots__ = ()


def number_of(text: str) -> Number | None:
    """The value of a text that is spelled as a JSON number, exactly; None for any other text."""
    if not NUMBER.fullmatch(text):
        return None
    if text.isdigit() or text[1:].isdigit():
        return int(text)
    return Decimal(text)
