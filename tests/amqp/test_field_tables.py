"""Field tables and properties: the same values and the same bytes on the way there and back, and bounds."""

from __future__ import annotations

import datetime
import struct
from decimal import Decimal

import pamqp.decode
import pamqp.encode
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainstem.amqp import properties_codec
from mainstem.amqp.field_tables import (
    DEPTH_MAX,
    VALUES_MAX,
    FieldTableError,
    decode_table,
    encode_short,
    encode_table,
)
from mainstem.amqp.field_values import FieldTable, FieldValue, Int16, Int64, Timestamp, UInt8
from mainstem.amqp.properties import Properties
from mainstem.amqp.properties_codec import decode_properties, encode_properties
from tests.amqp.field_strategies import PROPERTIES, TABLES

ORDER: FieldTable = {
    "order": "A-1017",
    "amount": Decimal("12.50"),
    "positions": 3,
    "paid": True,
    "weight": 1.5,
    "note": None,
    "scan": b"\xff\0",
    "at": Timestamp(1_356_998_400),
    "stops": ["SFO", 2, {"gate": "B4"}],
}


def typed(value: FieldValue) -> object:
    """The value with the types of all of its parts, which == does not compare."""
    if isinstance(value, dict):
        return {name: typed(item) for name, item in value.items()}
    if isinstance(value, list):
        return [typed(item) for item in value]
    return type(value), str(value)


@given(TABLES)
@settings(deadline=None)
def test_a_table_comes_back_with_its_types(table: FieldTable) -> None:
    data = encode_table(table)
    again, end = decode_table(b"\x05" + data + b"rest", 1)
    assert (typed(again), end) == (typed(table), 1 + len(data))
    assert encode_table(again) == data


def test_another_codec_reads_what_is_written_and_the_reverse() -> None:
    data = encode_table(ORDER)
    size, table = pamqp.decode.field_table(data)
    expected = dict(ORDER) | {
        "scan": bytearray(b"\xff\0"),
        "at": datetime.datetime(2013, 1, 1, tzinfo=datetime.UTC),
    }
    assert (size, table) == (len(data), expected)
    assert decode_table(pamqp.encode.field_table(table))[0] == ORDER


@pytest.mark.parametrize(
    ("value", "letter"),
    [(5, b"I"), (1 << 40, b"l"), (Int64(5), b"l"), (Int16(5), b"s"), (UInt8(5), b"B"), (Timestamp(5), b"T")],
)
def test_the_width_of_an_integer_is_that_of_its_type(value: int, letter: bytes) -> None:
    assert encode_table({"n": value})[6:7] == letter


def nested(depth: int) -> bytes:
    """A table in tables; the innermost is empty."""
    data = b"\0\0\0\0"
    for _ in range(depth - 1):
        data = struct.pack(">I", len(data) + 3) + b"\x01nF" + data
    return data


def test_depth_and_number_of_values_are_bounded() -> None:
    decode_table(nested(DEPTH_MAX))
    with pytest.raises(FieldTableError, match="nested deeper"):
        decode_table(nested(DEPTH_MAX + 1))
    with pytest.raises(FieldTableError, match="more than"):
        decode_table(encode_table({"n": [None] * VALUES_MAX}))
    deep: FieldTable = {}
    for _ in range(DEPTH_MAX + 1):
        deep = {"n": deep}
    with pytest.raises(FieldTableError, match="nested deeper"):
        encode_table(deep)


@given(st.binary(max_size=60))
@settings(deadline=None)
def test_any_bytes_are_a_table_or_one_error(data: bytes) -> None:
    try:
        table, end = decode_table(data)
    except FieldTableError:
        return
    assert end <= len(data)
    assert typed(decode_table(encode_table(table))[0]) == typed(table)


def test_a_prefix_of_a_table_is_damaged() -> None:
    data = encode_table(ORDER)
    for size in range(len(data)):
        with pytest.raises(FieldTableError):
            decode_table(data[:size])
        if size >= 4:  # of the right length outside, and cut inside
            cut = struct.pack(">I", size - 4) + data[4:size]
            try:
                decode_table(cut)
            except FieldTableError:
                continue
            assert encode_table(decode_table(cut)[0]) == cut


@pytest.mark.parametrize("value", [1 << 64, UInt8(256), Decimal("1e5"), object(), "n" * 300])
def test_a_value_that_no_field_holds_is_refused(value: object) -> None:
    name = str(value) if isinstance(value, str) else "n"
    with pytest.raises(FieldTableError):
        encode_table({name: value})  # type: ignore[dict-item] # that is what is tested


def test_a_name_that_is_not_utf8_comes_back() -> None:
    table, _ = decode_table(struct.pack(">I", 4) + b"\x02\xff\xfeV")
    assert encode_table(table) == struct.pack(">I", 4) + b"\x02\xff\xfeV"
    with pytest.raises(FieldTableError):
        encode_short("ü" * 128)


@given(PROPERTIES)
@settings(deadline=None)
def test_properties_come_back(properties: Properties) -> None:
    data = encode_properties(properties)
    again = decode_properties(data)
    assert again == properties
    assert encode_properties(again) == data


def test_another_codec_reads_the_properties() -> None:
    properties = Properties(
        content_type="application/json",
        headers={"order": "A-1017"},
        delivery_mode=2,
        correlation_id="17",
        expiration="60000",
        timestamp=1_356_998_400,
        type="order.created",
        app_id="shop",
    )
    size, decoded = pamqp.decode.by_type(b"\0\0\0\x01n", "longstr"), pamqp.commands.Basic.Properties()
    assert size[1] == "n"
    data = encode_properties(properties)
    decoded.unmarshal(int.from_bytes(data[:2], "big"), data[2:])
    assert (decoded.content_type, decoded.headers, decoded.delivery_mode, decoded.app_id) == (
        "application/json",
        {"order": "A-1017"},
        2,
        "shop",
    )
    assert decoded.marshal() == data


def test_short_properties_are_remembered_within_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    cached: dict[bytes, Properties] = {}
    monkeypatch.setattr(properties_codec, "CACHED_MAX", 3)
    encoded: dict[tuple[object, ...], bytes] = {}
    monkeypatch.setattr(properties_codec, "_cached", cached)
    monkeypatch.setattr(properties_codec, "_encoded_cache", encoded)
    persistent = encode_properties(Properties(delivery_mode=2))
    assert decode_properties(persistent) is decode_properties(persistent)
    for number in range(10):
        decode_properties(encode_properties(Properties(message_id=str(number))))
        assert len(cached) <= 3
        assert 0 < len(encoded) <= 3
    with_headers = encode_properties(Properties(headers={"order": "A-1017"}))
    assert decode_properties(with_headers) is not decode_properties(with_headers)


@pytest.mark.parametrize(
    "data", [b"", b"\x80", b"\0\x01", b"\x10\0", b"\0\0\0", b"\x80\0\x05ab", b"\0\x40\1"]
)
def test_damaged_properties_are_refused(data: bytes) -> None:
    with pytest.raises(FieldTableError):
        decode_properties(data)
