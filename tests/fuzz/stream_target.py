"""The fuzz target of RabbitMQ's stream protocol, and its first inputs.

The first byte says what the rest is: a frame of a command, a Publish, a message, or sections of one. It is
imported by the fuzzer when it has begun to look at coverage, so no module of `mainstem` may be before.
"""

from __future__ import annotations

import contextlib
import struct

import msgspec

from mainstem.amqp.properties import Properties
from mainstem.amqp.properties_codec import encode_properties
from mainstem.amqp.section_properties import section_properties
from mainstem.amqp_sections import SectionError, jsonable, read_sections
from mainstem.contract import Event
from mainstem.doors.rabbitmq_stream import commands, messages
from mainstem.doors.rabbitmq_stream.publish_frames import SUB_BATCH_BYTES_MAX, decode_publish
from mainstem.doors.rabbitmq_stream.wire import FrameError

FRAMES = [*commands.REQUESTS.values(), *commands.REPLIES.values()]
SECTIONS, PUBLISH, FILTERED, MESSAGE = 252, 253, 254, 255
"""First bytes that are no index of FRAMES."""
SECTION_SEEDS = (
    bytes.fromhex(
        "005370 c0 07 03 41 5007 520a 0053 73 c0 0f 02 a1 03 612d31 a0 05 67756573740a".replace(" ", "")
    ),
    bytes.fromhex("005374 c1 1a 04 a1016b 8100000000000000ff a1026474 830000018bcfe56800".replace(" ", "")),
    bytes.fromhex("005372 c1 13 02 a306782d6c697374 e0 08 03 61 000100020003".replace(" ", "")),
)


def stream_frames(data: bytes) -> None:
    """What is decoded is encoded to what decodes to the same; a message comes back as it was sent."""
    if not data:
        return
    kind, rest = data[0], data[1:]
    if kind == MESSAGE:
        value, headers = messages.to_event_parts(rest)
        assert messages.from_event(Event("orders", 0, 0, 0, None, value, headers)) == rest
        return
    if kind == SECTIONS:
        _check_sections(rest)
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


def _check_sections(data: bytes) -> None:
    """Whatever sections say, it is JSON, and properties of AMQP 0-9-1."""
    fields, table = section_properties(data)
    encode_properties(Properties(**fields, headers=table or None))
    with contextlib.suppress(SectionError):
        msgspec.json.encode({name: jsonable(value) for name, value in read_sections(data).items()})


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
    seeds += [bytes([SECTIONS]) + data for data in SECTION_SEEDS]
    return [*seeds, bytes([MESSAGE]) + sections + messages.data_section(b"x"), bytes([MESSAGE]) + bytes(20)]
