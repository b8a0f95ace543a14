"""The codecs of kafka_protocol against kio, for every key and version of the schema."""

from __future__ import annotations

import random
import subprocess
import sys
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainstem.doors.kafka.errors import ErrorCode
from mainstem.kafka_protocol.message import (
    Message,
    ProtocolError,
    decode_reply,
    decode_request,
    encode_request,
)
from mainstem.kafka_protocol.schema import MessageSchema, api, keys
from mainstem.kafka_protocol.writer import _struct_writer, uvarint, write_reply, write_request
from tests.doors.kafka import make_schema, oracle
from tests.doors.kafka.kit import request_frame

PAIRS = [
    (key, version)
    for key in keys()
    for version in range(api(key).request.versions[0], api(key).request.versions[1] + 1)
]


REPLY_PAIRS = [
    (key, version)
    for key in keys()
    for version in range(api(key).response.versions[0], api(key).response.versions[1] + 1)
]


def test_the_schema_is_the_one_made_from_kio() -> None:
    assert make_schema.TARGET.read_text() == make_schema.generate()


def test_error_codes_are_kafkas() -> None:
    from kio.schema.errors import ErrorCode as Theirs

    assert {code.name: int(code) for code in ErrorCode} == {code.name.upper(): int(code) for code in Theirs}


@pytest.mark.parametrize("key", keys())
def test_replies_are_the_bytes_that_kio_writes(key: int) -> None:
    rng = random.Random(key)
    for version in range(api(key).response.versions[0], api(key).response.versions[1] + 1):
        for _ in range(4):
            message = oracle.build(api(key).response.fields, version, rng)
            assert bytes(write_reply(key, version, message)) == oracle.kio_bytes(
                key, version, "response", message
            )


@pytest.mark.parametrize("key", keys())
def test_requests_are_read_as_kio_reads_them(key: int) -> None:
    rng = random.Random(key)
    shape = api(key).request
    for version in range(shape.versions[0], shape.versions[1] + 1):
        for _ in range(4):
            data = oracle.kio_bytes(key, version, "request", oracle.build(shape.fields, version, rng))
            ours = decode_request(key, version, memoryview(data))
            assert oracle.same_message(
                shape.fields, ours, oracle.kio_read(key, version, "request", data), version
            )
            assert set(vars(ours)) == {field.name for field in shape.fields}


@pytest.mark.parametrize("key", keys())
def test_requests_are_the_bytes_that_kio_writes(key: int) -> None:
    rng = random.Random(key)
    shape = api(key).request
    for version in range(shape.versions[0], shape.versions[1] + 1):
        for _ in range(4):
            message = oracle.build(shape.fields, version, rng)
            expected = oracle.kio_bytes(key, version, "request", message)
            assert bytes(write_request(key, version, message)) == expected


def _reply_frame(key: int, version: int, body: bytes, tags: bytes = b"\0") -> memoryview:
    """A reply without its length. `tags`: the tagged fields of its header, if the version has them."""
    is_flexible = version >= api(key).response.flexible and key != 18
    return memoryview(b"\0\0\0\7" + (tags if is_flexible else b"") + body)


@pytest.mark.parametrize("key", keys())
def test_replies_are_read_as_kio_reads_them(key: int) -> None:
    rng = random.Random(key)
    shape = api(key).response
    for version in range(shape.versions[0], shape.versions[1] + 1):
        for tags in (b"\0", b"\0", b"\2\x09\3abc\x0a\0"):
            body = oracle.kio_bytes(key, version, "response", oracle.build(shape.fields, version, rng))
            ours = decode_reply(key, version, _reply_frame(key, version, body, tags))
            theirs = oracle.kio_read(key, version, "response", body)
            assert oracle.same_message(shape.fields, ours, theirs, version)
            assert set(vars(ours)) == {field.name for field in shape.fields}


@pytest.mark.parametrize("key", keys())
def test_missing_bytes_of_a_reply_are_protocol_errors(key: int) -> None:
    rng = random.Random(key)
    shape = api(key).response
    for version in range(shape.versions[0], shape.versions[1] + 1):
        body = bytes(write_reply(key, version, oracle.build(shape.fields, version, rng)))
        frame = _reply_frame(key, version, body)
        for end in range(4, min(len(frame), 400)):
            with pytest.raises(ProtocolError):
                decode_reply(key, version, frame[:end])


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(REPLY_PAIRS), st.binary(max_size=300))
def test_garbage_is_a_reply_or_a_protocol_error(pair: tuple[int, int], data: bytes) -> None:
    try:
        assert isinstance(decode_reply(*pair, memoryview(data)), Message)
    except ProtocolError:
        pass


@pytest.mark.parametrize(("key", "version"), [(3, 4), (3, 12), (18, 0), (18, 3)])
def test_a_request_frame_is_that_of_other_clients(key: int, version: int) -> None:
    message = oracle.build(api(key).request.fields, version, random.Random(key))
    frame = encode_request(key, version, 7, "test", message)
    assert frame == request_frame(key, version, 7, message)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(PAIRS), st.randoms(use_true_random=False))
def test_a_written_request_is_read_again(pair: tuple[int, int], rng: random.Random) -> None:
    key, version = pair
    shape = api(key).request
    message = oracle.build(shape.fields, version, rng)
    read = decode_request(key, version, memoryview(write_request(key, version, message)))
    assert oracle.same_message(shape.fields, read, message, version)


def _whole(key: int, version: int, seed: int = 0) -> bytes:
    rng = random.Random(seed)
    return bytes(write_request(key, version, oracle.build(api(key).request.fields, version, rng)))


@pytest.mark.parametrize("key", keys())
def test_missing_bytes_are_protocol_errors_and_bytes_after_the_end_are_ignored(key: int) -> None:
    for version in range(api(key).request.versions[0], api(key).request.versions[1] + 1):
        data = _whole(key, version, 3)
        more = decode_request(key, version, memoryview(data + b"\0\0\0"))
        assert more == decode_request(key, version, memoryview(data))
        for end in range(min(len(data), 400)):
            with pytest.raises(ProtocolError):
                decode_request(key, version, memoryview(data[:end]))


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(PAIRS), st.binary(max_size=300))
def test_garbage_is_a_request_or_a_protocol_error(pair: tuple[int, int], data: bytes) -> None:
    try:
        assert isinstance(decode_request(*pair, memoryview(data)), Message)
    except ProtocolError:
        pass


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(PAIRS), st.integers(0, 5), st.data())
def test_a_damaged_request_is_a_request_or_a_protocol_error(
    pair: tuple[int, int], seed: int, draw: st.DataObject
) -> None:
    data = bytearray(_whole(*pair, seed))
    for _ in range(draw.draw(st.integers(1, 3))):
        if data:
            position = draw.draw(st.integers(0, len(data) - 1))
            patch = draw.draw(
                st.sampled_from(
                    (
                        b"\xff\xff\xff\xff",
                        b"\xff\xff\xff\xff\x0f",
                        b"\x7f\xff\xff\xff",
                        b"\x80\0\0\0",
                        b"\xff",
                    )
                )
            )
            data[position : position + len(patch)] = patch
    try:
        decode_request(*pair, memoryview(data))
    except ProtocolError:
        pass


@pytest.mark.parametrize("count", [b"\x7f\xff\xff\xff", b"\xff\xff\xff\xf0", b"\x00\x10\x00\x00"])
def test_a_count_allocates_no_memory(count: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError):
            decode_request(3, 1, memoryview(count + b"\0" * 100))
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "count", [b"\xff\xff\xff\xff\x0f", b"\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\xff\x7f"]
)
def test_a_varint_count_allocates_no_memory(count: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_request(3, 9, memoryview(count + b"\0" * 100))


def test_unknown_tagged_fields_are_skipped() -> None:
    plain = bytes(write_request(18, 3, Message(client_software_name="a", client_software_version="1")))
    tagged = plain[:-1] + b"\x02" + uvarint(7) + b"\x03abc" + uvarint(99_999) + b"\x00"
    assert decode_request(18, 3, memoryview(tagged)) == decode_request(18, 3, memoryview(plain))


@pytest.mark.parametrize(
    "tags",
    [
        b"\x01\x00",
        b"\x01\x00\x05abcd",
        b"\xff\xff\xff\xff\x0f",
        b"\x81\x80\x80\x80\x80\x00",
        uvarint(1025) + b"\x07\x00" * 1025,
    ],
)
def test_invalid_tagged_fields_are_protocol_errors(tags: bytes) -> None:
    plain = bytes(write_request(18, 3, Message(client_software_name="a", client_software_version="1")))
    with pytest.raises(ProtocolError):
        decode_request(18, 3, memoryview(plain[:-1] + tags))


def test_a_known_tag_must_end_where_its_size_says() -> None:
    plain = bytes(write_request(1, 12, Message(topics=[])))
    for size in (0, 1, 3, 9):
        with pytest.raises(ProtocolError):
            decode_request(1, 12, memoryview(plain[:-1] + b"\x01\x00" + bytes([size]) + b"\x02a" + b"\0" * 8))


def test_strings_longer_than_kafka_allows_are_refused() -> None:
    data = write_request(18, 3, Message(client_software_name="a" * 40_000, client_software_version="1"))
    with pytest.raises(ProtocolError):
        decode_request(18, 3, memoryview(data))


def test_text_that_is_not_utf8_is_decoded_with_replacement_characters_as_kafka_does() -> None:
    (topic,) = decode_request(3, 0, memoryview(b"\0\0\0\1\0\4caf\xe9")).topics
    assert topic.name == "caf\ufffd"


def test_null_where_it_is_not_allowed_is_refused() -> None:
    for body in (b"\xff\xff\xff\xff", b"\0\0\0\1\xff\xff"):
        with pytest.raises(ProtocolError):
            decode_request(3, 0, memoryview(body))


def test_records_are_a_view_into_the_frame_and_bytes_a_copy() -> None:
    topic = Message(name="t", partition_data=[Message(index=0, records=b"batch")])
    frame = bytearray(write_request(0, 9, Message(acks=1, timeout=1, topic_data=[topic])))
    records = decode_request(0, 9, memoryview(frame)).topic_data[0].partition_data[0].records
    assert isinstance(records, memoryview)
    records[0:1] = b"B"
    assert b"Batch" in frame
    protocol = Message(name="range", metadata=b"m")
    body = write_request(11, 5, Message(group_id="g", session_timeout=1, protocols=[protocol]))
    assert isinstance(decode_request(11, 5, memoryview(body)).protocols[0].metadata, bytes)


def test_a_reply_with_a_field_that_no_version_has_is_a_bug() -> None:
    with pytest.raises(AssertionError, match="eror_code"):
        write_reply(12, 0, Message(eror_code=1))


def test_reply_fields_left_out_get_their_defaults() -> None:
    for key in keys():
        shape: MessageSchema = api(key).response
        for version in range(shape.versions[0], shape.versions[1] + 1):
            out = bytearray()
            _struct_writer(shape.fields, version, version >= shape.flexible)(out, Message())
            oracle.kio_read(key, version, "response", bytes(out))


def test_null_is_written_empty_where_the_version_has_no_null() -> None:
    assert write_reply(3, 9, Message(topics=[Message(name=None)])) == write_reply(
        3, 9, Message(topics=[Message(name="")])
    )


def test_the_server_never_imports_kio() -> None:
    code = "import sys, mainstem.doors.kafka.server as s; s.discover(); print('kio' in sys.modules)"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout == "False\n"
