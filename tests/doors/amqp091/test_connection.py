"""The handshake, heartbeats, errors and the end of a connection."""

from __future__ import annotations

import dataclasses
import struct

import pytest

from mainstem.amqp.errors import AmqpError
from mainstem.amqp.field_tables import encode_table
from mainstem.doors.amqp091 import frames
from mainstem.doors.amqp091.connection_context import ConnectionState
from mainstem.doors.amqp091.control_methods import (
    ChannelOpen,
    ConnectionClose,
    ConnectionCloseOk,
    ConnectionOpen,
    ConnectionOpenOk,
    ConnectionStart,
    ConnectionStartOk,
    ConnectionTune,
    ConnectionTuneOk,
    ConnectionUpdateSecret,
    ConnectionUpdateSecretOk,
)
from mainstem.doors.amqp091.method import Method
from mainstem.doors.amqp091.methods import BasicGet
from mainstem.doors.amqp091.negotiation import Limits
from mainstem.doors.net.security import SecurityProtocol
from tests.doors.amqp091.wire_kit import WireRig, user


def amqplain(**fields: str) -> bytes:
    """The response of AMQPLAIN: a table without its length."""
    return encode_table(dict(fields))[4:]


# --- the handshake


@pytest.mark.parametrize("header", frames.PROTOCOL_HEADERS)
def test_a_client_that_does_everything_right_is_served(header: bytes) -> None:
    rig = WireRig()
    for byte in header:
        rig.feed(bytes((byte,)))
    start = rig.reply()
    assert isinstance(start, ConnectionStart)
    assert (start.version_major, start.version_minor, start.mechanisms) == (0, 9, "PLAIN AMQPLAIN")
    assert start.server_properties["product"] == "mainstem"
    assert start.server_properties["capabilities"]["basic.nack"] is True  # type: ignore[index, call-overload] # a table
    rig.send(ConnectionStartOk({"connection_name": "shop"}, "PLAIN", b"\0guest\0guest", "en_US"))
    assert rig.reply() == ConnectionTune(2_047, 131_072, 60)
    rig.send(ConnectionTuneOk(100, 8_192, 30))
    rig.send(ConnectionOpen("/"))
    assert rig.reply() == ConnectionOpenOk()
    connection = rig.connection
    assert (connection.state, rig.vhosts) == (ConnectionState.RUNNING, ["/"])
    assert (connection.channel_max, connection.frame_max, connection.heartbeat_s) == (100, 8_192, 30)
    assert (connection.user, connection.requester.client_id) == ("guest", "shop")
    assert list(rig.context.registry) == [connection]


def test_all_at_once_in_one_packet() -> None:
    rig = WireRig()
    methods: list[Method] = [
        ConnectionStartOk({}, "PLAIN", b"\0guest\0guest", "en_US"),
        ConnectionTuneOk(2_047, 131_072, 0),
        ConnectionOpen("/"),
    ]
    data = frames.PROTOCOL_HEADER + b"".join(frames.method_frame(0, method) for method in methods)
    rig.feed(data + frames.method_frame(1, ChannelOpen()))
    assert [type(method).__name__ for _, method in rig.received()] == [
        "ConnectionStart",
        "ConnectionTune",
        "ConnectionOpenOk",
        "ChannelOpenOk",
    ]


@pytest.mark.parametrize("header", [b"AMQP\0\1\0\0", b"AMQP\3\1\0\0", b"GET / HTTP/1.1\r\n", b"AMQX"])
def test_another_protocol_gets_our_header_and_the_end(header: bytes) -> None:
    rig = WireRig()
    rig.feed(header)
    assert rig.received() == [(0, frames.PROTOCOL_HEADER)]
    assert rig.transport.is_closed


@pytest.mark.parametrize(
    ("tune", "text"),
    [
        (
            ConnectionTuneOk(2_048, 131_072, 0),
            "channel_max = 2048 is higher than the maximum allowed value (2047)",
        ),
        (ConnectionTuneOk(0, 131_072, 0), "channel_max = 0 is higher than the maximum allowed value (2047)"),
        (
            ConnectionTuneOk(10, 131_073, 0),
            "frame_max = 131073 is higher than the maximum allowed value (131072)",
        ),
        (ConnectionTuneOk(10, 0, 0), "frame_max = 0 is higher than the maximum allowed value (131072)"),
        (ConnectionTuneOk(10, 4_095, 0), "frame_max = 4095 is lower than the minimum allowed value (4096)"),
    ],
)
def test_limits_that_are_not_ours_are_refused(tune: ConnectionTuneOk, text: str) -> None:
    rig = WireRig()
    rig.log_in()
    rig.received()
    rig.send(tune)
    assert rig.reply() == ConnectionClose(530, f"NOT_ALLOWED - negotiated {text}", 10, 31)


def test_a_vhost_that_is_refused_ends_the_connection() -> None:
    rig = WireRig()
    rig.log_in()
    rig.send(ConnectionTuneOk(10, 4_096, 0))
    rig.received()
    rig.send(ConnectionOpen("missing"))
    assert rig.reply() == ConnectionClose(530, "NOT_ALLOWED - vhost missing not found", 10, 40)
    rig.send(ConnectionCloseOk())
    assert rig.transport.is_closed
    assert len(rig.context.registry) == 0


def test_a_method_at_the_wrong_place_is_refused() -> None:
    rig = WireRig()
    rig.log_in()
    rig.received()
    rig.send(ConnectionOpen("/"))
    assert rig.reply() == ConnectionClose(
        504, "CHANNEL_ERROR - unexpected method in connection state tuning", 10, 40
    )
    before_login = WireRig()
    before_login.feed(frames.PROTOCOL_HEADER)
    before_login.received()
    before_login.send(ConnectionTuneOk(10, 4_096, 0))
    assert before_login.received() == []
    assert before_login.transport.is_closed


def test_a_channel_before_the_connection_is_open_is_unexpected() -> None:
    rig = WireRig()
    rig.log_in()
    rig.received()
    rig.send(ChannelOpen(), 1)
    text = "UNEXPECTED_FRAME - type 1 on channel 1 in connection state tuning"
    assert rig.reply() == ConnectionClose(505, text)


def test_frames_before_the_limits_are_small() -> None:
    rig = WireRig()
    rig.feed(frames.PROTOCOL_HEADER)
    rig.received()
    rig.feed(frames.head.pack(1, 0, 8_193) + bytes(100))
    assert rig.transport.is_closed
    assert "at most 8192" in rig.warnings[0]


def test_a_client_that_does_not_open_its_connection_in_time_is_closed() -> None:
    rig = WireRig()
    rig.log_in()
    assert rig.connection.tick(10.0) is None
    assert rig.connection.tick(10.1) == "opened no connection in 10 s"


# --- login


@pytest.mark.parametrize(
    ("mechanism", "response"),
    [
        ("PLAIN", b"\0alice\0secret"),
        ("PLAIN", b"alice\0alice\0secret"),
        ("AMQPLAIN", amqplain(LOGIN="alice", PASSWORD="secret")),
    ],
)
def test_a_user_logs_in(mechanism: str, response: bytes) -> None:
    rig = WireRig({"alice": "secret"})
    rig.log_in(response, mechanism)
    assert isinstance(rig.reply(), ConnectionTune)
    assert rig.connection.requester.principal == user("alice")
    assert rig.connection.user == "alice"
    assert rig.connection.is_password_login


@pytest.mark.parametrize(
    ("mechanism", "response"),
    [
        ("PLAIN", b"\0alice\0wrong"),
        ("PLAIN", b"\0nemo\0secret"),
        ("PLAIN", b"alice secret"),
        ("PLAIN", b"\xff\0\xff\0\xff"),
        ("PLAIN", b"\0alice\0" + b"x" * 5_000),
        ("AMQPLAIN", amqplain(LOGIN="alice", PASSWORD="wrong")),
        ("AMQPLAIN", amqplain(LOGIN="alice")),
        ("AMQPLAIN", b"\x05LOGI"),
    ],
)
def test_a_failed_login_is_answered_after_a_while_and_says_nothing(mechanism: str, response: bytes) -> None:
    rig = WireRig({"alice": "secret"})
    rig.log_in(response, mechanism)
    assert rig.received() == []
    assert len(rig.warnings) == 1
    rig.clock.advance(0.5)
    text = (
        f"ACCESS_REFUSED - Login was refused using authentication mechanism {mechanism}."
        " For details see the broker logfile."
    )
    assert rig.reply() == ConnectionClose(403, text)
    rig.send(ConnectionCloseOk())
    assert rig.transport.is_closed


def test_a_client_that_does_not_know_the_answer_only_loses_its_connection() -> None:
    rig = WireRig({"alice": "secret"})
    rig.feed(frames.PROTOCOL_HEADER)
    rig.received()
    rig.send(ConnectionStartOk({}, "PLAIN", b"\0alice\0wrong", "en_US"))
    assert not rig.transport.is_closed
    rig.clock.advance(0.5)
    assert rig.received() == []
    assert rig.transport.is_closed


@pytest.mark.parametrize("mechanism", ["EXTERNAL", "SCRAM-SHA-256", "plain", ""])
def test_a_mechanism_that_is_not_offered_is_refused(mechanism: str) -> None:
    rig = WireRig({"alice": "secret"})
    rig.log_in(b"\0alice\0secret", mechanism)
    rig.clock.advance(0.5)
    assert isinstance(close := rig.reply(), ConnectionClose)
    assert close.reply_code == 403
    assert repr(mechanism) in rig.warnings[0]


def test_a_certificate_is_a_login() -> None:
    rig = WireRig()
    rig.login._listener = dataclasses.replace(rig.login._listener, security=SecurityProtocol.SSL)
    rig.login.principal = user("warehouse")
    assert rig.login.offered == ("PLAIN", "AMQPLAIN", "EXTERNAL")
    rig.log_in(b"", "EXTERNAL")
    assert isinstance(rig.reply(), ConnectionTune)
    assert rig.connection.user == "warehouse"


def test_a_new_secret_is_checked() -> None:
    rig = WireRig({"alice": "secret"})
    rig.log_in(b"\0alice\0secret")
    rig.send(ConnectionTuneOk(10, 4_096, 0))
    rig.send(ConnectionOpen("/"))
    rig.received()
    rig.send(ConnectionUpdateSecret(b"secret", "rotation"))
    assert rig.reply() == ConnectionUpdateSecretOk()
    rig.send(ConnectionUpdateSecret(b"guess", "rotation"))
    assert rig.reply() == ConnectionClose(
        530, "NOT_ALLOWED - New secret was refused by one of the backends", 10, 70
    )


# --- heartbeats


def test_heartbeats_are_sent_when_nothing_else_is() -> None:
    rig = WireRig()
    rig.open(heartbeat_s=10)
    assert rig.connection.tick(0.0) is None
    assert rig.connection.tick(4.0) is None
    assert rig.received() == []
    assert rig.connection.tick(5.0) is None
    assert bytes(rig.transport.sent).endswith(frames.HEARTBEAT_FRAME) is False
    rig.settle()
    assert rig.received() == [(0, (b"\x08", b""))]
    assert rig.connection.tick(6.0) is None
    assert rig.received() == []


def test_a_client_that_is_silent_is_closed_and_one_with_heartbeats_is_not() -> None:
    rig = WireRig()
    rig.open(heartbeat_s=10)
    rig.connection.tick(0.0)
    rig.feed(frames.HEARTBEAT_FRAME)
    rig.connection.tick(15.0)
    assert rig.connection.tick(35.0) is None
    assert rig.connection.tick(35.1) == "sent no heartbeat for 20 s"
    silent = WireRig()
    silent.open(heartbeat_s=0)
    assert silent.connection.tick(100_000.0) is None


def test_a_client_that_is_not_read_cannot_be_silent() -> None:
    rig = WireRig()
    rig.open(heartbeat_s=10)
    rig.connection.hold(9 << 20)
    assert rig.connection.tick(1_000.0) is None
    rig.connection.release(9 << 20)
    assert not rig.transport.is_paused


def test_a_heartbeat_has_no_payload() -> None:
    rig = WireRig()
    rig.open()
    rig.feed(b"\x08\0\0\0\0\0\1x\xce")
    assert isinstance(close := rig.reply(), ConnectionClose)
    assert close.reply_code == 501


def test_a_heartbeat_on_a_channel_is_unexpected() -> None:
    rig = WireRig()
    rig.open()
    rig.feed(b"\x08\0\x01\0\0\0\0\xce")
    assert isinstance(close := rig.reply(), ConnectionClose)
    assert close.reply_code == 504  # no channel 1 is open
    rig = WireRig()
    rig.open(1)
    rig.feed(b"\x08\0\x01\0\0\0\0\xce")
    assert isinstance(close := rig.reply(), ConnectionClose)
    assert (close.reply_code, rig.work.closed) == (505, 1)


# --- errors and the end


def test_a_client_that_closes_is_answered_when_its_work_has_ended() -> None:
    rig = WireRig()
    rig.open(1, 2)
    rig.connection.received(frames.method_frame(0, ConnectionClose(200, "bye")))
    rig.clock.run()
    assert bytes(rig.transport.sent).endswith(frames.method_frame(0, ConnectionCloseOk())) is False
    assert rig.reply() == ConnectionCloseOk()
    assert rig.work.closed == 1
    assert rig.transport.is_closed
    assert len(rig.context.registry) == 0


def test_after_an_error_the_client_is_read_until_it_answers() -> None:
    rig = WireRig()
    rig.open(1)
    rig.feed(frames.method_frame(0, ConnectionOpen("/")) + frames.method_frame(1, BasicGet("orders")))
    assert isinstance(close := rig.reply(), ConnectionClose)
    assert close.reply_code == 504
    assert rig.work.handlers[1].methods == []
    rig.send(BasicGet("orders"), 1)
    rig.feed(b"\x63\0\x07\0\0\0\0\xce")  # a frame of no type
    assert rig.received() == []
    assert not rig.transport.is_closed
    rig.send(ConnectionCloseOk())
    assert rig.transport.is_closed


def test_after_a_damaged_frame_the_answer_is_looked_for_byte_by_byte() -> None:
    rig = WireRig(limits=Limits(frame_max=4_096))
    rig.open(1)
    rig.feed(frames.head.pack(3, 1, 4_089))
    assert rig.received() == []
    rig.feed(bytes(5_000))
    assert isinstance(close := rig.reply(), ConnectionClose)
    assert (close.reply_code, close.reply_text[:14]) == (501, "FRAME_ERROR - ")
    rig.feed(bytes(100_000))
    for byte in frames.method_frame(0, ConnectionCloseOk())[:-1]:
        rig.feed(bytes((byte,)))
    assert not rig.transport.is_closed
    rig.feed(b"\xce")
    assert rig.transport.is_closed


def test_a_client_that_never_answers_an_error_is_closed() -> None:
    rig = WireRig()
    rig.open()
    rig.connection.close("Closed via management plugin")
    assert rig.reply() == ConnectionClose(320, "CONNECTION_FORCED - Closed via management plugin")
    assert rig.connection.tick(10.0) is None
    assert rig.connection.tick(10.1) == "did not read its last replies"


def test_a_long_text_is_cut_between_characters() -> None:
    rig = WireRig()
    rig.open()
    rig.connection.fail(0, AmqpError(541, False, "ü" * 200), None)
    assert rig.reply() == ConnectionClose(541, "ü" * 127)


def test_damaged_and_unknown_methods_end_the_connection() -> None:
    cases = ((struct.pack(">HH", 60, 41), 540, 0), (struct.pack(">HH", 60, 70) + b"\0", 501, 60))
    for payload, code, class_id in cases:
        rig = WireRig()
        rig.open(1)
        rig.feed(frames.head.pack(1, 1, len(payload)) + payload + frames.END)
        assert isinstance(close := rig.reply(), ConnectionClose)
        assert (close.reply_code, close.class_id) == (code, class_id)


def test_a_lost_connection_ends_its_work_and_sends_nothing_more() -> None:
    rig = WireRig()
    rig.open(1)
    rig.connection.lost()
    rig.connection.send(b"late")
    rig.connection.fail(1, AmqpError(404, True, "NOT_FOUND"), None)
    assert rig.received() == []
    assert (rig.work.closed, len(rig.context.registry)) == (1, 0)


def test_a_client_is_lost_while_it_opens() -> None:
    rig = WireRig()
    rig.log_in()
    rig.send(ConnectionTuneOk(10, 4_096, 0))
    rig.connection.received(frames.method_frame(0, ConnectionOpen("/")))
    rig.connection.lost()
    rig.settle()
    assert rig.work.closed == 1
    assert len(rig.context.registry) == 0


# --- flow


def test_what_is_sent_in_a_turn_is_written_once_and_much_at_once() -> None:
    rig = WireRig()
    rig.open()
    before = rig.transport.writes
    for _ in range(5):
        rig.connection.send(b"x" * 10)
    assert rig.transport.writes == before
    rig.settle()
    assert rig.transport.writes == before + 1
    rig.connection.send(b"x" * (300 << 10))
    assert rig.transport.writes == before + 2


def test_a_client_that_reads_slowly_gets_no_deliveries_and_is_not_read_at_last() -> None:
    rig = WireRig()
    rig.open(1)
    rig.connection.sending_blocked()
    assert rig.connection.is_sending_blocked
    rig.connection.send(b"x" * (300 << 10))
    assert not rig.transport.is_paused
    rig.transport.unsent = 5 << 20
    rig.connection.send(b"x" * (300 << 10))
    assert rig.transport.is_paused
    rig.connection.sending_resumed()
    assert not rig.transport.is_paused
    assert rig.work.blocks == [True, False]


def test_what_the_management_lists() -> None:
    rig = WireRig()
    rig.open(1, 2)
    info = rig.connection.info()
    assert (info.name, info.user, info.vhost) == ("127.0.0.1:40112 -> 127.0.0.1:5672", "guest", "/")
    assert (info.channels, info.state, info.protocol) == (2, "running", "AMQP 0-9-1")
    assert info.sent_bytes == len(rig.transport.sent)
    assert [channel.number for channel in rig.connection.channels()] == [1, 2]
    assert [consumer.channel for consumer in rig.connection.consumers()] == [1, 2]
