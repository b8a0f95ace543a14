"""A channel, as its connection sees it: whether it is open, and the message that is coming in on it.

Owns: the order of publish, header and body frames (AMQP 0-9-1, 4.2.6), and the bytes of bodies that are not
whole. Refuses: frames out of order, and messages above the limit.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from mainstem.amqp.errors import AmqpError
from mainstem.amqp.field_tables import FieldTableError
from mainstem.amqp.properties_codec import decode_properties
from mainstem.doors.amqp091.frames import BASIC_CLASS, content_head

if TYPE_CHECKING:
    from mainstem.amqp.properties import Properties
    from mainstem.doors.amqp091.contract import ChannelHandler
    from mainstem.doors.amqp091.method import Method
    from mainstem.doors.amqp091.methods import BasicPublish


TEXT_MAX_BYTES = 255


class ChannelState(Enum):
    """How far a channel is."""

    OPEN = "open"
    CLOSING = "closing"
    """The client has closed it, and its work is being ended."""
    FAILED = "failed"
    """The server has closed it; whatever comes before the client's close-ok is ignored."""


def unexpected_frame(detail: str) -> AmqpError:
    """505, of the connection."""
    return AmqpError(505, False, f"UNEXPECTED_FRAME - {detail}")


def close_fields(error: AmqpError, method: Method | None) -> tuple[int, str, int, int]:
    """What channel.close and connection.close say of an error, and of the method that caused it."""
    text = error.text.encode("utf-8", "replace")[:TEXT_MAX_BYTES].decode("utf-8", "ignore")
    return error.code, text, *((method.CLASS_ID, method.METHOD_ID) if method is not None else (0, 0))


class ChannelEntry:
    """An open channel of a connection."""

    __slots__ = ("_partial", "_properties", "_size", "handler", "publish", "reserved_bytes", "state")

    def __init__(self, handler: ChannelHandler) -> None:
        self.handler = handler
        self.state = ChannelState.OPEN
        self.publish: BasicPublish | None = None
        """The method whose content is coming in."""
        self._properties: Properties | None = None
        self._size = 0
        self._partial = bytearray()
        self.reserved_bytes = 0
        """What its connection has reserved of the door's memory for the body so far."""

    @property
    def kept_bytes(self) -> int:
        """Bytes of a body that is not whole."""
        return len(self._partial)

    def header(self, data: bytes, start: int, end: int, size_max: int) -> None:
        """A header frame. AmqpError: it is damaged or out of place, or announces too large a message."""
        if self.publish is None or self._properties is not None:
            raise unexpected_frame("expected method frame, got non method frame instead")
        if end - start < content_head.size + 2:
            raise AmqpError(501, False, "FRAME_ERROR - a content header that ends early")
        class_id, _, size = content_head.unpack_from(data, start)
        if class_id != BASIC_CLASS:
            raise unexpected_frame(
                f"expected content header for class 60, got one for class {class_id} instead"
            )
        if size > size_max:
            raise AmqpError(
                406,
                True,
                f"PRECONDITION_FAILED - message size {size} is larger than configured max size {size_max}",
            )
        try:
            self._properties = decode_properties(data[start + content_head.size : end])
        except FieldTableError as error:
            raise AmqpError(502, False, f"SYNTAX_ERROR - {error}") from error
        self._size = size
        if not size:
            self._complete(b"")

    def missing_bytes(self, count: int) -> int:
        """How many bytes of the body are missing after `count` more; negative: there are too many."""
        return self._size - len(self._partial) - count

    def body(self, piece: bytes) -> None:
        """A body frame. AmqpError: it is out of place or too long, or the work refuses the message."""
        if self.publish is None:
            raise unexpected_frame("expected method frame, got non method frame instead")
        if self._properties is None:
            raise unexpected_frame(
                "expected content header for class 60, got non content header frame instead"
            )
        left = self.missing_bytes(len(piece))
        if left < 0:
            raise unexpected_frame("expected content body, got non content body frame instead")
        if not left and not self._partial:
            self._complete(piece)
            return
        self._partial += piece
        if not left:
            self._complete(bytes(self._partial))

    def forget_content(self) -> None:
        """Drop the message that is coming in."""
        self.publish = self._properties = None
        self._size = 0
        self._partial = bytearray()

    def _complete(self, body: bytes) -> None:
        publish, properties = self.publish, self._properties
        assert publish is not None, "a message has a method"
        assert properties is not None, "a message has a header"
        self.publish = self._properties = None
        if self._partial:
            self._partial = bytearray()
        self.handler.on_message(publish, properties, body)
