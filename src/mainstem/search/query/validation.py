"""What a parsed term must be to mean anything.

Owns: the errors that are no matter of grammar: a partition that is no number, a time that is none, an
expression that RE2 does not take. Used by `query` alone.
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
    """RE2 takes it, and it is not too long."""
    if len(pattern) > LENGTH_MAX:
        message = f"a regular expression has at most {LENGTH_MAX:,} characters"
        raise QueryError(message, column + LENGTH_MAX, len(pattern) - LENGTH_MAX)
    try:
        compiled(pattern)
    except ValueError as error:
        raise QueryError(f"not a regular expression that RE2 takes: {error}", column, len(pattern)) from None


def _ends_agree(test: Range, column: int, length: int) -> None:
    """Both ends are numbers, or both are text."""
    ends = [end for end in (test.low, test.high) if end is not None]
    if len({end.quoted or number_of(end.text) is None for end in ends}) == 2:
        message = "one end of the range is a number and the other is text (a number in quotes is text)"
        raise QueryError(message, column, length)


def check_test(target: TermTarget, test: Test, column: int, length: int) -> None:
    """The test can be made there."""
    match target.kind:
        case "text":
            _free(test, column, length)
        case "partition" | "offset":
            _whole_number(target.kind, test, column, length)
        case "time":
            _time(test, column, length)
        case "topic":
            if isinstance(test, Range):
                raise QueryError("topics have no order: give a name or a pattern (orders-*)", column, length)
        case "field" | "key" | "header":
            if isinstance(test, Range):
                _ends_agree(test, column, length)


def _free(test: Test, column: int, length: int) -> None:
    empty = (isinstance(test, Text) and not tokens(test.text)) or (
        isinstance(test, Glob) and not token_patterns(test.pattern)
    )
    if empty:
        message = "words are made of letters and digits, and here are none: use a regular expression, /.../"
        raise QueryError(message, column, length)


def _whole_number(name: str, test: Test, column: int, length: int) -> None:
    texts = []
    if isinstance(test, Text):
        texts = [test.text]
    elif isinstance(test, Range):
        texts = [end.text for end in (test.low, test.high) if end]
    if isinstance(test, Glob | Regex) or not all(WHOLE_NUMBER.fullmatch(text) for text in texts):
        raise QueryError(
            f"{name} takes a whole number or a range of them, as {name}:[0 TO 3]", column, length
        )


def _time(test: Test, column: int, length: int) -> None:
    if isinstance(test, Glob | Regex):
        raise QueryError(f"time takes {times.ACCEPTED_FORMS}, or a range of them", column, length)
    texts = []
    if isinstance(test, Text):
        texts = [test.text]
    elif isinstance(test, Range):
        texts = [end.text for end in (test.low, test.high) if end]
    for text in texts:
        try:
            span = times.parse_time(text, 0)
        except ValueError as error:
            raise QueryError(str(error), column, length) from None
        if isinstance(test, Text) and span.kind == "age":
            raise QueryError(f"no event is just that old: write time:>{text} or time:<{text}", column, length)
