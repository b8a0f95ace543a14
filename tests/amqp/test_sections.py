"""The sections of AMQP 1.0 messages: what they say, and what they are for clients of AMQP 0-9-1."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstem.amqp.messages import properties_of, received
from mainstem.amqp.properties import Properties
from mainstem.amqp.properties_codec import decode_properties
from mainstem.amqp_sections import SectionError, jsonable, read_sections
from mainstem.contract import Event
from mainstem.http_api.event_encoding import event_to_json

HEADER = "005370 c0 09 03 41 5007 70 000003e8"
PROPERTIES = (
    "005373 d0 00000028 0000000a a103 6d2d31 a005 6775657374 40 a105 7061796964 40 a103 632d31"
    " a300 40 40 83 0000018bcfe56800"
)
ANNOTATIONS = "005372 c1 20 04 a30c 782d62617369632d74797065 a104 62696c6c a307 782d747261636b 41"

APPLICATION = (
    "005374 c1 3c 0c a101 61 81 00000000000000ff a101 62 a002 00ff a101 63 40 a101 64 82 3ff8000000000000"
    " a101 65 e0 06 02 61 0001 0002 a101 66 80 ffffffffffffffff"
)


def sized(text: str) -> bytes:
    """The bytes of a section, whose size is written here to be filled in."""
    data = bytearray.fromhex(text)
    if data[3] in (0xC0, 0xC1):
        data[4] = len(data) - 5
    else:
        data[4:8] = (len(data) - 8).to_bytes(4, "big")
    return bytes(data)


MESSAGE = b"".join(map(sized, (HEADER, ANNOTATIONS, PROPERTIES, APPLICATION)))
SAID = {
    "durable": True,
    "priority": 7,
    "ttl": 1_000,
    "message-annotations": {"x-basic-type": "bill", "x-track": True},
    "message-id": "m-1",
    "user-id": b"guest",
    "subject": "payid",
    "correlation-id": "c-1",
    "content-type": "",
    "creation-time": 1_700_000_000_000,
    "application-properties": {
        "a": 255,
        "b": b"\x00\xff",
        "c": None,
        "d": 1.5,
        "e": [1, 2],
        "f": (1 << 64) - 1,
    },
}


def event_of(sections: bytes) -> Event:
    return Event("orders", 0, 0, 0, None, b"x", (("mainstem-amqp", sections), ("source", b"shop")))


def test_sections_say_fields_by_their_names() -> None:
    assert read_sections(MESSAGE) == SAID
    assert read_sections(b"") == {}


def test_stream_messages_have_properties_for_queue_clients() -> None:
    properties = properties_of(event_of(MESSAGE))
    assert properties == Properties(
        delivery_mode=2,
        priority=7,
        expiration="1000",
        message_id="m-1",
        user_id="guest",
        correlation_id="c-1",
        content_type="",
        timestamp=1_700_000_000,
        type="bill",
        headers={
            "subject": "payid",
            "x-track": True,
            "a": 255,
            "b": b"\x00\xff",
            "c": None,
            "d": 1.5,
            "e": "[1,2]",
            "f": str((1 << 64) - 1),
            "source": "shop",
        },
    )
    assert decode_properties(received(event_of(MESSAGE), "").properties_raw) == properties


def test_the_http_door_shows_them_beside_the_headers() -> None:
    shown = msgspec.json.decode(msgspec.json.encode(event_to_json(event_of(MESSAGE))))
    expected = msgspec.json.decode(msgspec.json.encode(jsonable(SAID)))
    assert shown["amqp"] == expected
    assert expected["user-id"] == "guest"
    assert [header["name"] for header in shown["headers"]] == ["mainstem-amqp", "source"]
    assert "amqp" not in msgspec.json.decode(msgspec.json.encode(event_to_json(event_of(b"\0no"))))


@pytest.mark.parametrize(
    "text",
    [
        "005375a00178",  # a body
        "0053",
        "005373c0ff01",
        "00a1016145",  # a descriptor by name
        "005374 c1 02 01 40",  # a key without a value
        "005374 c1 02 ff 40",
        "005373 f0 00000006 ffffffff 40 00",  # 4 milliards of nulls
        "005373" + "c07f01" * 40,
        "00" * 40,
        "00c0020145",
    ],
)
def test_what_is_no_section_is_refused(text: str) -> None:
    with pytest.raises(SectionError):
        read_sections(bytes.fromhex(text))
    assert properties_of(event_of(bytes.fromhex(text))) == Properties(headers={"source": "shop"})


@given(st.binary(max_size=60), st.integers(0, len(MESSAGE)), st.integers(0, 255))
def test_damaged_sections_are_read_or_refused(noise: bytes, place: int, byte: int) -> None:
    for data in (noise, MESSAGE[:place] + bytes([byte]) + MESSAGE[place + 1 :]):
        received(event_of(data), "")
        try:
            msgspec.json.encode(jsonable(read_sections(data)))
        except SectionError:
            pass
