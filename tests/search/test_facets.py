"""The counts of facets: as the slow reference counts them, exact for every number, and decoded once."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mainstem.log.storage.record_batch import Record, assign_offsets, build
from mainstem.search.compare import differences
from mainstem.search.facets import FIELDS_MAX, VALUE_CHARACTERS_MAX, FacetCounts, FieldCounts
from mainstem.search.ipc import ScanCounts, Unit
from mainstem.search.local.scan import CompiledQuery, ScanTask, scan_unit
from mainstem.search.match import field_counter
from mainstem.search.match.divided_counter import DividedCounter, has_only_field_terms
from mainstem.search.match.event_view import UNREAD, EventView
from mainstem.search.match.field_counter import PAYLOADS_MAX, FieldValueCounter
from mainstem.search.match.matcher import Matcher
from mainstem.search.query.ast import Node, Term, TermTarget, Text
from mainstem.search.query.format import format_query
from mainstem.search.query.parser import parse
from mainstem.search.text import payload
from mainstem.search.text.numbers import SpelledNumber, canonical, number_of
from tests.scenarios import flights
from tests.search import reference
from tests.search.strategies import NOW_MS, SPELLINGS, field_nodes, records

ReferenceCounts = dict[str, Counter[Any]]

digits = st.text("0123456789", min_size=1, max_size=25)
whole = digits.map(lambda text: text.lstrip("0") or "0")
spellings = st.builds(
    lambda sign, before, after, exponent: sign + before + after + exponent,
    st.sampled_from(["", "-"]),
    whole | st.sampled_from(["0", "1", "10", "9007199254740993", "1234567890123456789"]),
    st.just("") | digits.map(lambda text: "." + text) | st.sampled_from([".0", ".10", ".1"]),
    st.just("")
    | st.integers(-420, 420).map(lambda power: f"e{power}")
    | st.sampled_from(["E0", "e+2", "e400"]),
)


def event(value: object, **more: Any) -> Record:
    raw = value.encode() if isinstance(value, str) else value if isinstance(value, bytes) else None
    return Record(**({"offset": 0, "timestamp_ms": 0, "key": None, "value": raw, "headers": ()} | more))


def counted(events: Sequence[Record], names: Sequence[str] = (), pieces: int = 1) -> FacetCounts:
    """The counts of these events of one partition; `pieces`: the number of counters that share them."""
    merged = FacetCounts(names)
    for piece in range(pieces):
        counter = FieldValueCounter(names)
        own = events[len(events) * piece // pieces : len(events) * (piece + 1) // pieces]
        counter.add("orders", 0, own[:2])
        counter.add("orders", 0, own[2:])
        merged.merge(msgspec.msgpack.decode(
            msgspec.msgpack.encode(counter.counts()), type=dict[str, FieldCounts]
        ))  # fmt: skip
    return merged


def by_value(counts: FacetCounts) -> ReferenceCounts:
    """The counts with numbers in place of their spellings."""
    by_name: ReferenceCounts = {}
    for name, field in counts.fields.items():
        by_name[name] = Counter(field.texts)
        for number, count in field.numbers.items():
            assert number_of(field.spellings.get(number, number)) == number_of(number), "shown as spelled"
            by_name[name][reference.numeric(number)] += count
    return {name: values for name, values in by_name.items() if values}


def reference_counts(events: Sequence[Record], names: Sequence[str] = ()) -> ReferenceCounts:
    wanted: ReferenceCounts = {}
    for record in events:
        for name, value in reference.facet_values("orders", 0, record):
            if not names or name in names:
                wanted.setdefault(name, Counter())[value] += 1
    return wanted


@settings(max_examples=60, deadline=None)
@given(st.lists(records, min_size=1, max_size=12), st.integers(1, 3))
@example([event('{"a":1}'), event('{"a":true}'), event('{"a":1.5}'), event('{"a":"1.5"}')], 1)
@example([event('{"a":[1.10,1.1,"1.1"]}'), event('{"a":{"b":1}}'), event('{"a":1,"a":2}')], 1)
@example([event('{"a":1}')] * 3 + [event('{"a":1,"b":2}'), event('{"b":"\\u0031"}'), event('{"a":{}}')], 1)
@example([event("{}"), event("[]"), event("1"), event('[{"a":1},{"a":1}]'), event('{"a":1'), event("}")], 1)
@example([event('{"a":null}'), event('{"a":"null"}'), event('{"a":0}'), event('{"a":-0.0}')], 2)
def test_facets_count_what_the_reference_counts(events: list[Record], pieces: int) -> None:
    assert by_value(counted(events, pieces=pieces)) == reference_counts(events)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(records, min_size=1, max_size=8),
    st.sets(
        st.sampled_from(["a", "a.b", '"a.b"', "key", "topic", "header.x", '"q\\"\\\\"', "é", '"key"', "a a"])
    ),
)
def test_facets_of_some_fields_count_what_the_reference_counts(events: list[Record], names: set[str]) -> None:
    wanted = reference_counts(events, sorted(names))
    if names:
        assert by_value(counted(events, sorted(names), pieces=2)) == wanted


@settings(max_examples=60, deadline=None)
@given(st.lists(spellings | st.sampled_from(SPELLINGS), min_size=1, max_size=12))
@example(["1234567890123456789", "1234567890123456788", "1.234567890123456789e18"])
@example(["1e400", "10e399", "-1e400", "1e-400"])
@example(["1.10", "1.1", "1.100", "11e-1"])
@example(["0", "-0", "-0.0", "0e5"])
def test_a_search_for_the_value_of_a_facet_finds_what_was_counted(numbers: list[str]) -> None:
    events = [event(f'{{"n":{number}}}') for number in numbers]
    values = counted(events, pieces=2).top("n", 100)
    assert sum(count for _, count in values) == len(numbers)
    for value, count in values:
        assert value in numbers or (value, "-0" in numbers) == ("0", True)
        query = format_query(Term(TermTarget("field", ("n",)), Text(value)))
        matcher = Matcher.of(query, now_ms=NOW_MS)
        assert sum(matcher.matches("orders", 0, record) for record in events) == count


def test_a_number_is_shown_as_it_was_spelled_first() -> None:
    counts = counted([event('{"n":1.10}'), event('{"n":1.1}'), event('{"n":"1.1"}')])
    assert counts.top("n", 9) == [("1.10", 2), ("1.1", 1)]
    merged = counted([event('{"n":1}'), event('{"n":1.0}')], pieces=2)
    assert merged.top("n", 9) == [("1", 2)]


@given(spellings, spellings)
def test_numbers_have_the_same_canonical_spelling_if_they_are_equal(first: str, second: str) -> None:
    spelling, other = canonical(SpelledNumber(first)), canonical(SpelledNumber(second))
    assert spelling is not None
    assert (spelling == other) == (number_of(first) == number_of(second))
    assert number_of(spelling) == number_of(first)
    if (number := number_of(first)) is not None and first.lstrip("-").isdigit():
        assert canonical(int(number)) == spelling


@settings(max_examples=60, deadline=None)
@given(field_nodes.filter(has_only_field_terms), st.lists(records, min_size=1, max_size=6))
@example(parse("a:1"), [event('{"a":1}'), event('{"a":true}'), event('{"a":1.0}'), event('{"a":"1"}')])
@example(parse("a:1"), [event('{"a":true}'), event('{"a":1}'), event('{"a":[1,2]}'), event('{"a":1.0}')])
@example(parse("NOT a:1 b:*"), [event('{"a":1,"b":2}'), event('{"a":2,"b":null}'), event('{"a":3,"b":4}')])
@example(parse("a.b:1 OR c:null"), [event('{"a":{"b":1},"c":2}'), event('{"a":"{}","c":null}'), event(None)])
@example(parse("NOT b:1"), [event('{"a":1}', key=b"k"), event('{"b":1}'), event("[1]"), event("x", key=b"")])
def test_events_counted_apart_are_those_that_match_and_the_rest(node: Node, events: list[Record]) -> None:
    events = events + events[::-1]
    selection, baseline = FieldValueCounter(), FieldValueCounter()
    divided = DividedCounter(node, Matcher(node, NOW_MS).check, selection, baseline)
    matches = sum(divided.add("orders", 0, part) for part in (events[:1], events[1:4], events[4:]))
    sides: tuple[list[Record], list[Record]] = [], []
    for record in events:
        sides[reference.matches(node, "orders", 0, record, NOW_MS)].append(record)
    assert matches == len(sides[True])
    for counter, side in ((selection, sides[True]), (baseline, sides[False])):
        counts = FacetCounts()
        counts.merge(counter.counts())
        assert by_value(counts) == reference_counts(side)


def test_values_too_long_to_be_shown_are_cut() -> None:
    long = "9" * (VALUE_CHARACTERS_MAX + 1)
    counts = counted([event(f'{{"n":{long}}}'), event(f'{{"n":"{long}"}}'), event(f'{{"n":1.{"0" * 300}}}')])
    assert counts.top("n", 9) == [("9" * VALUE_CHARACTERS_MAX, 2), ("1", 1)]


def test_the_number_of_fields_is_limited() -> None:
    names = {f"n{number}": number for number in range(3 * FIELDS_MAX)}
    assert len(counted([event(json.dumps(names))] * 3, pieces=2).fields) == FIELDS_MAX


def test_fields_are_counted_however_deep_they_are_nested() -> None:
    depth = 900  # msgspec reads JSON nested nearly 1,000 deep
    inner = '{"a":' * depth + '[1,{"b":"x"}]' + "}" * depth
    events = [event(inner), event("[" * depth + '{"c":2}' + "]" * depth), event(inner), event('{"z":3}')]
    path = ".".join("a" * depth)
    expected = {path: Counter({1: 2}), f"{path}.b": Counter({"x": 2}), "c": Counter({2: 1})}
    for names in ([], [*expected]):
        counts = by_value(counted(events, names))
        assert {name: counts[name] for name in expected} == expected


def test_equal_numbers_are_compared_whatever_their_spelling() -> None:
    selected, baseline = counted([event('{"n":1.10}')]), counted([event('{"n":1.1}'), event('{"n":11e-1}')])
    (row,) = differences("n", selected.fields["n"], 1, baseline.fields["n"], 2)
    assert (row.value, row.selected, row.baseline) == ("1.10", 1, 2)


# ----------------------------------------------------------------------------------------------------------
# what makes it fast


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The payloads that a counter has decoded, in whatever way."""
    payloads: list[bytes] = []
    for kind in (field_counter.StrictFields, field_counter._SelectedFields):
        real = kind.decode

        def decode(self: Any, values: Sequence[bytes], real: Any = real) -> Any:
            rows, others = real(self, values)
            payloads.extend(value for value in values if value not in others)
            return rows, others

        monkeypatch.setattr(kind, "decode", decode)

    def json_of(value: bytes) -> Any:
        payloads.append(value)
        return payload.json_of(value)

    monkeypatch.setattr(field_counter, "json_of", json_of)
    return payloads


def test_a_payload_is_decoded_once_for_all_its_fields(decoded: list[bytes]) -> None:
    lines = flights.sample()[: 3 * PAYLOADS_MAX]
    counter = FieldValueCounter()
    for start in range(0, len(lines), 100):
        counter.add("flights", 0, [event(line) for line in lines[start : start + 100]])
    assert len(counter.counts()) == 2 + 19
    assert decoded == lines


def test_only_the_fields_that_are_counted_are_decoded(decoded: list[bytes]) -> None:
    lines = flights.sample()[:500]
    counter = FieldValueCounter(["carrier", "dest"])
    counter.add("flights", 0, [event(line) for line in lines])
    assert sum(counter.counts()["dest"].texts.values()) == 500
    assert decoded == lines
    fields = field_counter._SelectedFields(["carrier", "dest"])
    rows, others = fields.decode(lines[:1])
    assert (list(map(msgspec.structs.astuple, rows)), others) == ([("UA", "IAH")], [])


def test_a_query_decodes_only_the_fields_that_it_tests() -> None:
    matcher = Matcher.of("carrier:UA AND dep_delay:>120", now_ms=NOW_MS)
    for line in flights.sample()[:500]:
        view = EventView("flights", 0, event(line))
        wanted = json.loads(line)
        matches = wanted["carrier"] == "UA" and (wanted["dep_delay"] or 0) > 120
        assert matcher.check(view) is matches
        assert len(msgspec.structs.astuple(view.fields)) == 2
        assert view._tree is UNREAD


def test_a_comparison_with_the_rest_decodes_a_payload_once_to_test_and_to_count_it(
    tmp_path: Path, decoded: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = flights.sample()[:600]
    batch = build([(None, line, (), NOW_MS) for line in lines])
    assign_offsets(memoryview(batch), 0, 0, None)
    path = tmp_path / f"{0:020}.log"
    path.write_bytes(batch)
    query = CompiledQuery("carrier:UA", NOW_MS, None, None, "NOT carrier:UA")
    tested: list[EventView] = []
    monkeypatch.setattr(query, "check", tested.append)
    selection, baseline = FieldValueCounter(), FieldValueCounter()
    result = scan_unit(
        Unit("flights", 0, str(path), 0, len(batch), 0, len(lines)),
        query,
        ScanTask(
            True,
            1 << 31,
            1 << 31,
            return_rows=False,
            value_counter=selection,
            on_matches=lambda rows: None,
            on_damage=lambda offset, reason: None,
            is_cancelled=lambda: False,
            should_pause=lambda: False,
            on_progress=lambda result: None,
            so_far=ScanCounts(),
            baseline_counter=baseline,
        ),
    )
    united = sum(json.loads(line)["carrier"] == "UA" for line in lines)
    assert (result.matches, result.baseline_matches) == (united, len(lines) - united)
    assert selection.counts()["carrier"].texts == {"UA": united}
    assert sum(baseline.counts()["carrier"].texts.values()) == len(lines) - united
    assert tested == [], "no event is decoded to be tested"
    assert decoded == [], "no event is decoded again to be counted"
