"""The matcher against the reference, on random queries and events; and what it may exclude."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import accumulate
from typing import Any

import re2
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mainstem.log.storage.record_batch import Record
from mainstem.search.match.matcher import Matcher
from mainstem.search.query.ast import (
    Bound,
    Exists,
    Glob,
    Node,
    Not,
    Range,
    Regex,
    Term,
    TermTarget,
    Test,
    Text,
)
from mainstem.search.query.necessary_terms import FOLDED_UNSURE, FOLDS_INTO_ASCII
from mainstem.search.query.parser import format_query, parse
from mainstem.search.text.tokens import filter_tokens
from tests.search import reference
from tests.search.strategies import NOW_MS, TOPICS, nodes, records


def event(value: str | bytes | None, **more: object) -> Record:
    raw = value.encode() if isinstance(value, str) else value
    known = {"offset": 0, "timestamp_ms": 0, "key": None, "value": raw, "headers": ()}
    return Record(**(known | more))  # type: ignore[arg-type]  # the names are a Record's


def raw_of(record: Record) -> bytes:
    """As the record stands in a batch: its parts unchanged, with other bytes around."""
    parts = [record.key or b"", record.value or b""]
    for name, value in record.headers:
        parts += [name.encode(), value or b""]
    return b"\x02".join(parts)


def check(node: Node, topic: str, partition: int, record: Record) -> None:
    """The matcher says what the reference says, and nothing that it offers excludes a match."""
    matcher = Matcher.of(node, now_ms=NOW_MS)
    wanted = reference.matches(node, topic, partition, record, NOW_MS)
    assert matcher.matches(topic, partition, record) is wanted
    if wanted:
        has = filter_tokens(record)
        assert all(clause & has for clause in matcher.required_tokens)
        raw = raw_of(record)
        assert matcher.may_match(raw)
        if b"\\u" not in raw:
            lowered = raw.lower()
            assert all(any(each in lowered for each in clause) for clause in matcher.required_bytes)
        within = [
            (matcher.time_range, record.timestamp_ms),
            (matcher.partition_range, partition),
            (matcher.offset_range, record.offset),
        ]
        for (begin, end), number in within:
            assert begin is None or begin <= number
            assert end is None or number < end
        assert matcher.topics is None or any(reference.glob(each, topic) for each in matcher.topics)


@settings(max_examples=1500, deadline=None)
@given(nodes, st.sampled_from(TOPICS), st.integers(0, 9), records)
@example(parse("a:14228"), "flights", 0, event('{"a":1.4228e4}'))
@example(parse("a:100"), "flights", 0, event('{"a":1E+2}'))
@example(parse("strasse"), "flights", 0, event('{"a":"Straße"}'))
@example(parse("kiss"), "flights", 0, event('["\u212aiſs"]'))
@example(parse("deadbeef"), "flights", 0, event(b"\xde\xad\xbe\xef"))
@example(parse("a:x"), "flights", 0, event(b'{"b":"\xff","a":"x"}'))
@example(parse("NOT a:x"), "flights", 0, event(b'{"b":"\xff","a":"x"}'))
@example(parse("x"), "flights", 0, event('{"a":{"\\ud800":"x"},"a":1}'))
@example(parse("x1"), "flights", 0, event('{"a":"\\u00781","b":"\\u00e9x1"}'))
@example(parse("a:1e2"), "flights", 0, event('{"a":"1E2"}'))
@example(parse("a:-1.5e3"), "flights", 0, event('{"a":"-1.5E3"}'))
@example(parse("a:4711"), "flights", 0, event('{"a":[47.11E+2]}'))
@example(Term(TermTarget("field", ("a",)), Text("i\u0307x")), "flights", 0, event('{"a":"İx"}'))
def test_matcher_and_reference_agree(node: Node, topic: str, partition: int, record: Record) -> None:
    check(node, topic, partition, record)


@settings(max_examples=800, deadline=None)
@given(st.data(), records)
def test_they_agree_on_queries_made_from_what_the_event_holds(data: st.DataObject, record: Record) -> None:
    """Random queries seldom match: these look for a scalar of the event, where it is."""
    targets: list[tuple[TermTarget, str]] = [(TermTarget("key"), text) for text in reference.texts(record)]
    targets += [(TermTarget("text"), text) for text in reference.texts(record) if reference.words(text)]
    targets += [
        (TermTarget("header", (name,)), reference.as_text(value))
        for name, value in record.headers
        if value is not None
    ]
    try:
        tree = reference.as_json(record.value or b"")
    except reference.NotJson:
        tree = None
    targets += [
        (TermTarget("field", path), reference.text_of_scalar(scalar)) for path, scalar in leaves(tree)
    ]
    if not targets:
        return
    target, text = data.draw(st.sampled_from(targets))
    made = data.draw(st.sampled_from([Term(target, test) for test in possible_tests(target, text)]))
    check(Not(made) if data.draw(st.booleans()) else made, "flights", 0, record)


def leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every scalar in a field, and where."""
    if isinstance(value, dict):
        for name, below in value.items():
            yield from leaves(below, (*path, name))
    elif isinstance(value, list):
        for below in value:
            yield from leaves(below, path)
    elif path:
        yield path, value


def possible_tests(target: TermTarget, text: str) -> Iterator[Test]:
    """Tests that this text passes, or nearly."""
    yield Text(text)
    yield Text(text.upper())
    escaped = "".join("\\" + each if each in "*?\\" else each for each in text)
    yield Glob(f"{escaped}*")
    if target.kind == "text":
        yield Text(reference.words(text)[0])
        yield Glob(f"*{reference.words(text)[-1][1:]}*")
        yield Regex(re2.escape(text[:3]))
        return
    yield Glob(f"*{escaped.swapcase()}")
    yield Glob("?*" + "".join(each for each in text[1:] if each.isalnum()))
    yield Regex("^" + re2.escape(text[:3]))
    yield Exists()
    number = reference.numeric(text)
    yield Range(Bound(text, True, number is not None), None)
    yield Range(None, Bound(text, False))
    if number is not None:
        yield Range(Bound(str(int(number)), True), Bound(str(int(number) + 1), False))


@settings(max_examples=600, deadline=None)
@given(nodes)
@example(Term(TermTarget("text"), Text("-5")))
def test_a_query_is_the_same_after_it_was_formatted(node: Node) -> None:
    assert parse(format_query(node)) == node


def test_every_character_that_folds_into_ascii_or_out_of_letters_is_known() -> None:
    """The lists on which `necessary_terms` proves its exclusions, against all of Unicode."""
    into_ascii, unsure = {}, set()
    for point in range(sys.maxunicode + 1):
        character = chr(point)
        folded = character.casefold()
        if point > 0x7F and (found := "".join(each for each in folded if each < "\x80")):
            into_ascii[character] = found
        if folded != character:
            unsure |= {each for each in folded if each.isalnum() != character.isalnum()}
    assert into_ascii == FOLDS_INTO_ASCII
    assert unsure == FOLDED_UNSURE


def test_what_must_be_in_a_block() -> None:
    matcher = Matcher.of("tailnum:N14228 order:4711", now_ms=0)
    assert matcher.required_tokens == (frozenset({"n14228"}), frozenset({"4711", "#e"}))
    assert matcher.required_bytes[0] == (b"n14228", b"\xc5\x89")
    assert not matcher.may_match(b'{"tailnum":"N14229","order":4711}')
    assert matcher.may_match(b'{"tailnum":"n14228","order":4.711e3}')
    assert matcher.may_match(b'{"tailnum":"\\u004e14228","order":4711}')
    assert not matcher.may_match(b'{"tailnum":"\\u003c14228","order":4711}')


def test_of_many_batches_those_are_opened_that_have_it_or_may_hide_it() -> None:
    matcher = Matcher.of("*q1171x*", now_ms=0)
    batches = [
        b'{"a":"aQ1171Xb"}',
        b'{"a":"1171 q1171"}',
        b'{"a":"\\u0026 \\n"}',
        b'{"a":"\\u0026 \\u0071"}',
        b"q1171",
        b"x",
        b"1171 " * 20 + b"q1171x",
        b"q11171x",
        b"1171q1171x",
        b"",
        b"117",
    ]
    ends = list(accumulate(map(len, batches)))
    assert matcher.stretches_that_may_match(b"".join(batches), ends) >= {0, 3, 6, 8}
    assert not matcher.stretches_that_may_match(b"".join(batches), ends) & {1, 2, 5, 7, 9, 10}


@given(st.lists(st.text("aA1", max_size=12), min_size=1, max_size=8), st.text("a1", min_size=4, max_size=6))
def test_a_needle_with_digits_is_found_wherever_it_is(texts: list[str], needle: str) -> None:
    matcher = Matcher.of(f"*z{needle}*", now_ms=0)
    batches = [text.replace("1a1", f"Z{needle}").encode() + b" " for text in texts]
    ends = list(accumulate(map(len, batches)))
    with_it = {at for at, each in enumerate(batches) if f"z{needle}".encode() in each.lower()}
    assert matcher.stretches_that_may_match(b"".join(batches), ends) == with_it
    assert all(matcher.may_match(batches[at]) for at in with_it)


def test_what_is_excluded_by_place_and_time() -> None:
    matcher = Matcher.of(
        "topic:(orders OR eu-*) partition:[1 TO 3} offset:>=10 time:[2013-06-01 TO 2013-06-02]", now_ms=0
    )
    assert matcher.topics == ("orders", "eu-*")
    assert matcher.partition_range == (1, 3)
    assert matcher.offset_range == (10, None)
    assert matcher.time_range == (1_370_044_800_000, 1_370_044_800_000 + 2 * 86_400_000)
    assert Matcher.of("NOT topic:orders OR offset:3", now_ms=0).topics is None


def test_a_regular_expression_takes_no_time_that_grows_with_its_matches() -> None:
    matcher = Matcher.of("/(a*)*b/", now_ms=0)
    assert not matcher.matches("t", 0, event('{"a":"%s"}' % ("a" * 50_000)))
