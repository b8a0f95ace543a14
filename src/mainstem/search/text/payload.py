"""What an event's bytes say: JSON, text, binary or nothing.

Owns: `decode`, the text of keys and header values, and the two ways of reading JSON: for people (`decode`,
plain values) and for matching (`decode_for_matching`, where a number such as 1.50 keeps its spelling).
Refuses: schemas (Avro and Protobuf come with the schema registry).

JSON is what msgspec takes: RFC 8259 in UTF-8, no NaN, no lone surrogates, numbers of at most 4,300 digits.
What is not, is text when it is UTF-8, and else binary, which is read and shown as lower-case hex.
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
    """A value, key or header value, read."""

    kind: PayloadKind
    parsed: Any = None
    """Of JSON: the value, as plain Python objects."""
    text: str = ""
    """Of JSON and text: what stands there. Of binary: hex."""


def decode(value: bytes | None) -> Payload:
    """What these bytes say. Never raises."""
    if value is None:
        return Payload("null")
    try:
        return Payload("json", _plain.decode(value), value.decode())
    except NOT_JSON:
        return Payload("binary" if is_binary(value) else "text", None, text_of(value))


def decode_for_matching(value: bytes) -> Any:
    """JSON for matching: numbers with a point or an exponent are `SpelledNumber`. Raises one of NOT_JSON."""
    return _spelled.decode(value)


def text_of(raw: bytes) -> str:
    """The text of a key, a header value, or a payload that is not JSON: UTF-8, or hex where it is not."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.hex()


def is_binary(raw: bytes) -> bool:
    """Whether this is read as hex."""
    try:
        raw.decode()
    except UnicodeDecodeError:
        return True
    return False
