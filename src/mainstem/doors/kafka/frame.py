"""Splits the bytes of a connection into frames, without a socket.

Owns: the buffers that the next bytes are read into, and the frames in them: four bytes of length, then that
number of bytes. Refuses, before it allocates memory: a length that is negative or above
`socket.request.max.bytes`, and other protocols on this port. There is one error, ProtocolError (NotKafka for
other protocols, RequestTooLarge for a length that may be honest).

A connection holds no buffer between frames. Bytes are read into one of a few shared buffers of 256 KB; a
small remainder after the last whole frame is copied out of it. A frame of more than 128 KB gets one of a few
large shared buffers, which exist only once a frame of that size has arrived whole, or else a buffer of its
own. That one grows as bytes arrive, to twice their number and by at most 1 MB at a time: a length prefix
alone must not allocate memory. What all connections hold in this way, beyond 4 KB each, is limited by one
budget. If it is used up, `prepare_receive` returns False, and the client's bytes are not read for now.

Invariant: the budget counts `_held_bytes` of this connection, and a large frame holds no more than its
length.
"""

from __future__ import annotations

from mainstem.doors.net.limits import CapacityWaiter, MemoryBudget
from mainstem.kafka_protocol.reader import ProtocolError, RequestTooLarge

POOLED_BYTES = 256 << 10
LARGE_FRAME_BYTES = 128 << 10
POOLED_LARGE_BYTES = 1280 << 10
"""Enough for a request of 1 MB, the most that clients send by default, with what surrounds its batches. A
buffer that grows for each of them would clear and copy twice as many bytes as arrive."""
POOLED_LARGE_COUNT = 4
MAX_GROW_BYTES = 1 << 20
MIN_GROW_BYTES = 16 << 10
REMAINDER_BYTES = 4 << 10
"""Most bytes of an incomplete frame that a connection holds outside of the budget."""
PRODUCE = 0
MAX_BYTES_NAME = "socket.request.max.bytes"
HEADER_BYTES = 8
"""Length of a request's header without a client id: the shortest frame."""

_HTTP = (b"GET ", b"POST", b"HEAD", b"PUT ", b"DELE", b"OPTI", b"PATC", b"CONN", b"TRAC", b"PRI ")


class NotKafka(ProtocolError):
    """The error for a client that speaks HTTP or TLS on the Kafka port."""


class BufferPool:
    """Buffers that connections borrow while bytes are in them. The next bytes of any connection are read into
    the buffer on top: between asking for a buffer and receiving bytes, no other connection has its turn. So
    a thousand connections that end at once, which ask for a buffer and receive nothing, borrow none."""

    __slots__ = ("_free", "_large", "_large_count", "_max_free")

    def __init__(self, max_free: int = 8) -> None:
        self._free: list[bytearray] = []
        self._max_free = max_free
        self._large: list[bytearray] = []
        self._large_count = 0

    def peek(self) -> bytearray:
        """The buffer that the next `acquire` returns."""
        if not self._free:
            self._free.append(bytearray(POOLED_BYTES))
        return self._free[-1]

    def acquire(self) -> bytearray:
        """Borrow the buffer that `peek` returned."""
        return self._free.pop()

    def release(self, buffer: bytearray) -> None:
        """Return a borrowed buffer."""
        if len(self._free) < self._max_free:
            self._free.append(buffer)

    def acquire_large(self, size: int) -> bytearray | None:
        """Borrow a large buffer for a frame of `size` bytes; None if there is none. It is longer than the
        frame, and still has bytes of other frames in it."""
        return self._large.pop() if self._large and size <= POOLED_LARGE_BYTES else None

    def release_large(self, buffer: bytearray) -> None:
        """Return a buffer that `acquire_large` returned."""
        self._large.append(buffer)

    def add_large_for(self, size: int) -> None:
        """A frame of `size` bytes arrived whole, in a buffer of its own: make a large buffer for the next
        one, unless there are enough."""
        if self._large_count < POOLED_LARGE_COUNT and size <= POOLED_LARGE_BYTES:
            self._large_count += 1
            self._large.append(bytearray(POOLED_LARGE_BYTES))


class FrameReader:
    """The buffers and frames of one connection. `owner` is woken when the budget has bytes again."""

    __slots__ = (
        "_borrowed",
        "_budget",
        "_end",
        "_held_bytes",
        "_large",
        "_large_frame_bytes",
        "_limit_name",
        "_owner",
        "_pool",
        "_pooled",
        "_remainder",
        "_request_max",
        "_request_min",
        "_start",
    )

    def __init__(
        self, pool: BufferPool, request_max_bytes: int, budget: MemoryBudget, owner: CapacityWaiter
    ) -> None:
        self._pool = pool
        self._request_max = request_max_bytes
        self._request_min = HEADER_BYTES
        self._limit_name = MAX_BYTES_NAME
        self._budget = budget
        self._owner = owner
        self._held_bytes = 0
        """Bytes of the budget that it holds; also the length that the large buffer has, or will have when
        needed."""
        self._pooled: bytearray | None = None
        self._start = self._end = 0
        """Where the bytes begin and end that are not in a frame yet: in the large buffer if there is one,
        else in the pooled one."""
        self._large: bytearray | None = None
        self._large_frame_bytes = 0
        """Length of the frame that the large buffer is for."""
        self._borrowed: bytearray | None = None
        """A large buffer of the pool: with the frame that is arriving, or the one that `next` returned
        last."""
        self._remainder = b""
        """Bytes of an incomplete frame while no buffer is borrowed."""

    def limit(self, min_bytes: int, max_bytes: int, name: str) -> None:
        """Accept only frames of these lengths from the next one on. `name`: Kafka's name of the setting."""
        self._request_min, self._request_max, self._limit_name = min_bytes, max_bytes, name

    def receive_buffer(self) -> memoryview:
        """The buffer for the next bytes; never empty. To be called again after each `advance`, and only after
        `prepare_receive` has returned True."""
        large = self._large
        if large is not None:
            if self._end == len(large):
                # Not earlier: the caller may hold the buffer until it has called `advance`.
                large += bytes(self._held_bytes - len(large))
            return memoryview(large)[self._end : self._held_bytes]
        if self._pooled is None:
            buffer, size = self._pool.peek(), len(self._remainder)
            buffer[:size] = self._remainder
            if self._is_budget_low:  # then the bytes may have to fit into the remainder
                return memoryview(buffer)[size : max(REMAINDER_BYTES, size + 1)]
            return memoryview(buffer)[size:]
        if self._start and POOLED_BYTES - self._end < LARGE_FRAME_BYTES:
            waiting = self._end - self._start
            self._pooled[:waiting] = self._pooled[self._start : self._end]
            self._start, self._end = 0, waiting
        assert self._end < POOLED_BYTES, "whole frames are taken before more bytes are received"
        return memoryview(self._pooled)[self._end :]

    def advance(self, count: int) -> None:
        """`count` bytes, at least one, were put at the start of what `receive_buffer` returned."""
        if self._pooled is None and self._large is None:
            self._pooled = self._pool.acquire()
            self._end = len(self._remainder)
            self._remainder = b""
        self._end += count
        assert self._large is None or self._end <= self._large_frame_bytes, (
            "no byte of the next frame is in it"
        )

    def next(self) -> memoryview | None:
        """The next whole frame without its length, writable, or None if bytes are missing. Valid until
        `prepare_receive` is called. ProtocolError: the connection cannot go on."""
        large = self._large
        if large is not None:
            if self._end < self._large_frame_bytes:
                return None
            self._large = None
            self._start = self._end = 0
            self._release_budget()
            if self._borrowed is None:
                self._pool.add_large_for(self._large_frame_bytes)
            return memoryview(large)[: self._large_frame_bytes]
        if self._pooled is None:
            if not self._remainder or not self.has_frame:
                return None
            self._restore_remainder()
        start, pooled = self._start, self._pooled
        assert pooled is not None
        waiting = self._end - start
        if waiting < 4:
            return None
        size = int.from_bytes(pooled[start : start + 4], "big", signed=True)
        if size > self._request_max or size < self._request_min:
            raise self._size_error(size, bytes(pooled[start : start + 4]))
        if waiting < size + 4:
            if size > LARGE_FRAME_BYTES:
                self._move_to_large(size, pooled)
            return None
        self._start = start + 4 + size
        return memoryview(pooled)[start + 4 : self._start]

    @property
    def has_frame(self) -> bool:
        """Whether `next` would return a frame, or raise ProtocolError."""
        if self._large is not None:
            return self._end >= self._large_frame_bytes
        waiting = self.partial_bytes
        if waiting < 4:
            return False
        size = self._next_bytes()
        return waiting >= size + 4 or size > self._request_max

    @property
    def next_bytes(self) -> int:
        """The length of the next frame. Only if `has_frame`."""
        return self._large_frame_bytes if self._large is not None else self._next_bytes()

    @property
    def next_key(self) -> int:
        """The API key of the next frame. Only if `has_frame`."""
        if self._large is not None:
            return int.from_bytes(self._large[:2], "big", signed=True)
        if self._pooled is None:
            return int.from_bytes(self._remainder[4:6], "big", signed=True)
        return int.from_bytes(self._pooled[self._start + 4 : self._start + 6], "big", signed=True)

    @property
    def partial_bytes(self) -> int:
        """Bytes that have arrived and were not returned by `next`; 0 between frames."""
        return len(self._remainder) + self._end - self._start

    @property
    def held_bytes(self) -> int:
        """Bytes of the budget that it holds."""
        return self._held_bytes

    def prepare_receive(self) -> bool:
        """Return the shared buffers to the pool, unless many bytes are in them; the frame that `next`
        returned last is no longer valid. False: the budget has no bytes for more now; `owner.on_capacity` is
        called when it may have."""
        large = self._large
        if large is None:
            self._release_borrowed()
        else:
            return self._end < self._held_bytes or self._end == self._large_frame_bytes or self._grow()
        pooled = self._pooled
        if pooled is None:
            return True
        waiting = self._end - self._start
        if waiting < REMAINDER_BYTES or (waiting == REMAINDER_BYTES and self.has_frame):
            self._remainder = bytes(pooled[self._start : self._end])
            self._start = self._end = 0
            self._release_pooled(pooled)
            return True
        size = self._next_bytes()
        is_large = size > LARGE_FRAME_BYTES or (self._is_budget_scarce and not self._held_bytes)
        if is_large and not self.has_frame:
            self._move_to_large(size, pooled)
            return self._grow()
        if not self._held_bytes:
            self._add_held(POOLED_BYTES)
        return True

    def close(self) -> None:
        """Drop all bytes and release the buffers and the budget."""
        if self._pooled is not None:
            self._release_pooled(self._pooled)
        self._large = None
        self._release_borrowed()
        self._release_budget()
        self._budget.stop_waiting(self._owner)
        self._remainder = b""
        self._start = self._end = 0

    @property
    def _is_budget_low(self) -> bool:
        """Whether less than a whole shared buffer is left of the budget."""
        return self._budget.used_bytes + POOLED_BYTES > self._budget.max_bytes

    @property
    def _is_budget_scarce(self) -> bool:
        """Whether more than a quarter of the budget is used: then a part of a frame must not hold a shared
        buffer."""
        return self._budget.used_bytes * 4 > self._budget.max_bytes

    def _add_held(self, count: int) -> None:
        self._held_bytes += count
        self._budget.add(count)

    def _release_budget(self) -> None:
        if self._held_bytes:
            released, self._held_bytes = self._held_bytes, 0
            self._budget.release(released)
            self._budget.stop_waiting(self._owner)

    def _release_pooled(self, pooled: bytearray) -> None:
        self._pooled = None
        self._pool.release(pooled)
        self._release_budget()

    def _release_borrowed(self) -> None:
        if self._borrowed is not None:
            self._pool.release_large(self._borrowed)
            self._borrowed = None

    def _restore_remainder(self) -> None:
        """Copy the remainder to a shared buffer, where frames are read from."""
        self._pool.peek()
        self._pooled = self._pool.acquire()
        self._start, self._end = 0, len(self._remainder)
        self._pooled[: self._end] = self._remainder
        self._remainder = b""

    def _next_bytes(self) -> int:
        """The length of the next frame, of which at least four bytes have arrived."""
        if self._pooled is None:
            return int.from_bytes(self._remainder[:4], "big", signed=True)
        return int.from_bytes(self._pooled[self._start : self._start + 4], "big", signed=True)

    def _size_error(self, size: int, head: bytes) -> ProtocolError:
        """Why no frame has this size, which `head`, its first four bytes, say."""
        if size < self._request_min:
            return ProtocolError(f"a frame of {size} bytes, shorter than a request header")
        if head in _HTTP:
            return NotKafka("HTTP spoken on the Kafka port")
        if head[:2] == b"\x16\x03":
            return NotKafka("TLS spoken on the Kafka port, which is plaintext")
        return RequestTooLarge(f"a request of {size} bytes is above {self._limit_name} ({self._request_max})")

    def _move_to_large(self, size: int, pooled: bytearray) -> None:
        """Move the beginning of a frame to a buffer of its own, which has no space for more yet."""
        received = memoryview(pooled)[self._start + 4 : self._end]
        self._release_borrowed()
        large = self._borrowed = self._pool.acquire_large(size)
        if large is None:
            large = bytearray(received)
        else:
            memoryview(large)[: len(received)] = received  # a slice of the bytearray would copy it twice
        self._large, self._large_frame_bytes = large, size
        self._start, self._end = 0, len(received)
        self._release_pooled(pooled)
        self._add_held(self._end)

    def _grow(self) -> bool:
        """Reserve budget for more bytes of a large frame. False: there is none now."""
        held_bytes = self._held_bytes
        more = min(MAX_GROW_BYTES, max(held_bytes, MIN_GROW_BYTES), self._large_frame_bytes - held_bytes)
        if not self._budget.reserve(self._owner, more):
            return False
        self._held_bytes += more
        assert self._held_bytes <= self._large_frame_bytes, "no more is reserved than the frame needs"
        return True
