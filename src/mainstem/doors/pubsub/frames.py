"""Frames of HTTP/2: their types, flags, settings and error codes, and their bytes (RFC 9113, 4, 6, 7).

Owns: the layout of frames that are sent. Refuses: state, which is `http2.py`'s.
"""

from __future__ import annotations

import struct
from enum import IntEnum

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client sends first."""
HEAD_BYTES = 9
FRAME_BYTES_MAX = 16_384
"""The largest payload of a frame, until a peer allows more; this server does not."""
WINDOW_MAX = (1 << 31) - 1
WINDOW_AT_FIRST = 65_535

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = (
    range(10)
)
END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
HAS_PRIORITY = 0x20

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE = range(1, 6)
MAX_HEADER_LIST_SIZE = 6

U32 = struct.Struct(">I")
SETTING = struct.Struct(">HI")
_HEAD = struct.Struct(">HBBBI")
_TWO = struct.Struct(">II")


class H2Error(IntEnum):
    """Error codes of RST_STREAM and GOAWAY (RFC 9113, section 7)."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    CONNECT_ERROR = 10
    ENHANCE_YOUR_CALM = 11
    INADEQUATE_SECURITY = 12
    HTTP_1_1_REQUIRED = 13


def frame_head(length: int, kind: int, flags: int, stream: int) -> bytes:
    """The nine bytes in front of a payload of this length."""
    return _HEAD.pack(length >> 8, length & 0xFF, kind, flags, stream)


def settings_frame(values: dict[int, int]) -> bytes:
    """SETTINGS with these values."""
    payload = b"".join(SETTING.pack(name, value) for name, value in values.items())
    return frame_head(len(payload), SETTINGS, 0, 0) + payload


SETTINGS_ACK = frame_head(0, SETTINGS, ACK, 0)


def ping_ack(payload: bytes) -> bytes:
    """The answer to a PING."""
    return frame_head(8, PING, ACK, 0) + payload


def ping(payload: bytes) -> bytes:
    """A PING, of eight bytes."""
    return frame_head(8, PING, 0, 0) + payload


def reset_frame(stream: int, code: H2Error) -> bytes:
    """RST_STREAM."""
    return frame_head(4, RST_STREAM, 0, stream) + U32.pack(code)


def window_update(stream: int, increment: int) -> bytes:
    """WINDOW_UPDATE; stream 0: of the connection."""
    return frame_head(4, WINDOW_UPDATE, 0, stream) + U32.pack(increment)


def goaway_frame(last_stream: int, code: H2Error, text: str = "") -> bytes:
    """GOAWAY, with a text for people."""
    payload = _TWO.pack(last_stream, code) + text.encode()
    return frame_head(len(payload), GOAWAY, 0, 0) + payload


def headers_frames(stream: int, block: bytes, *, ends_stream: bool, frame_bytes: int) -> bytes:
    """HEADERS, and CONTINUATION for what one frame does not hold."""
    flags = END_STREAM if ends_stream else 0
    if len(block) <= frame_bytes:
        return frame_head(len(block), HEADERS, flags | END_HEADERS, stream) + block
    pieces = [frame_head(frame_bytes, HEADERS, flags, stream), block[:frame_bytes]]
    for start in range(frame_bytes, len(block), frame_bytes):
        piece = block[start : start + frame_bytes]
        last = END_HEADERS if start + frame_bytes >= len(block) else 0
        pieces += (frame_head(len(piece), CONTINUATION, last, stream), piece)
    return b"".join(pieces)
