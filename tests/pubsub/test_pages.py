"""Pages of lists and field masks, as the calls of List and Update use them."""

from __future__ import annotations

from typing import Any

import pytest

from mainstem.pubsub.field_masks import merge_masked
from mainstem.pubsub.messages import message
from mainstem.pubsub.pages import page_of

NAMES = [f"projects/shop/topics/t{number:03}" for number in range(25)]


def test_pages_follow_each_other_without_gaps() -> None:
    seen: list[str] = []
    token = ""
    for _ in range(3):
        page, token = page_of(NAMES, 10, token, "topics of shop")
        seen += page
    assert seen == NAMES
    assert token == ""


def test_a_size_of_0_is_the_default_and_there_is_a_most() -> None:
    many = [f"t{number:04}" for number in range(1_500)]
    assert len(page_of(many, 0, "", "x")[0]) == len(page_of(many, 100_000, "", "x")[0]) == 1_000


def test_what_was_deleted_since_does_no_harm() -> None:
    page, token = page_of(NAMES, 10, "", "x")
    rest = [name for name in NAMES if name != page[-1]]
    assert page_of(rest, 10, token, "x")[0] == NAMES[10:20]


def test_tokens_of_other_lists_and_other_texts_are_refused() -> None:
    token = page_of(NAMES, 1, "", "topics of shop")[1]
    for text, scope in ((token, "topics of air"), ("x", "topics of shop"), (token[:-4], "topics of shop")):
        with pytest.raises(ValueError, match="Invalid page token"):
            page_of(NAMES, 1, text, scope)
    with pytest.raises(ValueError, match="page token"):
        page_of(NAMES, 1, "\u00e9", "topics of shop")
    with pytest.raises(ValueError, match="page size"):
        page_of(NAMES, -1, "", "topics of shop")


def subscription(**fields: Any) -> Any:
    return message("google.pubsub.v1.Subscription")(**fields)


def merge(target: Any, source: Any, *paths: str) -> None:
    changeable = ("labels", "ack_deadline_seconds", "expiration_policy", "filter")
    merge_masked(target, source, paths, changeable=changeable, request="UpdateSubscriptionRequest")


def test_only_the_fields_of_the_mask_change() -> None:
    target = subscription(labels={"a": "1"}, ack_deadline_seconds=10, filter="attributes:x")
    merge(target, subscription(labels={"b": "2"}, ack_deadline_seconds=30), "labels")
    assert target == subscription(labels={"b": "2"}, ack_deadline_seconds=10, filter="attributes:x")
    merge(target, subscription(), "labels", "ack_deadline_seconds")
    assert target == subscription(filter="attributes:x")


def test_a_nested_path_changes_only_that() -> None:
    target = subscription()
    merge(target, subscription(expiration_policy={"ttl": {"seconds": 86_400}}), "expiration_policy.ttl")
    assert target.expiration_policy.ttl.seconds == 86_400
    merge(target, subscription(), "expiration_policy.ttl")
    assert not target.expiration_policy.HasField("ttl")
    empty = subscription()
    merge(empty, subscription(), "expiration_policy.ttl")
    assert empty == subscription()


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("ackDeadlineSeconds", "not a known Subscription field"),
        ("expiration_policy.x", "not a known"),
        ("labels.a", "not a known"),
        ("name.x", "not a known"),
        ("", "not a known"),
        ("topic", "'topic' field in the Subscription is not mutable"),
    ],
)
def test_other_paths_are_refused(path: str, text: str) -> None:
    target = subscription(labels={"a": "1"})
    with pytest.raises(ValueError, match=text):
        merge(target, subscription(), "labels", path)
    assert target == subscription(labels={"a": "1"})


def test_a_mask_without_paths_is_refused() -> None:
    with pytest.raises(ValueError, match="must be set"):
        merge(subscription(), subscription())
