"""The record batch: validation, server fields, building and decoding."""

from __future__ import annotations

import contextlib
import struct
import sys

import pytest
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from crc32c import crc32c
from hypothesis import given, settings
from hypothesis import strategies as st

from mainstem.log.errors import (
    CorruptBatch,
    InvalidBatch,
    InvalidTimestamp,
    LogError,
    UnsupportedCompression,
    UnsupportedFormat,
)
from mainstem.log.storage import codecs, record_batch
from mainstem.log.storage.record_batch import (
    HEADER_BYTES,
    Record,
    assign_offsets,
    build,
    crc_matches,
    decode,
    iter_batches,
    read_header,
    validate,
)
from mainstem.log.storage.record_fields import parse_records
from tests.log.batches import batch
from tests.support.raw_batches import RawHeaders, RawRecord, batch_with_names

FIELDS = {
    "base_offset": (0, ">q"),
    "length": (8, ">i"),
    "magic": (16, ">b"),
    "crc": (17, ">I"),
    "attributes": (21, ">h"),
    "last_offset_delta": (23, ">i"),
    "base_timestamp": (27, ">q"),
    "max_timestamp": (35, ">q"),
    "producer_id": (43, ">q"),
    "producer_epoch": (51, ">h"),
    "base_sequence": (53, ">i"),
    "count": (57, ">i"),
}


def forged(**fields: int) -> memoryview:
    """A batch of 3 records with some header fields changed, and a valid CRC."""
    data = bytearray(batch(3))
    for name, value in fields.items():
        position, kind = FIELDS[name]
        struct.pack_into(kind, data, position, value)
    struct.pack_into(">I", data, 17, crc32c(data[21:]))
    return memoryview(data)


optional_bytes = st.none() | st.binary(max_size=200)
records = st.lists(
    st.tuples(
        optional_bytes,
        optional_bytes,
        st.lists(st.tuples(st.text(max_size=10), optional_bytes), max_size=3).map(tuple),
        st.integers(0, 1 << 45),
    ),
    min_size=1,
    max_size=20,
)


@settings(max_examples=60, deadline=None)
@given(records=records, codec=st.sampled_from(codecs.NAMES), base=st.integers(0, 1 << 60))
def test_a_built_batch_is_valid_and_decodes_to_its_records(records, codec, base) -> None:  # type: ignore[no-untyped-def]
    data = memoryview(build(records, codec=codec))
    header = validate(data)
    assert header.count == len(records)
    assert header.max_timestamp == max(record[3] for record in records)
    assign_offsets(data, base, 5, None)
    expected = [
        Record(base + n, time, key, value, headers) for n, (key, value, headers, time) in enumerate(records)
    ]
    assert decode(data) == expected
    assert read_header(data).leader_epoch == 5
    assert crc_matches(data, read_header(data))


@settings(max_examples=40, deadline=None)
@given(records=records, codec=st.sampled_from(range(5)))
def test_batches_of_another_encoder_decode(records, codec) -> None:  # type: ignore[no-untyped-def]
    builder = DefaultRecordBatchBuilder(2, codec, 0, 7, 1, 3, 1 << 30)
    for n, (key, value, headers, time) in enumerate(records):
        builder.append(n, time, key, value, list(headers))
    data = memoryview(bytearray(builder.build()))
    validate(data)
    assert [
        (record.key, record.value, record.headers, record.timestamp_ms) for record in decode(data)
    ] == records


@settings(max_examples=40, deadline=None)
@given(records=records, codec=st.sampled_from(codecs.NAMES))
def test_another_decoder_reads_built_batches(records, codec) -> None:  # type: ignore[no-untyped-def]
    theirs = DefaultRecordBatch(build(records, codec=codec))
    assert theirs.validate_crc()
    assert [
        (record.key, record.value, tuple(record.headers), record.timestamp) for record in theirs
    ] == records


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"magic": 0}, UnsupportedFormat),
        ({"magic": 1}, UnsupportedFormat),
        ({"magic": 3}, CorruptBatch),
        ({"magic": -1}, CorruptBatch),
        ({"length": 1 << 30}, InvalidBatch),
        ({"length": -1}, InvalidBatch),
        ({"length": 48}, InvalidBatch),
        ({"length": 49}, InvalidBatch),  # a second batch seems to follow
        ({"attributes": 5}, UnsupportedCompression),
        ({"attributes": 7}, UnsupportedCompression),
        ({"attributes": 0x10}, InvalidBatch),
        ({"attributes": 0x20}, InvalidBatch),
        ({"attributes": 0x40}, InvalidBatch),
        ({"attributes": -1}, LogError),
        ({"attributes": 0x08}, InvalidTimestamp),
        ({"count": 2}, InvalidBatch),
        ({"count": 0, "last_offset_delta": -1}, InvalidBatch),
        ({"count": -1}, InvalidBatch),
        ({"last_offset_delta": (1 << 31) - 1, "count": -(1 << 31)}, InvalidBatch),
        ({"max_timestamp": 999}, InvalidTimestamp),
        ({"base_timestamp": -2}, InvalidTimestamp),
        ({"base_offset": 1}, InvalidBatch),
        ({"base_offset": -1}, InvalidBatch),
        ({"producer_id": -2}, InvalidBatch),
        ({"producer_id": 1}, InvalidBatch),
        ({"producer_id": 1, "producer_epoch": 0}, InvalidBatch),
    ],
)
def test_a_batch_with_a_false_header_is_refused(fields: dict[str, int], error: type[LogError]) -> None:
    with pytest.raises(error):
        validate(forged(**fields))


def test_each_flipped_bit_after_the_fields_of_the_server_is_detected() -> None:
    good = bytes(batch(2))
    for position in range(8, len(good)):
        if 12 <= position < 16:
            continue  # the leader epoch, which the server sets
        for bit in range(8):
            data = bytearray(good)
            data[position] ^= 1 << bit
            with pytest.raises(LogError):
                validate(memoryview(data))


def test_each_prefix_is_refused() -> None:
    data = batch(2)
    for end in range(len(data)):
        with pytest.raises(LogError):
            validate(data[:end])
    with pytest.raises(InvalidBatch, match="more than one"):
        validate(memoryview(bytes(data) + bytes(data)))


def test_old_message_formats_shorter_than_a_header_are_named_as_such() -> None:
    message = bytearray(30)
    message[16] = 1
    with pytest.raises(UnsupportedFormat):
        validate(memoryview(message))


def test_log_append_time_is_the_time_of_all_records_and_the_crc_still_holds() -> None:
    data = batch(3, codec="gzip")
    assign_offsets(data, 100, 2, 5_000_000)
    header = read_header(data)
    assert header.log_append_time
    assert header.max_timestamp == 5_000_000
    assert [record.timestamp_ms for record in decode(data)] == [5_000_000] * 3
    assert [record.offset for record in decode(data)] == [100, 101, 102]


def test_iteration_ends_before_a_batch_that_is_not_whole() -> None:
    first, second = bytearray(batch(2)), bytearray(batch(3))
    assign_offsets(memoryview(second), 2, 0, None)
    both = bytes(first + second)
    assert [(position, header.base_offset) for position, header in iter_batches(both)] == [
        (0, 0),
        (len(first), 2),
    ]
    assert len(list(iter_batches(both[:-1]))) == 1
    assert len(list(iter_batches(both[: HEADER_BYTES - 1]))) == 0
    assert len(list(iter_batches(both + bytes(100)))) == 2


@pytest.mark.parametrize("codec", codecs.NAMES[1:])
def test_a_decompression_bomb_is_stopped_at_the_cap(codec: str) -> None:
    bomb = build([(None, bytes(8 << 20), (), 0)], codec=codec)
    assert len(bomb) < 1 << 20
    with pytest.raises(CorruptBatch, match="too large"):
        decode(bomb, cap_bytes=1 << 20)
    assert len(decode(bomb)) == 1


@pytest.mark.parametrize("codec", codecs.NAMES[1:])
def test_damaged_compressed_data_raises_corrupt_batch(codec: str) -> None:
    good = build([(None, b"abc" * 50, (), 0)] * 5, codec=codec)
    for position in range(HEADER_BYTES, len(good)):
        data = bytearray(good)
        data[position] ^= 0x55
        struct.pack_into(">I", data, 17, crc32c(data[21:]))
        try:
            decode(data, cap_bytes=1 << 16)
        except CorruptBatch:
            continue


def test_raw_snappy_is_decoded_as_well_as_framed_snappy() -> None:
    import cramjam

    plain = build([(b"k", b"v" * 100, (), 1)])
    packed = bytearray(plain[:HEADER_BYTES] + bytes(cramjam.snappy.compress_raw(bytes(plain[HEADER_BYTES:]))))
    struct.pack_into(">i", packed, 8, len(packed) - 12)
    struct.pack_into(">h", packed, 21, codecs.SNAPPY)
    struct.pack_into(">I", packed, 17, crc32c(packed[21:]))
    assert decode(packed) == decode(plain)


def test_false_records_with_a_valid_crc_raise_corrupt_batch() -> None:
    good = bytes(batch(3))
    for position in range(HEADER_BYTES, len(good)):
        for value in (0x00, 0x7F, 0x80, 0xFF):
            data = bytearray(good)
            data[position] = value
            struct.pack_into(">I", data, 17, crc32c(data[21:]))
            try:
                decode(data)
            except CorruptBatch:
                continue


@pytest.mark.parametrize("codec", codecs.NAMES)
def test_a_header_name_that_is_not_utf8_is_decoded_with_replacement_characters(codec: str) -> None:
    odd: RawHeaders = [(b"caf\xe9", b"x"), (b"caf\xe9", None), (b"\xff\xfe\xff\xfe", b"")]
    records: list[RawRecord] = [
        (b"k", b"first", [], 1_000),
        (None, None, odd, 999),
        (b"", b"\xff", [(b"name", b"z")], 2_000),
    ]
    data = memoryview(bytearray(batch_with_names(records, codec=codec)))
    assign_offsets(data, 40, 2, None)
    assert decode(data) == [
        Record(40, 1_000, b"k", b"first"),
        Record(41, 999, None, None, (("caf\ufffd", b"x"), ("caf\ufffd", None), ("\ufffd" * 4, b""))),
        Record(42, 2_000, b"", b"\xff", (("name", b"z"),)),
    ]
    assign_offsets(data, 40, 2, 7_000)
    assert [record.timestamp_ms for record in decode(data)] == [7_000] * 3


@settings(max_examples=40, deadline=None)
@given(records=records)
def test_the_slow_parser_agrees_with_the_fast_one(records) -> None:  # type: ignore[no-untyped-def]
    data = build(records)
    parsed = parse_records(bytes(data[HEADER_BYTES:]), len(records))
    first_ms = records[0][3]
    assert [
        (fields.key, fields.value, fields.headers, first_ms + fields.timestamp_delta) for fields in parsed
    ] == records


def test_batches_decode_where_aiokafka_has_no_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    data = build([(b"k", b"v", (("name", b"x"),), 5), (None, None, (), 4)], codec="lz4")
    damaged = bytearray(batch(3))
    damaged[HEADER_BYTES] = 0x7F
    struct.pack_into(">I", damaged, 17, crc32c(damaged[21:]))
    decoded = decode(data)
    for name in ("aiokafka.record._crecords.default_records", "aiokafka.record.default_records"):
        monkeypatch.setitem(sys.modules, name, None)
    record_batch.record_parser.cache_clear()
    try:
        assert record_batch.record_parser() is None
        assert decode(data) == decoded
        with pytest.raises(CorruptBatch):
            decode(damaged)
    finally:
        record_batch.record_parser.cache_clear()


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=60), position=st.integers(0, 200), byte=st.integers(0, 255))
def test_the_slow_parser_raises_value_error_for_damage(data: bytes, position: int, byte: int) -> None:
    names = [(b"caf\xe9", b"x"), (b"caf\xe9", None)]
    damaged = bytearray(batch_with_names([(b"k", b"v", names, 1), (None, b"w", [], 2)])[HEADER_BYTES:])
    damaged[position % len(damaged)] = byte
    for candidate in (bytes(damaged), data, bytes(damaged)[: position % len(damaged)]):
        with contextlib.suppress(ValueError):
            list(parse_records(candidate, 2))
