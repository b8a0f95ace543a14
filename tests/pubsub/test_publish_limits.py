"""Limits of what is published."""

from __future__ import annotations

from typing import Any

import pytest

from mainstem.pubsub.messages import message
from mainstem.pubsub.publish_limits import REQUEST_BYTES_MAX, check_request


def of(**fields: Any) -> Any:
    return message("google.pubsub.v1.PubsubMessage")(**fields)


@pytest.mark.parametrize(
    "messages",
    [
        [of(data=b"x")],
        [of(data=b"x")] * 1_000,
        [of(attributes={"k": ""})],
        [of(data=b"x", attributes={f"k{i}": "" for i in range(100)})],
        [of(data=b"x", attributes={"k" * 256: "ü" * 512})],
        [of(data=b"x", ordering_key="ü" * 512)] * 2,
        [of(data=b"x", attributes={"googclient_traceparent": "00"})],
    ],
)
def test_what_pubsub_takes(messages: list[Any]) -> None:
    check_request(messages, REQUEST_BYTES_MAX)


@pytest.mark.parametrize(
    ("messages", "text"),
    [
        ([], "at least one message"),
        ([of(data=b"x")] * 1_001, "message_count is too large. You passed 1001"),
        ([of(data=b"x"), of()], "messages in the publish request is empty"),
        ([of(data=b"x", attributes={f"k{i}": "" for i in range(101)})], "attribute_count is too large"),
        (
            [of(data=b"x", attributes={"ü" * 128 + "k": ""})],
            "attribute_key_size is too large. You passed 257",
        ),
        ([of(data=b"x", attributes={"k": "v" * 1_025})], "attribute_value_size is too large"),
        ([of(data=b"x", attributes={"": "v"})], "must not be empty"),
        ([of(data=b"x", attributes={"google": "v"})], "reserved"),
        ([of(data=b"x", ordering_key="k" * 1_025)], "ordering_key is too large"),
        ([of(data=b"x", ordering_key="a"), of(data=b"x", ordering_key="b")], "the same ordering key"),
        ([of(data=b"x"), of(data=b"x", ordering_key="b")], "the same ordering key"),
    ],
)
def test_what_pubsub_does_not_take(messages: list[Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        check_request(messages, 100)


def test_a_request_has_at_most_10_mib() -> None:
    with pytest.raises(ValueError, match="request_size"):
        check_request([of(data=b"x")], REQUEST_BYTES_MAX + 1)
