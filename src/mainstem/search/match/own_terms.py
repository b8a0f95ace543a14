"""The field values that a query itself asks for, which say nothing new about its matches.

Owns: leaving them out where values are ranked: of the matches of `carrier:UA`, all have the carrier UA.
Refuses: to test events (`matcher.py`).
"""

from __future__ import annotations

from collections.abc import Callable

from mainstem.search.match.matcher import between, free_text_test, terms
from mainstem.search.match.values import is_null_test, scalar_test, text_test
from mainstem.search.query.ast import Term, Test, Text
from mainstem.search.query.format import format_target
from mainstem.search.query.necessary_terms import number_bounds
from mainstem.search.query.parser import parse
from mainstem.search.text.numbers import SpelledNumber, number_of

ValueTest = Callable[[str], bool]


class OwnTerms:
    """The terms of one or several queries, as tests of the values that facets show."""

    def __init__(self, *queries: str) -> None:
        """Raises QueryError."""
        self.fields: set[str] = set()
        """The names of the fields that the queries test."""
        self._named: dict[str, list[ValueTest]] = {}
        self._tested: dict[str, list[ValueTest]] = {}
        for term in (term for query in queries for term in terms(parse(query))):
            name = format_target(term.target) if term.target.kind != "text" else ""
            test = _value_test(term)
            self._tested.setdefault(name, []).append(test)
            if isinstance(term.test, Text):
                self._named.setdefault(name, []).append(test)
        self.fields.update(name for name in self._tested if name)

    def may_name(self, field: str) -> bool:
        """Whether a query may name some value of the field."""
        return field in self._named or "" in self._named

    def names(self, field: str, value: str) -> bool:
        """Whether a query names this value of the field, as `carrier:UA` and the word `ua` do."""
        return _any_passes(self._named, field, value)

    def tests(self, field: str, value: str) -> bool:
        """Whether a test of a query passes this value of the field, as `dep_delay:>120` does 121."""
        return _any_passes(self._tested, field, value)


def _any_passes(tests: dict[str, list[ValueTest]], field: str, value: str) -> bool:
    return any(test(value) for test in (*tests.get(field, ()), *tests.get("", ())))


def _value_test(term: Term) -> ValueTest:
    test = term.test
    match term.target.kind:
        case "text":
            return free_text_test(test)
        case "field":
            return _field_test(test)
        case "partition" | "offset":
            within = between(number_bounds(test))
            return lambda value: within(int(value))
        case "time":
            return lambda value: False
        case _:
            return text_test(test)


def _field_test(test: Test) -> ValueTest:
    """A test of a value's text, which was a string or a number."""
    passes = scalar_test(test)
    passes_null = is_null_test(test)
    return lambda value: (
        passes(value)
        or (number_of(value) is not None and passes(SpelledNumber(value)))
        or (passes_null and value == "null")
    )
