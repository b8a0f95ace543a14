"""The frames of AMQP 0-9-1 (2.3): what a connection sends, in bytes.

Owns: the numbers of frames, and the quick ways to make the frames that every message needs. Refuses nothing:
values are checked where they come in.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from mainstem.amqp.field_tables import encode_short
from mainstem.doors.amqp091.method_codec import encode_method

if TYPE_CHECKING:
    from mainstem.doors.amqp091.method import Method

PROTOCOL_HEADER = b"AMQP\0\0\x09\x01"
PROTOCOL_HEADERS = (PROTOCOL_HEADER, b"AMQP\x01\x01\0\x09")
"""What a client may begin with: the second is AMQP 0-9's, for the same frames."""
METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
FRAME_END = 0xCE
END = b"\xce"
HEAD_BYTES = 7
OVERHEAD_BYTES = 8
"""Of a frame: its head and its end."""
FRAME_MIN_BYTES = 4_096
"""The least `frame_max` that a connection may have (4.2.3)."""
HEARTBEAT_FRAME = b"\x08\0\0\0\0\0\0\xce"

BASIC_CLASS = 60
PUBLISH_ID, ACK_ID = BASIC_CLASS << 16 | 40, BASIC_CLASS << 16 | 80
DELIVER_ID, NACK_ID = BASIC_CLASS << 16 | 60, BASIC_CLASS << 16 | 120

head = struct.Struct(">BHI")
"""Type, channel, size of the payload."""
content_head = struct.Struct(">HHQ")
"""Of a header frame's payload: class, weight (0), size of the body. Flags and properties follow."""
_method_head = struct.Struct(">BHII")
_deliver_middle = struct.Struct(">QB")
_header_head = struct.Struct(">BHIHHQ")
_ack = struct.Struct(">BHIIQBB")


def method_frame(channel: int, method: Method) -> bytes:
    """The frame of a method. FieldTableError: a value that its field cannot hold."""
    payload = encode_method(method)
    return head.pack(METHOD, channel, len(payload)) + payload + END


def ack_frame(channel: int, delivery_tag: int, *, multiple: bool) -> bytes:
    """basic.ack: the confirmation of what was published."""
    return _ack.pack(METHOD, channel, 13, ACK_ID, delivery_tag, multiple, FRAME_END)


def nack_frame(channel: int, delivery_tag: int, *, multiple: bool) -> bytes:
    """basic.nack: what was published is not stored."""
    return _ack.pack(METHOD, channel, 13, NACK_ID, delivery_tag, multiple, FRAME_END)


def content_frames(channel: int, properties: bytes, body: bytes, frame_max: int) -> list[bytes]:
    """The header frame and the body frames of a message. `properties`: flags and values; `frame_max`: the
    largest frame in bytes, 0: any."""
    size = len(body)
    frames = [_header_head.pack(HEADER, channel, 12 + len(properties), BASIC_CLASS, 0, size) + properties]
    step = frame_max - OVERHEAD_BYTES if frame_max else size
    if size <= step:
        if size:
            frames += (END + head.pack(BODY, channel, size), body)
        frames.append(END)
        return frames
    for start in range(0, size, step):
        piece = body[start : start + step]
        frames += (END + head.pack(BODY, channel, len(piece)), piece)
    frames.append(END)
    return frames


def deliver_frames(
    channel: int,
    consumer_tag: bytes,
    delivery_tag: int,
    redelivered: bool,  # as many calls a second as there are deliveries
    address: bytes,
    properties: bytes,
    body: bytes,
    frame_max: int,
) -> bytes:
    """The frames of a delivery. `consumer_tag`: as `encode_short` makes it; `address`: see `address_bytes`;
    `properties`: flags and values."""
    size = len(body)
    tag_bytes = len(consumer_tag)
    method = (
        _method_head.pack(METHOD, channel, 13 + tag_bytes + len(address), DELIVER_ID)
        + consumer_tag
        + _deliver_middle.pack(delivery_tag, redelivered)
        + address
    )
    if size + OVERHEAD_BYTES <= frame_max or (size and not frame_max):
        header = _header_head.pack(HEADER, channel, 12 + len(properties), BASIC_CLASS, 0, size)
        if not size:
            return b"%b\xce%b%b\xce" % (method, header, properties)
        body_head = head.pack(BODY, channel, size)
        return b"%b\xce%b%b\xce%b%b\xce" % (method, header, properties, body_head, body)
    return b"".join((method, END, *content_frames(channel, properties, body, frame_max)))


def address_bytes(exchange: str, routing_key: str) -> bytes:
    """Exchange and routing key as deliveries have them. FieldTableError: more than 255 bytes of either."""
    return encode_short(exchange) + encode_short(routing_key)
