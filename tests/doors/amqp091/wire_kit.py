"""A connection without a socket, and a client that speaks with it in methods."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any

from mainstem.access_contract import ANONYMOUS, Principal
from mainstem.amqp.connections import ChannelConsumer, ChannelInfo, ConnectionRegistry
from mainstem.amqp.errors import AmqpError
from mainstem.amqp.field_values import FieldTable
from mainstem.amqp.properties import Properties
from mainstem.amqp.properties_codec import encode_properties
from mainstem.authentication.service import Authentication
from mainstem.doors.amqp091 import frames
from mainstem.doors.amqp091.connection import Amqp091Connection
from mainstem.doors.amqp091.connection_context import AmqpPeers, ConnectionContext
from mainstem.doors.amqp091.contract import AmqpConnection
from mainstem.doors.amqp091.control_methods import (
    ChannelOpen,
    ConnectionOpen,
    ConnectionStartOk,
    ConnectionTuneOk,
)
from mainstem.doors.amqp091.login import LoginCheck
from mainstem.doors.amqp091.method import Method
from mainstem.doors.amqp091.method_codec import decode_method
from mainstem.doors.amqp091.methods import BasicPublish
from mainstem.doors.amqp091.negotiation import Limits
from mainstem.doors.contract import Listener
from mainstem.doors.net.address import HostPort
from mainstem.doors.net.limits import MemoryBudget
from mainstem.doors.net.security import SecurityProtocol
from mainstem.quota_contract import NoQuotas
from tests.authentication.kit import MemoryAdmin, authentication
from tests.support.clock import SimClock

ADDRESS = HostPort("127.0.0.1", 5672)
PEERS = AmqpPeers(client_host="127.0.0.1", client_port=40_112, host="127.0.0.1", port=5_672)
CLOSE_CAPABILITY: FieldTable = {
    "capabilities": {"authentication_failure_close": True, "connection.blocked": True}
}
Received = tuple[int, Method | tuple[bytes, bytes] | bytes]
"""A channel, and what came on it: a method, (type, payload) of another frame."""


class RecordingHandler:
    """Work of a channel that remembers what it was given, and fails with `error` if there is one."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.methods: list[Method] = []
        self.messages: list[tuple[BasicPublish, Properties, bytes]] = []
        self.error: Exception | None = None
        self.closed = 0

    def on_method(self, method: Method) -> None:
        self.methods.append(method)
        if self.error is not None:
            raise self.error

    def on_message(self, publish: BasicPublish, properties: Properties, body: bytes) -> None:
        self.messages.append((publish, properties, body))
        if self.error is not None:
            raise self.error

    async def close(self) -> None:
        self.closed += 1

    def check_oldest(self, now: float, timeout_ms: int) -> None:
        pass

    def info(self) -> ChannelInfo:
        return ChannelInfo(number=self.number, consumers=1)

    def listed_consumers(self) -> Sequence[ChannelConsumer]:
        return [ChannelConsumer(channel=self.number, queue="orders", tag="ctag")]


class RecordingVhost:
    """The work behind a connection."""

    def __init__(self) -> None:
        self.handlers: dict[int, RecordingHandler] = {}
        self.blocks: list[bool] = []
        self.closed = 0

    def channel(self, number: int) -> RecordingHandler:
        self.handlers[number] = RecordingHandler(number)
        return self.handlers[number]

    def sending_blocked(self) -> None:
        self.blocks.append(True)

    def sending_resumed(self) -> None:
        self.blocks.append(False)

    async def close(self) -> None:
        self.closed += 1
        for handler in self.handlers.values():
            await handler.close()


class RecordingTransport:
    """A socket that remembers what was sent."""

    def __init__(self) -> None:
        self.sent = bytearray()
        self.writes = 0
        self.unsent = 0
        self.is_paused = self.is_closed = False
        self.tasks: list[Coroutine[Any, Any, None]] = []

    def write(self, pieces: list[bytes]) -> None:
        assert not self.is_closed, "nothing is sent after the end"
        self.sent += b"".join(pieces)
        self.writes += 1

    def unsent_bytes(self) -> int:
        return self.unsent

    def pause(self) -> None:
        self.is_paused = True

    def resume(self) -> None:
        self.is_paused = False

    def close(self) -> None:
        self.is_closed = True

    def start_task(self, coroutine: Coroutine[Any, Any, None]) -> None:
        self.tasks.append(coroutine)


class WireRig:
    """A connection and its client. `passwords`: users that have to log in; None: none has to."""

    def __init__(self, passwords: dict[str, str] | None = None, *, limits: Limits | None = None) -> None:
        self.clock = SimClock()
        self.transport = RecordingTransport()
        self.work = RecordingVhost()
        self.vhosts: list[str] = []
        self.warnings: list[str] = []
        self.budget = MemoryBudget(self.clock, 1 << 20)
        self.refusal: str | None = None
        """Why no message can be stored."""
        self.context = ConnectionContext(
            clock=self.clock,
            limits=limits or Limits(),
            open_vhost=self._open,
            registry=ConnectionRegistry(),
            budget=self.budget,
            publish_refusal=lambda: self.refusal,
            quotas=NoQuotas(),
            warn=lambda _, text: self.warnings.append(text),
            version="0.4",
            cluster_name="mainstem@localhost",
            handshake_s=10.0,
            failed_login_s=0.5,
        )
        with_login = passwords is not None
        listener = Listener(
            name="PLAINTEXT",
            address=ADDRESS,
            advertised=ADDRESS,
            doors=("amqp091",),
            security=SecurityProtocol.SASL_PLAINTEXT if with_login else SecurityProtocol.PLAINTEXT,
            mechanisms=("PLAIN",) if with_login else (),
        )
        self.admin = MemoryAdmin(**(passwords or {}))
        self.login = LoginCheck(self.authentication(), listener, "127.0.0.1", ANONYMOUS)
        self.connection = Amqp091Connection(self.context, self.transport, PEERS, self.login)
        self._read = 0

    def authentication(self) -> Authentication:
        """That of the users."""
        return authentication(self.admin)

    async def _open(self, connection: AmqpConnection, vhost: str) -> RecordingVhost:
        self.vhosts.append(vhost)
        if vhost == "missing":
            raise AmqpError(530, False, "NOT_ALLOWED - vhost missing not found")
        return self.work

    def settle(self) -> None:
        """Let everything that can run do so."""
        self.clock.run()
        while self.transport.tasks:
            task = self.transport.tasks.pop(0)
            try:
                task.send(None)
            except StopIteration:
                continue
            raise AssertionError("the work of these tests never waits")
        self.clock.run()

    def feed(self, data: bytes) -> None:
        """The client sends bytes."""
        self.connection.received(data)
        self.settle()

    def send(self, method: Method, channel: int = 0) -> None:
        """The client sends a method."""
        self.feed(frames.method_frame(channel, method))

    def received(self) -> list[Received]:
        """What the client has received since the last call."""
        self.settle()
        data = bytes(self.transport.sent[self._read :])
        self._read = len(self.transport.sent)
        if data.startswith(b"AMQP"):
            return [(0, data)]
        out: list[Received] = []
        while data:
            kind, channel, size = frames.head.unpack_from(data)
            payload, end = data[7 : 7 + size], data[7 + size : 8 + size]
            assert end == frames.END
            out.append(
                (channel, decode_method(payload) if kind == frames.METHOD else (bytes((kind,)), payload))
            )
            data = data[8 + size :]
        return out

    def reply(self) -> Method:
        """The one method that the client has received since the last call."""
        ((_, method),) = self.received()
        assert isinstance(method, Method)
        return method

    def log_in(self, response: bytes = b"\0guest\0guest", mechanism: str = "PLAIN") -> None:
        """From the header to the answer to start-ok."""
        self.feed(frames.PROTOCOL_HEADER)
        self.reply()
        self.send(ConnectionStartOk(CLOSE_CAPABILITY, mechanism, response, "en_US"))

    def open(self, *channels: int, heartbeat_s: int = 0) -> None:
        """From the header to an open connection with these channels."""
        self.log_in()
        limits = self.context.limits
        self.send(ConnectionTuneOk(limits.channel_max, limits.frame_max, heartbeat_s))
        self.send(ConnectionOpen("/"))
        for channel in channels:
            self.send(ChannelOpen(), channel)
        self.received()


def message_frames(channel: int, publish: BasicPublish, properties: Properties, body: bytes) -> bytes:
    """The frames of a message."""
    content = frames.content_frames(channel, encode_properties(properties), body, 131_072)
    return frames.method_frame(channel, publish) + b"".join(content)


def user(name: str) -> Principal:
    """The principal of a user."""
    return Principal("User", name)
