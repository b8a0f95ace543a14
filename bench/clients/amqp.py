"""The raw AMQP 0-9-1 client, for RabbitMQ's quorum queues: publisher confirms, deliveries counted."""

from __future__ import annotations

import struct
import time

from bench.clients.frames import Frames
from bench.clients.program import Result, connect_and_do, main, payload

METHOD, HEADER, BODY = 1, 2, 3
END = b"\xce"
IN_FLIGHT = 2048
CHUNK = 64
PREFETCH = 2000
ACK, NACK, DELIVER = (60, 80), (60, 120), (60, 60)


def frame(kind: int, channel: int, body: bytes) -> bytes:
    """A frame of the protocol."""
    return struct.pack(">BHI", kind, channel, len(body)) + body + END


def method(channel: int, of: tuple[int, int], body: bytes = b"") -> bytes:
    """A method frame."""
    return frame(METHOD, channel, struct.pack(">HH", *of) + body)


def short(value: str) -> bytes:
    """A short string."""
    return struct.pack(">B", len(value)) + value.encode()


def long(value: bytes) -> bytes:
    """A long string, or a table that is encoded already."""
    return struct.pack(">I", len(value)) + value


class RabbitConnection:
    """A connection with one channel."""

    def __init__(self, address: str) -> None:
        self.frames = Frames(address, 7, lambda head: 8 + int.from_bytes(head[3:7], "big"))
        self.frames.send(b"AMQP\0\0\x09\x01")
        self.until((10, 10))
        login = long(b"") + short("PLAIN") + long(b"\0guest\0guest") + short("en_US")
        self.frames.send(method(0, (10, 11), login))
        self.until((10, 30))
        self.frames.send(method(0, (10, 31), struct.pack(">HIH", 2047, 131072, 0)))
        self.call(0, (10, 40), short("/") + short("") + b"\0")
        self.call(1, (20, 10), short(""))

    def call(self, channel: int, of: tuple[int, int], body: bytes) -> None:
        """Call a method and wait for its reply."""
        self.frames.send(method(channel, of, body))
        self.until((of[0], of[1] + 1))

    def until(self, *wanted: tuple[int, int]) -> memoryview:
        """Wait for one of these methods. RuntimeError: the server closes."""
        while True:
            frame = self.frames.next()
            if frame[0] != METHOD:
                continue
            of = struct.unpack_from(">HH", frame, 7)
            if of in wanted:
                return frame
            if of in ((10, 50), (20, 40), NACK):
                raise RuntimeError(f"refused: {bytes(frame)!r}")

    def confirms(self) -> None:
        """Turn publisher confirms on."""
        self.call(1, (85, 10), b"\0")

    def confirmed_to(self) -> int:
        """The largest delivery tag of the next ack. Quorum queues confirm in order."""
        return int(struct.unpack_from(">Q", self.until(ACK), 11)[0])


def publish(topic: str, value: bytes) -> bytes:
    """Publish one persistent message to the queue."""
    head = struct.pack(">HHQHB", 60, 0, len(value), 0x1000, 2)
    where = struct.pack(">H", 0) + short("") + short(topic) + b"\0"
    return method(1, (60, 40), where) + frame(HEADER, 1, head) + frame(BODY, 1, value)


def make(address: str, topic: str) -> Result:
    """Declare a quorum queue."""
    arguments = long(short("x-queue-type") + b"S" + long(b"quorum"))
    RabbitConnection(address).call(1, (50, 10), struct.pack(">H", 0) + short(topic) + b"\x02" + arguments)
    return {}


def produce(address: str, topic: str, *, total: int, record_bytes: int = 1024) -> Result:
    """Pipelined publishes, each confirmed."""
    connection = RabbitConnection(address)
    connection.confirms()
    many = publish(topic, payload(record_bytes)) * CHUNK
    count = total // record_bytes // CHUNK * CHUNK
    sent = confirmed = 0
    began = time.perf_counter()
    while confirmed < count:
        while sent < count and sent - confirmed < IN_FLIGHT:
            connection.frames.send(many)
            sent += CHUNK
        confirmed = connection.confirmed_to()
    return {"seconds": time.perf_counter() - began, "bytes": count * record_bytes}


def fetch(address: str, topic: str, *, total: int, record_bytes: int = 1024) -> Result:
    """Consume `total` bytes from the queue, acknowledged every 1,000 messages; reading a queue removes."""
    connection = RabbitConnection(address)
    connection.call(1, (60, 10), struct.pack(">IHB", 0, PREFETCH, 0))
    read = 0
    began = time.perf_counter()
    connection.call(1, (60, 20), struct.pack(">H", 0) + short(topic) + short("bench") + b"\0" + long(b""))
    while read < total // record_bytes:
        delivery = connection.until(DELIVER)
        read += 1
        if read % (PREFETCH // 2) == 0:
            tag = delivery[11 + 1 + delivery[11] :][:8]
            connection.frames.send(method(1, ACK, bytes(tag) + b"\x01"))
    return {"seconds": time.perf_counter() - began, "bytes": read * record_bytes}


class AmqpPublisher:
    """A publisher of single messages."""

    def __init__(self, address: str, topic: str, record_bytes: int) -> None:
        self._connection = RabbitConnection(address)
        self._connection.confirms()
        self._request = publish(topic, payload(record_bytes))

    def send_request(self) -> None:
        """Publish one message."""
        self._connection.frames.send(self._request)

    def await_reply(self) -> None:
        """Wait for its confirm."""
        self._connection.confirmed_to()


def sync(
    address: str, topic: str, *, count: int, connections: int = 1, record_bytes: int = 1024, warm: int = 100
) -> Result:
    """One message at a time on each of `connections`."""
    return connect_and_do(lambda _: AmqpPublisher(address, topic, record_bytes), connections, count, warm)


if __name__ == "__main__":
    main({"make": make, "produce": produce, "fetch": fetch, "sync": sync})
