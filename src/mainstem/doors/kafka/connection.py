"""One client's connection, without a socket.

Owns: the order of its requests and replies, and what it may cost. Refuses: to start more requests while too
much is unanswered or unsent, and to go on after a protocol error. Called by the shell (server.py), which
gives bytes and takes them; the handlers are reached through `Dispatcher`.

Requests are answered in the order they came. As in Kafka the next one waits until the one before is
answered, except behind a Produce, whose handler is `pipelined`: the commit answers many at once.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from mainstem.clock import Clock
from mainstem.doors.kafka.dispatch import Dispatcher
from mainstem.doors.kafka.frame import PRODUCE, FrameReader, NotKafka
from mainstem.doors.kafka.handler import AdvertisedListener, CloseConnection, HandlerResult, Request
from mainstem.kafka_protocol.message import Buffer, Message, ProtocolError
from mainstem.promise import Promise

MAX_UNANSWERED = 256
MAX_UNANSWERED_BYTES = 16 << 20
"""Of requests: a Produce that waits for its commit holds no buffer here, but the journal holds its bytes."""
MAX_PARKED_BYTES = 4 << 20
"""Of replies that wait for an earlier one."""
TURN_BYTES = 64 << 10
TURN_SECONDS = 0.0005
"""What a connection may use before the others have their turn."""

PARKED_WEIGHT = 16
"""What a request that waits, other than Produce, holds for each of its bytes, about: objects of what it asked
for."""
SMALL_BYTES = 4 << 10
"""A request of this size is started, if nothing else of its connection is unanswered, whatever all the
others have in flight: so heartbeats and reading go on while the disk is behind."""

_HEADER = struct.Struct(">hhih")


class KafkaTransport(Protocol):
    """The socket, as a connection sees it."""

    def write(self, pieces: list[Buffer]) -> None: ...

    def pause(self) -> None:
        """Read no more for now. Idempotent."""

    def resume(self) -> None:
        """Read on. Idempotent."""

    def close(self) -> None:
        """Send what was written, then close."""


class _ReplySlot:
    """A request that has no reply yet, or one that waits for the replies before it."""

    __slots__ = ("pieces", "pipelined", "request", "size")

    def __init__(self, request: Request, size: int, pipelined: bool) -> None:
        self.request: Request | None = request
        """None when answered."""
        self.size = size
        self.pipelined = pipelined
        self.pieces: list[Buffer] | None = None


class KafkaConnection:
    """See the module."""

    __slots__ = (
        "_blocker",
        "_closed",
        "_closers",
        "_dispatcher",
        "_frames",
        "_parked_bytes",
        "_paused",
        "_pumping",
        "_slots",
        "_stopping",
        "_transport",
        "_turn_due",
        "_unanswered_bytes",
        "blocked_since",
        "has_sent_request",
        "last_activity_at",
        "listener",
        "peer",
    )

    def __init__(
        self, dispatcher: Dispatcher, transport: KafkaTransport, listener: AdvertisedListener, peer: str
    ) -> None:
        self._dispatcher = dispatcher
        self._transport = transport
        self.listener = listener
        self.peer = peer
        self._frames = FrameReader(
            dispatcher.pool, dispatcher.settings.socket_request_max_bytes, dispatcher.receiving, self
        )
        self._slots: deque[_ReplySlot] | None = None
        self._closers: set[Callable[[], None]] | None = None
        self._blocker: _ReplySlot | None = None
        """The request that the next one waits for."""
        self._unanswered_bytes = 0
        self._parked_bytes = 0
        self._paused = self._pumping = self._turn_due = self._stopping = self._closed = False
        self.has_sent_request = False
        """A whole request has come."""
        self.last_activity_at = dispatcher.clock.monotonic()
        """When the last frame, or the last 64 KB of one, was whole."""
        self.blocked_since: float | None = None
        """Since when the client does not take what is sent to it."""

    @property
    def clock(self) -> Clock:
        return self._dispatcher.clock

    # --- the shell's side
    # -------------------------------------------------------------------------------------

    def receive_buffer(self) -> memoryview:
        """Where the next bytes go."""
        return self._frames.receive_buffer()

    def received(self, count: int) -> None:
        """`count` bytes were put into `receive_buffer()`."""
        self._frames.advance(count)
        self._pump()
        if count >= TURN_BYTES and not self._turn_due and not self._closed:
            self._note_activity()
            self._end_turn()

    def sending_blocked(self) -> None:
        """The client takes less than is sent."""
        if self.blocked_since is None:
            self.blocked_since = self.clock.monotonic()
            self._dispatcher.context.slow_clients += 1
        self._update_reading()

    def sending_resumed(self) -> None:
        """The client has taken most of it."""
        if self.blocked_since is not None:
            self.blocked_since = None
            self._dispatcher.context.slow_clients -= 1
        self._note_activity()
        self._pump()

    def lost(self) -> None:
        """The socket is gone: cancel what waits."""
        self._closed = True
        if self.blocked_since is not None:
            self.blocked_since = None
            self._dispatcher.context.slow_clients -= 1
        closers, self._closers = self._closers, None
        for call in closers or ():
            call()
        self._unblock()
        self._slots = None
        self._frames.close()
        self._dispatcher.in_flight.release(self._unanswered_bytes + self._parked_bytes)
        self._unanswered_bytes = self._parked_bytes = 0
        self._dispatcher.in_flight.stop_waiting(self)
        self._dispatcher.parked.stop_waiting(self)

    def on_capacity(self) -> None:
        """What all connections share may have room for this one again."""
        if not self._closed:
            self._pump()

    def drain(self) -> None:
        """The server stops: finish what is being committed, start nothing, then close. What merely waits
        for events or for other members is not answered: the client comes again."""
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
        """Nothing more is read; what was written may still be on its way."""
        return self._closed

    @property
    def is_idle(self) -> bool:
        """No request is being answered and nothing waits to be sent."""
        return not self._slots and self.blocked_since is None

    @property
    def partial_frame_bytes(self) -> int | None:
        """The server waits for the rest of a frame, of which so many bytes are there; None: it does not."""
        return None if self._paused else self._frames.partial_bytes or None

    @property
    def held_bytes(self) -> int:
        """What its unfinished frame holds of the memory that all share."""
        return self._frames.held_bytes

    # --- Peer: the handlers' side
    # -----------------------------------------------------------------------------

    def on_close(self, call: Callable[[], None]) -> Callable[[], None]:
        """See `handler.ClientConnection`."""
        if self._closers is None:
            self._closers = set()
        closers = self._closers
        closers.add(call)
        return lambda: closers.discard(call)

    # --- requests
    # ---------------------------------------------------------------------------------------------

    def _note_activity(self) -> None:
        self.last_activity_at = self.clock.monotonic()

    def _is_full(self) -> bool:
        """Too much is unanswered or unsent, or the end is near."""
        if self._closed or self._stopping or self.blocked_since is not None:
            return True
        slots = self._slots
        if slots is not None and (
            len(slots) >= MAX_UNANSWERED
            or self._unanswered_bytes >= MAX_UNANSWERED_BYTES
            or self._parked_bytes >= MAX_PARKED_BYTES
        ):
            return True
        door = self._dispatcher
        return (door.in_flight.is_full or door.parked.is_full) and self._must_wait()

    def _must_wait(self) -> bool:
        """All connections together have too much in flight for the next request of this one."""
        frames = self._frames
        if not frames.has_frame or (not self._slots and frames.next_bytes <= SMALL_BYTES):
            return False
        backlog = self._dispatcher.in_flight if frames.next_key == PRODUCE else self._dispatcher.parked
        if not backlog.is_full:
            return False
        backlog.wait(self)
        return True

    def _may_start(self) -> bool:
        return self._blocker is None and not self._is_full()

    def _pump(self) -> None:
        """Start the requests that are whole, for one turn."""
        if self._pumping or self._turn_due:
            return
        self._pumping = True
        used, until = 0, 0.0
        try:
            while self._may_start():
                frame = self._frames.next()
                if frame is None:
                    break
                now = self.last_activity_at = self.clock.monotonic()
                if not used:
                    until = now + TURN_SECONDS
                used += len(frame)
                self._start(frame)
                if (used >= TURN_BYTES or self.clock.monotonic() > until) and self._frames.has_frame:
                    self._end_turn()
                    break
        except NotKafka as error:
            self._dispatcher.warn_rate_limited(str(error), f"{error} by {self.peer}: connection closed")
            self.close()
        except ProtocolError as error:
            self._dispatcher.warn_rate_limited(
                "protocol", f"{self.peer} breaks the protocol: {error}; connection closed"
            )
            self.close()
        finally:
            self._pumping = False
        if not self._turn_due:
            self._update_reading()

    def _end_turn(self) -> None:
        self._turn_due = True
        self._pause(True)
        self.clock.call_soon(self._next_turn)

    def _next_turn(self) -> None:
        self._turn_due = False
        if not self._closed:
            self._pump()

    def _update_reading(self) -> None:
        if self._closed:
            self._pause(True)
            return
        if self._turn_due:
            return
        # Behind a request that waits, reading goes on until the next one is whole: so a client that is gone
        # is noticed.
        has_room = self._frames.prepare_receive()
        self._pause(not has_room or self._is_full() or self._frames.has_frame)

    def _pause(self, pause: bool) -> None:
        if pause != self._paused:
            self._paused = pause
            if pause:
                self._transport.pause()
            else:
                self._transport.resume()

    def _start(self, frame: memoryview) -> None:
        """Decode a request and hand it to its handler. ProtocolError."""
        try:
            key, version, correlation_id, length = _HEADER.unpack_from(frame)
        except struct.error:
            raise ProtocolError(f"a frame of {len(frame)} bytes") from None
        at = 10 + max(length, 0)
        if length < -1 or at > len(frame):
            raise ProtocolError(f"a client id of {length} bytes")
        client_id = None if length < 0 else str(frame[10:at], "utf-8", "replace")
        self.has_sent_request = True
        request = Request(key, version, correlation_id, client_id, Message(), self.peer, self)
        handler = self._dispatcher.handlers.get(key)
        try:
            answer = self._dispatcher.run_handler(handler, request, frame, at)
        except CloseConnection as error:
            self._dispatcher.warn_rate_limited("refused", f"{self.peer}: {error}; connection closed")
            self.close()
            return
        except ProtocolError as error:
            raise ProtocolError(f"in a request of API key {key} version {version}: {error}") from None
        pipelined = handler is not None and handler.pipelined
        self._send_or_park(request, answer, len(frame), pipelined)

    def _send_or_park(self, request: Request, answer: HandlerResult, size: int, pipelined: bool) -> None:
        """Send an answer, or keep its place."""
        if isinstance(answer, Promise):
            if not answer.done:
                self._park(request, answer, size, pipelined)
                return
            pieces = self._dispatcher.encode_promised(request, answer)
        else:
            pieces = self._dispatcher.encode(request, answer)
        if pieces is None:
            self.close()
        elif not self._slots:
            if pieces:
                self._transport.write(pieces)
        else:
            slot = _ReplySlot(request, size, pipelined)
            self._slots.append(slot)
            self._unanswered_bytes += size
            self._dispatcher.in_flight.add(size)
            self._fill(slot, pieces)

    def _park(self, request: Request, later: Promise[Any], size: int, pipelined: bool) -> None:
        slot = _ReplySlot(request, size, pipelined)
        if self._slots is None:
            self._slots = deque()
        self._slots.append(slot)
        self._unanswered_bytes += size
        self._dispatcher.in_flight.add(size)
        if not pipelined:
            self._blocker = slot
            self._dispatcher.parked.add(size * PARKED_WEIGHT)

        def done(later: Promise[Any]) -> None:
            if self._slots is None:  # the connection is gone
                return
            pieces = self._dispatcher.encode_promised(request, later)
            if pieces is None:
                self._slots.clear()
                self.close()
                return
            self._fill(slot, pieces)
            self._send_ready()

        later.then(done)

    def _fill(self, slot: _ReplySlot, pieces: list[Buffer]) -> None:
        slot.pieces, slot.request = pieces, None
        size = sum(map(len, pieces))
        self._parked_bytes += size
        self._dispatcher.in_flight.add(size)
        if slot is self._blocker:
            self._unblock()

    def _unblock(self) -> None:
        blocker, self._blocker = self._blocker, None
        if blocker is not None:
            self._dispatcher.parked.release(blocker.size * PARKED_WEIGHT)

    def _send_ready(self) -> None:
        """Send the replies that no earlier one holds up."""
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
        self._dispatcher.in_flight.release(before - self._unanswered_bytes - self._parked_bytes)
        if not slots:
            self._slots = None
        if out and not self._closed:
            self._transport.write(out)
        if self._stopping:
            self.drain()
        else:
            self._pump()
