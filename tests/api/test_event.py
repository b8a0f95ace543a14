"""The public event: its names, derived from the event of the contract."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from mainstem import contract
from mainstem.api.codec import codec_of
from mainstem.api.errors import Undecodable
from mainstem.api.event import ID_HEADERS, Event, decode_event


def raw(
    headers: contract.Headers = (), key: bytes | None = b"k", value: bytes = b"1", time_ms: int = 1_500
) -> contract.Event:
    return contract.Event("orders", 2, 17, time_ms, key, value, headers)


def test_its_names() -> None:
    event = Event(raw((("a", b"1"), ("b", None), ("a", b"2"))), 1, attempt=3)
    assert (event.topic, event.partition, event.offset, event.attempt, event.value) == ("orders", 2, 17, 3, 1)
    assert event.key == "k"
    assert event.headers == {"a": "2", "b": ""}
    assert event.time == datetime(1970, 1, 1, 0, 0, 1, 500_000, UTC)
    assert repr(event) == "<event orders/2/17 key='k' 1>"


def test_a_key_and_headers_that_are_no_text_come_back_as_they_were() -> None:
    event = Event(raw((("a", b"\xff"),), key=b"\xfe"), None)
    assert event.key is not None
    assert event.key.encode(errors="surrogateescape") == b"\xfe"
    assert event.headers["a"].encode(errors="surrogateescape") == b"\xff"
    assert Event(raw(key=None), None).key is None


def test_times_that_no_calendar_has() -> None:
    assert Event(raw(time_ms=-1), None).time == datetime(1970, 1, 1, tzinfo=UTC)
    assert Event(raw(time_ms=(1 << 63) - 1), None).time == datetime.max.replace(tzinfo=UTC)


def test_its_id_is_the_first_header_that_names_it_else_its_place() -> None:
    assert Event(raw(), None).id == "orders/2/17"
    assert Event(raw((("ce_id", b""), ("message-id", None))), None).id == "orders/2/17"
    headers = tuple((name, name.upper().encode()) for name in reversed(ID_HEADERS))
    for first in range(len(ID_HEADERS), 0, -1):
        name = headers[len(ID_HEADERS) - 1][0] if first == len(ID_HEADERS) else ID_HEADERS[-first]
        assert Event(raw(headers[:first]), None).id == name.upper()


def test_a_value_that_cannot_be_decoded_is_reported_with_its_place() -> None:
    assert decode_event(raw(), codec_of(int), 2).attempt == 2
    with pytest.raises(Undecodable, match=r"^orders/2/17: not a valid int: Expected `int`, got `str`$"):
        decode_event(raw(value=b'"a"'), codec_of(int))


def test_events_are_equal_if_they_are_the_same_delivery() -> None:
    assert Event(raw(), 1) == Event(raw(), 1)
    assert Event(raw(), 1) != Event(raw(), 1, attempt=2)
    assert len({Event(raw(), 1), Event(raw(), 1)}) == 1
