"""The raw client of RabbitMQ's stream protocol: publishes of many entries, confirms counted, chunks read."""

from __future__ import annotations

import struct
import time

from bench.clients.frames import Frames
from bench.clients.program import Result, connect_and_do, main, payload

DECLARE, PUBLISH, CONFIRM, SUBSCRIBE, DELIVER, CREDIT, CREATE = 1, 2, 3, 7, 8, 9, 13
PEER, HANDSHAKE, AUTHENTICATE, TUNE, OPEN = 17, 18, 19, 20, 21
ANSWER = 0x8000
CHUNK = 100
IN_FLIGHT = 10_000
"""Unconfirmed entries at once; the Java client's default (maxUnconfirmedMessages)."""
CREDITS = 10


def text(value: str) -> bytes:
    """A string of the protocol."""
    return struct.pack(">h", len(value)) + value.encode()


class Connection:
    """A connection that may publish and read."""

    def __init__(self, at: str) -> None:
        self.frames = Frames(at, 4, lambda head: 4 + int.from_bytes(head, "big"))
        self.ask(PEER, struct.pack(">i", 0))
        self.ask(HANDSHAKE, b"")
        login = b"\0guest\0guest"
        self.ask(AUTHENTICATE, text("PLAIN") + struct.pack(">i", len(login)) + login)
        self._until(TUNE)
        self.tell(TUNE | ANSWER, struct.pack(">II", 1 << 20, 0))
        self.ask(OPEN, text("/"))

    def tell(self, key: int, body: bytes) -> None:
        """A frame that is not answered."""
        self.frames.send(struct.pack(">IHH", 4 + len(body), key, 1) + body)

    def ask(self, key: int, body: bytes) -> None:
        """A request, and its answer. RuntimeError: it is refused."""
        self.tell(key, struct.pack(">I", 1) + body)
        answer = self._until(key | ANSWER)
        (code,) = struct.unpack_from(">H", answer, 12)
        if code != 1:
            raise RuntimeError(f"{key} was refused: {code}")

    def _until(self, key: int) -> memoryview:
        while True:
            frame = self.frames.next()
            if struct.unpack_from(">H", frame, 4)[0] == key:
                return frame

    def confirmed(self) -> int:
        """How many entries the next confirm is of."""
        return int(struct.unpack_from(">I", self._until(CONFIRM), 9)[0])

    def chunk(self) -> int:
        """How many records are in the next chunk; one more may come for it."""
        (count,) = struct.unpack_from(">I", self._until(DELIVER), 13)
        self.tell(CREDIT, struct.pack(">BH", 1, 1))
        return int(count)

    def publisher(self, topic: str) -> None:
        """Declare a publisher without a name, so that its ids say nothing."""
        self.ask(DECLARE, struct.pack(">B", 1) + text("") + text(topic))


def entries(count: int, record_bytes: int) -> bytes:
    """A publish of so many."""
    one = struct.pack(">QI", 1, record_bytes) + payload(record_bytes)
    body = struct.pack(">BI", 1, count) + one * count
    return struct.pack(">IHH", 4 + len(body), PUBLISH, 1) + body


def make(at: str, topic: str) -> Result:
    """A stream."""
    Connection(at).ask(CREATE, text(topic) + struct.pack(">i", 0))
    return {}


def produce(at: str, topic: str, *, total: int, record_bytes: int = 1024) -> Result:
    """Pipelined publishes, each entry confirmed."""
    connection = Connection(at)
    connection.publisher(topic)
    many = entries(CHUNK, record_bytes)
    count = total // record_bytes // CHUNK * CHUNK
    sent = confirmed = 0
    began = time.perf_counter()
    while confirmed < count:
        while sent < count and sent - confirmed < IN_FLIGHT:
            connection.frames.send(many)
            sent += CHUNK
        confirmed += connection.confirmed()
    return {"seconds": time.perf_counter() - began, "bytes": count * record_bytes}


def fetch(at: str, topic: str, *, total: int, record_bytes: int = 1024) -> Result:
    """Read so much from the start."""
    connection = Connection(at)
    read = 0
    began = time.perf_counter()
    connection.ask(SUBSCRIBE, struct.pack(">B", 1) + text(topic) + struct.pack(">HHi", 1, CREDITS, 0))
    while read < total // record_bytes:
        read += connection.chunk()
    return {"seconds": time.perf_counter() - began, "bytes": read * record_bytes}


class Sync:
    """A publisher of single events."""

    def __init__(self, at: str, topic: str, record_bytes: int) -> None:
        self._connection = Connection(at)
        self._connection.publisher(topic)
        self._request = entries(1, record_bytes)

    def ask(self) -> None:
        """One event on its way."""
        self._connection.frames.send(self._request)

    def answered(self) -> None:
        """It is confirmed."""
        self._connection.confirmed()


def sync(
    at: str, topic: str, *, count: int, connections: int = 1, record_bytes: int = 1024, warm: int = 100
) -> Result:
    """One event at a time on each of `connections`."""
    return connect_and_do(lambda _: Sync(at, topic, record_bytes), connections, count, warm)


if __name__ == "__main__":
    main({"make": make, "produce": produce, "fetch": fetch, "sync": sync})
