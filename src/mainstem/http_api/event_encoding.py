"""Converts events to JSON.

Owns: the conversion that reading, tailing, searching and pushing share. Refuses: to change a payload: numbers
in JSON keep the digits with which they were written, and bytes that are not UTF-8 become base64.
"""

from __future__ import annotations

import binascii
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import msgspec
from msgspec import UNSET, Raw, UnsetType

from mainstem.amqp_sections import SectionError, jsonable, read_sections
from mainstem.contract import Event, Headers
from mainstem.door_contract import AMQP_SECTIONS_HEADER
from mainstem.http_api.events import Encoding, EventJson, HeaderJson
from mainstem.timespec import format_iso

NULL = Raw(b"null")
EncodedPayload = tuple[Raw, Encoding | UnsetType]
LARGE_BYTES = 1 << 20
"""Payloads of this size are converted in slices: 8 MiB take 15 ms as JSON and 25 ms as base64."""
BASE64_SLICE_BYTES = 3 << 18


def event_to_json(event: Event, *, exact: bool = False, payload: EncodedPayload | None = None) -> EventJson:
    """An event in JSON. `exact`: payload and key as base64, byte for byte. `payload`: the payload if it is
    encoded already."""
    key, key_encoding = _encode_text(event.key, exact=exact)
    value, value_encoding = _encode_payload(event.value, exact=exact) if payload is None else payload
    has_time = event.timestamp_ms >= 0
    size = len(event.key or b"") + len(event.value or b"")
    if event.headers:
        size += sum(len(name.encode()) + len(content or b"") for name, content in event.headers)
    return EventJson(
        topic=event.topic,
        partition=event.partition,
        offset=event.offset,
        timestamp=format_iso(event.timestamp_ms) if has_time else None,
        timestamp_ms=event.timestamp_ms if has_time else None,
        key=key,
        value=value,
        headers=[_header_to_json(name, content) for name, content in event.headers],
        size=size,
        key_encoding=key_encoding,
        value_encoding=value_encoding,
        amqp=_amqp_of(event.headers) if event.headers else UNSET,
    )


async def event_to_json_in_slices(
    event: Event, yield_to_loop: Callable[[], Awaitable[None]], *, exact: bool = False
) -> EventJson:
    """As `event_to_json`, but a large payload is converted in slices, with `yield_to_loop` between them."""
    value = event.value
    if value is None or len(value) < LARGE_BYTES:
        return event_to_json(event, exact=exact)
    text = None if exact else _utf8_text(value)
    await yield_to_loop()
    if text is not None:
        payload = _encode_utf8(value, text)
    else:
        parts = [b'"']
        for start in range(0, len(value), BASE64_SLICE_BYTES):
            parts.append(binascii.b2a_base64(value[start : start + BASE64_SLICE_BYTES], newline=False))
            await yield_to_loop()
        payload = Raw(b"".join((*parts, b'"'))), "base64"
    await yield_to_loop()
    return event_to_json(event, exact=exact, payload=payload)


def _encode_payload(value: bytes | None, *, exact: bool) -> EncodedPayload:
    if value is None:
        return NULL, UNSET
    text = None if exact else _utf8_text(value)
    if text is None:
        return Raw(b'"' + binascii.b2a_base64(value, newline=False) + b'"'), "base64"
    return _encode_utf8(value, text)


def _utf8_text(value: bytes) -> str | None:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None


def _encode_utf8(value: bytes, text: str) -> EncodedPayload:
    """A payload of UTF-8: `value` are its bytes, `text` the same decoded."""
    try:
        # Without line ends, so that a payload cannot end a line of NDJSON or of an event stream.
        return Raw(msgspec.json.format(value, indent=-1)), "json"
    except (msgspec.DecodeError, RecursionError):
        return Raw(msgspec.json.encode(text)), "text"


def _encode_text(
    value: bytes | None, *, exact: bool = False
) -> tuple[str | None, Literal["text", "base64"] | UnsetType]:
    if value is None:
        return None, UNSET
    if not exact:
        try:
            return value.decode(), "text"
        except UnicodeDecodeError:
            pass
    return binascii.b2a_base64(value, newline=False).decode(), "base64"


def _amqp_of(headers: Headers) -> dict[str, Any] | UnsetType:
    for name, content in headers:
        if name == AMQP_SECTIONS_HEADER and content is not None:
            try:
                return {field: jsonable(value) for field, value in read_sections(content).items()}
            except SectionError:  # any publisher may write what it likes under this name
                return UNSET
    return UNSET


def _header_to_json(name: str, content: bytes | None) -> HeaderJson:
    text, encoding = _encode_text(content)
    return HeaderJson(name, text, UNSET if encoding == "text" else encoding)
