"""AMQP 1.0 messages of stream clients as events, and events as messages.

The protocol moves opaque bytes; every client sends an AMQP 1.0 message (AMQP 1.0, part 3). Owns: the split
into its sections. A message with one data section is stored as the event's value, so that the other doors
read it; the sections in front of it are kept as they came in a header, AMQP_SECTIONS_HEADER, and joined again
byte for byte. Everything else is stored whole, with the content type WHOLE_TYPE, also bytes that are no AMQP
1.0 message. An event of another door is a message whose application properties are its key and headers.
Refuses: nothing.
"""

from __future__ import annotations

from mainstem.contract import Event, Headers
from mainstem.door_contract import AMQP_SECTIONS_HEADER

FILTER_HEADER = "x-stream-filter-value"
"""The filter value of a message, under the name that it has in AMQP 0-9-1."""
CONTENT_TYPE = "content-type"
WHOLE_TYPE = b"amqp-1.0"
KEY_PROPERTY = "key"
"""The application property that the key of another door's event becomes."""
SECTIONS_BYTES_MAX = 64 << 10
"""Messages whose other sections are larger are stored whole."""
_DATA_SMALL, _DATA_LARGE = b"\x00\x53\x75\xa0", b"\x00\x53\x75\xb0"
_PROPERTY_SECTIONS = frozenset((0x70, 0x71, 0x72, 0x73, 0x74))
"""Header, delivery annotations, message annotations, properties, application properties."""
_FIXED = {0x4: 0, 0x5: 1, 0x6: 2, 0x7: 4, 0x8: 8, 0x9: 16}
"""Width of a value by the upper half of its type's code (AMQP 1.0, 1.2)."""


def _value_end(data: bytes, position: int) -> int:
    """The end of the value that begins at `position`; beyond the data if it is cut. IndexError."""
    code = data[position]
    width = _FIXED.get(code >> 4)
    if width is not None:
        return position + 1 + width
    if code >> 4 in (0xA, 0xC, 0xE):
        return position + 2 + data[position + 1]
    if code >> 4 in (0xB, 0xD, 0xF):
        return position + 5 + int.from_bytes(data[position + 1 : position + 5], "big")
    raise IndexError("an unknown type")


def _section(data: bytes, position: int) -> int:
    """The descriptor's code of the section that begins at `position`, in its short form. IndexError."""
    if data[position] or data[position + 1] != 0x53:
        raise IndexError("no section in the short form")
    return data[position + 2]


def split(message: bytes) -> tuple[bytes, bytes] | None:
    """(sections in front, payload) of a message that ends with its only data section; None for others."""
    position, size = 0, len(message)
    try:
        while (code := _section(message, position)) in _PROPERTY_SECTIONS:
            position = _value_end(message, position + 3)
            if position > SECTIONS_BYTES_MAX:
                return None
        if code != 0x75 or message[position + 3] not in (0xA0, 0xB0):
            return None
        payload = position + (5 if message[position + 3] == 0xA0 else 8)
        if _value_end(message, position + 3) != size or payload > size:
            return None
    except IndexError:
        return None
    # Only what `join` would give back is split: a short payload in the long form is not.
    if (message[position + 3] == 0xA0) != (size - payload < 256):
        return None
    return message[:position], message[payload:]


def to_event_parts(message: bytes, filter_value: str | None = None) -> tuple[bytes, Headers]:
    """Value and headers of the event that a message is stored as."""
    parts = split(message)
    headers: Headers
    if parts is None:
        value, headers = message, ((CONTENT_TYPE, WHOLE_TYPE),)
    else:
        sections, value = parts
        headers = ((AMQP_SECTIONS_HEADER, sections),) if sections else ()
    if filter_value is not None:
        headers += ((FILTER_HEADER, filter_value.encode()),)
    return value, headers


def data_section(payload: bytes) -> bytes:
    """The data section of a payload."""
    if len(payload) < 256:
        return b"%b%c%b" % (_DATA_SMALL, len(payload), payload)
    return b"%b%b%b" % (_DATA_LARGE, len(payload).to_bytes(4, "big"), payload)


def from_event(event: Event) -> bytes:
    """The message that clients read for an event."""
    value = event.value or b""
    if not event.headers:
        return data_section(value) if event.key is None else _foreign(event, value)
    for name, content in event.headers:
        if name == AMQP_SECTIONS_HEADER and content is not None and _are_sections(content):
            return content + data_section(value)
        if name == CONTENT_TYPE and content == WHOLE_TYPE:
            return value
    return _foreign(event, value)


def _are_sections(data: bytes) -> bool:
    """Whether these are sections that may be in front of the body: other doors can write the header, too."""
    position = 0
    try:
        while position < len(data):
            if _section(data, position) not in _PROPERTY_SECTIONS:
                return False
            position = _value_end(data, position + 3)
    except IndexError:
        return False
    return position == len(data)


def _foreign(event: Event, value: bytes) -> bytes:
    """An event of another door: its key and headers are application properties."""
    pairs = [] if event.key is None else [_pair(KEY_PROPERTY, event.key)]
    pairs += [
        _pair(name, content)
        for name, content in event.headers
        if not name.startswith("mainstem-") and name != FILTER_HEADER
    ]
    if not pairs:
        return data_section(value)
    items = b"".join(pairs)
    head = (len(items) + 4).to_bytes(4, "big") + (2 * len(pairs)).to_bytes(4, "big")
    return b"\x00\x53\x74\xd1" + head + items + data_section(value)


def _pair(name: str, content: bytes | None) -> bytes:
    """A name and its value: text if it is UTF-8, else binary."""
    if content is None:
        return _sized(0xA1, name.encode()) + b"\x40"
    try:
        content.decode()
    except UnicodeDecodeError:
        return _sized(0xA1, name.encode()) + _sized(0xA0, content)
    return _sized(0xA1, name.encode()) + _sized(0xA1, content)


def _sized(code: int, data: bytes) -> bytes:
    if len(data) < 256:
        return bytes((code, len(data))) + data
    return bytes((code | 0x10,)) + len(data).to_bytes(4, "big") + data


def filter_value_of(event: Event) -> str | None:
    """The filter value of an event; None if it has none."""
    for name, content in event.headers:
        if name == FILTER_HEADER and content is not None:
            return content.decode(errors="replace")
    return None
