"""The limits of an HTTP/2 connection, and the errors for what a client may not send.

Owns: numbers, exceptions, and the checks of payloads that need no state. Refuses: state, which is
`http2.py`'s.
"""

from __future__ import annotations

from mainstem.doors.pubsub import frames
from mainstem.doors.pubsub.frames import U32, WINDOW_MAX, H2Error

STREAMS_MAX = 100
"""Of a client at the same time. As the real service has it."""
STREAM_WINDOW_BYTES = 1 << 20
CONNECTION_WINDOW_BYTES = 4 << 20
BLOCK_BYTES_MAX = 16_384
"""Of a header block over all its frames, before it is decoded (CVE-2024-27316)."""
CONTINUATIONS_MAX = 8
CLOSED_KEPT = 200
"""Number of closed streams that are known: frames that were on their way for them are no fault."""
EMPTY_FRAMES_MAX = 4_000
EMPTY_FRAMES_PER_S = 500.0
USEFUL = 3
"""A frame that carries something makes up for this many that do not: clients send a PING, a WINDOW_UPDATE and
more with each response, to measure the line."""
RESETS_MAX = 500
RESETS_PER_S = 100.0
STREAM_UNSENT_MAX = 24 << 20
"""Bytes that wait on one stream: a message of the largest size, and what was allowed to be in front of it."""
UNSENT_SMALL = 64 << 10
"""Less than this on a stream is not counted at once."""
ALL_UNSENT_MAX = 64 << 20
"""Bytes that wait on all streams of a connection."""
GOAWAY_ALL = (1 << 31) - 1
DRAIN_PING = b"mainstem"


class ConnectionFailure(Exception):
    """The error that ends the connection."""

    def __init__(self, code: H2Error, text: str) -> None:
        super().__init__(text)
        self.code = code


class StreamFailure(Exception):
    """The error that ends one stream."""

    def __init__(self, stream: int, code: H2Error) -> None:
        super().__init__(code.name)
        self.stream = stream
        self.code = code


ON_ITSELF = 0x100
"""Beside the flags of HEADERS: its stream depends on itself."""


def depends_on_itself(stream: int, payload: bytes) -> bool:
    """Whether the priority in front of the payload makes the stream depend on itself."""
    return bool(U32.unpack_from(payload)[0] & 0x7FFFFFFF == stream)


def unpadded(flags: int, payload: bytes) -> bytes:
    """The payload of DATA or HEADERS without its padding."""
    if not flags & frames.PADDED:
        return payload
    if not payload:
        raise ConnectionFailure(H2Error.FRAME_SIZE_ERROR, "a padded frame without the length of its padding")
    padding = payload[0]
    if padding >= len(payload):
        raise ConnectionFailure(H2Error.PROTOCOL_ERROR, "more padding than payload")
    return payload[1 : len(payload) - padding]


def check_setting(name: int, value: int) -> None:
    """ConnectionFailure unless a client may send this value."""
    if name == frames.INITIAL_WINDOW_SIZE and value > WINDOW_MAX:
        raise ConnectionFailure(H2Error.FLOW_CONTROL_ERROR, "a window that is too large")
    is_flag = name != frames.ENABLE_PUSH or value <= 1
    if not is_flag or (name == frames.MAX_FRAME_SIZE and not frames.FRAME_BYTES_MAX <= value < 1 << 24):
        raise ConnectionFailure(H2Error.PROTOCOL_ERROR, "SETTINGS with a value that is not allowed")
