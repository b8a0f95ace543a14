"""The codec of the stream protocol: what is written is read, and hostile bytes are refused."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstem.contract import Event
from mainstem.doors.rabbitmq_stream import commands, messages, wire
from mainstem.doors.rabbitmq_stream.chunks import chunk_length
from mainstem.doors.rabbitmq_stream.commands import StreamFrame
from mainstem.doors.rabbitmq_stream.publish_frames import SUB_BATCH_BYTES_MAX, decode_publish
from mainstem.doors.rabbitmq_stream.wire import FieldKind, FrameError

TEXT = st.text(max_size=20)
VALUES: dict[int, st.SearchStrategy[object]] = {
    id(wire.U8): st.integers(0, 255),
    id(wire.U16): st.integers(0, (1 << 16) - 1),
    id(wire.U32): st.integers(0, (1 << 32) - 1),
    id(wire.U64): st.integers(0, (1 << 64) - 1),
    id(wire.I64): st.integers(-(1 << 63), (1 << 63) - 1),
    id(wire.STRING): TEXT,
    id(wire.BYTES): st.none() | st.binary(max_size=20),
    id(wire.MAP): st.dictionaries(TEXT, TEXT, max_size=3),
    id(wire.MAP_AT_END): st.dictionaries(TEXT, TEXT, max_size=3),
    id(wire.OFFSET_SPEC): st.sampled_from([(0, 0), (1, 0), (3, 0), (4, (1 << 64) - 1), (5, -1)]),
}
FRAMES = [*commands.REQUESTS.values(), *commands.REPLIES.values()]


def values_of(kind: FieldKind) -> st.SearchStrategy[object]:
    """Values of a type; of arrays only the empty one."""
    return VALUES.get(id(kind), st.just([]))


@given(st.data(), st.sampled_from(FRAMES))
def test_what_is_written_is_read(data: st.DataObject, kind: type[StreamFrame]) -> None:
    fields = {
        name: data.draw(values_of(part))
        for name, part in zip(kind.__struct_fields__, kind.KINDS, strict=True)
    }
    frame = kind(**fields)
    encoded = commands.encode(frame)
    assert int.from_bytes(encoded[:4], "big") == len(encoded) - 4
    assert commands.decode(kind, encoded[4:]) == frame


def test_arrays_are_read() -> None:
    reply = commands.MetadataReply(
        correlation_id=5,
        brokers=[(0, "stream.example.org", 5552)],
        streams=[("orders", 1, 0, [1, 2]), ("flights", 2, 0xFFFF, [])],
    )
    assert commands.decode(commands.MetadataReply, commands.encode(reply)[4:]) == reply


def test_a_client_may_leave_out_the_properties_of_a_subscription() -> None:
    subscribe = commands.Subscribe(
        correlation_id=1, subscription_id=2, stream="orders", offset_spec=(1, 0), credit=10, properties={}
    )
    assert commands.decode(commands.Subscribe, commands.encode(subscribe)[4:-4]) == subscribe


@given(st.sampled_from(FRAMES), st.binary(max_size=80))
def test_hostile_bytes_are_refused_or_read(kind: type[StreamFrame], data: bytes) -> None:
    try:
        frame = commands.decode(kind, b"\0\0\0\1" + data)
    except FrameError:
        return
    assert commands.decode(kind, commands.encode(frame)[4:]) == frame


@given(st.integers(1, 2), st.binary(max_size=120))
def test_a_hostile_publish_is_refused_or_read(version: int, data: bytes) -> None:
    try:
        frame = decode_publish(b"\0\2\0\1" + data, version)
    except FrameError:
        return
    assert sum(len(message) for entry in frame.entries for message in entry.messages) <= len(data)


@pytest.mark.parametrize("codec", [0, 1, 2, 3, 4, 7])
def test_a_sub_entry_batch_that_announces_too_much_is_refused(codec: int) -> None:
    entry = struct.pack(">QBHII", 9, 0x80 | codec << 4, 1, SUB_BATCH_BYTES_MAX + 1, 4) + b"\0" * 4
    frame = decode_publish(b"\0\2\0\1\1" + struct.pack(">I", 1) + entry, 1)
    assert (frame.entries, frame.refused) == ([], [9])


def event_of(message: bytes) -> Event:
    value, headers = messages.to_event_parts(message)
    return Event("orders", 0, 0, 0, None, value, headers)


@given(st.binary(max_size=40))
def test_any_bytes_come_back_as_they_were_sent(message: bytes) -> None:
    assert messages.from_event(event_of(message)) == message


SECTIONS = st.lists(
    st.sampled_from(
        [
            bytes.fromhex("005370 c0 02 01 41"),
            bytes.fromhex("005372 c1 01 00"),
            bytes.fromhex("005373 c0 0a 01 a1 07") + b"order-1",
            bytes.fromhex("005374 d1 00000004 00000000"),
            bytes.fromhex("005373 45"),
        ]
    ),
    max_size=4,
).map(b"".join)


@given(SECTIONS, st.binary(max_size=300))
def test_a_message_is_its_sections_and_its_payload(sections: bytes, payload: bytes) -> None:
    message = sections + messages.data_section(payload)
    event = event_of(message)
    assert event.value == payload
    assert dict(event.headers).get("mainstem-amqp", b"") == sections
    assert messages.from_event(event) == message


def test_sections_of_another_door_that_are_none_are_not_joined() -> None:
    event = Event("orders", 0, 0, 0, None, b"x", (("mainstem-amqp", b"\x00\x53\x75\xa0\x01y"),))
    assert messages.from_event(event) == messages.data_section(b"x")


def test_a_chunk_ends_at_a_gap_of_the_offsets_and_at_its_size() -> None:
    events = [Event("orders", 0, offset, 0, None, b"x") for offset in (4, 5, 7, 8)]
    assert chunk_length(events, [1] * 4, 100) == 2
    assert chunk_length(events[2:], [50, 60], 100) == 1
    assert chunk_length(events[3:], [500], 100) == 1
