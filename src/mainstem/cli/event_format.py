"""Formats events as lines: for a terminal, for a pipe, as JSON.

Owns: the three formats, and the names of the JSON fields. Refuses: control characters of an event on a
terminal, which are escaped.

The JSON of an event (docs/CLI.md) has: topic, partition, offset, timestamp (ISO 8601; null if the event has
none), timestamp_ms, key, key_format, value, value_format, headers. A format is `json` (the value is
embedded), `text`, `base64` or `null`.
"""

from __future__ import annotations

import base64
import re
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec

from mainstem.cli.common import tab_cell
from mainstem.printable import escape_controls
from mainstem.search.text.payload import NOT_JSON
from mainstem.timespec import format_iso

if TYPE_CHECKING:
    from mainstem.contract import Event

EventPrinter = Callable[[Sequence["Event"]], None]

_RAW = msgspec.json.Decoder(msgspec.Raw)
_ENCODE = msgspec.json.Encoder().encode
_JSON_KEY = re.compile(r'("(?:[^"\\]|\\.)*")(\s*:)')
_DIM, _CYAN, _YELLOW, _BLUE, _OFF = "\x1b[2m", "\x1b[36m", "\x1b[33m", "\x1b[34m", "\x1b[0m"


def event_printer(*, as_json: bool, terminal: bool, colour: bool, with_topic: bool) -> EventPrinter:
    """The function that prints events. `with_topic`: a line on a terminal names the topic."""
    if as_json:
        format_line: Callable[[Event], str] = json_line
    elif terminal:

        def format_line(event: Event) -> str:
            return terminal_line(event, colour=colour, with_topic=with_topic)

    else:
        format_line = tab_line

    def print_events(events: Sequence[Event]) -> None:
        if events:
            sys.stdout.write("".join([format_line(event) + "\n" for event in events]))
            sys.stdout.flush()

    return print_events


class _EventLine(msgspec.Struct):
    """The JSON of an event; the fields are written in this order."""

    topic: str
    partition: int
    offset: int
    timestamp: str | None
    timestamp_ms: int
    key: str | None
    key_format: str
    value: msgspec.Raw | str | None
    value_format: str
    headers: list[dict[str, str | None]]


def json_line(event: Event) -> str:
    """One event as one line of JSON."""
    key, key_format = text_or_base64(event.key)
    value: msgspec.Raw | str | None
    value, value_format = text_or_base64(event.value)
    if value_format == "text" and event.value:
        embedded = _as_json(event.value)
        if embedded is not None:
            value, value_format = embedded, "json"
    headers = []
    for name, content in event.headers:
        text, text_format = text_or_base64(content)
        headers.append({"name": name, "value": text, "format": text_format})
    line = _EventLine(
        event.topic,
        event.partition,
        event.offset,
        format_iso(event.timestamp_ms) or None,
        event.timestamp_ms,
        key,
        key_format,
        value,
        value_format,
        headers,
    )
    return _ENCODE(line).decode()


def _as_json(value: bytes) -> msgspec.Raw | None:
    try:
        raw = _RAW.decode(value)
    except NOT_JSON:
        return None
    # In JSON a line end can only be between tokens, never inside one.
    return (
        msgspec.Raw(bytes(raw).replace(b"\n", b" ").replace(b"\r", b" "))
        if b"\n" in value or b"\r" in value
        else raw
    )


def text_or_base64(content: bytes | None) -> tuple[str | None, str]:
    """Bytes as a string that JSON can represent, and the format: `text`, `base64` or `null`."""
    if content is None:
        return None, "null"
    try:
        return content.decode(), "text"
    except UnicodeDecodeError:
        return base64.b64encode(content).decode(), "base64"


def tab_line(event: Event) -> str:
    """Columns separated by tabs. In key and value, tabs and line ends are escaped; bytes that are not UTF-8
    are base64."""
    columns = (
        event.topic,
        event.partition,
        event.offset,
        format_iso(event.timestamp_ms),
        text_or_base64(event.key)[0],
        text_or_base64(event.value)[0],
    )
    return "\t".join([tab_cell(column) for column in columns])


def terminal_line(event: Event, *, colour: bool, with_topic: bool) -> str:
    """An event on one line of a terminal: `2013-01-01T10:00:00.000Z flights 0@17 N14228 {…}`; the payload is
    on the same line."""
    time = format_iso(event.timestamp_ms) or "-"
    place = f"{event.partition}@{event.offset}"
    if with_topic:
        place = f"{event.topic} {place}"
    key = "-" if event.key is None else _readable(event.key)
    value = "null" if event.value is None else _readable(event.value)
    headers = "".join(
        f"  {escape_controls(name)}={'null' if content is None else _readable(content)}"
        for name, content in event.headers
    )
    if not colour:
        return f"{time}  {place}  {key}{headers}  {value}"
    if value.startswith(("{", "[")):
        value = _JSON_KEY.sub(rf"{_BLUE}\1{_OFF}\2", value)
    elif event.value is None:
        value = f"{_DIM}null{_OFF}"
    headers = f"{_DIM}{headers}{_OFF}" if headers else ""
    return f"{_DIM}{time}{_OFF}  {_CYAN}{place}{_OFF}  {_YELLOW}{key}{_OFF}{headers}  {value}"


def _readable(content: bytes) -> str:
    try:
        return (
            escape_controls(" ".join(content.decode().splitlines()))
            if b"\n" in content
            else escape_controls(content.decode())
        )
    except UnicodeDecodeError:
        return f"0x{content[:64].hex()}{'…' if len(content) > 64 else ''} ({len(content)} bytes)"
