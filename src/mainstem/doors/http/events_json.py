"""Events as JSON, both ways.

Owns: the one form that reading, tailing, searching and publishing share. Refuses: to change a payload: JSON
keeps its numbers as they were written, what is not UTF-8 goes as base64. Used by the nouns beside it.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from mainstem.contract import Event, NewEvent
from mainstem.doors.http.field_types import Millis, PartitionNumber
from mainstem.doors.http.problem import Problem
from mainstem.timespec import format_iso, parse_iso

Encoding = Literal["json", "text", "base64"]

NULL = Raw(b"null")
Payload = tuple[Raw, Encoding | UnsetType]
LARGE_BYTES = 1 << 20
"""Of a payload: making JSON of 8 MiB takes 15 ms, and 25 ms of base64."""
BASE64_SLICE_BYTES = 3 << 18


class HeaderJson(msgspec.Struct, forbid_unknown_fields=True):
    """A header of an event; names may come twice."""

    name: str
    value: str | None = None
    value_encoding: Annotated[
        Literal["text", "base64"] | UnsetType,
        Meta(description="How `value` stands for bytes; text if left out."),
    ] = UNSET


class EventJson(msgspec.Struct):
    """An event that is in the stream."""

    topic: str
    partition: int
    offset: int
    timestamp: Annotated[str | None, Meta(description="ISO 8601, UTC; null: it has none.")]
    timestamp_ms: Annotated[int | None, Meta(description="Milliseconds since 1970.")]
    key: str | None
    value: Annotated[Any, Meta(description="The payload, as value_encoding says.")]
    headers: list[HeaderJson]
    size: Annotated[int, Meta(description="Bytes of key, value and headers.")]
    key_encoding: Annotated[
        Literal["text", "base64"] | UnsetType, Meta(description="Left out without a key.")
    ] = UNSET
    value_encoding: Annotated[
        Encoding | UnsetType,
        Meta(
            description=(
                "json: the payload is this JSON. text: it is the characters of this string. base64: it is not"
                " UTF-8. Left out: there is no payload (null)."
            )
        ),
    ] = UNSET


def event_to_json(event: Event, *, exact: bool = False, payload: Payload | None = None) -> EventJson:
    """An event for the outside. `exact`: payload and key always as base64, byte for byte.
    `payload`: the event's, if it has been made already."""
    key, key_encoding = _text(event.key, exact=exact)
    value, value_encoding = _encode_payload(event.value, exact=exact) if payload is None else payload
    has_time = event.timestamp_ms >= 0
    return EventJson(
        topic=event.topic,
        partition=event.partition,
        offset=event.offset,
        timestamp=format_iso(event.timestamp_ms) if has_time else None,
        timestamp_ms=event.timestamp_ms if has_time else None,
        key=key,
        value=value,
        headers=[_header(name, content) for name, content in event.headers],
        size=len(event.key or b"")
        + len(event.value or b"")
        + sum(len(name.encode()) + len(content or b"") for name, content in event.headers),
        key_encoding=key_encoding,
        value_encoding=value_encoding,
    )


async def event_to_json_in_slices(
    event: Event, turn: Callable[[], Awaitable[None]], *, exact: bool = False
) -> EventJson:
    """As `to_json`; between the steps for a payload of some MiB everything else on the loop has its turn."""
    value = event.value
    if value is None or len(value) < LARGE_BYTES:
        return event_to_json(event, exact=exact)
    text = None if exact else _decoded(value)
    await turn()
    if text is not None:
        payload = _of_text(value, text)
    else:
        parts = [b'"']
        for at in range(0, len(value), BASE64_SLICE_BYTES):
            parts.append(binascii.b2a_base64(value[at : at + BASE64_SLICE_BYTES], newline=False))
            await turn()
        payload = Raw(b"".join((*parts, b'"'))), "base64"
    await turn()
    return event_to_json(event, exact=exact, payload=payload)


def _encode_payload(value: bytes | None, *, exact: bool) -> Payload:
    if value is None:
        return NULL, UNSET
    text = None if exact else _decoded(value)
    if text is None:
        return Raw(b'"' + base64.b64encode(value) + b'"'), "base64"
    return _of_text(value, text)


def _decoded(value: bytes) -> str | None:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None


def _of_text(value: bytes, text: str) -> Payload:
    try:
        # Without line ends, so that a payload cannot end a line of NDJSON or of an event stream.
        return Raw(msgspec.json.format(value, indent=-1)), "json"
    except (msgspec.DecodeError, RecursionError):
        return Raw(msgspec.json.encode(text)), "text"


def _text(
    value: bytes | None, *, exact: bool = False
) -> tuple[str | None, Literal["text", "base64"] | UnsetType]:
    if value is None:
        return None, UNSET
    if not exact:
        try:
            return value.decode(), "text"
        except UnicodeDecodeError:
            pass
    return base64.b64encode(value).decode(), "base64"


def _header(name: str, content: bytes | None) -> HeaderJson:
    text, encoding = _text(content)
    return HeaderJson(name, text, UNSET if encoding == "text" else encoding)


# ----------------------------------------------------------------------------------------------------------


class NewEventJson(msgspec.Struct, forbid_unknown_fields=True):
    """An event to publish."""

    JSON_SCHEMA: ClassVar = {
        "examples": [
            {"key": "4711", "value": {"total": 1.10}, "headers": [{"name": "source", "value": "shop"}]}
        ]
    }

    value: Annotated[
        Raw | UnsetType,
        Meta(
            description=(
                "The payload. Without value_encoding, a string is published as its characters, null as no"
                " payload, anything else as JSON, just as it stands here."
            )
        ),
    ] = UNSET
    value_encoding: Encoding | None = None
    key: Annotated[str | None, Meta(description="Events of one key keep their order.")] = None
    key_encoding: Literal["text", "base64"] = "text"
    headers: list[HeaderJson] = []
    partition: Annotated[
        PartitionNumber | None, Meta(description="By the key, if left out; without a key, any.")
    ] = None
    timestamp: Annotated[str | None, Meta(description="ISO 8601; the time of publishing, if left out.")] = (
        None
    )
    timestamp_ms: Millis | None = None


def event_from_json(given: NewEventJson) -> NewEvent:
    """An event from the outside. Problem says what is wrong with it."""
    key = None if given.key is None else _bytes(given.key, given.key_encoding, "key")
    headers = tuple(
        (
            each.name,
            None
            if each.value is None
            else _bytes(each.value, each.value_encoding or "text", f"header {each.name}"),
        )
        for each in given.headers
    )
    time_ms = given.timestamp_ms
    if given.timestamp is not None:
        if time_ms is not None:
            raise Problem("unfit", "an event has timestamp or timestamp_ms, not both")
        time_ms = parse_time(given.timestamp)
    return NewEvent(_value(given), key, headers, time_ms, given.partition)


def parse_time(text: str) -> int:
    """ISO 8601 as ms since 1970. Problem."""
    try:
        time_ms = parse_iso(text)
    except (ValueError, OverflowError):
        raise Problem("unfit", f"{text[:100]!r} is not a time; write 2013-06-01T12:00:00Z") from None
    if time_ms < 0:
        raise Problem("unfit", f"{text!r} is before 1970")
    return time_ms


def _value(given: NewEventJson) -> bytes | None:
    raw = b"null" if given.value is UNSET else bytes(given.value)
    encoding = given.value_encoding
    if encoding == "json":
        return raw
    if raw == b"null" and encoding is None:
        return None
    if not raw.startswith(b'"'):
        if encoding is None:
            return raw
        raise Problem("unfit", f"a value with value_encoding {encoding} is a string")
    text = msgspec.json.decode(raw, type=str)
    return _bytes(text, encoding or "text", "value")


def _bytes(text: str, encoding: str, what: str) -> bytes:
    if encoding == "text":
        return text.encode()
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError:  # binascii.Error is one
        raise Problem("unfit", f"{what} is not base64") from None
