"""Tests events against a query, and determines which data cannot match.

Owns: the closures to which a query is compiled, and its prefilters, which exclude only data that provably
cannot match (`query/necessary_terms.py`). Refuses: to read the log, and the times and limits of a search
request (`local/scan.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from mainstem.log.disk.contract import Buffer
from mainstem.log.storage.record_batch import Record
from mainstem.search.match.byte_prefilter import (
    BytePrefilter,
    alternatives,
    candidate_stretches,
    may_hide_needle,
)
from mainstem.search.match.event_view import (
    UNREAD,
    EventView,
    QueryFieldReader,
    path_exists,
    path_matches,
)
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
from mainstem.search.query.parser import joined, parse
from mainstem.search.text import globs
from mainstem.search.text.freetext import patterns_test, words_test
from mainstem.search.text.payload import is_binary, text_of
from mainstem.search.text.regex import compiled, finder, is_local
from mainstem.search.text.tokens import tokens

if TYPE_CHECKING:
    from mainstem.contract import Event  # only for types: workers start faster without it

EventCheck: TypeAlias = Callable[[EventView], bool]


class Matcher:
    """A compiled query. It keeps no state between events. Not thread-safe."""

    def __init__(self, node: Node, now_ms: int) -> None:
        self.node = node
        clauses = required_clauses(node)
        about_bytes = [clause for clause in clauses if clause.needles]
        self.required_tokens: tuple[frozenset[str], ...] = tuple(
            clause.tokens for clause in clauses if clause.tokens
        )
        """Sets of tokens. A block cannot match if its token filter has no token of one of these sets."""
        self.required_bytes: tuple[tuple[bytes, ...], ...] = tuple(map(alternatives, about_bytes))
        """Sets of byte strings. Decompressed batches without `\\u` cannot match if their `lower()` has no
        string of one of these sets. `may_match` tests this faster."""
        self.time_range: Interval = bounds_of(node, "time", lambda test: times.time_bounds(test, now_ms))
        """Bounds of record timestamps in ms: from, and to (exclusive). None is open."""
        self.partition_range: Interval = bounds_of(node, "partition", number_bounds)
        """Bounds of partition numbers: from, and to (exclusive). None is open."""
        self.offset_range: Interval = bounds_of(node, "offset", number_bounds)
        """Bounds of offsets: from, and to (exclusive). None is open."""
        self.topics: tuple[str, ...] | None = topic_globs(node)
        """Case-sensitive globs of which the topic of every match fits one. None: any topic may match."""
        prefilters = [BytePrefilter(clause) for clause in about_bytes]
        prefilters.sort(key=lambda prefilter: prefilter.selectivity, reverse=True)
        self._prefilters = tuple(prefilters)
        self._compiler = _Compiler(now_ms, QueryFieldReader(field_names(node)))
        self.check = self.check_of(node)

    @classmethod
    def of(cls, query: str | Node, *, now_ms: int) -> Matcher:
        """Compile a query. `now_ms` is the time to which `now` and ages such as -2d refer. Raises
        QueryError."""
        return cls(parse(query) if isinstance(query, str) else query, now_ms)

    def check_of(self, part: Node) -> EventCheck:
        """The check of a part of the query. All checks of a Matcher can test the same EventView, which
        decodes an event once for all of them."""
        return self._compiler.check(part)

    def matches(self, topic: str, partition: int, record: Record) -> bool:
        """Whether the event matches the query."""
        return self.check(EventView(topic, partition, record))

    def matches_event(self, event: Event) -> bool:
        """Whether an event, as an engine returns it, matches the query."""
        return self.check(view_of(event))

    def may_match(self, raw: Buffer) -> bool:
        """Whether decompressed batches, or other bytes with whole records, may contain a matching event.
        False is certain."""
        return all(prefilter.may_match(raw) for prefilter in self._prefilters) or may_hide_needle(
            raw, 0, len(raw)
        )

    def stretches_that_may_match(self, raw: Buffer, ends: Sequence[int]) -> set[int]:
        """Tests many stretches of bytes, such as batches, at once. They lie side by side in `raw` and end at
        `ends`. Returns the numbers of those that may contain a matching event; for the others it is certain
        that they do not."""
        return candidate_stretches(self._prefilters, raw, ends)


def view_of(event: Event) -> EventView:
    """What the checks of a Matcher test of an event, as an engine returns it."""
    record = Record(event.offset, event.timestamp_ms, event.key, event.value, event.headers)
    return EventView(event.topic, event.partition, record)


def either(query: str, other: str | None) -> Node:
    """The query that matches what `query` or `other` does, if there is another. Raises QueryError."""
    return parse(query) if other is None else joined(Or, (parse(query), parse(other)))


def terms(node: Node) -> Iterator[Term]:
    """All terms of a query, also those that must not match."""
    match node:
        case Term():
            yield node
        case Not(child):
            yield from terms(child)
        case And(children) | Or(children):
            for child in children:
                yield from terms(child)


def field_names(node: Node) -> Iterator[str]:
    """The outermost names of the fields that a query tests."""
    return (term.target.path[0] for term in terms(node) if term.target.kind == "field")


def cost(node: Node) -> int:
    """The cost of testing a node, by which tests are ordered: 0 needs no payload, 1 some of its fields, 2 the
    whole payload."""
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
    """Compiles nodes to closures."""

    def __init__(self, now_ms: int, reader: QueryFieldReader) -> None:
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
                within = between(number_bounds(test))
                return lambda view: within(view.partition)
            case "offset":
                within = between(number_bounds(test))
                return lambda view: within(view.record.offset)
            case "time":
                within = between(times.time_bounds(test, self.now_ms))
                return lambda view: view.record.timestamp_ms >= 0 and within(view.record.timestamp_ms)


def between(bounds: Interval) -> Callable[[int], bool]:
    """Returns a function that tests whether a number is within bounds of which the end is exclusive."""
    begin, end = bounds
    return lambda number: (begin is None or number >= begin) and (end is None or number < end)


def _all_of(checks: Sequence[EventCheck]) -> EventCheck:
    def check(view: EventView) -> bool:
        for part in checks:  # noqa: SIM110  # twice as fast as all() over a generator
            if not part(view):
                return False
        return True

    return check


def _any_of(checks: Sequence[EventCheck]) -> EventCheck:
    def check(view: EventView) -> bool:
        for part in checks:  # noqa: SIM110  # twice as fast as any() over a generator
            if part(view):
                return True
        return False

    return check


def _free(term: Term) -> EventCheck:
    """The check of a free-text term. It tests the raw bytes first, because parsing them is expensive."""
    passes = _any_text(free_text_test(term.test))
    if isinstance(term.test, Regex) and is_local(term.test.pattern):
        return _all_of([_local_regex(term.test.pattern), passes])
    prefilters = [
        BytePrefilter(clause).record_may_match for clause in required_clauses(term) if clause.needles
    ]
    if not prefilters:
        return passes
    may_match = (
        prefilters[0] if len(prefilters) == 1 else lambda record: all(check(record) for check in prefilters)
    )
    return lambda view: may_match(view.record) and passes(view)


def free_text_test(test: Test) -> Callable[[str], bool]:
    """Returns a function that tests one of the texts of an event, as free text does."""
    match test:
        case Text(text):
            return words_test(tokens(text))
        case Glob(pattern):
            return patterns_test(pattern)
        case Regex(pattern):
            return finder(pattern)
        case _:
            raise AssertionError("a test of free text is a Text, Glob or Regex")


def _any_text(test: Callable[[str], bool]) -> EventCheck:
    def check(view: EventView) -> bool:
        for text in view.texts():  # noqa: SIM110  # twice as fast as any() over a generator
            if test(text):
                return True
        return False

    return check


def _local_regex(pattern: str) -> EventCheck:
    """A prefilter for an expression without assertions (see `is_local`).

    Bytes without escapes whose text is not hex contain every text of the event unchanged. If the expression
    does not match in them, it matches in no text."""
    search = compiled(pattern).search

    def may_match_in(raw: bytes | None) -> bool:
        if raw is None:
            return False
        if b"\\" in raw or (not raw.isascii() and is_binary(raw)):
            return True
        return search(raw) is not None

    def check(view: EventView) -> bool:
        record = view.record
        return (
            may_match_in(record.value)
            or may_match_in(record.key)
            or any(may_match_in(value) for _, value in record.headers)
        )

    return check


def _field(path: tuple[str, ...], test: Test, reader: QueryFieldReader) -> EventCheck:
    attribute, rest = reader.attributes.get(path[0]), path[1:]
    passes = at_path(test)
    scalar_passes = None if rest or isinstance(test, Exists) else scalar_test(test)

    def check(view: EventView) -> bool:
        row = view.fields
        if row is UNREAD:
            row = view.row(reader)
        if row is None or attribute is None:
            tree = view.tree()
            return tree is not msgspec.UNSET and passes(tree, path)
        value = getattr(row, attribute)
        if value is msgspec.UNSET:
            return False
        kind = type(value)
        if scalar_passes is None or kind is dict or kind is list:
            return passes(value, rest) and view.is_json()
        return scalar_passes(value) and view.is_json()

    return check


def at_path(test: Test) -> Callable[[Any, tuple[str, ...]], bool]:
    """Whether some value at the end of a path into decoded JSON passes the test."""
    if isinstance(test, Exists):
        return path_exists
    scalar_passes = scalar_test(test)
    return lambda value, path: path_matches(value, path, scalar_passes)


def _key(test: Test) -> EventCheck:
    matches_null, passes = is_null_test(test), text_test(test)

    def check(view: EventView) -> bool:
        key = view.record.key
        return matches_null if key is None else passes(text_of(key))

    return check


def _header(name: str, test: Test) -> EventCheck:
    matches_null, passes = is_null_test(test), text_test(test)

    def check(view: EventView) -> bool:
        for header_name, value in view.record.headers:
            if header_name == name and (matches_null if value is None else passes(text_of(value))):
                return True
        return False

    return check


def _topic(test: Test) -> EventCheck:
    """Returns the check of a topic's name. Unlike in other texts, upper and lower case differ, as in
    Kafka."""
    match test:
        case Text(text):
            return lambda view: view.topic == text
        case Glob(pattern):
            glob = globs.glob_test(pattern)
            return lambda view: glob(view.topic)
        case _:
            passes = text_test(test)
            return lambda view: passes(view.topic)
