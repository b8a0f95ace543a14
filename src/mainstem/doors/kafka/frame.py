"""Frames from bytes, without a socket.

Owns: where the next bytes of a connection go, and cutting them into frames: four bytes of length, then as
many bytes. Refuses, before it takes memory: a length that is negative or over the cap of its API key, and
other protocols on this port. One error, ProtocolError (NotKafka for other protocols). Called by
connection.py, one reader for each connection.

A connection holds no buffer between frames. Bytes land in one of a few shared buffers of 256 KB; what is
left of it after the last whole frame is kept aside if it is small. A frame of more than 128 KB gets one of
a few large shared buffers, which frames that came whole have paid for, or else one of its own, which grows
as bytes arrive, to twice what has come and by at most 1 MB at a time: a length prefix must not buy memory.
What all connections hold in this way, beyond 4 KB each, comes out of one budget; when it is used up,
`prepare_receive` says that no more may be read for now, and the bytes wait where they are: with the client.
"""

from __future__ import annotations

from mainstem.doors.net.limits import CapacityWaiter, MemoryBudget
from mainstem.kafka_protocol.reader import ProtocolError

POOLED_BYTES = 256 << 10
LARGE_FRAME_BYTES = 128 << 10
POOLED_LARGE_BYTES = 1280 << 10
"""A request of 1 MB, the most that clients send by default, with what is around its batches. To grow a buffer
for each would be to clear and copy twice as many bytes as come."""
POOLED_LARGE = 4
GROW_BYTES = 1 << 20
LEAST_GROW_BYTES = 16 << 10
REST_BYTES = 4 << 10
"""Kept for each connection outside of the budget."""
SMALL_REQUEST_BYTES = 1 << 20
"""The cap of every request but Produce."""
PRODUCE = 0

_HTTP = (b"GET ", b"POST", b"HEAD", b"PUT ", b"DELE", b"OPTI", b"PATC", b"CONN", b"TRAC", b"PRI ")


class NotKafka(ProtocolError):
    """Another protocol was spoken on this port."""


class BufferPool:
    """Buffers that connections borrow while bytes are in them. The one on top is where the next bytes of
    any connection land: between asking for room and getting bytes no other connection has its turn. So a
    thousand connections that end at once, which ask for room and get none, borrow nothing."""

    __slots__ = ("_free", "_keep", "_large", "_large_made")

    def __init__(self, keep: int = 8) -> None:
        self._free: list[bytearray] = []
        self._keep = keep
        self._large: list[bytearray] = []
        self._large_made = 0

    def peek(self) -> bytearray:
        """The buffer that `acquire` would return next."""
        if not self._free:
            self._free.append(bytearray(POOLED_BYTES))
        return self._free[-1]

    def acquire(self) -> bytearray:
        """The buffer that `peek` gave."""
        return self._free.pop()

    def release(self, buffer: bytearray) -> None:
        """It holds nothing any more."""
        if len(self._free) < self._keep:
            self._free.append(buffer)

    def acquire_large(self, size: int) -> bytearray | None:
        """One for a frame of this size, if there is any: it is longer, and has other frames' bytes in it."""
        return self._large.pop() if self._large and size <= POOLED_LARGE_BYTES else None

    def release_large(self, buffer: bytearray) -> None:
        """One that `acquire_large` returned."""
        self._large.append(buffer)

    def add_large_for(self, size: int) -> None:
        """A frame of this size came whole and had no buffer from here: the next one shall have."""
        if self._large_made < POOLED_LARGE and size <= POOLED_LARGE_BYTES:
            self._large_made += 1
            self._large.append(bytearray(POOLED_LARGE_BYTES))


class FrameReader:
    """One connection's bytes on their way to frames. `owner` is woken when there is room again."""

    __slots__ = (
        "_borrowed",
        "_budget",
        "_end",
        "_held_bytes",
        "_large",
        "_large_need",
        "_owner",
        "_pool",
        "_pooled",
        "_produce_max",
        "_rest",
        "_start",
    )

    def __init__(
        self, pool: BufferPool, produce_max_bytes: int, budget: MemoryBudget, owner: CapacityWaiter
    ) -> None:
        self._pool = pool
        self._produce_max = produce_max_bytes
        self._budget = budget
        self._owner = owner
        self._held_bytes = 0
        """Of the budget; as long as the large buffer is, or will be when it is needed."""
        self._pooled: bytearray | None = None
        self._start = self._end = 0
        """Of the bytes not yet cut into frames: in the large buffer if there is one, else in the pooled
        one."""
        self._large: bytearray | None = None
        self._large_need = 0
        self._borrowed: bytearray | None = None
        """The pool's large buffer: of the frame that is coming, or that was given last."""
        self._rest = b""

    def receive_buffer(self) -> memoryview:
        """Where the next bytes go; never empty. Ask again after each `advance`; only when
        `prepare_receive` has said that more may be read."""
        large = self._large
        if large is not None:
            if self._end == len(large):
                # Not sooner: who fills a buffer may hold on to it until it has told how much.
                large += bytes(self._held_bytes - len(large))
            return memoryview(large)[self._end : self._held_bytes]
        if self._pooled is None:
            landing, kept = self._pool.peek(), len(self._rest)
            landing[:kept] = self._rest
            if self._is_tight:  # what comes may have to be kept
                return memoryview(landing)[kept : max(REST_BYTES, kept + 1)]
            return memoryview(landing)[kept:]
        if self._start and POOLED_BYTES - self._end < LARGE_FRAME_BYTES:
            waiting = self._end - self._start
            self._pooled[:waiting] = self._pooled[self._start : self._end]
            self._start, self._end = 0, waiting
        assert self._end < POOLED_BYTES, "whole frames must be taken before more bytes are asked for"
        return memoryview(self._pooled)[self._end :]

    def advance(self, count: int) -> None:
        """`count` bytes, at least one, were put at the start of what `receive_buffer` returned."""
        if self._pooled is None and self._large is None:
            self._pooled = self._pool.acquire()
            self._end = len(self._rest)
            self._rest = b""
        self._end += count

    def next(self) -> memoryview | None:
        """The next whole frame without its length, writable, or None if bytes are missing. Valid until
        `prepare_receive` is called. ProtocolError: the connection cannot go on."""
        large = self._large
        if large is not None:
            if self._end < self._large_need:
                return None
            self._large = None
            self._start = self._end = 0
            self._release_budget()
            if self._borrowed is None:
                self._pool.add_large_for(self._large_need)
            return memoryview(large)[: self._large_need]
        if self._pooled is None:
            if not self._rest or not self.has_frame:
                return None
            self._unpack()
        start, pooled = self._start, self._pooled
        assert pooled is not None
        waiting = self._end - start
        if waiting < 4:
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
        waiting = self.partial_bytes
        if waiting < 4:
            return False
        size = self._next_bytes()
        return waiting >= size + 4 or (size > SMALL_REQUEST_BYTES and waiting >= 6)

    @property
    def next_bytes(self) -> int:
        """How long the next frame says it is, once `has_frame`."""
        return self._large_need if self._large is not None else self._next_bytes()

    @property
    def next_key(self) -> int:
        """The API key of the next frame, once `has_frame`."""
        if self._large is not None:
            return int.from_bytes(self._large[:2], "big", signed=True)
        if self._pooled is None:
            return int.from_bytes(self._rest[4:6], "big", signed=True)
        return int.from_bytes(self._pooled[self._start + 4 : self._start + 6], "big", signed=True)

    @property
    def partial_bytes(self) -> int:
        """Bytes of frames that are not taken yet; 0 between frames."""
        return len(self._rest) + self._end - self._start

    @property
    def held_bytes(self) -> int:
        """What it has of the budget."""
        return self._held_bytes

    def prepare_receive(self) -> bool:
        """No frame is being taken: give shared buffers back unless much is in them. False: there is no room
        for more bytes now; `owner.on_capacity` is called when there may be."""
        large = self._large
        if large is None:
            self._give_back()
        else:
            return self._end < self._held_bytes or self._end == self._large_need or self._grow()
        pooled = self._pooled
        if pooled is None:
            return True
        waiting = self._end - self._start
        if waiting < REST_BYTES or (waiting == REST_BYTES and self.has_frame):
            self._rest = bytes(pooled[self._start : self._end])
            self._start = self._end = 0
            self._give(pooled)
            return True
        if not self._held_bytes:
            size = self._next_bytes()
            if (size > LARGE_FRAME_BYTES or self._is_crowded) and not self.has_frame:
                self._to_large(size, pooled)
                return self._grow()
            self._hold(POOLED_BYTES)
        return True

    def close(self) -> None:
        """Drop what is there."""
        if self._pooled is not None:
            self._give(self._pooled)
        self._large = None
        self._give_back()
        self._release_budget()
        self._budget.stop_waiting(self._owner)
        self._rest = b""
        self._start = self._end = 0

    @property
    def _is_tight(self) -> bool:
        """There may not be room for a whole buffer of bytes that come now."""
        return self._budget.used_bytes + POOLED_BYTES > self._budget.max_bytes

    @property
    def _is_crowded(self) -> bool:
        """So much is taken that a shared buffer is too much for a part of a frame."""
        return self._budget.used_bytes * 4 > self._budget.max_bytes

    def _hold(self, count: int) -> None:
        self._held_bytes += count
        self._budget.add(count)

    def _release_budget(self) -> None:
        if self._held_bytes:
            held, self._held_bytes = self._held_bytes, 0
            self._budget.release(held)
            self._budget.stop_waiting(self._owner)

    def _give(self, pooled: bytearray) -> None:
        self._pooled = None
        self._pool.release(pooled)
        self._release_budget()

    def _give_back(self) -> None:
        if self._borrowed is not None:
            self._pool.release_large(self._borrowed)
            self._borrowed = None

    def _unpack(self) -> None:
        """Put what was kept aside where frames are cut."""
        self._pool.peek()
        self._pooled = self._pool.acquire()
        self._start, self._end = 0, len(self._rest)
        self._pooled[: self._end] = self._rest
        self._rest = b""

    def _next_bytes(self) -> int:
        """The length before the next frame, of which four bytes are there."""
        if self._pooled is None:
            return int.from_bytes(self._rest[:4], "big", signed=True)
        return int.from_bytes(self._pooled[self._start : self._start + 4], "big", signed=True)

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
        """Move the beginning of a frame to a buffer of its own, which has no room for more yet."""
        there = memoryview(pooled)[self._start + 4 : self._end]
        self._give_back()
        large = self._borrowed = self._pool.acquire_large(size)
        if large is None:
            large = bytearray(there)
        else:
            memoryview(large)[: len(there)] = there  # a slice of the bytearray would copy it twice
        self._large, self._large_need = large, size
        self._start, self._end = 0, len(there)
        self._give(pooled)
        self._hold(self._end)

    def _grow(self) -> bool:
        """Get room for more bytes of a large frame. False: not now."""
        there = self._held_bytes
        more = min(GROW_BYTES, max(there, LEAST_GROW_BYTES), self._large_need - there)
        if not self._budget.reserve(self._owner, more):
            return False
        self._held_bytes += more
        return True
