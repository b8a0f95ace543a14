"""Calls of gRPC on streams of HTTP/2: a unary call, and a stream of messages.

Owns: one object for each call, from its headers to its status: reading messages, the deadline, the function
that runs for it, the end. Refuses: more than one message of a unary call, and encodings other than gzip.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, Protocol

from mainstem.access_contract import Requester
from mainstem.doors.pubsub.calls import Code, RpcCall, RpcError, RpcMethod
from mainstem.doors.pubsub.grpc import (
    MessageReader,
    end_block,
    frame_message,
    open_message,
    parse_timeout,
    response_block,
)
from mainstem.promise import Promise

if TYPE_CHECKING:
    from mainstem.clock import Clock, Timer
    from mainstem.doors.pubsub.dispatcher import MethodDispatcher
    from mainstem.doors.pubsub.h2_stream import H2Stream
    from mainstem.doors.pubsub.request_head import RequestHead

ENCODINGS = ("", "identity", "gzip")
MESSAGE_MEMORY = 64
"""Bytes of memory that a message takes beside its own: a window has room for 200,000 empty ones."""
STOPPING = RpcError(Code.UNAVAILABLE, "the server is stopping")
EXPIRED = RpcError(Code.DEADLINE_EXCEEDED, "the deadline of the call is over")
BODY_TIMEOUT_S = 60.0
"""How long a message may take to arrive once it has begun: others need the memory."""
SLOW = RpcError(Code.DEADLINE_EXCEEDED, f"a message has not arrived in {BODY_TIMEOUT_S:.0f} s")
NO_MESSAGE = RpcError(Code.INVALID_ARGUMENT, "the call has no whole message")
TWO_MESSAGES = RpcError(Code.INVALID_ARGUMENT, "the call has more than one message")


class CallConnection(Protocol):
    """What calls use of their connection."""

    dispatcher: MethodDispatcher
    clock: Clock
    peer: str
    anonymous: Requester
    """Who calls without credentials."""

    def requester_of(self, credentials: str | None) -> Requester | Promise[Requester]:
        """See `ConnectionCaller.requester`."""

    def hold(self, change: int) -> None:
        """Count memory of messages, which may be less than before."""

    def forget(self, call: GrpcExchange) -> None:
        """Nothing of the call is left."""


class GrpcExchange:
    """What the two kinds of calls have in common. Implements `h2_stream.StreamUser`."""

    def __init__(
        self, connection: CallConnection, stream: H2Stream, head: RequestHead, method: RpcMethod
    ) -> None:
        self.connection = connection
        self.stream = stream
        self.method = method
        self.call = RpcCall(
            method=head.path, metadata=head.fields, requester=connection.anonymous, peer=connection.peer
        )
        self.encoding = head.fields.get("grpc-encoding", "")
        self.reader = MessageReader(method.bytes_max)
        self.is_over = False
        """Whether its status was sent, or the client is gone."""
        self.is_worked_on = False
        """Whether a function runs for it."""
        self.task: asyncio.Future[Any] | None = None
        self._has_headers = False
        self._memory = 0
        self._timer: Timer | None = None
        self._body_timer: Timer | None = None
        self._checking: Promise[Requester] | None = None

    def start(self) -> None:
        """The call begins: its headers are there."""
        fields = self.call.metadata
        try:
            if (timeout := fields.get("grpc-timeout")) is not None:
                self.call.deadline = self.connection.clock.monotonic() + parse_timeout(timeout)
            if self.encoding not in ENCODINGS:
                raise RpcError(Code.UNIMPLEMENTED, f"the encoding {self.encoding} is not supported")
            requester = self.connection.requester_of(fields.get("authorization"))
        except RpcError as error:
            self.finish(error)
            return
        if isinstance(requester, Promise):
            self._checking = requester
            requester.then(self._refuse_early)
        else:
            self.call.requester = requester

    def _refuse_early(self, promise: Promise[Requester]) -> None:
        """Do not wait for the message of somebody who is refused."""
        if promise.error is not None:
            self.fail(promise.error)

    def run_when_known(self) -> None:
        """Call `run` as soon as it is known who calls."""
        if self._checking is None:
            self.run()
        else:
            self.watch_deadline()
            self._checking.then(self._checked)

    def _checked(self, promise: Promise[Requester]) -> None:
        if self.is_over:
            return
        if promise.error is not None:
            self.fail(promise.error)
            return
        self.call.requester = promise.result()
        self.run()

    def run(self) -> None:
        """Run the function of the method."""
        raise NotImplementedError

    def watch_deadline(self) -> None:
        """End the call when its deadline is over, unless it has ended."""
        if self.call.deadline is not None and self._timer is None and not self.is_over:
            clock = self.connection.clock
            wait_s = max(0.0, self.call.deadline - clock.monotonic())
            self._timer = clock.call_later(wait_s, lambda: self.finish(EXPIRED))

    def watch_body(self, *, is_whole: bool) -> None:
        """See to it that what has come in of a message is not held for ever."""
        if is_whole or self.is_over:
            self._stop_body_timer()
        elif self._body_timer is None:
            self._body_timer = self.connection.clock.call_later(BODY_TIMEOUT_S, self._body_is_late)

    def _body_is_late(self) -> None:
        self._body_timer = None
        if self.may_send_more:
            self.finish(SLOW)
        else:
            self.watch_body(is_whole=False)

    @property
    def may_send_more(self) -> bool:
        """Whether it is the client that a message waits for."""
        return True

    def _stop_body_timer(self) -> None:
        if self._body_timer is not None:
            self._body_timer.cancel()
            self._body_timer = None

    def account(self, size: int) -> None:
        """This much memory is used for messages."""
        if size != self._memory:
            self.connection.hold(size - self._memory)
            self._memory = size

    def send_message(self, message: bytes) -> None:
        """Send a message, behind the headers of the response."""
        if not self._has_headers:
            self._has_headers = True
            self.stream.respond(response_block(self.call.response_headers))
        self.stream.send(frame_message(message))

    def fail(self, error: BaseException) -> None:
        """End the call with the status of this error."""
        if not self.is_over:
            self.finish(self.connection.dispatcher.status_of(self.call, error))

    def finish(self, error: RpcError | None) -> None:
        """End the call with this status; None: OK. Idempotent."""
        if self.is_over:
            return
        self._end(Code.OK if error is None else error.code)
        block = end_block(error, with_head=not self._has_headers, trailers=self.call.response_trailers)
        self.stream.end(block)

    def on_reset(self) -> None:
        if not self.is_over:
            self._end(Code.CANCELLED)

    def _end(self, code: Code) -> None:
        """Free what the call uses. What runs for it is cancelled."""
        self.is_over = True
        self.connection.dispatcher.count(self.call.method, code)
        self.account(0)
        self._stop_body_timer()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.task is not None:
            self.task.cancel()
        if not self.is_worked_on:
            self.connection.forget(self)

    def wait_for(self, work: Awaitable[Any]) -> None:
        """Run `work` for the call, and then `succeeded` with what it returns."""
        self.is_worked_on = True
        self.task = asyncio.ensure_future(work)
        self.task.add_done_callback(self._task_ended)
        self.watch_deadline()

    def _task_ended(self, task: asyncio.Future[Any]) -> None:
        if task.cancelled():
            self.finish(STOPPING)
        elif (error := task.exception()) is not None:
            self.fail(error)
        elif not self.is_over:
            self.succeeded(task.result())
        self.work_ended()

    def succeeded(self, result: Any) -> None:
        """The function has returned this."""
        raise NotImplementedError

    def work_ended(self) -> None:
        """No function runs any more."""
        self.task = None
        self.is_worked_on = False
        if self.is_over:
            self.connection.forget(self)


class UnaryExchange(GrpcExchange):
    """A call with one message each way."""

    def __init__(
        self, connection: CallConnection, stream: H2Stream, head: RequestHead, method: RpcMethod
    ) -> None:
        super().__init__(connection, stream, head, method)
        self._framed: bytes | None = None

    def on_data(self, data: bytes, *, is_last: bool) -> None:
        if self.is_over:
            return
        if data:
            try:
                messages = self.reader.feed(data)
            except RpcError as error:
                self.finish(error)
                return
            if messages:
                if len(messages) > 1 or self._framed is not None:
                    self.finish(TWO_MESSAGES)
                    return
                self._framed = messages[0]
        if not is_last:
            self.account(self.reader.held_bytes + len(self._framed or b""))
            self.stream.consumed(len(data))
            self.watch_deadline()
            self.watch_body(is_whole=False)
        elif self._framed is None or self.reader.held_bytes:
            self.finish(NO_MESSAGE)
        else:
            self.watch_body(is_whole=True)
            self.run_when_known()

    def on_room(self) -> None:
        """Nothing waits for it: there is one message."""

    def run(self) -> None:
        assert self._framed is not None, "the call has its message"
        try:
            message = open_message(self._framed, self.encoding, self.method.bytes_max)
            self._framed = None
            result = self.connection.dispatcher.start_unary(self.method, self.call, message)
        except Exception as error:  # a fault of the server ends the call, not the connection
            self.fail(error)
            return
        if isinstance(result, bytes):
            self._reply(result)
        elif isinstance(result, Promise):
            self.is_worked_on = True
            self.watch_deadline()
            result.then(self._settled)
        else:
            self.wait_for(result)

    def _settled(self, promise: Promise[bytes]) -> None:
        if promise.error is not None:
            self.fail(promise.error)
        else:
            self._reply(promise.result())
        self.work_ended()

    def succeeded(self, result: Any) -> None:
        self._reply(result)

    def _reply(self, message: bytes) -> None:
        if not self.is_over:
            self.connection.dispatcher.charge(self.method, self.call, sent=len(message))
            self.send_message(message)
            self.finish(None)


class StreamExchange(GrpcExchange):
    """A call with any number of messages each way. Is the `RpcRequests` and the `RpcResponses` of its
    function."""

    def __init__(
        self, connection: CallConnection, stream: H2Stream, head: RequestHead, method: RpcMethod
    ) -> None:
        super().__init__(connection, stream, head, method)
        self._received: deque[bytes] = deque()
        self._received_bytes = 0
        self._withheld = 0
        """Bytes whose window is raised when the messages are taken."""
        self._is_half_closed = False
        self._error: RpcError | None = None
        self._request: asyncio.Future[None] | None = None
        self._room = asyncio.Event()
        self._muted_until = 0.0

    # --- from the client

    def on_data(self, data: bytes, *, is_last: bool) -> None:
        if self.is_over:
            return
        try:
            messages = self.reader.feed(data) if data else []
        except RpcError as error:
            self.finish(error)
            return
        self._received.extend(messages)
        self._received_bytes += sum(map(len, messages)) + MESSAGE_MEMORY * len(messages)
        self._is_half_closed = is_last
        if is_last and self.reader.held_bytes:
            self.finish(NO_MESSAGE)
            return
        if self._received:
            self._withheld += len(data)
        else:
            self.stream.consumed(len(data))
        self.account(self.reader.held_bytes + self._received_bytes)
        self.watch_body(is_whole=not self.reader.held_bytes)
        if (self._received or is_last) and self._request is not None and not self._request.done():
            self._request.set_result(None)

    @property
    def may_send_more(self) -> bool:
        return not self._received

    def on_room(self) -> None:
        self._room.set()

    def run(self) -> None:
        stream = self.method.stream
        assert stream is not None, "the method is a stream"
        try:
            self.connection.dispatcher.check(self.method, self.call)
        except RpcError as error:
            self.finish(error)
            return
        self.wait_for(stream(self.call, self, self))

    def succeeded(self, result: Any) -> None:
        self.finish(None)

    # --- RpcRequests

    def __aiter__(self) -> StreamExchange:
        return self

    async def __anext__(self) -> bytes:
        while not self._received:
            if self._is_half_closed:
                raise StopAsyncIteration
            self._request = asyncio.get_running_loop().create_future()
            await self._request
        framed = self._received.popleft()
        self._received_bytes -= len(framed) + MESSAGE_MEMORY
        self.account(self.reader.held_bytes + self._received_bytes)
        if not self._received and self._withheld:
            self.stream.consumed(self._withheld)
            self._withheld = 0
        return open_message(framed, self.encoding, self.method.bytes_max)

    # --- RpcResponses

    def send(self, message: bytes) -> None:
        if self.is_over:
            return
        wait_ms = self.connection.dispatcher.charge(self.method, self.call, sent=len(message))
        if wait_ms:
            self._muted_until = self.connection.clock.monotonic() + wait_ms / 1000
        self.send_message(message)

    @property
    def is_ready(self) -> bool:
        return not self.stream.pending_bytes and not self._muted_until

    async def ready(self) -> None:
        while self.stream.pending_bytes:
            self.stream.is_waited_for = True
            self._room.clear()
            await self._room.wait()
        if self._muted_until:
            clock = self.connection.clock
            over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            timer = clock.call_later(self._muted_until - clock.monotonic(), lambda: _set(over))
            self._muted_until = 0.0
            try:
                await over
            finally:
                timer.cancel()


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
