"""Masks: what is shown in the place of a value, wherever a search would find that value."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstem.access_contract import EVERYBODY, PatternType, Principal, Requester
from mainstem.contract import Event
from mainstem.masking.mask import HIDDEN_BYTES, TopicMask
from mainstem.masking.rules import MaskKind, MaskPath, MaskRule, rules_for

SECRET = b"s" * 32
CARD = "4111111111111234"


def rule(path: str, kind: MaskKind = MaskKind.HIDDEN, **fields: Any) -> MaskRule:
    values: dict[str, Any] = {
        "name": path,
        "topic": "orders",
        "pattern": PatternType.LITERAL,
        "principals": (EVERYBODY,),
    }
    return MaskRule(path=MaskPath.parse(path), kind=kind, **(values | fields))


def event(
    value: bytes | None, key: bytes | None = None, headers: tuple[tuple[str, bytes | None], ...] = ()
) -> Event:
    return Event("orders", 0, 0, 0, key, value, headers)


def shown(value: bytes | None, *rules: MaskRule) -> bytes | None:
    return TopicMask(rules, SECRET).masked(event(value)).value


def shown_json(value: Any, *rules: MaskRule) -> Any:
    return json.loads(shown(json.dumps(value).encode(), *rules) or b"")


def test_the_kinds_of_masks() -> None:
    value = {"hidden": CARD, "hashed": CARD, "last4": CARD, "short": "1234567", "number": 12345678, "x": 1}
    rules = [
        rule("hidden"),
        rule("hashed", MaskKind.HASHED),
        rule("last4", MaskKind.LAST4),
        rule("short", MaskKind.LAST4),
        rule("number", MaskKind.LAST4),
    ]
    masked = shown_json(value, *rules)
    assert masked.pop("hashed").startswith("hash:")
    assert masked == {
        "hidden": "[hidden]",
        "last4": "…1234",
        "short": "[hidden]",
        "number": "…5678",
        "x": 1,
    }


def test_equal_values_have_equal_hashes_and_servers_have_others() -> None:
    hashed = rule("card", MaskKind.HASHED)
    payload = json.dumps({"card": CARD}).encode()
    assert TopicMask([hashed], SECRET).masked(event(payload)) == TopicMask([hashed], SECRET).masked(
        event(payload)
    )
    assert TopicMask([hashed], SECRET).masked(event(payload)) != TopicMask([hashed], b"t" * 32).masked(
        event(payload)
    )


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("a.b", {"a": {"b": 1, "c": 2}}, {"a": {"b": "[hidden]", "c": 2}}),
        ("a.b", {"a": [{"b": 1}, {"b": 2}, 3]}, {"a": [{"b": "[hidden]"}, {"b": "[hidden]"}, 3]}),
        ("a.b", [{"a": {"b": 1}}], [{"a": {"b": "[hidden]"}}]),
        ("a", {"a": {"b": {"c": 1}}}, {"a": "[hidden]"}),
        ("*.b", {"x": {"b": 1}, "y": {"c": 3}}, {"x": {"b": "[hidden]"}, "y": {"c": 3}}),
        ('"a.b"', {"a.b": 1, "a": {"b": 2}}, {"a.b": "[hidden]", "a": {"b": 2}}),
        ("a.b", {"a": '{"b": 1, "c": 2}'}, {"a": '{"b":"[hidden]","c":2}'}),
        ("a.b", {"a": '[{"a": 1}, {"b": 2}]'}, {"a": '[{"a":1},{"b":"[hidden]"}]'}),
        ("a.b", {"a": "{no json}"}, {"a": "{no json}"}),
        ("a", {"a": None}, {"a": "[hidden]"}),
        ("a", {"b": 1}, {"b": 1}),
    ],
)  # fmt: skip
def test_a_field_is_masked_where_a_search_finds_it(path: str, value: Any, expected: Any) -> None:
    assert shown_json(value, rule(path)) == expected


def test_arrays_and_objects_are_masked_in_each_scalar() -> None:
    masked = shown_json({"a": [CARD, {"b": CARD}, None]}, rule("a", MaskKind.LAST4))
    assert masked == {"a": ["…1234", {"b": "…1234"}, None]}


def test_a_name_that_occurs_twice_hides_nothing() -> None:
    payload = b'{"a": {"card": "4111111111111234"}, "a": 5, "card": "4111111111111234", "card": 1}'
    assert shown(payload, rule("card")) == b'{"a":5,"card":"[hidden]"}'
    assert shown(payload, rule("a.card")) == b'{"a":5,"card":1}'


def test_what_is_not_json_is_hidden_whole() -> None:
    for payload in (b"card=4111", b"\xff\xfe", b'{"card": "4111', b"[" * 100_000):
        assert shown(payload, rule("card")) == HIDDEN_BYTES
    assert shown(None, rule("card")) is None


def test_deep_nesting_is_masked_or_hidden() -> None:
    for depth in (100, 300, 500, 900, 1_000, 5_000):
        payload = b"[" * depth + b'{"card":"4111"}' + b"]" * depth
        assert shown(payload, rule("card")) in (HIDDEN_BYTES, payload.replace(b"4111", b"[hidden]"))


def test_numbers_keep_their_spelling() -> None:
    payload = b'{"price": 1.50, "big": 123456789012345678901234567890, "tiny": 1e-400, "card": "x"}'
    expected = b'{"price":1.50,"big":123456789012345678901234567890,"tiny":1e-400,"card":"[hidden]"}'
    assert shown(payload, rule("card")) == expected


def test_the_whole_payload_the_key_and_headers() -> None:
    original = event(b"secret text", b"alice", (("auth", b"token-12345678"), ("auth", None), ("x", b"1")))
    masked = TopicMask(
        [rule("$"), rule("key", MaskKind.LAST4), rule("header.auth", MaskKind.LAST4)], SECRET
    ).masked(original)
    assert masked.value == HIDDEN_BYTES
    assert masked.key == b"[hidden]"
    assert masked.headers == (("auth", "…5678".encode()), ("auth", None), ("x", b"1"))


RAW = (("mainstem-amqp091", b"raw"), ("mainstem-amqp", b"raw"), ("user.mainstem-amqp091", b"raw"))


@pytest.mark.parametrize("path", ["header.auth", "header.other", "key"])
def test_headers_that_may_have_a_masked_one_in_them_are_left_out(path: str) -> None:
    mask = TopicMask([rule(path)], SECRET)
    assert mask.masked(event(b"1", headers=(*RAW, ("x", b"1")))).headers == (("x", b"1"),)
    with_fields = TopicMask([rule("card")], SECRET)
    assert with_fields.masked(event(b"{}", headers=RAW)).headers == RAW


def test_of_two_rules_for_a_place_the_stricter_holds() -> None:
    for rules in ([MaskKind.LAST4, MaskKind.HIDDEN], [MaskKind.HIDDEN, MaskKind.LAST4]):
        masked = shown_json({"card": CARD}, *(rule("card", kind) for kind in rules))
        assert masked == {"card": "[hidden]"}
    assert shown_json({"card": CARD}, rule("card", MaskKind.LAST4), rule("*")) == {"card": "[hidden]"}


def test_whom_a_rule_applies_to() -> None:
    alice = Requester(principal=Principal("User", "alice"), host="::1")
    support = Principal("Role", "support")
    helper = Requester(principal=Principal("User", "bob"), roles=frozenset({support}), host="::1")
    for_all = rule("a", exempt=(Principal("User", "alice"),))
    for_support = rule("b", principals=(support,))
    prefixed = rule("c", topic="ord", pattern=PatternType.PREFIXED)
    everywhere = rule("d", topic="*")
    rules = [for_all, for_support, prefixed, everywhere]
    assert rules_for(rules, alice, "orders") == (prefixed, everywhere)
    assert rules_for(rules, helper, "orders") == (for_all, for_support, prefixed, everywhere)
    assert rules_for(rules, helper, "flights") == (everywhere,)


@pytest.mark.parametrize("text", ["a", "a.b", "*.b", '"a.b".c', "header.x", "key", "$", '"key"', '"$"'])
def test_a_path_reads_as_it_was_written(text: str) -> None:
    assert MaskPath.parse(text).text == text
    assert MaskPath.parse(MaskPath.parse(text).text) == MaskPath.parse(text)


@pytest.mark.parametrize("text", ["", ".", "a.", ".a", "a..b", 'a"b', "header", ".".join("a" * 51)])
def test_what_is_not_a_path_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"path|header"):
        MaskPath.parse(text)


SECRETS = st.sampled_from(["4111111111111234", "5500000000000004"])
TREES: st.SearchStrategy[Any] = st.recursive(
    SECRETS | st.integers() | st.none(),
    lambda child: (
        st.lists(child, max_size=3) | st.dictionaries(st.sampled_from(["card", "a", "b"]), child, max_size=3)
    ),
    max_leaves=12,
)


def without_cards(value: Any) -> Any:
    """The naive reading of the rule `card` at any depth up to four."""
    if isinstance(value, list):
        return [without_cards(child) for child in value]
    if isinstance(value, dict):
        return {k: "[hidden]" if k == "card" else without_cards(v) for k, v in value.items()}
    return value


@given(TREES)
def test_masks_are_those_of_a_naive_reading(tree: Any) -> None:
    rules = [rule(".".join(["*"] * depth + ["card"])) for depth in range(12)]
    assert shown_json(tree, *rules) == without_cards(tree)
