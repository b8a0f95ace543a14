"""Messages as events and events as messages, whatever door they came by."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstem.contract import Event, Headers, NewEvent
from mainstem.pubsub.events import (
    attributes_of,
    fill_message,
    message_id,
    new_event,
    ordering_key_of,
    place_of,
    stored_attribute_name,
)
from mainstem.pubsub.messages import message

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
NAMES = st.one_of(TEXT, st.sampled_from(["expires-at", "user.id", "mainstem-key", "user.user.x", "x-bin"]))


def stored(event: NewEvent, partition: int = 0, offset: int = 7) -> Event:
    return Event("orders", partition, offset, 1_700_000_000_123, event.key, event.value, event.headers)


def from_elsewhere(headers: Headers = (), key: bytes | None = None, value: bytes | None = b"{}") -> Event:
    return Event("orders", 0, 7, 1_700_000_000_123, key, value, headers)


@given(st.binary(max_size=100), st.dictionaries(NAMES, TEXT, max_size=8), TEXT)
def test_a_published_message_comes_back_as_it_was(
    data: bytes, attributes: dict[str, str], ordering_key: str
) -> None:
    event = stored(new_event(data, attributes, ordering_key))
    received = message("google.pubsub.v1.PubsubMessage")()
    fill_message(received, event, event.timestamp_ms)
    assert received.data == data
    assert dict(received.attributes) == attributes
    assert received.ordering_key == ordering_key
    assert received.publish_time.ToMilliseconds() == event.timestamp_ms
    type(received).FromString(received.SerializeToString())


@given(
    st.lists(st.tuples(TEXT, st.none() | st.binary(max_size=20)), max_size=6).map(tuple),
    st.none() | st.binary(max_size=1_100),
    st.none() | st.binary(max_size=20),
)
def test_any_event_is_a_message_that_clients_can_read(
    headers: Headers, key: bytes | None, value: bytes | None
) -> None:
    received = message("google.pubsub.v1.PubsubMessage")()
    fill_message(received, from_elsewhere(headers, key, value), -1)
    again = type(received).FromString(received.SerializeToString())
    assert again == received
    assert again.message_id


def test_what_is_not_utf_8_is_base64() -> None:
    event = from_elsewhere((("trace", b"\xff\x00"), ("kind", b"order"), ("none", None)), key=b"\xfe")
    assert attributes_of(event) == {
        "trace-bin": base64.b64encode(b"\xff\x00").decode(),
        "kind": "order",
        "none": "",
        "mainstem-key": base64.b64encode(b"\xfe").decode(),
    }
    assert ordering_key_of(event) == ""


def test_a_key_that_is_too_long_is_an_attribute() -> None:
    event = from_elsewhere(key=b"k" * 1_025)
    assert ordering_key_of(event) == ""
    assert attributes_of(event) == {"mainstem-key": base64.b64encode(b"k" * 1_025).decode()}
    assert ordering_key_of(from_elsewhere(key=b"k" * 1_024)) == "k" * 1_024


def test_of_repeated_headers_the_last_counts_and_the_servers_own_are_hidden() -> None:
    event = from_elsewhere((("kind", b"old"), ("mainstem-amqp091", b"\x00"), ("kind", b"new")))
    assert attributes_of(event) == {"kind": "new"}


def test_a_header_whose_name_is_not_utf_8_can_be_sent() -> None:
    event = from_elsewhere(((b"caf\xe9".decode("utf-8", "surrogateescape"), b"x"),))
    assert attributes_of(event) == {"caf\ufffd": "x"}


def test_attributes_that_mean_something_to_the_server_are_stored_as_the_users() -> None:
    assert stored_attribute_name("expires-at") == "user.expires-at"
    assert stored_attribute_name("mainstem-not-before") == "user.mainstem-not-before"
    assert stored_attribute_name("content-type") == "content-type"


def test_a_kafka_header_with_the_prefix_of_users_is_shown_as_it_is() -> None:
    assert attributes_of(from_elsewhere((("user.id", b"7"),))) == {"user.id": "7"}


def test_no_ordering_key_is_no_key() -> None:
    assert new_event(b"{}", {}, "").key is None


@given(st.integers(0, 65_535), st.integers(0, (1 << 48) - 1))
def test_the_id_says_where_the_event_is(partition: int, offset: int) -> None:
    assert place_of(message_id(partition, offset)) == (partition, offset)


def test_other_ids_are_refused() -> None:
    for text in ("", "x", "-1", "1" * 25, "\u0661"):
        with pytest.raises(ValueError, match="not the id"):
            place_of(text)
