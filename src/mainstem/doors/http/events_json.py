"""Converts JSON to new events.

Owns: the conversion that publishing and replaying share, and times in requests. Refuses: to change a payload;
numbers in JSON keep the digits with which they were written.
"""

from __future__ import annotations

import binascii

import msgspec
from msgspec import UNSET

from mainstem.contract import NewEvent
from mainstem.doors.http.problem import Problem
from mainstem.http_api.events import NewEventJson
from mainstem.timespec import parse_iso


def event_from_json(event: NewEventJson) -> NewEvent:
    """An event to publish. Raises Problem, which says what is wrong with the JSON."""
    key = None if event.key is None else _decode_text(event.key, event.key_encoding, "key")
    headers = tuple(
        (
            header.name,
            None
            if header.value is None
            else _decode_text(header.value, header.value_encoding or "text", f"header {header.name}"),
        )
        for header in event.headers
    )
    time_ms = event.timestamp_ms
    if event.timestamp is not None:
        if time_ms is not None:
            raise Problem("unfit", "an event has timestamp or timestamp_ms, not both")
        time_ms = parse_time(event.timestamp)
    return NewEvent(_decode_payload(event), key, headers, time_ms, event.partition)


def parse_time(text: str) -> int:
    """ISO 8601 as ms since 1970. Raises Problem."""
    try:
        time_ms = parse_iso(text)
    except (ValueError, OverflowError):
        raise Problem("unfit", f"{text[:100]!r} is not a time; write 2013-06-01T12:00:00Z") from None
    if time_ms < 0:
        raise Problem("unfit", f"{text!r} is before 1970")
    return time_ms


def _decode_payload(event: NewEventJson) -> bytes | None:
    raw = b"null" if event.value is UNSET else bytes(event.value)
    encoding = event.value_encoding
    if encoding == "json":
        return raw
    if raw == b"null" and encoding is None:
        return None
    if not raw.startswith(b'"'):
        if encoding is None:
            return raw
        raise Problem("unfit", f"a value with value_encoding {encoding} must be a string")
    text = msgspec.json.decode(raw, type=str)
    return _decode_text(text, encoding or "text", "value")


def _decode_text(text: str, encoding: str, what: str) -> bytes:
    if encoding == "text":
        return text.encode()
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError:  # also binascii.Error, which is a subclass
        raise Problem("unfit", f"{what} is not base64") from None
