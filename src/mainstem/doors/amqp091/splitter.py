"""Cuts what a client sends into frames (AMQP 0-9-1, 2.3.5).

Owns: the bytes of a frame that is not whole yet. Refuses: a payload above the limit, and a frame without its
end; after either, the place of the next frame is unknown.

Invariant: at most one frame, and what was received beyond it, is kept; each byte is copied at most twice,
however small the pieces are in which it comes.
"""

from __future__ import annotations

from collections.abc import Callable

from mainstem.doors.amqp091.frames import FRAME_END, HEAD_BYTES, head


class NotAFrame(Exception):
    """Bytes that are no frame."""


class FrameSplitter:
    """Calls `on_frame(type, channel, data, start, end)` for each frame, whose payload is data[start:end]. If
    it returns False, the frame is kept, and passed again by `resume`."""

    __slots__ = ("_needed", "_on_frame", "_pending", "_pending_bytes", "payload_max")

    def __init__(self, on_frame: Callable[[int, int, bytes, int, int], bool], payload_max: int) -> None:
        self._on_frame = on_frame
        self.payload_max = payload_max
        """Largest payload in bytes."""
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._needed = 1
        """How many bytes there have to be before it is worth looking again."""

    @property
    def pending_bytes(self) -> int:
        """How many bytes wait: a part of a frame, or frames that `on_frame` did not take."""
        return self._pending_bytes

    def feed(self, data: bytes) -> None:
        """Take the next bytes. NotAFrame: they are no frame."""
        if self._pending:
            self._pending.append(data)
            self._pending_bytes += len(data)
            if self._pending_bytes < self._needed:
                return
            data = b"".join(self._pending)
            self._pending.clear()
        self._split(data)

    def resume(self) -> None:
        """Go on with what `on_frame` did not take. NotAFrame as for `feed`."""
        if self._pending:
            data = b"".join(self._pending)
            self._pending.clear()
            self._split(data)

    def clear(self) -> bytes:
        """Forget what waits, and return it."""
        data = b"".join(self._pending)
        self._pending.clear()
        self._pending_bytes = 0
        return data

    def _split(self, data: bytes) -> None:
        on_frame, unpack = self._on_frame, head.unpack_from
        position, length, needed = 0, len(data), 1
        try:
            while length - position > HEAD_BYTES:
                kind, channel, size = unpack(data, position)
                start = position + HEAD_BYTES
                end = start + size
                if size > self.payload_max:
                    raise NotAFrame(f"type {kind}, a payload of {size} bytes, at most {self.payload_max}")
                if end >= length:
                    needed = end + 1 - position
                    break
                if data[end] != FRAME_END:
                    raise NotAFrame(f"type {kind}, the end of the frame is {data[end]:#04x}, not 0xce")
                if not on_frame(kind, channel, data, start, end):
                    break
                position = end + 1
        finally:
            self._needed = needed
            self._pending_bytes = length - position
            if position < length:
                self._pending.append(data[position:] if position else data)
