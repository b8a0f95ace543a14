"""From a request's bytes to its handler, and from the handler's answer to bytes.

Owns: what all connections share: handlers, buffers, the context, the lines in the log about bad clients.
Refuses: to let a handler's exception out; every one becomes a reply or the end of that connection. Called
by connection.py.
"""

from __future__ import annotations

import logging
from typing import Any

from mainstem.clock import Clock
from mainstem.doors.kafka.errors import ErrorCode, code_of, is_refusal
from mainstem.doors.kafka.frame import BufferPool
from mainstem.doors.kafka.handler import (
    CloseConnection,
    Handler,
    HandlerContext,
    HandlerResult,
    Reply,
    Request,
)
from mainstem.doors.net.limits import InFlightLimit, MemoryBudget
from mainstem.doors.net.warning_log import WarningLog
from mainstem.kafka_protocol.message import (
    Buffer,
    Message,
    ProtocolError,
    decode_request,
    encode_reply,
    frame_reply,
)
from mainstem.kafka_protocol.reader import read_tags
from mainstem.kafka_protocol.schema import api
from mainstem.promise import Promise
from mainstem.settings import Settings

log = logging.getLogger("mainstem.kafka")

API_VERSIONS = 18


class Dispatcher:
    """What the connections of a door share."""

    def __init__(
        self, context: HandlerContext, handlers: dict[int, Handler], warnings: WarningLog | None = None
    ) -> None:
        self.context = context
        self.handlers = handlers
        self.pool = BufferPool()
        settings = context.settings
        self._max_elements = settings.request_max_elements
        most = max(settings.queued_max_request_bytes, settings.socket_request_max_bytes)
        self.receiving = MemoryBudget(context.clock, max(most - settings.socket_request_max_bytes, most // 4))
        """Memory of requests that have not come whole. One connection may go beyond it to finish a frame."""
        self.in_flight = InFlightLimit(context.clock, most)
        """Produce requests that wait for their commit, and replies that wait behind them."""
        self.parked = InFlightLimit(context.clock, most)
        """What other requests hold while they wait: for events, for members of their group."""
        self._flexible_from = {key: api(key).request.flexible for key in handlers}
        self.warnings = warnings or WarningLog(context.clock, log)
        context.handlers = handlers

    @property
    def refusals(self) -> dict[str, int]:
        """How often each kind of warning had its reason."""
        return self.warnings.counts

    @property
    def clock(self) -> Clock:
        return self.context.clock

    @property
    def settings(self) -> Settings:
        return self.context.settings

    def warn_rate_limited(self, kind: str, text: str) -> None:
        """Log a warning about a client, see `WarningLog.warn`."""
        self.warnings.warn(kind, text)

    def run_handler(
        self, handler: Handler | None, request: Request, frame: memoryview, at: int
    ) -> HandlerResult:
        """Decode the body, which begins at `at` behind the client id, and run the handler. ProtocolError,
        CloseConnection."""
        key, version = request.key, request.version
        if handler is None:
            raise CloseConnection(f"API key {key} is not offered")
        if not handler.versions[0] <= version <= handler.versions[1]:
            if handler.on_unsupported_version is None:
                raise CloseConnection(f"API key {key} is not offered in version {version}")
            return handler.on_unsupported_version(self.context, request, frame[at:])
        if version >= self._flexible_from[key]:
            try:
                at = read_tags(frame, at, {}, {})
            except IndexError:
                raise ProtocolError("the frame ends inside its header") from None
        if handler.body_offset_quirk is not None:
            at = handler.body_offset_quirk(version, frame, at)
        request.body = decode_request(key, version, frame, at, max_elements=self._max_elements)
        try:
            return handler.handle(self.context, request)
        except CloseConnection:
            raise
        except Exception as error:
            return self._refusal(request, error)

    def encode(self, request: Request, reply: Reply) -> list[Buffer] | None:
        """The frame of a reply; empty if there is none; None: close."""
        if reply is None:
            return []
        try:
            if isinstance(reply, Message):
                return encode_reply(request.key, request.version, request.correlation_id, reply)
            return frame_reply(request.key, request.version, request.correlation_id, reply)
        except Exception:
            log.exception(
                "the reply to API key %d version %d cannot be encoded", request.key, request.version
            )
            return None

    def encode_promised(self, request: Request, later: Promise[Any]) -> list[Buffer] | None:
        """As `encode`, for a reply that came later, or failed."""
        error = later.error
        if error is None:
            return self.encode(request, later.result())
        if isinstance(error, CloseConnection):
            return None
        try:
            return self.encode(request, self._refusal(request, error))
        except CloseConnection:
            return None

    def _refusal(self, request: Request, error: BaseException) -> Message:
        """The reply that says what an exception means. CloseConnection if the message has no place for it."""
        if not is_refusal(error):
            log.error(
                "API key %d version %d from %s failed",
                request.key,
                request.version,
                request.peer,
                exc_info=error,
            )
        code = code_of(error)
        handler = self.handlers[request.key]
        if handler.on_error is not None:
            return handler.on_error(request, code)
        for field in api(request.key).response.fields:
            if field.name == "error_code" and field.in_version(request.version):
                return Message(error_code=int(code), **_error_message(request, error, code))
        raise CloseConnection(f"API key {request.key} failed with {code.name}")


def _error_message(request: Request, error: BaseException, code: ErrorCode) -> dict[str, str]:
    """The text for the user, where the reply has a place for one and it is not an inner matter."""
    if code is ErrorCode.UNKNOWN_SERVER_ERROR:
        return {}
    for field in api(request.key).response.fields:
        if field.name == "error_message" and field.in_version(request.version):
            return {"error_message": str(error)}
    return {}
