"""A connection of HTTP/2 with the calls of gRPC on it, without a socket.

Owns: which request is a call, and the calls that are worked on. Refuses: requests that are no gRPC, by
status 415 as gRPC has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from mainstem.access_contract import Requester
from mainstem.doors.pubsub.calls import RpcError
from mainstem.doors.pubsub.exchange import STOPPING, GrpcExchange, StreamExchange, UnaryExchange
from mainstem.doors.pubsub.grpc import end_block
from mainstem.doors.pubsub.h2_rules import STREAMS_MAX
from mainstem.doors.pubsub.header_block import encode_headers
from mainstem.doors.pubsub.http2 import Http2Connection
from mainstem.promise import Promise

if TYPE_CHECKING:
    from mainstem.clock import Clock
    from mainstem.doors.net.limits import MemoryBudget
    from mainstem.doors.pubsub.callers import ConnectionCaller
    from mainstem.doors.pubsub.dispatcher import MethodDispatcher
    from mainstem.doors.pubsub.h2_stream import H2Stream, StreamUser
    from mainstem.doors.pubsub.request_head import RequestHead

CALLS_MAX = 2 * STREAMS_MAX
"""Calls that are worked on, with those that their client gave up."""
WRITE_BYTES = 256 << 10
"""Of data that are given to the socket together."""
REFUSED_BODY_MAX = 32 << 10
"""Bytes of the body of a request that is no call, from which on its end is not waited for."""
GRPC = "application/grpc"
NO_GRPC = b"this address serves gRPC: the content-type is not application/grpc\n"


class ConnectionSocket(Protocol):
    """What a connection uses of its socket."""

    def write(self, pieces: Sequence[bytes | bytearray | memoryview]) -> None: ...

    def flush_soon(self) -> None:
        """Call `GrpcConnection.flush` in this turn of the loop, or the next."""

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def close(self) -> None: ...

    def warn(self, kind: str, text: str) -> None: ...


class GrpcConnection:
    """One client. Implements `http2.Http2User` and `exchange.CallConnection`."""

    def __init__(
        self,
        socket: ConnectionSocket,
        dispatcher: MethodDispatcher,
        clock: Clock,
        budget: MemoryBudget,
        caller: ConnectionCaller,
        peer: str,
    ) -> None:
        self._socket = socket
        self.dispatcher = dispatcher
        self.clock = clock
        self._budget = budget
        self._caller = caller
        self.peer = peer
        self.anonymous = caller.anonymous
        self.calls: set[GrpcExchange] = set()
        self._memory = 0
        self._is_blocked = self._is_paused_for_memory = self._is_flushing = False
        self.http2 = Http2Connection(self, clock.monotonic)

    # --- the socket's side

    def received(self, data: bytes) -> None:
        """Handle bytes of the client, and answer what can be answered at once."""
        self._is_flushing = True
        try:
            self.http2.received(data)
        finally:
            self._is_flushing = False
        self.flush()

    def flush(self) -> None:
        """Write what may be written now."""
        http2 = self.http2
        pieces = http2.output(0 if self._is_blocked else WRITE_BYTES)
        if pieces:
            self._socket.write(pieces)
        if http2.is_over:
            self._socket.close()
        elif not self._is_blocked and http2.has_data:
            self._socket.flush_soon()

    def set_blocked(self, is_blocked: bool) -> None:
        """The socket is full, or is not any more. Until then nothing is read either: what would be answered
        has no room."""
        self._is_blocked = is_blocked
        if is_blocked:
            self._socket.pause()
        else:
            self._resume()
            self.flush()

    def lost(self) -> None:
        """The socket is gone."""
        self.http2.lost()
        self._budget.stop_waiting(self)

    def drain(self) -> None:
        """Take no new calls, and end the streams."""
        self.http2.drain()
        for call in list(self.calls):
            if isinstance(call, StreamExchange):
                call.finish(STOPPING)

    def stop_calls(self) -> None:
        """End all calls."""
        for call in list(self.calls):
            call.finish(STOPPING)
        self.flush()

    # --- Http2User

    def on_request(self, stream: H2Stream, head: RequestHead) -> StreamUser:
        content_type = head.fields.get("content-type", "")
        is_grpc = content_type.startswith(GRPC) and content_type[len(GRPC) : len(GRPC) + 1] in ("", "+", ";")
        if head.method != "POST" or not is_grpc:
            return _NotACall(stream)
        try:
            method = self.dispatcher.find(head.path)
        except RpcError as error:
            self.dispatcher.count(head.path, error.code)
            stream.end(end_block(error, with_head=True))
            return ANSWERED
        kind = UnaryExchange if method.unary is not None else StreamExchange
        call = kind(self, stream, head, method)
        self.calls.add(call)
        call.start()
        if isinstance(call, StreamExchange) and not call.is_over:
            if self.http2.is_draining:
                call.finish(STOPPING)
            else:
                call.run_when_known()
        return call

    def has_room(self) -> bool:
        return len(self.calls) < CALLS_MAX

    def on_failure(self, kind: str, text: str) -> None:
        self._socket.warn(kind, f"a client of HTTP/2 was refused: {text}")

    def wake(self) -> None:
        if not self._is_flushing:
            self._socket.flush_soon()

    # --- CallConnection

    def requester_of(self, credentials: str | None) -> Requester | Promise[Requester]:
        return self._caller.requester(credentials)

    def hold(self, change: int) -> None:
        budget = self._budget
        self._memory += change
        if change < 0:
            budget.release(-change)
            if not self._memory:
                budget.stop_waiting(self)
                self.on_capacity()
        elif not budget.reserve(self, change):
            budget.add(change)  # it is here already; no more is received until there is room
            self._is_paused_for_memory = True
            self._socket.pause()

    def on_capacity(self) -> None:
        """Others have freed memory."""
        if self._is_paused_for_memory:
            self._is_paused_for_memory = False
            self._resume()

    def _resume(self) -> None:
        if not self._is_blocked and not self._is_paused_for_memory:
            self._socket.resume()

    def forget(self, call: GrpcExchange) -> None:
        self.calls.discard(call)


class _Answered:
    """What comes for a request that was answered already."""

    def on_data(self, data: bytes, *, is_last: bool) -> None:
        """It is of no interest."""

    def on_reset(self) -> None:
        """Nothing is left of it."""

    def on_room(self) -> None:
        """Nothing more is sent."""


ANSWERED = _Answered()
_REFUSAL = encode_headers([(b":status", b"415"), (b"content-type", b"text/plain")])


class _NotACall:
    """A request that is no call. It is answered when it has ended, so that one that is malformed is seen to
    be (RFC 9113, 8.1.1), or when its body is longer than REFUSED_BODY_MAX."""

    def __init__(self, stream: H2Stream) -> None:
        self._stream = stream
        self._body_bytes = 0
        self._is_answered = False

    def on_data(self, data: bytes, *, is_last: bool) -> None:
        self._body_bytes += len(data)
        if not self._is_answered and (is_last or self._body_bytes > REFUSED_BODY_MAX):
            self._is_answered = True
            self._stream.respond(_REFUSAL)
            self._stream.send(NO_GRPC)
            self._stream.end()

    def on_reset(self) -> None:
        """Nothing is left of it."""

    def on_room(self) -> None:
        """Nothing more is sent."""
