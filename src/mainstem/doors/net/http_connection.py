"""One HTTP connection of any door that speaks HTTP: uvicorn's protocol with deadlines.

Owns: the maximum number of connections, how long a request may take to arrive and a response to be read, and
the response to bytes that are not HTTP, whose form the door decides. Refuses: to wait for a client without a
deadline. A door creates one object for each connection.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    from mainstem.clock import Clock, Timer
    from mainstem.doors.net.accepted import AcceptedConnection
    from mainstem.doors.net.warning_log import WarningLog

uvicorn_log = logging.getLogger("mainstem.http.wire")
uvicorn_log.setLevel(logging.ERROR)  # uvicorn would write a line for every malformed request

CONNECTIONS_MAX = 1_000
"""Maximum number of open connections; a further one gets a 503 and is closed."""
IDLE_TIMEOUT_S = 30.0
"""How long a connection without a request is kept open."""
HEAD_TIMEOUT_S = 10.0
"""Maximum time from the first byte of a request to the end of its headers."""
LINGER_S = 5.0
"""How long the rest of a request is read and discarded if its response was sent before it had arrived."""
UNREAD_BYTES_MAX = 128 << 20
"""Bytes of responses that all clients together may leave unread. Beyond it the client that has read nothing
for the longest time is disconnected."""
WRITE_TIMEOUT_S = 300.0
"""How long a client may read nothing of a response. It is long because a person may have piped the response
into a pager."""


class UnreadResponses:
    """What the clients of all connections have not read of their responses."""

    def __init__(self, warnings: WarningLog) -> None:
        self._warnings = warnings
        self._connections: dict[BoundedHttpConnection, None] = {}
        """Connections whose client does not read, beginning with the one that has not for the longest."""

    def add(self, connection: BoundedHttpConnection) -> None:
        """The client of this connection has stopped to read. Beyond UNREAD_BYTES_MAX, end connections."""
        self._connections[connection] = None
        unread_bytes = sum(other.unread_bytes for other in self._connections)
        for other in list(self._connections):
            if unread_bytes <= UNREAD_BYTES_MAX:
                break
            unread_bytes -= other.unread_bytes
            self._warnings.warn("unread", "a client does not read its response, and others neither: closed")
            other.abort()

    def remove(self, connection: BoundedHttpConnection) -> None:
        """The client of this connection has read, or is gone."""
        self._connections.pop(connection, None)


RefusalKind: TypeAlias = Literal["crowded", "slow-request", "head-too-large", "bad-request"]
"""Why a connection is closed before, or in the place of, a response of the application."""


class HttpRefusal(NamedTuple):
    """The response to what is refused."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class BoundedHttpConnection(H11Protocol):
    """One client's connection: uvicorn's HTTP/1.1 protocol with deadlines and a maximum number of
    connections. A door says by `refusal` how its refusals look."""

    def __init__(
        self,
        clock: Clock,
        unread: UnreadResponses,
        accepted: AcceptedConnection,
        **protocol_arguments: Any,
    ) -> None:
        super().__init__(**protocol_arguments)
        self._accepted = accepted
        self._clock = clock
        self._unread = unread
        self.logger = uvicorn_log
        self._deadline: Timer | None = None
        self._in_head = False
        self._lingers = False
        self._write_deadline: Timer | None = None

    def refusal(self, kind: RefusalKind, detail: str) -> HttpRefusal:
        """The response to what is refused."""
        raise NotImplementedError

    # --- called by asyncio and uvicorn --------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Called by asyncio when a client has connected."""
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS_MAX:
            self._refuse("crowded", f"there are {CONNECTIONS_MAX} connections already")
        else:
            self._set_deadline(IDLE_TIMEOUT_S, self._close)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio when the connection is closed."""
        self._accepted.closed()
        self._unread.remove(self)
        self._cancel_deadline()
        self._cancel_write_deadline()
        if self.transport is not None:  # else the client was gone before it was served
            super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Called by asyncio with bytes from the client."""
        if self.transport.is_closing():
            return
        super().data_received(data)
        self._cancel_write_deadline_if_read()
        state = self.conn.their_state
        if state is h11.SEND_BODY and self._lingers:
            return
        self._lingers = False
        if state is h11.IDLE and self.conn.trailing_data[0]:
            if not self._in_head:
                self._in_head = True
                self._set_deadline(HEAD_TIMEOUT_S, self._refuse_slow_head)
            return
        self._in_head = False
        if state is h11.IDLE:
            self._set_deadline(IDLE_TIMEOUT_S, self._close)
        else:
            self._cancel_deadline()

    def on_response_complete(self) -> None:
        """Called by uvicorn when a response has been sent."""
        super().on_response_complete()
        self._set_write_deadline()
        if self.conn.their_state is h11.SEND_BODY:
            self._lingers = True
            self._set_deadline(LINGER_S, self._close)

    def send_400_response(self, msg: str) -> None:
        """Called by uvicorn for malformed bytes, while h11's error is being handled."""
        error = sys.exc_info()[1]
        if getattr(error, "error_status_hint", 400) == 431:
            self._refuse("head-too-large", str(error))
        else:
            self._refuse("bad-request", str(error) if error is not None else msg)

    def pause_writing(self) -> None:
        """Called by asyncio when the client does not read what was written."""
        super().pause_writing()
        self._set_write_deadline()
        self._unread.add(self)

    def resume_writing(self) -> None:
        """Called by asyncio when the client has read it."""
        super().resume_writing()
        self._cancel_write_deadline()
        self._unread.remove(self)

    @property
    def unread_bytes(self) -> int:
        """Bytes of responses that the client has not read."""
        return int(self.transport.get_write_buffer_size())

    def abort(self) -> None:
        """Close the connection without waiting for the client."""
        self._unread.remove(self)
        self.transport.abort()

    # --- deadlines ----------------------------------------------------------------------------------------

    def _set_deadline(self, seconds: float, on_timeout: Callable[[], None]) -> None:
        self._cancel_deadline()
        self._deadline = self._clock.call_later(seconds, on_timeout)

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _close(self) -> None:
        self._set_write_deadline()  # closing waits until the client has read everything
        self.transport.close()

    def _refuse_slow_head(self) -> None:
        self._refuse("slow-request", f"its headers took longer than {HEAD_TIMEOUT_S:g} seconds")

    def _set_write_deadline(self) -> None:
        if self._write_deadline is None and self.unread_bytes:
            self._write_deadline = self._clock.call_later(WRITE_TIMEOUT_S, self._abort_if_unread)

    def _abort_if_unread(self) -> None:
        if self.unread_bytes:
            self.abort()

    def _cancel_write_deadline_if_read(self) -> None:
        if not self.unread_bytes:
            self._cancel_write_deadline()

    def _cancel_write_deadline(self) -> None:
        if self._write_deadline is not None:
            self._write_deadline.cancel()
            self._write_deadline = None

    # ------------------------------------------------------------------------------------------------------

    def _refuse(self, kind: RefusalKind, detail: str) -> None:
        """Send this refusal and close. If a response has begun, only close."""
        self._cancel_deadline()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            if self.cycle is not None and not self.cycle.response_complete:
                self.cycle.disconnected = True  # the response of the running request is discarded
                self.cycle.message_event.set()
            status, given, body = self.refusal(kind, detail)
            headers = {"content-length": str(len(body)), "connection": "close", **given}
            head = h11.Response(status_code=status, headers=list(headers.items()))
            for event in (head, h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self._close()
