"""Messages of Pub/Sub and events of the log: how each becomes the other.

The data is the value, attributes are headers, the ordering key is the key. What other doors have written and
a message cannot hold is base64 in an attribute: one string that is not UTF-8 would make Google's clients
refuse a whole response.

Owns: this mapping. Refuses: limits of what is published (`publish_limits.py`), and dead letters.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from mainstem.contract import Event, NewEvent
from mainstem.pubsub.durations import set_milliseconds
from mainstem.queues.event_headers import EXPIRES_HEADER

KEY_ATTRIBUTE = "mainstem-key"
"""The attribute with the key of an event, in base64, where it cannot be an ordering key."""
BINARY_SUFFIX = "-bin"
"""Behind the name of a header whose value is not UTF-8: that attribute has it in base64."""
ORDERING_KEY_BYTES_MAX = 1_024
PARTITION_BITS = 16
_USER_PREFIX = "user."
_SERVER_PREFIX = "mainstem-"
_RESERVED = (_USER_PREFIX, _SERVER_PREFIX)


def message_id(partition: int, offset: int) -> str:
    """The id of a message: a number, unique in its topic, that says where the event is."""
    return str(offset << PARTITION_BITS | partition)


def place_of(message_id: str) -> tuple[int, int]:
    """The partition and the offset of the event with this id. ValueError: it is no id of this server."""
    if not (message_id.isascii() and message_id.isdigit() and len(message_id) <= 24):
        raise ValueError(f"not the id of a message: {message_id[:50]!r}")
    number = int(message_id)
    return number & ((1 << PARTITION_BITS) - 1), number >> PARTITION_BITS


def stored_attribute_name(name: str) -> str:
    """The name of the header that an attribute is stored as."""
    is_reserved = name.startswith(_RESERVED) or name == EXPIRES_HEADER
    return _USER_PREFIX + name if is_reserved else name


def new_event(data: bytes, attributes: Mapping[str, str], ordering_key: str) -> NewEvent:
    """The event that a published message becomes. Its time is that of its arrival."""
    headers = tuple([(stored_attribute_name(name), attributes[name].encode()) for name in sorted(attributes)])
    return NewEvent(data, ordering_key.encode() or None, headers)


def ordering_key_of(event: Event) -> str:
    """The ordering key of an event; empty: it has no key, or one that is in an attribute."""
    key = event.key
    if not key or len(key) > ORDERING_KEY_BYTES_MAX:
        return ""
    try:
        return key.decode()
    except UnicodeDecodeError:
        return ""


def attributes_of(event: Event) -> dict[str, str]:
    """The attributes of an event, whatever door it came by. Of headers with one name, the last counts."""
    attributes: dict[str, str] = {}
    for name, value in event.headers:
        if name.startswith(_SERVER_PREFIX):
            continue
        name = _attribute_name(name)
        try:
            attributes[name] = "" if value is None else value.decode()
        except UnicodeDecodeError:
            attributes[name + BINARY_SUFFIX] = base64.b64encode(value or b"").decode()
    if event.key and not ordering_key_of(event):
        attributes[KEY_ATTRIBUTE] = base64.b64encode(event.key).decode()
    return attributes


def _attribute_name(header: str) -> str:
    if header.startswith(_USER_PREFIX) and stored_attribute_name(header[len(_USER_PREFIX) :]) == header:
        header = header[len(_USER_PREFIX) :]
    if not header.isascii():
        header = header.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return header


def fill_message(target: Any, event: Event, publish_ms: int) -> None:
    """Set the fields of an empty `google.pubsub.v1.PubsubMessage`. `publish_ms`: when the event arrived."""
    target.message_id = message_id(event.partition, event.offset)
    if event.value:
        target.data = event.value
    key = event.key
    if event.headers or key:
        attributes = attributes_of(event)
        if attributes:
            target.attributes.update(attributes)
        if key:
            target.ordering_key = ordering_key_of(event)
    set_milliseconds(target.publish_time, max(0, publish_ms))
