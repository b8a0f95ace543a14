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


class StreamConnection:
    """A connection that may publish and read."""

    def __init__(self, address: str) -> None:
        self.frames = Frames(address, 4, lambda head: 4 + int.from_bytes(head, "big"))
        self.call(PEER, struct.pack(">i", 0))
        self.call(HANDSHAKE, b"")
        login = b"\0guest\0guest"
        self.call(AUTHENTICATE, text("PLAIN") + struct.pack(">i", len(login)) + login)
        self._until(TUNE)
        self.send(TUNE | ANSWER, struct.pack(">II", 1 << 20, 0))
        self.call(OPEN, text("/"))

    def send(self, key: int, body: bytes) -> None:
        """Send a frame that gets no reply."""
        self.frames.send(struct.pack(">IHH", 4 + len(body), key, 1) + body)

    def call(self, key: int, body: bytes) -> None:
        """Send a request and wait for its reply. RuntimeError: it is refused."""
        self.send(key, struct.pack(">I", 1) + body)
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
        """The number of entries that the next confirm covers."""
        return int(struct.unpack_from(">I", self._until(CONFIRM), 9)[0])

    def chunk(self) -> int:
        """The number of records in the next chunk; grants one more credit."""
        (count,) = struct.unpack_from(">I", self._until(DELIVER), 13)
        self.send(CREDIT, struct.pack(">BH", 1, 1))
        return int(count)

    def publisher(self, topic: str) -> None:
        """Declare a publisher without a name, so that the server does not deduplicate by its ids."""
        self.call(DECLARE, struct.pack(">B", 1) + text("") + text(topic))


def entries(count: int, record_bytes: int) -> bytes:
    """A publish frame with `count` entries."""
    entry = struct.pack(">QI", 1, record_bytes) + payload(record_bytes)
    body = struct.pack(">BI", 1, count) + entry * count
    return struct.pack(">IHH", 4 + len(body), PUBLISH, 1) + body


def make(address: str, topic: str) -> Result:
    """Create a stream."""
    StreamConnection(address).call(CREATE, text(topic) + struct.pack(">i", 0))
    return {}


def produce(address: str, topic: str, *, total: int, record_bytes: int = 1024) -> Result:
    """Pipelined publishes, each entry confirmed."""
    connection = StreamConnection(address)
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


def fetch(address: str, topic: str, *, total: int, record_bytes: int = 1024) -> Result:
    """Read `total` bytes from the start."""
    connection = StreamConnection(address)
    read = 0
    began = time.perf_counter()
    connection.call(SUBSCRIBE, struct.pack(">B", 1) + text(topic) + struct.pack(">HHi", 1, CREDITS, 0))
    while read < total // record_bytes:
        read += connection.chunk()
    return {"seconds": time.perf_counter() - began, "bytes": read * record_bytes}


class StreamPublisher:
    """A publisher of single events."""

    def __init__(self, address: str, topic: str, record_bytes: int) -> None:
        self._connection = StreamConnection(address)
        self._connection.publisher(topic)
        self._request = entries(1, record_bytes)

    def send_request(self) -> None:
        """Publish one event."""
        self._connection.frames.send(self._request)

    def await_reply(self) -> None:
        """Wait for its confirm."""
        self._connection.confirmed()


def sync(
    address: str, topic: str, *, count: int, connections: int = 1, record_bytes: int = 1024, warm: int = 100
) -> Result:
    """One event at a time on each of `connections`."""
    return connect_and_do(lambda _: StreamPublisher(address, topic, record_bytes), connections, count, warm)


if __name__ == "__main__":
    main({"make": make, "produce": produce, "fetch": fetch, "sync": sync})
