"""Methods and frames: read and written as another implementation does, whole or not at all."""

from __future__ import annotations

from typing import Any

import pamqp.commands
import pamqp.frame
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainstem.amqp.field_tables import FieldTableError, encode_short
from mainstem.amqp.properties import Properties
from mainstem.amqp.properties_codec import encode_properties
from mainstem.doors.amqp091 import frames
from mainstem.doors.amqp091.control_methods import AccessRequest, AccessRequestOk, ConnectionTune
from mainstem.doors.amqp091.method import Method
from mainstem.doors.amqp091.method_codec import (
    METHODS,
    MethodDamaged,
    UnknownMethod,
    decode_method,
    encode_method,
)
from mainstem.doors.amqp091.methods import BasicDeliver, BasicPublish, BasicQos, QueueDeclare

EXAMPLES: dict[type, Any] = {int: 7, str: "orders", bytes: b"\0guest\0guest", bool: True, dict: {"n": "x"}}


def example(kind: type[Method]) -> Method:
    """A method with a value in every field, none of them its default."""
    empty = kind()
    return kind(**{name: EXAMPLES[type(getattr(empty, name))] for name in kind.__struct_fields__})


def outside_name(field: str) -> str:
    """What pamqp calls a field."""
    return {"type": "exchange_type"}.get(field, field)


@pytest.mark.filterwarnings("ignore:This command is deprecated")  # basic.recover-async
@pytest.mark.parametrize("kind", METHODS.values(), ids=lambda kind: kind.NAME)
def test_another_codec_reads_a_method_and_writes_it_the_same(
    kind: type[Method], monkeypatch: pytest.MonkeyPatch
) -> None:
    method = example(kind)
    payload = encode_method(method)
    assert decode_method(payload) == method
    if kind in (AccessRequest, AccessRequestOk):
        return  # pamqp does not have them
    _, channel, other = pamqp.frame.unmarshal(frames.method_frame(3, method))
    assert (channel, other.name.replace("-", "").lower()) == (3, kind.NAME.replace("-", ""))
    values = {name: getattr(other, outside_name(name)) for name in kind.__struct_fields__}
    texts = {name: value.encode() if name in OF_BYTES else value for name, value in values.items()}
    assert texts == {name: getattr(method, name) for name in kind.__struct_fields__}
    monkeypatch.setattr(type(other), "validate", lambda _: None)  # of reserved fields, which differ
    assert pamqp.frame.marshal(other, 3) == frames.method_frame(3, method)


OF_BYTES = ("response", "challenge", "new_secret")


def test_every_method_of_the_protocol_is_there() -> None:
    access = {AccessRequest.CLASS_ID << 16 | number for number in (10, 11)}
    assert set(METHODS) == set(pamqp.commands.INDEX_MAPPING) | access


@pytest.mark.parametrize("kind", METHODS.values(), ids=lambda kind: kind.NAME)
def test_a_method_that_ends_early_or_late_is_damaged(kind: type[Method]) -> None:
    payload = encode_method(example(kind))
    for size in range(4, len(payload)):
        with pytest.raises(MethodDamaged):
            decode_method(payload[:size])
    with pytest.raises(MethodDamaged):
        decode_method(payload + b"\0")


def test_numbers_of_no_method_are_refused() -> None:
    for payload in (b"", b"\0\x0a", b"\0\x0a\0\x63", b"\xff\xff\xff\xff"):
        with pytest.raises(UnknownMethod):
            decode_method(payload)


def test_a_value_that_its_field_cannot_hold_is_refused() -> None:
    for method in (
        QueueDeclare(queue="q" * 256),
        ConnectionTune(channel_max=1 << 16),
        BasicQos(prefetch_size=-1),
    ):
        with pytest.raises(FieldTableError):
            encode_method(method)


@given(st.binary(max_size=60), st.sampled_from(sorted(METHODS)))
@settings(deadline=None)
def test_any_bytes_are_a_method_or_one_error(data: bytes, number: int) -> None:
    try:
        method = decode_method(number.to_bytes(4, "big") + data)
    except MethodDamaged:
        return
    assert decode_method(encode_method(method)) == method


def unmarshalled(data: bytes) -> list[Any]:
    """The frames of these bytes, as pamqp reads them."""
    out = []
    while data:
        size, channel, frame = pamqp.frame.unmarshal(data)
        assert channel == 5
        out.append(frame)
        data = data[size:]
    return out


@pytest.mark.parametrize("size", [0, 1, 4_088, 4_089, 8_176, 10_000])
@pytest.mark.parametrize("frame_max", [0, 4_096])
def test_a_delivery_is_frames_within_the_limit(size: int, frame_max: int) -> None:
    properties, body = encode_properties(Properties(delivery_mode=2)), bytes(range(256)) * 40
    data = frames.deliver_frames(
        5,
        encode_short("ctag-1"),
        17,
        True,
        frames.address_bytes("orders", "created.eu"),
        properties,
        body[:size],
        frame_max,
    )
    method, header, *pieces = unmarshalled(data)
    expected = BasicDeliver("ctag-1", 17, True, "orders", "created.eu")
    assert decode_method(data[7:-1].split(b"\xce")[0]) == expected
    assert (method.delivery_tag, method.redelivered, method.routing_key) == (17, True, "created.eu")
    assert (header.body_size, header.properties.delivery_mode) == (size, 2)
    assert b"".join(piece.value for piece in pieces) == body[:size]
    assert all(len(piece.value) + 8 <= (frame_max or 1 << 20) for piece in pieces)
    assert len(pieces) == -(-size // (frame_max - 8)) if frame_max else len(pieces) == min(size, 1)
    content = b"".join(frames.content_frames(5, properties, body[:size], frame_max))
    assert data.endswith(content)


def test_confirmations_are_the_frames_of_their_methods() -> None:
    (ack,) = unmarshalled(frames.ack_frame(5, 300, multiple=True))
    (nack,) = unmarshalled(frames.nack_frame(5, 301, multiple=False))
    assert (ack.name, ack.delivery_tag, ack.multiple) == ("Basic.Ack", 300, True)
    assert (nack.name, nack.delivery_tag, nack.multiple, nack.requeue) == ("Basic.Nack", 301, False, False)


def test_a_publish_has_its_reserved_field_and_bits() -> None:
    payload = encode_method(BasicPublish("orders", "created.eu", mandatory=True))
    assert payload == b"\0\x3c\0\x28\0\0\x06orders\x0acreated.eu\x01"
