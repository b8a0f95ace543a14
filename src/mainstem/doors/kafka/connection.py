"""The protocol of one client's connection, without a socket.

Owns: the order of the connection's requests and replies, and how much memory and time it uses. Refuses: to
start more requests while too much is unanswered or unsent, and to continue after a protocol error. The socket
is in server.py, which passes on the bytes that arrive and writes those that this sends; handlers are reached
through `Dispatcher`.

Requests are answered in the order in which they arrived. As in Kafka, a request waits until the one before it
is answered. Only behind a Produce, whose handler is `pipelined`, the next requests start at once, because one
commit answers many of them.

Invariant: what the connection has added to `Dispatcher.in_flight` is the sum of its unanswered requests and
its parked replies; it is released when they are sent, or when the connection is lost.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from mainstem.access_contract import ANONYMOUS, Principal, Requester
from mainstem.clock import Clock
from mainstem.doors.kafka.dispatch import Dispatcher
from mainstem.doors.kafka.frame import PRODUCE, FrameReader, NotKafka
from mainstem.doors.kafka.grants import Grants
from mainstem.doors.kafka.handler import CloseConnection, HandlerResult, Request
from mainstem.doors.kafka.reply_slot import ReplySlot
from mainstem.doors.kafka.sasl import RAW_TOKEN, SaslSession
from mainstem.doors.kafka.waiting_memory import waiting_memory_bytes
from mainstem.doors.net.address import HostPort
from mainstem.doors.net.throttle import Mute
from mainstem.kafka_protocol.message import Buffer, Message, ProtocolError
from mainstem.kafka_protocol.reader import RequestTooLarge
from mainstem.promise import Promise

MAX_UNANSWERED = 256
"""Most requests of a connection that are started and not answered."""
MAX_UNANSWERED_BYTES = 16 << 20
"""Most bytes of a connection's requests that are started and not answered. A Produce that waits for its
commit holds no buffer here, but the journal holds its bytes."""
MAX_PARKED_BYTES = 4 << 20
"""Most bytes of a connection's replies that wait for an earlier one."""
TURN_BYTES = 64 << 10
TURN_SECONDS = 0.0005
"""A connection that has used one of these in a turn of the event loop waits until the others had theirs."""

SMALL_BYTES = 4 << 10
"""If a connection has nothing unanswered, a request of at most this size starts whatever all the others have
in flight, so that heartbeats and fetches continue while the disk is behind."""

_HEADER = struct.Struct(">hhih")


class KafkaTransport(Protocol):
    """The part of a socket that a connection uses."""

    def write(self, pieces: list[Buffer]) -> None: ...

    def pause(self) -> None:
        """Stop reading. Idempotent."""

    def resume(self) -> None:
        """Continue to read. Idempotent."""

    def close(self) -> None:
        """Send what was written, then close."""


class KafkaConnection:
    """One client's connection: receives the client's bytes, and writes the replies to `transport`. Implements
    `handler.ClientConnection` and `CapacityWaiter`."""

    __slots__ = (
        "_blocker",
        "_close_callbacks",
        "_closed",
        "_dispatcher",
        "_frames",
        "_is_starting",
        "_mute",
        "_parked_bytes",
        "_paused",
        "_requester",
        "_slots",
        "_stopping",
        "_transport",
        "_turn_scheduled",
        "_unanswered_bytes",
        "advertised",
        "blocked_since",
        "grants",
        "has_sent_request",
        "last_activity_at",
        "peer",
        "principal",
        "roles",
        "sasl",
    )

    def __init__(
        self,
        dispatcher: Dispatcher,
        transport: KafkaTransport,
        advertised: HostPort,
        peer: str,
        principal: Principal = ANONYMOUS,
    ) -> None:
        self._dispatcher = dispatcher
        self._transport = transport
        self.advertised = advertised
        self.peer = peer
        self.principal = principal
        """Who the client is: the listener's default principal until the client has authenticated itself."""
        self.roles: frozenset[Principal] = frozenset()
        self.sasl: SaslSession | None = None
        """The authentication of the client; None if the listener asks for none."""
        self.grants = Grants()
        self._requester: Requester | None = None
        """Made at the first request that asks for it, and again when the client id is another."""
        self._frames = FrameReader(
            dispatcher.pool, dispatcher.settings.socket_request_max_bytes, dispatcher.receiving, self
        )
        self._slots: deque[ReplySlot] | None = None
        self._close_callbacks: set[Callable[[], None]] | None = None
        self._blocker: ReplySlot | None = None
        """The slot of the request that the next one waits for."""
        self._unanswered_bytes = 0
        self._parked_bytes = 0
        self._mute: Mute | None = None
        self._paused = self._is_starting = self._turn_scheduled = self._stopping = self._closed = False
        self.has_sent_request = False
        """Whether a whole request has arrived."""
        self.last_activity_at = dispatcher.clock.monotonic()
        """Monotonic seconds: when the last frame, or the last 64 KB of one, had arrived."""
        self.blocked_since: float | None = None
        """Monotonic seconds since which the client does not read its replies; None if it does."""

    @property
    def clock(self) -> Clock:
        return self._dispatcher.clock

    # --- called by the socket ----------------------------------------------------------------------------

    def receive_buffer(self) -> memoryview:
        """The buffer for the next bytes."""
        return self._frames.receive_buffer()

    def received(self, count: int) -> None:
        """`count` bytes were put at the start of what `receive_buffer` returned."""
        self._frames.advance(count)
        self._start_requests()
        if count >= TURN_BYTES and not self._turn_scheduled and not self._closed:
            self._note_activity()
            self._end_turn()

    def sending_blocked(self) -> None:
        """The client reads its replies more slowly than they are sent."""
        if self.blocked_since is None:
            self.blocked_since = self.clock.monotonic()
            self._dispatcher.context.slow_clients += 1
        self._update_reading()

    def sending_resumed(self) -> None:
        """The client has read most of its replies."""
        if self.blocked_since is not None:
            self.blocked_since = None
            self._dispatcher.context.slow_clients -= 1
        self._note_activity()
        self._start_requests()

    def lost(self) -> None:
        """The socket is closed: cancel the requests that wait and release what they hold."""
        self._closed = True
        if self.blocked_since is not None:
            self.blocked_since = None
            self._dispatcher.context.slow_clients -= 1
        callbacks, self._close_callbacks = self._close_callbacks, None
        for callback in callbacks or ():
            callback()
        self._unblock()
        if self._mute:
            self._mute.cancel()
        self._slots = None
        self._frames.close()
        self._dispatcher.in_flight.release(self._unanswered_bytes + self._parked_bytes)
        self._unanswered_bytes = self._parked_bytes = 0
        self._dispatcher.in_flight.stop_waiting(self)
        self._dispatcher.parked.stop_waiting(self)

    def on_capacity(self) -> None:
        """The memory that all connections share may have space for this one again."""
        if not self._closed:
            self._start_requests()

    def drain(self) -> None:
        """The server stops: start nothing, answer the requests that wait for a commit, then close. Requests
        that wait for events or for other members are not answered: the client repeats them after it has
        connected again."""
        self._stopping = True
        if self._slots and any(slot.request is not None and slot.pipelined for slot in self._slots):
            self._update_reading()
        else:
            self.close()

    def close(self) -> None:
        """Send what was written, then close."""
        if not self._closed:
            self._closed = True
            self._note_activity()
            self._transport.close()

    @property
    def is_closed(self) -> bool:
        """Whether the connection starts no more requests; replies may still be unsent."""
        return self._closed

    @property
    def is_idle(self) -> bool:
        """Whether every request is answered and the client reads its replies. A muted client may be: the end
        of its connection is not noticed before it is read again."""
        return not self._slots and self.blocked_since is None

    @property
    def partial_frame_bytes(self) -> int | None:
        """Bytes that have arrived of the frame that the server waits for; None if it waits for none."""
        return None if self._paused else self._frames.partial_bytes or None

    @property
    def held_bytes(self) -> int:
        """Bytes of the budget `Dispatcher.receiving` that the unfinished frame of this connection holds."""
        return self._frames.held_bytes

    # --- ClientConnection, called by handlers ------------------------------------------------------------

    def on_close(self, call: Callable[[], None]) -> Callable[[], None]:
        """See `handler.ClientConnection`."""
        if self._close_callbacks is None:
            self._close_callbacks = set()
        callbacks = self._close_callbacks
        callbacks.add(call)
        return lambda: callbacks.discard(call)

    def requester_for(self, client_id: str | None) -> Requester:
        """See `handler.ClientConnection`."""
        requester = self._requester
        if requester is None or requester.client_id != (client_id or ""):
            requester = self._requester = Requester(
                principal=self.principal,
                roles=self.roles,
                host=self.peer.rpartition(":")[0],
                client_id=client_id or "",
            )
        return requester

    def identify(self, principal: Principal, roles: frozenset[Principal] = frozenset()) -> None:
        """The client has proven who it is: requests from here on are those of `principal`."""
        self.principal, self.roles, self._requester, self.grants = principal, roles, None, Grants()

    def limit_frames(self, min_bytes: int, max_bytes: int, name: str) -> None:
        """See `sasl.SaslConnection`."""
        self._frames.limit(min_bytes, max_bytes, name)

    def authentication_failed(self, reason: str) -> None:
        """Log why; the client does not learn it."""
        self._dispatcher.warn_rate_limited(
            "authentication", f"{self.peer}: authentication failed: {reason}; connection closed"
        )

    def mute(self, seconds: float) -> None:
        """See `handler.ClientConnection`. Replies are sent meanwhile (KIP-219)."""
        if not self._closed:
            self._mute = self._mute or Mute(self.clock, self.on_capacity)
            self._mute.extend(seconds)
            self._update_reading()

    # --- requests and replies ----------------------------------------------------------------------------

    def _note_activity(self) -> None:
        self.last_activity_at = self.clock.monotonic()

    def _is_full(self) -> bool:
        """Whether no request may start: too much is unanswered or unsent, or the connection ends."""
        if self._closed or self._stopping or self.blocked_since is not None or self._mute:
            return True
        slots = self._slots
        if slots is not None and (
            len(slots) >= MAX_UNANSWERED
            or self._unanswered_bytes >= MAX_UNANSWERED_BYTES
            or self._parked_bytes >= MAX_PARKED_BYTES
        ):
            return True
        shared = self._dispatcher
        return (shared.in_flight.is_full or shared.parked.is_full) and self._must_wait()

    def _must_wait(self) -> bool:
        """Whether all connections together have too much in flight for the next request of this one."""
        frames = self._frames
        if not frames.has_frame or (not self._slots and frames.next_bytes <= SMALL_BYTES):
            return False
        limit = self._dispatcher.in_flight if frames.next_key == PRODUCE else self._dispatcher.parked
        if not limit.is_full:
            return False
        limit.wait(self)
        return True

    def _may_start(self) -> bool:
        return self._blocker is None and not self._is_full()

    def _start_requests(self) -> None:
        """Start the requests that have arrived whole, for one turn."""
        if self._is_starting or self._turn_scheduled:
            return
        self._is_starting = True
        used_bytes, turn_end = 0, 0.0
        try:
            while self._may_start():
                frame = self._frames.next()
                if frame is None:
                    break
                now = self.last_activity_at = self.clock.monotonic()
                if not used_bytes:
                    turn_end = now + TURN_SECONDS
                used_bytes += len(frame)
                self._start(frame)
                if (used_bytes >= TURN_BYTES or self.clock.monotonic() > turn_end) and self._frames.has_frame:
                    self._end_turn()
                    break
        except NotKafka as error:
            self._dispatcher.warn_rate_limited(str(error), f"{error} by {self.peer}: connection closed")
            self.close()
        except CloseConnection as error:
            self._dispatcher.warn_rate_limited("refused", f"{self.peer}: {error}; connection closed")
            self.close()
        except RequestTooLarge as error:
            self._dispatcher.warn_rate_limited(
                "too large", f"{self.peer}: {error}; connection closed (docs/SETTINGS.md, Limits)"
            )
            self.close()
        except ProtocolError as error:
            self._dispatcher.warn_rate_limited(
                "protocol", f"{self.peer} violates the protocol: {error}; connection closed"
            )
            self.close()
        finally:
            self._is_starting = False
        if not self._turn_scheduled:
            self._update_reading()

    def _end_turn(self) -> None:
        self._turn_scheduled = True
        self._pause(True)
        self.clock.call_soon(self._next_turn)

    def _next_turn(self) -> None:
        self._turn_scheduled = False
        if not self._closed:
            self._start_requests()

    def _update_reading(self) -> None:
        if self._closed:
            self._pause(True)
            return
        if self._turn_scheduled:
            return
        # Behind a request that waits, reading continues until the next request is whole. So the end of the
        # connection is noticed.
        has_space = self._frames.prepare_receive()
        self._pause(not has_space or self._is_full() or self._frames.has_frame)

    def _pause(self, pause: bool) -> None:
        if pause != self._paused:
            self._paused = pause
            if pause:
                self._transport.pause()
            else:
                self._transport.resume()

    def _start(self, frame: memoryview) -> None:
        """Decode the header of a request and run its handler. ProtocolError if the header is invalid,
        CloseConnection if the request ends the connection."""
        if self.sasl is not None and self.sasl.check(frame):
            request = Request(RAW_TOKEN, 0, 0, None, Message(), self.peer, self)
            self._send_or_park(request, self.sasl.raw_token(frame), len(frame), pipelined=False)
            return
        try:
            key, version, correlation_id, length = _HEADER.unpack_from(frame)
        except struct.error:
            raise ProtocolError(f"a frame of {len(frame)} bytes, shorter than a request header") from None
        body_position = _HEADER.size + max(length, 0)
        if length < -1 or body_position > len(frame):
            raise ProtocolError(f"a client id of {length} bytes in a frame of {len(frame)}")
        client_id = None if length < 0 else str(frame[_HEADER.size : body_position], "utf-8", "replace")
        self.has_sent_request = True
        request = Request(key, version, correlation_id, client_id, Message(), self.peer, self, len(frame))
        handler = self._dispatcher.handlers.get(key)
        try:
            result = self._dispatcher.run_handler(handler, request, frame, body_position)
        except ProtocolError as error:
            raise type(error)(f"in a request of API key {key} version {version}: {error}") from None
        pipelined = handler is not None and handler.pipelined
        self._send_or_park(request, result, len(frame), pipelined)

    def _send_or_park(self, request: Request, result: HandlerResult, size: int, pipelined: bool) -> None:
        """Send the reply if its handler has finished and all earlier replies of the connection are sent.
        Otherwise keep the reply, or a place for it, until they are."""
        if isinstance(result, Promise):
            if not result.done:
                self._park(request, result, size, pipelined)
                return
            pieces = self._dispatcher.encode_promised(request, result)
        else:
            pieces = self._dispatcher.encode(request, result)
        if pieces is None:
            self.close()
        elif not self._slots:
            if pieces:
                self._transport.write(pieces)
        else:
            slot = ReplySlot(request, size, pipelined)
            self._slots.append(slot)
            self._unanswered_bytes += size
            self._dispatcher.in_flight.add(size)
            self._set_reply(slot, pieces)

    def _park(self, request: Request, reply: Promise[Any], size: int, pipelined: bool) -> None:
        """Reserve the place of a reply that is not ready, and send it when it is."""
        slot = ReplySlot(request, size, pipelined)
        if self._slots is None:
            self._slots = deque()
        self._slots.append(slot)
        self._unanswered_bytes += size
        self._dispatcher.in_flight.add(size)
        if not pipelined:
            self._blocker = slot
            self._dispatcher.parked.add(waiting_memory_bytes(size))

        def on_reply(reply: Promise[Any]) -> None:
            if self._slots is None:  # the connection was lost
                return
            pieces = self._dispatcher.encode_promised(request, reply)
            if pieces is None:
                self._slots.clear()
                self.close()
                return
            self._set_reply(slot, pieces)
            self._send_ready()

        reply.then(on_reply)

    def _set_reply(self, slot: ReplySlot, pieces: list[Buffer]) -> None:
        assert slot.pieces is None, "a request is answered once"
        slot.pieces, slot.request = pieces, None
        size = sum(map(len, pieces))
        self._parked_bytes += size
        self._dispatcher.in_flight.add(size)
        if slot is self._blocker:
            self._unblock()

    def _unblock(self) -> None:
        """Let the next request start: the one that it waited for is answered, or the connection is lost."""
        blocker, self._blocker = self._blocker, None
        if blocker is not None:
            self._dispatcher.parked.release(waiting_memory_bytes(blocker.size))

    def _send_ready(self) -> None:
        """Send the replies that do not wait for an earlier one."""
        slots = self._slots
        assert slots is not None
        out: list[Buffer] = []
        before = self._unanswered_bytes + self._parked_bytes
        while slots and slots[0].pieces is not None:
            slot = slots.popleft()
            self._unanswered_bytes -= slot.size
            for piece in slot.pieces or ():
                self._parked_bytes -= len(piece)
                out.append(piece)
        assert self._unanswered_bytes >= 0, "no request is counted as answered twice"
        assert self._parked_bytes >= 0, "no reply is counted as sent twice"
        self._dispatcher.in_flight.release(before - self._unanswered_bytes - self._parked_bytes)
        if not slots:
            assert self._unanswered_bytes == self._parked_bytes == 0, "without requests nothing is in flight"
            self._slots = None
        if out and not self._closed:
            self._transport.write(out)
        if self._stopping:
            self.drain()
        else:
            self._start_requests()
