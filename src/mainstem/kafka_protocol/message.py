"""Converts messages to and from bytes, for servers and for clients, whatever their version.

Owns: `decode_request` and `encode_reply` for a server, `encode_request` and `decode_reply` for a client. A
decoded Message has the fields of all versions: those that its version lacks hold the schema's default, so
that no caller branches on the version. A Message to encode names what it knows by the newest names: fields
that the version lacks are left out, and missing ones get the default.

Plain values: times are int milliseconds, error codes int, a null uuid is `NO_UUID`, arrays are sequences,
`records` is a memoryview into the frame, which is valid as long as its buffer is.
"""

from __future__ import annotations

import struct
from typing import TypeAlias

from mainstem.kafka_protocol.reader import Message, ProtocolError, read_reply, read_request
from mainstem.kafka_protocol.schema import NO_UUID, api, has_flexible_reply_header
from mainstem.kafka_protocol.writer import write_reply, write_request

__all__ = [
    "NO_UUID",
    "Buffer",
    "Message",
    "ProtocolError",
    "decode_reply",
    "decode_request",
    "encode_reply",
    "encode_request",
    "frame_reply",
]

Buffer: TypeAlias = bytes | bytearray | memoryview

_REQUEST_HEADER = struct.Struct(">ihhih")
_LENGTH_BYTES = 4
_PLAIN = struct.Struct(">ii")
_FLEXIBLE = struct.Struct(">iix")


def decode_request(
    key: int, version: int, body: memoryview, position: int = 0, *, max_elements: int = 1 << 31
) -> Message:
    """The request that begins at `position` of `body`. ProtocolError if the bytes do not fit, or if all
    arrays together have more than `max_elements`."""
    return read_request(key, version, body, position, max_elements=max_elements)


def frame_reply(key: int, version: int, correlation_id: int, body: list[Buffer]) -> list[Buffer]:
    """The whole frame of a reply whose body is encoded: length and reply header, then the pieces of
    `body`."""
    size = 0
    for piece in body:
        size += len(piece)
    if has_flexible_reply_header(key, version):
        return [_FLEXIBLE.pack(size + 5, correlation_id), *body]
    return [_PLAIN.pack(size + 4, correlation_id), *body]


def encode_reply(key: int, version: int, correlation_id: int, message: Message) -> list[Buffer]:
    """The whole frame of a reply, in pieces."""
    return frame_reply(key, version, correlation_id, [write_reply(key, version, message)])


def encode_request(key: int, version: int, correlation_id: int, client_id: str, message: Message) -> bytes:
    """The whole frame of a request: length, header and body."""
    name = client_id.encode()
    tags = b"\0" if version >= api(key).request.flexible else b""
    body = write_request(key, version, message)
    size = _REQUEST_HEADER.size - _LENGTH_BYTES + len(name) + len(tags) + len(body)
    return _REQUEST_HEADER.pack(size, key, version, correlation_id, len(name)) + name + tags + body


def decode_reply(key: int, version: int, frame: memoryview) -> Message:
    """The reply in a frame without its length. ProtocolError if the bytes do not fit. The caller has matched
    the correlation id, the first four bytes, to the request that it sent."""
    return read_reply(key, version, frame)
