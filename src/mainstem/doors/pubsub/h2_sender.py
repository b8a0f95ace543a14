"""What an HTTP/2 connection sends, and in which order.

Owns: the frames that are ready for the socket, the connection's window, and the turns of streams whose data
wait: each sends one frame in its turn, so a large response does not delay small ones. Refuses: data beyond
the client's windows, and data while the socket is full; other frames are small and never wait.
"""

from __future__ import annotations

from collections import deque

from mainstem.doors.pubsub.frames import (
    DATA,
    END_STREAM,
    FRAME_BYTES_MAX,
    WINDOW_AT_FIRST,
    frame_head,
    headers_frames,
)
from mainstem.doors.pubsub.h2_stream import Buffer, H2Stream


class FrameSender:
    """The sending half of a connection."""

    __slots__ = ("_queue", "data_frames", "frame_bytes", "out", "out_bytes", "window")

    def __init__(self) -> None:
        self.out: list[Buffer] = []
        """Frames for the socket, in order."""
        self.out_bytes = 0
        self.window = WINDOW_AT_FIRST
        self.frame_bytes = FRAME_BYTES_MAX
        """The largest payload that is sent: more than FRAME_BYTES_MAX is of no use."""
        self.data_frames = 0
        """DATA frames that were sent."""
        self._queue: deque[H2Stream] = deque()

    def put(self, frame: bytes) -> None:
        """Send a frame that needs no window."""
        self.out.append(frame)
        self.out_bytes += len(frame)

    def put_headers(self, stream: int, block: bytes, *, ends_stream: bool) -> None:
        """Send headers."""
        self.put(headers_frames(stream, block, ends_stream=ends_stream, frame_bytes=self.frame_bytes))

    def queue(self, stream: H2Stream) -> None:
        """The stream has something to send."""
        if not stream.is_queued:
            stream.is_queued = True
            self._queue.append(stream)

    @property
    def has_data(self) -> bool:
        """Whether some stream may send something now."""
        return bool(self._queue) and any(self._can_send(stream) for stream in self._queue)

    def _can_send(self, stream: H2Stream) -> bool:
        if not stream.pending_bytes:
            return stream.end_block is not None
        return self.window > 0 and stream.send_window > 0

    def fill(self, limit_bytes: int) -> list[H2Stream]:
        """Put frames of the waiting streams into `out` until it has `limit_bytes`. Returns the streams that
        have ended."""
        ended: list[H2Stream] = []
        stuck = 0
        while self._queue and self.out_bytes < limit_bytes and stuck < len(self._queue):
            stream = self._queue.popleft()
            if stream.is_closed:
                stream.is_queued = False
            elif not self._can_send(stream):
                self._queue.append(stream)
                stuck += 1
            else:
                stuck = 0
                self._send_one(stream, ended)
        return ended

    def _send_one(self, stream: H2Stream, ended: list[H2Stream]) -> None:
        """Send one frame of the stream, and its end if nothing else is left."""
        if stream.pending_bytes:
            size = min(self.frame_bytes, self.window, stream.send_window, stream.pending_bytes)
            pieces = _take(stream.pending, size)
            stream.pending_bytes -= size
            stream.send_window -= size
            self.window -= size
            is_last = not stream.pending_bytes and stream.end_block == b""
            self.put(frame_head(size, DATA, END_STREAM if is_last else 0, stream.id))
            self.out += pieces
            self.out_bytes += size
            self.data_frames += 1
            if stream.pending_bytes:
                self._queue.append(stream)
                return
            if is_last:
                stream.is_queued = False
                ended.append(stream)
                return
        stream.is_queued = False
        if stream.end_block is not None:
            if stream.end_block:
                self.put_headers(stream.id, stream.end_block, ends_stream=True)
            else:
                self.put(frame_head(0, DATA, END_STREAM, stream.id))
            ended.append(stream)
        elif stream.is_waited_for and stream.user is not None:
            stream.is_waited_for = False
            stream.user.on_room()


def _take(pending: deque[Buffer], size: int) -> list[Buffer]:
    """Exactly `size` bytes from the front."""
    pieces: list[Buffer] = []
    while size:
        piece = pending.popleft()
        if len(piece) > size:
            view = memoryview(piece)  # the rest is not copied with each frame
            pending.appendleft(view[size:])
            piece = view[:size]
        size -= len(piece)
        pieces.append(piece)
    return pieces
