"""HTTP/2 without a socket: what is bounded, and what ends a stream or the connection. h2spec has the rest."""

from __future__ import annotations

import struct
from collections.abc import Callable

import hpack
import pytest

from mainstem.access_contract import Requester
from mainstem.doors.pubsub import frames, h2_rules
from mainstem.doors.pubsub.calls import Code, RpcCall, RpcError
from mainstem.doors.pubsub.exchange import BODY_TIMEOUT_S
from mainstem.doors.pubsub.frames import H2Error
from mainstem.doors.pubsub.header_block import HeaderBlockError, HeaderDecoder, encode_headers
from mainstem.promise import Promise
from tests.doors.pubsub.h2_kit import ORDERS, Client, frame, goaway_code, message, reset_code, unary

ECHO = {ORDERS + "Echo": unary(lambda call, body: body)}
ORDER = b'{"order":"A-1001","total":59.9}'


def test_a_call_is_answered_when_it_comes_byte_by_byte() -> None:
    whole, piecemeal = Client(ECHO), Client(ECHO)
    data = [
        frame(frames.HEADERS, frames.END_HEADERS, 1, whole.request(ORDERS + "Echo")),
        frame(frames.DATA, frames.END_STREAM, 1, message(ORDER)),
    ]
    whole.send(b"".join(data))
    for byte in b"".join(data):
        piecemeal.send(bytes((byte,)))
    assert whole.outcome(whole.read(), 1) == piecemeal.outcome(piecemeal.read(), 1)


def test_the_headers_of_a_request_may_come_in_several_frames_with_padding() -> None:
    client = Client(ECHO)
    block = client.request(ORDERS + "Echo")
    client.send(
        frame(
            frames.HEADERS, frames.PADDED | frames.HAS_PRIORITY, 1, b"\x03" + bytes(5) + block[:9] + b"\0\0\0"
        )
        + frame(frames.CONTINUATION, 0, 1, block[9:20])
        + frame(frames.CONTINUATION, frames.END_HEADERS, 1, block[20:])
        + frame(frames.DATA, frames.END_STREAM | frames.PADDED, 1, b"\x01" + message(ORDER) + b"\0")
    )
    assert client.outcome(client.read(), 1)[0] == message(ORDER)


def rapid_reset(client: Client) -> None:
    block = encode_headers(
        [
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", b"/x"),
            (b"content-type", b"application/grpc"),
        ]
    )
    for stream in range(1, 4_001, 2):
        client.send(
            frame(frames.HEADERS, frames.END_HEADERS, stream, block)
            + frames.reset_frame(stream, H2Error.CANCEL)
        )


def made_to_reset(client: Client) -> None:
    for _ in range(2_000):
        stream = client.open(ORDERS + "Echo")
        client.send(frames.window_update(stream, 0))


def continuations(client: Client) -> None:
    client.send(frame(frames.HEADERS, 0, 1, b""))
    for _ in range(20):
        client.send(frame(frames.CONTINUATION, 0, 1, b""))


def large_block(client: Client) -> None:
    client.send(frame(frames.HEADERS, 0, 1, bytes(16_000)))
    client.send(frame(frames.CONTINUATION, 0, 1, bytes(1_000)))


def header_bomb(client: Client) -> None:
    """One header of 4,000 bytes, which the block repeats from the table."""
    client.send(
        frame(frames.HEADERS, frames.END_HEADERS, 1, client.block(("x", "y" * 4_000)) + b"\xbe" * 2_000)
    )


def pings(client: Client) -> None:
    for _ in range(100):
        client.send(frame(frames.PING, 0, 0, bytes(8)) * 100)


def settings(client: Client) -> None:
    for _ in range(100):
        client.send(frames.settings_frame({frames.INITIAL_WINDOW_SIZE: 1}) * 100)


def priorities(client: Client) -> None:
    for _ in range(100):
        client.send(frame(frames.PRIORITY, 0, 7, struct.pack(">IB", 3, 9)) * 100)


def unknown_frames(client: Client) -> None:
    for _ in range(100):
        client.send(frame(0xF0, 0, 0, b"") * 100)


def empty_data(client: Client) -> None:
    stream = client.open(ORDERS + "Echo")
    for _ in range(100):
        client.send(frame(frames.DATA, 0, stream, b"") * 100)


def small_window_updates(client: Client) -> None:
    for _ in range(100):
        client.send(frames.window_update(0, 1) * 100)


@pytest.mark.parametrize(
    "attack",
    [
        rapid_reset,
        made_to_reset,
        continuations,
        large_block,
        header_bomb,
        pings,
        settings,
        priorities,
        unknown_frames,
        empty_data,
        small_window_updates,
    ],
)
def test_floods_end_the_connection(attack: Callable[[Client], None]) -> None:
    client = Client(ECHO)
    attack(client)
    assert goaway_code(client.read()) == H2Error.ENHANCE_YOUR_CALM
    assert client.socket.is_closed
    assert [kind for kind, _ in client.socket.warnings] == ["enhance-your-calm"]
    assert not client.connection.calls
    client.send(frame(frames.PING, 0, 0, bytes(8)))
    assert client.read() == [], "nothing more is handled"


def test_pings_that_come_with_calls_are_no_flood() -> None:
    client = Client(ECHO)
    for _ in range(5_000):
        client.call(ORDERS + "Echo", ORDER)
        client.send(frame(frames.PING, 0, 0, bytes(8)) + frames.window_update(0, 100))
    assert not client.socket.is_closed


def test_resets_over_a_long_time_are_no_flood() -> None:
    client = Client(ECHO)
    for _ in range(50):
        for _ in range(50):
            client.send(frames.reset_frame(client.open(ORDERS + "Echo"), H2Error.CANCEL))
        client.clock.advance(1.0)
    assert not client.socket.is_closed


def test_the_streams_of_a_client_are_limited() -> None:
    client = Client(ECHO)
    streams = [client.open(ORDERS + "Echo") for _ in range(h2_rules.STREAMS_MAX + 1)]
    answers = client.read()
    assert reset_code(answers, streams[-1]) == H2Error.REFUSED_STREAM
    client.data(streams[0], message(ORDER), is_last=True)
    assert client.outcome(client.read(), streams[0])[0] == message(ORDER)
    assert reset_code(client.read(), client.open(ORDERS + "Echo")) is None


def test_calls_that_were_given_up_count_until_their_work_has_ended() -> None:
    waiting: list[Promise[bytes]] = []

    def wait(call: RpcCall, body: bytes) -> Promise[bytes]:
        waiting.append(Promise())
        return waiting[-1]

    client = Client({ORDERS + "Wait": unary(wait)})
    for _ in range(250):
        stream = client.call(ORDERS + "Wait", ORDER)
        client.send(frames.reset_frame(stream, H2Error.CANCEL))
    assert len(waiting) == 200
    for promise in waiting[:]:
        promise.resolve(b"")
    assert not client.connection.calls


def test_a_client_that_does_not_raise_its_window_makes_nothing_grow() -> None:
    client = Client(ECHO, settings={frames.INITIAL_WINDOW_SIZE: 0})
    large = bytes(1 << 20)
    for _ in range(h2_rules.STREAMS_MAX):
        client.call(ORDERS + "Echo", large)
    assert client.connection.http2.unsent_bytes <= h2_rules.ALL_UNSENT_MAX + len(large)
    assert "unread" in dict(client.socket.warnings)


def test_large_responses_leave_room_for_small_ones() -> None:
    client = Client(ECHO, settings={frames.INITIAL_WINDOW_SIZE: 1 << 30})
    client.send(frames.window_update(0, 1 << 30))
    client.connection.set_blocked(True)
    large = client.call(ORDERS + "Echo", bytes(4 << 20))
    small = client.call(ORDERS + "Echo", ORDER)
    client.connection.set_blocked(False)
    order = [answer.stream for answer in client.read() if answer.kind == frames.DATA]
    assert order.index(small) <= 2
    assert order.count(large) >= (4 << 20) // frames.FRAME_BYTES_MAX


def test_windows_are_kept_to_and_may_become_negative() -> None:
    client = Client(ECHO, settings={frames.INITIAL_WINDOW_SIZE: 10})
    stream = client.call(ORDERS + "Echo", ORDER)
    first = [answer.payload for answer in client.read() if answer.kind == frames.DATA]
    assert b"".join(first) == message(ORDER)[:10]
    client.send(frames.settings_frame({frames.INITIAL_WINDOW_SIZE: 0}))
    client.send(frames.window_update(stream, 10))
    assert [answer.kind for answer in client.read()] == [frames.SETTINGS]
    client.send(frames.window_update(stream, 100))
    rest = [answer.payload for answer in client.read() if answer.kind == frames.DATA]
    assert b"".join(rest) == message(ORDER)[10:]


def test_more_data_than_the_window_ends_the_stream() -> None:
    waiting: Promise[bytes] = Promise()
    client = Client({ORDERS + "Wait": unary(lambda call, body: waiting)})
    stream = client.open(ORDERS + "Wait")
    client.connection.http2._streams[stream].receive_window = 100  # as if nothing were credited
    client.data(stream, bytes(101))
    assert reset_code(client.read(), stream) == H2Error.FLOW_CONTROL_ERROR


def test_memory_of_messages_that_come_in_is_bounded_over_all_clients() -> None:
    first, second = Client(ECHO, budget_bytes=1 << 20), Client(ECHO)
    second.connection._budget = first.budget
    body = message(bytes(3 << 19))
    large = first.open(ORDERS + "Echo")
    small = second.open(ORDERS + "Echo")
    first.data(large, body[: 5 << 18])  # is favoured: it may go on
    second.data(small, body[:40_000])
    assert second.socket.is_paused
    assert not first.socket.is_paused
    first.data(large, body[5 << 18 :], is_last=True)
    first.clock.advance(1.0)
    assert not second.socket.is_paused
    second.data(small, body[40_000:], is_last=True)
    assert first.budget.used_bytes == 0


def test_a_message_that_is_not_whole_keeps_its_memory_for_a_time_only() -> None:
    client = Client(ECHO)
    body = message(bytes(40_000))
    for part, more in ((body[:-1], ()), (body, ()), (body[:-1], (("grpc-timeout", "1S"),))):
        stream = client.open(ORDERS + "Echo", *more)
        client.data(stream, part)
        assert client.budget.used_bytes >= 40_000
        client.clock.advance(2.0 if more else BODY_TIMEOUT_S - 1)
        if not more:
            assert client.budget.used_bytes >= 40_000
            client.clock.advance(2.0)
        assert client.outcome(client.read(), stream)[1]["grpc-status"] == "4"
        assert client.budget.used_bytes == 0
    assert not client.connection.calls


def test_who_is_refused_does_not_keep_memory() -> None:
    client = Client(ECHO)
    checking: list[Promise[Requester]] = []

    def check(credentials: str | None) -> Promise[Requester]:
        checking.append(Promise())
        return checking[-1]

    client.connection.requester_of = check  # type: ignore[method-assign]
    stream = client.open(ORDERS + "Echo", ("authorization", "Basic x"))
    client.data(stream, message(bytes(40_000))[:-1])
    assert client.budget.used_bytes >= 40_000
    checking[0].fail(RpcError(Code.UNAUTHENTICATED, "a login is needed"))
    assert client.outcome(client.read(), stream)[1]["grpc-status"] == "16"
    assert client.budget.used_bytes == 0


def test_a_client_that_does_not_read_is_not_read_either() -> None:
    client = Client(ECHO)
    client.connection.set_blocked(True)
    assert client.socket.is_paused
    client.connection.set_blocked(False)
    assert not client.socket.is_paused


def test_a_drained_connection_answers_what_was_on_its_way_and_refuses_the_rest() -> None:
    waiting: Promise[bytes] = Promise()
    client = Client({ORDERS + "Wait": unary(lambda call, body: waiting), **ECHO})
    slow = client.call(ORDERS + "Wait", ORDER)
    client.connection.drain()
    first = client.read()
    assert [answer.kind for answer in first] == [frames.GOAWAY, frames.PING]
    assert int.from_bytes(first[0].payload[:4], "big") == (1 << 31) - 1
    late = client.call(ORDERS + "Echo", ORDER)
    assert client.outcome(client.read(), late)[0] == message(ORDER)
    client.send(frame(frames.PING, frames.ACK, 0, first[1].payload))
    second = client.read()
    assert int.from_bytes(second[0].payload[:4], "big") == late
    refused = client.call(ORDERS + "Echo", ORDER)
    assert client.outcome(client.read(), refused) == (b"", {})
    assert not client.socket.is_closed
    waiting.resolve(b"done")
    assert client.outcome(client.read(), slow)[0] == message(b"done")
    assert client.socket.is_closed


HEADERS = [(":method", "POST"), ("x-order", "A-1001"), ("x-order", "A-1001"), ("user-agent", "ü" * 200)]


def test_blocks_of_another_encoder_are_decoded_and_ours_by_its_decoder() -> None:
    encoder, decoder = hpack.Encoder(), HeaderDecoder()
    for size in (4_096, 100, 0, 4_096):
        encoder.header_table_size = size
        for huffman in (True, False):
            expected = [(name.encode(), value.encode()) for name, value in HEADERS]
            assert decoder.decode(encoder.encode(HEADERS, huffman=huffman)) == expected
    assert list(hpack.Decoder().decode(encode_headers(expected), raw=True)) == expected


@pytest.mark.parametrize(
    "block",
    [
        b"\x80",  # index 0
        b"\xbe",  # beyond the table
        b"\x40\x01",  # cut
        b"\x40\x7f\xff\xff\xff\xff\xff\xff\x0f",  # an integer of too many bits
        b"\x82\x20",  # a size update behind a header
        b"\x20\x20\x20",  # three of them
        b"\x3f\xe2\x1f",  # a table of 4,097 bytes
        b"\x40\x81\xff\x00",  # padding of a Huffman code that is a whole byte
    ],
)
def test_blocks_that_are_wrong_are_refused(block: bytes) -> None:
    with pytest.raises(HeaderBlockError):
        HeaderDecoder().decode(block)
