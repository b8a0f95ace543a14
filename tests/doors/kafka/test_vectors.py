"""Golden vectors of another implementation, among them those of every offered key and version: decoded,
encoded, cut, extended."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import pytest

from mainstem.doors.kafka.handlers import discover
from mainstem.kafka_protocol.message import Message, ProtocolError, decode_request
from mainstem.kafka_protocol.schema import api
from mainstem.kafka_protocol.writer import write_reply, write_request
from tests.doors.kafka import oracle
from tests.doors.kafka.examples import KINDS, example
from tests.doors.kafka.kit import frame_reader, read_frames

OFFERED = [
    (key, version)
    for key, handler in sorted(discover().items())
    for version in range(handler.versions[0], handler.versions[1] + 1)
]


@cache
def vectors() -> dict[tuple[int, int, str, str], bytes]:
    rows = json.loads(Path(__file__).with_name("vectors.json").read_text())
    return {
        (key, version, direction, kind): bytes.fromhex(data)
        for key, version, direction, kind, _, data in rows
    }


KEYS = sorted({key for key, *_ in vectors()})


def vectors_of(key: int, direction: str) -> list[tuple[int, str, bytes, Message]]:
    """(version, kind, vector, message) of a key."""
    fields = oracle.shape_of(key, direction).fields
    return [
        (version, kind, vectors()[key, version, direction, kind], example(fields, version, kind))
        for version in sorted({row[1] for row in vectors() if row[0] == key})
        for kind in KINDS
    ]


def test_every_key_and_version_offered_has_vectors() -> None:
    expected = {
        (*pair, direction, kind)
        for pair in OFFERED
        for direction in ("request", "response")
        for kind in KINDS
    }
    assert expected - vectors().keys() == set()


@pytest.mark.parametrize("key", KEYS)
def test_replies_are_the_bytes_of_the_other_implementation(key: int) -> None:
    for version, kind, data, message in vectors_of(key, "response"):
        assert bytes(write_reply(key, version, message)) == data, (version, kind)


@pytest.mark.parametrize("key", KEYS)
def test_requests_of_the_other_implementation_are_read(key: int) -> None:
    for version, kind, data, message in vectors_of(key, "request"):
        read = decode_request(key, version, memoryview(data))
        assert oracle.same_message(api(key).request.fields, read, message, version), (version, kind)
        assert bytes(write_request(key, version, message)) == data, (version, kind)


@pytest.mark.parametrize("key", KEYS)
def test_a_cut_request_is_refused_and_an_extended_one_is_read(key: int) -> None:
    for version, _, data, _ in vectors_of(key, "request"):
        more = decode_request(key, version, memoryview(data + b"\0"))
        assert more == decode_request(key, version, memoryview(data))
        for end in range(len(data)):
            with pytest.raises(ProtocolError):
                decode_request(key, version, memoryview(data[:end]))


@pytest.mark.parametrize("step", [1, 7, 1 << 20])
def test_frames_of_all_requests_are_read_unchanged(step: int) -> None:
    bodies = [
        b"\0\0\0\0\0\0\0\0" + data
        for (_, _, direction, _), data in vectors().items()
        if direction == "request"
    ]
    stream = b"".join(len(body).to_bytes(4, "big") + body for body in bodies)
    assert read_frames(frame_reader(1 << 20), stream, step) == bodies
