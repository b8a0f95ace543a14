"""An AMQP 0-9-1 client that hides nothing: sends what a probe gives it, renders what comes as text.

Owns: the socket, the cutting of frames, the text of each frame with the wire type of each header value. Keeps
no state of channels, waits at most `WAIT_S` for a frame. The text has names made by the server and times
replaced, so that the lines of two servers can be compared.
"""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Mapping
from types import TracebackType
from typing import Any, NamedTuple

from pamqp import commands, frame, header, heartbeat
from pamqp.base import Frame

WAIT_S = 10.0
METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
PROTOCOL = b"AMQP\x00\x00\x09\x01"
CAPABILITIES = {
    "publisher_confirms": True,
    "exchange_exchange_bindings": True,
    "basic.nack": True,
    "consumer_cancel_notify": True,
    "connection.blocked": True,
    "authentication_failure_close": True,
}
PROPERTIES = [
    "content_type",
    "content_encoding",
    "headers",
    "delivery_mode",
    "priority",
    "correlation_id",
    "reply_to",
    "expiration",
    "message_id",
    "timestamp",
    "type",
    "user_id",
    "app_id",
    "cluster_id",
]
GENERATED = re.compile(r"amq\.(gen-|ctag-|rabbitmq\.reply-to\.)[^'\" ]+")

for _method in (*commands.INDEX_MAPPING.values(), commands.Basic.Properties):
    _method.validate = lambda self: None  # type: ignore[attr-defined]  # bad ones are sent too


class Closed(Exception):
    """The server has closed the socket."""


class ReceivedFrame(NamedTuple):
    """A frame, or all frames of a message."""

    channel: int
    method: Frame | None
    """None for a heartbeat."""
    properties: bytes
    body: bytes | None
    """None for a method without content."""


def value_text(data: bytes, position: int) -> tuple[str, int]:
    """A field value with the letter of its type, and where it ends."""
    kind, position = chr(data[position]), position + 1
    sizes = {
        "t": "?",
        "b": ">b",
        "B": ">B",
        "s": ">h",
        "u": ">H",
        "I": ">i",
        "i": ">I",
        "l": ">q",
        "f": ">f",
        "d": ">d",
    }
    if kind in sizes:
        (number,) = struct.unpack_from(sizes[kind], data, position)
        return f"{kind} {number}", position + struct.calcsize(sizes[kind])
    if kind == "T":
        return "T time", position + 8
    if kind == "V":
        return "V", position
    if kind == "D":
        scale, number = struct.unpack_from(">Bi", data, position)
        return f"D {number}e-{scale}", position + 5
    (size,) = struct.unpack_from(">I", data, position)
    position += 4
    if kind == "F":
        return table_text(data, position, position + size), position + size
    if kind == "A":
        items, end = [], position + size
        while position < end:
            text, position = value_text(data, position)
            items.append(text)
        return f"[{', '.join(items)}]", end
    return f"{kind} {data[position : position + size].decode(errors='replace')!r}", position + size


def table_text(data: bytes, position: int, end: int) -> str:
    """A field table, sorted by its keys: their order means nothing."""
    items = []
    while position < end:
        size = data[position]
        key = data[position + 1 : position + 1 + size].decode()
        text, position = value_text(data, position + 1 + size)
        items.append(f"{key}: {text}")
    return "{" + ", ".join(sorted(items)) + "}"


def properties_text(data: bytes) -> str:
    """The properties that are there, as `name=value`."""
    (flags,) = struct.unpack_from(">H", data)
    position, items = 2, []
    for bit, name in enumerate(PROPERTIES):
        if not flags & (1 << (15 - bit)):
            continue
        if name == "headers":
            (size,) = struct.unpack_from(">I", data, position)
            text, position = table_text(data, position + 4, position + 4 + size), position + 4 + size
        elif name in {"delivery_mode", "priority"}:
            text, position = str(data[position]), position + 1
        elif name == "timestamp":
            text, position = str(struct.unpack_from(">Q", data, position)[0]), position + 8
        else:
            size = data[position]
            text = repr(data[position + 1 : position + 1 + size].decode(errors="replace"))
            position += 1 + size
        items.append(f"{name}={text}")
    return " ".join(items)


def method_text(method: Frame) -> str:
    """`queue.declare-ok message_count=0 …`, with generated names replaced."""
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", "-", method.name.split(".", 1)[1]).lower()
    values = [f"{key}={value!r}" for key, value in method if key != "ticket"]
    text = " ".join([f"{method.name.split('.', 1)[0].lower()}.{name}", *values])
    return GENERATED.sub(lambda match: f"amq.{match[1]}…", text)


def text_of(received: ReceivedFrame) -> str:
    """What the transcript says of it."""
    if received.method is None:
        return f"heartbeat on channel {received.channel}"
    text = method_text(received.method)
    if received.body is not None:
        shown = received.body if len(received.body) <= 64 else b"%d bytes" % len(received.body)
        properties = GENERATED.sub(lambda match: f"amq.{match[1]}…", properties_text(received.properties))
        text += f" | {properties} | {shown.decode(errors='replace')}"
    return text


class Peer:
    """A connection. `PROTOCOL` is sent, the handshake is made by `log_in`."""

    def __init__(self, address: str, opening: bytes = PROTOCOL) -> None:
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), WAIT_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.address = address
        self.buffer = b""
        self.frame_max = 131_072
        self.started: commands.Connection.Start | None = None
        self.tuned: commands.Connection.Tune | None = None
        self.send_bytes(opening)

    def send_bytes(self, data: bytes) -> None:
        """Errors are left to the next reading: the server may have said why before it closed."""
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def send(self, channel: int, method: Frame | heartbeat.Heartbeat) -> None:
        self.send_bytes(frame.marshal(method, channel))

    def publish(
        self,
        channel: int,
        exchange: str,
        routing_key: str,
        body: bytes,
        *,
        mandatory: bool = False,
        immediate: bool = False,
        **properties: Any,
    ) -> None:
        """In one write, the body cut at frame_max. Properties are named as pamqp names them."""
        method = commands.Basic.Publish(
            exchange=exchange, routing_key=routing_key, mandatory=mandatory, immediate=immediate
        )
        head = header.ContentHeader(body_size=len(body), properties=commands.Basic.Properties(**properties))
        step = self.frame_max - 8
        bodies = [raw_frame(BODY, channel, body[i : i + step]) for i in range(0, len(body), step)]
        self.send_bytes(b"".join([frame.marshal(method, channel), frame.marshal(head, channel), *bodies]))

    def receive_frame(self, wait_s: float = WAIT_S) -> tuple[int, int, bytes]:
        """Type, channel, payload. `Closed` at the end, TimeoutError when nothing comes."""
        self.socket.settimeout(wait_s)
        while True:
            if self.buffer[:4] == b"AMQP" and len(self.buffer) >= 8:
                raise Closed(f"protocol header {self.buffer[4:8].hex()}")
            if len(self.buffer) >= 7 and self.buffer[:4] != b"AMQP":
                kind, channel, size = struct.unpack_from(">BHI", self.buffer)
                if len(self.buffer) >= size + 8:
                    payload, self.buffer = self.buffer[7 : 7 + size], self.buffer[8 + size :]
                    return kind, channel, payload
            try:
                data = self.socket.recv(1 << 16)
            except ConnectionResetError:
                data = b""
            if not data:
                raise Closed("closed")
            self.buffer += data

    def receive(self, wait_s: float = WAIT_S) -> ReceivedFrame:
        """The next method, with its content if it has one, or heartbeat."""
        kind, channel, payload = self.receive_frame(wait_s)
        if kind == HEARTBEAT:
            return ReceivedFrame(channel, None, b"", None)
        assert kind == METHOD, f"frame type {kind} without a method"
        method = frame.unmarshal(raw_frame(METHOD, channel, payload))[2]
        assert isinstance(method, Frame)
        if method.name not in {"Basic.Deliver", "Basic.GetOk", "Basic.Return"}:
            return ReceivedFrame(channel, method, b"", None)
        kind, content_channel, head = self.receive_frame(wait_s)
        assert (kind, content_channel) == (HEADER, channel)
        size, body = struct.unpack_from(">Q", head, 4)[0], b""
        while len(body) < size:
            kind, content_channel, part = self.receive_frame(wait_s)
            assert (kind, content_channel) == (BODY, channel)
            body += part
        return ReceivedFrame(channel, method, head[12:], body)

    def log_in(
        self,
        *,
        user: str = "guest",
        password: str = "guest",
        vhost: str = "/",
        capabilities: Mapping[str, bool] = CAPABILITIES,
        channel_max: int | None = None,
        frame_max: int | None = None,
        heartbeat_s: int = 0,
    ) -> ReceivedFrame:
        """The whole handshake, with the server's limits unless others are given. The answer to
        connection.open, or what came in its place."""
        started = self.receive()
        if not isinstance(started.method, commands.Connection.Start):
            return started
        self.started = started.method
        self.send(
            0,
            commands.Connection.StartOk(
                client_properties={"product": "probe", "capabilities": dict(capabilities)},
                mechanism="PLAIN",
                response=f"\0{user}\0{password}",
                locale="en_US",
            ),
        )
        tuned = self.receive()
        if not isinstance(tuned.method, commands.Connection.Tune):
            return tuned
        self.tuned = tuned.method
        self.frame_max = tuned.method.frame_max if frame_max is None else frame_max
        channels = tuned.method.channel_max if channel_max is None else channel_max
        self.send(0, commands.Connection.TuneOk(channels, self.frame_max, heartbeat_s))
        self.send(0, commands.Connection.Open(virtual_host=vhost))
        return self.receive()

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Peer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def raw_frame(kind: int, channel: int, payload: bytes, end: bytes = b"\xce") -> bytes:
    """The bytes of a frame, well formed or not."""
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + end


def raw_method(channel: int, class_id: int, method_id: int, arguments: bytes = b"") -> bytes:
    """The bytes of a method that pamqp refuses to make."""
    return raw_frame(METHOD, channel, struct.pack(">HH", class_id, method_id) + arguments)
