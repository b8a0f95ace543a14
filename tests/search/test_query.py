"""The query language: the examples of docs/SEARCH.md, the canonical spelling, errors with columns, times."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mainstem.log.storage.record_batch import Record
from mainstem.search.match.matcher import Matcher
from mainstem.search.query import times
from mainstem.search.query.ast import And, Bound, Everything, Node, Or, Range, Term, TermTarget, Text
from mainstem.search.query.parser import DEPTH_MAX, LENGTH_MAX, QueryError, format_path, format_query, parse
from tests.search import reference

PAGE = Path(__file__).parents[2] / "docs" / "SEARCH.md"
EXAMPLES = re.findall(r"^```search\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
NOW_MS = 1_370_100_000_000


def read_event(text: str) -> tuple[str, int, Record]:
    """Parse an example event of the page: the payload, and after @ its other attributes."""
    payload, _, rest = text.partition(" @ ")
    attributes = dict(part.split("=", 1) for part in rest.split(", ") if part)
    value = bytes.fromhex(payload[4:]) if payload.startswith("hex:") else payload.encode()
    header_names = [name for name in attributes if name.startswith("header.")]
    headers = tuple((name.removeprefix("header."), attributes.pop(name).encode()) for name in header_names)
    time_ms = times.parse_time(attributes.pop("time", "now"), NOW_MS).from_ms
    key = attributes.pop("key", None)
    topic, partition, offset = (
        attributes.pop("topic", "t"),
        int(attributes.pop("partition", "0")),
        int(attributes.pop("offset", "0")),
    )
    assert not attributes
    return topic, partition, Record(offset, time_ms, None if key is None else key.encode(), value, headers)


@pytest.mark.parametrize("text", EXAMPLES, ids=lambda text: text.split("\n")[0])
def test_the_examples_of_the_page_are_true(text: str) -> None:
    query, *lines = text.rstrip("\n").split("\n")
    assert lines
    for line in lines:
        sign, rest = line[0], line[2:]
        if sign == "!":
            with pytest.raises(QueryError) as caught:
                parse(query)
            assert f"{caught.value.column} {caught.value.message}" == rest
        else:
            topic, partition, record = read_event(rest)
            assert Matcher.of(query, now_ms=NOW_MS).matches(topic, partition, record) is (sign == "+"), line
            assert reference.matches(parse(query), topic, partition, record, NOW_MS) is (sign == "+"), line
            assert parse(format_query(parse(query))) == parse(query)


def field(name: str, value: str) -> Node:
    return Term(TermTarget("field", (name,)), Text(value))


@pytest.mark.parametrize(
    ("text", "node", "canonical"),
    [
        ("", Everything(), "*"),
        ("  ", Everything(), "*"),
        ("a:x AND b:y", And((field("a", "x"), field("b", "y"))), "a:x b:y"),
        ("a:(x OR (y OR z))", Or((field("a", "x"), field("a", "y"), field("a", "z"))), "a:x OR a:y OR a:z"),
        (
            "a:x b:y OR c:z",
            Or((And((field("a", "x"), field("b", "y"))), field("c", "z"))),
            "(a:x b:y) OR c:z",
        ),
        ("a:[5 TO *}", Term(TermTarget("field", ("a",)), Range(Bound("5", True), None)), "a:>=5"),
        ("a:[* TO *]", Term(TermTarget("field", ("a",)), Range(None, None)), "a:[* TO *]"),
        ("header.a\\.b:x", Term(TermTarget("header", ("a.b",)), Text("x")), 'header."a.b":x'),
        ('a:"x"', field("a", "x"), "a:x"),
        ('a:"5"', Term(TermTarget("field", ("a",)), Text("5", True)), 'a:"5"'),
        ("a:10:30", field("a", "10:30"), "a:10:30"),
    ],
)
def test_a_query_parses_to_a_tree_and_has_a_canonical_spelling(text: str, node: Node, canonical: str) -> None:
    assert parse(text) == node
    assert format_query(node) == canonical


@pytest.mark.parametrize(
    ("text", "column", "length", "says"),
    [
        ("a (b", 2, 1, "closing )"),
        ("a) b", 1, 1, "no ( for this )"),
        ("OR a", 0, 2, "before OR"),
        ("a AND OR b", 6, 2, "before OR"),
        ("()", 1, 1, "missing"),
        ('say "hello', 4, 6, 'closing "'),
        ("a:/x", 2, 2, "closing /"),
        ("a:/x/y", 2, 3, "a blank is missing"),
        ("a:[1 5]", 2, 3, "a range is written"),
        ("a:[1 TO 5", 2, 7, "closing ]"),
        ("a:[TO 5]", 3, 2, "open end"),
        ("a:[x* TO y]", 3, 2, "no wildcards"),
        ("a:>", 3, 1, "missing"),
        ("a:>*", 2, 2, "missing"),
        ("a..b:1", 0, 4, "a name is missing"),
        (":1", 0, 1, "name of a field"),
        ("header:x", 0, 6, "which header?"),
        ("_exists_:", 9, 1, "name of a field"),
        ("_exists_:topic", 9, 5, "every event has topic"),
        ("partition:x", 10, 1, "whole number"),
        ("x offset:>1.5", 9, 4, "whole number"),
        ("topic:>a", 6, 2, "no order"),
        ("time:-2d", 5, 3, "time:>-2d"),
        ("time:2013-13-01", 5, 10, "is not a date"),
        ("time:2013*", 5, 5, "time takes"),
        ('x "..."', 2, 5, "letters and digits"),
        ("a*:x", 0, 2, "no wildcards"),
        ('say"hello"', 3, 1, "around the whole"),
        ("a && b", 2, 2, "AND"),
        ("!a", 0, 1, "NOT"),
        ("a\\", 1, 1, "backslash"),
        ("a:/[/", 3, 1, "RE2"),
        ("/" + "a" * 1001 + "/", 1001, 1, "at most"),
        ("/((a{100}){100}){100}/", 1, 20, "RE2"),
        ("x \ud800", 2, 1, "Unicode"),
        ("(" * (DEPTH_MAX + 1), DEPTH_MAX, 1, "inside each other"),
        ("NOT " * (DEPTH_MAX + 1) + "a", 4 * DEPTH_MAX, 1, "inside each other"),
        ("a" * (LENGTH_MAX + 1), LENGTH_MAX, 1, "at most"),
    ],
)  # fmt: skip
def test_an_error_points_at_the_mistake(text: str, column: int, length: int, says: str) -> None:
    with pytest.raises(QueryError) as caught:
        parse(text)
    assert says in caught.value.message
    assert (caught.value.column, caught.value.length) == (column, length)


PIECES = [*'aN1 ."\\()[]{}<>=:*?/-+&|!_', " AND ", " TO ", "OR", "NOT "]


@given(st.lists(st.sampled_from(PIECES), max_size=30).map("".join) | st.text(max_size=20))
@example("\\")
def test_any_text_is_a_query_or_an_error_with_a_column_in_the_text(text: str) -> None:
    mistake = None
    try:
        node = parse(text)
    except QueryError as error:
        mistake = error
    if mistake is None:
        assert parse(format_query(node)) == node
    else:
        assert mistake.column >= 0
        assert mistake.length >= 1
        assert mistake.column + mistake.length <= len(text) + 1


def test_a_path_is_spelled_as_in_a_query() -> None:
    assert format_path(("a", "b.c", "d e")) == 'a."b.c"."d e"'
    assert format_path(("key",)) == '"key"'


@pytest.mark.parametrize(
    ("text", "begin_ms", "length_ms"),
    [
        ("1970-01-02", 86_400_000, 86_400_000),
        ("1970-02", 31 * 86_400_000, 28 * 86_400_000),
        ("1971", 365 * 86_400_000, 365 * 86_400_000),
        ("1970-01-01T01:00", 3_600_000, 60_000),
        ("1970-01-01T01:00:05Z", 3_605_000, 1_000),
        ("1970-01-01T01:00:05.250+01:00", 5_250, 1),
        ("-1h30m", NOW_MS - 5_400_000, 1),
        ("now", NOW_MS, 1),
        ("1370100000", NOW_MS, 1),
        ("1370100000000", NOW_MS, 1),
    ],
)
def test_a_time_is_an_interval(text: str, begin_ms: int, length_ms: int) -> None:
    interval = times.parse_time(text, NOW_MS)
    assert (interval.from_ms, interval.to_ms) == (begin_ms, begin_ms + length_ms)


@pytest.mark.parametrize(
    "text", ["", "2013-02-30", "2013-6-1", "-2", "-d", "tomorrow", "2013-06-01 10:00", "12345"]
)
def test_a_text_that_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a date"):
        times.parse_time(text, NOW_MS)


@pytest.mark.parametrize(
    ("low", "high", "bounds"),
    [
        (Bound("1970-01-02", True), Bound("1970-01-02", True), (86_400_000, 2 * 86_400_000)),
        (Bound("1970-01-02", False), Bound("1970-01-04", False), (2 * 86_400_000, 3 * 86_400_000)),
        (Bound("1970-01-01T01:00", False), Bound("1970-01-01T02:00", True), (3_600_001, 7_200_001)),
        (None, Bound("1970-01-02", False), (None, 86_400_000)),
    ],
)
def test_bounds_of_a_range_of_times(
    low: Bound | None, high: Bound | None, bounds: tuple[int | None, int]
) -> None:
    assert times.time_bounds(Range(low, high), NOW_MS) == bounds
