"""Connections: malformed requests, slow clients, clients that read nothing, the maximum number."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from mainstem.doors.http import bodies
from mainstem.doors.http.security import HEADERS
from mainstem.doors.net import http_connection as connection
from tests.doors.http.door_kit import RunningHttpDoor


@contextmanager
def open_socket(door: RunningHttpDoor) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", door.port), timeout=20) as sock:
        yield sock


def receive_all(sock: socket.socket) -> bytes:
    """All bytes until the server closes the connection."""
    received = b""
    try:
        while part := sock.recv(65536):
            received += part
    except ConnectionError:
        pass
    return received


def assert_problem(answer: bytes, status: int, kind: str) -> dict[str, Any]:
    """Assert that a response is this problem; returns its members."""
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0].split(" ")[1] == str(status), answer
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
    assert headers["content-type"] == "application/problem+json"
    assert headers["connection"] == "close"
    assert headers.items() >= HEADERS.items()
    members: dict[str, Any] = json.loads(body)
    assert members["type"] == f"urn:mainstem:{kind}"
    assert members["status"] == status
    assert members["detail"]
    return members


@pytest.mark.parametrize(
    "line",
    [
        b"hello\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"POST /api/v1/topics HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n",
        b"POST /api/v1/topics HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n\r\n",
    ],
)
def test_bytes_that_are_not_a_request_get_a_problem(door: RunningHttpDoor, line: bytes) -> None:
    with open_socket(door) as sock:
        sock.sendall(line)
        assert_problem(receive_all(sock), 400, "bad-request")


ELEVEN_BYTES = b'{"value":1}'
CHUNKS = b"b\r\n" + ELEVEN_BYTES + b"\r\n0\r\n\r\n"
AMBIGUOUS = [
    (b"Content-Length: 11\r\nTransfer-Encoding: chunked", CHUNKS),
    (b"Transfer-Encoding: chunked\r\nContent-Length: 400", CHUNKS),
    (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", CHUNKS),
    (b"Transfer-Encoding: xchunked", CHUNKS),
    (b"Transfer-Encoding: gzip, chunked", CHUNKS),
    (b"Transfer-Encoding: identity", CHUNKS),
    (b"Transfer-Encoding: \x0bchunked", CHUNKS),
    (b"Transfer-Encoding : chunked", CHUNKS),
    (b"Transfer-Encoding: chunked", CHUNKS.replace(b"b\r\n", b"b\n", 1)),
    (b"Transfer-Encoding: chunked", b"0x" + CHUNKS),
    (b"Content-Length: 11\r\nContent-Length: 12", ELEVEN_BYTES),
    (b"Content-Length: 11, 12", ELEVEN_BYTES),
    (b"Content-Length: +11", ELEVEN_BYTES),
    (b"Content-Length: -1", ELEVEN_BYTES),
    (b"Content-Length: " + b"9" * 400, ELEVEN_BYTES),
    (b"Content-Length:\r\n 11\r\n 12", ELEVEN_BYTES),
    (b"X: a\rContent-Length: 11", ELEVEN_BYTES),
]


@pytest.mark.parametrize(("framing", "body"), AMBIGUOUS)
def test_a_body_whose_end_is_not_certain_ends_the_connection(
    door: RunningHttpDoor, framing: bytes, body: bytes
) -> None:
    """What follows is never taken for a request: a proxy in front may have passed it on as a part of the
    body."""
    path = b"POST /api/v1/topics/framed/events HTTP/1.1\r\nHost: %s\r\n" % door.address.encode()
    smuggled = b"DELETE /api/v1/topics/framed HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with open_socket(door) as sock:
        sock.sendall(path + b"Content-Type: application/json\r\n" + framing + b"\r\n\r\n" + body + smuggled)
        answer = receive_all(sock)
    assert len(re.findall(rb"HTTP/1\.1 [0-9]", answer)) == 1
    assert_problem(answer, 400, "bad-request")


def test_http_1_0_has_no_transfer_encoding(door: RunningHttpDoor) -> None:
    head = f"POST /api/v1/search HTTP/1.0\r\nHost: {door.address}\r\nContent-Type: application/json\r\n"
    with open_socket(door) as sock:
        sock.sendall(head.encode() + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKS)
        assert_problem(receive_all(sock), 400, "bad-request")


def test_a_malformed_chunked_body_ends_the_request(door: RunningHttpDoor) -> None:
    head = f"POST /api/v1/search HTTP/1.1\r\nHost: {door.address}\r\nContent-Type: application/json\r\n"
    with open_socket(door) as sock:
        sock.sendall(head.encode() + b"Transfer-Encoding: chunked\r\n\r\nno chunk\r\n")
        assert_problem(receive_all(sock), 400, "bad-request")
    assert door.get("cluster")


def test_too_many_headers_are_a_problem(door: RunningHttpDoor) -> None:
    with open_socket(door) as sock:
        sock.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 70_000)
        assert_problem(receive_all(sock), 431, "head-too-large")


def test_headers_that_arrive_too_slowly_are_refused(
    door: RunningHttpDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "HEAD_TIMEOUT_S", 0.3)
    with open_socket(door) as sock:
        for byte in b"GET /livez HTTP/1.1\r\nHost: localhost":
            try:
                sock.sendall(bytes([byte]))
            except ConnectionError:
                break
            time.sleep(0.02)
        assert_problem(receive_all(sock), 408, "slow-request")


def test_an_idle_connection_is_closed(door: RunningHttpDoor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "IDLE_TIMEOUT_S", 0.2)
    with open_socket(door) as sock:
        assert receive_all(sock) == b""


def test_a_body_that_arrives_too_slowly_is_refused(
    door: RunningHttpDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "SILENCE_TIMEOUT_S", 0.3)
    monkeypatch.setattr(connection, "LINGER_S", 0.2)
    head = f"POST /api/v1/search HTTP/1.1\r\nHost: {door.address}\r\nContent-Type: application/json\r\n"
    with open_socket(door) as sock:
        sock.sendall(head.encode() + b"Content-Length: 1000\r\n\r\n")
        for _ in range(200):  # never silent for long, and never done
            try:
                sock.sendall(b" ")
            except ConnectionError:
                break
            time.sleep(0.02)
        else:
            raise AssertionError("it was waited for")
        answer = receive_all(sock)
    assert b" 408 " in answer or not answer  # a reset may have overtaken it


def test_the_rest_of_a_request_is_discarded_only_for_a_while(
    door: RunningHttpDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "LINGER_S", 0.3)
    with open_socket(door) as sock:
        sock.sendall(
            f"GET /livez HTTP/1.1\r\nHost: {door.address}\r\nContent-Length: 100000\r\n\r\n".encode() + b"x"
        )
        assert sock.recv(65536).startswith(b"HTTP/1.1 200")
        with pytest.raises(ConnectionError):
            for _ in range(200):
                sock.sendall(b"x")
                time.sleep(0.02)


def test_a_client_that_does_not_read_its_response_is_disconnected(
    door: RunningHttpDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "WRITE_TIMEOUT_S", 0.3)
    topic = door.create_topic("much")
    for _ in range(12):
        assert door.post(f"topics/{topic}/events", {"value": "x" * 900_000}).status_code == 200
    before = len(door.door._server.server_state.connections)
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", door.port))
        path = f"/api/v1/topics/{topic}/partitions/0/events?max_bytes=60000000"
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: {door.address}\r\n\r\n".encode())
        deadline = time.monotonic() + 10
        seen = 0
        while time.monotonic() < deadline:
            now = len(door.door._server.server_state.connections)
            seen = max(seen, now)
            if seen > before and now <= before:
                break
            time.sleep(0.02)
        else:
            raise AssertionError("it is still there")


def test_the_number_of_connections_is_limited(door: RunningHttpDoor, monkeypatch: pytest.MonkeyPatch) -> None:
    open_before = len(door.door._server.server_state.connections)
    monkeypatch.setattr(connection, "CONNECTIONS_MAX", open_before + 2)
    with open_socket(door) as first, open_socket(door) as second, open_socket(door) as third:
        assert_problem(receive_all(third), 503, "crowded")
        for sock in (first, second):
            sock.sendall(f"GET /livez HTTP/1.1\r\nHost: {door.address}\r\n\r\n".encode())
            assert sock.recv(65536).startswith(b"HTTP/1.1 200")
    deadline = time.monotonic() + 10
    while len(door.door._server.server_state.connections) > open_before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert door.http.get("/livez").status_code == 200


def test_pipelined_requests_are_answered_in_order(door: RunningHttpDoor) -> None:
    with open_socket(door) as sock:
        request = f"GET /livez HTTP/1.1\r\nHost: {door.address}\r\n\r\n"
        last = f"GET /readyz HTTP/1.1\r\nHost: {door.address}\r\nConnection: close\r\n\r\n"
        sock.sendall((request * 3 + last).encode())
        answer = receive_all(sock)
    assert answer.count(b"HTTP/1.1 200") == 4
    assert answer.endswith(b'"reasons":[],"notes":[],"damaged":[],"doors":{}}')
