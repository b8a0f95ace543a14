"""The fuzz target of RabbitMQ's stream protocol, and its first inputs.

The first byte says what the rest is: a frame of a command, a Publish, or a message.
"""

from __future__ import annotations

import struct

from mainstem.contract import Event
from mainstem.doors.rabbitmq_stream import commands, messages
from mainstem.doors.rabbitmq_stream.publish_frames import SUB_BATCH_BYTES_MAX, decode_publish
from mainstem.doors.rabbitmq_stream.wire import FrameError

FRAMES = [*commands.REQUESTS.values(), *commands.REPLIES.values()]
PUBLISH, FILTERED, MESSAGE = 253, 254, 255
"""First bytes that are no index of FRAMES."""


def stream_frames(data: bytes) -> None:
    """What is decoded is encoded to what decodes to the same; a message comes back as it was sent."""
    if not data:
        return
    kind, rest = data[0], data[1:]
    if kind == MESSAGE:
        value, headers = messages.to_event_parts(rest)
        assert messages.from_event(Event("orders", 0, 0, 0, None, value, headers)) == rest
        return
    try:
        if kind in (PUBLISH, FILTERED):
            frame = decode_publish(rest, 1 + (kind == FILTERED))
            size = sum(len(message) for entry in frame.entries for message in entry.messages)
            assert size <= len(rest) + SUB_BATCH_BYTES_MAX
            return
        decoded = commands.decode(FRAMES[kind % len(FRAMES)], rest)
    except FrameError:
        return
    assert commands.decode(type(decoded), commands.encode(decoded)[4:]) == decoded


def stream_seeds() -> list[bytes]:
    """Good inputs."""
    subscribe = commands.Subscribe(
        correlation_id=1,
        subscription_id=2,
        stream="orders",
        offset_spec=(4, 7),
        credit=10,
        properties={"a": "b"},
    )
    create = commands.CreateSuperStream(
        correlation_id=1,
        name="orders",
        partitions=["orders-0"],
        binding_keys=["0"],
        arguments={"max-age": "7D"},
    )
    metadata = commands.MetadataReply(
        correlation_id=1, brokers=[(0, "localhost", 5552)], streams=[("orders", 1, 0, [1])]
    )
    seeds = [
        bytes([FRAMES.index(type(frame))]) + commands.encode(frame)[4:]
        for frame in (subscribe, create, metadata)
    ]
    head = struct.pack(">HHBI", 2, 1, 1, 1)
    plain = head + struct.pack(">QI", 5, 3) + b"abc"
    batch = head + struct.pack(">QBHII", 5, 0x80, 2, 10, 10) + b"\0\0\0\1a\0\0\0\1b"
    filtered = head + struct.pack(">QhI", 5, -1, 3) + b"abc"
    sections = bytes.fromhex("005373 c0 0a 01 a1 07") + b"order-1"
    seeds += [bytes([PUBLISH]) + plain, bytes([PUBLISH]) + batch, bytes([FILTERED]) + filtered]
    return [*seeds, bytes([MESSAGE]) + sections + messages.data_section(b"x"), bytes([MESSAGE]) + bytes(20)]
