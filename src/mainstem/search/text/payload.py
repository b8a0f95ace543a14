"""Decodes the bytes of an event's payload, key and headers: JSON, text, binary or null.

JSON is decoded in two ways: for display (`decode`, plain values) and for matching (`decode_for_matching`,
where a number such as 1.50 keeps its spelling). Payloads with schemas (Avro, Protobuf) are not decoded.

JSON is what msgspec accepts: RFC 8259 in UTF-8, no NaN, no lone surrogates, numbers of at most 4,300 digits.
Other bytes are text if they are UTF-8. All others are binary: matched and shown as lower-case hex.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec

from mainstem.search.text.numbers import SpelledNumber

PayloadKind: TypeAlias = Literal["json", "text", "binary", "null"]

NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes that are not JSON, are not UTF-8, or are nested too deeply to be read."""

_plain = msgspec.json.Decoder()
_spelled: msgspec.json.Decoder[Any] = msgspec.json.Decoder(float_hook=SpelledNumber)


class Payload(msgspec.Struct, frozen=True):
    """A decoded payload, key or header value."""

    kind: PayloadKind
    parsed: Any = None
    """The parsed value if the kind is `json`, as plain Python objects."""
    text: str = ""
    """The text if the kind is `json` or `text`; hex digits if it is `binary`."""


def decode(value: bytes | None) -> Payload:
    """Decode a payload, key or header value for display. Never raises: bytes that are not JSON are text or
    binary."""
    if value is None:
        return Payload("null")
    try:
        return Payload("json", _plain.decode(value), value.decode())
    except NOT_JSON:
        return Payload("binary" if is_binary(value) else "text", None, text_of(value))


def decode_for_matching(value: bytes) -> Any:
    """Parse JSON for matching: numbers with a point or an exponent are `SpelledNumber`. Raises NOT_JSON."""
    return _spelled.decode(value)


def text_of(raw: bytes) -> str:
    """The text of a key, a header value, or a payload that is not JSON: UTF-8, or hex where it is not."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.hex()


def is_binary(raw: bytes) -> bool:
    """Whether `text_of` gives hex for these bytes, because they are not UTF-8."""
    try:
        raw.decode()
    except UnicodeDecodeError:
        return True
    return False
