"""Names of Pub/Sub's resources: their syntax, and what they are called in the log."""

from __future__ import annotations

import pytest

from mainstem.pubsub.names import ResourceName, is_legal_id, parse_name, parse_project, stored_name


def test_a_full_name_is_parsed_and_printed() -> None:
    name = parse_name("projects/shop/topics/orders", "topics")
    assert name == ResourceName("shop", "topics", "orders")
    assert str(name) == "projects/shop/topics/orders"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "orders",
        "projects/shop/topics/",
        "projects/shop/topics/or",  # under three characters
        "projects/shop/topics/1orders",
        "projects/shop/topics/google-orders",
        "projects/shop/topics/orders/x",
        "projects/shop/topics/orders\n",
        "projects//topics/orders",
        "projects/shop/subscriptions/orders",
        "projects/shop/topics/" + "o" * 256,
        "projects/shop/topics/_deleted-topic_",
        "projects/shop/topics/b\u00e9stellungen",
    ],
)
def test_what_is_no_name_is_refused_with_the_name_in_the_text(text: str) -> None:
    with pytest.raises(ValueError, match="Invalid resource name given"):
        parse_name(text, "topics")


def test_ids_may_have_all_that_google_allows() -> None:
    assert is_legal_id("a" * 255)
    assert is_legal_id("Order-Events_v2.1~draft+x%20")


def test_projects() -> None:
    assert parse_project("projects/example.com:shop") == "example.com:shop"
    for text in ("shop", "projects/", "projects/a/b", "projects/ shop"):
        with pytest.raises(ValueError, match="Invalid project name given"):
            parse_project(text)


def test_the_default_project_has_the_ids_as_names() -> None:
    assert stored_name(ResourceName("shop", "topics", "order_events.v1"), "shop") == "order_events.v1"
    assert stored_name(ResourceName("air", "topics", "flights"), "shop") == "air.flights"
    assert stored_name(ResourceName("a:b", "topics", "a~b+c%"), "shop") == "a_3ab.a_7eb_2bc_25"


def test_long_and_taken_names_have_a_hash() -> None:
    first = stored_name(ResourceName("shop", "topics", "o" * 254 + "1"), "shop")
    second = stored_name(ResourceName("shop", "topics", "o" * 254 + "2"), "shop")
    assert first != second
    assert len(first) == len(second) == 217
    orders = ResourceName("air", "topics", "flights")
    assert stored_name(orders, "shop", is_taken=True).startswith("air.flights-")
