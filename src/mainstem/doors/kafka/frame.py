"""Frames from bytes, without a socket.

Owns: where the next bytes of a connection go, and cutting them into frames: four bytes of length, then as
many bytes. Refuses, before it takes memory: a length that is negative or over the cap of its API key, and
other protocols on this port. One error, ProtocolError (NotKafka for other protocols). Called by
connection.py, one reader for each connection.

A connection holds no buffer between frames. Bytes land in one of a few shared buffers of 256 KB; what is
left of it after the last whole frame is kept aside if it is small. A frame of more than 128 KB gets a
buffer of its own, which grows by at most 1 MB at a time as bytes arrive: a length prefix must not buy
memory.
"""

from __future__ import annotations

from mainstem.doors.kafka.reader import ProtocolError

POOLED_BYTES = 256 << 10
LARGE_FRAME_BYTES = 128 << 10
GROW_BYTES = 1 << 20
REST_BYTES = 4 << 10
SMALL_REQUEST_BYTES = 1 << 20
"""The cap of every request but Produce."""
PRODUCE = 0

_HTTP = (b"GET ", b"POST", b"HEAD", b"PUT ", b"DELE", b"OPTI", b"PATC", b"CONN", b"TRAC", b"PRI ")


class NotKafka(ProtocolError):
    """Another protocol was spoken on this port."""


class Pool:
    """Buffers that connections borrow while bytes are in them. The one on top is where the next bytes of
    any connection land: between asking for room and getting bytes no other connection has its turn. So a
    thousand connections that end at once, which ask for room and get none, borrow nothing."""

    __slots__ = ("_free", "_keep")

    def __init__(self, keep: int = 8) -> None:
        self._free: list[bytearray] = []
        self._keep = keep

    def peek(self) -> bytearray:
        """The buffer that `take` would give next."""
        if not self._free:
            self._free.append(bytearray(POOLED_BYTES))
        return self._free[-1]

    def take(self) -> bytearray:
        """The buffer that `peek` gave."""
        return self._free.pop()

    def give(self, buffer: bytearray) -> None:
        """It holds nothing any more."""
        if len(self._free) < self._keep:
            self._free.append(buffer)


class FrameReader:
    """One connection's bytes on their way to frames."""

    __slots__ = ("_end", "_large", "_large_need", "_pool", "_pooled", "_produce_max", "_rest", "_start")

    def __init__(self, pool: Pool, produce_max_bytes: int) -> None:
        self._pool = pool
        self._produce_max = produce_max_bytes
        self._pooled: bytearray | None = None
        self._start = self._end = 0
        """Of the bytes not yet cut into frames: in the large buffer if there is one, else in the pooled
        one."""
        self._large: bytearray | None = None
        self._large_need = 0
        self._rest = b""

    def space(self) -> memoryview:
        """Where the next bytes go; never empty. Ask again after each `filled`; not while frames wait to be
        taken."""
        large = self._large
        if large is not None:
            if self._end == len(large):
                large += bytes(min(GROW_BYTES, self._large_need - len(large)))
            return memoryview(large)[self._end :]
        if self._pooled is None:
            landing = self._pool.peek()
            landing[: len(self._rest)] = self._rest
            return memoryview(landing)[len(self._rest) :]
        if self._start and POOLED_BYTES - self._end < LARGE_FRAME_BYTES:
            waiting = self._end - self._start
            self._pooled[:waiting] = self._pooled[self._start : self._end]
            self._start, self._end = 0, waiting
        assert self._end < POOLED_BYTES, "whole frames must be taken before more bytes are asked for"
        return memoryview(self._pooled)[self._end :]

    def filled(self, count: int) -> None:
        """`count` bytes, at least one, were put at the start of what `space` gave."""
        if self._pooled is None and self._large is None:
            self._pooled = self._pool.take()
            self._end = len(self._rest)
            self._rest = b""
        self._end += count

    def next(self) -> memoryview | None:
        """The next whole frame without its length, writable, or None if bytes are missing. Valid until
        `space` is called again. ProtocolError: the connection cannot go on."""
        large = self._large
        if large is not None:
            if self._end < self._large_need:
                return None
            self._large = None
            self._start = self._end = 0
            return memoryview(large)
        start, pooled = self._start, self._pooled
        waiting = self._end - start
        if pooled is None or waiting < 4:
            return None
        size = int.from_bytes(pooled[start : start + 4], "big", signed=True)
        if (size > SMALL_REQUEST_BYTES or size < 8) and not self._allowed(size, pooled, start, waiting):
            return None
        if waiting < size + 4:
            if size > LARGE_FRAME_BYTES:
                self._to_large(size, pooled)
            return None
        self._start = start + 4 + size
        return memoryview(pooled)[start + 4 : self._start]

    @property
    def has_frame(self) -> bool:
        """Whether `next` would give a frame, or refuse one."""
        if self._large is not None:
            return self._end >= self._large_need
        pooled, waiting = self._pooled, self._end - self._start
        if pooled is None or waiting < 4:
            return False
        size = int.from_bytes(pooled[self._start : self._start + 4], "big", signed=True)
        return waiting >= size + 4 or (size > SMALL_REQUEST_BYTES and waiting >= 6)

    @property
    def partial_bytes(self) -> int:
        """Bytes of a frame that has not arrived whole; 0 between frames."""
        return len(self._rest) + self._end - self._start

    def settle(self) -> None:
        """No frame waits: give the shared buffer back unless much of a frame is in it."""
        pooled = self._pooled
        if pooled is None or self._large is not None:
            return
        if self._end - self._start <= REST_BYTES:
            self._rest = bytes(pooled[self._start : self._end])
            self._start = self._end = 0
            self._pooled = None
            self._pool.give(pooled)

    def close(self) -> None:
        """Drop what is there."""
        if self._pooled is not None:
            self._pool.give(self._pooled)
        self._pooled = self._large = None
        self._rest = b""
        self._start = self._end = 0

    def _allowed(self, size: int, pooled: bytearray, start: int, waiting: int) -> bool:
        """Whether an unusual size is right; False while the API key that decides has not arrived."""
        head = bytes(pooled[start : start + 4])
        if size < 8:
            raise ProtocolError(f"a frame of {size} bytes")
        if size > self._produce_max:
            if head in _HTTP:
                raise NotKafka("HTTP spoken on the Kafka port")
            if head[:2] == b"\x16\x03":
                raise NotKafka("TLS spoken on the Kafka port, which is plaintext")
            raise ProtocolError(
                f"a frame of {size} bytes, more than socket.request.max.bytes ({self._produce_max})"
            )
        if waiting < 6:
            return False
        key = int.from_bytes(pooled[start + 4 : start + 6], "big", signed=True)
        if key != PRODUCE:
            raise ProtocolError(
                f"a frame of {size} bytes for API key {key}, which may have {SMALL_REQUEST_BYTES}"
            )
        return True

    def _to_large(self, size: int, pooled: bytearray) -> None:
        """Move the beginning of a large frame to a buffer of its own."""
        waiting = self._end - self._start - 4
        large = bytearray(max(min(size, GROW_BYTES), waiting))
        large[:waiting] = memoryview(pooled)[self._start + 4 : self._end]
        self._large, self._large_need = large, size
        self._pooled = None
        self._pool.give(pooled)
        self._start, self._end = 0, waiting
