"""Tests of one value: equality, glob patterns, regular expressions, ranges.

Owns: what `field:value` means for each type of JSON value and for the text of keys and headers;
docs/SEARCH.md explains it to users. Refuses: to find the value in an event (`event_view.py`), and free text
(`text/freetext.py`).

- Equality: the case-folded texts of scalar and query are equal. JSON numbers are also equal by value, unless
  the query's number is in quotes. `null` without quotes also matches JSON's null; in quotes it is only text.
- Patterns and expressions test the text of strings, numbers and booleans: patterns its case-folded form,
  expressions the exact one.
- A range with number ends contains numbers and texts spelled as numbers. A range with other ends contains
  strings, case-folded, in the order of their code points. No range contains null.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from mainstem.search.query.ast import Bound, Exists, Glob, Range, Regex, Test, Text
from mainstem.search.text import globs
from mainstem.search.text.numbers import Number, SpelledNumber, number_of
from mainstem.search.text.regex import finder
from mainstem.search.text.tokens import Scalar, scalar_text

ScalarTest: TypeAlias = Callable[[Scalar], bool]
TextTest: TypeAlias = Callable[[str], bool]


def scalar_test(test: Test) -> ScalarTest:
    """Returns a function that tests a JSON scalar as `payload.decode_for_matching` returns it."""
    match test:
        case Text():
            return _equality(test)
        case Range():
            return _range(test)
        case Exists():
            return lambda scalar: scalar is not None
        case Glob() | Regex():
            text_passes = text_test(test)
            return lambda scalar: scalar is not None and text_passes(scalar_text(scalar))


def text_test(test: Test) -> TextTest:
    """Returns a function that tests the text of a key or of a header's value."""
    match test:
        case Text(text):
            folded = text.casefold()
            return lambda text: text.casefold() == folded
        case Glob(pattern):
            glob = globs.glob_test(globs.fold(pattern))
            return lambda text: glob(text.casefold())
        case Regex(pattern):
            return finder(pattern)
        case Range():
            return _range(test)
        case Exists():
            return lambda text: True


def is_null_test(test: Test) -> bool:
    """Whether a null field, an absent key or a header without value passes the test: only for `null` without
    quotes."""
    return isinstance(test, Text) and not test.quoted and test.text.casefold() == "null"


def _equality(test: Text) -> ScalarTest:
    folded = test.text.casefold()
    number = None if test.quoted else number_of(test.text)
    matches_null = is_null_test(test)

    def equal(scalar: Scalar) -> bool:
        kind = type(scalar)
        if kind is str:
            return scalar.casefold() == folded  # type: ignore[union-attr]  # it is a str
        if scalar is None:
            return matches_null
        if number is not None:
            if kind is int:
                return scalar == number
            if kind is SpelledNumber and number_of(scalar_text(scalar)) == number:
                return True
        return scalar_text(scalar).casefold() == folded

    return equal


def _range(test: Range) -> ScalarTest:
    if test.low is None and test.high is None:
        return lambda scalar: scalar is not None
    some_end = test.low or test.high
    assert some_end is not None
    if some_end.quoted or number_of(some_end.text) is None:
        return _text_range(test)
    return _number_range(test)


def _number_range(test: Range) -> ScalarTest:
    low, low_inclusive = _number_end(test.low)
    high, high_inclusive = _number_end(test.high)

    def within(scalar: Scalar) -> bool:
        value: Number | None
        kind = type(scalar)
        if kind is int:
            value = scalar  # type: ignore[assignment]  # it is an int, and no bool
        elif kind is SpelledNumber or kind is str:
            value = number_of(scalar)  # type: ignore[arg-type]  # it is a str
            if value is None:
                return False
        else:
            return False
        if low is not None and not (value >= low if low_inclusive else value > low):  # type: ignore[operator]
            return False
        return high is None or (value <= high if high_inclusive else value < high)  # type: ignore[operator]

    return within


def _number_end(bound: Bound | None) -> tuple[Number | None, bool]:
    return (number_of(bound.text), bound.inclusive) if bound else (None, True)


def _text_range(test: Range) -> ScalarTest:
    low, high = test.low, test.high
    low_text = low.text.casefold() if low else ""
    high_text = high.text.casefold() if high else ""

    def within(scalar: Scalar) -> bool:
        if type(scalar) is not str:
            return False
        text = scalar.casefold()
        if low is not None and not (text >= low_text if low.inclusive else text > low_text):
            return False
        return high is None or (text <= high_text if high.inclusive else text < high_text)

    return within
