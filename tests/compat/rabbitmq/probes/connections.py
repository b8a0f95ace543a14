"""Handshake, limits and broken frames: what a client sees that does not keep to the protocol."""

from __future__ import annotations

import struct

from pamqp import frame, heartbeat

from tests.compat.rabbitmq.peer import (
    BODY,
    CAPABILITIES,
    HEADER,
    HEARTBEAT,
    METHOD,
    Closed,
    Peer,
    raw_frame,
    raw_method,
    text_of,
)
from tests.compat.rabbitmq.probing import Basic, Channel, Connection, Queue, Script, probe


def _end(s: Script, peer: Peer) -> None:
    """Write down what comes up to the end of the connection, or to an answer that shows that it goes on."""
    try:
        while True:
            received = peer.receive()
            if isinstance(received.method, Connection.Start):
                s.note("  connection.start")
                break
            s.note(f"  {text_of(received)}")
            if isinstance(received.method, Basic.QosOk | Connection.CloseOk):
                break
            if isinstance(received.method, Connection.Close):
                peer.send(0, Connection.CloseOk())
    except Closed as end:
        s.note(f"  connection {end}")
    except TimeoutError:
        s.note("  nothing")
    peer.close()


def _logged_in(s: Script) -> Peer:
    peer = Peer(s.address)
    assert isinstance(peer.log_in().method, Connection.OpenOk)
    peer.send(1, Channel.Open())
    assert isinstance(peer.receive().method, Channel.OpenOk)
    return peer


@probe
def connection_wrong_protocol(s: Script) -> None:
    for opening in (b"HTTP/1.1", b"AMQP\x01\x01\x00\x09", b"AMQP\x00\x00\x09\x00", b"AMQP\x00\x01\x00\x00"):
        s.note(opening.hex())
        _end(s, Peer(s.address, opening))


@probe
def connection_start(s: Script) -> None:
    with Peer(s.address) as peer:
        start = peer.receive().method
        assert isinstance(start, Connection.Start)
        properties = start.server_properties or {}
        s.note(f"{start.version_major}.{start.version_minor} {start.locales}")
        s.note(f"mechanisms {sorted((start.mechanisms or '').split())}")
        s.note(f"capabilities {sorted(dict(properties['capabilities']).items())}")  # type: ignore[arg-type]
        s.note(f"keys {sorted(set(properties) & {'product', 'version', 'platform', 'copyright'})}")
    with Peer(s.address) as peer:
        peer.log_in()
        s.note(repr(dict(peer.tuned or ())))


@probe
def connection_login_refused(s: Script) -> None:
    for capabilities in (CAPABILITIES, {}):
        peer = Peer(s.address)
        try:
            s.note(f"  {text_of(peer.log_in(password='wrong', capabilities=capabilities))}")
        except Closed as end:
            s.note(f"  connection {end}")
        peer.close()


@probe
def connection_unknown_mechanism(s: Script) -> None:
    peer = Peer(s.address)
    peer.receive()
    peer.send(0, Connection.StartOk({}, "NO-SUCH", "x", "en_US"))
    _end(s, peer)


@probe
def connection_unknown_vhost(s: Script) -> None:
    peer = Peer(s.address)
    s.note(text_of(peer.log_in(vhost="no-such-vhost")))
    peer.send(0, Connection.CloseOk())
    _end(s, peer)


@probe
def connection_tune_above_the_limits(s: Script) -> None:
    for given in ({"frame_max": 1 << 20}, {"frame_max": 100}, {"channel_max": 60_000}, {"channel_max": 0}):
        peer = Peer(s.address)
        s.note(f"{given}")
        try:
            s.note(f"  {text_of(peer.log_in(**given))}")  # type: ignore[arg-type]
        except Closed as end:
            s.note(f"  connection {end}")
        peer.close()


@probe
def connection_channel_above_the_limit(s: Script) -> None:
    peer = Peer(s.address)
    peer.log_in(channel_max=3)
    for channel in (1, 2, 3, 4):
        s.note(f"open {channel}")
        peer.send(channel, Channel.Open())
        if channel < 4:
            s.note(text_of(peer.receive()))
    _end(s, peer)


@probe
def connection_channel_opened_twice(s: Script) -> None:
    s.call(Channel.Open())


@probe
def connection_method_on_a_channel_never_opened(s: Script) -> None:
    peer = _logged_in(s)
    peer.send(7, Queue.Declare(queue="x"))
    _end(s, peer)


@probe
def connection_ack_on_a_channel_never_opened(s: Script) -> None:
    peer = _logged_in(s)
    peer.send(7, Basic.Ack(1))
    _end(s, peer)


@probe
def connection_method_on_a_closed_channel(s: Script) -> None:
    peer = _logged_in(s)
    peer.send(1, Channel.Close(200, "bye", 0, 0))
    s.note(text_of(peer.receive()))
    peer.send(1, Queue.Declare(queue="x"))
    _end(s, peer)


@probe
def connection_late_methods_after_a_channel_error(s: Script) -> None:
    peer = _logged_in(s)
    peer.send(1, Queue.Declare(queue="no-such", passive=True))
    peer.send(1, Basic.Ack(1))
    peer.send(1, Queue.Declare(queue="late"))
    peer.publish(1, "", "late", b"ignored")
    s.note(text_of(peer.receive()))
    peer.send(1, Channel.CloseOk())
    peer.send(1, Channel.Open())
    s.note(text_of(peer.receive()))
    peer.close()


@probe
def connection_bad_frame_end(s: Script) -> None:
    peer = _logged_in(s)
    peer.send_bytes(raw_frame(METHOD, 1, b"\0\x3c\0\x0a\0\0\0\0\0\0\0", end=b"\0"))
    _end(s, peer)


@probe
def connection_frame_above_frame_max(s: Script) -> None:
    peer = Peer(s.address)
    peer.log_in(frame_max=4096)
    peer.send(1, Channel.Open())
    peer.receive()
    method = Basic.Publish(exchange="", routing_key="x")
    head = struct.pack(">HHQH", 60, 0, 5000, 0)
    peer.send_bytes(frame.marshal(method, 1) + raw_frame(HEADER, 1, head) + raw_frame(BODY, 1, b"x" * 5000))
    _end(s, peer)


@probe
def connection_unknown_frame_type(s: Script) -> None:
    peer = _logged_in(s)
    peer.send_bytes(raw_frame(77, 1, b"what"))
    _end(s, peer)


@probe
def connection_unknown_method(s: Script) -> None:
    for class_id, method_id in ((50, 99), (77, 10), (10, 99)):
        s.note(f"{class_id}.{method_id}")
        peer = _logged_in(s)
        peer.send_bytes(raw_method(0 if class_id == 10 else 1, class_id, method_id))
        _end(s, peer)


@probe
def connection_method_cut_short(s: Script) -> None:
    peer = _logged_in(s)
    peer.send_bytes(raw_method(1, 50, 10, b"\0\0\x20ab"))
    _end(s, peer)


@probe
def connection_channel_method_on_channel_zero(s: Script) -> None:
    peer = _logged_in(s)
    peer.send(0, Queue.Declare(queue="x"))
    _end(s, peer)


@probe
def connection_method_on_another_channel(s: Script) -> None:
    peer = _logged_in(s)
    peer.send(1, Connection.Open(virtual_host="/"))
    _end(s, peer)


@probe
def connection_heartbeat_on_a_channel(s: Script) -> None:
    peer = _logged_in(s)
    peer.send(1, heartbeat.Heartbeat())
    peer.send(1, Basic.Qos())
    _end(s, peer)


@probe
def connection_heartbeat_with_a_payload(s: Script) -> None:
    peer = _logged_in(s)
    peer.send_bytes(raw_frame(HEARTBEAT, 0, b"x"))
    peer.send(1, Basic.Qos())
    _end(s, peer)


@probe
def connection_body_without_header(s: Script) -> None:
    peer = _logged_in(s)
    peer.send_bytes(frame.marshal(Basic.Publish(routing_key="x"), 1) + raw_frame(BODY, 1, b"body"))
    _end(s, peer)


@probe
def connection_header_without_method(s: Script) -> None:
    peer = _logged_in(s)
    peer.send_bytes(raw_frame(HEADER, 1, struct.pack(">HHQH", 60, 0, 1, 0)))
    _end(s, peer)


@probe
def connection_method_within_content(s: Script) -> None:
    peer = _logged_in(s)
    peer.send(1, Basic.Publish(routing_key="x"))
    peer.send(1, Queue.Declare(queue="x"))
    _end(s, peer)


@probe
def connection_header_of_another_class(s: Script) -> None:
    peer = _logged_in(s)
    peer.send(1, Basic.Publish(routing_key="x"))
    peer.send_bytes(raw_frame(HEADER, 1, struct.pack(">HHQH", 50, 0, 1, 0)))
    _end(s, peer)


@probe
def connection_body_longer_than_said(s: Script) -> None:
    peer = _logged_in(s)
    peer.send(1, Basic.Publish(routing_key="x"))
    peer.send_bytes(raw_frame(HEADER, 1, struct.pack(">HHQH", 60, 0, 2, 0)) + raw_frame(BODY, 1, b"four"))
    peer.send(1, Basic.Qos())
    _end(s, peer)


@probe
def connection_closed_by_the_client(s: Script) -> None:
    peer = _logged_in(s)
    peer.send(0, Connection.Close(200, "bye", 0, 0))
    _end(s, peer)


@probe
def connection_update_secret(s: Script) -> None:
    s.peer.send_bytes(raw_method(0, 10, 70, struct.pack(">I", 3) + b"new" + b"\x04test"))
    s.hear()
    s.declare("connection_update_secret", exclusive=True)


@probe
def connection_channel_flow(s: Script) -> None:
    s.call(Channel.Flow(active=True))
    s.call(Channel.Flow(active=False))
