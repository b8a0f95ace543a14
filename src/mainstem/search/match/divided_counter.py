"""Counts the values of the events that match a query, and those of all other events, apart.

Owns: decoding each payload once for both, the test and the counts. The test reads the columns of decoded
objects, and tests each different value of a column once. Refuses: queries that test more than fields of the
payload; other scans test event by event (`matcher.py`), and decode what they count again.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from functools import reduce
from itertools import compress
from typing import Any, TypeAlias

from mainstem.log.storage.record_batch import Record
from mainstem.search.match.event_view import EventView, is_plain_name
from mainstem.search.match.field_counter import SHAPES_MAX, FieldValueCounter, StrictFields
from mainstem.search.match.matcher import EventCheck, at_path
from mainstem.search.query.ast import And, Node, Not, Or, Term, TermTarget, Test
from mainstem.search.text.payload import NOT_JSON, json_of

_RowsTest: TypeAlias = Callable[[Sequence[Any]], list[bool]]
"""Whether each of some rows matches."""


class DividedCounter:
    """Two counters, of the matches of a query and of the other events."""

    def __init__(
        self, node: Node, check: EventCheck, selection: FieldValueCounter, baseline: FieldValueCounter
    ) -> None:
        """`node`: a query with `has_only_field_terms`. `check`: its check, for events that cannot be
        decoded to rows. The counters must count all fields."""
        self._node, self._check = node, check
        self._selection, self._baseline = selection, baseline
        self._strict: StrictFields | None = None
        self._rows_pass: _RowsTest = lambda rows: []
        self._shapes_left = SHAPES_MAX

    def add(self, topic: str, partition: int, records: Sequence[Record]) -> int:
        """Count the values of events of one partition. Returns the number of matches."""
        if records and self._strict is None and self._shapes_left:
            self._shapes_left -= 1
            self._strict = StrictFields.like(json_of(records[0].value))
            if self._strict is not None:
                self._rows_pass = _rows_test(self._node, self._strict)
        others, matches = records, 0
        if self._strict is not None:
            rows, decoded, others = _decoded(self._strict, records)
            sides = self._rows_pass(rows)
            matches = sum(sides)
            for counter, chosen in (
                (self._selection, sides),
                (self._baseline, list(map(operator.not_, sides))),
            ):
                counter.add_rows(
                    topic,
                    partition,
                    list(compress(decoded, chosen)),
                    self._strict,
                    list(compress(rows, chosen)),
                )
            if 2 * len(others) > len(records):
                self._strict = None  # most objects have other names now
        if others:
            sides = [self._check(EventView(topic, partition, record)) for record in others]
            matches += sum(sides)
            self._selection.add(topic, partition, list(compress(others, sides)))
            self._baseline.add(topic, partition, list(compress(others, map(operator.not_, sides))))
        return matches


def has_only_field_terms(node: Node) -> bool:
    """Whether a query tests only fields of the payload, by names that a row can have."""
    match node:
        case Term(TermTarget("field", path)):
            return is_plain_name(path[0])
        case Not(child):
            return has_only_field_terms(child)
        case And(children) | Or(children):
            return all(map(has_only_field_terms, children))
        case _:
            return False


def _decoded(strict: StrictFields, records: Sequence[Record]) -> tuple[list[Any], list[Record], list[Record]]:
    """The rows of the records, the records that they are of, and the other records."""
    decode = strict.decode_row
    rows, decoded, others = list[Any](), list[Record](), list[Record]()
    for record in records:
        try:
            rows.append(decode(record.value or b""))
        except NOT_JSON:
            others.append(record)
        else:
            decoded.append(record)
    return rows, decoded, others


class _Verdicts(dict[Any, bool]):
    """Whether values of a column pass a test, which is called once for each different value."""

    def __init__(self, passes: Callable[[Any], bool]) -> None:
        self._passes = passes

    def __missing__(self, value: Any) -> bool:
        verdict = self[value] = self._passes(value)
        return verdict


def _rows_test(node: Node, strict: StrictFields) -> _RowsTest:
    """The test of a query with `has_only_field_terms`."""
    match node:
        case Term(TermTarget("field", path), test):
            return _column_test(path, test, strict)
        case Not(child):
            inner = _rows_test(child, strict)
            return lambda rows: list(map(operator.not_, inner(rows)))
        case And(children):
            return _combined(operator.and_, [_rows_test(child, strict) for child in children])
        case Or(children):
            return _combined(operator.or_, [_rows_test(child, strict) for child in children])
        case _:
            raise AssertionError("the query tests only fields")


def _combined(both: Callable[[bool, bool], bool], tests: Sequence[_RowsTest]) -> _RowsTest:
    return lambda rows: reduce(lambda some, more: list(map(both, some, more)), [test(rows) for test in tests])


def _column_test(path: tuple[str, ...], test: Test, strict: StrictFields) -> _RowsTest:
    column, inner_path = strict.column(path[0]), path[1:]
    if column is None:
        return lambda rows: [False] * len(rows)
    attribute, may_be_equal = column
    passes, value_of = at_path(test), operator.attrgetter(attribute)
    if may_be_equal:
        return lambda rows: [passes(value_of(row), inner_path) for row in rows]
    verdict_of = _Verdicts(lambda value: passes(value, inner_path)).__getitem__
    return lambda rows: list(map(verdict_of, map(value_of, rows)))
