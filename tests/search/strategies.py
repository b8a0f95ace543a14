"""Strategies for random queries and events that often match: few words in many spellings."""

from __future__ import annotations

import json
import random
from typing import Any

from hypothesis import strategies as st

from mainstem.log.storage.record_batch import Record
from mainstem.search.query.ast import (
    And,
    Bound,
    Everything,
    Exists,
    Glob,
    Node,
    Not,
    Or,
    Range,
    Regex,
    Term,
    TermTarget,
    Test,
    Text,
)
from mainstem.search.query.necessary_terms import FOLDED_UNSURE, FOLDS_INTO_ASCII
from mainstem.search.query.parser import joined
from mainstem.search.text.numbers import number_of
from mainstem.search.text.tokens import tokens

NOW_MS = 1_370_100_000_000
TOPICS = ["orders", "orders-eu", "flights", "a.b"]
NAMES = ["a", "b", "a.b", "c c", "é", 'q"\\', "time", "key"]
ODD = "".join(FOLDS_INTO_ASCII) + "".join(FOLDED_UNSURE) + '\u0345Kſé漢京タดีู한²_-/\\"\n\t.* ?😀'
WORDS = [
    "kiss",
    "東京タワーへ",
    "タワー",
    "서울에서",
    "서울",
    "ร้านดีมาก",
    "ดี",
    "straße",
    "STRASSE",
    "new york",
    "New-York",
    "ab",
    "cafe",
    "a/b",
    "N14228",
    "14228",
    "null",
    "true",
    "i\u0307x",
    "İx",
    "ι",
    "\u0345",
    "ﬁnk",
    "fink",
    "deadbeef",
    "1",
    "1.0",
    "100",
    "1e2",
    "-5",
    "007",
    "",
    "K",
    "foo_bar",
    "漢字",
    "ǰ",
    "x\\u0041",
    "12e3",
]
SPELLINGS = [
    "1",
    "1.0",
    "1e0",
    "10e-1",
    "100",
    "1e2",
    "1E+2",
    "100.00",
    "0",
    "-0",
    "-0.0",
    "-5",
    "-5.0",
    "0.5",
    "5e-1",
    "0.50",
    "9007199254740993",
    "9007199254740992.0",
    "9007199254740993.0",
    "14228",
    "1.4228e4",
    "12e3",
    "123456789012345678901234567890",
    "0.1",
    "1e400",
    "0e5",
]

texts = st.one_of(
    st.sampled_from(WORDS),
    st.lists(st.sampled_from(WORDS), max_size=3).map(" ".join),
    st.text(st.sampled_from("aAbk sSi1" + ODD), max_size=6),
)


class WrittenNumber:
    """A number that `written` writes in this spelling."""

    def __init__(self, spelling: str) -> None:
        self.spelling = spelling


scalars = st.one_of(
    texts, st.sampled_from(SPELLINGS).map(WrittenNumber), st.sampled_from([True, False, None])
)
trees = st.recursive(
    scalars,
    lambda children: st.one_of(
        st.lists(children, max_size=3), st.lists(st.tuples(st.sampled_from(NAMES), children), max_size=4)
    ),
    max_leaves=8,
)


def written(value: Any, chance: random.Random) -> str:
    """Write a tree as JSON, with unnecessary escapes in strings and blanks between elements.

    A list of pairs becomes an object, whose names may repeat."""
    blank = chance.choice(["", "", " ", "\n\t"])
    if isinstance(value, WrittenNumber):
        return blank + value.spelling + blank
    if isinstance(value, str):
        return (
            blank + '"' + "".join(character_written(character, chance) for character in value) + '"' + blank
        )
    if isinstance(value, list) and value and all(isinstance(element, tuple) for element in value):
        members = ",".join(f"{written(name, chance)}:{written(child, chance)}" for name, child in value)
        return blank + "{" + members + "}" + blank
    if isinstance(value, list):
        return blank + "[" + ",".join(written(child, chance) for child in value) + "]" + blank
    return blank + json.dumps(value) + blank


def character_written(character: str, chance: random.Random) -> str:
    plain = json.dumps(character, ensure_ascii=False)[1:-1]
    ways = [plain] * 12 + [json.dumps(character)[1:-1]]
    if ord(character) < 0x10000:
        ways.append(f"\\u{ord(character):04X}")
    return "\\/" if character == "/" and chance.random() < 0.5 else chance.choice(ways)


@st.composite
def payloads(draw: st.DrawFn) -> bytes | None:
    kind = draw(st.sampled_from(["json"] * 6 + ["text", "binary", "broken", "null"]))
    if kind == "null":
        return None
    if kind == "binary":
        return draw(
            st.sampled_from([b"\xde\xad\xbe\xef", b"\xab", b"\xca\xfe", b"\xff" + b"kiss"])
            | st.binary(max_size=4)
        )
    if kind == "text":
        return draw(texts).encode()
    raw = written(draw(trees), random.Random(draw(st.integers(0, 2**32)))).encode()
    if kind == "broken":
        position = draw(st.integers(0, len(raw)))
        damage = draw(st.sampled_from([b"", b"\xff", b"\\ud800", b"x", b"}", b"01"]))
        raw = raw[:position] + damage + raw[position:]
    return raw


raw_texts = st.none() | texts.map(str.encode) | st.sampled_from([b"\xde\xad\xbe\xef", b"\xab", b"\xca\xfe"])
headers = st.lists(st.tuples(st.sampled_from(["x", "a.b", "trace"]), raw_texts), max_size=2).map(tuple)
records = st.builds(
    Record,
    offset=st.integers(0, 9),
    timestamp_ms=st.sampled_from([-1, 0, NOW_MS, NOW_MS - 1, NOW_MS - 86_400_000, 1_370_044_800_000]),
    key=raw_texts,
    value=payloads(),
    headers=headers,
)

# ----------------------------------------------------------------------------------------------------------
# queries


def is_number(text: str) -> bool:
    return number_of(text) is not None


def text_test(text: str, quoted: bool) -> Text:
    """A Text that is quoted only where quotes change the meaning, as from the parser."""
    return Text(text, quoted and (is_number(text) or text.casefold() == "null"))


numbers = st.sampled_from([spelling for spelling in SPELLINGS if number_of(spelling) is not None])
patterns = (
    st.lists(
        st.sampled_from(["*", "?", "a", "K", "ss", "1", "14", "é", "ß", "İ", "\\*", "\\\\", "-", "new", "e"]),
        min_size=1,
        max_size=4,
    )
    .map("".join)
    .filter(lambda text: "*" in text.replace("\\*", "") or "?" in text)
)
regexes = st.sampled_from(
    ["a", "^a", "N[0-9]+", "(?i)kiss", "s.*e", "new york$", "\\bb", "[^a]", "1", "a/b", "é?ß", "e"]
)


def bounds(quoted: bool, ends: st.SearchStrategy[str]) -> st.SearchStrategy[Bound]:
    return st.builds(
        lambda text, inclusive: Bound(text, inclusive, quoted and is_number(text)), ends, st.booleans()
    )


def ranges_of(ends: st.SearchStrategy[Bound]) -> st.SearchStrategy[Range]:
    return st.builds(Range, st.none() | ends, st.none() | ends)


ranges = ranges_of(bounds(False, numbers)) | ranges_of(
    bounds(True, texts.filter(lambda text: not is_number(text)) | numbers)
)
counts = st.integers(0, 9).map(str)
range_times = st.sampled_from(
    ["2013-06-01", "2013", "2013-06-01T00:00", "2013-06-01T15:20Z", "-1d", "now", "1370100000000"]
)
free_tests = st.one_of(
    texts.filter(lambda text: bool(tokens(text))).map(Text),
    patterns.filter(lambda text: any(character.isalnum() or character in "*?" for character in text)).map(
        Glob
    ),
    regexes.map(Regex),
).filter(lambda test: test != Glob("*"))
value_tests: st.SearchStrategy[Test] = st.one_of(
    st.builds(text_test, texts | numbers, st.booleans()),
    patterns.map(Glob),
    regexes.map(Regex),
    ranges,
    st.just(Exists()),
)
count_tests = counts.map(Text) | ranges_of(bounds(False, counts))
time_tests = st.sampled_from(["2013-06-01", "2013", "2013-06-01T15:20Z"]).map(Text) | ranges_of(
    bounds(False, range_times)
)
topic_tests = st.one_of(
    st.sampled_from(TOPICS).map(Text),
    st.sampled_from(["orders*", "*", "?.b", "f*s", "x*"]).map(Glob),
    regexes.map(Regex),
)
paths = st.just(("a",)) | st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map(tuple)
field_terms: st.SearchStrategy[Node] = st.builds(
    Term, st.builds(TermTarget, st.just("field"), paths), value_tests
)
terms: st.SearchStrategy[Node] = st.one_of(
    st.builds(Term, st.just(TermTarget("text")), free_tests),
    field_terms,
    st.builds(Term, st.just(TermTarget("key")), value_tests),
    st.builds(
        Term,
        st.sampled_from(["x", "a.b", "trace"]).map(lambda name: TermTarget("header", (name,))),
        value_tests,
    ),
    st.builds(Term, st.just(TermTarget("topic")), topic_tests),
    st.builds(Term, st.sampled_from([TermTarget("partition"), TermTarget("offset")]), count_tests),
    st.builds(Term, st.just(TermTarget("time")), time_tests),
    st.just(Everything()),
)


def nodes_of(terms: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    """Queries of a few such terms."""
    return st.recursive(
        terms,
        lambda inner: st.one_of(
            inner.map(Not),
            st.lists(inner, min_size=2, max_size=3).map(lambda children: joined(And, children)),
            st.lists(inner, min_size=2, max_size=3).map(lambda children: joined(Or, children)),
        ),
        max_leaves=4,
    )


nodes = nodes_of(terms)
field_nodes = nodes_of(field_terms)
