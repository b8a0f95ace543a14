"""Values of every kind of model become bytes and come back, and what is wrong is said without the value."""

from __future__ import annotations

import dataclasses
import enum
from datetime import UTC, datetime
from typing import Any, NotRequired, TypedDict

import attrs
import msgspec
import pydantic
import pytest

from mainstem.api.codec import codec_of
from mainstem.api.errors import Undecodable


class OrderStruct(msgspec.Struct):
    """An order by msgspec."""

    id: int
    customer: str
    total: float = 0.0


class OrderModel(pydantic.BaseModel):
    """An order by pydantic."""

    id: int
    customer: str
    total: float = 0.0


@dataclasses.dataclass
class OrderData:
    """An order as a dataclass."""

    id: int
    customer: str
    total: float = 0.0


@attrs.define
class OrderAttrs:
    """An order by attrs."""

    id: int
    customer: str
    total: float = 0.0


class OrderDict(TypedDict):
    """An order as a typed dict."""

    id: int
    customer: str
    total: NotRequired[float]


class Color(enum.Enum):
    """A model that is one value."""

    RED = "red"


ANN = {"id": 1, "customer": "a", "total": 0}
CLASSES = [OrderStruct, OrderModel, OrderData, OrderAttrs, OrderDict]


@pytest.mark.parametrize("model", CLASSES, ids=lambda model: model.__name__)
def test_every_kind_of_class_is_json_and_comes_back(model: Any) -> None:
    codec = codec_of(model)
    value = model(id=1, customer="ann", total=9.5)
    data = codec.encode(value)
    assert data is not None
    assert msgspec.json.decode(data) == {"id": 1, "customer": "ann", "total": 9.5}
    assert codec.decode(data) == value
    assert codec.decode(b'{"id": 2, "customer": "bo", "other": [1]}')


@pytest.mark.parametrize("model", CLASSES, ids=lambda model: model.__name__)
@pytest.mark.parametrize(
    "data",
    [
        b'{"id": "SECRET", "customer": "ann"}',
        b'{"customer": "ann"}',
        b"[]",
        b"",
        b"\xff",
        b"{",
        b'"\xff"',
        b"[" * 100_000,
        None,
    ],
)
def test_what_is_not_of_the_model_is_undecodable_and_not_repeated(model: Any, data: bytes | None) -> None:
    with pytest.raises(Undecodable) as raised:
        codec_of(model).decode(data)
    assert str(raised.value).startswith(f"not a valid {model.__name__}: ")
    assert "SECRET" not in str(raised.value)
    assert "\n" not in str(raised.value)


def test_the_place_of_what_is_wrong_is_said() -> None:
    data = b'{"id": "x", "customer": "ann"}'
    with pytest.raises(Undecodable, match=r"OrderStruct: Expected `int`, got `str` - at `\$\.id`"):
        codec_of(OrderStruct).decode(data)
    with pytest.raises(Undecodable, match=r"OrderModel: Input should be a valid integer.* - at `\$\.id`$"):
        codec_of(OrderModel).decode(data)
    with pytest.raises(Undecodable, match=r"- at `\$\.id` \(and 1 more\)$"):
        codec_of(OrderModel).decode(b'{"id": "x"}')


@pytest.mark.parametrize(
    ("model", "value", "data"),
    [
        (bytes, b"\x00\xff", b"\x00\xff"),
        (str, "größe", "größe".encode()),
        (int, 7, b"7"),
        (list[int], [1, 2], b"[1,2]"),
        (dict[str, object], {"a": [None, 1.5]}, b'{"a":[null,1.5]}'),
        (Color, Color.RED, b'"red"'),
        (datetime, datetime(2026, 1, 2, tzinfo=UTC), b'"2026-01-02T00:00:00Z"'),
        (list[OrderModel], [OrderModel(id=1, customer="a")], b'[{"id":1,"customer":"a","total":0.0}]'),
        (list[OrderStruct], [OrderStruct(1, "a")], b'[{"id":1,"customer":"a","total":0.0}]'),
        (OrderStruct | None, None, None),
        (OrderStruct | None, OrderStruct(1, "a"), b'{"id":1,"customer":"a","total":0.0}'),
        (OrderModel | None, None, None),
        (OrderDict | None, None, None),
    ],
)
def test_other_models(model: Any, value: object, data: bytes | None) -> None:
    codec = codec_of(model)
    assert codec.encode(value) == data
    assert codec.decode(data) == value


@pytest.mark.parametrize("model", [bytes, str, int, OrderStruct, OrderModel])
def test_a_value_of_another_class_is_refused_when_it_is_published(model: Any) -> None:
    for value in (OrderData(1, "a"), None):
        with pytest.raises(TypeError, match=f"the topic's model is {model.__name__}, and this is "):
            codec_of(model).encode(value)


def test_a_class_that_json_cannot_have_is_refused_when_the_topic_is_declared() -> None:
    class NoModel:
        pass

    for model in (NoModel, list[NoModel], dict[str, NoModel]):
        with pytest.raises(TypeError, match="NoModel is no model: use a msgspec Struct"):
            codec_of(model)


@pytest.mark.parametrize(
    ("value", "data", "decoded"),
    [
        ({"id": 1}, b'{"id":1}', {"id": 1}),
        ([1, "a"], b'[1,"a"]', [1, "a"]),
        (b"\xfe", b"\xfe", b"\xfe"),
        (bytearray(b"ab"), b"ab", "ab"),
        ("hello", b"hello", "hello"),
        ("7", b"7", 7),
        (7.5, b"7.5", 7.5),
        (True, b"true", True),
        (None, None, None),
        ("", b"", ""),
        (OrderStruct(1, "a"), b'{"id":1,"customer":"a","total":0.0}', ANN),
        (OrderModel(id=1, customer="a"), b'{"id":1,"customer":"a","total":0.0}', ANN),
        ({"in": OrderModel(id=1, customer="a")}, b'{"in":{"id":1,"customer":"a","total":0.0}}', None),
    ],
)  # fmt: skip
def test_without_a_model_bytes_and_text_are_themselves_and_all_else_is_json(
    value: object, data: bytes | None, decoded: object
) -> None:
    codec = codec_of()
    assert codec.encode(value) == data
    assert decoded is None or codec.decode(data) == decoded


def test_without_a_model_what_cannot_be_encoded_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="JSON cannot have a object"):
        codec_of().encode({"a": object()})
    with pytest.raises(Undecodable, match="nested too deeply"):
        codec_of().decode(b"[" * 100_000)
