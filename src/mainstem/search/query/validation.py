"""Checks parsed terms for mistakes that the grammar does not exclude.

Examples: a partition that is not a number, a time that cannot be parsed, an expression that RE2 rejects.
"""

from __future__ import annotations

import re

from mainstem.search.query import times
from mainstem.search.query.ast import Glob, Range, Regex, TermTarget, Test, Text
from mainstem.search.query.errors import QueryError
from mainstem.search.text.freetext import token_patterns
from mainstem.search.text.numbers import number_of
from mainstem.search.text.regex import LENGTH_MAX, compiled
from mainstem.search.text.tokens import tokens

WHOLE_NUMBER = re.compile(r"[0-9]{1,19}")


def check_regex(pattern: str, column: int) -> None:
    """Raise QueryError if RE2 rejects the expression or it is longer than LENGTH_MAX."""
    if len(pattern) > LENGTH_MAX:
        message = f"a regular expression has at most {LENGTH_MAX:,} characters"
        raise QueryError(message, column + LENGTH_MAX, len(pattern) - LENGTH_MAX)
    try:
        compiled(pattern)
    except ValueError as error:
        raise QueryError(f"RE2 rejects this regular expression: {error}", column, len(pattern)) from None


def _check_ends_agree(test: Range, column: int, length: int) -> None:
    """Raise QueryError if one end is a number and the other is text."""
    ends = [end for end in (test.low, test.high) if end is not None]
    if len({end.quoted or number_of(end.text) is None for end in ends}) == 2:
        message = "one end of the range is a number and the other is text (a number in quotes is text)"
        raise QueryError(message, column, length)


def check_test(target: TermTarget, test: Test, column: int, length: int) -> None:
    """Raise QueryError if this part of an event cannot be tested so, such as `topic` with a range."""
    match target.kind:
        case "text":
            _check_free_text(test, column, length)
        case "partition" | "offset":
            _check_whole_number(target.kind, test, column, length)
        case "time":
            _check_time(test, column, length)
        case "topic":
            if isinstance(test, Range):
                raise QueryError("topics have no order: give a name or a pattern (orders-*)", column, length)
        case "field" | "key" | "header":
            if isinstance(test, Range):
                _check_ends_agree(test, column, length)


def _check_free_text(test: Test, column: int, length: int) -> None:
    empty = (isinstance(test, Text) and not tokens(test.text)) or (
        isinstance(test, Glob) and not token_patterns(test.pattern)
    )
    if empty:
        message = "words are made of letters and digits; for other characters use a regular expression, /.../"
        raise QueryError(message, column, length)


def _check_whole_number(name: str, test: Test, column: int, length: int) -> None:
    texts = []
    if isinstance(test, Text):
        texts = [test.text]
    elif isinstance(test, Range):
        texts = [end.text for end in (test.low, test.high) if end]
    if isinstance(test, Glob | Regex) or not all(WHOLE_NUMBER.fullmatch(text) for text in texts):
        raise QueryError(
            f"{name} takes a whole number or a range of them, as {name}:[0 TO 3]", column, length
        )


def _check_time(test: Test, column: int, length: int) -> None:
    if isinstance(test, Glob | Regex):
        raise QueryError(f"time takes {times.ACCEPTED_FORMS}, or a range of them", column, length)
    texts = []
    if isinstance(test, Text):
        texts = [test.text]
    elif isinstance(test, Range):
        texts = [end.text for end in (test.low, test.high) if end]
    for text in texts:
        try:
            interval = times.parse_time(text, 0)
        except ValueError as error:
            raise QueryError(str(error), column, length) from None
        if isinstance(test, Text) and interval.kind == "age":
            message = f"an age is a single instant: write time:>{text} or time:<{text}"
            raise QueryError(message, column, length)
