"""Whether an event matches a query, fast; and which blocks need not be looked at.

Owns: the query compiled to closures, the prefilter, and what a scan may exclude. Refuses: to exclude what is
not proven (see `necessary_terms`), and time limits: the scan has them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import msgspec

from mainstem.log.disk.contract import Buffer
from mainstem.log.storage.record_batch import Record
from mainstem.search.match.byte_prefilter import (
    BytePrefilter,
    alternatives,
    candidate_stretches,
    may_hide_needle,
)
from mainstem.search.match.event_view import EventView, FieldReader, path_exists, path_matches
from mainstem.search.match.values import is_null_test, scalar_test, text_test
from mainstem.search.query import times
from mainstem.search.query.ast import (
    And,
    Everything,
    Exists,
    Glob,
    Node,
    Not,
    Or,
    Regex,
    Term,
    TermTarget,
    Test,
    Text,
)
from mainstem.search.query.necessary_terms import (
    Interval,
    bounds_of,
    number_bounds,
    required_clauses,
    topic_globs,
)
from mainstem.search.query.parser import parse
from mainstem.search.text import globs
from mainstem.search.text.freetext import patterns_test, words_test
from mainstem.search.text.payload import is_binary, text_of
from mainstem.search.text.regex import compiled, finder, is_local
from mainstem.search.text.tokens import tokens

EventCheck: TypeAlias = Callable[[EventView], bool]


class Matcher:
    """A query, ready to run. Holds no state between events; not for several threads at once."""

    def __init__(self, node: Node, now_ms: int) -> None:
        self.node = node
        clauses = required_clauses(node)
        about_bytes = [clause for clause in clauses if clause.needles]
        self.required_tokens: tuple[frozenset[str], ...] = tuple(
            clause.tokens for clause in clauses if clause.tokens
        )
        """A block whose token filter (of `tokens.filter_tokens`) has none of the tokens of one of these
        cannot match."""
        self.required_bytes: tuple[tuple[bytes, ...], ...] = tuple(map(alternatives, about_bytes))
        """Decompressed batches without `\\u`, whose `lower()` has nothing of one of these, cannot match.
        `may_match` is the same and faster."""
        self.time_range: Interval = bounds_of(node, "time", lambda test: times.time_bounds(test, now_ms))
        """Bounds of record timestamps in ms: from, to (not included); None is open."""
        self.partition_range: Interval = bounds_of(node, "partition", number_bounds)
        self.offset_range: Interval = bounds_of(node, "offset", number_bounds)
        """As time_range."""
        self.topics: tuple[str, ...] | None = topic_globs(node)
        """An event's topic matches one of these globs (`*`, `?`; case counts); None: no such demand."""
        checks = sorted(map(BytePrefilter, about_bytes), key=lambda check: check.selectivity, reverse=True)
        self._raw_checks = tuple(checks)
        self._check = _Compiler(now_ms, FieldReader(names(node))).check(node)

    @classmethod
    def of(cls, query: str | Node, *, now_ms: int) -> Matcher:
        """Raises QueryError. `now_ms` is what `now` and ages such as -2d are measured from."""
        return cls(parse(query) if isinstance(query, str) else query, now_ms)

    def matches(self, topic: str, partition: int, record: Record) -> bool:
        """Whether this event is meant."""
        return self._check(EventView(topic, partition, record))

    def may_match(self, raw: Buffer) -> bool:
        """Whether decompressed batches, or any stretch of bytes with whole records in it, may hold an event
        that matches. False is proven."""
        return all(check.may_match(raw) for check in self._raw_checks) or may_hide_needle(raw, 0, len(raw))

    def stretches_that_may_match(self, raw: Buffer, ends: Sequence[int]) -> set[int]:
        """As `may_match`, for many at once: which of the stretches of `raw`, one after the other, that end
        at `ends`."""
        return candidate_stretches(self._raw_checks, raw, ends)


def names(node: Node) -> Iterator[str]:
    """The outermost names of the fields that a query looks at."""
    match node:
        case Term(TermTarget("field", path)):
            yield path[0]
        case Not(child):
            yield from names(child)
        case And(children) | Or(children):
            for child in children:
                yield from names(child)
        case _:
            pass


def cost(node: Node) -> int:
    """What to ask first: 0 needs no payload, 1 some of its fields, 2 all of it."""
    match node:
        case Term(TermTarget(kind)):
            return {"text": 2, "field": 1}.get(kind, 0)
        case Not(child):
            return cost(child)
        case And(children) | Or(children):
            return max(map(cost, children))
        case _:
            return 0


class _Compiler:
    """Nodes -> closures."""

    def __init__(self, now_ms: int, reader: FieldReader) -> None:
        self.now_ms = now_ms
        self.reader = reader

    def check(self, node: Node) -> EventCheck:
        match node:
            case Everything():
                return lambda view: True
            case Not(child):
                inner = self.check(child)
                return lambda view: not inner(view)
            case And(children):
                return _all_of([self.check(child) for child in sorted(children, key=cost)])
            case Or(children):
                return _any_of([self.check(child) for child in sorted(children, key=cost)])
            case Term(target, test):
                return self.term(target, test)

    def term(self, target: TermTarget, test: Test) -> EventCheck:
        match target.kind:
            case "text":
                return _free(Term(target, test))
            case "field":
                return _field(target.path, test, self.reader)
            case "key":
                return _key(test)
            case "header":
                return _header(target.path[0], test)
            case "topic":
                return _topic(test)
            case "partition":
                within = _between(number_bounds(test))
                return lambda view: within(view.partition)
            case "offset":
                within = _between(number_bounds(test))
                return lambda view: within(view.record.offset)
            case "time":
                within = _between(times.time_bounds(test, self.now_ms))
                return lambda view: view.record.timestamp_ms >= 0 and within(view.record.timestamp_ms)


def _between(bounds: Interval) -> Callable[[int], bool]:
    begin, end = bounds
    return lambda number: (begin is None or number >= begin) and (end is None or number < end)


def _all_of(checks: Sequence[EventCheck]) -> EventCheck:
    def check(view: EventView) -> bool:
        for each in checks:  # noqa: SIM110  # twice as fast as all() over a generator
            if not each(view):
                return False
        return True

    return check


def _any_of(checks: Sequence[EventCheck]) -> EventCheck:
    def check(view: EventView) -> bool:
        for each in checks:  # noqa: SIM110  # as above
            if each(view):
                return True
        return False

    return check


def _free(term: Term) -> EventCheck:
    """Parsing is what costs: before it, the raw bytes are asked."""
    match term.test:
        case Text(text):
            passes = _any_text(words_test(tokens(text)))
        case Glob(pattern):
            passes = _any_text(patterns_test(pattern))
        case Regex(pattern):
            passes = _any_text(finder(pattern))
            if is_local(pattern):
                return _all_of([_local_regex(pattern), passes])
        case _:
            raise AssertionError("the parser gives free text no other test")
    raw_checks = [
        BytePrefilter(clause).record_may_match for clause in required_clauses(term) if clause.needles
    ]
    if not raw_checks:
        return passes
    before = (
        raw_checks[0] if len(raw_checks) == 1 else lambda record: all(check(record) for check in raw_checks)
    )
    return lambda view: before(view.record) and passes(view)


def _any_text(test: Callable[[str], bool]) -> EventCheck:
    def check(view: EventView) -> bool:
        for text in view.texts():  # noqa: SIM110  # as above
            if test(text):
                return True
        return False

    return check


def _local_regex(pattern: str) -> EventCheck:
    """False only where a local expression cannot be found.

    Then it is not in the raw bytes, which hold every text as it is (no escapes, nothing that is hex)."""
    search = compiled(pattern).search

    def may_be_in(raw: bytes | None) -> bool:
        if raw is None:
            return False
        if b"\\" in raw or (not raw.isascii() and is_binary(raw)):
            return True
        return search(raw) is not None

    def check(view: EventView) -> bool:
        record = view.record
        return (
            may_be_in(record.value)
            or may_be_in(record.key)
            or any(may_be_in(value) for _, value in record.headers)
        )

    return check


def _field(path: tuple[str, ...], test: Test, reader: FieldReader) -> EventCheck:
    attribute, rest = reader.attributes.get(path[0]), path[1:]
    passes = _at_path(test)
    of_scalar = None if rest or isinstance(test, Exists) else scalar_test(test)

    def check(view: EventView) -> bool:
        row = view.row(reader)
        if row is None or attribute is None:
            tree = view.tree()
            return tree is not msgspec.UNSET and passes(tree, path)
        value = getattr(row, attribute)
        if value is msgspec.UNSET:
            return False
        if of_scalar is None or type(value) in (list, dict):
            return passes(value, rest) and view.is_json()
        return of_scalar(value) and view.is_json()

    return check


def _at_path(test: Test) -> Callable[[Any, tuple[str, ...]], bool]:
    if isinstance(test, Exists):
        return path_exists
    of_scalar = scalar_test(test)
    return lambda value, path: path_matches(value, path, of_scalar)


def _key(test: Test) -> EventCheck:
    takes_null, of_text = is_null_test(test), text_test(test)

    def check(view: EventView) -> bool:
        key = view.record.key
        return takes_null if key is None else of_text(text_of(key))

    return check


def _header(name: str, test: Test) -> EventCheck:
    takes_null, of_text = is_null_test(test), text_test(test)

    def check(view: EventView) -> bool:
        for found, value in view.record.headers:
            if found == name and (takes_null if value is None else of_text(text_of(value))):
                return True
        return False

    return check


def _topic(test: Test) -> EventCheck:
    """The names of topics are compared as they are: in Kafka case counts."""
    match test:
        case Text(text):
            return lambda view: view.topic == text
        case Glob(pattern):
            glob = globs.glob_test(pattern)
            return lambda view: glob(view.topic)
        case _:
            of_text = text_test(test)
            return lambda view: of_text(view.topic)
