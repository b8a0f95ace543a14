"""Queries and fields that would reveal what is masked are refused, and all others are not."""

from __future__ import annotations

import pytest

from mainstem.contract import InvalidArgument
from mainstem.masking.query_check import check_fields, check_query, is_masked_field
from mainstem.masking.rules import MaskPath
from mainstem.search.query.parser import parse
from tests.masking.test_mask import rule

RULES = [rule("customer.card"), rule("header.auth"), rule("*.pin")]


@pytest.mark.parametrize(
    "query",
    [
        "customer.card:4111*",
        "customer.card.number:1",
        "customer:x",
        "NOT customer.card:1",
        "status:paid OR (status:open AND customer.card:>4)",
        "_exists_:customer.card",
        "header.auth:x",
        "header.mainstem-amqp091:x",
        "_exists_:header.mainstem-amqp",
        "any.pin:1",
        "any:1",
        "4111",
        "/4111.*/",
        '"4111 1111"',
    ],
)
def test_a_query_of_something_masked_is_refused(query: str) -> None:
    with pytest.raises(InvalidArgument, match="masked for you"):
        check_query(parse(query), RULES, "orders")


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("customer:x", "customer: customer.card may be in it, which is masked for you in topic orders"),
        ("city:x", r"city: \*.pin may be in it, which is masked for you in topic orders"),
        ("customer.card.x:1", "customer.card.x: it is masked for you in topic orders"),
    ],
)
def test_a_refusal_names_what_is_masked(query: str, reason: str) -> None:
    with pytest.raises(InvalidArgument, match=f"^{reason}"):
        check_query(parse(query), RULES, "orders")


@pytest.mark.parametrize(
    "query",
    ["", "*", "key:1", "topic:orders", "time:>-1h", "offset:5", "header.other:x", "customer.name:x"],
)
def test_any_other_query_is_not(query: str) -> None:
    check_query(parse(query), [rule("customer.card"), rule("header.auth")], "orders")


def test_the_key_may_be_masked() -> None:
    with pytest.raises(InvalidArgument, match="masked for you"):
        check_query(parse("header.mainstem-amqp091:x"), [rule("key")], "orders")
    check_query(parse("header.mainstem-amqp091:x"), [rule("card")], "orders")
    with pytest.raises(InvalidArgument, match=r"^key: it is masked for you in topic orders"):
        check_query(parse("key:1"), [rule("key")], "orders")


def test_fields_of_facets() -> None:
    paths = [item.path for item in RULES]
    for field in ("customer.card", "customer", "customer.card.x", "header.auth", "x.pin"):
        assert is_masked_field(field, paths)
        with pytest.raises(InvalidArgument, match="masked"):
            check_fields([field], RULES, "orders")
    for field in ("key", "header.other", "customer.name", "x.y"):
        assert not is_masked_field(field, paths)
    assert is_masked_field("header.mainstem-amqp", paths)
    assert is_masked_field("anything", [MaskPath.parse("$")])
    assert is_masked_field("not a..path", paths), "what cannot be read is not shown"
