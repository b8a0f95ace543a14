"""The raw NATS client: JetStream by its text protocol, publishes pipelined, acknowledgements counted."""

from __future__ import annotations

import json
import socket
import time

from bench.clients.program import Result, connect_and_do, main, payload

IN_FLIGHT = 4096
"""Unacknowledged publishes at a time, as `nats bench js pub async` does in batches."""
CHUNK = 64
ACKNOWLEDGED = b'"seq":'
DELIVERED = b"$JS.ACK."


class NatsConnection:
    """A blocking socket with a subscription to its own inbox."""

    def __init__(self, address: str, inbox: str = "_INBOX.bench") -> None:
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray(1 << 20)
        self._tail = b""
        self.inbox = inbox
        self._socket.recv(4096)  # INFO
        options = {"verbose": False, "pedantic": False, "headers": True, "no_responders": True}
        self.send(b"CONNECT %b\r\nSUB %b 1\r\nPING\r\n" % (json.dumps(options).encode(), inbox.encode()))
        self.until(b"PONG")

    def send(self, data: bytes) -> None:
        """Send whole commands."""
        self._socket.sendall(data)

    def publish(self, subject: str, value: bytes) -> bytes:
        """A PUB command whose acknowledgement is sent to the inbox."""
        return b"PUB %b %b %d\r\n%b\r\n" % (subject.encode(), self.inbox.encode(), len(value), value)

    def count(self, mark: bytes) -> int:
        """How often `mark` occurs in the next bytes received."""
        received = self._socket.recv_into(self._buffer)
        if not received:
            raise ConnectionError("the server closed the connection")
        text = self._tail + bytes(memoryview(self._buffer)[:received])
        if b"-ERR" in text or b'"error":' in text:
            raise RuntimeError(f"refused: {text[:300]!r}")
        self._tail = text[-(len(mark) - 1) :]
        return text.count(mark)

    def until(self, mark: bytes) -> None:
        """Wait for `mark`."""
        while not self.count(mark):
            pass
        self._tail = b""


def make(address: str, topic: str) -> Result:
    """A stream of one subject, in a file."""
    connection = NatsConnection(address)
    settings = {"name": topic, "subjects": [topic], "storage": "file", "retention": "limits"}
    connection.send(connection.publish(f"$JS.API.STREAM.CREATE.{topic}", json.dumps(settings).encode()))
    connection.until(b'"created"')
    return {}


def produce(address: str, topic: str, *, total: int, record_bytes: int = 1024) -> Result:
    """Pipelined publishes, each acknowledged."""
    connection = NatsConnection(address)
    many = connection.publish(topic, payload(record_bytes)) * CHUNK
    count = total // record_bytes // CHUNK * CHUNK
    sent = acknowledged = 0
    began = time.perf_counter()
    while acknowledged < count:
        while sent < count and sent - acknowledged < IN_FLIGHT:
            connection.send(many)
            sent += CHUNK
        acknowledged += connection.count(ACKNOWLEDGED)
    return {"seconds": time.perf_counter() - began, "bytes": count * record_bytes}


def fetch(address: str, topic: str, *, total: int, record_bytes: int = 1024) -> Result:
    """Read `total` bytes from the start by a push consumer without acknowledgements."""
    connection = NatsConnection(address)
    settings = {
        "stream_name": topic,
        "config": {"deliver_subject": connection.inbox, "deliver_policy": "all", "ack_policy": "none"},
    }
    create = f"$JS.API.CONSUMER.CREATE.{topic}"
    body = json.dumps(settings).encode()
    began = time.perf_counter()
    connection.send(b"PUB %b _INBOX.other %d\r\n%b\r\n" % (create.encode(), len(body), body))
    read = 0
    while read < total // record_bytes:
        read += connection.count(DELIVERED)
    return {"seconds": time.perf_counter() - began, "bytes": read * record_bytes}


class NatsPublisher:
    """A publisher of single events."""

    def __init__(self, address: str, number: int, topic: str, record_bytes: int) -> None:
        self._connection = NatsConnection(address, f"_INBOX.bench.{number}")
        self._request = self._connection.publish(topic, payload(record_bytes))

    def send_request(self) -> None:
        """Publish one event."""
        self._connection.send(self._request)

    def await_reply(self) -> None:
        """Wait for its acknowledgement."""
        self._connection.until(ACKNOWLEDGED)


def sync(
    address: str, topic: str, *, count: int, connections: int = 1, record_bytes: int = 1024, warm: int = 100
) -> Result:
    """One event at a time on each of `connections`."""
    return connect_and_do(
        lambda number: NatsPublisher(address, number, topic, record_bytes), connections, count, warm
    )


if __name__ == "__main__":
    main({"make": make, "produce": produce, "fetch": fetch, "sync": sync})
