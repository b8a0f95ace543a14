"""The raw Redis client: streams by RESP, XADD pipelined."""

from __future__ import annotations

import socket
import time

import hiredis

from bench.clients.program import Result, connect_and_do, main, payload

IN_FLIGHT = 1024
CHUNK = 64
READ_AT_ONCE = 1000


class Connection:
    """A blocking socket and hiredis' reader."""

    def __init__(self, at: str) -> None:
        host, _, port = at.rpartition(":")
        self._socket = socket.create_connection((host, int(port)))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray(1 << 20)
        self._reader = hiredis.Reader()

    def send(self, data: bytes) -> None:
        """Send whole commands."""
        self._socket.sendall(data)

    def reply(self) -> object:
        """The next reply. RuntimeError: it is an error."""
        while (found := self._reader.gets()) is False:
            got = self._socket.recv_into(self._buffer)
            if not got:
                raise ConnectionError("the server closed the connection")
            self._reader.feed(bytes(memoryview(self._buffer)[:got]))
        if isinstance(found, Exception):
            raise RuntimeError(str(found))
        return found


def command(*words: bytes) -> bytes:
    """A command as an array of bulk strings."""
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


def xadd(topic: str, record_bytes: int) -> bytes:
    """Append one event."""
    return command(b"XADD", topic.encode(), b"*", b"v", payload(record_bytes))


def make(at: str, topic: str) -> Result:
    """Nothing to do: a stream is there with its first event."""
    return {}


def produce(at: str, topic: str, *, total: int, record_bytes: int = 1024) -> Result:
    """Pipelined XADD, each answered."""
    connection = Connection(at)
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


def fetch(at: str, topic: str, *, total: int, record_bytes: int = 1024) -> Result:
    """Read so much from the start, 1,000 events at a time."""
    connection = Connection(at)
    place, read = b"0", 0
    began = time.perf_counter()
    while read < total // record_bytes:
        connection.send(command(b"XREAD", b"COUNT", b"%d" % READ_AT_ONCE, b"STREAMS", topic.encode(), place))
        answer = connection.reply()
        assert isinstance(answer, list), "there is less to read than was asked for"
        rows = answer[0][1]
        read += len(rows)
        place = rows[-1][0]
    return {"seconds": time.perf_counter() - began, "bytes": read * record_bytes}


class Sync:
    """A producer of single events."""

    def __init__(self, at: str, topic: str, record_bytes: int) -> None:
        self._connection = Connection(at)
        self._request = xadd(topic, record_bytes)

    def ask(self) -> None:
        """One event on its way."""
        self._connection.send(self._request)

    def answered(self) -> None:
        """It is answered: with `appendfsync always`, on disk."""
        self._connection.reply()


def sync(
    at: str, topic: str, *, count: int, connections: int = 1, record_bytes: int = 1024, warm: int = 100
) -> Result:
    """One event at a time on each of `connections`."""
    return connect_and_do(lambda _: Sync(at, topic, record_bytes), connections, count, warm)


if __name__ == "__main__":
    main({"make": make, "produce": produce, "fetch": fetch, "sync": sync})
