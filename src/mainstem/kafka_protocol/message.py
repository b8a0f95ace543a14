"""Messages in and out, whatever their version.

Owns: `decode_request` and `encode_reply`, the two calls between bytes and `Message`. A request Message has
the fields of all versions: those that its version lacks hold the schema's default, so that no handler forks
by version. A reply says what it knows under the newest names: fields that the version lacks are left out,
missing ones get the default.

Plain values: times are int milliseconds, error codes int, a null uuid is `NO_UUID`, arrays are sequences,
`records` is a memoryview that is valid until the handler returns.
"""

from __future__ import annotations

import struct
from typing import TypeAlias

from mainstem.kafka_protocol.reader import Message, ProtocolError, read_request
from mainstem.kafka_protocol.schema import NO_UUID, api
from mainstem.kafka_protocol.writer import write_reply

__all__ = ["NO_UUID", "Buffer", "Message", "ProtocolError", "decode_request", "encode_reply", "frame_reply"]

Buffer: TypeAlias = bytes | bytearray | memoryview

API_VERSIONS = 18
_PLAIN = struct.Struct(">ii")
_FLEXIBLE = struct.Struct(">iix")


def decode_request(
    key: int, version: int, body: memoryview, at: int = 0, *, max_elements: int = 1 << 31
) -> Message:
    """The request that `body[at:]` begins with. ProtocolError, also if all its arrays together have more than
    `max_elements`."""
    return read_request(key, version, body, at, max_elements=max_elements)


def frame_reply(key: int, version: int, correlation_id: int, body: list[Buffer]) -> list[Buffer]:
    """Length and reply header before the pieces of a body. The header of ApiVersions is always v0: the client
    does not know yet what the server speaks."""
    size = 0
    for piece in body:
        size += len(piece)
    if key != API_VERSIONS and version >= api(key).response.flexible:
        return [_FLEXIBLE.pack(size + 5, correlation_id), *body]
    return [_PLAIN.pack(size + 4, correlation_id), *body]


def encode_reply(key: int, version: int, correlation_id: int, message: Message) -> list[Buffer]:
    """The whole frame of a reply, in pieces."""
    return frame_reply(key, version, correlation_id, [write_reply(key, version, message)])
