"""Filters of Pub/Sub: what they accept, what they match, and that the query made of one matches the same."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainstem.contract import Event
from mainstem.pubsub.filters import DEPTH_MAX, FilterError, parse
from mainstem.search.match.matcher import Matcher

FLIGHT = {"origin": "JFK", "carrier": "UA", "iana.org/language_tag": "en", "みな": "\u307f", "empty": ""}

MATCHING = [
    "attributes:origin",
    'attributes:"origin"',
    "-attributes:delay",
    "NOT attributes:delay",
    "NOT NOT attributes:origin",
    'attributes.origin = "JFK"',
    'attributes.origin="JFK"',
    'attributes.origin != "LGA"',
    'attributes.delay != "none"',
    'attributes.empty = ""',
    'hasPrefix(attributes.origin, "JF")',
    'hasPrefix(attributes.origin, "")',
    'NOT hasPrefix(attributes.delay, "1")',
    'attributes."iana.org/language_tag" = "en"',
    'attributes:"\\u307f\\u306a"',
    'attributes.みな = "\\u307F"',
    'attributes:origin AND attributes.carrier = "UA"',
    'attributes:delay OR attributes.carrier = "UA"',
    '(attributes:delay OR attributes.carrier="UA") AND NOT (attributes:x AND attributes:y)',
    '-(attributes:delay OR attributes:cause)',
    "  ( (attributes:origin) )  ",
]  # fmt: skip
OTHERS = [
    "attributes:ORIGIN",
    'attributes.origin = "jfk"',
    'attributes.origin = "JF"',
    'attributes.origin = "J.K"',
    'attributes.origin != "JFK"',
    'hasPrefix(attributes.origin, "FK")',
    'hasPrefix(attributes.delay, "")',
    'attributes.empty != ""',
    "NOT attributes:empty",
    "attributes:origin AND attributes:delay",
    "attributes:delay OR attributes:cause",
]  # fmt: skip
MISTAKES = [
    ("attributes", 11),
    ("origin:JFK", 1),
    ("attributes:", 12),
    ("attributes.origin", 18),
    ("attributes.origin = JFK", 21),
    ("attributes.origin = 5", 21),
    ('attributes.origin > "JFK"', 19),
    ('attributes.origin == "JFK"', 20),
    ('attributes.origin = "JFK', 21),
    ("attributes:a and attributes:b", 14),
    ("attributes:a AND attributes:b OR attributes:c", 31),
    ("attributes:a AND", 17),
    ("AND attributes:a", 1),
    ("attributes:a attributes:b", 14),
    ("(attributes:a", 14),
    ("attributes:a)", 13),
    ("NOT", 4),
    ("hasPrefix(attributes:a, \"x\")", 21),
    ("hasPrefix(attributes.a)", 23),
    ("hasprefix(attributes.a, \"x\")", 1),
    ('attributes:""', 12),
    ('attributes.a = "\\q"', 16),
    ('attributes.a = "\\ud800"', 16),
    ("attributes:AND", 12),
    ('"attributes":a', 1),
    ("-" * (DEPTH_MAX + 1) + "attributes:a", DEPTH_MAX + 2),
    ("attributes:a; attributes:b", 13),
]  # fmt: skip


def event_of(attributes: dict[str, str]) -> Event:
    headers = tuple((name, value.encode()) for name, value in attributes.items())
    return Event("flights", 0, 7, 1_700_000_000_000, None, b"", headers)


@pytest.mark.parametrize("text", MATCHING)
def test_matches(text: str) -> None:
    assert parse(text).matches(FLIGHT)
    assert Matcher.of(parse(text).query(), now_ms=0).matches_event(event_of(FLIGHT))


@pytest.mark.parametrize("text", OTHERS)
def test_does_not_match(text: str) -> None:
    assert not parse(text).matches(FLIGHT)
    assert not Matcher.of(parse(text).query(), now_ms=0).matches_event(event_of(FLIGHT))


@pytest.mark.parametrize(("text", "character"), MISTAKES)
def test_mistakes_say_where(text: str, character: int) -> None:
    with pytest.raises(FilterError, match=f"^at character {character} of the filter: "):
        parse(text)


def test_a_filter_has_at_most_256_bytes() -> None:
    quoted = 'attributes.a = "{}"'
    room = 256 - len(quoted.format(""))
    assert parse(quoted.format("x" * room)).matches({"a": "x" * room})
    with pytest.raises(FilterError, match="256 bytes"):
        parse(quoted.format("é" * (room // 2 + 1)))


def test_the_query_names_the_header_of_an_attribute() -> None:
    query = parse('attributes.priority = "high"').query(lambda name: f"user.{name}")
    assert Matcher.of(query, now_ms=0).matches_event(event_of({"user.priority": "high"}))


texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6) | st.sampled_from(
    ("", "a", "ab", "a.b", "/", "^a$", "\\", '"', "\n", "*", "é", "null", "NOT", "key")
)


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


names = texts.filter(bool).map(quoted)
tests = (
    st.builds("attributes:{}".format, names)
    | st.builds("attributes.{} = {}".format, names, texts.map(quoted))
    | st.builds("attributes.{} != {}".format, names, texts.map(quoted))
    | st.builds("hasPrefix(attributes.{}, {})".format, names, texts.map(quoted))
)
filters = st.recursive(
    tests,
    lambda inner: (
        st.builds("NOT ({})".format, inner)
        | st.builds("({}) AND ({})".format, inner, inner)
        | st.builds("({}) OR ({}) OR ({})".format, inner, inner, inner)
    ),
    max_leaves=4,
).filter(lambda text: len(text.encode()) <= 256)


@settings(deadline=None)
@given(filters, st.dictionaries(texts.filter(bool), texts, max_size=4))
def test_the_query_matches_the_same(text: str, attributes: dict[str, str]) -> None:
    parsed = parse(text)
    matcher = Matcher.of(parsed.query(), now_ms=0)
    assert matcher.matches_event(event_of(attributes)) == parsed.matches(attributes)


@settings(deadline=None)
@given(st.text(st.sampled_from('attributes:.()="\\!-, NOTADRhasPrefix\u00e9\t'), max_size=60))
def test_any_text_is_a_filter_or_a_mistake(text: str) -> None:
    with suppress(FilterError):
        assert parse(text).matches({}) in (True, False)
