"""The protocol of one client's connection, without a socket (AMQP 0-9-1, 2.2.4).

Owns: the order of the handshake, the connection's channels, errors and the end, heartbeats, and when the
client is not read. Refuses: a method that its state does not allow. The socket is in server.py; what methods
of an open channel do is behind `ChannelHandler`.

    GREETING --header--> LOGIN --start-ok--> TUNING --tune-ok--> OPENING --open--> RUNNING
    any of them --an error--> CLOSING --close-ok--> CLOSED        RUNNING --close--> CLOSED
After an error the client is read until its close-ok: a socket that is closed with unread bytes is reset, and
the client would never learn of the error.
"""

from __future__ import annotations

import logging
from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any

from mainstem.access_contract import Requester
from mainstem.amqp.connections import ChannelConsumer, ChannelInfo, ConnectionInfo
from mainstem.amqp.errors import AmqpError
from mainstem.authentication.identity import AuthenticationFailed
from mainstem.doors.amqp091 import frames, negotiation
from mainstem.doors.amqp091.channel_table import ChannelTable
from mainstem.doors.amqp091.connection_context import ConnectionState
from mainstem.doors.amqp091.content import close_fields
from mainstem.doors.amqp091.control_methods import (
    ConnectionClose,
    ConnectionCloseOk,
    ConnectionOpen,
    ConnectionOpenOk,
    ConnectionStartOk,
    ConnectionTune,
    ConnectionTuneOk,
    ConnectionUpdateSecret,
    ConnectionUpdateSecretOk,
)
from mainstem.doors.amqp091.flow import (
    UNSENT_MAX_BYTES,
    DeliveryGate,
    OutgoingFrames,
    PauseReason,
    PublishBlock,
    ReadingGate,
    throttle_of,
)
from mainstem.doors.amqp091.login import LoggedIn, LoginCheck
from mainstem.doors.amqp091.method import Method
from mainstem.doors.amqp091.method_codec import MethodDamaged, UnknownMethod, decode_method
from mainstem.doors.amqp091.splitter import FrameSplitter, NotAFrame
from mainstem.promise import Promise

if TYPE_CHECKING:
    from mainstem.amqp.field_values import FieldTable
    from mainstem.doors.amqp091.connection_context import AmqpPeers, AmqpTransport, ConnectionContext
    from mainstem.doors.amqp091.methods import BasicPublish

log = logging.getLogger("mainstem.amqp091")

HANDSHAKE_PAYLOAD_MAX = 8_192
"""Largest payload before the limits are agreed on."""
CLOSE_OK_FRAME = frames.method_frame(0, ConnectionCloseOk())
CLOSING_SECONDS = 10.0
"""How long the client's close-ok is waited for."""


class Amqp091Connection:
    """One client's connection. Implements `ChannelOwner`, `ListedConnection` and `CapacityWaiter`."""

    def __init__(
        self, context: ConnectionContext, transport: AmqpTransport, peers: AmqpPeers, login: LoginCheck
    ) -> None:
        self.context = context
        self.name = peers.name
        self.user = ""
        self.requester = Requester(principal=login.principal, host=peers.client_host)
        self.vhost = ""
        self.frame_max = HANDSHAKE_PAYLOAD_MAX
        self.channel_max = context.limits.channel_max
        self.heartbeat_s = 0
        self.client_properties: FieldTable = {}
        self.client_capabilities: frozenset[str] = frozenset()
        self.message_max_bytes = context.limits.message_max_bytes
        self.state = ConnectionState.GREETING
        self.is_password_login = False
        """Whether the client proved to know the user's password."""
        self._transport = transport
        self._peers = peers
        self._login = login
        self._mechanism = ""
        self._splitter = FrameSplitter(self._on_frame, HANDSHAKE_PAYLOAD_MAX)
        self._gate = ReadingGate(transport)
        self._block = PublishBlock(context.publish_refusal, self._gate, self)
        self._table = ChannelTable(self, self._block.may_publish)
        self._deliveries = DeliveryGate()
        self.throttle = throttle_of(context, self.requester, self._gate, self._deliveries)
        self._out = OutgoingFrames(context.clock, transport, self._after_write)
        self._tail = b""
        """The protocol header so far; after bytes that were no frame, the last of them."""
        now = context.clock.monotonic()
        self._opened_at = self._received_at = self._sent_at = self._closing_at = self.swept_at = now
        self._opened_ms = context.clock.wall_ms()
        self._has_received = self._is_framing_lost = False
        self.received_bytes = 0

    # --- called by the socket

    def received(self, data: bytes) -> None:
        """The client has sent these bytes."""
        self._has_received = True
        self.received_bytes += len(data)
        if self.state is ConnectionState.GREETING:
            data = self._greet(data)
        if self._is_framing_lost:
            self._seek_close_ok(data)
        elif data:
            self._split(data)

    def sending_blocked(self) -> None:
        """The client reads too slowly."""
        self._deliveries.pause(PauseReason.UNSENT)

    def sending_resumed(self) -> None:
        """It reads again."""
        self._deliveries.resume(PauseReason.UNSENT)
        self._gate.resume(PauseReason.UNSENT)

    def lost(self) -> None:
        """The socket is closed: end the work behind it."""
        self.state = ConnectionState.CLOSED
        self._out.clear()
        self.throttle.end()
        self.start_task(self._finish_work())

    def tick(self, now: float) -> str | None:
        """Send a heartbeat if it is time. Why the connection has to be closed; None: it may stay. To be
        called every second or so."""
        self.swept_at = now
        if self._has_received:
            self._has_received, self._received_at = False, now
        if self._out.has_sent:
            self._out.has_sent, self._sent_at = False, now
        if self.state in (ConnectionState.CLOSING, ConnectionState.CLOSED):
            return "did not read its last replies" if now - self._closing_at > CLOSING_SECONDS else None
        if self.state is not ConnectionState.RUNNING:
            limit_s = self.context.handshake_s
            return f"opened no connection in {limit_s:.0f} s" if now - self._opened_at > limit_s else None
        if self._block.has_ended():
            self._go_on(PauseReason.BLOCKED)
        self._table.check_oldest(now, self.context.limits.consumer_timeout_ms)
        if not self.heartbeat_s:
            return None
        if now - self._sent_at >= self.heartbeat_s / 2:
            self.send(frames.HEARTBEAT_FRAME)
        if now - self._received_at > 2 * self.heartbeat_s and not self._gate.is_closed:
            return f"sent no heartbeat for {2 * self.heartbeat_s} s"
        return None

    def on_capacity(self) -> None:
        """There may be memory for the message that is coming in."""
        self._go_on(PauseReason.MEMORY)

    # --- AmqpConnection: called by channels

    @property
    def is_sending_blocked(self) -> bool:
        """See `AmqpConnection`."""
        return self._deliveries.is_closed

    def send(self, data: bytes) -> None:
        """See `AmqpConnection`."""
        if self.state is not ConnectionState.CLOSED:
            self._out.add(data)

    def send_method(self, channel: int, method: Method) -> None:
        """See `AmqpConnection`."""
        self.send(frames.method_frame(channel, method))

    def send_message(self, channel: int, method: Method, properties_raw: bytes, body: bytes) -> None:
        """See `AmqpConnection`."""
        content = frames.content_frames(channel, properties_raw, body, self.frame_max)
        self.send(b"".join((frames.method_frame(channel, method), *content)))

    def fail(self, channel: int, error: AmqpError, method: Method | None) -> None:
        """See `AmqpConnection`."""
        if self.state is not ConnectionState.RUNNING:
            return
        if error.is_channel and channel:
            self._table.fail(channel, error, method)
        else:
            self.end_with_error(error, method)

    def start_task(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """See `AmqpConnection`."""
        self._transport.start_task(coroutine)

    def hold(self, count: int) -> None:
        """See `AmqpConnection`."""
        self._gate.hold(count)

    def release(self, count: int) -> None:
        """See `AmqpConnection`."""
        self._gate.release(count)

    # --- ListedConnection: called by the management

    def info(self) -> ConnectionInfo:
        """See `ListedConnection`."""
        peers = self._peers
        state = "blocked" if self._block.reason is not None else self.state.value
        return ConnectionInfo(
            name=self.name,
            peer_host=peers.client_host,
            peer_port=peers.client_port,
            host=peers.host,
            port=peers.port,
            user=self.user,
            vhost=self.vhost,
            protocol="AMQP 0-9-1",
            auth_mechanism=self._mechanism,
            connected_at_ms=self._opened_ms,
            ssl=peers.is_encrypted,
            channels=len(self._table),
            channel_max=self.channel_max,
            frame_max=self.frame_max,
            heartbeat_s=self.heartbeat_s,
            client_properties=self.client_properties,
            state="closing" if state == "closed" else state,
            received_bytes=self.received_bytes,
            sent_bytes=self._out.sent_bytes,
        )

    def channels(self) -> Sequence[ChannelInfo]:
        """See `ListedConnection`."""
        return [handler.info() for handler in self._table.handlers()]

    def consumers(self) -> Sequence[ChannelConsumer]:
        """See `ListedConnection`."""
        return [consumer for handler in self._table.handlers() for consumer in handler.listed_consumers()]

    def close(self, reason: str) -> None:
        """See `ListedConnection`."""
        self.end_with_error(AmqpError(320, False, f"CONNECTION_FORCED - {reason}"), None)

    # --- frames

    def _split(self, data: bytes | None) -> None:
        """Cut these bytes into frames, or those that wait."""
        try:
            if data is None:
                self._splitter.resume()
            else:
                self._splitter.feed(data)
        except NotAFrame as error:
            self.end_with_error(AmqpError(501, False, f"FRAME_ERROR - {error}"), None)
            self._is_framing_lost = True
            self._seek_close_ok(self._splitter.clear())

    def _on_frame(self, kind: int, number: int, data: bytes, start: int, end: int) -> bool:
        """Take a frame; False: not now."""
        if self._gate.waits_for_work:
            return False
        if number and self.state is ConnectionState.RUNNING:
            return self._table.on_frame(kind, number, data, start, end)
        if kind == frames.HEARTBEAT:
            if start != end:
                self.end_with_error(AmqpError(501, False, "FRAME_ERROR - type 8 with a payload"), None)
            return True
        if self.state is ConnectionState.CLOSING:
            if kind == frames.METHOD and data[start:end] == CLOSE_OK_FRAME[7:-1]:
                self._hang_up()
            return True
        if number or kind != frames.METHOD:
            text = (
                f"UNEXPECTED_FRAME - type {kind} on channel {number} in connection state {self.state.value}"
            )
            self.end_with_error(AmqpError(505, False, text), None)
            return True
        method = self.decode(data[start:end])
        if method is not None:
            self._on_method(method)
        return True

    def decode(self, payload: bytes) -> Method | None:
        """The method of a frame; None: it is none, and the connection ends with an error."""
        try:
            return decode_method(payload)
        except MethodDamaged as error:
            text = f"FRAME_ERROR - cannot decode {error}"
            self.end_with_error(AmqpError(501, False, text), error.kind())
        except UnknownMethod as error:
            self.end_with_error(AmqpError(540, False, f"NOT_IMPLEMENTED - {error}"), None)
        return None

    def reserve(self, count: int) -> bool:
        """Reserve memory for a part of a message; False: there is none now, and the client is not read."""
        if self.context.budget.reserve(self, count):
            return True
        self._gate.pause(PauseReason.MEMORY)
        return False

    def release_memory(self, count: int, *, is_all: bool) -> None:
        """See `ChannelOwner`."""
        self.context.budget.release(count)
        if is_all:
            self.context.budget.stop_waiting(self)

    @property
    def publishes(self) -> dict[bytes, BasicPublish]:
        """See `ChannelOwner`."""
        return self.context.publishes

    # --- the handshake

    def _greet(self, data: bytes) -> bytes:
        """Take the protocol header; what follows it."""
        missing = len(frames.PROTOCOL_HEADER) - len(self._tail)
        self._tail += data[:missing]
        if not any(header.startswith(self._tail) for header in frames.PROTOCOL_HEADERS):
            self.send(frames.PROTOCOL_HEADER)
            self._hang_up()
            return b""
        if len(self._tail) < len(frames.PROTOCOL_HEADER):
            return b""
        self.state = ConnectionState.LOGIN
        offered = " ".join(self._login.offered)
        context = self.context
        self.send_method(0, negotiation.start(offered, context.version, context.cluster_name))
        return data[missing:]

    def _on_method(self, method: Method) -> None:
        """A method on channel 0."""
        state = self.state
        if state is ConnectionState.LOGIN and isinstance(method, ConnectionStartOk):
            self._start_login(method)
        elif state is ConnectionState.TUNING and isinstance(method, ConnectionTuneOk):
            self._tune(method)
        elif state is ConnectionState.OPENING and isinstance(method, ConnectionOpen):
            self._gate.pause(PauseReason.WORK)
            self.start_task(self._open(method))
        elif state is not ConnectionState.LOGIN and isinstance(method, ConnectionClose):
            self._gate.pause(PauseReason.WORK)
            self.start_task(self._close_for_client())
        elif state is ConnectionState.RUNNING and isinstance(method, ConnectionUpdateSecret):
            self._update_secret(method)
        else:
            text = f"CHANNEL_ERROR - unexpected method in connection state {state.value}"
            self.end_with_error(AmqpError(504, False, text), method)

    def _start_login(self, method: ConnectionStartOk) -> None:
        self.client_properties = method.client_properties
        self.client_capabilities = negotiation.capabilities_of(method.client_properties)
        self._mechanism = method.mechanism
        if method.mechanism not in self._login.offered:
            self._finish_login(
                Promise.failed(AuthenticationFailed(f"no mechanism {method.mechanism[:32]!r}"))
            )
            return
        self._gate.pause(PauseReason.WORK)
        self._login.check(method.mechanism, method.response).then(self._finish_login)

    def _finish_login(self, result: Promise[LoggedIn]) -> None:
        if self.state is not ConnectionState.LOGIN:
            return
        if result.error is not None:
            reason = getattr(result.error, "reason", "") or str(result.error)
            self.context.warn("login", f"a login from {self._peers.client_host} failed: {reason}")
            self.context.clock.call_later(self.context.failed_login_s, self._refuse_login)
            return
        self._identify(result.result())
        limits = self.context.limits
        self.state = ConnectionState.TUNING
        self.send_method(0, ConnectionTune(limits.channel_max, limits.frame_max, limits.heartbeat_s))
        self._go_on(PauseReason.WORK)

    def _identify(self, identity: LoggedIn) -> None:
        label = self.client_properties.get("connection_name")
        self.user = identity.user
        self.is_password_login = identity.proves_password
        self.requester = Requester(
            principal=identity.principal,
            roles=identity.roles,
            host=self._peers.client_host,
            client_id=label[:255] if isinstance(label, str) else "",
        )
        self.throttle.requester = self.requester

    def _refuse_login(self) -> None:
        """RabbitMQ's answer, which does not say what was wrong; older clients only lose their connection."""
        if self.state is not ConnectionState.LOGIN:
            return
        if "authentication_failure_close" not in self.client_capabilities:
            self._hang_up()
            return
        text = (
            f"ACCESS_REFUSED - Login was refused using authentication mechanism {self._mechanism}."
            " For details see the broker logfile."
        )
        self.state = ConnectionState.TUNING
        self.end_with_error(AmqpError(403, False, text), None)

    def _tune(self, method: ConnectionTuneOk) -> None:
        try:
            negotiation.check_tune(method, self.context.limits)
        except AmqpError as error:
            self.end_with_error(error, method)
            return
        self.frame_max, self.channel_max = method.frame_max, method.channel_max
        self.heartbeat_s = method.heartbeat
        self._splitter.payload_max = method.frame_max - frames.OVERHEAD_BYTES
        self.state = ConnectionState.OPENING

    async def _open(self, method: ConnectionOpen) -> None:
        self.vhost = method.virtual_host
        try:
            work = await self.context.open_vhost(self, method.virtual_host)
        except AmqpError as error:
            self._gate.resume(PauseReason.WORK)
            self.end_with_error(error, method)
            return
        if self.state is not ConnectionState.OPENING:
            await work.close()
            return
        self._deliveries.work = work
        self.state = ConnectionState.RUNNING
        self._table.open(work)
        self.context.registry.add(self)
        self.send_method(0, ConnectionOpenOk())
        self._go_on(PauseReason.WORK)

    def _update_secret(self, method: ConnectionUpdateSecret) -> None:
        """A new password of the same user; see RabbitMQ's update-secret."""

        def checked(result: Promise[LoggedIn]) -> None:
            if result.error is None:
                self.send_method(0, ConnectionUpdateSecretOk())
            else:
                text = "NOT_ALLOWED - New secret was refused by one of the backends"
                self.fail(0, AmqpError(530, False, text), method)

        self._login.check_password(self.user, method.new_secret.decode(errors="replace")).then(checked)

    # --- the end

    def end_with_error(self, error: AmqpError, method: Method | None) -> None:
        """Close the connection with an error of the whole of it. `method`: what caused it."""
        if self.state in (ConnectionState.CLOSING, ConnectionState.CLOSED):
            return
        if self.state in (ConnectionState.GREETING, ConnectionState.LOGIN):
            self.context.warn("protocol", f"a client from {self._peers.client_host}: {error.text}")
            self._hang_up()
            return
        self.send_method(0, ConnectionClose(*close_fields(error, method)))
        self.state = ConnectionState.CLOSING
        self._closing_at = self.context.clock.monotonic()
        self._gate.resume_for_end()
        self.start_task(self._finish_work())

    async def _close_for_client(self) -> None:
        await self._finish_work()
        self.send(CLOSE_OK_FRAME)
        self._hang_up()

    async def _finish_work(self) -> None:
        work, self._deliveries.work = self._deliveries.work, None
        self._table.forget()
        self.context.budget.stop_waiting(self)
        if work is None:
            return
        try:
            await work.close()
        except Exception:
            log.exception("ending the work of a connection failed")
        finally:
            self.context.registry.remove(self)

    def _seek_close_ok(self, data: bytes) -> None:
        """Read on without frames, until the client answers the error."""
        data = self._tail + data
        if CLOSE_OK_FRAME in data:
            self._hang_up()
        self._tail = data[1 - len(CLOSE_OK_FRAME) :]

    def _hang_up(self) -> None:
        """Send what was written, then close the socket."""
        if self.state is not ConnectionState.CLOSED:
            self._out.flush()
            self.state = ConnectionState.CLOSED
            self._closing_at = self.context.clock.monotonic()
            self._transport.close()

    def _after_write(self) -> None:
        if self.is_sending_blocked and self._transport.unsent_bytes() > UNSENT_MAX_BYTES:
            self._gate.pause(PauseReason.UNSENT)

    def _go_on(self, reason: PauseReason) -> None:
        """Take the frames that waited."""
        self._gate.resume(reason)
        if self.state is not ConnectionState.CLOSED:
            self._split(None)
