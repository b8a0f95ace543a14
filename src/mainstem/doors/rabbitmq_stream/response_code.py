"""The response codes of the stream protocol, and the errors that carry one.

Owns: `ResponseCode`, `CommandRefused`, `ConnectionRefused`, `code_of`. Refuses: to show a client more than a
code: the protocol has no text in replies.
"""

from __future__ import annotations

from enum import IntEnum

from mainstem.contract import (
    EventTooLarge,
    InvalidArgument,
    NotAllowed,
    StreamError,
    TopicExists,
    UnknownGroup,
    UnknownTopic,
)


class ResponseCode(IntEnum):
    """PROTOCOL.adoc, Response Codes."""

    OK = 0x01
    STREAM_DOES_NOT_EXIST = 0x02
    SUBSCRIPTION_ID_ALREADY_EXISTS = 0x03
    SUBSCRIPTION_ID_DOES_NOT_EXIST = 0x04
    STREAM_ALREADY_EXISTS = 0x05
    STREAM_NOT_AVAILABLE = 0x06
    SASL_MECHANISM_NOT_SUPPORTED = 0x07
    AUTHENTICATION_FAILURE = 0x08
    SASL_ERROR = 0x09
    SASL_CHALLENGE = 0x0A
    AUTHENTICATION_FAILURE_LOOPBACK = 0x0B
    VHOST_ACCESS_FAILURE = 0x0C
    UNKNOWN_FRAME = 0x0D
    FRAME_TOO_LARGE = 0x0E
    INTERNAL_ERROR = 0x0F
    ACCESS_REFUSED = 0x10
    PRECONDITION_FAILED = 0x11
    PUBLISHER_DOES_NOT_EXIST = 0x12
    NO_OFFSET = 0x13


class CommandRefused(Exception):
    """The command is answered with a code; the connection goes on."""

    def __init__(self, code: ResponseCode) -> None:
        super().__init__(code.name)
        self.code = code


class ConnectionRefused(Exception):
    """The connection ends. With a code the client is sent a Close first."""

    def __init__(self, reason: str, code: ResponseCode | None = None) -> None:
        super().__init__(reason)
        self.code = code


_CODES: tuple[tuple[type[Exception], ResponseCode], ...] = (
    (UnknownTopic, ResponseCode.STREAM_DOES_NOT_EXIST),
    (TopicExists, ResponseCode.STREAM_ALREADY_EXISTS),
    (UnknownGroup, ResponseCode.NO_OFFSET),
    (NotAllowed, ResponseCode.ACCESS_REFUSED),
    (InvalidArgument, ResponseCode.PRECONDITION_FAILED),
    (EventTooLarge, ResponseCode.PRECONDITION_FAILED),
    (StreamError, ResponseCode.STREAM_NOT_AVAILABLE),
)


def code_of(error: Exception) -> ResponseCode:
    """The code of a refusal or of an engine's error."""
    if isinstance(error, CommandRefused):
        return error.code
    for kind, code in _CODES:
        if isinstance(error, kind):
            return code
    return ResponseCode.INTERNAL_ERROR
