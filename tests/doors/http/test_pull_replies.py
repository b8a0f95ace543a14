"""Replies to pulls whose client has left: what it cannot have received comes again, and does not count."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from mainstem.contract import NewEvent
from mainstem.doors.http.write_watch import WriteWatch
from tests.doors.http.door_kit import RunningHttpDoor, until
from tests.doors.http.test_subscriptions import depth, pull, running_queues

VALUE = b"x" * (6 << 20)
"""More than the buffers of the operating system for a connection that nothing reads from."""


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHttpDoor]:
    with running_queues(tmp_path_factory.mktemp("replies")) as running:
        yield running


def create(door: RunningHttpDoor, name: str, value: bytes) -> None:
    sizes: Any = dict.fromkeys(("max.message.bytes", "segment.bytes"), str(2 * len(VALUE)))
    door.create_topic(name, **sizes)
    door.run(lambda engine: engine.publish(name, [NewEvent(value)]))
    door.post("subscriptions", {"subscription": name, "topics": [name]})


@contextmanager
def pulling(door: RunningHttpDoor, name: str, buffer: int = 4096) -> Iterator[socket.socket]:
    """A client that has sent a pull, with a small buffer."""
    body = json.dumps({"consumer": "w", "max_bytes": 16 << 20})
    head = f"POST /api/v1/subscriptions/{name}:pull HTTP/1.1\r\nhost: localhost\r\n"
    head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        client.connect(("127.0.0.1", door.port))
        client.sendall((head + body).encode())
        yield client


def test_a_reply_of_which_a_part_was_never_taken_gives_its_events_back(door: RunningHttpDoor) -> None:
    create(door, "large", VALUE)
    with pulling(door, "large") as client:
        assert client.recv(10), "the reply has begun"
        assert depth(door, "large") == {"leased": 1}
    until(lambda: depth(door, "large") == {"ready": 1})
    (again,) = pull(door, "large", max_bytes=16 << 20)
    assert again["attempt"] == 1
    assert door.get("subscriptions/large")["failed"] == 0


def test_a_reply_that_the_operating_system_has_taken_counts_as_delivered(door: RunningHttpDoor) -> None:
    create(door, "small", b"x")
    with pulling(door, "small") as client:
        reply = b""
        while not reply.endswith(b"0\r\n\r\n"):
            reply += client.recv(10_000)
    assert depth(door, "small") == {"leased": 1}
    assert pull(door, "small") == []


def test_a_connection_serves_on_after_a_reply_that_was_read_slowly(door: RunningHttpDoor) -> None:
    create(door, "slow", VALUE)
    with pulling(door, "slow", buffer=1 << 18) as client:
        client.settimeout(20)
        reply = b""
        while not reply.endswith(b"0\r\n\r\n"):
            reply += client.recv(1 << 20)
        client.sendall(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert client.recv(1_000).startswith(b"HTTP/1.1 200 ")
    assert depth(door, "slow") == {"leased": 1}


class NotedTransport:
    """Notes the limits that are set."""

    def __init__(self) -> None:
        self.limits: list[int | None] = []
        self.closing = False

    def is_closing(self) -> bool:
        return self.closing

    def set_write_buffer_limits(self, high: int | None = None) -> None:
        self.limits.append(high)


def test_a_watch_says_whether_what_was_written_was_taken() -> None:
    watch, transport = WriteWatch(), NotedTransport()
    assert not watch.is_open
    watch.begin(transport)
    assert watch.is_open
    watch.watch()
    watch.watch()
    assert watch.when_taken().result()
    watch.on_pause()
    waiting = watch.when_taken()
    assert not waiting.done
    watch.on_resume()
    assert waiting.result()
    watch.on_pause()
    lost = watch.when_taken()
    watch.unwatch()
    assert transport.limits == [0, 0]
    watch.unwatch()
    assert transport.limits == [0, 0, None]
    transport.closing = True
    assert not watch.is_open
    watch.on_lost()
    assert not lost.result()
    assert not watch.when_taken().result()
    watch.watch()
    watch.unwatch()
    assert transport.limits == [0, 0, None], "the connection has ended"
