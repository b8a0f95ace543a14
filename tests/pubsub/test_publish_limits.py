"""Limits of what is published."""

from __future__ import annotations

from typing import Any

import pytest

from mainstem.pubsub.messages import message
from mainstem.pubsub.publish_limits import REQUEST_BYTES_MAX, check_encoded, check_request


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


def test_messages_are_counted_before_they_are_decoded() -> None:
    """Five million empty ones take 500 MiB."""
    filler, some = b"\x0a\xff\xff\x3f" + bytes((1 << 20) - 1), b"\x12\0"
    check_encoded(some * 1_001)  # little, however many
    check_encoded(filler + some * 1_000)
    check_encoded(filler + b"\x18\x80\x01" + b"\x21" + bytes(8) + b"\x2d" + bytes(4))
    for request, text in (
        (filler + some * 1_001, "message_count"),
        (filler + b"\x92\0\0" * 1_001, "message_count"),  # the tag is longer than it need be
        (filler + b"\x18\0" * 2_001, "too many fields"),
        (b"\x23\x24" + filler + some * 1_001, "cannot have"),  # a group in front
        (bytes(REQUEST_BYTES_MAX + 1), "request_size"),
    ):
        with pytest.raises(ValueError, match=text):
            check_encoded(request)
    for cut_off in (filler + b"\x12", filler + b"\x12\xff", filler[:-1], filler + b"\xff" * 20):
        check_encoded(cut_off)


def test_what_is_counted_is_what_is_decoded() -> None:
    request = message("google.pubsub.v1.PublishRequest")(topic="t")
    request.messages.extend([of(data=bytes(2_000), ordering_key="k")] * 1_000)
    encoded = request.SerializeToString()
    check_encoded(encoded)
    with pytest.raises(ValueError, match="message_count"):
        check_encoded(encoded + b"\x12\0")
