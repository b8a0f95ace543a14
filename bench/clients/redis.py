"""The raw Redis client: streams by RESP, XADD pipelined."""

from __future__ import annotations

import socket
import time

import hiredis

from bench.clients.program import Result, connect_and_do, main, payload

IN_FLIGHT = 1024
CHUNK = 64
READ_AT_ONCE = 1000


class RedisConnection:
    """A blocking socket and hiredis' reader."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray(1 << 20)
        self._reader = hiredis.Reader()

    def send(self, data: bytes) -> None:
        """Send whole commands."""
        self._socket.sendall(data)

    def reply(self) -> object:
        """The next reply. RuntimeError: it is an error."""
        while (reply := self._reader.gets()) is False:
            received = self._socket.recv_into(self._buffer)
            if not received:
                raise ConnectionError("the server closed the connection")
            self._reader.feed(bytes(memoryview(self._buffer)[:received]))
        if isinstance(reply, Exception):
            raise RuntimeError(str(reply))
        return reply


def command(*words: bytes) -> bytes:
    """A command as an array of bulk strings."""
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


def xadd(topic: str, record_bytes: int) -> bytes:
    """Append one event."""
    return command(b"XADD", topic.encode(), b"*", b"v", payload(record_bytes))


def make(address: str, topic: str) -> Result:
    """Do nothing: a stream begins to exist with its first event."""
    return {}


def produce(address: str, topic: str, *, total: int, record_bytes: int = 1024) -> Result:
    """Pipelined XADD, each answered."""
    connection = RedisConnection(address)
    many = xadd(topic, record_bytes) * CHUNK
    count = total // record_bytes // CHUNK * CHUNK
    sent = answered = 0
    began = time.perf_counter()
    while answered < count:
        while sent < count and sent - answered < IN_FLIGHT:
            connection.send(many)
            sent += CHUNK
        for _ in range(CHUNK):
            connection.reply()
        answered += CHUNK
    return {"seconds": time.perf_counter() - began, "bytes": count * record_bytes}


def fetch(address: str, topic: str, *, total: int, record_bytes: int = 1024) -> Result:
    """Read `total` bytes from the start, 1,000 events at a time."""
    connection = RedisConnection(address)
    last_id, read = b"0", 0
    began = time.perf_counter()
    while read < total // record_bytes:
        connection.send(
            command(b"XREAD", b"COUNT", b"%d" % READ_AT_ONCE, b"STREAMS", topic.encode(), last_id)
        )
        answer = connection.reply()
        assert isinstance(answer, list), "there is less to read than was asked for"
        rows = answer[0][1]
        read += len(rows)
        last_id = rows[-1][0]
    return {"seconds": time.perf_counter() - began, "bytes": read * record_bytes}


class RedisProducer:
    """A producer of single events."""

    def __init__(self, address: str, topic: str, record_bytes: int) -> None:
        self._connection = RedisConnection(address)
        self._request = xadd(topic, record_bytes)

    def send_request(self) -> None:
        """Send one XADD."""
        self._connection.send(self._request)

    def await_reply(self) -> None:
        """Wait for the reply: with `appendfsync always` the event is on disk."""
        self._connection.reply()


def sync(
    address: str, topic: str, *, count: int, connections: int = 1, record_bytes: int = 1024, warm: int = 100
) -> Result:
    """One event at a time on each of `connections`."""
    return connect_and_do(lambda _: RedisProducer(address, topic, record_bytes), connections, count, warm)


if __name__ == "__main__":
    main({"make": make, "produce": produce, "fetch": fetch, "sync": sync})
