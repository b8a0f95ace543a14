"""The fuzz targets of HTTP/2 and gRPC: a client that sends any bytes, and a header block of any bytes.

Owns: `http2`, `header_block` and their first inputs. What holds beside "no crash": the server sends whole
frames with headers that another decoder reads, keeps no more of messages than was sent, and nothing is left
when the client is gone; a block that is decoded means the same to another decoder.
"""

from __future__ import annotations

import gzip
import struct

import hpack

from mainstem.doors.pubsub import frames
from mainstem.doors.pubsub.frames import END_HEADERS, END_STREAM
from mainstem.doors.pubsub.h2_rules import STREAMS_MAX
from mainstem.doors.pubsub.header_block import HeaderBlockError, HeaderDecoder, encode_headers
from tests.doors.pubsub.h2_kit import ORDERS, Client, frame, message, unary

GET = f"{ORDERS}Get"
METHODS = {GET: unary(lambda call, request: request + request)}
SENT = {
    frames.DATA,
    frames.HEADERS,
    frames.RST_STREAM,
    frames.SETTINGS,
    frames.PING,
    frames.GOAWAY,
    frames.WINDOW_UPDATE,
}
"""Kinds of frames that the server has reason to send."""


def request_block(path: str, *more: tuple[bytes, bytes]) -> bytes:
    """The header block of a call."""
    head = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", path.encode())]
    return encode_headers([*head, (b"content-type", b"application/grpc"), (b"te", b"trailers"), *more])


OPENED = frame(frames.HEADERS, END_HEADERS, 1, request_block(GET))


def http2(data: bytes) -> None:
    """The first byte says how far the client is and how the rest is cut."""
    if not data:
        return
    client = Client(METHODS, greets=bool(data[0] & 1))
    if data[0] & 3 == 3:
        client.send(OPENED)
    step, rest = (data[0] >> 2) + 1, data[1:]
    for start in range(0, len(rest), step):
        client.send(rest[start : start + step])
    connection = client.connection
    assert connection.http2.streams <= STREAMS_MAX
    assert client.budget.used_bytes <= len(rest)
    sent = len(client.socket.written)
    answers = client.read()
    assert sum(frames.HEAD_BYTES + len(answer.payload) for answer in answers) == sent
    for answer in answers:
        assert answer.kind in SENT
        if answer.kind == frames.HEADERS:
            assert answer.stream & 1
            assert client.headers(answer)
    connection.lost()
    assert connection.http2.streams == 0
    assert not connection.calls
    assert client.budget.used_bytes == 0


def header_block(data: bytes) -> None:
    """Blocks of one connection, the first byte of each being its length."""
    ours, other = HeaderDecoder(), hpack.Decoder()
    while data:
        block, data = data[1 : 1 + data[0]], data[1 + data[0] :]
        try:
            headers = ours.decode(block)
        except HeaderBlockError:
            return
        assert headers == [(bytes(name), bytes(value)) for name, value in other.decode(block, raw=True)]


def http2_seeds() -> list[bytes]:
    """Calls, in all states of a client."""
    squeezed = gzip.compress(b"A-1001" * 20, mtime=0)
    packed = struct.pack(">BI", 1, len(squeezed)) + squeezed
    call = OPENED + frame(frames.DATA, END_STREAM, 1, message(b"A-1001"))
    inflated = frame(frames.HEADERS, END_HEADERS, 1, request_block(GET, (b"grpc-encoding", b"gzip"))) + frame(
        frames.DATA, END_STREAM, 1, packed
    )
    timed = frame(frames.HEADERS, END_HEADERS, 3, request_block(GET, (b"grpc-timeout", b"10m")))
    block = request_block(GET)
    pieces = frame(frames.HEADERS, 0, 1, block[:9]) + frame(frames.CONTINUATION, END_HEADERS, 1, block[9:])
    other = b"".join(
        (
            frames.ping(bytes(8)),
            frames.window_update(0, 9),
            frames.window_update(1, 9),
            frames.reset_frame(1, frames.H2Error.CANCEL),
            frames.goaway_frame(0, frames.H2Error.NO_ERROR),
            frame(frames.PRIORITY, 0, 1, bytes(5)),
            frames.settings_frame({frames.INITIAL_WINDOW_SIZE: 3, frames.MAX_FRAME_SIZE: 20_000}),
        )
    )
    unknown = frame(frames.HEADERS, END_HEADERS, 1, request_block("/shop.Orders/None"))
    trailers = frame(frames.HEADERS, END_HEADERS | END_STREAM, 1, encode_headers([(b"x-end", b"1")]))
    padded = frame(frames.DATA, frames.PADDED | END_STREAM, 1, b"\x02" + message(b"A-1001") + bytes(2))
    start = frames.PREFACE + frames.settings_frame({})
    return [
        b"\xfc" + start + call,
        b"\x00" + start + call,
        b"\xfd" + call + other,
        b"\xfd" + inflated,
        b"\xfd" + timed + pieces,
        b"\xfd" + unknown + trailers,
        b"\xff" + padded + other,
        b"\xff" + frame(frames.DATA, 0, 1, message(b"A-1001")[:7]) + trailers,
    ]


def header_block_seeds() -> list[bytes]:
    """Two blocks each, the second of which uses the table of the first; with and without Huffman's code."""
    headers = [(":method", "POST"), (":path", GET), ("x-order", "A-1001"), ("x-order", "A-1002")]
    seeds = []
    for is_coded in (False, True):
        encoder = hpack.Encoder()
        blocks = [encoder.encode(headers, huffman=is_coded) for _ in range(2)]
        encoder.header_table_size = 60
        blocks.append(encoder.encode([*headers, ("authorization", "Bearer x")], huffman=is_coded))
        seeds.append(b"".join(bytes([len(block)]) + block for block in blocks))
    return seeds
