"""The limits of what is published, as Pub/Sub documents them, checked before an event is made.

Owns: these limits and the texts of their errors, which are Google's where clients have shown them. Refuses:
schemas. Source: https://cloud.google.com/pubsub/quotas#resource_limits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mainstem.pubsub.events import ORDERING_KEY_BYTES_MAX

MESSAGES_MAX = 1_000
"""Of a request."""
REQUEST_BYTES_MAX = 10 << 20
"""Of an encoded request, and so of a message."""
ATTRIBUTES_MAX = 100
"""Of a message."""
ATTRIBUTE_NAME_BYTES_MAX = 256
ATTRIBUTE_VALUE_BYTES_MAX = 1_024
_RESERVED = "goog"
_OF_CLIENTS = "googclient_"
"""Client libraries set attributes whose names begin so."""
COUNTED_BYTES = 1 << 20
"""From this size on, messages are counted before they are decoded."""
FIELDS_MAX = 2 * MESSAGES_MAX
_MESSAGES_TAG = 2 << 3 | 2
"""The number of the field `messages`, and the type of what has a length."""
_FIXED_BYTES = {1: 8, 5: 4}


def check_encoded(request: bytes) -> None:
    """Check an encoded `google.pubsub.v1.PublishRequest` before it is decoded: 10 MiB may be five million
    empty messages, which take 500 MiB. ValueError with the text for the client. What is cut
    off is left to the decoder."""
    if len(request) > REQUEST_BYTES_MAX:
        raise _too_large("request_size", len(request), REQUEST_BYTES_MAX)
    if len(request) < COUNTED_BYTES:
        return
    position, fields, messages = 0, 0, 0
    while position < len(request):
        tag, position = _varint(request, position)
        fields += 1
        messages += tag == _MESSAGES_TAG
        if messages > MESSAGES_MAX:
            raise _too_large("message_count", messages, MESSAGES_MAX)
        if fields > FIELDS_MAX:
            raise ValueError("The request has too many fields.")
        if tag & 7 == 2:
            length, position = _varint(request, position)
            position += length
        elif tag & 7 == 0:
            _, position = _varint(request, position)
        elif tag & 7 in _FIXED_BYTES:
            position += _FIXED_BYTES[tag & 7]
        else:  # a group would hide what is behind it
            raise ValueError("The request has a field of a type that it cannot have.")


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """A number of at most ten bytes, and where the next begins."""
    number = 0
    for shift, byte in zip(range(0, 70, 7), data[position : position + 10], strict=False):
        number |= (byte & 0x7F) << shift
        position += 1
        if byte < 0x80:
            return number, position
    return 0, len(data)


def check_request(messages: Sequence[Any], request_bytes: int) -> None:
    """Check the `google.pubsub.v1.PubsubMessage`s of a request of this size. ValueError with the text for
    the client: a limit is exceeded, a message is empty, or they have different ordering keys."""
    if request_bytes > REQUEST_BYTES_MAX:
        raise _too_large("request_size", request_bytes, REQUEST_BYTES_MAX)
    if not messages:
        raise ValueError("The request must contain at least one message.")
    if len(messages) > MESSAGES_MAX:
        raise _too_large("message_count", len(messages), MESSAGES_MAX)
    ordering_key = messages[0].ordering_key
    if len(ordering_key) * 4 > ORDERING_KEY_BYTES_MAX:
        _check_bytes("ordering_key", ordering_key, ORDERING_KEY_BYTES_MAX)
    for item in messages:
        if item.attributes:
            _check_attributes(item.attributes)
        elif not item.data:
            raise ValueError(
                "One or more messages in the publish request is empty. Each message must contain either"
                " non-empty data, or at least one attribute."
            )
        if item.ordering_key != ordering_key:
            raise ValueError(
                "In a single publish request, all messages must have no ordering key or they must all have"
                " the same ordering key."
            )


def _check_attributes(attributes: Mapping[str, str]) -> None:
    if len(attributes) > ATTRIBUTES_MAX:
        raise _too_large("attribute_count", len(attributes), ATTRIBUTES_MAX)
    for name, text in attributes.items():
        if not name:
            raise ValueError("The name of an attribute must not be empty.")
        if name.startswith(_RESERVED) and not name.startswith(_OF_CLIENTS):
            raise ValueError(
                f"Attribute names that begin with '{_RESERVED}' are reserved (name={name[:256]})."
            )
        if len(name) * 4 > ATTRIBUTE_NAME_BYTES_MAX:
            _check_bytes("attribute_key_size", name, ATTRIBUTE_NAME_BYTES_MAX)
        if len(text) * 4 > ATTRIBUTE_VALUE_BYTES_MAX:
            _check_bytes("attribute_value_size", text, ATTRIBUTE_VALUE_BYTES_MAX)


def _check_bytes(what: str, text: str, most: int) -> None:
    size = len(text.encode())
    if size > most:
        raise _too_large(what, size, most)


def _too_large(what: str, size: int, most: int) -> ValueError:
    return ValueError(
        f"The value for {what} is too large. You passed {size} in the request, but the maximum value is"
        f" {most}."
    )
