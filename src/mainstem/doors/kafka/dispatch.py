"""Decodes requests, runs their handlers and encodes the replies.

Owns: what all connections of the door share: handlers, buffers, limits, the context, the warnings about
clients; and the check of the rights that a whole request needs. Refuses: to let the exception of a handler
escape; it becomes a reply, or closes that connection.
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
from mainstem.doors.kafka.rights import RightDenied
from mainstem.doors.kafka.sasl import RAW_TOKEN
from mainstem.doors.kafka.throttling import Throttling
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


class Dispatcher:
    """Runs the requests of all connections of the door, with the handlers, buffers and limits that they
    share."""

    def __init__(
        self, context: HandlerContext, handlers: dict[int, Handler], warnings: WarningLog | None = None
    ) -> None:
        self.context = context
        self.handlers = handlers
        self.pool = BufferPool()
        settings = context.settings
        self._max_elements = settings.request_max_elements
        max_bytes = max(settings.queued_max_request_bytes, settings.socket_request_max_bytes)
        self.receiving = MemoryBudget(
            context.clock, max(max_bytes - settings.socket_request_max_bytes, max_bytes // 4)
        )
        """Bytes of requests that have not arrived whole. One connection may exceed it to finish its frame."""
        self.in_flight = InFlightLimit(context.clock, max_bytes)
        """Bytes of Produce requests that wait for their commit, and of replies that wait behind them."""
        self.parked = InFlightLimit(context.clock, max_bytes)
        """Bytes of memory that other requests hold while they wait for events or for members of their
        group."""
        self._throttling = Throttling(context.access.quotas)
        self._flexible_from = {key: api(key).request.flexible for key in handlers}
        self.warnings = warnings or WarningLog(context.clock, log)
        context.handlers = handlers

    @property
    def refusals(self) -> dict[str, int]:
        """How often each kind of warning occurred, logged or not."""
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
        self, handler: Handler | None, request: Request, frame: memoryview, position: int
    ) -> HandlerResult:
        """Decode the rest of the frame, from `position` behind the client id, and run the handler.
        ProtocolError and CloseConnection end the connection."""
        if not self._throttling.is_on:
            return self._run_handler(handler, request, frame, position)
        began_s = self.clock.monotonic()
        try:
            return self._run_handler(handler, request, frame, position)
        finally:
            request.busy_s = self.clock.monotonic() - began_s

    def _run_handler(
        self, handler: Handler | None, request: Request, frame: memoryview, position: int
    ) -> HandlerResult:
        key, version = request.key, request.version
        if handler is None:
            raise CloseConnection(f"API key {key} is not offered (docs/KAFKA.md lists those that are)")
        if not handler.versions[0] <= version <= handler.versions[1]:
            if handler.on_unsupported_version is None:
                low, high = handler.versions
                raise CloseConnection(f"API key {key} is offered in versions {low}-{high}, not in {version}")
            return handler.on_unsupported_version(self.context, request, frame[position:])
        if version >= self._flexible_from[key]:
            try:
                position = read_tags(frame, position, {}, {})
            except IndexError:
                raise ProtocolError("the frame ends inside the request header") from None
        if handler.body_offset_quirk is not None:
            position = handler.body_offset_quirk(version, frame, position)
        request.body = decode_request(key, version, frame, position, max_elements=self._max_elements)
        try:
            for right in handler.whole_rights:
                assert right.name_of is not None, "a right of the whole request names one resource"
                if not self.context.allows(request, right, right.name_of(request.body)):
                    return self._error_reply(request, RightDenied(right))
            return handler.handle(self.context, request)
        except CloseConnection:
            raise
        except Exception as error:
            return self._error_reply(request, error)

    def encode(self, request: Request, reply: Reply) -> list[Buffer] | None:
        """The frame of a reply; empty if there is no reply; None: the connection has to be closed. Client
        quotas count it."""
        if self._throttling.is_on:
            reply = self._throttling.charge(request, reply)
        if reply is None:
            return []
        try:
            if isinstance(reply, Message):
                return encode_reply(request.key, request.version, request.correlation_id, reply)
            if request.key == RAW_TOKEN:
                return reply
            return frame_reply(request.key, request.version, request.correlation_id, reply)
        except Exception:
            log.exception(
                "the reply to API key %d version %d cannot be encoded; the connection is closed",
                request.key,
                request.version,
            )
            return None

    def encode_promised(self, request: Request, reply: Promise[Any]) -> list[Buffer] | None:
        """As `encode`, for a promise that is done: the reply is its value or, if it failed, an error."""
        error = reply.error
        if error is None:
            return self.encode(request, reply.result())
        if isinstance(error, CloseConnection):
            return None
        try:
            return self.encode(request, self._error_reply(request, error))
        except CloseConnection:
            return None

    def _error_reply(self, request: Request, error: BaseException) -> Message:
        """The reply with the error code of an exception. CloseConnection if the reply has no such field."""
        if not is_refusal(error):
            log.error(
                "request with API key %d version %d from %s failed unexpectedly",
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
    """The reply's error message, if it has the field and the error is not a fault of the server."""
    if code is ErrorCode.UNKNOWN_SERVER_ERROR:
        return {}
    for field in api(request.key).response.fields:
        if field.name == "error_message" and field.in_version(request.version):
            return {"error_message": str(error)}
    return {}
