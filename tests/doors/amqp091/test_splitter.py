"""Bytes to frames: the same frames however they come, and bounds."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainstem.doors.amqp091 import frames
from mainstem.doors.amqp091.control_methods import ChannelClose, ChannelOpen
from mainstem.doors.amqp091.splitter import FrameSplitter, NotAFrame

STREAM = (
    frames.method_frame(1, ChannelOpen())
    + frames.HEARTBEAT_FRAME
    + b"".join(frames.content_frames(1, b"\0\0", bytes(3_000), 2_048))
    + frames.method_frame(65_535, ChannelClose(200, "bye"))
)
FRAMES = [(1, 1), (8, 0), (2, 1), (3, 1), (3, 1), (1, 65_535)]


class FrameLog:
    """Remembers frames; takes `room` of them."""

    def __init__(self, payload_max: int = 4_096, room: int = 1 << 30) -> None:
        self.frames: list[tuple[int, int]] = []
        self.data = b""
        self.room = room
        self.splitter = FrameSplitter(self.on_frame, payload_max)

    def on_frame(self, kind: int, channel: int, data: bytes, start: int, end: int) -> bool:
        if not self.room:
            return False
        self.room -= 1
        self.frames.append((kind, channel))
        self.data += frames.head.pack(kind, channel, end - start) + data[start:end] + frames.END
        return True


@given(st.lists(st.integers(1, 60), max_size=60))
@settings(deadline=None)
def test_frames_are_the_same_however_they_come(sizes: list[int]) -> None:
    log, rest = FrameLog(), STREAM
    for size in sizes:
        log.splitter.feed(rest[:size])
        rest = rest[size:]
    log.splitter.feed(rest)
    assert log.frames == FRAMES
    assert log.data == STREAM
    assert log.splitter.pending_bytes == 0


def test_byte_by_byte_and_a_rest_that_waits() -> None:
    log = FrameLog()
    for byte in STREAM + b"\1":
        log.splitter.feed(bytes((byte,)))
    assert (log.data, log.splitter.pending_bytes) == (STREAM, 1)
    assert log.splitter.clear() == b"\1"
    assert log.splitter.pending_bytes == 0


def test_frames_that_are_not_taken_come_again() -> None:
    log = FrameLog(room=2)
    log.splitter.feed(STREAM)
    assert log.frames == FRAMES[:2]
    log.splitter.feed(b"")
    log.room = 3
    log.splitter.resume()
    log.splitter.resume()
    log.room = 9
    log.splitter.feed(frames.HEARTBEAT_FRAME)
    assert log.frames == [*FRAMES, (8, 0)]
    log.splitter.resume()
    assert log.data == STREAM + frames.HEARTBEAT_FRAME


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (frames.head.pack(3, 1, 4_097), "a payload of 4097 bytes, at most 4096"),
        (frames.head.pack(3, 1, 0xFFFF_FFFF) + b"x", "at most 4096"),
        (frames.head.pack(3, 1, 1) + b"xx", "the end of the frame is 0x78"),
    ],
)
def test_what_is_no_frame_is_refused(data: bytes, text: str) -> None:
    log = FrameLog()
    with pytest.raises(NotAFrame, match=text):
        log.splitter.feed(frames.HEARTBEAT_FRAME + data + b"\0")
    assert log.frames == [(8, 0)]
