"""Decodes the JSON in which the HTTP door sends events when keys and payloads are asked for as base64.

Owns: that conversion. Refuses: payloads in any other encoding.
"""

from __future__ import annotations

import binascii

from mainstem.contract import Event, Headers
from mainstem.http_api.events import EventJson, HeaderJson


def decode_event(event: EventJson) -> Event:
    """An event whose key and payload the door has sent as base64."""
    headers: Headers = ()
    if event.headers:
        headers = tuple((header.name, _header_bytes(header)) for header in event.headers)
    return Event(
        event.topic,
        event.partition,
        event.offset,
        -1 if event.timestamp_ms is None else event.timestamp_ms,
        None if event.key is None else binascii.a2b_base64(event.key),
        None if event.value is None else binascii.a2b_base64(event.value),
        headers,
    )


def _header_bytes(header: HeaderJson) -> bytes | None:
    if header.value is None:
        return None
    return binascii.a2b_base64(header.value) if header.value_encoding == "base64" else header.value.encode()
