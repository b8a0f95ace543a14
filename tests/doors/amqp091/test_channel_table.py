"""Channels: open and closed, messages in frames, and the errors of both."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainstem.amqp.errors import AmqpError
from mainstem.amqp.properties import Properties
from mainstem.doors.amqp091 import frames
from mainstem.doors.amqp091.connection_context import PUBLISHES_MAX, ConnectionState
from mainstem.doors.amqp091.control_methods import (
    AccessRequest,
    AccessRequestOk,
    ChannelClose,
    ChannelCloseOk,
    ChannelFlow,
    ChannelOpen,
    ChannelOpenOk,
    ConnectionClose,
    ConnectionOpen,
    ConnectionTuneOk,
)
from mainstem.doors.amqp091.method import Method
from mainstem.doors.amqp091.method_codec import encode_method
from mainstem.doors.amqp091.methods import BasicAck, BasicGet, BasicNack, BasicPublish, QueueDeclare
from mainstem.doors.amqp091.negotiation import Limits
from tests.doors.amqp091.wire_kit import WireRig, message_frames

ORDER = BasicPublish("orders", "created.eu")
PERSISTENT = Properties(delivery_mode=2)


def open_rig(limits: Limits | None = None) -> WireRig:
    """A connection with channel 1."""
    rig = WireRig(limits=limits)
    rig.open(1)
    return rig


def connection_error(rig: WireRig) -> tuple[int, int, int]:
    """Code, class and method of the error that ends the connection."""
    close = rig.reply()
    assert isinstance(close, ConnectionClose)
    assert rig.connection.state is ConnectionState.CLOSING
    return close.reply_code, close.class_id, close.method_id


def channel_error(rig: WireRig) -> tuple[int, int, int]:
    """Code, class and method of the error that ends channel 1."""
    ((channel, close),) = rig.received()
    assert channel == 1
    assert isinstance(close, ChannelClose)
    return close.reply_code, close.class_id, close.method_id


# --- methods


def test_methods_go_to_the_work_of_their_channel() -> None:
    rig = open_rig()
    rig.send(ChannelOpen(), 7)
    assert rig.received() == [(7, ChannelOpenOk())]
    methods: list[Method] = [QueueDeclare("orders"), BasicAck(17, True), BasicNack(18), ChannelFlow(False)]
    for method in methods:
        rig.send(method, 7)
    assert rig.work.handlers[7].methods == methods
    assert rig.work.handlers[1].methods == []
    rig.send(AccessRequest("/data"), 7)
    assert rig.received() == [(7, AccessRequestOk(1))]


def test_a_channel_that_the_client_closes_is_answered_when_its_work_has_ended() -> None:
    rig = open_rig()
    rig.connection.received(frames.method_frame(1, ChannelClose(200, "bye")))
    assert rig.connection._table._entries[1].handler is rig.work.handlers[1]
    assert rig.received() == [(1, ChannelCloseOk())]
    handler = rig.work.handlers[1]
    assert handler.closed == 1
    rig.send(ChannelOpen(), 1)
    assert rig.received() == [(1, ChannelOpenOk())]
    assert rig.work.handlers[1] is not handler


def test_an_error_of_a_channel_ends_it_and_what_was_sent_before_is_ignored() -> None:
    rig = open_rig()
    handler = rig.work.handlers[1]
    handler.error = AmqpError(404, True, "NOT_FOUND - no queue 'orders' in vhost '/'")
    rig.send(BasicGet("orders"), 1)
    assert channel_error(rig) == (404, 60, 70)
    assert handler.closed == 1
    rig.feed(message_frames(1, ORDER, PERSISTENT, b"{}"))
    rig.send(BasicGet("orders"), 1)
    rig.send(ChannelClose(), 1)  # both closed it
    assert rig.received() == [(1, ChannelCloseOk())]
    rig.send(ChannelCloseOk(), 1)
    rig.send(BasicAck(1), 1)
    assert (len(handler.methods), handler.messages, rig.received()) == (1, [], [])
    rig.send(ChannelOpen(), 1)
    assert rig.received() == [(1, ChannelOpenOk())]


def test_an_error_of_work_that_did_not_finish_at_once() -> None:
    rig = open_rig()
    rig.connection.fail(1, AmqpError(403, True, "ACCESS_REFUSED - no"), QueueDeclare())
    assert channel_error(rig) == (403, 50, 10)
    rig.connection.fail(1, AmqpError(403, True, "ACCESS_REFUSED - again"), QueueDeclare())
    assert rig.received() == []


def test_an_error_of_the_connection_and_one_that_is_a_fault() -> None:
    rig = open_rig()
    rig.work.handlers[1].error = AmqpError(540, False, "NOT_IMPLEMENTED - immediate=true")
    rig.send(BasicGet(), 1)
    assert connection_error(rig) == (540, 60, 70)
    rig = open_rig()
    rig.work.handlers[1].error = ZeroDivisionError()
    rig.send(BasicGet(), 1)
    assert connection_error(rig) == (541, 60, 70)


def test_channels_that_are_not_open() -> None:
    rig = open_rig()
    rig.send(BasicAck(1), 2)  # never opened
    assert connection_error(rig) == (504, 60, 80)
    rig = open_rig()
    rig.send(ChannelClose(), 1)
    rig.received()
    for late in (BasicAck(1), BasicNack(2)):
        rig.send(late, 1)
    assert rig.received() == []
    rig.send(BasicGet("orders"), 1)
    assert connection_error(rig) == (504, 60, 70)
    rig = open_rig()
    rig.send(ChannelOpen(), 1)
    assert connection_error(rig) == (504, 20, 10)


def test_no_more_channels_than_agreed() -> None:
    rig = WireRig()
    rig.log_in()
    rig.send(ConnectionTuneOk(2, 4_096, 0))
    rig.send(ConnectionOpen("/"))
    for number in (500, 65_535):
        rig.send(ChannelOpen(), number)
    rig.received()
    rig.send(ChannelOpen(), 3)
    assert connection_error(rig) == (530, 0, 0)


# --- messages


@given(
    body=st.binary(max_size=60),
    cuts=st.lists(st.integers(1, 40), max_size=8),
    frame_max=st.integers(12, 60),
)
@settings(max_examples=60, deadline=None)
def test_a_message_is_the_same_however_it_comes(body: bytes, cuts: list[int], frame_max: int) -> None:
    rig = open_rig()
    content = frames.content_frames(1, b"\x10\0\x02", body, frame_max)
    rest = frames.method_frame(1, ORDER) + b"".join(content)
    for size in cuts:
        rig.connection.received(rest[:size])
        rest = rest[size:]
    rig.connection.received(rest)
    rig.settle()
    assert rig.work.handlers[1].messages == [(ORDER, PERSISTENT, body)]
    assert rig.budget.used_bytes == 0


def test_messages_of_two_channels_may_be_interleaved_with_heartbeats() -> None:
    rig = open_rig()
    rig.send(ChannelOpen(), 2)
    parts = []
    for channel in (1, 2):
        content = frames.content_frames(channel, b"\0\0", b"%d" % channel * 30, 18)
        joined = frames.method_frame(channel, ORDER) + b"".join(content)
        parts.append([piece + frames.END for piece in joined.split(frames.END)[:-1]])
    for first, second in zip(*parts, strict=True):
        rig.feed(first + frames.HEARTBEAT_FRAME + second)
    assert rig.work.handlers[1].messages == [(ORDER, Properties(), b"1" * 30)]
    assert rig.work.handlers[2].messages == [(ORDER, Properties(), b"2" * 30)]


HEADER = frames.head.pack(2, 1, 14) + frames.content_head.pack(60, 0, 5) + b"\0\0" + frames.END
BODY = frames.head.pack(3, 1, 3) + b"abc" + frames.END
METHOD = frames.method_frame(1, ORDER)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (HEADER, 505),
        (BODY, 505),
        (METHOD + BODY, 505),
        (METHOD + METHOD, 505),
        (METHOD + HEADER + HEADER, 505),
        (METHOD + HEADER + METHOD, 505),
        (METHOD + HEADER + BODY + BODY, 505),
        (METHOD + HEADER.replace(b"\0\x3c", b"\0\x32"), 505),
        (METHOD + HEADER[:-3] + b"\0\x01" + frames.END, 502),
        (METHOD + frames.head.pack(2, 1, 3) + b"\0\x3c\0" + frames.END, 501),
        (frames.head.pack(4, 1, 0) + frames.END, 501),
        (METHOD + frames.head.pack(9, 1, 0) + frames.END, 501),
    ],
)
def test_frames_out_of_order_end_the_connection(data: bytes, code: int) -> None:
    rig = open_rig()
    rig.feed(data)
    assert connection_error(rig)[0] == code
    assert rig.work.handlers[1].messages == []
    assert rig.budget.used_bytes == 0


def test_a_message_that_is_too_large_ends_its_channel_at_its_header() -> None:
    rig = open_rig(Limits(message_max_bytes=4))
    rig.feed(METHOD + HEADER)
    ((_, close),) = rig.received()
    text = "PRECONDITION_FAILED - message size 5 is larger than configured max size 4"
    assert close == ChannelClose(406, text, 60, 40)
    rig.feed(BODY)
    rig.send(ChannelOpen(), 2)
    rig.feed(frames.method_frame(2, ORDER) + b"".join(frames.content_frames(2, b"\0\0", b"fits", 0)))
    assert rig.work.handlers[2].messages == [(ORDER, Properties(), b"fits")]


def test_an_error_of_a_message_names_basic_publish() -> None:
    rig = open_rig()
    rig.work.handlers[1].error = AmqpError(404, True, "NOT_FOUND - no exchange 'orders' in vhost '/'")
    rig.feed(message_frames(1, ORDER, PERSISTENT, b"{}"))
    assert channel_error(rig) == (404, 60, 40)
    rig = open_rig()
    rig.work.handlers[1].error = AmqpError(404, True, "NOT_FOUND - no exchange 'orders' in vhost '/'")
    rig.feed(message_frames(1, ORDER, PERSISTENT, b""))
    assert channel_error(rig) == (404, 60, 40)


def test_a_body_waits_for_memory_and_is_freed_with_its_channel() -> None:
    rig = open_rig()
    rig.budget.add(rig.budget.max_bytes)
    other = WireRig()
    assert rig.budget.reserve(other.connection, 1)  # another connection may go on beyond the limit
    piece = frames.head.pack(3, 1, 4_000) + bytes(4_000) + frames.END
    rig.feed(
        METHOD + frames.head.pack(2, 1, 14) + frames.content_head.pack(60, 0, 8_000) + b"\0\0" + frames.END
    )
    rig.feed(piece)
    assert rig.transport.is_paused
    assert rig.work.handlers[1].messages == []
    rig.budget.release(rig.budget.max_bytes + 1)
    rig.budget.stop_waiting(other.connection)
    rig.settle()
    assert not rig.transport.is_paused
    assert rig.budget.used_bytes == 4_000
    rig.feed(piece)
    assert [len(body) for _, _, body in rig.work.handlers[1].messages] == [8_000]
    assert rig.budget.used_bytes == 0
    rig.feed(
        METHOD + frames.head.pack(2, 1, 14) + frames.content_head.pack(60, 0, 8_000) + b"\0\0" + frames.END
    )
    rig.feed(piece)
    assert rig.budget.used_bytes == 4_000
    rig.send(ChannelOpen(), 9)
    rig.connection.fail(1, AmqpError(404, True, "NOT_FOUND"), None)
    rig.settle()
    assert rig.budget.used_bytes == 0


def test_a_lost_connection_frees_the_memory_of_its_bodies() -> None:
    rig = open_rig()
    rig.feed(METHOD + HEADER + BODY)
    assert rig.budget.used_bytes == 3
    rig.connection.lost()
    rig.settle()
    assert rig.budget.used_bytes == 0


def test_publish_methods_are_remembered_within_a_bound() -> None:
    rig = open_rig()
    for _ in range(2):
        rig.feed(message_frames(1, ORDER, PERSISTENT, b"{}"))
    first, second = (message[0] for message in rig.work.handlers[1].messages)
    assert first is second
    rig.context.publishes.update({b"%d" % number: ORDER for number in range(PUBLISHES_MAX - 1)})
    rig.feed(message_frames(1, BasicPublish("orders", "paid.eu"), PERSISTENT, b"{}"))
    assert list(rig.context.publishes) == [encode_method(BasicPublish("orders", "paid.eu"))]
