"""The place of a request in the order of its connection's replies.

Owns: what a connection remembers of a request until its reply is sent. Refuses: the order itself
(`connection.py`).
"""

from __future__ import annotations

from mainstem.doors.kafka.handler import Request
from mainstem.kafka_protocol.message import Buffer


class ReplySlot:
    """The place of a request in the order of replies, until its reply is sent."""

    __slots__ = ("pieces", "pipelined", "request", "size")

    def __init__(self, request: Request, size: int, pipelined: bool) -> None:
        self.request: Request | None = request
        """The request; None once its handler has replied."""
        self.size = size
        self.pipelined = pipelined
        self.pieces: list[Buffer] | None = None
        """The encoded reply; None until the handler has replied."""
