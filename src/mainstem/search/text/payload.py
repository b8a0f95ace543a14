"""Decodes the bytes of an event's payload, key and headers: JSON, text, binary or null.

A number such as 1.50 keeps its spelling: as binary floating point, different numbers would be the same.
Payloads with schemas (Avro, Protobuf) are not decoded.

JSON is what msgspec accepts: RFC 8259 in UTF-8, no lone surrogates, numbers of at most 4,300 digits. What
many writers add is accepted too: a byte order mark, the five bytes that serializers of schema registries put
before JSON, and NaN and Infinity, which are read as texts. Other bytes are text if they are UTF-8. All others
are binary: matched as lower-case hex.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from mainstem.search.text.numbers import SpelledNumber

NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes that are not JSON, are not UTF-8, or are nested too deeply to be read."""

_spelled: msgspec.json.Decoder[Any] = msgspec.json.Decoder(float_hook=SpelledNumber)


_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_SCHEMA_BYTES = 5
"""A zero and the id of a schema, 4 bytes."""


def json_part(value: bytes) -> bytes:
    """The JSON of a payload, if it is JSON: all but a byte order mark or the bytes of a schema registry."""
    if value[:1] == b"\0" and value[_SCHEMA_BYTES : _SCHEMA_BYTES + 1] in (b"{", b"["):
        return value[_SCHEMA_BYTES:]
    return value[3:] if value[:3] == _BYTE_ORDER_MARK else value


def decode_for_matching(value: bytes) -> Any:
    """Parse JSON for matching: numbers with a point or an exponent are `SpelledNumber`. Raises NOT_JSON."""
    part = json_part(value)
    try:
        return _spelled.decode(part)
    except msgspec.DecodeError:
        if b"NaN" not in part and b"Infinity" not in part:
            raise
    return _decode_with_nan(part)


def _decode_with_nan(value: bytes) -> Any:
    """Parse JSON that may have NaN and Infinity, as Python and JavaScript libraries write them."""
    text = value.decode()
    if "\\ud" in text.lower():
        raise msgspec.DecodeError("there may be a lone surrogate")
    try:
        return json.loads(text, parse_float=SpelledNumber, parse_constant=str)
    except ValueError as error:
        raise msgspec.DecodeError(str(error)) from None


def looks_like_json(text: str) -> bool:
    """Whether a string may be JSON that was written into a string: an object or an array."""
    return text[:1] in ("{", "[") and text[-1:] in ("}", "]")


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
