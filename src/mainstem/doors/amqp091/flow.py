"""The two directions of a connection's bytes: what it sends, gathered in a turn, and why it is not read.

Owns: `OutgoingFrames`, the gates and `PublishBlock`. Refuses: to gather more than FLUSH_BYTES, and to
read a client whose requests cannot be taken, whose messages cannot be stored, or who leaves replies unread.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING

from mainstem.doors.amqp091.control_methods import ConnectionBlocked, ConnectionUnblocked
from mainstem.doors.net.throttle import ByteThrottle

if TYPE_CHECKING:
    from mainstem.access_contract import Requester
    from mainstem.clock import Clock
    from mainstem.doors.amqp091.connection_context import AmqpTransport, ConnectionContext
    from mainstem.doors.amqp091.contract import AmqpConnection, VhostConnection
    from mainstem.doors.amqp091.method import Method

FLUSH_BYTES = 256 << 10
"""What is sent in a turn of the loop is written at once when it is more than this."""
UNSENT_MAX_BYTES = 4 << 20
"""A client that leaves this unread is not read: its requests would only make more replies."""
HELD_MAX_BYTES, HELD_LOW_BYTES = 8 << 20, 4 << 20
"""When channels hold more than HELD_MAX_BYTES of what the client sent, it is not read until at most
HELD_LOW_BYTES are."""

REASON_MAX = 200
"""Characters of the reason why a client is blocked: a short string has 255 bytes."""


class OutgoingFrames:
    """What a connection sends, written once a turn of the loop. `on_written` is called after each write."""

    __slots__ = (
        "_clock",
        "_is_due",
        "_on_written",
        "_pieces",
        "_size",
        "_transport",
        "has_sent",
        "sent_bytes",
    )

    def __init__(self, clock: Clock, transport: AmqpTransport, on_written: Callable[[], None]) -> None:
        self._clock = clock
        self._transport = transport
        self._on_written = on_written
        self._pieces: list[bytes] = []
        self._size = 0
        self._is_due = False
        self.has_sent = False
        """Whether something was written since this was set to False."""
        self.sent_bytes = 0

    def add(self, data: bytes) -> None:
        """Send whole frames."""
        self._pieces.append(data)
        self._size += len(data)
        if self._size > FLUSH_BYTES:
            self.flush()
        elif not self._is_due:
            self._is_due = True
            self._clock.call_soon(self._flush_due)

    def flush(self) -> None:
        """Write what was added."""
        if self._pieces:
            pieces, self._pieces = self._pieces, []
            self.sent_bytes += self._size
            self._size = 0
            self.has_sent = True
            self._transport.write(pieces)
            self._on_written()

    def clear(self) -> None:
        """Forget what was added and not written."""
        self._pieces.clear()
        self._size = 0

    def _flush_due(self) -> None:
        self._is_due = False
        self.flush()


class PauseReason(Enum):
    """Why a client is not read."""

    WORK = "the frames wait for a login, the opening or the end of the connection"
    MEMORY = "there is no memory for the message that is coming in"
    HELD = "channels hold much of what the client has sent"
    UNSENT = "the client leaves much unread"
    BLOCKED = "the client publishes, and no message can be stored"
    QUOTA = "the client has used more than its quota"


class ReadingGate:
    """Pauses the reading of a socket while there is a reason."""

    __slots__ = ("_held_bytes", "_reasons", "_transport", "waits_for_work")

    def __init__(self, transport: AmqpTransport) -> None:
        self._transport = transport
        self._reasons: set[PauseReason] = set()
        self._held_bytes = 0
        self.waits_for_work = False
        """Whether no frame may be taken now."""

    @property
    def is_closed(self) -> bool:
        """Whether the client is not read."""
        return bool(self._reasons)

    def pause(self, reason: PauseReason) -> None:
        """Stop reading."""
        if not self._reasons:
            self._transport.pause()
        self._reasons.add(reason)
        self.waits_for_work |= reason is PauseReason.WORK

    def resume(self, reason: PauseReason) -> None:
        """This reason holds no more."""
        if reason in self._reasons:
            self._reasons.remove(reason)
            self.waits_for_work = PauseReason.WORK in self._reasons
            if not self._reasons:
                self._transport.resume()

    def resume_for_end(self) -> None:
        """The connection ends: the client is read until it has answered, and nothing of what it publishes is
        taken."""
        for reason in (PauseReason.WORK, PauseReason.BLOCKED, PauseReason.QUOTA):
            self.resume(reason)

    def hold(self, count: int) -> None:
        """Channels keep `count` bytes more."""
        self._held_bytes += count
        if self._held_bytes > HELD_MAX_BYTES:
            self.pause(PauseReason.HELD)

    def release(self, count: int) -> None:
        """Channels keep `count` bytes less."""
        self._held_bytes -= count
        assert self._held_bytes >= 0, "no more is released than was held"
        if self._held_bytes <= HELD_LOW_BYTES:
            self.resume(PauseReason.HELD)


class PublishBlock:
    """Stops the reading of a client that publishes while no message can be stored
    (https://www.rabbitmq.com/docs/connection-blocked). One that only consumes is read on."""

    __slots__ = ("_connection", "_gate", "_refusal", "reason")

    def __init__(
        self, refusal: Callable[[], str | None], gate: ReadingGate, connection: AmqpConnection
    ) -> None:
        """`refusal`: why no message can be stored."""
        self._refusal = refusal
        self._gate = gate
        self._connection = connection
        self.reason: str | None = None
        """Why the client is blocked; None: it is not."""

    def may_publish(self) -> bool:
        """Whether the message that begins may be taken. If not, the client is blocked from now on."""
        reason = self._refusal()
        if reason is None:
            return True
        if self.reason is None:
            self.reason = reason
            self._gate.pause(PauseReason.BLOCKED)
            self._notify(ConnectionBlocked(reason[:REASON_MAX]))
        return False

    def has_ended(self) -> bool:
        """Whether the client was blocked until now."""
        if self.reason is None or self._refusal() is not None:
            return False
        self.reason = None
        self._notify(ConnectionUnblocked())
        return True

    def _notify(self, method: Method) -> None:
        if "connection.blocked" in self._connection.client_capabilities:
            self._connection.send_method(0, method)


class DeliveryGate:
    """Pauses the deliveries of a connection while there is a reason."""

    __slots__ = ("_reasons", "work")

    def __init__(self) -> None:
        self._reasons: set[PauseReason] = set()
        self.work: VhostConnection | None = None
        """The work behind the connection; None: it is not open."""

    @property
    def is_closed(self) -> bool:
        """Whether nothing is to be delivered."""
        return bool(self._reasons)

    def pause(self, reason: PauseReason) -> None:
        """Stop delivering."""
        if not self._reasons and self.work is not None:
            self.work.sending_blocked()
        self._reasons.add(reason)

    def resume(self, reason: PauseReason) -> None:
        """This reason holds no more."""
        if reason in self._reasons:
            self._reasons.remove(reason)
            if not self._reasons and self.work is not None:
                self.work.sending_resumed()


def throttle_of(
    context: ConnectionContext, requester: Requester, reading: ReadingGate, deliveries: DeliveryGate
) -> ByteThrottle:
    """Counts what a connection uses, and closes these gates while it is beyond its quotas."""
    return ByteThrottle(
        context.quotas,
        context.clock,
        requester,
        pause_reading=lambda: reading.pause(PauseReason.QUOTA),
        resume_reading=lambda: reading.resume(PauseReason.QUOTA),
        pause_sending=lambda: deliveries.pause(PauseReason.QUOTA),
        resume_sending=lambda: deliveries.resume(PauseReason.QUOTA),
    )
