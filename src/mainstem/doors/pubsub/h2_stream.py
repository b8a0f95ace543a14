"""A stream of HTTP/2: its windows, what is to be sent on it, and the calls by which it is answered.

Owns: the state of one stream. Refuses: the order of frames of several streams, which is `h2_sender.py`'s.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol, TypeAlias

from mainstem.doors.pubsub.frames import H2Error

Buffer: TypeAlias = "bytes | memoryview"


class StreamUser(Protocol):
    """What a request is given to. No method may raise."""

    def on_data(self, data: bytes, *, is_last: bool) -> None:
        """A part of the body; it may be empty if it is the last. Who has taken `data` calls
        `H2Stream.consumed`."""

    def on_reset(self) -> None:
        """The client has given the request up, or the connection is lost. Nothing can be sent any more."""

    def on_room(self) -> None:
        """All that was sent is with the socket: more may be."""


class StreamOwner(Protocol):
    """What a stream uses of its connection."""

    def send_headers(self, stream: H2Stream, block: bytes, *, ends_stream: bool) -> None: ...

    def send_data(self, stream: H2Stream) -> None: ...

    def reset(self, stream: H2Stream, code: H2Error) -> None: ...

    def credit(self, stream: H2Stream, count: int) -> None: ...


class H2Stream:
    """One request and its response."""

    __slots__ = (
        "body_left",
        "client_ended",
        "connection",
        "end_block",
        "id",
        "is_closed",
        "is_queued",
        "is_waited_for",
        "pending",
        "pending_bytes",
        "receive_window",
        "send_window",
        "uncredited",
        "user",
    )

    def __init__(self, connection: StreamOwner, id_: int, send_window: int, receive_window: int) -> None:
        self.connection = connection
        self.id = id_
        self.user: StreamUser | None = None
        self.send_window = send_window
        self.receive_window = receive_window
        self.uncredited = 0
        """Bytes that were consumed, and for which the window was not raised yet."""
        self.body_left: int | None = None
        """What is missing of the body, as content-length has it; None: it is not known."""
        self.client_ended = False
        self.is_closed = False
        self.pending: deque[Buffer] = deque()
        self.pending_bytes = 0
        self.end_block: bytes | None = None
        """The headers that follow what is pending; empty: the last DATA frame ends the stream."""
        self.is_queued = False
        """Whether it is among those that send in turn."""
        self.is_waited_for = False
        """Whether `on_room` is to be called when nothing is pending."""

    def respond(self, block: bytes, *, ends_stream: bool = False) -> None:
        """Send the headers of the response, encoded."""
        if not self.is_closed:
            self.connection.send_headers(self, block, ends_stream=ends_stream)

    def send(self, data: bytes) -> None:
        """Send a part of the body as soon as the windows allow."""
        if not self.is_closed and data:
            self.pending.append(data)
            self.pending_bytes += len(data)
            self.connection.send_data(self)

    def end(self, block: bytes = b"") -> None:
        """End the stream behind what is pending, with these headers, encoded."""
        if self.is_closed:
            return
        if block and not self.pending_bytes:
            self.connection.send_headers(self, block, ends_stream=True)
            return
        self.end_block = block
        self.connection.send_data(self)

    def reset(self, code: H2Error) -> None:
        """End the stream at once; what is pending is not sent."""
        if not self.is_closed:
            self.connection.reset(self, code)

    def consumed(self, count: int) -> None:
        """Let the client send this many bytes more."""
        if not self.is_closed and not self.client_ended:
            self.connection.credit(self, count)
