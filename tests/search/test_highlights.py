"""Highlights are the positive terms of a query."""

from __future__ import annotations

import pytest

from mainstem.search.match.highlights import Highlight, highlights
from mainstem.search.query.ast import Bound


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", []),
        ("*", []),
        ("Cancelled", [Highlight("text", words=("cancelled",))]),
        ('"New York"', [Highlight("text", words=("new", "york"))]),
        ("ord-47*", [Highlight("text", words=("ord", "47*"))]),
        ("STRASSE OR straße", [Highlight("text", words=("strasse",))]),
        ("origin:JFK", [Highlight("field", ("origin",), glob="jfk")]),
        ('a.b:"x*"', [Highlight("field", ("a", "b"), glob="x\\*")]),
        ("amount:100", [Highlight("field", ("amount",), glob="100", number="100")]),
        ('amount:"100"', [Highlight("field", ("amount",), glob="100", literal=True)]),
        ("key:N1*", [Highlight("key", glob="n1*")]),
        ("header.trace:Ab", [Highlight("header", ("trace",), glob="ab")]),
        ("delay:>60", [Highlight("field", ("delay",), low=Bound("60", False))]),
        ("NOT a", []),
        ("NOT (a OR NOT b)", [Highlight("text", words=("b",))]),
        ("/a+/ topic:x _exists_:y time:>2013-06-01 delay:[* TO *]", []),
        ("x (y OR f:(1 OR 2)) x", None),
    ],
)
def test_highlights_are_the_positive_terms(query: str, expected: list[Highlight] | None) -> None:
    if expected is None:
        expected = [
            Highlight("text", words=("x",)),
            Highlight("text", words=("y",)),
            Highlight("field", ("f",), glob="1", number="1"),
            Highlight("field", ("f",), glob="2", number="2"),
        ]
    assert highlights(query) == expected
