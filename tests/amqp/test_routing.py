"""Which bindings match: topics against a regular expression, headers, hashes, and bindings of exchanges."""

from __future__ import annotations

import random
import re
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstem.amqp.binding_tables import Routable, headers_match, keys_of, new_table
from mainstem.amqp.properties import Properties
from mainstem.amqp.router import Router
from mainstem.amqp.topic_trie import TopicTrie
from mainstem.amqp.topology import AmqpBinding, AmqpQueue, Exchange

WORDS = st.sampled_from(["order", "paid", "eu", "", "*x"])
KEYS = st.lists(WORDS, max_size=6).map(".".join)
PATTERNS = st.lists(st.one_of(WORDS, st.sampled_from(["*", "#"])), max_size=6).map(".".join)


def expression(pattern: str) -> str:
    """A regular expression over words, each of which ends with a dot."""
    parts = {"*": r"[^.]*\.", "#": r"(?:[^.]*\.)*"}
    words = pattern.split(".") if pattern else []
    return "".join(parts.get(word, re.escape(word) + r"\.") for word in words)


@given(patterns=st.lists(PATTERNS, max_size=8), key=KEYS, removed=st.integers(0, 7))
def test_a_topic_matches_as_an_expression_over_its_words_does(
    patterns: list[str], key: str, removed: int
) -> None:
    trie: TopicTrie[int] = TopicTrie()
    for number, pattern in enumerate(patterns):
        trie.add(pattern, number)
    if removed < len(patterns):
        trie.remove(patterns[removed], removed)
    text = key + "." if key else ""
    expected = {
        number
        for number, pattern in enumerate(patterns)
        if number != removed and re.fullmatch(expression(pattern), text)
    }
    assert set(trie.match(key)) == expected


def test_what_was_added_twice_is_removed_twice() -> None:
    trie: TopicTrie[str] = TopicTrie()
    trie.add("a.#", "q")
    trie.add("a.#", "q")
    trie.remove("a.#", "q")
    assert set(trie.match("a")) == {"q"}
    trie.remove("a.#", "q")
    assert not set(trie.match("a"))
    with pytest.raises(KeyError):
        trie.remove("a.#", "q")


def test_many_wildcards_cost_no_more_than_words_times_nodes() -> None:
    trie: TopicTrie[str] = TopicTrie()
    trie.add(".".join(["#", "a"] * 60), "q")
    assert not set(trie.match(".".join(["a"] * 59)))
    assert set(trie.match(".".join(["a"] * 120))) == {"q"}


@pytest.mark.parametrize(
    ("arguments", "headers", "expected"),
    [
        ({}, {}, True),
        ({"x-match": "any"}, {"kind": "a"}, False),
        ({"kind": "pdf", "pages": 3}, {"kind": "pdf", "pages": 3.0, "more": 1}, True),
        ({"kind": "pdf", "pages": 3}, {"kind": "pdf"}, False),
        ({"x-match": "any", "kind": "pdf", "pages": 3}, {"pages": 3}, True),
        ({"kind": None}, {"kind": "any"}, True),
        ({"kind": None}, {}, False),
        ({"flag": True}, {"flag": 1}, False),
        ({"kind": "pdf"}, {"kind": b"pdf"}, True),
        ({"place": {"city": "Oslo"}}, {"place": {"city": b"Oslo"}}, True),
        ({"x-tenant": "a"}, {}, True),
        ({"x-match": "all-with-x", "x-tenant": "a"}, {}, False),
        ({"x-match": "any-with-x", "x-tenant": "a"}, {"x-tenant": "a"}, True),
    ],
)
def test_headers(arguments: dict[str, Any], headers: dict[str, Any], expected: bool) -> None:
    assert headers_match(arguments, headers) is expected


def routed(router: Router, exchange: str, key: str, **headers: Any) -> tuple[str, ...]:
    properties = Properties(headers=headers or None)
    return router.route(exchange, Routable(keys_of(key, properties.headers), properties))


def router_of(*exchanges: Exchange, queues: str = "abc") -> Router:
    known = {exchange.name: exchange for exchange in exchanges}
    made = {name: AmqpQueue(name, name, True, False, False, {}) for name in queues}
    return Router(known, made, random.Random(1))


def test_a_hash_spreads_keys_by_weight_and_keeps_each_where_it_is() -> None:
    router = router_of(Exchange("hash", "x-consistent-hash"))
    router.add(AmqpBinding("hash", "a", routing_key="1"))
    router.add(AmqpBinding("hash", "b", routing_key="3"))
    before = {key: routed(router, "hash", key) for key in map(str, range(1_000))}
    counts = Counter(before.values())
    assert set(counts) == {("a",), ("b",)}
    assert 150 < counts["a",] < 350
    router.add(AmqpBinding("hash", "c", routing_key="1"))
    after = {key: routed(router, "hash", key) for key in before}
    moved = {key for key in before if after[key] != before[key]}
    assert {after[key] for key in moved} == {("c",)}
    assert 100 < len(moved) < 300
    with pytest.raises(ValueError, match="must be an integer"):
        router.add(AmqpBinding("hash", "a", routing_key="many"))
    by_header = new_table("x-consistent-hash", {"hash-header": "user"}, random.Random(1))
    for queue in "abc":
        by_header.add(AmqpBinding("hash", queue, routing_key="1"))
    message = Properties(headers={"user": "ada"})
    places = {tuple(by_header.match(Routable((key,), message))) for key in map(str, range(20))}
    assert len(places) == 1


def test_a_random_exchange_uses_all_of_its_bindings() -> None:
    router = router_of(Exchange("any", "x-random"))
    for queue in "abc":
        router.add(AmqpBinding("any", queue))
    assert {routed(router, "any", "k") for _ in range(100)} == {("a",), ("b",), ("c",)}


def test_bindings_between_exchanges_may_go_in_circles() -> None:
    router = router_of(Exchange("x", "topic"), Exchange("y", "fanout"), Exchange("z", "headers"))
    router.add(AmqpBinding("x", "y", False, "#.y"))
    router.add(AmqpBinding("y", "x", False))
    router.add(AmqpBinding("y", "z", False))
    router.add(AmqpBinding("z", "a", True, "", {"kind": "pdf"}))
    router.add(AmqpBinding("y", "b"))
    assert routed(router, "x", "k.y", kind="pdf") == ("a", "b")
    assert routed(router, "x", "k.y", kind="png") == ("b",)
    assert routed(router, "x", "k") == ()
    assert routed(router, "x", "k", CC=["k.y"]) == ("b",)
    assert router.remove(AmqpBinding("y", "b"))
    assert not router.remove(AmqpBinding("y", "b"))
    assert routed(router, "x", "k.y") == ()


def test_an_alternate_exchange_gets_what_no_binding_matches() -> None:
    router = router_of(
        Exchange("x", "direct", alternate="y"),
        Exchange("y", "direct", alternate="z"),
        Exchange("z", "fanout"),
    )
    router.add(AmqpBinding("x", "a", routing_key="a"))
    router.add(AmqpBinding("y", "b", routing_key="b"))
    router.add(AmqpBinding("z", "c"))
    assert [routed(router, "x", key) for key in ("a", "b", "c")] == [("a",), ("b",), ("c",)]


def test_the_default_exchange_goes_to_the_queue_of_the_key() -> None:
    router = router_of(Exchange("", "direct"))
    assert routed(router, "", "a", BCC=["b", "none"]) == ("a", "b")
    with pytest.raises(ValueError, match="CC is no array"):
        keys_of("a", {"CC": "b"})
