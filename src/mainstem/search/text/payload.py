"""Decodes the bytes of an event's payload, key and headers: JSON, text, binary or null.

A number such as 1.50 keeps its spelling: as binary floating point, different numbers would be the same.
Payloads with schemas (Avro, Protobuf) are not decoded.

JSON is what msgspec accepts: RFC 8259 in UTF-8, no NaN, no lone surrogates, numbers of at most 4,300 digits.
Other bytes are text if they are UTF-8. All others are binary: matched as lower-case hex.
"""

from __future__ import annotations

from typing import Any

import msgspec

from mainstem.search.text.numbers import SpelledNumber

NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes that are not JSON, are not UTF-8, or are nested too deeply to be read."""

_spelled: msgspec.json.Decoder[Any] = msgspec.json.Decoder(float_hook=SpelledNumber)


def decode_for_matching(value: bytes) -> Any:
    """Parse JSON for matching: numbers with a point or an exponent are `SpelledNumber`. Raises NOT_JSON."""
    return _spelled.decode(value)


def json_of(value: bytes | None) -> Any:
    """A payload as `decode_for_matching` parses it; UNSET if it is null or not JSON."""
    if value is None:
        return msgspec.UNSET
    try:
        return decode_for_matching(value)
    except NOT_JSON:
        return msgspec.UNSET


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
