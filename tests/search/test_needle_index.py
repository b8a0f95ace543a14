"""The needles of many queries, searched at once: no event that matches is left out."""

from __future__ import annotations

import random

import pytest

from mainstem.log.storage.record_batch import Record
from mainstem.search.match import needle_index
from mainstem.search.match.matcher import Matcher
from mainstem.search.match.needle_index import NeedleIndex

WORDS = ["alpha", "alphabet", "beta", "GAMMA", "straße", "delta9", "abcd", "bcde", "cdef", "x1y2"]


def stretches(events: list[bytes]) -> tuple[bytes, list[int]]:
    raw, ends = b"", []
    for event in events:
        raw += event
        ends.append(len(raw))
    return raw, ends


def queries(rng: random.Random) -> list[Matcher]:
    texts = [
        *WORDS,
        *(f"key:{word}" for word in WORDS[:4]),
        "alpha AND beta",
        "alphabet OR gamma",
        "field:delta9",
        "total:>5",
        "NOT alpha",
        "x",
    ]
    return [Matcher.of(text, now_ms=0) for text in rng.sample(texts, rng.randrange(2, len(texts)))]


@pytest.mark.parametrize("seed", range(20))
def test_every_event_that_matches_is_in_a_stretch_that_may_match(seed: int) -> None:
    rng = random.Random(seed)
    matchers = queries(rng)
    index = NeedleIndex(matchers)
    records = []
    for offset in range(60):
        words = [
            rng.choice([*WORDS, "STRASSE", "Alpha", "aBcDeF", "none", "zzz"]) for _ in range(rng.randrange(3))
        ]
        value = f'{{"field":"{" ".join(words)}","total":{rng.randrange(9)}}}'
        records.append(Record(offset, 0, rng.choice(WORDS).encode(), value.encode(), ()))
    raw, ends = stretches([(record.key or b"") + b" " + (record.value or b"") for record in records])
    candidates = index.stretches_that_may_match(raw, ends)
    if candidates is None:
        return
    for matcher in matchers:
        matches = {record.offset for record in records if matcher.matches("t", 0, record)}
        if matcher in index.covered:
            assert matches <= candidates.get(matcher, set())
            assert candidates.get(matcher, set()) <= set(range(len(records)))


def test_only_queries_with_a_long_needle_are_covered() -> None:
    covered = {
        text: Matcher.of(text, now_ms=0)
        for text in (
            "alpha",
            "key:abcd",
            "abc",
            "total:5",
            "total:>5",
            "NOT alpha",
            "a AND alpha",
            "a OR alpha",
        )
    }
    index = NeedleIndex(list(covered.values()))
    assert [text for text, matcher in covered.items() if matcher in index.covered] == [
        "alpha",
        "key:abcd",
        "a AND alpha",
    ]


def test_needles_that_overlap_are_all_seen() -> None:
    matchers = [Matcher.of(text, now_ms=0) for text in ("abcd", "bcde", "abcdefgh", "alphabet")]
    raw, ends = stretches([b"none", b"xABCDEFGH", b"alpha", b"ALPHAbet"])
    candidates = NeedleIndex(matchers).stretches_that_may_match(raw, ends)
    assert candidates is not None
    assert [sorted(candidates.get(matcher, ())) for matcher in matchers] == [[1], [1], [1], [3]]


def test_it_is_given_up_for_escapes_and_for_needles_that_are_everywhere() -> None:
    index = NeedleIndex([Matcher.of("alpha", now_ms=0)])
    assert index.stretches_that_may_match(b"alph\\u0061", [10]) is None
    most = needle_index.HITS_SPARE + needle_index.HITS_OF_STRETCH
    assert index.stretches_that_may_match(b"alpha" * most, [5 * most]) is not None
    assert index.stretches_that_may_match(b"alpha" * (most + 1), [5 * most + 5]) is None
