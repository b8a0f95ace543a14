"""Memory that clients of the HTTP door share: bodies that are never finished, responses that are not read."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from mainstem.contract import NewEvent, Position
from mainstem.doors.http import bodies, body_memory
from mainstem.doors.http.routes import tail
from mainstem.doors.net import http_connection as connection
from mainstem.engines.embedded import read
from tests.doors.http.door_kit import RunningHttpDoor, problem, until
from tests.doors.http.test_connection import open_socket

KB = 1 << 10
BUDGET_BYTES = 512 * KB
BODY_BYTES = 300 * KB


@pytest.fixture(autouse=True)
def small_budget(door: RunningHttpDoor, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    budget = door.door.context.body_budget
    monkeypatch.setattr(budget, "max_bytes", BUDGET_BYTES)
    monkeypatch.setattr(body_memory, "WAIT_S", 0.3)
    yield
    until(lambda: budget.used_bytes == 0 and not budget.is_contended)


def head(door: RunningHttpDoor, path: str, framing: str, media: str = "application/json") -> bytes:
    lines = (f"POST {path} HTTP/1.1", f"Host: {door.address}", f"Content-Type: {media}", framing, "", "")
    return "\r\n".join(lines).encode()


@contextlib.contextmanager
def unfinished(
    door: RunningHttpDoor, count: int, path: str, framing: str, media: str, body: bytes
) -> Iterator[list[socket.socket]]:
    """`count` connections that have sent all of a body but its end."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(open_socket(door)) for _ in range(count)]
        for sock in sockets:
            sock.sendall(head(door, path, framing, media) + body)
        yield sockets


def replies(sockets: list[socket.socket], count: int) -> list[bytes]:
    """What `count` of the sockets receive first, or more of them."""
    received: dict[socket.socket, bytes] = {}

    def are_there() -> bool:
        for sock in sockets:
            sock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                received[sock] = received.get(sock, b"") + sock.recv(65536)
        return len(received) >= count

    until(are_there)
    return list(received.values())


JSON, LINES = "application/json", "application/x-ndjson"
LENGTH = f"Content-Length: {BODY_BYTES}"
CHUNKED = "Transfer-Encoding: chunked"
PART = b" " * (BODY_BYTES - 1)


@pytest.mark.parametrize(
    ("path", "framing", "media", "body"),
    [
        ("/api/v1/topics/many/events", LENGTH, JSON, PART),
        ("/api/v1/topics/many/events", CHUNKED, JSON, b"%x\r\n" % BODY_BYTES + PART),
        ("/api/v1/topics/many/events", CHUNKED, LINES, b"%x\r\n" % BODY_BYTES + PART),
        ("/api/v1/topics/many/events", LENGTH, "application/cloudevents+json", PART),
        ("/api/v1/search", LENGTH, JSON, PART),
        ("/api/v1/replay", CHUNKED, JSON, b"%x\r\n" % BODY_BYTES + PART),
        ("/api/v1/topics", LENGTH, JSON, PART),
    ],
)
def test_unfinished_bodies_of_all_connections_share_one_budget(
    door: RunningHttpDoor, path: str, framing: str, media: str, body: bytes
) -> None:
    budget = door.door.context.body_budget
    with unfinished(door, 8, path, framing, media, body) as sockets:
        # Two fill the budget, a third may go on to its end; the others wait, and then get the problem.
        until(lambda: budget.used_bytes > BUDGET_BYTES)
        assert budget.used_bytes <= BUDGET_BYTES + BODY_BYTES
        small = door.http.post("/api/v1/topics/many/events", json={"value": "small"})
        assert small.status_code == 200, "small bodies are not counted"
        answers = replies(sockets, 5)
    for answer in answers:
        assert answer.startswith(b"HTTP/1.1 503 "), answer
        assert b"\r\nretry-after: 5\r\n" in answer
    until(lambda: budget.used_bytes == 0)


def test_a_body_that_keeps_memory_others_wait_for_is_ended(
    door: RunningHttpDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "WANTED_TIMEOUT_S", 0.3)
    monkeypatch.setattr(body_memory, "WAIT_S", 10)
    path = "/api/v1/topics/many/events"
    with unfinished(door, 3, path, LENGTH, JSON, PART) as sockets:
        published = door.http.post(path, json={"value": "x" * BODY_BYTES})
        assert published.status_code == 200, "it waited until the others were ended"
        assert b" 408 " in replies(sockets, 1)[0]
    with unfinished(door, 1, path, LENGTH, JSON, PART[: 100 * KB]) as (sock,):
        time.sleep(0.5)  # no other waits: it may take its time
        sock.sendall(PART[100 * KB :] + b"1")
        assert b" 400 " in sock.recv(65536), "a number is no event, but it was read to its end"


def test_a_topic_that_takes_no_events_is_refused_before_its_body_is_read(
    door: RunningHttpDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = door.create_topic("closed")
    for topic, creates, status in (
        ("nowhere", False, b" 404 "),
        ("a*b", True, b" 422 "),
        ("__consumer_offsets", True, b" 422 "),
    ):
        before = door.node.settings
        monkeypatch.setattr(door.node, "settings", replace(before, auto_create_topics=creates))
        for media in (JSON, LINES):
            request = head(door, f"/api/v1/topics/{topic}/events", LENGTH, media)
            with open_socket(door) as sock:
                sock.sendall(request.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
                answer = sock.recv(65536)
                assert status in answer.partition(b"\r\n")[0], answer
                assert b"100 Continue" not in answer
        monkeypatch.setattr(door.node, "settings", before)
    assert {row["topic"] for row in door.get("topics")["topics"]}.isdisjoint({"nowhere", "a*b"})
    assert door.http.post(f"/api/v1/topics/{closed}/events", json={"value": 1}).status_code == 200


def test_checking_a_topic_creates_none(door: RunningHttpDoor) -> None:
    assert door.run(lambda engine: engine.publish("only-checked", [])) == []
    problem(door.http.get("/api/v1/topics/only-checked"), 404, "unknown-topic")


def test_pipelined_bodies_are_read_one_by_one(door: RunningHttpDoor) -> None:
    body = b'{"value": "%s"}' % (b"x" * BODY_BYTES)
    request = head(door, "/api/v1/topics/piped/events", f"Content-Length: {len(body)}") + body
    budget = door.door.context.body_budget
    with open_socket(door) as sock:
        sock.sendall(request * 5)
        most = answers = 0
        while answers < 5:
            answers += sock.recv(65536).count(b"HTTP/1.1 200")
            most = max(most, budget.used_bytes)
    assert most <= BODY_BYTES + KB


# --- responses ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def large(door: RunningHttpDoor) -> str:
    """A topic with 24 MB of events of 200 KB."""
    topic = door.create_topic("large", 4)
    for _ in range(30):
        events = [{"value": "x" * 200_000, "partition": number} for number in range(4)]
        assert door.post(f"topics/{topic}/events", events).status_code == 200
    return topic


def test_what_all_clients_leave_unread_is_bounded(
    door: RunningHttpDoor, large: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(connection, "UNREAD_BYTES_MAX", 2_000_000)
    caplog.set_level(logging.WARNING)
    server = door.door._server.server_state

    def unread_bytes() -> int:
        return sum(client.transport.get_write_buffer_size() for client in list(server.connections))

    requests = [
        f"GET /api/v1/topics/{large}/tail?from=begin&rate=0 HTTP/1.1",
        f"GET /api/v1/topics/{large}/partitions/0/events?max_bytes=60000000&limit=10000 HTTP/1.1",
    ]
    with contextlib.ExitStack() as stack:
        for number in range(16):
            sock = stack.enter_context(socket.socket())
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.connect(("127.0.0.1", door.port))
            sock.sendall(f"{requests[number % 2]}\r\nHost: {door.address}\r\n\r\n".encode())
        until(lambda: "does not read its response" in caplog.text)
        time.sleep(0.2)
        assert unread_bytes() <= 2_000_000
        assert door.http.get("/livez").status_code == 200
    until(lambda: not door.door._unread._connections)


def test_a_page_of_any_size_is_read_while_it_is_sent(
    door: RunningHttpDoor, large: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    largest = 0
    read_events = read.EmbeddedReader.read

    async def counted(self: read.EmbeddedReader, **limits: int) -> object:
        nonlocal largest
        result = await read_events(self, **limits)
        largest = max(largest, sum(len(event.value or b"") for event in result.events))
        return result

    monkeypatch.setattr(read.EmbeddedReader, "read", counted)
    page = door.get(f"topics/{large}/partitions/0/events", max_bytes=60_000_000, limit=10_000)
    assert len(page["events"]) == page["end"] == 30
    assert page["next"].endswith(".30")
    assert 0 < largest <= 2 * read.READ_BYTES


def test_a_tail_reads_fewer_events_at_once_the_larger_they_are(door: RunningHttpDoor, large: str) -> None:
    with door.http.stream("GET", f"/api/v1/topics/{large}/tail?from=begin&rate=0") as reply:
        between_ids = [0]
        for line in reply.iter_lines():
            if line.startswith("data: "):
                between_ids[-1] += 1
            elif line.startswith("id: "):
                between_ids.append(0)
            if sum(between_ids) == 100:
                break
    assert max(between_ids) <= tail.FIRST_SLICE_EVENTS
    assert max(between_ids[3:]) == 1, "256 KB together at most, once their size is known"


def test_a_reader_of_many_partitions_decodes_no_more_than_its_limit(
    door: RunningHttpDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read, "DECODED_BYTES", 100_000)
    topic = door.create_topic("wide", 20)
    events = [NewEvent(b"x" * 1000, partition=number % 20) for number in range(1000)]
    door.run(lambda engine: engine.publish(topic, events))

    async def work(engine: object) -> int:
        reader = await door.engine.reader([Position(topic, number, 0) for number in range(20)])
        count, most = 0, 0
        while count < 1000:
            count += len((await reader.read(max_events=10, wait_ms=0)).events)
            cursors = reader._cursors.values()
            most = max(most, sum(len(cursor.decoded) * 1000 for cursor in cursors))
            await asyncio.sleep(0)
        return most

    assert 0 < door.run(work) <= 150_000
