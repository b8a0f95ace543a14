"""The frame reader: every cut of the bytes, hostile lengths, other protocols, and the memory that it
holds."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainstem.doors.kafka.frame import (
    POOLED_BYTES,
    POOLED_LARGE_BYTES,
    POOLED_LARGE_COUNT,
    BufferPool,
    FrameReader,
    NotKafka,
)
from mainstem.doors.net.limits import MemoryBudget
from mainstem.kafka_protocol.reader import ProtocolError, RequestTooLarge
from tests.doors.kafka.kit import RecordingWaiter, frame_reader, read_frames

REQUEST_MAX = 8 << 20


def reader(
    pool: BufferPool | None = None, budget: MemoryBudget | None = None, owner: RecordingWaiter | None = None
) -> FrameReader:
    return frame_reader(REQUEST_MAX, pool, budget, owner)


def framed(payload: bytes) -> bytes:
    return len(payload).to_bytes(4, "big") + payload


def produce(size: int) -> bytes:
    body_bytes = size - 2
    return b"\0\0" + (bytes(range(251)) * (body_bytes // 251 + 1))[:body_bytes]


@pytest.mark.parametrize("step", [1, 2, 3, 5, 7, 64, 1000, 1 << 20])
def test_frames_are_whole_however_the_bytes_are_cut(step: int) -> None:
    sent = [produce(size) for size in (8, 9, 100, 4000, 5000, 70_000)]
    assert read_frames(reader(), b"".join(map(framed, sent)), step) == sent


@pytest.mark.parametrize(
    "size", [128 << 10, (128 << 10) + 1, 256 << 10, 1 << 20, (1 << 20) + 1, 3_500_000, REQUEST_MAX]
)
def test_large_frames_are_whole(size: int) -> None:
    sent = [produce(20), produce(size), produce(30), produce(size), produce(8)]
    assert read_frames(reader(), b"".join(map(framed, sent)), 60_000) == sent


@pytest.mark.parametrize("size", [200_000, POOLED_BYTES, 3_500_000])
@pytest.mark.parametrize("first", [9_000, 100_000])
def test_a_large_frame_is_received_while_the_one_before_it_waits(first: int, size: int) -> None:
    frames = reader()
    frame, large = produce(first), produce(size)
    sent = memoryview(framed(frame) + framed(large))
    received = 0

    def receive(end: int) -> None:
        nonlocal received
        while received < end and not (frames.has_frame and received > len(frame) + 4):
            buffer = frames.receive_buffer()
            count = min(len(buffer), end - received)
            assert count, "a buffer is never empty"
            buffer[:count] = sent[received : received + count]
            buffer.release()
            frames.advance(count)
            received += count
            assert frames.prepare_receive()

    receive(6_000)
    receive(len(frame) + 4 + 10_000)
    assert bytes(frames.next() or b"") == frame
    assert frames.prepare_receive(), "the request waits: reading goes on until the next one is whole"
    receive(len(sent))
    assert bytes(frames.next() or b"") == large


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(8, 300_000), max_size=6), st.lists(st.integers(1, 400_000), min_size=1, max_size=5)
)
def test_any_cut_of_any_frames(sizes: list[int], steps: list[int]) -> None:
    frames, out = reader(), []
    data = b"".join(framed(produce(size)) for size in sizes)
    turn = 0
    while data:
        step = steps[turn % len(steps)]
        turn += 1
        out += read_frames(frames, data[:step])
        data = data[step:]
    assert [len(frame) for frame in out] == sizes
    assert all(frame == produce(len(frame)) for frame in out)
    assert frames.partial_bytes == 0


def test_every_proper_prefix_needs_more_bytes() -> None:
    data = framed(produce(300))
    for end in range(len(data)):
        frames = reader()
        assert read_frames(frames, data[:end]) == []
        assert read_frames(frames, data[end:]) == [data[4:]]


@pytest.mark.parametrize("size", [-1, -(2**31), 0, 7, REQUEST_MAX + 1, 2**31 - 1])
def test_an_invalid_length_is_refused_after_four_bytes(size: int) -> None:
    with pytest.raises(ProtocolError):
        read_frames(reader(), size.to_bytes(4, "big", signed=True))


@pytest.mark.parametrize("key", [0, 3, 8, 11, 99])
def test_a_request_of_any_key_may_be_as_large_as_the_setting(key: int) -> None:
    frame = key.to_bytes(2, "big") + bytes((1 << 20) + 1)
    assert read_frames(reader(), framed(frame), 60_000) == [frame]


def test_a_length_above_the_setting_is_no_violation_of_the_protocol() -> None:
    with pytest.raises(RequestTooLarge, match=r"above socket\.request\.max\.bytes"):
        read_frames(reader(), (REQUEST_MAX + 1).to_bytes(4, "big"))


@pytest.mark.parametrize(
    "text", [b"GET / HTTP/1.1\r\n", b"POST /topics", b"PRI * HTTP/2.0", b"\x16\x03\x01\x02\x00\x01\x00\x01"]
)
def test_other_protocols_are_recognized(text: bytes) -> None:
    with pytest.raises(NotKafka):
        read_frames(reader(), text)


def test_a_length_prefix_allocates_no_memory() -> None:
    tracemalloc.start()
    try:
        pool = BufferPool()
        readers = [reader(pool) for _ in range(5)]
        for frames in readers:
            read_frames(frames, REQUEST_MAX.to_bytes(4, "big") + produce(100))
        assert tracemalloc.get_traced_memory()[1] < 5 * (1 << 20) + 3 * POOLED_BYTES
    finally:
        tracemalloc.stop()


def test_idle_readers_share_one_buffer() -> None:
    pool = BufferPool()
    tracemalloc.start()
    try:
        readers = [reader(pool) for _ in range(200)]
        for frames in readers:
            read_frames(frames, framed(produce(500)) + framed(produce(500))[:30])
        assert tracemalloc.get_traced_memory()[0] < 2 * POOLED_BYTES
        assert all(frames.partial_bytes == 30 for frames in readers)
    finally:
        tracemalloc.stop()


def test_asking_for_a_buffer_borrows_none() -> None:
    pool = BufferPool()
    tracemalloc.start()
    try:
        readers = [reader(pool) for _ in range(50)]
        for frames in readers:
            read_frames(frames, framed(produce(500))[:30])
            frames.receive_buffer().release()
        assert tracemalloc.get_traced_memory()[0] < 2 * POOLED_BYTES
        assert all(read_frames(frames, framed(produce(500))[30:]) == [produce(500)] for frames in readers)
    finally:
        tracemalloc.stop()


def test_large_frames_after_the_first_allocate_no_memory() -> None:
    pool = BufferPool()
    data = framed(produce(1 << 20))
    first, second = reader(pool), reader(pool)
    read_frames(first, data)
    tracemalloc.start()
    try:
        for _ in range(3):
            frames = reader(pool)
            read_frames(frames, data[: 600 << 10])
            frames.close()
            assert read_frames(second, data) == [produce(1 << 20)]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20, "three of these megabytes are copies that this test makes"


def test_the_pool_has_few_large_buffers() -> None:
    pool = BufferPool()
    readers = [reader(pool) for _ in range(20)]
    tracemalloc.start()
    try:
        for size in (POOLED_LARGE_BYTES, POOLED_LARGE_BYTES - 1, 200 << 10):
            data = framed(produce(size))
            for frames in readers:  # all at the same time: none can use the buffer of another
                read_frames(frames, data[:-1])
            for frames in readers:
                assert read_frames(frames, data[-1:]) == [produce(size)]
        assert tracemalloc.get_traced_memory()[0] < (POOLED_LARGE_COUNT + 1) * POOLED_LARGE_BYTES
    finally:
        tracemalloc.stop()
