"""The protocol of one stream client's connection, without a socket.

Owns: frames, the order of commands before Open, login, heartbeats, the end of the connection, and when the
client is not read. What clients do after Open is in `session.py`; the socket is in `server.py`.
Refuses: frames above the limit, commands at the wrong place, and more than is bounded: a client is not read
while too much of what it sent is unanswered or unconfirmed, or while it leaves answers unread.

    PEER_PROPERTIES -> SASL_HANDSHAKE -> SASL_AUTHENTICATE … -> TUNE -> OPEN -> READY -> CLOSING
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Protocol

from mainstem.access_contract import Principal, Requester
from mainstem.amqp.connections import ConnectionInfo
from mainstem.contract import StreamError
from mainstem.doors.net.throttle import ByteThrottle
from mainstem.doors.rabbitmq_stream import commands
from mainstem.doors.rabbitmq_stream.commands import (
    RESPONSE,
    Key,
    StreamFrame,
    StreamReply,
    StreamRequest,
    decode,
    encode,
)
from mainstem.doors.rabbitmq_stream.listed import ListedStreamClient
from mainstem.doors.rabbitmq_stream.login import StreamLogin
from mainstem.doors.rabbitmq_stream.response_code import (
    CommandRefused,
    ConnectionRefused,
    ResponseCode,
    code_of,
)
from mainstem.doors.rabbitmq_stream.session import StreamSession
from mainstem.doors.rabbitmq_stream.wire import FrameError

if TYPE_CHECKING:
    from mainstem.clock import Timer
    from mainstem.doors.contract import Listener
    from mainstem.doors.rabbitmq_stream.consumers import ConsumerTask
    from mainstem.doors.rabbitmq_stream.shared import StreamDoorState

FRAME_MAX = 1 << 20
FRAME_MAX_BEFORE_OPEN = 8 << 10
FRAME_BYTES_MIN = 4
HEARTBEAT_S = 60
HEARTBEAT_MIN_S = 1
QUEUED_BYTES_MAX = 2 << 20
"""Most bytes of frames that wait for the command before them; then the client is not read."""
VERSION = "4.3.0"
"""The version of RabbitMQ whose stream protocol this is: clients decide by it what they may send."""
PRODUCT = "mainstem"
DEFAULT_VHOST = "/"


class Stage(IntEnum):
    """Which command is next."""

    PEER_PROPERTIES = 0
    SASL_HANDSHAKE = 1
    SASL_AUTHENTICATE = 2
    TUNE = 3
    OPEN = 4
    READY = 5
    CLOSING = 6
    CLOSED = 7


class StreamTransport(Protocol):
    """The part of a socket and an event loop that a connection uses."""

    def write(self, pieces: list[bytes]) -> None: ...

    def pause(self) -> None:
        """Stop reading. Idempotent."""

    def resume(self) -> None:
        """Continue to read. Idempotent."""

    def close(self) -> None:
        """Send what was written, then close."""

    def start_task(self, work: Coroutine[Any, Any, None]) -> ConsumerTask:
        """Run `work` as a task, which is cancelled when the connection is lost. Its error is passed to
        `StreamClientConnection.failed`."""


class StreamClientConnection:
    """One client's connection. Implements `CapacityWaiter`."""

    def __init__(
        self,
        state: StreamDoorState,
        transport: StreamTransport,
        listener: Listener,
        peer: str,
        principal: Principal,
    ) -> None:
        self.state = state
        self.listener = listener
        self.peer = peer
        self.transport = transport
        self.stage = Stage.PEER_PROPERTIES
        self.properties: dict[str, str] = {}
        """The client's, such as `connection_name`."""
        self.session: StreamSession | None = None
        self.login = StreamLogin(state, listener, peer.rpartition(":")[0], principal)
        self.frame_max = FRAME_MAX
        self.heartbeat_s = 0
        self.received_at = self.sent_at = self.opened_at = state.clock.monotonic()
        self.opened_wall_ms = 0
        self.blocked_since: float | None = None
        """Monotonic seconds since which the client does not read; None: it does."""
        self._buffer = bytearray()
        self._frames: deque[bytes] = deque()
        self._queued_bytes = 0
        self._is_busy = self._is_paused = False
        self._heartbeat_timer: Timer | None = None
        self._listed = ListedStreamClient(self._info, self._close_for)
        self._correlation_id = 0
        self.throttle = ByteThrottle(
            state.context.access.quotas,
            state.clock,
            self.requester,
            pause_reading=self.update_reading,
            resume_reading=self.on_capacity,
            pause_sending=self._pause_sending,
            resume_sending=self._resume_sending,
        )

    # --- called by the socket

    def received(self, data: bytes) -> None:
        """Bytes of the client."""
        self.received_at = self.state.clock.monotonic()
        buffer = self._buffer
        buffer += data
        position = 0
        try:
            while len(buffer) - position >= 4 and self.stage is not Stage.CLOSED:
                size = int.from_bytes(buffer[position : position + 4], "big")
                if size < FRAME_BYTES_MIN or size > self._frame_limit:
                    raise ConnectionRefused(
                        f"a frame of {size} bytes",
                        ResponseCode.FRAME_TOO_LARGE if size > self._frame_limit else None,
                    )
                if len(buffer) - position - 4 < size:
                    break
                self._frames.append(bytes(buffer[position + 4 : position + 4 + size]))
                self._queued_bytes += size
                position += 4 + size
                self._advance()
            del buffer[:position]
        except (ConnectionRefused, FrameError) as error:
            self.refuse(error)
        self.update_reading()

    def lost(self) -> None:
        """The socket is closed."""
        self.stage = Stage.CLOSED
        self.throttle.end()
        if self._heartbeat_timer is not None:
            self._heartbeat_timer.cancel()
        self._frames.clear()
        self._listed.remove()
        if self.session is not None:
            self.session.close()
        self.state.in_flight.stop_waiting(self)

    def sending_blocked(self) -> None:
        """The client reads more slowly than it is sent."""
        if self.blocked_since is None:
            self.blocked_since = self.state.clock.monotonic()
        if self.session is not None:
            self.session.set_blocked(True)
        self.update_reading()

    def sending_resumed(self) -> None:
        """The client has read most of what was sent."""
        self.blocked_since = None
        self._resume_sending()
        self.update_reading()

    def _pause_sending(self) -> None:
        if self.session is not None:
            self.session.set_blocked(True)

    def _resume_sending(self) -> None:
        if self.session is not None and self.blocked_since is None and not self.throttle.mutes_sending:
            self.session.set_blocked(False)

    def failed(self, error: BaseException) -> None:
        """A task of this connection broke."""
        if isinstance(error, StreamError):
            self.refuse(ConnectionRefused(str(error), code_of(error)))
        else:
            self.state.log_fault(f"{self.peer}: a command failed", error)
            self.refuse(ConnectionRefused("internal error", ResponseCode.INTERNAL_ERROR))

    def on_capacity(self) -> None:
        """There may be room for more messages in flight."""
        self._advance_safely()
        self.update_reading()

    def drain(self) -> None:
        """The server stops."""
        self.refuse(ConnectionRefused("the server stops", ResponseCode.OK), is_warning=False)

    # --- frames in

    @property
    def _frame_limit(self) -> int:
        return self.frame_max if self.stage >= Stage.OPEN else FRAME_MAX_BEFORE_OPEN

    @property
    def _must_wait(self) -> bool:
        """Whether no command may begin: too much is unconfirmed."""
        if self.throttle.mutes_reading or (self.session is not None and self.session.is_full):
            return True
        if self.state.in_flight.is_full and self.session is not None and self.session.in_flight_bytes:
            self.state.in_flight.wait(self)
            return True
        return False

    def update_reading(self) -> None:
        """Read the client, or do not."""
        should_pause = self.stage is not Stage.CLOSED and (
            self.blocked_since is not None or self._queued_bytes >= QUEUED_BYTES_MAX or self._must_wait
        )
        if should_pause != self._is_paused:
            self._is_paused = should_pause
            (self.transport.pause if should_pause else self.transport.resume)()

    def _advance(self) -> None:
        """Begin the commands that wait, up to one that takes time."""
        while self._frames and not self._is_busy and self.stage is not Stage.CLOSED:
            if self._must_wait:
                return
            frame = self._frames.popleft()
            self._queued_bytes -= len(frame)
            work = self._begin(frame)
            if work is not None:
                self._is_busy = True
                self.transport.start_task(self._finish(work))

    def _advance_safely(self) -> None:
        try:
            self._advance()
        except (ConnectionRefused, FrameError) as error:
            self.refuse(error)

    async def _finish(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except (ConnectionRefused, FrameError) as error:
            self.refuse(error)
        finally:
            self._is_busy = False
        self._advance_safely()
        self.update_reading()

    def _begin(self, frame: bytes) -> Coroutine[Any, Any, None] | None:
        """Handle a frame; what it returns has to be awaited before the next one. FrameError,
        ConnectionRefused."""
        key, version = int.from_bytes(frame[:2], "big"), int.from_bytes(frame[2:4], "big")
        if self.stage is Stage.CLOSING:
            if key == Key.CLOSE | RESPONSE:
                self._end()
            return None
        if key == Key.HEARTBEAT:
            return None
        if key == Key.CLOSE:
            request = decode(commands.CloseRequest, frame)
            self.send_reply(request, ResponseCode.OK)
            self._end()
            return None
        if self.session is not None and self.stage is Stage.READY:
            if key == Key.SASL_AUTHENTICATE:
                return self._authenticate(decode(commands.SaslAuthenticate, frame))
            return self.session.begin(key, version, frame)
        return self._begin_handshake(key, frame)

    def _begin_handshake(self, key: int, frame: bytes) -> Coroutine[Any, Any, None] | None:
        """As `_begin`, before Open is done."""
        stage = self.stage
        if key == Key.PEER_PROPERTIES and stage is Stage.PEER_PROPERTIES:
            self._peer_properties(decode(commands.PeerProperties, frame))
        elif key == Key.SASL_HANDSHAKE and stage in (Stage.SASL_HANDSHAKE, Stage.SASL_AUTHENTICATE):
            self._handshake(decode(commands.SaslHandshake, frame))
        elif key == Key.SASL_AUTHENTICATE and stage is Stage.SASL_AUTHENTICATE:
            return self._authenticate(decode(commands.SaslAuthenticate, frame))
        elif key & ~RESPONSE == Key.TUNE and stage is Stage.TUNE:  # Java's client answers, others send it
            self._tuned(decode(commands.Tune, frame))
        elif key == Key.OPEN and stage is Stage.OPEN:
            self._open(decode(commands.OpenVhost, frame))
        else:
            raise ConnectionRefused(f"command {key} where {stage.name} is next")
        return None

    # --- the handshake

    def _peer_properties(self, request: commands.PeerProperties) -> None:
        self.properties = request.properties
        properties = {
            "product": PRODUCT,
            "version": VERSION,
            "mainstem_version": self.state.version,
            "platform": "Python",
        }
        self.stage = Stage.SASL_HANDSHAKE
        self.send(
            commands.PropertiesReply(
                correlation_id=request.correlation_id, code=ResponseCode.OK, properties=properties
            )
        )

    def _handshake(self, request: commands.SaslHandshake) -> None:
        self.stage = Stage.SASL_AUTHENTICATE
        self.send(
            commands.MechanismsReply(
                correlation_id=request.correlation_id,
                code=ResponseCode.OK,
                mechanisms=list(self.login.mechanisms),
            )
        )

    async def _authenticate(self, request: commands.SaslAuthenticate) -> None:
        is_renewal = self.stage is Stage.READY
        code, challenge = await self.login.step(request.mechanism, request.data or b"", is_renewal)
        if self.stage is Stage.CLOSED:
            return
        if code is ResponseCode.SASL_CHALLENGE:
            self.send(
                commands.ChallengeReply(
                    correlation_id=request.correlation_id, code=ResponseCode.SASL_CHALLENGE, data=challenge
                )
            )
            return
        self.send_reply(request, code)
        if code is not ResponseCode.OK:
            raise ConnectionRefused(f"authentication failed: {self.login.failure}")
        if is_renewal:
            assert self.session is not None, "renewed only after Open"
            self.session.set_requester(self.requester)
        else:
            self.stage = Stage.TUNE
            self.send(commands.Tune(frame_max=FRAME_MAX, heartbeat=HEARTBEAT_S))

    def _tuned(self, tune: commands.Tune) -> None:
        self.frame_max = min(tune.frame_max or FRAME_MAX, FRAME_MAX)
        if self.frame_max < FRAME_MAX_BEFORE_OPEN:
            raise ConnectionRefused(f"a frame_max of {tune.frame_max} bytes")
        self.heartbeat_s = max(tune.heartbeat, HEARTBEAT_MIN_S) if tune.heartbeat else 0
        self.stage = Stage.OPEN
        self._schedule_heartbeat()

    def _open(self, request: commands.OpenVhost) -> None:
        if request.vhost != DEFAULT_VHOST:
            self.send_reply(request, ResponseCode.VHOST_ACCESS_FAILURE)
            raise ConnectionRefused(f"there is no virtual host {request.vhost[:64]!r}")
        self.session = StreamSession(self, self.requester)
        self.throttle.requester = self.requester
        self.stage = Stage.READY
        self.opened_wall_ms = self.state.clock.wall_ms()
        self.transport.start_task(self._listed.add_to(self.state.context))
        advertised = self.listener.advertised
        self.send(
            commands.OpenReply(
                correlation_id=request.correlation_id,
                code=ResponseCode.OK,
                properties={"advertised_host": advertised.host, "advertised_port": str(advertised.port)},
            )
        )

    @property
    def requester(self) -> Requester:
        """Who the client is."""
        return Requester(
            principal=self.login.principal,
            roles=self.login.roles,
            host=self.peer.rpartition(":")[0],
            client_id=self.properties.get("connection_name", "")[:255],
        )

    def _info(self) -> ConnectionInfo:
        """How the management API shows the connection."""
        host, _, port = self.peer.rpartition(":")
        address = self.listener.address
        return ConnectionInfo(
            name=f"{self.peer} -> {address.host}:{address.port}",
            peer_host=host,
            peer_port=int(port or 0),
            host=address.host,
            port=address.port,
            user=self.login.principal.name,
            vhost=DEFAULT_VHOST,
            protocol="stream",
            auth_mechanism=self.login.mechanism,
            connected_at_ms=self.opened_wall_ms,
            ssl=self.listener.security.tls,
            frame_max=self.frame_max,
            heartbeat_s=self.heartbeat_s,
            client_properties=self.properties,
            state="running" if self.blocked_since is None else "blocked",
        )

    def _close_for(self, reason: str) -> None:
        self.refuse(ConnectionRefused(reason, ResponseCode.OK), is_warning=False)

    # --- frames out

    def send(self, frame: StreamFrame, key: int | None = None) -> None:
        """Send a frame."""
        self.write([encode(frame, key)])

    def write(self, pieces: list[bytes]) -> bool:
        """Send bytes. Returns whether the socket takes more."""
        if self.stage is Stage.CLOSED:
            return False
        self.sent_at = self.state.clock.monotonic()
        self.transport.write(pieces)
        return self.blocked_since is None

    def send_reply(self, request: StreamRequest, code: ResponseCode) -> None:
        """Answer a request with a code, and with nothing in the other fields of the answer."""
        kind = commands.REPLIES.get(request.KEY, StreamReply)
        reply = kind if issubclass(kind, StreamReply) else StreamReply
        self.send(reply(correlation_id=request.correlation_id, code=code), request.KEY)

    async def answer(
        self, request: StreamRequest, handle: Callable[[Any], Coroutine[Any, Any, StreamReply | None]]
    ) -> None:
        """Answer a request with what `handle` returns; with None it has answered by itself."""
        try:
            reply = await handle(request)
        except (CommandRefused, StreamError) as error:
            self.send_reply(request, code_of(error))
        else:
            if reply is not None:
                self.send(reply, request.KEY)

    def start_task(self, work: Coroutine[Any, Any, None]) -> ConsumerTask:
        """See `StreamTransport.start`."""
        return self.transport.start_task(work)

    def next_correlation_id(self) -> int:
        """The number of a request of the server."""
        self._correlation_id = (self._correlation_id + 1) & 0x7FFFFFFF
        return self._correlation_id

    # --- heartbeats, the end

    def _schedule_heartbeat(self) -> None:
        if self.heartbeat_s:
            self._heartbeat_timer = self.state.clock.call_later(self.heartbeat_s / 2, self._beat)

    def _beat(self) -> None:
        now = self.state.clock.monotonic()
        if now - self.received_at > 2 * self.heartbeat_s and not self._is_paused:
            self.state.warn("heartbeat", f"{self.peer}: no heartbeat in {2 * self.heartbeat_s} s; closed")
            self._end()
            return
        if now - self.sent_at >= self.heartbeat_s / 2:
            self.send(commands.HeartbeatFrame())
        self._schedule_heartbeat()

    def refuse(self, error: Exception, *, is_warning: bool = True) -> None:
        """End the connection because of an error: with a Close if the client can expect one."""
        if self.stage >= Stage.CLOSING:
            return
        if is_warning:
            self.state.warn("refused", f"{self.peer}: {error}; connection closed")
        code = error.code if isinstance(error, ConnectionRefused) else None
        if self.stage is not Stage.READY or code is None:
            self._end()
            return
        self.stage = Stage.CLOSING
        if self.session is not None:
            self.session.close()
        self.throttle.end()
        self._frames.clear()
        self._queued_bytes = 0
        self.opened_at = self.state.clock.monotonic()
        self.send(
            commands.CloseRequest(correlation_id=self.next_correlation_id(), code=code, reason=str(error))
        )

    def _end(self) -> None:
        """Send what was written, then close."""
        self.stage = Stage.CLOSED
        if self.session is not None:
            self.session.close()
        self.transport.close()
