"""A connection of the Pub/Sub door without a socket, and a client that speaks to it in frames."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import hpack

from mainstem.access_contract import ANONYMOUS
from mainstem.doors.contract import DoorContext, Listener
from mainstem.doors.net.address import HostPort
from mainstem.doors.net.limits import MemoryBudget
from mainstem.doors.pubsub import frames
from mainstem.doors.pubsub.callers import Callers, ConnectionCaller
from mainstem.doors.pubsub.calls import RpcCall, RpcMethod, RpcRequests, RpcResponses
from mainstem.doors.pubsub.dispatcher import MethodDispatcher
from mainstem.doors.pubsub.grpc_connection import GrpcConnection
from mainstem.quota_contract import NoQuotas
from tests.support.clock import SimClock

ORDERS = "/shop.Orders/"
LISTENER = Listener(
    name="PLAINTEXT",
    address=HostPort("127.0.0.1", 8085),
    advertised=HostPort("127.0.0.1", 8085),
    doors=("pubsub",),
)


class Frame(NamedTuple):
    """One frame that the server sent."""

    kind: int
    flags: int
    stream: int
    payload: bytes


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """The bytes of a frame."""
    return frames.frame_head(len(payload), kind, flags, stream) + payload


def message(body: bytes) -> bytes:
    """The message with its prefix."""
    return struct.pack(">BI", 0, len(body)) + body


class Socket:
    """What a connection writes, pauses and starts."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.is_closed = self.is_paused = self.wants_flush = False
        self.warnings: list[tuple[str, str]] = []

    def write(self, pieces: Sequence[bytes | bytearray | memoryview]) -> None:
        for piece in pieces:
            self.written += piece

    def flush_soon(self) -> None:
        self.wants_flush = True

    def pause(self) -> None:
        self.is_paused = True

    def resume(self) -> None:
        self.is_paused = False

    def close(self) -> None:
        self.is_closed = True

    def warn(self, kind: str, text: str) -> None:
        self.warnings.append((kind, text))


class Client:
    """Sends frames to a connection and reads those that it answers."""

    def __init__(
        self,
        methods: Mapping[str, RpcMethod],
        *,
        greets: bool = True,
        settings: Mapping[int, int] | None = None,
        budget_bytes: int = 1 << 28,
    ) -> None:
        self.clock = SimClock()
        context = SimpleNamespace(
            access=SimpleNamespace(quotas=NoQuotas()),
            views=SimpleNamespace(limit=lambda requester: False),
            read_only=False,
        )
        self.dispatcher = MethodDispatcher(cast(DoorContext, context), methods)
        self.socket = Socket()
        callers = Callers(cast(Any, context.access), self.clock)
        self.budget = MemoryBudget(self.clock, budget_bytes)
        self.connection = GrpcConnection(
            self.socket,
            self.dispatcher,
            self.clock,
            self.budget,
            ConnectionCaller(callers, LISTENER, "127.0.0.1", ANONYMOUS),
            "127.0.0.1:40112",
        )
        self._encoder, self._decoder = hpack.Encoder(), hpack.Decoder()
        self._next_stream = 1
        if greets:
            self.send(frames.PREFACE + frames.settings_frame(dict(settings or {})))
            self.read()

    def send(self, data: bytes) -> None:
        """Send bytes."""
        self.connection.received(data)
        self.settle()

    def settle(self) -> None:
        """Let the connection write what it wants to."""
        while self.socket.wants_flush and not self.socket.is_closed:
            self.socket.wants_flush = False
            self.connection.flush()

    def read(self) -> list[Frame]:
        """The frames that came since the last call."""
        self.settle()
        data, self.socket.written = bytes(self.socket.written), bytearray()
        answer = []
        while data:
            length = int.from_bytes(data[:3], "big")
            kind, flags, stream = struct.unpack_from(">BBI", data, 3)
            answer.append(Frame(kind, flags, stream, data[9 : 9 + length]))
            data = data[9 + length :]
        return answer

    def block(self, *headers: tuple[str, str]) -> bytes:
        """A header block."""
        return self._encoder.encode(list(headers))

    def request(self, path: str, *more: tuple[str, str]) -> bytes:
        """The header block of a call."""
        return self.block(
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", "localhost:8085"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            *more,
        )

    def open(self, path: str, *more: tuple[str, str]) -> int:
        """Begin a call; its stream."""
        stream, self._next_stream = self._next_stream, self._next_stream + 2
        self.send(frame(frames.HEADERS, frames.END_HEADERS, stream, self.request(path, *more)))
        return stream

    def data(self, stream: int, data: bytes, *, is_last: bool = False) -> None:
        """Send data, in frames of the usual size."""
        pieces = [data[start : start + 16_384] for start in range(0, len(data), 16_384)] or [b""]
        for number, piece in enumerate(pieces, 1):
            flags = frames.END_STREAM if is_last and number == len(pieces) else 0
            self.send(frame(frames.DATA, flags, stream, piece))

    def call(self, path: str, body: bytes, *more: tuple[str, str]) -> int:
        """A whole unary call; its stream."""
        stream = self.open(path, *more)
        self.data(stream, message(body), is_last=True)
        return stream

    def headers(self, answer: Frame) -> dict[str, str]:
        """The headers of a frame. Each has to be passed, in order."""
        return {str(name): str(value) for name, value in self._decoder.decode(answer.payload)}

    def outcome(self, answers: Sequence[Frame], stream: int) -> tuple[bytes, dict[str, str]]:
        """The data of a stream, and all headers of its response."""
        headers: dict[str, str] = {}
        data = b""
        for answer in answers:
            if answer.kind == frames.HEADERS:
                decoded = self.headers(answer)
                if answer.stream == stream:
                    headers.update(decoded)
            elif answer.kind == frames.DATA and answer.stream == stream:
                data += answer.payload
        return data, headers


def goaway_code(answers: Sequence[Frame]) -> frames.H2Error | None:
    """Why the server ends the connection; None: it does not."""
    for answer in answers:
        if answer.kind == frames.GOAWAY:
            return frames.H2Error(int.from_bytes(answer.payload[4:8], "big"))
    return None


def reset_code(answers: Sequence[Frame], stream: int) -> frames.H2Error | None:
    """Why the server ended a stream; None: it did not."""
    for answer in answers:
        if answer.kind == frames.RST_STREAM and answer.stream == stream:
            return frames.H2Error(int.from_bytes(answer.payload, "big"))
    return None


def unary(function: Callable[[RpcCall, bytes], Any]) -> RpcMethod:
    """A unary method for everybody."""
    return RpcMethod(rights=(), unary=function)


async def echo_stream(call: RpcCall, requests: RpcRequests, responses: RpcResponses) -> None:
    """Answers every message with itself."""
    async for request in requests:
        responses.send(request)
        await responses.ready()
