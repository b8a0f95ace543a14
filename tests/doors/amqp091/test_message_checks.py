"""What is refused of a message's properties, with RabbitMQ's texts."""

from __future__ import annotations

import pytest

from mainstem.amqp.errors import AmqpError
from mainstem.amqp.properties import Properties
from mainstem.doors.amqp091.message_checks import MESSAGE_BYTES_MAX, check_properties, check_size

REFUSED = [
    (Properties(expiration="soon"), "invalid expiration 'soon': no_integer"),
    (Properties(expiration=""), "invalid expiration '': no_integer"),
    (Properties(expiration="100ms"), "invalid expiration '100ms': {leftover_string,\"ms\"}"),
    (Properties(expiration="-1"), "invalid expiration '-1': {value_negative,-1}"),
    (Properties(expiration="4294967296"), "invalid expiration '4294967296': {value_too_large,4294967296}"),
    (
        Properties(user_id="alice"),
        "user_id property set to 'alice' but authenticated user was 'guest'",
    ),
    (
        Properties(headers={"CC": "orders.eu"}),
        'invalid message: {unacceptable_type_in_header,"CC",longstr}',
    ),
    (Properties(headers={"BCC": 7}), 'invalid message: {unacceptable_type_in_header,"BCC",signedint}'),
]


@pytest.mark.parametrize(("properties", "text"), REFUSED)
def test_properties_that_are_refused(properties: Properties, text: str) -> None:
    with pytest.raises(AmqpError) as refusal:
        check_properties(properties, "guest")
    assert (refusal.value.code, refusal.value.is_channel) == (406, True)
    assert refusal.value.text == f"PRECONDITION_FAILED - {text}"


def test_properties_that_are_taken() -> None:
    for expiration in ("0", "1", "4294967295"):
        check_properties(Properties(expiration=expiration, user_id="guest"), "guest")
    check_properties(Properties(headers={"CC": ["orders.eu"], "BCC": []}), "guest")
    check_properties(Properties(headers={}), "guest")


def test_a_message_that_is_too_large() -> None:
    check_size(MESSAGE_BYTES_MAX)
    with pytest.raises(AmqpError, match=r"message size 16777217 is larger than configured max size"):
        check_size(MESSAGE_BYTES_MAX + 1)
