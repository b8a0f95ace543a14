"""Turns values of a topic's model to the bytes of events, and back.

Owns: which encoding belongs to a model. JSON for everything but `bytes` and `str`, which are themselves; by
msgspec for its structs, dataclasses, attrs, typed dicts and Python's own types, by pydantic for its models.
Refuses: pickle, an envelope around the value, and formats that need a registry of schemas.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

import msgspec

from mainstem.api.errors import Undecodable

T = TypeVar("T")

_PYDANTIC = "__pydantic_validator__"
"""Models and dataclasses of pydantic have it, so that pydantic itself need not be imported to know them."""


class Codec(Generic[T]):
    """The encoding of a model."""

    __slots__ = ("decode", "encode", "model")

    def __init__(
        self,
        model: Any,
        encode: Callable[[T], bytes | None],
        decode: Callable[[bytes | None], T],
    ) -> None:
        self.model = model
        """What `codec_of` was given."""
        self.encode = encode
        """The value of an event. None, where the model has it, is no value at all (a tombstone). TypeError:
        the value is not of the model, or has something in it that JSON cannot have."""
        self.decode = decode
        """The value of the model. Undecodable."""

    def __repr__(self) -> str:
        return f"<codec of {name_of_model(self.model)}>"


@overload
def codec_of(model: None = None) -> Codec[Any]: ...
@overload
def codec_of(model: type[T]) -> Codec[T]: ...
def codec_of(model: Any = None) -> Codec[Any]:
    """The codec of a model: a msgspec Struct, a pydantic model, a dataclass, an attrs class, a TypedDict,
    `dict[str, object]` or any other type that JSON can have, `str` (UTF-8) or `bytes`. A model of `X | None`
    has events without a value, too.

    None, no model: `bytes` are themselves, a `str` is its text, None is no value, all else is JSON; what is
    read is JSON if it is JSON, else text if it is UTF-8, else `bytes`. TypeError: JSON cannot have the type.
    """
    if model is None:
        return Codec(None, _encode_any, _decode_any)
    if model is bytes:
        return Codec(bytes, _checked(bytes, bytes), _decoder(bytes, bytes, None, ()))
    if model is str:
        return Codec(str, _checked(str, _encode_text), _decoder(str, _decode_text, None, (UnicodeError,)))
    if hasattr(model, _PYDANTIC) or any(hasattr(custom, _PYDANTIC) for custom in _custom_classes(model)):
        return _pydantic_codec(model)
    custom = next(iter(_custom_classes(model)), None)
    if custom is not None:
        raise TypeError(
            f"{name_of_model(custom)} is no model: use a msgspec Struct, a pydantic model, a dataclass,"
            " an attrs class or a TypedDict"
        )
    decode = msgspec.json.Decoder(model).decode
    failures = (msgspec.DecodeError, UnicodeError, RecursionError)
    return Codec(
        model,
        _checked(model, msgspec.json.Encoder().encode),
        _decoder(model, decode, _none_of(model), failures),
    )


def name_of_model(model: Any) -> str:
    """How messages call a model."""
    return model.__name__ if isinstance(model, type) and not hasattr(model, "__args__") else str(model)


# ----------------------------------------------------------------------------------------------------------
# the parts


def _checked(model: Any, encode: Callable[[Any], bytes]) -> Callable[[Any], bytes | None]:
    """`encode` that refuses values of another class, where the model is a class that can be asked for."""
    may_be_none = _none_of(model) is not None
    is_class = isinstance(model, type) and not hasattr(model, "__total__") and not hasattr(model, "__args__")
    if not is_class:  # a TypedDict, or a generic type: its values are not asked for each event

        def encode_unchecked(value: Any) -> bytes | None:
            return None if value is None and may_be_none else encode(value)

        return encode_unchecked

    def encode_checked(value: Any) -> bytes | None:
        if isinstance(value, model):
            return encode(value)
        raise TypeError(f"the topic's model is {name_of_model(model)}, and this is {type(value).__name__}")

    return encode_checked


def _decoder(
    model: Any,
    decode: Callable[[bytes], Any],
    none: Callable[[], Any] | None,
    failures: tuple[type[Exception], ...],
) -> Callable[[bytes | None], Any]:
    """`decode` with the errors of its library as Undecodable."""
    name = name_of_model(model)

    def decode_or_say_why(data: bytes | None) -> Any:
        if data is None:
            if none is not None:
                return none()
            raise Undecodable(f"not a valid {name}: the event has no value")
        try:
            return decode(data)
        except failures as error:
            raise Undecodable(f"not a valid {name}: {_reason(error)}") from None

    return decode_or_say_why


def _reason(error: Exception) -> str:
    """What is wrong, in one line and without the value."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, UnicodeError):
        return "it is not UTF-8"
    errors = getattr(error, "errors", None)
    if callable(errors):  # pydantic's, whose text has the value in it
        details = errors(include_url=False, include_context=False, include_input=False)
        first = details[0]
        place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
        more = f" (and {len(details) - 1} more)" if len(details) > 1 else ""
        return f"{first['msg']} - at `${place}`{more}"
    return str(error)


def _none_of(model: Any) -> Callable[[], Any] | None:
    """What makes the value of an event that has none; None: the model has no such value."""
    info = msgspec.inspect.type_info(model)
    options = info.types if isinstance(info, msgspec.inspect.UnionType) else (info,)
    if any(isinstance(option, msgspec.inspect.NoneType | msgspec.inspect.AnyType) for option in options):
        return lambda: None
    return None


def _custom_classes(model: Any) -> list[type]:
    """The classes in a model that msgspec does not know."""
    custom: list[type] = []
    seen: set[int] = set()

    def visit(info: Any) -> None:
        if isinstance(info, tuple):
            for part in info:
                visit(part)
        elif isinstance(info, msgspec.Struct) and id(info) not in seen:
            seen.add(id(info))
            if isinstance(info, msgspec.inspect.CustomType) and info.cls is not object:
                custom.append(info.cls)
            for name in info.__struct_fields__:
                visit(getattr(info, name))

    visit(msgspec.inspect.type_info(model))
    return custom


def _pydantic_codec(model: Any) -> Codec[Any]:
    import pydantic

    adapter: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(model)
    decode = _decoder(
        model, adapter.validate_json, _none_of(model), (pydantic.ValidationError, RecursionError)
    )
    return Codec(model, _checked(model, adapter.dump_json), decode)


def _encode_text(text: str) -> bytes:
    return text.encode()


def _decode_text(data: bytes) -> str:
    return data.decode()


# ----------------------------------------------------------------------------------------------------------
# no model


def _to_builtins(value: Any) -> Any:
    """What msgspec does not know: a pydantic model, as JSON would have it."""
    if hasattr(type(value), _PYDANTIC):
        import pydantic

        return pydantic.TypeAdapter(type(value)).dump_python(value, mode="json")
    raise TypeError(f"JSON cannot have a {type(value).__name__}")


_encode_json = msgspec.json.Encoder(enc_hook=_to_builtins).encode
_decode_json = msgspec.json.Decoder().decode


def _encode_any(value: Any) -> bytes | None:
    if value is None or type(value) is bytes:
        return value
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    return _encode_json(value)


def _decode_any(data: bytes | None) -> Any:
    if data is None:
        return None
    try:
        return _decode_json(data)
    except RecursionError:
        raise Undecodable("it is nested too deeply") from None
    except (msgspec.DecodeError, UnicodeError):
        try:
            return data.decode()
        except UnicodeError:
            return data
