"""A blocking socket that cuts what it reads into frames. Used by the two RabbitMQ clients."""

from __future__ import annotations

import socket
from collections.abc import Callable


class Frames:
    """`size_of(head)` returns the length of the frame whose first `head_bytes` bytes are `head`."""

    def __init__(self, address: str, head_bytes: int, size_of: Callable[[memoryview], int]) -> None:
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._head_bytes = head_bytes
        self._size_of = size_of
        self._buffer = bytearray(4 << 20)
        self._from = self._to = 0

    def send(self, data: bytes) -> None:
        """Send whole frames."""
        self._socket.sendall(data)

    def next(self) -> memoryview:
        """The next frame; valid until the next call."""
        self._fill(self._head_bytes)
        size = self._size_of(memoryview(self._buffer)[self._from : self._from + self._head_bytes])
        self._fill(size)
        frame = memoryview(self._buffer)[self._from : self._from + size]
        self._from += size
        return frame

    def _fill(self, count: int) -> None:
        if self._from + count > len(self._buffer):
            left = bytes(memoryview(self._buffer)[self._from : self._to])
            if count > len(self._buffer):
                self._buffer = bytearray(2 * count)
            self._buffer[: len(left)] = left
            self._from, self._to = 0, len(left)
        while self._to - self._from < count:
            received = self._socket.recv_into(memoryview(self._buffer)[self._to :])
            if not received:
                raise ConnectionError("the server closed the connection")
            self._to += received
