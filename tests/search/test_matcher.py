"""The matcher agrees with the reference on random queries and events, and excludes only what cannot match."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import accumulate

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
    """The bytes of a record as in a batch: its parts unchanged, with other bytes between them."""
    parts = [record.key or b"", record.value or b""]
    for name, value in record.headers:
        parts += [name.encode(), value or b""]
    return b"\x02".join(parts)


def check(node: Node, topic: str, partition: int, record: Record) -> None:
    """The matcher and the reference agree, and no prefilter of the matcher excludes a match."""
    matcher = Matcher.of(node, now_ms=NOW_MS)
    wanted = reference.matches(node, topic, partition, record, NOW_MS)
    assert matcher.matches(topic, partition, record) is wanted
    if wanted:
        event_tokens = filter_tokens(record)
        assert all(clause & event_tokens for clause in matcher.required_tokens)
        raw = raw_of(record)
        assert matcher.may_match(raw)
        if b"\\u" not in raw:
            lowered = raw.lower()
            assert all(any(needle in lowered for needle in clause) for clause in matcher.required_bytes)
        within = [
            (matcher.time_range, record.timestamp_ms),
            (matcher.partition_range, partition),
            (matcher.offset_range, record.offset),
        ]
        for (begin, end), number in within:
            assert begin is None or begin <= number
            assert end is None or number < end
        assert matcher.topics is None or any(reference.glob(pattern, topic) for pattern in matcher.topics)


@settings(max_examples=800, deadline=None)
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


@settings(max_examples=500, deadline=None)
@given(st.data(), records)
def test_they_agree_on_queries_for_a_scalar_of_the_event(data: st.DataObject, record: Record) -> None:
    """Random queries seldom match; these queries nearly always do."""
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
        (TermTarget("field", path), reference.text_of_scalar(scalar))
        for path, scalar in reference.scalars_in_fields(tree)
    ]
    if not targets:
        return
    target, text = data.draw(st.sampled_from(targets))
    term = data.draw(st.sampled_from([Term(target, test) for test in possible_tests(target, text)]))
    check(Not(term) if data.draw(st.booleans()) else term, "flights", 0, record)


def possible_tests(target: TermTarget, text: str) -> Iterator[Test]:
    """Tests that this text passes or nearly passes."""
    yield Text(text)
    yield Text(text.upper())
    escaped = "".join("\\" + character if character in "*?\\" else character for character in text)
    yield Glob(f"{escaped}*")
    if target.kind == "text":
        yield Text(reference.words(text)[0])
        yield Glob(f"*{reference.words(text)[-1][1:]}*")
        yield Regex(re2.escape(text[:3]))
        return
    yield Glob(f"*{escaped.swapcase()}")
    yield Glob("?*" + "".join(character for character in text[1:] if character.isalnum()))
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
def test_a_formatted_query_parses_to_the_same_tree(node: Node) -> None:
    assert parse(format_query(node)) == node


def test_every_character_that_folds_into_ascii_or_out_of_letters_is_listed() -> None:
    """The lists on which the proofs of `necessary_terms` rely, checked over all of Unicode."""
    into_ascii, unsure = {}, set()
    for point in range(sys.maxunicode + 1):
        character = chr(point)
        folded = character.casefold()
        if point > 0x7F and (ascii_part := "".join(char for char in folded if char < "\x80")):
            into_ascii[character] = ascii_part
        if folded != character:
            unsure |= {char for char in folded if char.isalnum() != character.isalnum()}
    assert into_ascii == FOLDS_INTO_ASCII
    assert unsure == FOLDED_UNSURE


def test_required_tokens_and_bytes_of_a_query() -> None:
    matcher = Matcher.of("tailnum:N14228 order:4711", now_ms=0)
    assert matcher.required_tokens == (frozenset({"n14228"}), frozenset({"4711", "#e"}))
    assert matcher.required_bytes[0] == (b"n14228", b"\xc5\x89")
    assert not matcher.may_match(b'{"tailnum":"N14229","order":4711}')
    assert matcher.may_match(b'{"tailnum":"n14228","order":4.711e3}')
    assert matcher.may_match(b'{"tailnum":"\\u004e14228","order":4711}')
    assert not matcher.may_match(b'{"tailnum":"\\u003c14228","order":4711}')


def test_batches_may_match_that_have_the_needle_or_may_hide_it_in_an_escape() -> None:
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
def test_a_needle_with_digits_is_found_anywhere_in_a_batch(texts: list[str], needle: str) -> None:
    matcher = Matcher.of(f"*z{needle}*", now_ms=0)
    batches = [text.replace("1a1", f"Z{needle}").encode() + b" " for text in texts]
    ends = list(accumulate(map(len, batches)))
    with_needle = {i for i, batch in enumerate(batches) if f"z{needle}".encode() in batch.lower()}
    assert matcher.stretches_that_may_match(b"".join(batches), ends) == with_needle
    assert all(matcher.may_match(batches[i]) for i in with_needle)


def test_bounds_of_topic_partition_offset_and_time() -> None:
    matcher = Matcher.of(
        "topic:(orders OR eu-*) partition:[1 TO 3} offset:>=10 time:[2013-06-01 TO 2013-06-02]", now_ms=0
    )
    assert matcher.topics == ("orders", "eu-*")
    assert matcher.partition_range == (1, 3)
    assert matcher.offset_range == (10, None)
    assert matcher.time_range == (1_370_044_800_000, 1_370_044_800_000 + 2 * 86_400_000)
    assert Matcher.of("NOT topic:orders OR offset:3", now_ms=0).topics is None


def test_a_regular_expression_does_not_backtrack() -> None:
    matcher = Matcher.of("/(a*)*b/", now_ms=0)
    assert not matcher.matches("t", 0, event('{"a":"%s"}' % ("a" * 50_000)))
