"""Serves the sockets of the Kafka door.

Owns: one object for each socket, the timeouts of idle and stuck connections, draining at the end. Refuses: to
wait for ever for a request, for the rest of one, or for a client to read its replies. The limits on
connections are in doors/net; everything about the protocol is in connection.py, which knows no socket.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from mainstem.doors.kafka.connection import KafkaConnection
from mainstem.doors.kafka.dispatch import Dispatcher
from mainstem.doors.kafka.handler import HandlerContext
from mainstem.doors.kafka.handlers import discover
from mainstem.doors.kafka.sasl import SaslSession
from mainstem.doors.kafka.share_sessions import ShareSessions
from mainstem.doors.net.client_socket import ClientSocket
from mainstem.doors.net.client_sockets import ClientSockets
from mainstem.share_contract import BatchQueues, OffersBatchQueues

if TYPE_CHECKING:
    from mainstem.doors.contract import Access, DoorContext, Listener, MetricSample
    from mainstem.doors.net.accepted import AcceptedConnection
    from mainstem.doors.net.warning_log import WarningLog
    from mainstem.node import Node

log = logging.getLogger("mainstem.kafka")

UNSENT_HIGH_BYTES = 256 << 10
UNSENT_LOW_BYTES = 64 << 10
"""When more than UNSENT_HIGH_BYTES of replies to a client are unsent, none of its further requests is started
until at most UNSENT_LOW_BYTES are."""
STUCK_SECONDS = 30.0
"""A client that leaves replies unread, and reads less than 64 KB of them in this time, is disconnected."""
PARTIAL_SECONDS = 60.0
PRESSED_SECONDS = 10.0
"""How long a connection may leave a frame unfinished without sending another 64 KB of it. PRESSED_SECONDS
holds if other connections wait for memory and this one holds much of it."""
PROGRESS_BYTES = 64 << 10
SWEEP_SECONDS = 5.0
DRAIN_SECONDS = 10.0


class KafkaSocket(ClientSocket, asyncio.BufferedProtocol):
    """One accepted socket: passes bytes to the connection, and replies to the transport."""

    __slots__ = (
        "_connection",
        "_door",
        "_listener",
        "accepted_at",
        "progress",
        "stalled_since",
        "unsent",
    )

    def __init__(self, door: KafkaDoor, listener: Listener, accepted: AcceptedConnection) -> None:
        super().__init__(accepted)
        self._door = door
        self._listener = listener
        self._connection: KafkaConnection | None = None
        self.accepted_at = self.stalled_since = door.dispatcher.clock.monotonic()
        self.unsent: tuple[float, int] = (0.0, 0)
        """Since when the client reads too little, and how much was unsent when that was first seen."""
        self.progress: tuple[float, int] = (0.0, 0)
        """When the last whole frame arrived, and how much of the next one had arrived when that last grew
        noticeably."""

    # --- asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self._door.sockets.is_closing:
            transport.abort()  # type: ignore[attr-defined] # uvloop's and ours are no asyncio.Transport
            return
        self.opened(transport, UNSENT_HIGH_BYTES, UNSENT_LOW_BYTES)
        peer = self.peer
        self._connection = KafkaConnection(
            self._door.dispatcher, self, self._listener.advertised, peer, self._accepted.principal
        )
        if self._listener.security.authenticates:
            self._connection.sasl = self._door.new_session(
                self._listener, self._connection, peer.rpartition(":")[0]
            )

    def get_buffer(self, sizehint: int) -> memoryview:
        try:
            assert self._connection is not None, "no bytes are received outside the life of a connection"
            return self._connection.receive_buffer()
        except Exception:
            # uvloop drops the exception and reports only that there was one.
            log.exception("receiving from a client failed: its connection is closed")
            raise

    def buffer_updated(self, nbytes: int) -> None:
        assert self._connection is not None
        self._connection.received(nbytes)

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        if self._connection is not None and self._transport is not None:
            self._connection.sending_blocked()
            self._door.sockets.note_unsent(self, self.unsent_bytes())

    def resume_writing(self) -> None:
        self._door.sockets.note_unsent(self, 0)
        if self._connection is not None:
            self._connection.sending_resumed()

    def connection_lost(self, exc: Exception | None) -> None:
        self._door.sockets.remove(self)
        self.lost()
        if self._connection is not None:
            self._connection.lost()
        self._connection = None

    # --- ClientSocket

    def task_failed(self, error: BaseException) -> None:
        raise AssertionError("no tasks are started for a Kafka client")

    # --- the door's side

    @property
    def password_user(self) -> str | None:
        """The user whose password the client has authenticated with; None if it did not, or with a token."""
        session = None if self._connection is None else self._connection.sasl
        identity = None if session is None else session.identity
        return identity.principal.name if identity is not None and identity.expires_at_ms is None else None

    def drain(self) -> None:
        """Finish what is being committed, then close."""
        if self._connection is not None:
            self._connection.drain()

    def end_reason(self, now: float) -> str | None:
        """Why this connection has to be closed now; empty: it was only idle, which is not logged. None: it
        may stay."""
        connection = self._connection
        if connection is None:
            return None
        idle_s = now - connection.last_activity_at
        if connection.is_closed:
            return (
                f"did not read the last replies within {STUCK_SECONDS:.0f} s"
                if idle_s > STUCK_SECONDS
                else None
            )
        if connection.blocked_since is not None:
            return self._unread_reason(connection, connection.blocked_since, now)
        settings = self._door.dispatcher.settings
        if (
            not connection.has_sent_request
            and now - self.accepted_at > settings.first_request_timeout_ms / 1000
        ):
            began = connection.partial_frame_bytes is not None
            return f"has sent no request in {settings.first_request_timeout_ms} ms" if began else ""
        if connection.sasl is not None:
            reason = self._session_reason(connection, connection.sasl, now)
            if reason is not None:
                return reason
        stalled = self._stalled_reason(connection, now)
        if stalled is None and connection.is_idle and idle_s > settings.connections_max_idle_ms / 1000:
            return ""
        return stalled

    def _session_reason(self, connection: KafkaConnection, session: SaslSession, now: float) -> str | None:
        """As `end_reason`, for a client that has not authenticated, or not again."""
        limit_ms = self._door.dispatcher.settings.first_request_timeout_ms
        if session.identity is None and now - self.accepted_at > limit_ms / 1000:
            return f"has not authenticated in {limit_ms} ms"
        if session.is_expired and not connection.is_idle:
            return "waits for a reply beyond the end of its session"
        return None

    def _unread_reason(self, connection: KafkaConnection, since: float, now: float) -> str | None:
        """As `end_reason`, for a client that does not read its replies."""
        unsent = self.unsent_bytes()
        seen_since, before = self.unsent
        if seen_since != since:
            self.unsent = since, unsent
        elif now - since >= STUCK_SECONDS:
            if unsent > before - UNSENT_LOW_BYTES:
                return f"has not read for {STUCK_SECONDS:.0f} s"
            connection.blocked_since, self.unsent = now, (now, unsent)
        return None

    def _stalled_reason(self, connection: KafkaConnection, now: float) -> str | None:
        """As `end_reason`, for a client that has sent only a part of a frame."""
        size, progress_bytes = connection.partial_frame_bytes, PROGRESS_BYTES
        if size is None and self._door.dispatcher.receiving.is_contended:
            # It waits for memory, and keeps what it holds from others.
            size, progress_bytes = connection.held_bytes or None, 1
        activity_at, size_before = self.progress
        has_grown = size is not None and size >= size_before + progress_bytes
        if size is None or connection.last_activity_at != activity_at or has_grown:
            if has_grown:
                connection.last_activity_at = now
            self.progress, self.stalled_since = (connection.last_activity_at, size or 0), now
            return None
        if connection.partial_frame_bytes is None or now - self.stalled_since < PARTIAL_SECONDS:
            return None
        return f"has not finished a frame in {PARTIAL_SECONDS:.0f} s"

    def unused_memory_bytes(self, now: float) -> int:
        """Bytes of the budget `Dispatcher.receiving` that this connection holds, if it has received nothing
        noticeable for PRESSED_SECONDS; else 0."""
        if self._connection is None or now - self.stalled_since < PRESSED_SECONDS:
            return 0
        return self._connection.held_bytes


class KafkaDoor:
    """Serves the Kafka protocol on the connections that it is given."""

    def __init__(
        self,
        node: Node,
        access: Access,
        warnings: WarningLog | None = None,
        queues: BatchQueues | None = None,
    ) -> None:
        sessions = None if queues is None else ShareSessions(queues)
        if sessions is not None:
            node.share_groups.on_member_gone.append(sessions.end_of_member)
        context = HandlerContext(node=node, access=access, share_sessions=sessions)
        self.dispatcher = Dispatcher(context, discover(), warnings)
        self.sockets = ClientSockets[KafkaSocket](
            self.dispatcher.clock,
            SWEEP_SECONDS,
            KafkaSocket.end_reason,
            self.dispatcher.warn_rate_limited,
            self._free_memory,
        )
        access.admin.on_user_deleted.append(self._on_user_deleted)

    # --- OpenDoor, see doors/contract.py

    @property
    def connections(self) -> int:
        return len(self.sockets)

    def accept(self, connection: AcceptedConnection, listener: Listener) -> None:
        self.sockets.accept(connection, KafkaSocket(self, listener, connection))

    @property
    def http_app(self) -> None:
        return None

    def problems(self) -> Sequence[str]:
        return ()

    def metric_samples(self) -> Iterator[MetricSample]:
        yield "kafka_server_socket_server_metrics_connection_count", (), len(self.sockets)
        for kind, count in self.dispatcher.refusals.items():
            yield "mainstem_kafka_refusals_total", (kind,), count

    async def drain(self) -> None:
        self.sockets.stop_sweeping()
        self.sockets.is_closing = True
        for client in self.sockets:
            client.drain()
        await self.sockets.until_empty(DRAIN_SECONDS)

    async def close(self) -> None:
        self.sockets.abort_all()
        self.dispatcher.context.access_changes.close()
        await asyncio.sleep(0)

    # --- authentication

    def new_session(self, listener: Listener, connection: KafkaConnection, host: str) -> SaslSession:
        """The authentication of a connection to a listener that asks for one."""
        context = self.dispatcher.context
        return SaslSession(
            context.access.authentication,
            context.settings,
            context.clock,
            listener.mechanisms,
            host,
            connection,
        )

    def _on_user_deleted(self, name: str) -> None:
        """Disconnect the clients that authenticated with the password of this user."""

        def visit(client: KafkaSocket) -> None:
            if client.password_user == name:
                client.abort()

        self.sockets.in_turns(visit)

    def _free_memory(self) -> None:
        """If connections wait for memory: end those that hold much of it and make no use of it."""
        receiving = self.dispatcher.receiving
        if not receiving.is_contended:
            return
        now = self.dispatcher.clock.monotonic()
        by_memory = sorted(
            ((client.unused_memory_bytes(now), id(client), client) for client in self.sockets), reverse=True
        )
        left_bytes = receiving.used_bytes
        for held_bytes, _, client in by_memory:
            if not held_bytes or left_bytes <= receiving.max_bytes // 2:
                break
            left_bytes -= held_bytes
            self.dispatcher.warn_rate_limited(
                "memory", "a client holds memory for a frame and sends no more: connection closed"
            )
            client.abort()


async def open_door(context: DoorContext) -> KafkaDoor:
    """Create the Kafka door. The server calls this through `Door.load`."""
    assert context.node is not None, "the Kafka door needs the node"
    engine = context.engine
    queues = engine.batch_queues if isinstance(engine, OffersBatchQueues) else None
    return KafkaDoor(context.node, context.access, context.warnings, queues)
