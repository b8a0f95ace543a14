"""Messages and events: what comes back by AMQP, what Kafka readers see, what events from elsewhere are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstem.amqp.errors import AmqpError
from mainstem.amqp.field_values import LongBytes, Timestamp
from mainstem.amqp.messages import (
    AmqpMessage,
    event_key,
    expiration_ms,
    properties_of,
    received,
    stored_headers_of,
)
from mainstem.amqp.properties import Properties
from mainstem.amqp.properties_codec import decode_properties, encode_properties
from mainstem.contract import Event, Headers
from mainstem.masking.mask import TopicMask
from mainstem.queues.event_headers import expiry_of, level_of
from tests.amqp.field_strategies import PROPERTIES
from tests.masking.test_mask import rule


def event_of(headers: Headers, key: bytes | None = b"k", value: bytes | None = b"body") -> Event:
    return Event("amqp.orders", 0, 7, 1_000, key, value, headers)


def stored(message: AmqpMessage, **times: int) -> Event:
    key = event_key(message)
    return event_of(stored_headers_of(message, key, **times), key, message.body)


@given(properties=PROPERTIES, key=st.text(max_size=60), body=st.binary(max_size=20))
def test_a_message_comes_back_byte_for_byte(properties: Properties, key: str, body: bytes) -> None:
    without = {name: value for name, value in (properties.headers or {}).items() if name != "BCC"}
    if properties.headers is not None and without != properties.headers:
        return
    message = received(stored(AmqpMessage("orders", key, properties, body)), "orders")
    assert message.properties_raw == encode_properties(properties)
    assert (message.exchange, message.routing_key, message.body) == ("orders", key, body)


def test_other_doors_see_properties_and_headers_by_their_names() -> None:
    properties = Properties(
        content_type="application/json",
        delivery_mode=2,
        priority=7,
        correlation_id="c-1",
        reply_to="answers",
        expiration="60000",
        message_id="m-1",
        timestamp=1_700_000_000,
        type="order.paid",
        user_id="guest",
        app_id="shop",
        headers={
            "tenant": "eu",
            "attempt": 3,
            "urgent": True,
            "raw": b"\xff",
            "none": None,
            "route": [1, {"hub": "OSL"}],
            "priority": "mine",
            "mainstem-x": "mine",
        },
    )
    event = stored(AmqpMessage("orders", "order.7", properties, b"{}"), expires_ms=1_060_000)
    assert event.key == b"order.7"
    headers = dict(event.headers)
    assert headers.pop("mainstem-amqp091") == encode_properties(properties)
    assert headers == {
        "content-type": b"application/json",
        "correlation-id": b"c-1",
        "message-id": b"m-1",
        "type": b"order.paid",
        "user-id": b"guest",
        "app-id": b"shop",
        "reply-to": b"queue:answers",
        "expires-at": b"1060000",
        "priority": b"7",
        "timestamp": b"1700000000",
        "tenant": b"eu",
        "attempt": b"3",
        "urgent": b"true",
        "raw": b"\xff",
        "none": None,
        "route": b'[1,{"hub":"OSL"}]',
        "user.priority": b"mine",
        "user.mainstem-x": b"mine",
    }
    assert (expiry_of(event.headers), level_of(event.headers)) == (1_060_000, 7)


def test_a_header_may_be_the_key_of_the_event() -> None:
    message = AmqpMessage("orders", "order.paid", Properties(headers={"key": "customer-7"}), b"1")
    event = stored(message)
    assert event.key == b"customer-7"
    assert received(event, "orders").routing_key == "order.paid"


def test_a_masked_header_is_masked_for_amqp_clients_too() -> None:
    sent = Properties(content_type="text/plain", headers={"card": "4111-1111", "source": "shop"})
    event = stored(AmqpMessage("orders", "k", sent, b"body"))
    mask = TopicMask([rule("header.card")], b"secret")
    properties = decode_properties(received(mask.masked(event), "orders").properties_raw)
    assert properties.content_type == "text/plain"
    assert properties.headers == {"card": "[hidden]", "source": "shop"}


def test_an_event_of_another_door_has_properties_by_its_headers() -> None:
    headers: Headers = (
        ("content-type", b"text/plain"),
        ("priority", b"high"),
        ("reply-to", b"queue:answers"),
        ("timestamp", b"12"),
        ("expires-at", b"99"),
        ("tenant", b"eu"),
        ("raw", b"\xff"),
        ("none", None),
        ("mainstem-hop", b"x"),
        ("message-id", b"m" * 300),
    )
    message = received(event_of(headers, None, None), "")
    assert (message.routing_key, message.body) == ("", b"")
    assert decode_properties(message.properties_raw) == Properties(
        content_type="text/plain",
        reply_to="answers",
        timestamp=12,
        headers={
            "priority": "high",
            "tenant": "eu",
            "raw": LongBytes(b"\xff"),
            "none": None,
            "message-id": "m" * 300,
        },
    )
    forged = event_of((("mainstem-amqp091", b"\xff\xff\xff"), ("type", b"order")))
    assert properties_of(forged).type == "order"


def test_a_quorum_queue_counts_deliveries_in_a_header() -> None:
    event = stored(AmqpMessage("", "q", Properties(headers={"a": Timestamp(1)}), b"1"))
    assert properties_of(event).headers == {"a": Timestamp(1)}
    again = decode_properties(received(event, "", failures=2).properties_raw)
    assert again.headers == {"a": Timestamp(1), "x-delivery-count": 2}


@pytest.mark.parametrize("text", ["", "-1", "1.5", "soon", "4294967296", "\u0661"])
def test_an_expiration_is_a_number(text: str) -> None:
    with pytest.raises(AmqpError, match="PRECONDITION_FAILED - invalid expiration"):
        expiration_ms(Properties(expiration=text))


def test_an_expiration_in_milliseconds() -> None:
    assert expiration_ms(Properties(expiration="60000")) == 60_000
    assert expiration_ms(Properties()) is None
