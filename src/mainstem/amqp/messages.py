"""Messages and events: how a message is stored, so that every other door sees it, and how it comes back.

An AMQP message becomes an event with the routing key as its key, the body as its value, its properties and
headers as headers, and its raw properties in one more header, from which AMQP clients get them byte for byte.
An event that came by another door has no such header: its properties are made of its headers.

Owns: this mapping. Refuses: routing, and dead letters (`deaths.py`). Times are milliseconds since 1970.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

import msgspec

from mainstem.amqp.errors import amqp_error
from mainstem.amqp.field_tables import FieldTableError
from mainstem.amqp.field_values import FieldTable, Int64, LongBytes
from mainstem.amqp.properties import Properties
from mainstem.amqp.properties_codec import decode_properties, encode_properties
from mainstem.amqp.section_properties import section_properties
from mainstem.contract import Event, Headers
from mainstem.door_contract import AMQP_SECTIONS_HEADER
from mainstem.queues.event_headers import EXPIRES_HEADER, NOT_BEFORE_HEADER, PRIORITY_HEADER
from mainstem.routing_contract import AMQP091_HEADER, EXCHANGE_HEADER

ROUTING_KEY_HEADER = "routing-key"
"""Header with the routing key, where it is not the event's key."""
KEY_HEADER = "key"
"""A message's header that is the event's key, in place of the routing key."""
STREAM_OFFSET = "x-stream-offset"
"""Header of what a stream delivers, and argument of who consumes one."""
STREAM_FILTER_VALUE = "x-stream-filter-value"
"""Header by which consumers of a stream may choose."""
EXPIRATION_MS_MAX = (1 << 32) - 1
DELAY_MS_MAX = 7 * 24 * 3600 * 1000
"""The longest delay of a message: that of events."""

_TEXTS = (
    ("content_type", "content-type"),
    ("content_encoding", "content-encoding"),
    ("correlation_id", "correlation-id"),
    ("message_id", "message-id"),
    ("type", "type"),
    ("user_id", "user-id"),
    ("app_id", "app-id"),
)
"""Property -> the header that has it as it is."""
QUEUE_PREFIX = "queue:"
"""Before the name of a queue in the header `reply-to`."""
_OWN_NAMES = frozenset(
    {header for _, header in _TEXTS}
    | {"reply-to", "timestamp", EXPIRES_HEADER, PRIORITY_HEADER, ROUTING_KEY_HEADER}
)
"""Names of headers that are properties: a user's header with such a name gets a prefix."""
USER_PREFIX = "user."
_RESERVED = (USER_PREFIX, "mainstem-")


class AmqpMessage(msgspec.Struct, frozen=True, gc=False):
    """A message that is published."""

    exchange: str
    routing_key: str
    properties: Properties
    body: bytes
    user: str = ""
    """The login name of its publisher."""
    properties_raw: bytes | None = None
    """The properties as they were received; None: they are encoded anew."""


class ReceivedMessage(msgspec.Struct, frozen=True, gc=False):
    """A message that is delivered."""

    exchange: str
    routing_key: str
    properties_raw: bytes
    """Flags and values: the content header after the size of the body."""
    body: bytes


def expiration_ms(properties: Properties) -> int | None:
    """How long the message lives in a queue; None: its publisher says nothing. AmqpError (406): it is no
    number of 32 bits."""
    text = properties.expiration
    if text is None:
        return None
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit()):
        raise amqp_error(406, f"invalid expiration '{text}': no_integer")
    value = int(text)
    if not 0 <= value <= EXPIRATION_MS_MAX:
        problem = "value_negative" if value < 0 else "value_too_large"
        raise amqp_error(406, f"invalid expiration '{text}': {{{problem},{value}}}")
    return value


def delay_ms(properties: Properties) -> int:
    """How long an exchange that delays keeps the message: the header `x-delay`; 0: not at all."""
    delay = (properties.headers or {}).get("x-delay")
    if not isinstance(delay, int) or isinstance(delay, bool) or delay <= 0:
        return 0
    return min(delay, DELAY_MS_MAX)


def event_key(message: AmqpMessage) -> bytes:
    """The key of the event: the header `key` if it is text, else the routing key."""
    headers = message.properties.headers
    key = headers.get(KEY_HEADER) if headers else None
    return (key if isinstance(key, str) else message.routing_key).encode("utf-8", "surrogateescape")


def without_bcc(properties: Properties) -> Properties:
    """The properties as consumers see them: without the header BCC."""
    headers = properties.headers
    if not headers or "BCC" not in headers:
        return properties
    visible = {name: value for name, value in headers.items() if name != "BCC"}
    return msgspec.structs.replace(properties, headers=visible)


def with_headers(properties: Properties, headers: FieldTable) -> Properties:
    """The properties with these headers, too."""
    return msgspec.structs.replace(properties, headers={**(properties.headers or {}), **headers})


def stored_headers_of(
    message: AmqpMessage, key: bytes, *, expires_ms: int | None = None, not_before_ms: int | None = None
) -> Headers:
    """The headers of the event, of the door's own (`RoutedEvent.door_headers`). `expires_ms`: when it
    expires; `not_before_ms`: before when it is not delivered. FieldTableError: a property that AMQP cannot
    hold."""
    properties = without_bcc(message.properties)
    raw = message.properties_raw if properties is message.properties else None
    if raw is None:
        raw = encode_properties(properties)
    headers: list[tuple[str, bytes | None]] = [(AMQP091_HEADER, raw)]
    if not_before_ms is not None:
        headers.append((NOT_BEFORE_HEADER, b"%d" % not_before_ms))
    routing_key = message.routing_key.encode("utf-8", "surrogateescape")
    if routing_key != key:
        headers.append((ROUTING_KEY_HEADER, routing_key))
    for name, header in _TEXTS:
        value = getattr(properties, name)
        if value is not None:
            headers.append((header, value.encode("utf-8", "surrogateescape")))
    if properties.reply_to is not None:
        headers.append(("reply-to", (QUEUE_PREFIX + properties.reply_to).encode("utf-8", "surrogateescape")))
    if expires_ms is not None:
        headers.append((EXPIRES_HEADER, b"%d" % expires_ms))
    if properties.priority is not None:
        headers.append((PRIORITY_HEADER, b"%d" % properties.priority))
    if properties.timestamp is not None:
        headers.append(("timestamp", b"%d" % properties.timestamp))
    for name, value in (properties.headers or {}).items():
        headers.append((_stored_name(name), header_bytes(value)))
    return tuple(headers)


@lru_cache(1_024)
def _stored_name(name: str) -> str:
    """The name of a user's header as it is stored. Publishers use the same ones again and again."""
    is_own = name in _OWN_NAMES or name.startswith(_RESERVED)
    return (USER_PREFIX + name if is_own else name).encode("utf-8", "replace").decode()


def header_bytes(value: Any) -> bytes | None:
    """A header's value as other doors see it: text and bytes as they are, numbers and flags as text, tables
    and arrays as JSON, void as none."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    if value is None or isinstance(value, bytes):
        return value
    if isinstance(value, bool):
        return b"true" if value else b"false"
    if isinstance(value, dict | list):
        return json.dumps(_jsonable(value), separators=(",", ":")).encode()
    return str(value).encode()


def _jsonable(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _jsonable(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_jsonable(item) for item in value]
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return value if value is None or isinstance(value, str | bool | int) else str(value)


def routing_key_of(event: Event) -> str:
    """The routing key of a stored message; of an event from elsewhere, its key."""
    for name, value in event.headers:
        if name == ROUTING_KEY_HEADER and value is not None:
            return _short(value)
    return _short(event.key or b"")


def _short(data: bytes) -> str:
    return data[:255].decode("utf-8", "surrogateescape")


def properties_of(event: Event) -> Properties:
    """The properties of an event, whatever door it came by."""
    raw = raw_properties(event.headers)
    if raw is not None:
        try:
            return decode_properties(raw)
        except FieldTableError:
            pass  # Kafka's clients may write what they like under this name
    return _from_headers(event.headers)


def raw_properties(headers: Headers) -> bytes | None:
    """The properties as their publisher has encoded them; None: it was no AMQP client."""
    if headers and headers[0][0] == AMQP091_HEADER:
        return headers[0][1]
    for name, value in headers:
        if name == AMQP091_HEADER:
            return value
    return None


def _from_headers(headers: Headers) -> Properties:
    """The properties that the headers of an event from another door are. A header that does not parse as its
    meaning is one of the user's."""
    by_header = {header: name for name, header in _TEXTS}
    fields: dict[str, Any] = {}
    table: FieldTable = {}
    for header, value in headers:
        if header == AMQP_SECTIONS_HEADER and value is not None:
            of_stream, of_its_table = section_properties(value)
            fields |= of_stream
            table |= of_its_table
        if header.startswith("mainstem-"):
            continue
        name, parsed = by_header.get(header, ""), value
        if header in (PRIORITY_HEADER, "timestamp"):
            name, parsed = header, _number(header, value)
        elif header == "reply-to" and value is not None and value.startswith(QUEUE_PREFIX.encode()):
            name, parsed = "reply_to", value[len(QUEUE_PREFIX) :]
        elif header in (EXPIRES_HEADER, ROUTING_KEY_HEADER):
            continue
        if name and isinstance(parsed, bytes) and len(parsed) <= 255:
            fields[name] = parsed.decode("utf-8", "surrogateescape")
        elif name and isinstance(parsed, int):
            fields[name] = parsed
        else:
            table[header.encode("utf-8", "replace")[:255].decode("utf-8", "ignore")] = _table_value(value)
    return Properties(**fields, headers=table or None)


def _number(header: str, value: bytes | None) -> Any:
    most = 255 if header == PRIORITY_HEADER else (1 << 64) - 1
    if value is not None and value.isdigit() and len(value) <= 20 and int(value) <= most:
        return int(value)
    return None


def _table_value(value: bytes | None) -> str | bytes | None:
    if value is None:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return LongBytes(value)


def received(event: Event, exchange: str, failures: int = 0) -> ReceivedMessage:
    """The message that an event of a routed queue is: only a door can have given it raw properties.
    `failures`: earlier deliveries of a quorum queue that failed, which the
    header `x-delivery-count` has then."""
    raw = raw_properties(event.headers)
    if raw is None or failures:
        properties = properties_of(event)
        if failures:
            properties = with_headers(properties, {"x-delivery-count": Int64(failures)})
        raw = encode_properties(properties)
    return ReceivedMessage(exchange, routing_key_of(event), raw, event.value or b"")


def received_from_stream(event: Event, stream: str) -> ReceivedMessage:
    """The message that an event of a stream is. Any client may have written it, so that its properties are
    encoded anew. The routing key of an event without one is the stream's name, as in RabbitMQ."""
    exchange = ""
    for name, value in event.headers:
        if name == EXCHANGE_HEADER and value is not None:
            exchange = _short(value)
    properties = with_headers(properties_of(event), {STREAM_OFFSET: Int64(event.offset)})
    return ReceivedMessage(
        exchange, routing_key_of(event) or stream, encode_properties(properties), event.value or b""
    )


def received_from_topic(event: Event, exchange: str, failures: int = 0) -> ReceivedMessage:
    """The message that an event of a topic is; otherwise as `received`. Any client may have written it."""
    properties = properties_of(event)
    if failures:
        properties = with_headers(properties, {"x-delivery-count": Int64(failures)})
    return ReceivedMessage(
        exchange[:255], routing_key_of(event), encode_properties(properties), event.value or b""
    )
