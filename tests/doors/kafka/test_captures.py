"""Requests as real clients sent them, recorded by tests/compat/capture.py: whole, byte by byte, cut and
lengthened, and as kio reads them."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import NamedTuple

import pytest

from mainstem.doors.kafka.errors import ErrorCode
from mainstem.doors.kafka.handler import Handler, HandlerContext, Request
from mainstem.doors.kafka.handlers import discover
from mainstem.kafka_protocol.message import Message, ProtocolError, decode_request
from mainstem.kafka_protocol.schema import API_VERSIONS, api
from mainstem.kafka_protocol.writer import write_request
from tests.compat import capture
from tests.doors.kafka import oracle
from tests.doors.kafka.kit import DoorClient, decode_reply, frame_reader, read_frames

FILE_BYTES_MAX = 150_000
HEADER_BYTES = 14
"""Length, key, version, correlation id, length of the client id."""

BYTES_TOO_MANY = {("kafka_go", 29): 1}
"""(client, key) -> bytes after the end of the request, which servers ignore."""


class CapturedRequest(NamedTuple):
    client: str
    key: int
    version: int
    frame: bytes
    """With its length."""

    @property
    def body(self) -> bytes:
        """What follows the header, as far as Kafka's schema has it."""
        start = HEADER_BYTES + max(0, int.from_bytes(self.frame[12:14], "big", signed=True))
        if self.version >= api(self.key).request.flexible:
            assert self.frame[start] == 0, "no client sends tagged fields in the header"
            start += 1
        quirk = discovered()[self.key].body_offset_quirk
        end = len(self.frame) - BYTES_TOO_MANY.get((self.client, self.key), 0)
        return self.frame[quirk(self.version, memoryview(self.frame), start) if quirk else start : end]


@cache
def discovered() -> dict[int, Handler]:
    return discover()


@cache
def captured() -> list[CapturedRequest]:
    return [CapturedRequest(*row, frame) for row, frame in capture.load().items()]


def is_offered(request: CapturedRequest) -> bool:
    low, high = discovered()[request.key].versions
    return low <= request.version <= high


def of(client: str) -> list[CapturedRequest]:
    """The requests of a client that the door can read."""
    return [request for request in captured() if request.client == client and is_offered(request)]


def test_the_file_has_every_client_is_sorted_and_small() -> None:
    rows = [request[:3] for request in captured()]
    assert {client for client, _, _ in rows} == set(capture.CLIENTS)
    assert rows == sorted(set(rows))
    assert max(len(request.frame) for request in captured()) <= capture.FRAME_BYTES_MAX
    assert capture.TARGET.stat().st_size < FILE_BYTES_MAX


def test_every_key_and_version_that_a_client_sent_is_offered() -> None:
    reply = DoorClient().call(API_VERSIONS, 0, Message())
    offered = {key.api_key: range(key.min_version, key.max_version + 1) for key in reply.api_keys}
    refused = [request for request in captured() if request.version not in offered[request.key]]
    assert {request.key for request in refused} <= {API_VERSIONS}, "which a client asks for before it knows"
    for request in refused:
        door = DoorClient()
        door.feed(request.frame)
        reply = decode_reply(API_VERSIONS, 0, memoryview(door.transport.sent)[4:])
        assert reply.error_code == ErrorCode.UNSUPPORTED_VERSION
        assert [key.api_key for key in reply.api_keys] == [API_VERSIONS], "so that the client asks again"


@pytest.mark.parametrize("client", capture.CLIENTS)
def test_frames_are_read_however_they_are_cut_and_whatever_follows(client: str) -> None:
    for request in of(client):
        payload = request.frame[4:]
        assert read_frames(frame_reader(1 << 20), request.frame) == [payload]
        assert read_frames(frame_reader(1 << 20), request.frame + request.frame[:-1]) == [payload]
        frames = frame_reader(1 << 20)
        for position in range(len(request.frame) - 1):
            assert read_frames(frames, request.frame[position : position + 1]) == [], (
                "a proper prefix asks for more"
            )
        assert read_frames(frames, request.frame[-1:]) == [payload]


@pytest.mark.parametrize("client", capture.CLIENTS)
def test_the_door_reads_each_request_to_its_end_and_loses_nothing(client: str) -> None:
    bodies: list[tuple[int, int, bytes]] = []

    def record(_: HandlerContext, request: Request) -> None:
        body = write_request(request.key, request.version, request.body)
        bodies.append((request.key, request.version, bytes(body)))

    handlers = {key: replace(handler, handle=record) for key, handler in discovered().items()}
    door = DoorClient(handlers=handlers)
    for request in of(client):
        door.feed(request.frame)
    assert not door.transport.closed
    assert bodies == [(request.key, request.version, request.body) for request in of(client)]


@pytest.mark.parametrize("client", capture.CLIENTS)
def test_a_cut_request_is_refused_and_a_lengthened_one_is_read(client: str) -> None:
    for request in of(client):
        key, version, body = request.key, request.version, request.body
        lengthened = decode_request(key, version, memoryview(body + b"\0"))
        assert lengthened == decode_request(key, version, memoryview(body))
        for end in range(len(body)):
            with pytest.raises(ProtocolError):
                decode_request(key, version, memoryview(body[:end]))


@pytest.mark.parametrize("client", capture.CLIENTS)
def test_requests_are_read_as_kio_reads_them(client: str) -> None:
    for request in of(client):
        ours = decode_request(request.key, request.version, memoryview(request.body))
        theirs = oracle.kio_read(request.key, request.version, "request", request.body)
        fields = api(request.key).request.fields
        assert oracle.same_message(fields, ours, theirs, request.version), request[:3]
