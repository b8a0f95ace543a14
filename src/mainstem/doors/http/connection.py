"""One HTTP connection: uvicorn's protocol, with deadlines and with our own words.

Owns: how many connections there may be, how long a request may take to arrive and an answer to be taken, and
what is answered to bytes that are no request: problems, as everywhere. Refuses: to wait for ever for
anybody. Made by uvicorn for each connection; `server.py` hands it over.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import h11
import msgspec
from uvicorn.protocols.http.h11_impl import H11Protocol

from mainstem.doors.http.problem import KINDS, MEDIA, Problem
from mainstem.doors.http.security import HEADERS

if TYPE_CHECKING:
    from mainstem.clock import Clock, Timer

quiet = logging.getLogger("mainstem.http.wire")
quiet.setLevel(logging.ERROR)  # uvicorn would write a line for each stranger's byte

CONNECTIONS_MAX = 1_000
"""At once; more are answered 503 and closed."""
IDLE_TIMEOUT_S = 30.0
"""So long a connection without a request is kept."""
HEAD_TIMEOUT_S = 10.0
"""From the first byte of a request to the end of its headers."""
LINGER_S = 5.0
"""So long what still comes of a request that was answered already is thrown away."""
WRITE_TIMEOUT_S = 300.0
"""So long a client may take nothing of an answer: a person may be reading what it piped into a pager."""


class HttpConnection(H11Protocol):
    """uvicorn's connection with limits."""

    def __init__(self, clock: Clock, **given: Any) -> None:
        super().__init__(**given)
        self._clock = clock
        self.logger = quiet
        self._deadline: Timer | None = None
        self._in_head = False
        self._lingers = False
        self._write_deadline: Timer | None = None

    # --- what asyncio and uvicorn call --------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See asyncio."""
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS_MAX:
            self._refuse(Problem("crowded", f"there are {CONNECTIONS_MAX} connections already"))
        else:
            self._wait(IDLE_TIMEOUT_S, self._close)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        self._stop_waiting()
        self._unset_write_deadline()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        if self.transport.is_closing():
            return
        super().data_received(data)
        self._unset_write_deadline_if_taken()
        state = self.conn.their_state
        if state is h11.SEND_BODY and self._lingers:
            return
        self._lingers = False
        if state is h11.IDLE and self.conn.trailing_data[0]:
            if not self._in_head:
                self._in_head = True
                self._wait(HEAD_TIMEOUT_S, self._too_slow)
            return
        self._in_head = False
        if state is h11.IDLE:
            self._wait(IDLE_TIMEOUT_S, self._close)
        else:
            self._stop_waiting()

    def on_response_complete(self) -> None:
        """See uvicorn."""
        super().on_response_complete()
        self._guard_writing()
        if self.conn.their_state is h11.SEND_BODY:
            self._lingers = True
            self._wait(LINGER_S, self._close)

    def send_400_response(self, msg: str) -> None:
        """See uvicorn; called while h11's error is handled."""
        error = sys.exc_info()[1]
        if getattr(error, "error_status_hint", 400) == 431:
            self._refuse(Problem("head-too-large", str(error)))
        else:
            self._refuse(Problem("bad-request", str(error) if error is not None else msg))

    def pause_writing(self) -> None:
        """See asyncio: the client does not take what was written."""
        super().pause_writing()
        self._guard_writing()

    def resume_writing(self) -> None:
        """See asyncio: it took it."""
        super().resume_writing()
        self._unset_write_deadline()

    # --- deadlines ----------------------------------------------------------------------------------------

    def _wait(self, seconds: float, then: Callable[[], None]) -> None:
        self._stop_waiting()
        self._deadline = self._clock.call_later(seconds, then)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _close(self) -> None:
        self._guard_writing()  # closing waits for what is not taken yet
        self.transport.close()

    def _too_slow(self) -> None:
        self._refuse(Problem("slow-request", f"its headers took more than {HEAD_TIMEOUT_S:g} seconds"))

    def _guard_writing(self) -> None:
        if self._write_deadline is None and self.transport.get_write_buffer_size():
            self._write_deadline = self._clock.call_later(WRITE_TIMEOUT_S, self._abort)

    def _abort(self) -> None:
        if self.transport.get_write_buffer_size():
            self.transport.abort()

    def _unset_write_deadline_if_taken(self) -> None:
        if not self.transport.get_write_buffer_size():
            self._unset_write_deadline()

    def _unset_write_deadline(self) -> None:
        if self._write_deadline is not None:
            self._write_deadline.cancel()
            self._write_deadline = None

    # ------------------------------------------------------------------------------------------------------

    def _refuse(self, problem: Problem) -> None:
        """Answer with this problem and close. If an answer has begun, close only."""
        self._stop_waiting()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            if self.cycle is not None and not self.cycle.response_complete:
                self.cycle.disconnected = True  # what it answers is not sent any more
                self.cycle.message_event.set()
            body = msgspec.json.encode(problem.members())
            headers = {
                "content-type": MEDIA,
                "content-length": str(len(body)),
                "connection": "close",
                **HEADERS,
            }
            told = h11.Response(status_code=KINDS[problem.kind].status, headers=list(headers.items()))
            for event in (told, h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self._close()
