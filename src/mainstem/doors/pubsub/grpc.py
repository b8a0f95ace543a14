"""What gRPC adds to HTTP/2: messages with a prefix, their compression, timeouts, and how a call ends.

Owns: the bytes of the protocol (grpc/doc/PROTOCOL-HTTP2.md). Refuses: messages above MESSAGE_BYTES_MAX, by
their prefix before memory is used for them, and compressed ones that become larger.
"""

from __future__ import annotations

import re
import struct
import zlib
from base64 import b64encode
from collections.abc import Mapping

from mainstem.doors.pubsub.calls import MESSAGE_BYTES_MAX, Code, RpcError
from mainstem.doors.pubsub.header_block import encode_headers

PREFIX_BYTES = 5
STATUS_TEXT_MAX = 4_096
"""Bytes of a status' text; clients bound the headers that they accept."""
STATUS_DETAILS_MAX = 6_144
"""Bytes of the details, before base64. Without them if they are more."""
_PREFIX = struct.Struct(">BI")
_GZIP = 16 + zlib.MAX_WBITS
_TIMEOUT = re.compile(r"([0-9]{1,8})([HMSmun])")
_SECONDS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_PLAIN = frozenset(range(0x20, 0x7F)) - {ord("%")}

_HEAD = [
    (b":status", b"200"),
    (b"content-type", b"application/grpc"),
    (b"grpc-accept-encoding", b"identity,gzip"),
]
RESPONSE_BLOCK = encode_headers(_HEAD)
"""The headers of every response."""
OK_BLOCK = encode_headers([(b"grpc-status", b"0")])
"""The end of a call that has succeeded."""


class MessageReader:
    """Cuts the body of a request into messages."""

    __slots__ = ("_bytes_max", "_pieces", "_wanted", "held_bytes")

    def __init__(self, bytes_max: int = MESSAGE_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._pieces: list[bytes] = []
        self._wanted = PREFIX_BYTES
        self.held_bytes = 0
        """Bytes of a message that is not whole."""

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that are whole now, each with its prefix. RpcError: one is too large."""
        messages: list[bytes] = []
        if self._pieces:
            self._pieces.append(data)
            self.held_bytes += len(data)
            if self.held_bytes < self._wanted:
                return messages
            data = b"".join(self._pieces)
            self._pieces = []
        position, end = 0, len(data)
        self._wanted = PREFIX_BYTES
        while end - position >= PREFIX_BYTES:
            size = _PREFIX.unpack_from(data, position)[1]
            if size > self._bytes_max:
                text = f"a message of {size} bytes: at most {self._bytes_max} are accepted"
                raise RpcError(Code.INVALID_ARGUMENT, text)
            self._wanted = PREFIX_BYTES + size
            if end - position < self._wanted:
                break
            messages.append(data[position : position + self._wanted])
            position += self._wanted
            self._wanted = PREFIX_BYTES
        self.held_bytes = end - position
        if self.held_bytes:
            self._pieces = [data[position:]]
        return messages


def open_message(framed: bytes, encoding: str, bytes_max: int = MESSAGE_BYTES_MAX) -> bytes:
    """The message behind its prefix, inflated if need be. `encoding`: what the header `grpc-encoding` says.
    RpcError: it cannot be."""
    flag = framed[0]
    if flag == 0:
        return framed[PREFIX_BYTES:]
    if flag != 1 or encoding in ("", "identity"):
        raise RpcError(Code.INTERNAL, "a message is marked as compressed without an encoding")
    inflater = zlib.decompressobj(_GZIP)
    try:
        message = inflater.decompress(framed[PREFIX_BYTES:], bytes_max + 1)
    except zlib.error:
        raise RpcError(Code.INVALID_ARGUMENT, "a compressed message cannot be inflated") from None
    if len(message) > bytes_max:
        text = f"a compressed message of more than {bytes_max} bytes"
        raise RpcError(Code.INVALID_ARGUMENT, text)
    if not inflater.eof:
        raise RpcError(Code.INVALID_ARGUMENT, "a compressed message is not whole")
    return message


def frame_message(message: bytes) -> bytes:
    """The message behind its prefix."""
    return _PREFIX.pack(0, len(message)) + message


def parse_timeout(text: str) -> float:
    """The seconds of a header `grpc-timeout`. RpcError."""
    match = _TIMEOUT.fullmatch(text)
    if match is None:
        raise RpcError(Code.INVALID_ARGUMENT, "grpc-timeout is no timeout")
    return int(match[1]) * _SECONDS[match[2]]


def percent_encoded(text: str) -> bytes:
    """The text of a status as the header `grpc-message` has it."""
    data = text.encode("utf-8", "replace")[:STATUS_TEXT_MAX]
    return b"".join(bytes((byte,)) if byte in _PLAIN else b"%%%02X" % byte for byte in data)


def end_block(error: RpcError | None, *, with_head: bool, trailers: Mapping[str, str] | None = None) -> bytes:
    """The headers that end a call; with those of the response in front if it has sent none."""
    if error is None and not with_head and not trailers:
        return OK_BLOCK
    headers = list(_HEAD) if with_head else []
    headers.append((b"grpc-status", str(int(error.code) if error is not None else 0).encode()))
    if error is not None and error.message:
        headers.append((b"grpc-message", percent_encoded(error.message)))
    if error is not None and error.details and len(error.details) <= STATUS_DETAILS_MAX:
        headers.append((b"grpc-status-details-bin", b64encode(error.details).rstrip(b"=")))
    for name, value in (trailers or {}).items():
        headers.append((name.encode("ascii"), value.encode("latin-1")))
    return encode_headers(headers)


def response_block(headers: Mapping[str, str] | None) -> bytes:
    """The headers of a response, with some of its own."""
    if not headers:
        return RESPONSE_BLOCK
    own = [(name.encode("ascii"), value.encode("latin-1")) for name, value in headers.items()]
    return encode_headers([*_HEAD, *own])
